// The convolution's kernel and bias in the compute type, output channels side by side.
#ifndef DEPTHWISE_KERNELS_PACKED_KERNEL_H_
#define DEPTHWISE_KERNELS_PACKED_KERNEL_H_

#include "call_memory.h"
#include "rows.h"

namespace depthwise::DW_ISA {

// Tap (i, j) of output channel co is at data[i * row + j * column + co]. The caller's array is used
// where it already is like that, unless the taps of a large kernel would evict each other from the
// caches; full vectors can be read at every tap in either case. A large kernel is worked on by
// `threads` threads.
template <class A>
struct PackedKernel {
  const A* data = nullptr;
  int64_t row = 0, column = 0;
  CallMemory memory;

  template <class T>
  bool pack(const T* from, const depthwise_params& p, int threads) {
    const depthwise_kernel_strides& s = p.kernel;
    const int64_t outputs = p.channels * p.multiplier;
    const bool side_by_side =
        (p.multiplier == 1 || s.multiplier == 1) && (p.channels == 1 || s.channel == p.multiplier);
    if constexpr (sizeof(T) == sizeof(A)) {
      if (side_by_side && outputs >= lanes<A> && !evicts(s.column, p)) {
        data = from;
        row = s.row;
        column = s.column;
        return true;
      }
    }
    column = round_up(outputs, lanes<A>);
    if (evicts(column, p)) column += lanes<A>;
    row = p.kernel_width * column;
    if (!memory.allocate((p.kernel_height * row + lanes<A>)*static_cast<int64_t>(sizeof(A)))) {
      return false;
    }
    A* const packed = memory.as<A>();
    data = packed;
    return parallel(p.kernel_height, threads_for(p, threads), [&](int64_t i) {
      for (int64_t j = 0; j < p.kernel_width; ++j) {
        pack_tap(packed + i * row + j * column, from + i * s.row + j * s.column, s, p);
      }
      return true;
    });
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
    const int64_t outputs = p.channels * p.multiplier;
    return parallel(p.kernel_height, threads_for(p, threads), [&](int64_t i) {
      constexpr int together = 4;  // sums that do not wait for each other
      Vec<A> sums[together] = {};
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
      return horizontal_sum<A>((sums[0] + sums[1]) + (sums[2] + sums[3])) == 0;
    });
  }

 private:
  // Whether taps so many elements apart fall into so few sets of the caches that they evict each
  // other before they are used again.
  static bool evicts(int64_t apart, const depthwise_params& p) {
    return p.kernel_height * p.kernel_width >= tuning::evicting_taps &&
           apart * static_cast<int64_t>(sizeof(A)) % tuning::evicting_bytes == 0;
  }
  static int threads_for(const depthwise_params& p, int threads) {
    const int64_t weights = p.kernel_height * p.kernel_width * p.channels * p.multiplier;
    return weights >= tuning::serial_macs ? threads : 1;
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
