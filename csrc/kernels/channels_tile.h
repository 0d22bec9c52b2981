// Register tiles of the channels family: vectors run along channels, a tile holds a few columns of
// one row of results. The forward pass and the gradient of the input are the same sums.
#ifndef DEPTHWISE_KERNELS_CHANNELS_TILE_H_
#define DEPTHWISE_KERNELS_CHANNELS_TILE_H_

#include "rows.h"
#include "tuning.h"

namespace depthwise::DW_ISA {

// One row of taps: a row of the source at column 0, and a row of the packed kernel at its column 0.
template <class A>
struct RowTaps {
  const A* x;
  const A* w;
};

// What is done to a sum before it is stored.
template <class A>
struct Finish {
  const A* bias;  // null for none
  ClampRange<A> clamp;
  int activation;
  A alpha;
  bool stream;  // past the caches, where lines are written whole
};

// A tile's sums over `row_count` rows of `tap_count` taps, for all channels of a block.
template <class S>
struct Tile {
  using A = Compute<S>;
  const RowTaps<A>* rows;
  int64_t row_count, tap_count;
  int64_t x_first, x_step, x_tap;  // offsets: tile's first column and tap, next column, next tap
  int64_t w_first, w_tap;
  int64_t channels;
  S* out;  // the tile's first column
  int64_t out_step;
  S* preactivation;  // null unless asked for
  int64_t preactivation_step;
  const Finish<A>* finish;
  int64_t position, extent;  // only for source_tile
};

// The paths off the straight one: fewer channels than a vector, an activation that is no clamp, a
// pre-activation to keep.
template <class S>
[[gnu::noinline]] void finish_slowly(const Tile<S>& tile, int64_t column, int64_t channel,
                                     Vec<Compute<S>> z) {
  const Finish<Compute<S>>& f = *tile.finish;
  const int64_t left = min_of(lanes<Compute<S>>, tile.channels - channel);
  if (tile.preactivation != nullptr) {
    store_part(tile.preactivation + column * tile.preactivation_step + channel, z, left);
  }
  store_part(tile.out + column * tile.out_step + channel,
             activate<Compute<S>>(f.activation, f.alpha, z), left);
}

// A copy of the finish and the target that no store can alias: a tile's loops keep it in registers.
template <class S>
struct Sink {
  using A = Compute<S>;
  const Tile<S>* tile;
  S* out;
  int64_t out_step;
  const A* bias;
  Vec<A> low, high;
  bool straight, streams;

  DW_INLINE explicit Sink(const Tile<S>& t)
      : tile(&t),
        out(t.out),
        out_step(t.out_step),
        bias(t.finish->bias),
        low(broadcast(t.finish->clamp.low)),
        high(broadcast(t.finish->clamp.high)),
        straight(t.finish->clamp.is_clamp && t.preactivation == nullptr && t.channels >= lanes<A>),
        streams(straight && t.finish->stream && writes_whole_lines(t)) {}

  static bool writes_whole_lines(const Tile<S>& t) {
    const int64_t step = t.out_step * static_cast<int64_t>(sizeof(S));
    return t.channels % lanes<A> == 0 && (reinterpret_cast<uintptr_t>(t.out) | step) % 64 == 0;
  }

  template <int columns, int vectors>
  DW_INLINE void put(int64_t channel, const Vec<A> (&sums)[columns][vectors]) const {
    const auto each = [&](auto&& one) DW_INLINE_LAMBDA {
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) {
        const int64_t c = channel + v * lanes<A>;
        const Vec<A> b = bias != nullptr ? load(bias + c) : zero<A>();
        S* to = out + c;
#pragma GCC unroll 16
        for (int t = 0; t < columns; ++t, to += out_step) one(to, t, c, sums[t][v] + b);
      }
    };
    if constexpr (can_stream<S>) {
      if (streams) {
        each([&](S* to, int, int64_t, Vec<A> z)
                 DW_INLINE_LAMBDA { stream(to, clamp(z, low, high)); });
        return;
      }
    }
    if (straight) {
      each([&](S* to, int, int64_t, Vec<A> z) DW_INLINE_LAMBDA { store(to, clamp(z, low, high)); });
    } else {
      each([&](S*, int t, int64_t c, Vec<A> z) DW_INLINE_LAMBDA { finish_slowly(*tile, t, c, z); });
    }
  }
};

// Any taps: each element of the source is loaded once per tap.
template <int columns, int vectors, class S>
DW_INLINE void any_tile_at(const Tile<S>& tile, const Sink<S>& sink, int64_t channel) {
  using A = Compute<S>;
  Vec<A> sums[columns][vectors] = {};
  for (int64_t r = 0; r < tile.row_count; ++r) {
    const A* x = tile.rows[r].x + tile.x_first + channel;
    const A* w = tile.rows[r].w + tile.w_first + channel;
    for (int64_t q = 0; q < tile.tap_count; ++q, x += tile.x_tap, w += tile.w_tap) {
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) {
        const Vec<A> weight = load(w + v * lanes<A>);
#pragma GCC unroll 16
        for (int t = 0; t < columns; ++t) {
          sums[t][v] = fma(load(x + t * tile.x_step + v * lanes<A>), weight, sums[t][v]);
        }
      }
    }
  }
  sink.template put<columns, vectors>(channel, sums);
}

