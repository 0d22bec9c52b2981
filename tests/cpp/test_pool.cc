// The thread pool: every index once, whatever the callers and the workers are up to.
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "check.h"
#include "pool_jobs.h"

using namespace depthwise;

TEST(number_of_threads_is_kept_within_its_limits) {
  Threads restore(3);
  CHECK_EQ(num_threads(), 3);
  set_num_threads(0);
  CHECK_EQ(num_threads(), 1);
  set_num_threads(1 << 20);
  CHECK_EQ(num_threads(), max_pool_threads);
}

TEST(each_index_runs_once) {
  Threads restore(7);
  for (const int threads : {1, 2, 3, 7, 100}) {
    for (const int64_t count : {0, 1, 2, 3, 6, 7, 8, 13, 64, 1000, 100000}) {
      if (!CHECK(each_index_once(count, threads))) std::printf("%lld\n", (long long)count);
    }
  }
  CHECK(each_index_once(-5, 4));
}

TEST(each_index_runs_once_whatever_the_ranges_of_the_threads) {
  Threads restore(9);
  for (int threads = 2; threads <= 9; ++threads) {
    for (int64_t count = 2; count <= 3 * threads + 1; ++count) {
      if (!CHECK(each_index_once(count, threads))) std::printf("%lld\n", (long long)count);
    }
  }
}

// Which thread's first task each index was, by its number in `known`, where new ones are added; -1
// for the others. No thread goes on before all `threads` have begun; empty if they never do.
std::vector<int> first_indices(int64_t count, int threads, std::vector<std::thread::id>& known) {
  std::vector<int> first(static_cast<size_t>(count), -1);
  std::set<std::thread::id> begun;
  std::mutex mutex;
  std::atomic<int> arrived{0};
  std::atomic<bool> late{false};
  parallel(count, threads, [&](int64_t index) {
    {
      const std::lock_guard lock(mutex);
      const auto self = std::this_thread::get_id();
      if (!begun.insert(self).second) return;
      const auto place = std::find(known.begin(), known.end(), self);
      first[static_cast<size_t>(index)] = static_cast<int>(place - known.begin());
      if (place == known.end()) known.push_back(self);
    }
    ++arrived;
    const auto end = std::chrono::steady_clock::now() + patience;
    while (arrived.load() < threads && !late.load()) {
      if (std::chrono::steady_clock::now() > end) late = true;
      std::this_thread::yield();
    }
  });
  return late.load() ? std::vector<int>{} : first;
}

TEST(each_thread_begins_with_a_range_of_its_own_and_with_the_same_one_again) {
  Threads restore(5);
  for (const int threads : {2, 3, 5}) {
    for (const int64_t count : {threads, threads + 1, 4 * threads, 7 * threads - 1}) {
      std::vector<std::thread::id> known{std::this_thread::get_id()};
      const std::vector<int> before = first_indices(count, threads, known);
      if (!CHECK_EQ(static_cast<int64_t>(before.size()), count)) return;
      CHECK_EQ(before[0], 0);  // the caller has the first range
      for (int64_t index = 0; index < count; ++index) {
        bool begins_range = false;
        for (int64_t range = 0; range < threads; ++range) {
          begins_range = begins_range || index == count * range / threads;
        }
        CHECK_EQ(before[static_cast<size_t>(index)] >= 0, begins_range);
      }
      CHECK(first_indices(count, threads, known) == before);
    }
  }
}

