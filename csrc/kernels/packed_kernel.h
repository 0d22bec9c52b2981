// The convolution's kernel and bias in the compute type, output channels side by side.
#ifndef DEPTHWISE_KERNELS_PACKED_KERNEL_H_
#define DEPTHWISE_KERNELS_PACKED_KERNEL_H_

#include "call_memory.h"
#include "rows.h"

namespace depthwise::DW_ISA {

// Tap (i, j) of output channel co is at data[i * row + j * column + co]. The caller's array is used
// where it already is like that; full vectors can be read at every tap in either case.
template <class A>
struct PackedKernel {
  const A* data = nullptr;
  int64_t row = 0, column = 0;
  CallMemory memory;

  template <class T>
  bool pack(const T* from, const depthwise_params& p) {
    const depthwise_kernel_strides& s = p.kernel;
    const int64_t outputs = p.channels * p.multiplier;
    const bool side_by_side =
        (p.multiplier == 1 || s.multiplier == 1) && (p.channels == 1 || s.channel == p.multiplier);
    if constexpr (sizeof(T) == sizeof(A)) {
      if (side_by_side && outputs >= lanes<A>) {
        data = from;
        row = s.row;
        column = s.column;
        return true;
      }
    }
    column = round_up(outputs, lanes<A>);
    row = p.kernel_width * column;
    if (!memory.allocate((p.kernel_height * row + lanes<A>)*static_cast<int64_t>(sizeof(A)))) {
      return false;
    }
    A* to = memory.as<A>();
    data = to;
    for (int64_t i = 0; i < p.kernel_height; ++i) {
      for (int64_t j = 0; j < p.kernel_width; ++j, to += column) {
        pack_tap(to, from + i * s.row + j * s.column, s, p);
      }
    }
    return true;
  }

  // The weights of one output channel, row after row.
  void gather(A* to, int64_t output, const depthwise_params& p) const {
    for (int64_t i = 0; i < p.kernel_height; ++i) {
      const A* const from = data + i * row + output;
      for (int64_t j = 0; j < p.kernel_width; ++j) *to++ = from[j * column];
    }
  }

  // Whether no weight is infinite or NaN. A multiple of zero is zero then, and of zero only.
  bool is_finite(const depthwise_params& p) const {
    constexpr int together = 4;  // sums that do not wait for each other
    Vec<A> sums[together] = {};
    const int64_t outputs = p.channels * p.multiplier;
    for (int64_t tap = 0; tap < p.kernel_height * p.kernel_width; ++tap) {
      const A* const from = data + tap / p.kernel_width * row + tap % p.kernel_width * column;
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
  }

 private:
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
