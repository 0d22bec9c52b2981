#include "runtime/pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <new>
#include <utility>

#include "runtime/cpu.h"
#include "runtime/floating_point.h"

// One job runs at a time. Its caller writes what there is to do, publishes it in `ticket`, works
// along, and waits until every index is done, not until every worker has come: a worker that wakes
// late finds nothing left and goes back to sleep. That is safe because a worker reads nothing but
// `ticket` before it has claimed an index with a compare-and-swap on it, and a claimed index keeps
// the job, and so everything written for it, alive until it is reported in `done`. A worker that
// stalls between reading `ticket` and swapping it may meet a later job under the very same value;
// then it claims an index of that job, which is as good as any other claim.
//
// Which index a claim is for, the claimant finds out then: the indices are divided into a range for
// each thread, and who has done its own range helps with the next ones. There are as many claims as
// indices, so everybody finds one. Calls that cut their data alike so have the same thread on the
// same part of it, where its cache may still hold what the call before wrote.
//
// The pool is one constant-initialised object without a destructor: no worker outlives it at exit,
// and no lock of ours guards its construction, which a fork could leave locked for good.

#if defined(__linux__) && !defined(DW_FUTEX)  // -DDW_FUTEX=0 builds what other systems use
#define DW_FUTEX 1
#endif
#if DW_FUTEX
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace depthwise {
namespace {

constexpr size_t cache_line = 64;

// How long a thread looks for work before it sleeps: about what a sleeper costs when it is needed
// again, and what a network does between two layers. On a virtual machine with 2 cores of an AMD
// EPYC 9004, waking the second thread took 6 us of the first one's time and 20 to 40 us to arrive.
// Between TensorFlow's operations five layers took 1.26 and 1.31 times as long as alone with
// 50, 1.23 and 1.19 with this value, and 1.22 with 300 and with 1000 (inference, the
// chains of benchmarks/interplay.py).
constexpr std::chrono::microseconds spin_time{150};

// The indices left to claim, and above them the number of threads that may claim.
constexpr int threads_shift = 48;
constexpr uint64_t left_mask = (uint64_t{1} << threads_shift) - 1;

constexpr uint64_t make_ticket(int64_t left, int threads) {
  return (static_cast<uint64_t>(threads) << threads_shift) | static_cast<uint64_t>(left);
}
constexpr int64_t left_of(uint64_t ticket) { return static_cast<int64_t>(ticket & left_mask); }
constexpr int threads_of(uint64_t ticket) { return static_cast<int>(ticket >> threads_shift); }

void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// Whether ready() came true within spin_time.
//
// It yields, because the thread that it waits for may be waiting for this CPU: systems like to wake
// a thread where its waker runs. Without, one in ten pairs of tasks of 20 us on waking threads took
// 97 us, with it 46 us.
template <typename Ready>
bool spin_until(Ready ready) {
  using Clock = std::chrono::steady_clock;
  Clock::time_point end{};
  while (true) {
    for (int i = 0; i < 32; ++i) {
      if (ready()) return true;
      relax();
    }
    const Clock::time_point now = Clock::now();
    if (end == Clock::time_point{}) end = now + spin_time;
    if (now >= end) return false;
    sched_yield();
  }
}

// Where one thread sleeps. Waking costs one load while it is awake, and never waits for the
// sleeper, which may not get a CPU for a while.
//
// ready() must read, and whoever makes it true must write before it calls wake(), with sequentially
// consistent operations: then either the sleeper sees the write or the waker sees `asleep`.
struct alignas(cache_line) Bed {
  std::atomic<int> asleep{0};  // a futex's word: 1 while the thread sleeps or is about to
  static_assert(sizeof asleep == 4);

  template <typename Ready>
  void sleep_until(Ready ready) {
    while (true) {
      // An exchange, which QEMU 7.2 on x86-64, where the Arm build is tested, does not let the
      // loads of ready() pass; it does let them pass a sequentially consistent store, and threads
      // slept on.
      asleep.exchange(1);
      if (ready()) break;
      wait();
    }
    asleep.store(0);
  }

  // Returns whether it had to be woken.
  bool wake() {
    if (asleep.load() == 0 || asleep.exchange(0) == 0) return false;
    notify();
    return true;
  }

 private:
#if DW_FUTEX
  // Returns when `asleep` is 0, or sooner.
  void wait() { syscall(SYS_futex, &asleep, FUTEX_WAIT_PRIVATE, 1, nullptr, nullptr, 0); }
  void notify() { syscall(SYS_futex, &asleep, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0); }
#else
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

  void wait() {
    pthread_mutex_lock(&mutex);
    if (asleep.load() != 0) pthread_cond_wait(&changed, &mutex);
    pthread_mutex_unlock(&mutex);
  }
  void notify() {
    pthread_mutex_lock(&mutex);  // the sleeper has either begun to wait or yet to look at `asleep`
    pthread_mutex_unlock(&mutex);
    pthread_cond_signal(&changed);
  }
#endif
};

// Indices of one thread that have been taken, and attempts beyond them.
struct alignas(cache_line) Range {
  std::atomic<int64_t> taken{0};
};

struct Pool {
  // Taken by the caller of the job that is running; guards all that is not atomic.
  std::atomic<bool> busy{false};

  // Workers that exist; they are numbered from 1.
  std::atomic<int> started{0};
  bool refused = false;  // the system refused to start another, and is not asked again

  alignas(cache_line) std::atomic<uint64_t> ticket{0};

  // The job. Written before `ticket` is published, read only by threads that hold a claim.
  alignas(cache_line) Task task = nullptr;
  void* context = nullptr;
  int64_t count = 0;
  int range_count = 1;

  alignas(cache_line) std::atomic<int64_t> done{0};
  std::atomic<int> next_to_wake{0};  // the workers below it are awake or being woken
  std::atomic<int> next_guest{0};    // number of the next thread of a team that comes

  Bed caller;
  Bed workers[max_pool_threads];  // the first is not used
  Range ranges[max_pool_threads];

  void run(int64_t job_count, int threads, const Team* team, Task job_task, void* job_context);
  void start_workers(int wanted);
  void work(int thread, int home);
  int64_t take_index(int home);
  void wake_some(int threads, int64_t left);
};

constinit Pool pool;

// 0 until it is known.
constinit std::atomic<int> configured_threads{0};
constinit std::atomic<int> machine_threads{0};

int known_machine_threads() {
  int known = machine_threads.load(std::memory_order_relaxed);
  if (known == 0) {
    known = default_num_threads();
    machine_threads.store(known, std::memory_order_relaxed);
  }
  return known;
}

// The next index of the range `home`, or of the first one after it that has any left. Only for who
// holds a claim.
int64_t Pool::take_index(int home) {
  for (int range = home % range_count;; range = (range + 1) % range_count) {
    const int64_t begin = count * range / range_count, end = count * (range + 1) / range_count;
    if (ranges[range].taken.load(std::memory_order_relaxed) >= end - begin) continue;
    const int64_t index = begin + ranges[range].taken.fetch_add(1, std::memory_order_relaxed);
    if (index < end) return index;
  }
}

// Claims and runs indices until none is left, as thread number `thread`. The caller's is 0, those
// of our workers follow; the threads of a team, which may include the caller, are numbered as they
// come, and together with a worker of ours that happens to be awake one more may be at work.
void Pool::work(int thread, int home) {
  int64_t finished = 0;
  int64_t total = 0;
  uint64_t seen = ticket.load();
  while (left_of(seen) > 0 && thread < threads_of(seen)) {
    if (!ticket.compare_exchange_weak(seen, seen - 1)) continue;
    total = count;
    wake_some(threads_of(seen), left_of(seen) - 1);
    task(context, take_index(home));
    ++finished;
    seen = ticket.load();
  }
  // With the last index reported the job is over: nothing of it may be touched from there on.
  if (finished > 0 && done.fetch_add(finished) + finished == total) caller.wake();
}

// Everyone who claims an index wakes up to two sleepers, as long as there is something for them to
// do: so the threads wake each other as a tree, and no slow riser holds up the others.
void Pool::wake_some(int threads, int64_t left) {
  int64_t wanted = std::min<int64_t>(left, 2);
  while (wanted > 0 && next_to_wake.load(std::memory_order_relaxed) < threads) {
    const int thread = next_to_wake.fetch_add(1, std::memory_order_relaxed);
    if (thread >= threads) return;
    if (workers[thread].wake()) --wanted;
  }
}

[[noreturn]] void worker_loop(int thread) {
  const StandardFloatingPoint mode;  // a new thread begins with the mode of the one that starts it
  const auto work_left = [thread] {
    const uint64_t seen = pool.ticket.load();
    return left_of(seen) > 0 && thread < threads_of(seen);
  };
  // A thread for which there is no CPU would only take one from those at work.
  const bool may_spin = thread < known_machine_threads();
  while (true) {
    if (!may_spin || !spin_until(work_left)) pool.workers[thread].sleep_until(work_left);
    pool.work(thread, thread);
  }
}

void* start_worker(void* argument) {
  const int thread = static_cast<int>(reinterpret_cast<intptr_t>(argument));
#if defined(__linux__)  // for those who look at the process with a debugger or a profiler
  char name[16];
  std::snprintf(name, sizeof name, "depthwise/%d", thread);
  pthread_setname_np(pthread_self(), name);
#endif
  worker_loop(thread);
}

void Pool::start_workers(int wanted) {
  if (started >= wanted || refused) return;
  known_machine_threads();  // here, on the caller's thread, because it depends on the affinity mask

  // The program's signals are for its own threads. Faults and a profiler's ticks stay where they
  // happen.
  sigset_t blocked, before;
  sigfillset(&blocked);
  for (const int kept : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGPROF}) {
    sigdelset(&blocked, kept);
  }
  pthread_sigmask(SIG_SETMASK, &blocked, &before);
  // Detached, for nobody ever joins them: they sleep until the process ends.
  pthread_attr_t detached;
  pthread_attr_init(&detached);
  pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
  while (started < wanted) {
    pthread_t handle;
    void* const number = reinterpret_cast<void*>(static_cast<intptr_t>(started + 1));
    if (pthread_create(&handle, &detached, &start_worker, number) != 0) {
      refused = true;
      break;
    }
    ++started;
  }
  pthread_attr_destroy(&detached);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

// Which range a thread of a team begins with, the same one each time: 0 for one that is calling
// just now, the next number after it for one that has never come before.
constinit std::atomic<int> next_home{1};
thread_local int home = 0;
thread_local bool is_calling = false;

// What the threads of a team call. A late one finds nothing to do, or helps with another job.
void work_as_guest() {
  const StandardFloatingPoint mode;
  if (!is_calling && home == 0) home = next_home.fetch_add(1, std::memory_order_relaxed);
  pool.work(pool.next_guest.fetch_add(1, std::memory_order_relaxed), is_calling ? 0 : home);
}

void Pool::run(int64_t job_count, int threads, const Team* team, Task job_task, void* job_context) {
  if (team == nullptr) {
    start_workers(threads - 1);
    threads = std::min(threads, started + 1);
  }
  task = job_task;
  context = job_context;
  count = job_count;
  range_count = threads;
  for (int range = 0; range < threads; ++range) {
    ranges[range].taken.store(0, std::memory_order_relaxed);
  }
  done.store(0, std::memory_order_relaxed);
  next_guest.store(0, std::memory_order_relaxed);
  next_to_wake.store(team == nullptr ? 1 : threads, std::memory_order_relaxed);
  ticket.store(make_ticket(job_count, threads));
  if (team != nullptr) {
    is_calling = true;
    team->gather(team->context, threads, &work_as_guest);
    is_calling = false;
  }
  work(0, 0);
  const auto all_done = [this, job_count] { return done.load() == job_count; };
  if (all_done()) return;
  if (threads > known_machine_threads() || !spin_until(all_done)) caller.sleep_until(all_done);
}

// After a fork only the forking thread exists in the child. What the pool held is abandoned, in
// whatever state the parent's threads had it.
void abandon_pool() {
  if (pool.started > 0 || pool.busy.load()) new (&pool) Pool;
}

thread_local const Team* team_in_use = nullptr;

[[maybe_unused]] const int fork_handler = pthread_atfork(nullptr, nullptr, &abandon_pool);

}  // namespace

int default_num_threads() {
  try {
    return std::min(usable_cpus(), max_pool_threads);
  } catch (const std::bad_alloc&) {  // reading the control group's files takes memory
    return 1;
  }
}

int num_threads() {
  const int configured = configured_threads.load(std::memory_order_relaxed);
  return configured != 0 ? configured : known_machine_threads();
}

void set_num_threads(int count) {
  configured_threads.store(std::clamp(count, 1, max_pool_threads), std::memory_order_relaxed);
}

bool threads_are_awake() {
  constexpr std::memory_order relaxed = std::memory_order_relaxed;
  return team_in_use != nullptr ||
         (pool.started.load(relaxed) > 0 && pool.workers[1].asleep.load(relaxed) == 0);
}

const Team* use_team(const Team* team) { return std::exchange(team_in_use, team); }

void parallel_for(int64_t count, int max_threads, Task task, void* context) noexcept {
  if (count > 1 && max_threads > 1 && static_cast<uint64_t>(count) <= left_mask) {
    const int threads =
        static_cast<int>(std::min<int64_t>(count, std::min(max_threads, num_threads())));
    if (threads > 1 && !pool.busy.exchange(true, std::memory_order_acquire)) {
      pool.run(count, threads, team_in_use, task, context);
      pool.busy.store(false, std::memory_order_release);
      return;
    }
  }
  for (int64_t index = 0; index < count; ++index) task(context, index);
}

}  // namespace depthwise
