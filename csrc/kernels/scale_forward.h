// Forward pass of kernels of one tap: each element is multiplied by its channel's weight. Elements
// that lie side by side go through the same few vectors of weights over and over, whether they are
// columns of a plane, which have one weight, or channels. Those of a row that do not, or that have
// several results each, are gathered first.
#ifndef DEPTHWISE_KERNELS_SCALE_FORWARD_H_
#define DEPTHWISE_KERNELS_SCALE_FORWARD_H_

#include "channels_convolution.h"
#include "pixel_gather.h"

namespace depthwise::DW_ISA {

// Weights and bias of the elements of a run, the same again after every `period` elements. Full
// vectors can be read from every element of the first period on.
template <class A>
struct Pattern {
  const A *weights, *bias;
  int64_t period;
};

// After how many elements of `outputs` channels side by side the weights are the same again, a
// vector at least: where the channels begin at the first lane again, unless that is far.
template <class A>
int64_t channels_period(int64_t outputs) {
  const int64_t aligned = outputs / greatest_common_divisor(outputs, lanes<A>) * lanes<A>;
  return aligned <= tuning::most_scale_period ? aligned : round_up(lanes<A>, outputs);
}

// Kernels of one tap that meets the image everywhere. Whether arrays are dense does not count:
// other kernels would round differently.
template <class T>
bool takes_scale(const depthwise_params& p) {
  const auto stays_inside = [](const Axis& a) {
    return a.kernel == 1 && a.pad == 0 && (a.out - 1) * a.stride < a.in;
  };
  // Columns apart that have channels for vectors need not be gathered.
  const bool in_vectors = p.layout == DEPTHWISE_CHANNELS_LAST && p.multiplier == 1 &&
                          p.stride_width > 1 && p.channels >= lanes<Compute<T>>;
  return stays_inside(row_axis(p)) && stays_inside(column_axis(p)) && !in_vectors;
}

// The runs that the results of a call are made in: some rows of a plane that touch, or a part of
// one. A plane is that of an image with channels side by side, or of one of the input's channels.
struct ScaleRuns {
  int64_t pixel;          // elements of a column of results
  int64_t rows, columns;  // of a run
  int64_t row_runs, column_runs, count;
  bool direct;    // the input's elements are runs, too
  bool in_place;  // and those of what is written

