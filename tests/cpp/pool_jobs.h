// The jobs that the tests of the pool run.
#ifndef DEPTHWISE_TESTS_CPP_POOL_JOBS_H_
#define DEPTHWISE_TESTS_CPP_POOL_JOBS_H_

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include "runtime/pool.h"

namespace depthwise {

constexpr std::chrono::seconds patience{60};  // for what happens at once unless it never does

// parallel_for for a callable.
template <typename Body>
void parallel(int64_t count, int max_threads, Body body) {
  parallel_for(
      count, max_threads,
      [](void* context, int64_t index) { (*static_cast<Body*>(context))(index); }, &body);
}

// Runs a job of which each index must come exactly once; returns whether that was so. The counts
// are not atomic, so that ThreadSanitizer sees whether a job's writes reach its caller.
inline bool each_index_once(int64_t count, int max_threads) {
  std::vector<int> calls(static_cast<size_t>(std::max<int64_t>(count, 0)), 0);
  parallel(count, max_threads, [&](int64_t index) { ++calls[static_cast<size_t>(index)]; });
  return std::all_of(calls.begin(), calls.end(), [](int n) { return n == 1; });
}

// Runs `threads` tasks each of which waits for all the others to begin: it takes that many threads.
inline bool meet(int threads) {
  std::atomic<int> arrived{0};
  std::atomic<bool> late{false};
  parallel(threads, threads, [&](int64_t) {
    const auto end = std::chrono::steady_clock::now() + patience;
    ++arrived;
    while (arrived.load() < threads && !late.load()) {
      if (std::chrono::steady_clock::now() > end) late = true;
      std::this_thread::yield();
    }
  });
  return !late.load();
}

// Puts the number of threads back when a test ends.
struct Threads {
  explicit Threads(int count) { set_num_threads(count); }
  ~Threads() { set_num_threads(before); }
  int before = num_threads();
};

}  // namespace depthwise

#endif  // DEPTHWISE_TESTS_CPP_POOL_JOBS_H_