// Runs a job in which one thread, the caller or another, is held up in its first task until all
// other indices are done, its own range's too. Returns whether they were.
bool others_take_the_rest(int64_t count, int threads, bool hold_caller) {
  std::vector<int> calls(static_cast<size_t>(count), 0);
  const auto caller = std::this_thread::get_id();
  std::atomic<bool> held{false};
  std::atomic<bool> late{false};
  std::atomic<int64_t> done{0};
  parallel(count, threads, [&](int64_t index) {
    const auto end = std::chrono::steady_clock::now() + patience;
    const auto wait_until = [&](auto ready) {
      while (!ready() && !late.load()) {
        if (std::chrono::steady_clock::now() > end) late = true;
        std::this_thread::yield();
      }
    };
    const bool is_caller = std::this_thread::get_id() == caller;
    if (is_caller == hold_caller && !held.exchange(true)) {
      wait_until([&] { return done.load() == count - 1; });
    } else {
      wait_until([&] { return held.load(); });  // or there might be nothing left to hold one up at
    }
    ++calls[static_cast<size_t>(index)];
    ++done;
  });
  return !late.load() && std::all_of(calls.begin(), calls.end(), [](int n) { return n == 1; });
}

TEST(the_rest_of_a_range_whose_thread_is_held_up_is_done_by_others) {
  Threads restore(5);
  for (const int threads : {2, 3, 5}) {
    for (const int64_t count : {threads, threads + 1, 5 * threads - 1, 100}) {
      CHECK(others_take_the_rest(count, threads, false));
      CHECK(others_take_the_rest(count, threads, true));
    }
  }
}

TEST(one_thread_runs_in_order_on_the_caller) {
  const auto runs_in_order = [](int64_t count, int max_threads) {
    std::vector<int64_t> order;
    bool here = true;
    const auto caller = std::this_thread::get_id();
    parallel(count, max_threads, [&](int64_t index) {
      order.push_back(index);
      here = here && std::this_thread::get_id() == caller;
    });
    return here && static_cast<int64_t>(order.size()) == count &&
           std::is_sorted(order.begin(), order.end());
  };
  Threads restore(4);
  for (const int max_threads : {1, 0, -3}) CHECK(runs_in_order(50, max_threads));
  CHECK(runs_in_order(1, 4));
  set_num_threads(1);
  CHECK(runs_in_order(50, 4));
}

TEST(as_many_threads_work_as_are_asked_for) {
  Threads restore(7);
  for (const int threads : {2, 7, 3}) {
    CHECK(meet(threads));  // on workers that may be spinning
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    CHECK(meet(threads));  // on workers that sleep
  }
}

TEST(no_more_threads_work_than_are_asked_for) {
  Threads restore(7);
  for (int round = 0; round < 20; ++round) {
    CHECK(meet(7));  // seven are awake
    std::mutex mutex;
    std::set<std::thread::id> seen;
    parallel(8, 2, [&](int64_t) {
      std::this_thread::sleep_for(std::chrono::microseconds(200));  // the others have time to come
      const std::lock_guard lock(mutex);
      seen.insert(std::this_thread::get_id());
    });
    CHECK(seen.size() <= 2);
  }
}

// A team whose other threads come when gather() says so; joins those that are left when it ends.
class TestTeam {
 public:
  enum class Guests { at_once, late, none };

  explicit TestTeam(Guests guests) : guests_(guests) { use_team(&team_); }
  ~TestTeam() {
    use_team(nullptr);
    for (std::thread& guest : threads_) guest.join();
  }
  void end_of_job() { job_over_ = true; }
  int invited() const { return static_cast<int>(threads_.size()); }

 private:
  static void gather(void* context, int threads, void (*work)()) {
    TestTeam& self = *static_cast<TestTeam*>(context);
    if (self.guests_ == Guests::none) return;
    const bool late = self.guests_ == Guests::late;
    for (int i = 1; i < threads; ++i) {
      self.threads_.emplace_back([&self, late, work] {
        while (late && !self.job_over_.load()) std::this_thread::yield();
        work();
      });
    }
  }

  const Guests guests_;
  const Team team_{&gather, this};
  std::vector<std::thread> threads_;
  std::atomic<bool> job_over_{false};
};

TEST(a_job_runs_on_the_threads_of_its_team) {
  Threads restore(4);
  TestTeam team(TestTeam::Guests::at_once);
  CHECK(meet(4));
  CHECK_EQ(team.invited(), 3);
  CHECK(meet(2));
  CHECK_EQ(team.invited(), 4);
  for (int i = 0; i < 50; ++i) CHECK(each_index_once(i, 3));
}

