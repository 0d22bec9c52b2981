// Dense tiles of the channels family for kernels that reach over the whole row of the source from
// each of the tile's columns, as RepLKNet's of 27x27 do on 14x14 and of 13x13 on 7x7. Clipped tiles
// go over the taps that any column has, which there are 20 for 14 elements and 13 for 7; these go
// over the elements. Two cores of a Zen 4 took for 27x27 on 14x14x768 422 us so and 303 like this,
// in another order of sums.
#ifndef DEPTHWISE_KERNELS_COVERING_TILE_H_
#define DEPTHWISE_KERNELS_COVERING_TILE_H_

#include "channels_tile.h"

namespace depthwise::DW_ISA {

// Whether sums and as many weights, which stay for as many elements, fit the registers.
constexpr bool covering_fits(int rows, int columns) {
  return 2 * rows * columns + 1 < vector_registers;
}

// Adds one row of the source to the rows of results [first, last): `count` elements `x_step` apart.
// Column t takes the i-th one times the weight that is i - t taps after `w`.
template <int first, int last, Loading loading, class S, int rows, int columns>
DW_INLINE void add_elements(Vec<Compute<S>> (&sums)[rows][columns][1],
                            const Elements<loading, S>& elements, const S* x, int64_t x_step,
                            int64_t count, const Compute<S>* const (&w)[rows], int64_t w_tap) {
  using A = Compute<S>;
  // From one element to the next each column's weight becomes the next column's: it stays where it
  // is, and the columns go round.
  Vec<A> weights[rows][columns];
  const A* next[rows];
#pragma GCC unroll 2
  for (int o = first; o < last; ++o) {
#pragma GCC unroll 8
    for (int t = 1; t < columns; ++t) weights[o][t] = load(w[o] - t * w_tap);
    next[o] = w[o];
  }
  for (int64_t i = 0; i < count; i += columns) {
#pragma GCC unroll 8
    for (int j = 0; j < columns; ++j) {
      if (i + j >= count) return;
      const Vec<A> element = in_register(elements(x));
      x += x_step;
#pragma GCC unroll 2
      for (int o = first; o < last; ++o) {
        weights[o][(columns - j) % columns] = load(next[o]);
        next[o] += w_tap;
#pragma GCC unroll 8
        for (int t = 0; t < columns; ++t) {
          sums[o][t][0] = fma(element, weights[o][(columns + t - j) % columns], sums[o][t][0]);
        }
      }
    }
  }
}

// `tile` is as for a clipped tile, but for its taps: so many elements there are, from `x_first` on,
// the first of which is multiplied with the weight at `w_first` in the tile's first column.
template <int rows, int columns, Loading loading, class S>
void covering_tile(const Tile<S>& given) {
  using A = Compute<S>;
  const Tile<S> tile = given;
  HalfLines<S> halves;
  Sink<S> sink(given, &halves);
  Asking asking = asking_of(tile, tile.channels / lanes<A>);
  over_channels<A>(0, tile.channels, [&](int64_t channel) DW_INLINE_LAMBDA {
    asking.ask();
    const Elements<loading, S> elements(channel, tile.channels, tile.multiplier);
    Vec<A> sums[rows][columns][1];
    sink.start(channel, sums);
    const RowTaps<S>* row = tile.rows;
    const auto add_rows = [&]<int first, int last>(int64_t count) DW_INLINE_LAMBDA {
      for (const RowTaps<S>* const stop = row + count; row < stop; ++row) {
        const A* w[rows];
#pragma GCC unroll 2
        for (int o = 0; o < rows; ++o) w[o] = row->w[o] + tile.w_first + channel;
        add_elements<first, last, loading, S>(sums, elements,
                                              row->x + tile.x_first + elements.offset, tile.x_tap,
                                              tile.tap_count, w, tile.w_tap);
      }
    };
    add_rows.template operator()<0, 1>(tile.single_rows);
    if constexpr (rows == 2) {
      add_rows.template operator()<0, 2>(tile.shared_rows);
      add_rows.template operator()<1, 2>(tile.second_rows);
    }
#pragma GCC unroll 2
    for (int o = 0; o < rows; ++o) sink.template put<columns, 1>(o, channel, sums[o]);
  });
}

// Null where there is none: a row by itself has one only where two of them have, for whether rows
// go in pairs must not show in the bits.
template <int rows, int columns, int stride, Loading loading, class S>
constexpr TileFunction<S> covering_tile_or_none() {
  if constexpr (stride == 1 && covering_fits(tile_rows, columns)) {
    return covering_tile<rows, columns, loading, S>;
  } else {
    return nullptr;
  }
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_COVERING_TILE_H_
