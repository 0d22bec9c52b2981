// Register tiles of the channels family: vectors run along channels, a tile holds a few columns of
// one or two rows of results. The forward pass and the gradient of the input are the same sums.
#ifndef DEPTHWISE_KERNELS_CHANNELS_TILE_H_
#define DEPTHWISE_KERNELS_CHANNELS_TILE_H_

#include "channels_sink.h"

namespace depthwise::DW_ISA {

// Any taps, one row of results: each element of the source is loaded once per tap.
template <int columns, int vectors, Loading loading, class S>
DW_INLINE void any_tile_at(const Tile<S>& tile, const Sink<S>& sink, int64_t channel) {
  using A = Compute<S>;
  Elements<loading, S> elements[vectors];
#pragma GCC unroll 8
  for (int v = 0; v < vectors; ++v) {
    elements[v] = {channel + v * lanes<A>, tile.channels, tile.multiplier};
  }
  Vec<A> sums[1][columns][vectors];
  sink.start(channel, sums);
  for (int64_t r = 0; r < tile.single_rows; ++r) {
    const S* x = tile.rows[r].x + tile.x_first;
    const A* w = tile.rows[r].w[0] + tile.w_first + channel;
    for (int64_t q = 0; q < tile.tap_count; ++q, x += tile.x_tap, w += tile.w_tap) {
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) {
        const Vec<A> weight = load(w + v * lanes<A>);
#pragma GCC unroll 16
        for (int t = 0; t < columns; ++t) {
          sums[0][t][v] =
              fma(elements[v](x + elements[v].offset + t * tile.x_step), weight, sums[0][t][v]);
        }
      }
    }
  }
  sink.template put<columns, vectors>(0, channel, sums[0]);
}

// Most taps of a row whose weights a dense tile keeps in registers.
constexpr int most_piece_taps = 5;

// A row of taps cut into pieces of nearly equal length, for dense tiles.
struct Pieces {
  int64_t count, taps, longer;  // the first `longer` ones have a tap more

  explicit Pieces(int64_t all)
      : count(ceil_div(all, most_piece_taps)),
        taps(quotient(all, max_of(1, count))),
        longer(all - taps * count) {}

  // Calls add.operator()<n>() for each piece, of n taps, in order.
  DW_INLINE void each(auto&& add) const {
    for (int64_t i = 0; i < count; ++i) {
      switch (taps + (i < longer ? 1 : 0)) {
        case 1:
          add.template operator()<1>();
          break;
        case 2:
          add.template operator()<2>();
          break;
        case 3:
          add.template operator()<3>();
          break;
        case 4:
          add.template operator()<4>();
          break;
        default:
          add.template operator()<most_piece_taps>();
      }
    }
  }
};

// Adds `taps` adjacent taps to the rows of results [first, last) of a dense tile: each element of
// the source is loaded once, by load_element(i) in ascending order, and feeds every sum that it
// belongs to.
template <int first, int last, int taps, int stride, class A, int rows, int columns>
DW_INLINE void add_piece(Vec<A> (&sums)[rows][columns][1], auto&& load_element,
                         const A* const (&w)[rows], int64_t w_tap) {
  Vec<A> weights[rows][taps];
#pragma GCC unroll 2
  for (int o = first; o < last; ++o) {
#pragma GCC unroll 16
    for (int q = 0; q < taps; ++q) weights[o][q] = load(w[o] + q * w_tap);
  }
#pragma GCC unroll 64
  for (int i = 0; i < (columns - 1) * stride + taps; ++i) {
    const Vec<A> element = in_register(load_element(i));
#pragma GCC unroll 2
    for (int o = first; o < last; ++o) {
#pragma GCC unroll 16
      for (int t = 0; t < columns; ++t) {
        const int q = i - t * stride;
        if (q >= 0 && q < taps) sums[o][t][0] = fma(element, weights[o][q], sums[o][t][0]);
      }
    }
  }
}

// Whether dense tiles have code of their own for the usual three and five taps in a row, and need
// not look how many there are for each vector. With AVX2 a Zen 1 took for a vector of a tile, in
// cycles, looking and not looking, for 3x3 on 8 columns 117 and 101, for 5x5 on 7 columns 223 and
// 207; one core for 3x3 on 28x28x64 52 us and 46, for 5x5 on 14x14x512 203 and 190, for 3x3 on
// 56x56x32 by 2, whose elements are repeated from runs, 247 and 226. Other sets were not measured,
// and tiles are 1.3 times as large so.
template <int stride, Loading loading, class S>
inline constexpr bool knows_taps =
    DW_VECTOR_BYTES == 32 && stride <= 2 && loading != Loading::repeated && is_compute_type<S>;