// `taps` adjacent taps and columns `stride` taps apart: each element of the source is loaded once
// per row of taps and feeds every sum that it belongs to.
template <int columns, int taps, int stride, class S>
DW_INLINE void dense_tile_at(const Tile<S>& tile, const Sink<S>& sink, int64_t channel) {
  using A = Compute<S>;
  Vec<A> sums[columns][1] = {};
  for (int64_t r = 0; r < tile.row_count; ++r) {
    const A* x = tile.rows[r].x + tile.x_first + channel;
    const A* w = tile.rows[r].w + tile.w_first + channel;
    Vec<A> weights[taps];
#pragma GCC unroll 16
    for (int q = 0; q < taps; ++q) weights[q] = load(w + q * tile.w_tap);
#pragma GCC unroll 32
    for (int i = 0; i < (columns - 1) * stride + taps; ++i) {
      const Vec<A> value = in_register(load(x + i * tile.x_tap));
#pragma GCC unroll 16
      for (int t = 0; t < columns; ++t) {
        const int q = i - t * stride;
        if (q >= 0 && q < taps) sums[t][0] = fma(value, weights[q], sums[t][0]);
      }
    }
  }
  sink.template put<columns, 1>(channel, sums);
}

// Adjacent taps, more of them than columns: each element of the source is loaded once per row of
// taps and multiplied with the weight that each column has for it. The taps may reach beyond the
// source, whose columns are [0, extent); `position` is that of the first column's first tap.
template <int columns, class S>
DW_INLINE void source_tile_at(const Tile<S>& tile, const Sink<S>& sink, int64_t channel) {
  using A = Compute<S>;
  Vec<A> sums[columns][1] = {};
  const int64_t first = max_of(0, tile.position);
  const int64_t last = min_of(tile.extent, tile.position + tile.tap_count + columns - 1);
  // Between them every column has a tap for every element.
  const int64_t all_first = min_of(last, max_of(first, tile.position + columns - 1));
  const int64_t all_last = max_of(all_first, min_of(last, tile.position + tile.tap_count));
  for (int64_t r = 0; r < tile.row_count; ++r) {
    const A* const x = tile.rows[r].x + channel;
    const A* const w = tile.rows[r].w + tile.w_first + channel;
    const auto some = [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const Vec<A> value = load(x + i * tile.x_tap);
#pragma GCC unroll 16
        for (int t = 0; t < columns; ++t) {
          const int64_t q = i - tile.position - t;
          if (q >= 0 && q < tile.tap_count) {
            sums[t][0] = fma(value, load(w + q * tile.w_tap), sums[t][0]);
          }
        }
      }
    };
    some(first, all_first);
    const A* weights = w + (all_first - tile.position) * tile.w_tap;
    for (int64_t i = all_first; i < all_last; ++i, weights += tile.w_tap) {
      const Vec<A> value = load(x + i * tile.x_tap);
#pragma GCC unroll 16
      for (int t = 0; t < columns; ++t) {
        sums[t][0] = fma(value, load(weights - t * tile.w_tap), sums[t][0]);
      }
    }
    some(all_last, last);
  }
  sink.template put<columns, 1>(channel, sums);
}

// Runs `at` on whole vectors; what is left of the channels overlaps the vector before it. One call
// site, so that the compiler inlines it.
template <class A>
DW_INLINE void over_channels(int64_t begin, int64_t channels, auto at) {
  const int64_t last = max_of(0, channels - lanes<A>);
  for (int64_t c = begin; c < channels; c += lanes<A>) at(min_of(c, last));
}

template <class S>
using TileFunction = void (*)(const Tile<S>&);

template <int columns, int vectors, class S>
void any_tile(const Tile<S>& given) {
  using A = Compute<S>;
  const Tile<S> tile = given;
  const Sink<S> sink(given);
  int64_t c = 0;
  if constexpr (vectors > 1) {
    for (; c + vectors * lanes<A> <= tile.channels; c += vectors * lanes<A>) {
      any_tile_at<columns, vectors>(tile, sink, c);
    }
  }
  over_channels<A>(c, tile.channels, [&](int64_t channel) DW_INLINE_LAMBDA {
    any_tile_at<columns, 1>(tile, sink, channel);
  });
}

template <int columns, int taps, int stride, class S>
void dense_tile(const Tile<S>& given) {
  const Tile<S> tile = given;
  const Sink<S> sink(given);
  over_channels<Compute<S>>(0, tile.channels, [&](int64_t channel) DW_INLINE_LAMBDA {
    dense_tile_at<columns, taps, stride>(tile, sink, channel);
  });
}

