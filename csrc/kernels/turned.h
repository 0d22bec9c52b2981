// A call with rows and columns exchanged: where rows of results are too short for vectors or for
// tiles, columns may be long enough.
#ifndef DEPTHWISE_KERNELS_TURNED_H_
#define DEPTHWISE_KERNELS_TURNED_H_

#include "planes.h"

namespace depthwise::DW_ISA {

// Vectors that a plane of results takes, its rows staged with `reach` zeros between them.
inline int64_t plane_vectors(int64_t rows, int64_t columns, int64_t reach, int64_t lane_count) {
  const int64_t by_row = rows * ceil_div(columns, lane_count);
  if (columns >= lane_count) return by_row;
  return min_of(by_row, ceil_div(rows * (columns + min_of(reach, lane_count)), lane_count));
}

// Whether exchanging rows and columns saves enough vectors to pay for staging columns as rows. Two
// cores of a Zen 5 took, as they are and turned, for 10x10 on 4 times 5 planes of 88x10 (a third of
// the vectors) 27.8 and 8.8 us, 110 and 42 for a training step; for 7x7 on 2 of 64x5 (half of them)
// 19.7 and 17.9; for 3x3 on 6 of 128x17 (half of them, but of full rows) 6.3 and 8.0, 25 and 33.
inline bool turning_pays(const depthwise_params& p, int64_t lane_count) {
  if (p.out_width >= lane_count) return false;
  const auto reach = [](const Axis& a) { return (a.kernel - 1) * a.dilation / a.stride; };
  const int64_t as_it_is =
      plane_vectors(p.out_height, p.out_width, reach(column_axis(p)), lane_count);
  const int64_t turned = plane_vectors(p.out_width, p.out_height, reach(row_axis(p)), lane_count);
  return 3 * turned <= 2 * as_it_is;
}

// The same convolution with rows and columns exchanged.
inline depthwise_params turned(const depthwise_params& p) {
  depthwise_params other = p;
  const auto exchange = [](auto& a, auto& b) {
    const auto first = a;
    a = b;
    b = first;
  };
  exchange(other.in_height, other.in_width);
  exchange(other.out_height, other.out_width);
  exchange(other.kernel_height, other.kernel_width);
  exchange(other.stride_height, other.stride_width);
  exchange(other.dilation_height, other.dilation_width);
  exchange(other.pad_top, other.pad_left);
  exchange(other.x.row, other.x.column);
  exchange(other.y.row, other.y.column);
  exchange(other.saved.row, other.saved.column);
  exchange(other.dy.row, other.dy.column);
  exchange(other.dx.row, other.dx.column);
  exchange(other.kernel.row, other.kernel.column);
  exchange(other.dkernel.row, other.dkernel.column);
  return other;
}

// A kernel on the call as it is or turned.
template <bool (*run)(const Call&), bool (*pays)(const depthwise_params&)>
bool along_longer(const Call& call) {
  if (!pays(*call.params)) return run(call);
  const depthwise_params params = turned(*call.params);
  Call other = call;
  other.params = &params;
  return run(other);
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_TURNED_H_