TEST(the_rest_of_a_range_whose_guest_is_held_up_is_done_by_others) {
  Threads restore(4);
  for (const int threads : {2, 3, 4}) {
    // So many that some are left for the caller, whoever of our own threads is awake and comes,
    // too.
    for (const int64_t count : {5 * threads - 1, 100}) {
      TestTeam team(TestTeam::Guests::at_once);
      CHECK(others_take_the_rest(count, threads, false));
      CHECK(others_take_the_rest(count, threads, true));
    }
  }
  CHECK(others_take_the_rest(100, 4, false));  // on threads of our own again
}

TEST(a_team_that_comes_late_or_never_is_not_waited_for) {
  Threads restore(4);
  for (const auto guests : {TestTeam::Guests::late, TestTeam::Guests::none}) {
    TestTeam team(guests);
    for (int i = 0; i < 10; ++i) CHECK(each_index_once(i, 4));
    team.end_of_job();
    for (int i = 0; i < 10; ++i) CHECK(each_index_once(100 * i, 4));  // they may help with these
  }
  CHECK(each_index_once(100, 4));
}

TEST(a_team_is_the_calling_threads_own) {
  Threads restore(2);
  TestTeam team(TestTeam::Guests::none);
  bool met = false;
  std::thread([&] { met = meet(2); }).join();
  CHECK(met);
}

TEST(nested_calls_run_on_the_thread_that_makes_them) {
  Threads restore(4);
  std::atomic<int> inner{0};
  std::atomic<int> elsewhere{0};
  parallel(16, 4, [&](int64_t) {
    const auto here = std::this_thread::get_id();
    parallel(10, 4, [&](int64_t) {
      ++inner;
      if (std::this_thread::get_id() != here) ++elsewhere;
    });
  });
  CHECK_EQ(inner.load(), 160);
  CHECK_EQ(elsewhere.load(), 0);
}

TEST(jobs_of_every_pace_are_complete) {
  Threads restore(5);
  unsigned random = 1;
  for (int i = 0; i < 3000; ++i) {
    random = random * 1664525u + 1013904223u;
    CHECK(each_index_once((random >> 8) % 20, 2 + static_cast<int>((random >> 16) % 4)));
    // Around the time a worker spins, so that some are caught falling asleep.
    if (i % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds((random >> 20) % 300));
  }
}

namespace held {
std::atomic<bool> arrived{false};
std::atomic<bool> release{false};
void hold(int) {
  arrived = true;
  while (!release.load()) {
  }
}
}  // namespace held

TEST(a_worker_that_does_not_come_is_not_waited_for) {
  if (check::under_tsan) SKIP("ThreadSanitizer holds signals back");
  Threads restore(2);
  // The worker is kept from its work by a signal handler that does not return.
  std::atomic<bool> known{false};
  pthread_t worker{};
  const pthread_t caller = pthread_self();
  std::atomic<int> arrived{0};
  parallel(2, 2, [&](int64_t) {
    if (!pthread_equal(pthread_self(), caller)) {
      worker = pthread_self();
      known = true;
    }
    ++arrived;
    while (arrived.load() < 2) std::this_thread::yield();
  });
  if (!CHECK(known.load())) return;
  held::arrived = held::release = false;
  struct sigaction action{}, before{};
  action.sa_handler = &held::hold;
  sigaction(SIGPROF, &action, &before);
  pthread_kill(worker, SIGPROF);
  const auto end = std::chrono::steady_clock::now() + patience;
  while (!held::arrived.load() && std::chrono::steady_clock::now() < end) {
    std::this_thread::yield();
  }
  CHECK(held::arrived.load());
  for (int i = 0; i < 100; ++i) CHECK(each_index_once(i, 2));
  held::release = true;
  CHECK(meet(2));
  sigaction(SIGPROF, &before, nullptr);
}

int main(int argc, char** argv) { return check::run_tests(argc, argv); }