  explicit ScaleRuns(const Call& call) {
    const depthwise_params& p = *call.params;
    const bool first = p.layout == DEPTHWISE_CHANNELS_FIRST;
    pixel = first ? 1 : p.channels * p.multiplier;
    const int64_t row = p.out_width * pixel;
    direct = p.stride_width == 1 && p.x.column == pixel && (first || p.multiplier == 1) &&
             (first || p.x.channel == 1);
    const bool saves = call.preactivation != nullptr;
    const auto is_dense = [&](const depthwise_image_strides& s) {
      return s.column == pixel && (first || s.channel == 1);
    };
    in_place = is_dense(p.y) && (!saves || is_dense(p.saved));
    const bool touch = in_place && p.y.row == row && (!saves || p.saved.row == row) &&
                       (!direct || (p.stride_height == 1 && p.x.row == row));
    rows = touch ? min_of(p.out_height, max_of(1, tuning::scale_piece / row)) : 1;
    columns = rows > 1 ? p.out_width : min_of(p.out_width, max_of(1, tuning::scale_piece / pixel));
    row_runs = ceil_div(p.out_height, rows);
    column_runs = ceil_div(p.out_width, columns);
    count = p.batch * (first ? p.channels : 1) * row_runs * column_runs;
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

  // `count` elements of x, as they are stored or in the compute type, to y and, unless null, the
  // pre-activation.
  template <class S>
  void run(const S* x, T* y, T* preactivation, int64_t count, const Pattern<A>& pattern) const {
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
        const int64_t off = static_cast<int64_t>(reinterpret_cast<uintptr_t>(y) % sizeof(Vec<A>));
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

// The weights and the bias of a call as patterns: of all channels side by side, or of each channel.
template <class A>
class Patterns {
 public:
  template <class T>
  bool make(const Call& call) {
    const depthwise_params& p = *call.params;
    const int64_t outputs = p.channels * p.multiplier;
    if (!kernel_.pack(static_cast<const T*>(call.kernel), p, call.threads) ||
        !bias_.pack(static_cast<const T*>(call.bias), outputs)) {
      return false;
    }
    if (p.layout == DEPTHWISE_CHANNELS_FIRST) return true;
    period = channels_period<A>(outputs);
    if (!memory_.allocate(2 * (period + n) * static_cast<int64_t>(sizeof(A)))) return false;
    A* const to = memory_.as<A>();
    for (int64_t i = 0, c = 0; i < period + n; ++i, c = c + 1 < outputs ? c + 1 : 0) {
      to[i] = kernel_.data[c];
      to[period + n + i] = bias_of(c);
    }
    return true;
  }
  Pattern<A> side_by_side() const {
    const A* const weights = memory_.as<A>();
    return {weights, weights + period + n, period};
  }
  // That of one channel of the output; `room` is for four vectors.
  Pattern<A> of(int64_t output, A* room) const {
    for (int64_t v = 0; v < 2 * n; v += n) {
      store(room + v, broadcast(kernel_.data[output]));
      store(room + 2 * n + v, broadcast(bias_of(output)));
    }
    return {room, room + 2 * n, n};
  }

  int64_t period = n;

 private:
  static constexpr int64_t n = lanes<A>;
  A bias_of(int64_t output) const { return bias_.data != nullptr ? bias_.data[output] : A(0); }

  PackedKernel<A> kernel_;
  PackedBias<A> bias_;
  CallMemory memory_;
};

// The elements of some rows and columns of results, each of them as often as it has results, to the
// compute type and side by side. The first one is at `from`, its row ends at `row_end`. `line` has
// room for the columns of one row.
template <class T>
void gather_run(Compute<T>* to, Compute<T>* line, const depthwise_params& p,
                const PixelGather<T>& gather, const T* from, const T* row_end, int64_t rows,
                int64_t columns) {
  const int64_t row_step = p.stride_height * p.x.row;
  for (; rows > 0; --rows, from += row_step, row_end += row_step) {
    if (p.layout == DEPTHWISE_CHANNELS_FIRST) {
      convert_span(to, from, p.stride_width * p.x.column, columns);
      to += columns;
      continue;
    }
    gather(to, from, columns, row_end, line);
    to += columns * p.channels * p.multiplier;
  }
}

// A part of a row of results to where it belongs.
template <class T>
void move_run(const TargetView<T>& target, int64_t h, int64_t w, const ScaleRuns& runs,
              const Compute<T>* from, int64_t columns) {
  T* const to = target.data + h * target.row + w * target.column;
  if (runs.pixel == 1) {
    convert_back(to, target.column, from, columns);
    return;
  }
  for (int64_t i = 0; i < columns; ++i, from += runs.pixel) {
    convert_back(to + i * target.column, target.channel, from, runs.pixel);
  }
}

template <class T>
bool scale_forward(const Call& call) {
  using A = Compute<T>;
  const depthwise_params& p = *call.params;
  const bool first = p.layout == DEPTHWISE_CHANNELS_FIRST;
  Patterns<A> patterns;
  if (!patterns.template make<T>(call)) return false;
  const ScaleRuns runs(call);
  const ClampRange<A> clamp = clamp_range<A>(p.activation);
  const A alpha = static_cast<A>(p.alpha);
  const Scale<T> scale{clamp, p.activation, alpha, runs.in_place && streaming_pays<T>(p)};
  const Scale<A> scale_apart{clamp, p.activation, alpha, false};
  const PixelGather<T> gather(p, p.stride_width * p.x.column);
  const int64_t planes = first ? p.multiplier : 1;  // of results, from one of the input
  const int64_t tasks = min_of(max_of(1, call.tasks), runs.count);

  return parallel(tasks, call.threads, [&](int64_t task) {
    ScratchLayout scratch;
    const int64_t room = runs.rows * runs.columns * runs.pixel + lanes<A>;
    const int64_t gathered_at = scratch.add<A>(runs.direct ? 0 : room);
    const int64_t line_at = scratch.add<A>(runs.direct || p.multiplier == 1 ? 0 : room);
    const int64_t y_at = scratch.add<A>(runs.in_place ? 0 : room);
    const int64_t z_at = scratch.add<A>(runs.in_place ? 0 : room);
    if (!scratch.allocate()) return false;
    A* const gathered = scratch.at<A>(gathered_at);
    A repeated[4 * lanes<A>];
    for (int64_t i = runs.count * task / tasks; i < runs.count * (task + 1) / tasks; ++i) {
      const int64_t w = i % runs.column_runs * runs.columns;
      const int64_t h = i / runs.column_runs % runs.row_runs * runs.rows;
      const int64_t plane = i / runs.column_runs / runs.row_runs;
      const int64_t channel = first ? plane % p.channels : 0;
      const int64_t image = first ? plane / p.channels : plane;
      const int64_t rows = min_of(runs.rows, p.out_height - h);
      const int64_t columns = min_of(runs.columns, p.out_width - w);
      const T* const row =
          image_at<T>(call.x, p.x, image, channel).data + h * p.stride_height * p.x.row;
      const T* const x = row + w * p.stride_width * p.x.column;
      if (!runs.direct) {
        gather_run(gathered, scratch.at<A>(line_at), p, gather, x,
                   row + (p.in_width - 1) * p.x.column + p.channels, rows, columns);
      }
      for (int64_t m = 0; m < planes; ++m) {
        const int64_t output = channel * planes + m;
        const TargetView<T> y = target_at<T>(call.y, p.y, image, output);
        const TargetView<T> z = target_at<T>(call.preactivation, p.saved, image, output);
        const Pattern<A> pattern = first ? patterns.of(output, repeated) : patterns.side_by_side();
        const auto run = [&](const auto& with, auto* to, auto* saved) {
          const int64_t count = rows * columns * runs.pixel;
          if (runs.direct) {
            with.run(x, to, saved, count, pattern);
          } else {
            with.run(static_cast<const A*>(gathered), to, saved, count, pattern);
          }
        };
        const bool saves = z.data != nullptr;
        if (runs.in_place) {
          run(scale, y.data + h * y.row + w * y.column,
              saves ? z.data + h * z.row + w * z.column : nullptr);
          continue;
        }
        A* const y_run = scratch.at<A>(y_at);
        A* const z_run = scratch.at<A>(z_at);
        run(scale_apart, y_run, saves ? z_run : nullptr);
        move_run(y, h, w, runs, y_run, columns);
        if (saves) move_run(z, h, w, runs, z_run, columns);
      }
    }
    if (scale.streams) finish_streaming();
    return true;
  });
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_SCALE_FORWARD_H_