template <int columns, class S>
void source_tile(const Tile<S>& given) {
  const Tile<S> tile = given;
  const Sink<S> sink(given);
  over_channels<Compute<S>>(0, tile.channels, [&](int64_t channel) DW_INLINE_LAMBDA {
    source_tile_at<columns>(tile, sink, channel);
  });
}

// Columns of a full tile: as many sums as leave room for a row of weights and one operand in 16
// registers (32 with AVX-512 and NEON, where more columns were not faster for these sizes).
constexpr int tile_columns = 8;
constexpr int wide_kernel_columns = 6;  // for 7 taps

// The tile of `tile_columns` columns (or `wide_kernel_columns`: see `columns`) for these taps.
template <class S>
struct TileChoice {
  TileFunction<S> function;
  int columns;
};

template <int stride, class S>
TileChoice<S> choose_dense_tile(int64_t taps) {
  switch (taps) {
    case 2:
      return {dense_tile<tile_columns, 2, stride, S>, tile_columns};
    case 3:
      return {dense_tile<tile_columns, 3, stride, S>, tile_columns};
    case 4:
      return {dense_tile<tile_columns, 4, stride, S>, tile_columns};
    case 5:
      return {dense_tile<tile_columns, 5, stride, S>, tile_columns};
    case 7:
      return {dense_tile<wide_kernel_columns, 7, stride, S>, wide_kernel_columns};
    default:
      return {any_tile<tile_columns, 1, S>, tile_columns};
  }
}

template <class S>
TileChoice<S> choose_tile(const AxisPlan& columns) {
  if (columns.tap_step == 1 && columns.result_step == 1) {
    return choose_dense_tile<1, S>(columns.taps);
  }
  if (columns.tap_step == 1 && columns.result_step == 2) {
    return choose_dense_tile<2, S>(columns.taps);
  }
  return {any_tile<tile_columns, 1, S>, tile_columns};
}

// Whether rows go by source_tile: with many taps most of a tile's elements serve all of its
// columns, and hardly any column is free of clipped taps.
inline bool by_source(const AxisPlan& plan) {
  return plan.taps >= tuning::source_tile_taps && plan.tap_step == 1 && plan.result_step == 1;
}

// One row of results: full tiles where every tap meets the source, single columns with clipped taps
// at the borders. `tile` has its rows, channels, w_tap, out (column 0 of the plan's target),
// out_step (target column to column) and finish set; `pitch` is the source's column step. Calls
// before_tile(first, last) for the columns of the source that a full tile goes over.
template <class S>
void run_row(const AxisPlan& plan, const TileChoice<S>& choice, int64_t pitch, int64_t w_pitch,
             Tile<S> tile, auto&& before_tile) {
  S* const out = tile.out;
  S* const preactivation = tile.preactivation;
  const int64_t out_step = tile.out_step, preactivation_step = tile.preactivation_step;
  tile.x_step = plan.result_step * pitch;
  tile.x_tap = plan.tap_step * pitch;
  tile.w_tap = plan.kernel_step * w_pitch;
  tile.out_step = out_step * plan.target_step;
  tile.preactivation_step = preactivation_step * plan.target_step;
  const auto run = [&](int64_t t, TapRange taps, TileFunction<S> function) {
    const int64_t target = plan.target_first + t * plan.target_step;
    tile.x_first = (plan.position_of(t) + taps.begin * plan.tap_step) * pitch;
    tile.w_first = (plan.kernel_first + taps.begin * plan.kernel_step) * w_pitch;
    tile.tap_count = taps.end - taps.begin;
    tile.out = out + target * out_step;
    tile.preactivation =
        preactivation != nullptr ? preactivation + target * preactivation_step : nullptr;
    function(tile);
  };
  const TapRange all{0, plan.taps};
  int64_t t = 0;
  if (by_source(plan)) {
    tile.extent = plan.extent;
    const auto run_source = [&](TileFunction<S> function, int columns) {
      for (; t + columns <= plan.count; t += columns) {
        tile.position = plan.position_of(t);
        run(t, all, function);
      }
    };
    run_source(source_tile<8, S>, 8);
    run_source(source_tile<4, S>, 4);
    run_source(source_tile<2, S>, 2);
    run_source(source_tile<1, S>, 1);
    return;
  }
  for (; t < plan.full_begin; ++t) run(t, plan.valid_taps(t), any_tile<1, 4, S>);
  for (; t + choice.columns <= plan.full_end; t += choice.columns) {
    before_tile(plan.position_of(t), plan.position_of(t + choice.columns));
    run(t, all, choice.function);
  }
  for (; t + 4 <= plan.full_end; t += 4) run(t, all, any_tile<4, 2, S>);
  for (; t + 2 <= plan.full_end; t += 2) run(t, all, any_tile<2, 4, S>);
  for (; t < plan.count; ++t) run(t, plan.valid_taps(t), any_tile<1, 4, S>);
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_CHANNELS_TILE_H_
