// Forward pass of kernels of one tap: each element is multiplied by its channel's weight. Elements
// that lie side by side go through the same few vectors of weights over and over, whether they are
// columns of a plane, which have one weight, or channels.
#ifndef DEPTHWISE_KERNELS_SCALE_FORWARD_H_
#define DEPTHWISE_KERNELS_SCALE_FORWARD_H_

#include "channels_convolution.h"

namespace depthwise::DW_ISA {

// Weights and bias of the elements of a run, the same again after every `period` elements. Full
// vectors can be read from every element of the first period on.
template <class A>
struct Pattern {
  const A *weights, *bias;
  int64_t period;
};

// After how many elements side by side the channels begin at the first lane again.
template <class T>
int64_t channels_period(const depthwise_params& p) {
  constexpr int64_t n = lanes<Compute<T>>;
  return p.channels / greatest_common_divisor(p.channels, n) * n;
}

// Images whose elements are runs: dense planes of results, or dense pixels of all channels.
template <class T>
bool takes_scale(const depthwise_params& p) {
  const auto stays_inside = [](const Axis& a) {
    return a.kernel == 1 && a.pad == 0 && (a.out - 1) * a.stride < a.in;
  };
  if (p.multiplier != 1 || p.stride_width != 1 || !stays_inside(row_axis(p)) ||
      !stays_inside(column_axis(p))) {
    return false;
  }
  const bool saves = p.saved.column != 0;
  if (p.layout == DEPTHWISE_CHANNELS_FIRST) {
    return p.x.column == 1 && p.y.column == 1 && (!saves || p.saved.column == 1);
  }
  const auto is_dense = [&](const depthwise_image_strides& s) {
    return s.channel == 1 && s.column == p.channels;
  };
  return is_dense(p.x) && is_dense(p.y) && (!saves || is_dense(p.saved)) &&
         channels_period<T>(p) <= tuning::most_scale_period;
}

// The runs of a call: of one plane (of an image with channels side by side, of one channel else),
// whole where its rows touch, then cut into pieces; otherwise row by row.
struct ScaleRuns {
  int64_t planes, each;     // planes of the batch, and runs of each of them
  int64_t elements, piece;  // of a plane or row, and of each of its runs but the last
  bool whole;

  ScaleRuns(const depthwise_params& p, int64_t period) {
    const bool first = p.layout == DEPTHWISE_CHANNELS_FIRST;
    planes = p.batch * (first ? p.channels : 1);
    elements = p.out_width * (first ? 1 : p.channels);
    whole = p.stride_height == 1 && p.x.row == elements && p.y.row == elements &&
            (p.saved.column == 0 || p.saved.row == elements);
    if (whole) elements *= p.out_height;
    piece = whole ? round_up(tuning::scale_piece, period) : elements;
    each = whole ? ceil_div(elements, piece) : p.out_height;
  }
};

// What is done to each element.
template <class T>
struct Scale {
  using A = Compute<T>;
  ClampRange<A> clamp_to;
  int activation;
  A alpha;
  bool streams;

