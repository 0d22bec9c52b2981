// Memory and parallel loops of one call.
#ifndef DEPTHWISE_KERNELS_CALL_MEMORY_H_
#define DEPTHWISE_KERNELS_CALL_MEMORY_H_

#include <stdint.h>
#include <stdlib.h>

#include "../runtime/pool.h"
#include "../runtime/scratch.h"
#include "geometry.h"
#include "vec.h"

namespace depthwise::DW_ISA {

// A 64-byte aligned block that lives as long as the call. A small one is part of this object, for
// small calls notice what the allocator takes.
class CallMemory {
 public:
  CallMemory() : data_(nullptr) {}
  CallMemory(const CallMemory&) = delete;
  CallMemory& operator=(const CallMemory&) = delete;
  ~CallMemory() {
    if (data_ != own_) free(data_);
  }

  // Once.
  bool allocate(int64_t bytes) {
    if (bytes <= static_cast<int64_t>(sizeof own_)) {
      data_ = own_;
      return true;
    }
    return posix_memalign(&data_, 64, static_cast<size_t>(bytes)) == 0;
  }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  alignas(64) char own_[1024];
  void* data_;
};

// Cuts a thread's scratch into aligned pieces: first ask for all of them, then for the memory.
class ScratchLayout {
 public:
  template <class T>
  int64_t add(int64_t elements) {
    const int64_t at = bytes_;
    bytes_ += round_up(elements * static_cast<int64_t>(sizeof(T)), 64);
    return at;
  }
  int64_t bytes() const { return bytes_; }
  bool allocate() {
    base_ = static_cast<char*>(thread_scratch(static_cast<size_t>(max_of(bytes_, 64))));
    return base_ != nullptr;
  }
  template <class T>
  T* at(int64_t offset) const {
    return reinterpret_cast<T*>(base_ + offset);
  }

 private:
  int64_t bytes_ = 0;
  char* base_ = nullptr;
};

// Runs body(index) for each index on the thread pool. `body` returns false when it could not get
// its scratch; then so does this.
template <class Body>
bool parallel(int64_t count, int threads, const Body& body) {
  struct Context {
    const Body* body;
    int failed;
  } context{&body, 0};
  parallel_for(
      count, threads,
      [](void* opaque, int64_t index) {
        Context& c = *static_cast<Context*>(opaque);
        if (!(*c.body)(index)) __atomic_store_n(&c.failed, 1, __ATOMIC_RELAXED);
      },
      &context);
  return __atomic_load_n(&context.failed, __ATOMIC_RELAXED) == 0;
}

// The same where bodies may be brief: neighbours go together, in about `tasks` runs, for each one
// that a thread begins has to be claimed.
template <class Body>
bool parallel_in_runs(int64_t count, int64_t tasks, int threads, const Body& body) {
  const int64_t runs = min_of(count, max_of(1, tasks));
  return parallel(runs, threads, [&](int64_t run) {
    for (int64_t i = count * run / runs; i < count * (run + 1) / runs; ++i) {
      if (!body(i)) return false;
    }
    return true;
  });
}

// A range cut into pieces, of which the last takes what is left over, so that none is smaller.
struct Blocks {
  int64_t total, unit, units, count;

  // Of one size.
  Blocks(int64_t length, int64_t wanted) : total(length), unit(max_of(1, wanted)) {
    units = count = max_of(1, total / unit);
  }
  // So many, of nearly as many units each.
  static Blocks even(int64_t length, int64_t unit, int64_t count) {
    Blocks blocks(length, unit);
    blocks.count = count;
    return blocks;
  }
  int64_t begin(int64_t i) const { return i == count ? total : units * i / count * unit; }
  int64_t end(int64_t i) const { return begin(i + 1); }
};

// Rows of a task, an even number where there are enough: tiles hold two. Rounded up, so that no
// short task is left over: two cores of a Zen 5 took for 3x3 on 90x90x5 8.3 us rounding down and
// 7.3 rounding up, for 5x5 at stride 2 on 122x122x1 5.1 and 4.6.
inline int64_t row_block(int64_t rows, int64_t other_tasks, int64_t tasks) {
  const int64_t wanted = ceil_div(tasks, max_of(1, other_tasks));
  const int64_t share = ceil_div(rows, max_of(1, min_of(wanted, rows)));
  return tasks <= 1 ? rows : max_of(1, share > 2 ? round_up(share, 2) : share);
}

// Rows cut into blocks for the tasks that are wanted beside others. Those that tiles go over
// `at_once` stay together, where each block has that many, or has with fewer blocks of which every
// thread gets as many, and no thread gets much more than its share by it. Sizes differ evenly, so
// that neighbours make equal shares: 28 rows in fours of pairs, 6, 8, 6 and 8, not 6, 6, 6, 6 and
// 4, which leaves 16 rows to one of two threads. Two cores of a Zen 5 took for 3x3 at stride 2 on
// 56x56x144 19.2 us like that and 16.9 like this.
struct RowBlocks {
  int64_t rows, together, count;

  RowBlocks(int64_t total, int64_t at_once, int64_t other_tasks, int64_t tasks, int64_t threads)
      : rows(total), together(at_once) {
    count = min_of(ceil_div(max_of(1, tasks), max_of(1, other_tasks)), max_of(1, rows));
    count = evened(count, other_tasks, threads);
    if (rows < together * count) {
      const bool are_even =
          rows >= together && rows % together == 0 && rows / together * other_tasks % threads == 0;
      count = are_even ? rows / together : count;
      together = are_even ? together : 1;
    }
    if (other_tasks != 1) return;
    int64_t largest = 0;
    for (int64_t i = 0; i < threads; ++i) {
      largest = max_of(largest, begin(count * (i + 1) / threads) - begin(count * i / threads));
    }
    if (16 * threads * largest > 17 * rows) together = 1;
  }
  // So many or a few more, with which threads get the same number of tasks: nine of one size take
  // two threads as long as ten do. Two cores of a Zen 4 took for 3x3 on 3 of 56x56x128 145 us in
  // nine and 128 in twelve, for 7x7 on channels-first 56x56x96 197 and 181.
  int64_t evened(int64_t few, int64_t other_tasks, int64_t threads) const {
    for (int64_t more = few; more < min_of(few + threads, rows + 1); ++more) {
      if (more * other_tasks % max_of(1, threads) == 0) return more;
    }
    return few;
  }
  int64_t begin(int64_t i) const {
    return min_of(rows, ceil_div(rows, together) * i / count * together);
  }
  int64_t end(int64_t i) const { return begin(i + 1); }
};

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_CALL_MEMORY_H_
