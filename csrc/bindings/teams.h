// The frameworks' own threads, for the op to borrow.
#ifndef DEPTHWISE_BINDINGS_TEAMS_H_
#define DEPTHWISE_BINDINGS_TEAMS_H_

#include <pthread.h>

#include <atomic>

#include "op.h"

namespace depthwise {

// As long as one lives, calls of its thread borrow this team, if it is not null.
class Borrowed {
 public:
  explicit Borrowed(const depthwise_team* team) : before_(depthwise_use_team(team)) {}
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;
  ~Borrowed() { depthwise_use_team(before_); }

 private:
  const depthwise_team* const before_;
};

// The team that an OpenMP library keeps for each thread that runs parallel regions.
class OpenMP {
 public:
  // The library's functions of these names: GCC's interface, which LLVM's and Intel's have as well.
  struct Functions {
    void (*GOMP_parallel)(void (*body)(void*), void* context, unsigned threads, unsigned flags);
    int (*omp_get_max_threads)();
    int (*omp_in_parallel)();
  };

  static void set(const Functions& functions) {
    if (functions_.GOMP_parallel == nullptr) pthread_atfork(nullptr, nullptr, &forget);
    functions_ = functions;
    usable_.store(true, std::memory_order_release);
  }

  // The calling thread's team, or null if there is none to be had: then it would be too small, or
  // is at work already.
  //
  // A region is always one of the whole team, although its threads may have nothing to do in it:
  // OpenMP ends the threads that a smaller region leaves out, and starts others for the next one.
  static const depthwise_team* team() {
    if (!usable_.load(std::memory_order_acquire) || functions_.omp_in_parallel() != 0 ||
        functions_.omp_get_max_threads() < depthwise_num_threads()) {
      return nullptr;
    }
    static constexpr depthwise_team team{&gather, nullptr};
    return &team;
  }

 private:
  using Work = void (*)();

  static void gather(void*, int, Work work) {
    functions_.GOMP_parallel([](void* context) { (*static_cast<Work*>(context))(); }, &work,
                             static_cast<unsigned>(functions_.omp_get_max_threads()), 0);
  }

  // A child has none of its parent's threads, and GCC's library would wait for them for ever.
  static void forget() { usable_.store(false, std::memory_order_relaxed); }

  static inline Functions functions_{};
  static inline std::atomic<bool> usable_{false};
};

}  // namespace depthwise

#endif  // DEPTHWISE_BINDINGS_TEAMS_H_