  // `count` elements of x to y and, unless null, the pre-activation.
  void run(const T* x, T* y, T* preactivation, int64_t count, const Pattern<A>& pattern) const {
    constexpr int n = lanes<A>;
    const Vec<A> low = broadcast(clamp_to.low), high = broadcast(clamp_to.high);
    int64_t i = 0, at = 0;
    const auto weighted = [&](Vec<A> v) DW_INLINE_LAMBDA {
      return fma(v, load(pattern.weights + at), load(pattern.bias + at));
    };
    const auto next = [&](int64_t done) DW_INLINE_LAMBDA {
      i += done;
      at += done;
      if (at >= pattern.period) at -= pattern.period;
    };
    const auto some = [&](int64_t part) {
      const Vec<A> z = weighted(load_part(x + i, part));
      if (preactivation != nullptr) store_part(preactivation + i, z, part);
      store_part(y + i, clamp_to.is_clamp ? clamp(z, low, high) : activate<A>(activation, alpha, z),
                 part);
      next(part);
    };
    if (clamp_to.is_clamp && preactivation == nullptr) {
      if constexpr (can_stream<T> && is_compute_type<T>) {
        const int64_t off = reinterpret_cast<uintptr_t>(y) % 64;
        if (streams && count >= n && off % static_cast<int64_t>(sizeof(T)) == 0) {
          if (off != 0) some(n - off / static_cast<int64_t>(sizeof(T)));
          for (; i + n <= count; next(n)) stream(y + i, clamp(weighted(load(x + i)), low, high));
        }
      }
      for (; i + n <= count; next(n)) store(y + i, clamp(weighted(load(x + i)), low, high));
    }
    while (i < count) some(min_of(n, count - i));
  }
};

template <class T>
bool scale_forward(const Call& call) {
  using A = Compute<T>;
  constexpr int64_t n = lanes<A>, bytes = sizeof(A);
  const depthwise_params& p = *call.params;
  const bool first = p.layout == DEPTHWISE_CHANNELS_FIRST;
  PackedKernel<A> kernel;
  PackedBias<A> bias;
  CallMemory memory;
  const int64_t period = first ? n : channels_period<T>(p);
  if (!kernel.pack(static_cast<const T*>(call.kernel), p) ||
      !bias.pack(static_cast<const T*>(call.bias), p.channels) ||
      !memory.allocate(first ? 0 : 2 * (period + n) * bytes)) {
    return false;
  }
  const auto weight_of = [&](int64_t c) { return kernel.data[c]; };
  const auto bias_of = [&](int64_t c) { return bias.data != nullptr ? bias.data[c] : A(0); };
  if (!first) {
    A* const weights = memory.as<A>();
    for (int64_t i = 0, c = 0; i < period + n; ++i, c = c + 1 < p.channels ? c + 1 : 0) {
      weights[i] = weight_of(c);
      weights[period + n + i] = bias_of(c);
    }
  }
  const ScaleRuns runs(p, period);
  const Scale<T> scale{
      clamp_range<A>(p.activation), p.activation, static_cast<A>(p.alpha),
      streaming_pays<T>(runs.planes * runs.elements * (runs.whole ? 1 : runs.each))};
  const int64_t count = runs.planes * runs.each, tasks = min_of(max_of(1, call.tasks), count);

  return parallel(tasks, call.threads, [&](int64_t task) {
    A repeated[4 * n];
    for (int64_t i = count * task / tasks; i < count * (task + 1) / tasks; ++i) {
      const int64_t plane = i / runs.each, run = i % runs.each;
      const int64_t channel = first ? plane % p.channels : 0;
      const int64_t image = first ? plane / p.channels : plane;
      Pattern<A> pattern{memory.as<A>(), memory.as<A>() + period + n, period};
      if (first) {
        for (int64_t v = 0; v < 2 * n; v += n) {
          store(repeated + v, broadcast(weight_of(channel)));
          store(repeated + 2 * n + v, broadcast(bias_of(channel)));
        }
        pattern = {repeated, repeated + 2 * n, period};
      }
      const ImageView<T> x = image_at<T>(call.x, p.x, image, channel);
      const TargetView<T> y = target_at<T>(call.y, p.y, image, channel);
      const TargetView<T> z = target_at<T>(call.preactivation, p.saved, image, channel);
      const int64_t row = runs.whole ? 0 : run, at = runs.whole ? run * runs.piece : 0;
      scale.run(x.data + row * p.stride_height * x.row + at, y.data + row * y.row + at,
                z.data != nullptr ? z.data + row * z.row + at : nullptr,
                min_of(runs.piece, runs.elements - at), pattern);
    }
    if (scale.streams) finish_streaming();
    return true;
  });
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_SCALE_FORWARD_H_
