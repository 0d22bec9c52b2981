// Register tiles of the channels family: vectors run along channels, a tile holds a few columns of
// one row of results. The forward pass and the gradient of the input are the same sums.
#ifndef DEPTHWISE_KERNELS_CHANNELS_TILE_H_
#define DEPTHWISE_KERNELS_CHANNELS_TILE_H_

#include "rows.h"

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

template <int columns, int vectors, class S>
DW_INLINE void finish_tile(const Tile<S>& tile, int64_t channel,
                           const Vec<Compute<S>> (&sums)[columns][vectors]) {
  using A = Compute<S>;
  const Finish<A>& f = *tile.finish;
  const bool straight =
      f.clamp.is_clamp && tile.preactivation == nullptr && tile.channels >= lanes<A>;
  const Vec<A> low = broadcast(f.clamp.low), high = broadcast(f.clamp.high);
#pragma GCC unroll 8
  for (int v = 0; v < vectors; ++v) {
    const int64_t c = channel + v * lanes<A>;
    const Vec<A> bias = f.bias != nullptr ? load(f.bias + c) : zero<A>();
#pragma GCC unroll 16
    for (int t = 0; t < columns; ++t) {
      const Vec<A> z = sums[t][v] + bias;
      if (straight) {
        store(tile.out + t * tile.out_step + c, clamp(z, low, high));
      } else {
        finish_slowly(tile, t, c, z);
      }
    }
  }
}

// Any taps: each element of the source is loaded once per tap.
template <int columns, int vectors, class S>
DW_INLINE void any_tile_at(const Tile<S>& tile, int64_t channel) {
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
  finish_tile<columns, vectors>(tile, channel, sums);
}

// `taps` adjacent taps and columns `stride` taps apart: each element of the source is loaded once
// per row of taps and feeds every sum that it belongs to.
template <int columns, int taps, int stride, class S>
DW_INLINE void dense_tile_at(const Tile<S>& tile, int64_t channel) {
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
      const Vec<A> value = load(x + i * tile.x_tap);
#pragma GCC unroll 16
      for (int t = 0; t < columns; ++t) {
        const int q = i - t * stride;
        if (q >= 0 && q < taps) sums[t][0] = fma(value, weights[q], sums[t][0]);
      }
    }
  }
  finish_tile<columns, 1>(tile, channel, sums);
}

// Runs `at` on whole vectors; what is left of the channels overlaps the vector before it.
template <int vectors, class S, class At>
DW_INLINE void over_channels(const Tile<S>& tile, At at_many, auto at_one) {
  constexpr int64_t n = lanes<Compute<S>>;
  int64_t c = 0;
  if constexpr (vectors > 1) {
    for (; c + vectors * n <= tile.channels; c += vectors * n) at_many(c);
  }
  for (; c + n <= tile.channels; c += n) at_one(c);
  if (c < tile.channels) at_one(tile.channels >= n ? tile.channels - n : 0);
}

template <class S>
using TileFunction = void (*)(const Tile<S>&);

template <int columns, int vectors, class S>
void any_tile(const Tile<S>& tile) {
  over_channels<vectors>(
      tile, [&](int64_t c) { any_tile_at<columns, vectors>(tile, c); },
      [&](int64_t c) { any_tile_at<columns, 1>(tile, c); });
}

template <int columns, int taps, int stride, class S>
void dense_tile(const Tile<S>& tile) {
  const auto at = [&](int64_t c) { dense_tile_at<columns, taps, stride>(tile, c); };
  over_channels<1>(tile, at, at);
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

// One row of results: full tiles where every tap meets the source, single columns with clipped taps
// at the borders. `tile` has its rows, channels, w_tap, out (column 0 of the plan's target),
// out_step (target column to column) and finish set; `pitch` is the source's column step.
template <class S>
void run_row(const AxisPlan& plan, const TileChoice<S>& choice, int64_t pitch, int64_t w_pitch,
             Tile<S> tile) {
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
    tile.preactivation = preactivation != nullptr ? preactivation + target * preactivation_step
                                                  : nullptr;
    function(tile);
  };
  const TapRange all{0, plan.taps};
  int64_t t = 0;
  for (; t < plan.full_begin; ++t) run(t, plan.valid_taps(t), any_tile<1, 4, S>);
  for (; t + choice.columns <= plan.full_end; t += choice.columns) run(t, all, choice.function);
  for (; t + 4 <= plan.full_end; t += 4) run(t, all, any_tile<4, 2, S>);
  for (; t + 2 <= plan.full_end; t += 2) run(t, all, any_tile<2, 4, S>);
  for (; t < plan.count; ++t) run(t, plan.valid_taps(t), any_tile<1, 4, S>);
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_CHANNELS_TILE_H_
