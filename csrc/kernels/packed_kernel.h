// The convolution's kernel and bias in the compute type, output channels side by side.
#ifndef DEPTHWISE_KERNELS_PACKED_KERNEL_H_
#define DEPTHWISE_KERNELS_PACKED_KERNEL_H_

#include "call_memory.h"
#include "rows.h"

namespace depthwise::DW_ISA {

// Tap (i, j) of output channel co is at data[i * row + j * column + co]. The caller's array is used
// where it already is like that; full vectors can be read at every tap in either case. A large
// kernel is worked on by `threads` threads.
template <class A>
struct PackedKernel {
  const A* data = nullptr;
  int64_t row = 0, column = 0;
  // Whether the taps of a large kernel, which are used again and again, evict each other from the
  // caches there, or those of any kernel what they are multiplied with: separate() then, or blocks
  // of channels copied.
  bool evicts = false;
  CallMemory memory;

  template <class T>
  bool pack(const T* from, const depthwise_params& p, int threads) {
    const depthwise_kernel_strides& s = p.kernel;
    const int64_t outputs = p.channels * p.multiplier;
    const bool side_by_side =
        (p.multiplier == 1 || s.multiplier == 1) && (p.channels == 1 || s.channel == p.multiplier);
    if constexpr (sizeof(T) == sizeof(A)) {
      if (side_by_side && outputs >= lanes<A>) {
        data = from;
        row = s.row;
        column = s.column;
        evicts = p.kernel_height * p.kernel_width >= tuning::evicting_taps &&
                 falls_together(column * bytes);
        return true;
      }
    }
    return copy_taps(p, threads, [&](A* to, int64_t i, int64_t j) {
      pack_tap(to, from + i * s.row + j * s.column, s, p);
    });
  }

  // Looks whether a small kernel has to be kept apart from a source that is read in place, its
  // columns so many bytes apart: where a column's elements and its weights fall into the same few
  // sets of the first-level cache. Few results are not worth the copy.
  void keep_apart(const void* source, int64_t apart, const depthwise_params& p) {
    const int64_t taps = p.kernel_height * p.kernel_width;
    const bool is_small = taps <= tuning::most_meeting_taps;
    if (!is_small || p.batch * p.out_height * p.out_width < tuning::least_tap_results * taps ||
        !falls_together(apart) || !falls_together(column * bytes)) {
      return;
    }
    constexpr uintptr_t around = tuning::meeting_bytes, sets = tuning::evicting_bytes;
    const uintptr_t distance =
        reinterpret_cast<uintptr_t>(source) - reinterpret_cast<uintptr_t>(data);
    evicts = evicts || (distance + around) % sets < 2 * around;
  }

  // Copies the weights to where they do not evict each other.
  bool separate(const depthwise_params& p, int threads) {
    if (!evicts) return true;
    evicts = false;
    const A* const from = data;
    const int64_t from_row = row, from_column = column, outputs = p.channels * p.multiplier;
    return copy_taps(p, threads, [&](A* to, int64_t i, int64_t j) {
      convert_span(to, from + i * from_row + j * from_column, 1, outputs);
    });
  }

  // Bytes for the weights of so many channels, and these: those of `whole` from `first` on.
  static int64_t block_bytes(int64_t outputs, const depthwise_params& p) {
    return p.kernel_height * p.kernel_width * spread_column(outputs) * bytes;
  }
  void use_block(const PackedKernel& whole, int64_t first, int64_t outputs,
                 const depthwise_params& p, void* room) {
    A* to = static_cast<A*>(room);
    data = to;
    column = spread_column(outputs);
    row = p.kernel_width * column;
    for (int64_t i = 0; i < p.kernel_height; ++i) {
      for (int64_t j = 0; j < p.kernel_width; ++j, to += column) {
        convert_span(to, whole.data + i * whole.row + j * whole.column + first, 1, outputs);
      }
    }
  }

  // The weights of one output channel, row after row.
  void gather(A* to, int64_t output, const depthwise_params& p) const {
    for (int64_t i = 0; i < p.kernel_height; ++i) {
      const A* const from = data + i * row + output;
      for (int64_t j = 0; j < p.kernel_width; ++j) *to++ = from[j * column];
    }
  }

