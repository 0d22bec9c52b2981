// Which taps of the kernel meet the image, along one axis. Pure integer arithmetic, shared by the
// forward pass and by the gradient of the input, which is a convolution too: for each residue of
// the position modulo the stride, a stride-1 convolution of the output's gradient with every
// (stride / gcd(stride, dilation))-th tap.
#ifndef DEPTHWISE_KERNELS_GEOMETRY_H_
#define DEPTHWISE_KERNELS_GEOMETRY_H_

#include <stdint.h>

#include "../params.h"

namespace depthwise::DW_ISA {

inline int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }  // a >= 0, b > 0
// a / b where b is 1 more often than not: a division takes longer than a look.
inline int64_t quotient(int64_t a, int64_t b) { return b == 1 ? a : a / b; }
inline int64_t ceil_quotient(int64_t a, int64_t b) { return quotient(a + b - 1, b); }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// Sizes of one axis of the convolution.
struct Axis {
  int64_t in, out, kernel, stride, dilation, pad;
};

inline Axis row_axis(const depthwise_params& p) {
  return {p.in_height,     p.out_height,      p.kernel_height,
          p.stride_height, p.dilation_height, p.pad_top};
}
inline Axis column_axis(const depthwise_params& p) {
  return {p.in_width, p.out_width, p.kernel_width, p.stride_width, p.dilation_width, p.pad_left};
}

struct TapRange {
  int64_t begin, end;
};

// `count` results, result t made of `taps` taps, tap q of it at position
// `position + t * result_step + q * tap_step` of a source that is `extent` long; taps outside of it
// contribute nothing. Both steps are positive.
struct AxisPlan {
  int64_t count, taps, extent;
  int64_t position, result_step, tap_step;
  int64_t kernel_first,
      kernel_step;  // tap q is the kernel's element kernel_first + q * kernel_step
  int64_t target_first, target_step;  // result t goes to target_first + t * target_step
  int64_t full_begin, full_end;       // the results for which every tap meets the source

  int64_t position_of(int64_t t) const { return position + t * result_step; }
  bool is_clipped() const { return full_begin > 0 || full_end < count; }
  // Whether neighbouring results may have elements of the source in common.
  bool overlaps() const { return taps * tap_step > result_step; }

  TapRange valid_taps(int64_t t) const {
    const int64_t p = position_of(t);
    int64_t begin = p >= 0 ? 0 : ceil_quotient(-p, tap_step);
    int64_t end = p >= extent ? 0 : quotient(extent - 1 - p, tap_step) + 1;
    begin = min_of(begin, taps);
    end = max_of(begin, min_of(end, taps));
    return {begin, end};
  }

  void find_full() {
    const int64_t reach = (taps - 1) * tap_step;
    full_begin = position >= 0 ? 0 : ceil_div(-position, result_step);
    const int64_t last = extent - 1 - reach - position;  // largest t * result_step that fits
    full_end = last < 0 ? 0 : last / result_step + 1;
    full_end = min_of(full_end, count);
    full_begin = min_of(full_begin, count);
    if (full_end < full_begin) full_end = full_begin;
  }
};

inline int64_t greatest_common_divisor(int64_t a, int64_t b) {
  while (b != 0) {
    const int64_t rest = a % b;
    a = b;
    b = rest;
  }
  return a;
}

// Results so many positions apart are a whole number of taps apart: every second one for a dilation
// of 2.
inline int64_t tap_classes(const Axis& a) {
  return a.dilation / greatest_common_divisor(a.stride, a.dilation);
}

// The results index, index + classes, ...
inline AxisPlan forward_plan(const Axis& a, int64_t index, int64_t classes) {
  AxisPlan plan{};
  plan.count = index < a.out ? ceil_div(a.out - index, classes) : 0;
  plan.taps = a.kernel;
  plan.extent = a.in;
  plan.position = index * a.stride - a.pad;
  plan.result_step = classes * a.stride;
  plan.tap_step = a.dilation;
  plan.kernel_step = 1;
  plan.target_first = index;
  plan.target_step = classes;
  plan.find_full();
  return plan;
}

// Classes of results that share elements of the source. One where the classes would have fewer
// results than `least`.
inline int64_t forward_classes(const Axis& a, int64_t least) {
  const int64_t classes = tap_classes(a);
  return a.out / classes >= least ? classes : 1;
}

// Classes of positions of the input's gradient: one per residue modulo the stride that occurs.
inline int64_t gradient_classes(const Axis& a) { return max_of(1, min_of(a.stride, a.in)); }

// The same, each divided further so that positions are a whole number of taps apart, as in
// forward_classes().
inline int64_t divided_gradient_classes(const Axis& a, int64_t least) {
  const int64_t classes = a.stride * tap_classes(a);
  return a.in / classes >= least ? classes : gradient_classes(a);
}

// The gradient of the input at the positions index, index + step, ... The step is a multiple of the
// stride.
inline AxisPlan gradient_plan(const Axis& a, int64_t index, int64_t step) {
  AxisPlan plan{};
  plan.extent = a.out;
  plan.result_step = step / a.stride;
  plan.target_first = index;
  plan.target_step = step;
  plan.count = plan.target_first < a.in ? ceil_div(a.in - plan.target_first, step) : 0;
  const int64_t gcd = greatest_common_divisor(a.stride, a.dilation);
  const int64_t period = a.stride / gcd;
  const int64_t first = plan.target_first + a.pad;
  plan.tap_step = a.dilation / gcd;
  const int64_t last = min_of(period, a.kernel);
  int64_t j = 0;
  while (j < last && (first - j * a.dilation) % a.stride != 0) ++j;
  if (j == last) {
    plan.taps = 0;
    plan.full_end = plan.count;
    return plan;
  }
  // Taken from the last tap to the first, so that positions ascend.
  plan.taps = (a.kernel - 1 - j) / period + 1;
  plan.kernel_first = j + (plan.taps - 1) * period;
  plan.kernel_step = -period;
  plan.position = (first - j * a.dilation) / a.stride - (plan.taps - 1) * plan.tap_step;
  plan.find_full();
  return plan;
}

// The outputs whose tap j meets the image.
inline TapRange outputs_of_tap(const Axis& a, int64_t j) {
  const int64_t shift = j * a.dilation - a.pad;  // input position = output * stride + shift
  const int64_t begin = shift >= 0 ? 0 : ceil_div(-shift, a.stride);
  const int64_t end = shift >= a.in ? 0 : (a.in - 1 - shift) / a.stride + 1;
  const int64_t clipped = min_of(begin, a.out);
  return {clipped, max_of(clipped, min_of(end, a.out))};
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_GEOMETRY_H_