// Adjacent taps and columns `stride` taps apart. The elements lie `x_tap` apart, or where
// `elements` says. `known`: the taps of a row, if these are one piece, or 0.
template <int known, int rows, int columns, int stride, bool clipped, Loading loading, class S>
DW_INLINE void dense_tile_at(const Tile<S>& tile, const Sink<S>& sink, const Pieces& pieces,
                             int64_t channel) {
  using A = Compute<S>;
  const Elements<loading, S> elements(channel, tile.channels, tile.multiplier);
  Vec<A> sums[rows][columns][1];
  sink.start(channel, sums);
  int64_t first_tap = 0;
  const auto add = [&]<int taps>() DW_INLINE_LAMBDA {
    const int64_t x_first = tile.x_first + first_tap * tile.x_tap;
    const int64_t w_first = tile.w_first + first_tap * tile.w_tap + channel;
    const RowTaps<S>* row = tile.rows;
    const S* const* places = tile.elements + first_tap;
    const auto add_rows = [&]<int first, int last>(int64_t count) DW_INLINE_LAMBDA {
      for (const RowTaps<S>* const stop = row + count; row < stop; ++row) {
        const A* w[rows];
#pragma GCC unroll 2
        for (int o = 0; o < rows; ++o) w[o] = row->w[o] + w_first;
        if constexpr (clipped) {
          add_piece<first, last, taps, stride>(
              sums, [&](int i) DW_INLINE_LAMBDA { return elements(places[i] + elements.offset); },
              w, tile.w_tap);
          places += tile.row_elements;
        } else {
          const S* const x = row->x + x_first + elements.offset;
          add_piece<first, last, taps, stride>(
              sums,
              [at = x, &tile, &elements](int) mutable DW_INLINE_LAMBDA {
                const Vec<A> element = elements(at);
                at += tile.x_tap;
                return element;
              },
              w, tile.w_tap);
        }
      }
    };
    add_rows.template operator()<0, 1>(tile.single_rows);
    if constexpr (rows == 2) {
      add_rows.template operator()<0, 2>(tile.shared_rows);
      add_rows.template operator()<1, 2>(tile.second_rows);
    }
    first_tap += taps;
  };
  if constexpr (known > 0) {
    add.template operator()<known>();
  } else {
    pieces.each(add);
  }
#pragma GCC unroll 2
  for (int o = 0; o < rows; ++o) sink.template put<columns, 1>(o, channel, sums[o]);
}

// Runs `at` on whole vectors; what is left of the channels overlaps the vector before it. One call
// site, so that the compiler inlines it.
template <class A>
DW_INLINE void over_channels(int64_t begin, int64_t channels, auto at) {
  const int64_t last = max_of(0, channels - lanes<A>);
  for (int64_t c = begin; c < channels; c += lanes<A>) at(min_of(c, last));
}

// The same for all channels, from the last vector to the first one if `descends`.
template <class A>
DW_INLINE void over_all_channels(int64_t channels, bool descends, auto at) {
  const int64_t last = max_of(0, channels - lanes<A>);
  const int64_t step = descends ? -lanes<A> : lanes<A>;
  int64_t c = descends ? round_up(channels, lanes<A>) - lanes<A> : 0;
  for (int64_t left = ceil_div(channels, lanes<A>); left > 0; --left, c += step) {
    at(min_of(c, last));
  }
}

template <class S>
using TileFunction = void (*)(const Tile<S>&);

// Calls `at` for each of a tile's repeats; `tile` and `sink` go along.
template <int columns, class S>
DW_INLINE void over_repeats(Tile<S>& tile, Sink<S>& sink, auto at) {
  for (int64_t left = tile.repeats; left > 0; --left) {
    at();
    tile.x_first += columns * tile.x_step;
    sink.move(columns);
  }
}

// As many whole vectors of the channels from `c` on as there are, by `vectors` at once and by fewer
// only for what is left: the sums of one vector by itself wait for each other. Returns where it
// stops.
template <int columns, int vectors, Loading loading, class S>
DW_INLINE int64_t any_tile_over(const Tile<S>& tile, const Sink<S>& sink, Asking& asking,
                                int64_t c) {
  constexpr int64_t step = vectors * lanes<Compute<S>>;
  for (; c + step <= tile.channels; c += step) {
    asking.ask();
    any_tile_at<columns, vectors, loading>(tile, sink, c);
  }
  if constexpr (vectors > 2) {
    return any_tile_over<columns, vectors - 1, loading>(tile, sink, asking, c);
  }
  return c;
}

template <int columns, int vectors, Loading loading, class S>
void any_tile(const Tile<S>& given) {
  using A = Compute<S>;
  Tile<S> tile = given;
  HalfLines<S> halves;
  Sink<S> sink(given, &halves);
  Asking asking = asking_of(tile, max_of(1, tile.channels / (vectors * lanes<A>)));
  over_repeats<columns>(tile, sink, [&]() DW_INLINE_LAMBDA {
    int64_t c = 0;
    if constexpr (vectors > 1) c = any_tile_over<columns, vectors, loading>(tile, sink, asking, c);
    over_channels<A>(c, tile.channels, [&](int64_t channel) DW_INLINE_LAMBDA {
      asking.ask();
      any_tile_at<columns, 1, loading>(tile, sink, channel);
    });
  });
}

template <int rows, int columns, int stride, bool clipped, Loading loading, class S>
void dense_tile(const Tile<S>& given) {
  Tile<S> tile = given;
  HalfLines<S> halves;
  Sink<S> sink(given, &halves);
  const Pieces pieces(tile.tap_count);
  Asking asking = asking_of(tile, tile.channels / lanes<Compute<S>>);
  const auto go = [&]<int known>() DW_INLINE_LAMBDA {
    const auto once = [&]() DW_INLINE_LAMBDA {
      over_all_channels<Compute<S>>(tile.channels, tile.last_first,
                                    [&](int64_t channel) DW_INLINE_LAMBDA {
                                      asking.ask();
                                      dense_tile_at<known, rows, columns, stride, clipped, loading>(
                                          tile, sink, pieces, channel);
                                    });
    };
    if constexpr (clipped) {
      once();
    } else {
      over_repeats<columns>(tile, sink, once);
    }
  };
  if constexpr (knows_taps<stride, loading, S>) {
    if (tile.tap_count == 3) return go.template operator()<3>();
    if (tile.tap_count == 5) return go.template operator()<5>();
  }
  go.template operator()<0>();
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_CHANNELS_TILE_H_
