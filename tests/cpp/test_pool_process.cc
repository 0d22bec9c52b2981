// The thread pool in its process: several threads that call, forks, and a system that refuses
// threads.
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <fstream>
#include <thread>
#include <vector>

#include "check.h"
#include "pool_jobs.h"

using namespace depthwise;

namespace {

// Whether a child of this process runs the body to its end and finds it true.
template <typename Body>
bool holds_in_child(Body body) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(static_cast<unsigned>(patience.count()));  // a child that hangs is a child that fails
    _exit(body() ? 0 : 1);
  }
  int status = 0;
  return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
         WEXITSTATUS(status) == 0;
}

}  // namespace

TEST(callers_on_several_threads_do_not_disturb_each_other) {
  Threads restore(3);
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 5; ++caller) {
    callers.emplace_back([caller] {
      for (int i = 0; i < 300; ++i) CHECK(each_index_once(caller + i % 40, 3));
    });
  }
  for (std::thread& caller : callers) caller.join();
}

TEST(number_of_threads_may_change_during_calls) {
  Threads restore(2);
  std::atomic<bool> stop{false};
  std::thread changer([&] {
    for (int i = 0; !stop.load(); ++i) {
      set_num_threads(1 + i % 6);
      std::this_thread::yield();
    }
  });
  for (int i = 0; i < 1000; ++i) CHECK(each_index_once(i % 50, 6));
  stop = true;
  changer.join();
}

TEST(a_forked_child_has_a_pool_that_works) {
  if (check::under_tsan) SKIP("ThreadSanitizer does not follow threads after a fork");
  Threads restore(4);
  CHECK(meet(4));
  for (int i = 0; i < 5; ++i) {
    CHECK(holds_in_child([] {
      return meet(4) && each_index_once(1000, 4) && holds_in_child([] { return meet(3); });
    }));
  }
  CHECK(meet(4));
}

TEST(a_process_may_fork_while_another_thread_uses_the_pool) {
  if (check::under_tsan) SKIP("ThreadSanitizer does not follow threads after a fork");
  Threads restore(3);
  CHECK(meet(3));  // all workers have started
  std::atomic<bool> running{false};
  std::atomic<bool> stop{false};
  std::thread user([&] {
    // Without allocating: a fork may leave AddressSanitizer's allocator locked.
    while (!stop.load()) {
      std::atomic<int> calls{0};
      parallel(30, 3, [&](int64_t) { ++calls; });
      CHECK_EQ(calls.load(), 30);
      running = true;
    }
  });
  // A fork while a thread starts may leave AddressSanitizer's list of threads locked: 6 of 4,500
  // children of a program without a pool hung at their first thread.
  while (!running.load()) std::this_thread::yield();
  for (int i = 0; i < 20; ++i) CHECK(holds_in_child([] { return meet(3); }));
  stop = true;
  user.join();
}

#if defined(__linux__)
// Leaves this process no memory for the stack of another thread.
bool limit_memory() {
  int64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const rlim_t bytes = static_cast<rlim_t>(pages * sysconf(_SC_PAGESIZE) + (1 << 20));
  const rlimit limit{bytes, bytes};
  return setrlimit(RLIMIT_AS, &limit) == 0;
}

// Whether the system refuses one of the next threads; a fork leaves a few stacks to be used again.
bool threads_run_out() {
  const auto sleep_on = [](void*) -> void* {
    while (true) sleep(1000);
  };
  pthread_t thread;
  for (int i = 0; i < 64; ++i) {
    if (pthread_create(&thread, nullptr, sleep_on, nullptr) != 0) return true;
  }
  return false;
}

TEST(work_is_done_by_fewer_threads_when_the_system_refuses_more) {
  if (check::under_tsan || check::under_asan) SKIP("sanitizers need the address space");
  if (!holds_in_child([] { return limit_memory() && threads_run_out(); })) {
    SKIP("the system does not limit the address space, as in QEMU's user mode");
  }
  Threads restore(64);
  CHECK(holds_in_child(
      [] { return limit_memory() && each_index_once(1000, 64) && each_index_once(1000, 64); }));
}
#endif

int main(int argc, char** argv) { return check::run_tests(argc, argv); }