  // Whether no weight is infinite or NaN. A multiple of zero is zero then, and of zero only.
  bool is_finite(const depthwise_params& p, int threads) const {
    const int64_t outputs = p.channels * p.multiplier, rows = p.kernel_height;
    const int most = threads_for(p, threads);
    const int64_t tasks = most == 1 ? 1 : rows;
    return parallel(tasks, most, [&](int64_t task) {
      constexpr int together = 4;  // sums that do not wait for each other
      Vec<A> sums[together] = {};
      for (int64_t i = rows * task / tasks; i < rows * (task + 1) / tasks; ++i) {
        for (int64_t j = 0; j < p.kernel_width; ++j) {
          const A* const from = data + i * row + j * column;
          int64_t c = 0;
          for (; c + together * lanes<A> <= outputs; c += together * lanes<A>) {
#pragma GCC unroll 4
            for (int u = 0; u < together; ++u) {
              sums[u] = fma(load(from + c + u * lanes<A>), zero<A>(), sums[u]);
            }
          }
          for (; c < outputs; c += lanes<A>) {
            sums[0] = fma(load_part(from + c, min_of(lanes<A>, outputs - c)), zero<A>(), sums[0]);
          }
        }
      }
      return horizontal_sum<A>((sums[0] + sums[1]) + (sums[2] + sums[3])) == 0;
    });
  }

 private:
  static constexpr int64_t bytes = sizeof(A);

  // Memory for all taps, filled by copy(to, i, j).
  bool copy_taps(const depthwise_params& p, int threads, auto&& copy) {
    column = spread_column(p.channels * p.multiplier);
    row = p.kernel_width * column;
    if (!memory.allocate((p.kernel_height * row + lanes<A>)*bytes)) {
      return false;
    }
    A* const packed = memory.as<A>();
    data = packed;
    return parallel(p.kernel_height, threads_for(p, threads), [&](int64_t i) {
      for (int64_t j = 0; j < p.kernel_width; ++j) copy(packed + i * row + j * column, i, j);
      return true;
    });
  }

  // Whether what is so many bytes apart falls into a few sets of the caches.
  static bool falls_together(int64_t apart) { return apart % tuning::evicting_bytes == 0; }
  // From one tap of a copy to the next.
  static int64_t spread_column(int64_t outputs) {
    const int64_t whole = round_up(outputs, lanes<A>);
    return falls_together(whole * bytes) ? whole + lanes<A> : whole;
  }
  static int threads_for(const depthwise_params& p, int threads) {
    const int64_t weights = p.kernel_height * p.kernel_width * p.channels * p.multiplier;
    return weights >= tuning::serial_work ? threads : 1;
  }

  template <class T>
  static void pack_tap(A* to, const T* from, const depthwise_kernel_strides& s,
                       const depthwise_params& p) {
    if (p.multiplier == 1) {
      convert_span(to, from, s.channel, p.channels);
    } else if (s.channel == p.multiplier * s.multiplier) {
      convert_span(to, from, s.multiplier, p.channels * p.multiplier);
    } else {
      for (int64_t c = 0; c < p.channels; ++c) {  // each overrun is mended by the next
        convert_span(to + c * p.multiplier, from + c * s.channel, s.multiplier, p.multiplier);
      }
    }
  }
};

// The bias in the compute type, readable in full vectors; null stays null.
template <class A>
struct PackedBias {
  const A* data = nullptr;
  CallMemory memory;

  template <class T>
  bool pack(const T* from, int64_t outputs) {
    if (from == nullptr) return true;
    if constexpr (sizeof(T) == sizeof(A)) {
      if (outputs >= lanes<A>) {
        data = from;
        return true;
      }
    }
    if (!memory.allocate(round_up(outputs, lanes<A>) * static_cast<int64_t>(sizeof(A)))) {
      return false;
    }
    convert_span(memory.as<A>(), from, 1, outputs);
    data = memory.as<A>();
    return true;
  }
};

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_PACKED_KERNEL_H_
