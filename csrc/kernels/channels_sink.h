// What a register tile of the channels family is given, and where its sums go: through the
// activation to the results, past the caches or not.
#ifndef DEPTHWISE_KERNELS_CHANNELS_SINK_H_
#define DEPTHWISE_KERNELS_CHANNELS_SINK_H_

#include "rows.h"

namespace depthwise::DW_ISA {

// Rows of results that one tile may hold: where there are registers for two, a row of the source
// feeds both.
constexpr int tile_rows = vector_registers == 32 ? 2 : 1;

// Columns of a dense tile: as many sums as leave room for a piece's weights and one operand in 16
// registers, and for two rows of them in 32.
constexpr int tile_columns = 8;

// A row of the source at column 0, and for each of the tile's rows of results the row of the packed
// kernel, at its column 0, that is multiplied with it.
template <class S>
struct RowTaps {
  const S* x;
  const Compute<S>* w[tile_rows];
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

// A tile's sums over rows of `tap_count` taps each, for all channels of a block, of numbers that
// are read and written in type S, and those of `repeats` tiles of as many columns side by side. The
// first `single_rows` rows of taps are those of the first row of results, the next `shared_rows` of
// both, the last `second_rows` of the second.
template <class S>
struct Tile {
  using A = Compute<S>;
  const RowTaps<S>* rows;
  int64_t single_rows, shared_rows, second_rows;
  int64_t tap_count;
  int64_t x_first, x_step, x_tap;  // offsets: tile's first column and tap, next column, next tap
  int64_t w_first, w_tap;
  int64_t channels;
  int64_t multiplier;  // results of each of the source's channels, which are repeated on loading
  int64_t repeats;     // 1 for a clipped tile
  bool last_first;     // a dense tile begins with the last channels
  S* out;              // the first tile's first column
  int64_t out_step, out_row;
  S* preactivation;  // null unless asked for
  int64_t preactivation_step, preactivation_row;
  const Finish<A>* finish;
  // For a clipped tile: where the element of each column of each row of the source lies, one row
  // after the other, `row_elements` of them each.
  const S* const* elements;
  int64_t row_elements;
  const Ahead* ahead;  // rows to be asked for on the way, in [ahead_begin, ahead_end); null: none
  int64_t ahead_begin, ahead_end;
};

// `calls` are how often it will be told to ask.
template <class S>
DW_INLINE Asking asking_of(const Tile<S>& tile, int64_t calls) {
  if (tile.ahead == nullptr) return {};
  return {*tile.ahead, tile.ahead_begin, tile.ahead_end, calls * tile.repeats};
}

// The paths off the straight one: an activation that is no clamp, a pre-activation to keep.
template <class S>
[[gnu::noinline]] void finish_slowly(const Tile<S>& tile, int64_t row, int64_t column,
                                     int64_t channel, Vec<Compute<S>> z) {
  const Finish<Compute<S>>& f = *tile.finish;
  const int64_t left = min_of(lanes<Compute<S>>, tile.channels - channel);
  if (tile.preactivation != nullptr) {
    store_part(tile.preactivation + row * tile.preactivation_row +
                   column * tile.preactivation_step + channel,
               z, left);
  }
  store_part(tile.out + row * tile.out_row + column * tile.out_step + channel,
             activate<Compute<S>>(f.activation, f.alpha, z), left);
}

// Results of a type whose vectors are half a line and which go past the caches: the first half of
// each of a tile's lines, until the second one comes (in ascending order of channels).
template <class S>
struct HalfLines {
  S values[has_half_lines<S> ? tile_rows * tile_columns : 1][lanes<Compute<S>>];

  // Nothing is written before there is something; GCC would warn of what is read.
  HalfLines() { __asm__("" : "=m"(values)); }
};

// A copy of the finish and the target that no store can alias: a tile's loops keep it in registers.
template <class S>
struct Sink {
  using A = Compute<S>;
  const Tile<S>* tile;
  S* out;  // the first column of the tile at hand, number `column` from the first tile's
  int64_t column;
  int64_t out_step, out_row;
  const A* bias;
  Vec<A> low, high;
  bool straight, partial, streams;  // whole vectors clamped, or one part of a vector
  HalfLines<S>* halves;

  DW_INLINE Sink(const Tile<S>& t, HalfLines<S>* room)
      : tile(&t),
        out(t.out),
        column(0),
        out_step(t.out_step),
        out_row(t.out_row),
        bias(t.finish->bias),
        low(broadcast(t.finish->clamp.low)),
        high(broadcast(t.finish->clamp.high)),
        straight(t.finish->clamp.is_clamp && t.preactivation == nullptr && t.channels >= lanes<A>),
        partial(t.finish->clamp.is_clamp && t.preactivation == nullptr && t.channels < lanes<A>),
        streams(straight && t.finish->stream && writes_whole_lines(t)),
        halves(room) {}

  static bool writes_whole_lines(const Tile<S>& t) {
    const int64_t steps = t.out_step | t.out_row;
    return t.channels * static_cast<int64_t>(sizeof(S)) % 64 == 0 &&
           (reinterpret_cast<uintptr_t>(t.out) | steps * static_cast<int64_t>(sizeof(S))) % 64 == 0;
  }

  // On to the next tile.
  DW_INLINE void move(int64_t columns) {
    column += columns;
    out += columns * out_step;
  }

  // What sums begin with.
  template <int rows, int columns, int vectors>
  DW_INLINE void start(int64_t channel, Vec<A> (&sums)[rows][columns][vectors]) const {
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) {
      const Vec<A> b = bias != nullptr ? load(bias + channel + v * lanes<A>) : zero<A>();
#pragma GCC unroll 2
      for (int o = 0; o < rows; ++o) {
#pragma GCC unroll 16
        for (int t = 0; t < columns; ++t) sums[o][t][v] = b;
      }
    }
  }

  // `sums` of one row of results, `row` of the tile's.
  template <int columns, int vectors>
  DW_INLINE void put(int64_t row, int64_t channel, const Vec<A> (&sums)[columns][vectors]) const {
    const auto each = [&](auto&& one) DW_INLINE_LAMBDA {
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) {
        const int64_t c = channel + v * lanes<A>;
        S* to = out + row * out_row + c;
#pragma GCC unroll 16
        for (int t = 0; t < columns; ++t, to += out_step) one(to, t, c, sums[t][v]);
      }
    };
    if constexpr (can_stream<S> && has_half_lines<S>) {
      if (streams) {
        put_half_lines(row, channel, sums);
        return;
      }
    } else if constexpr (can_stream<S>) {
      if (streams) {
        each([&](S* to, int, int64_t, Vec<A> z)
                 DW_INLINE_LAMBDA { stream(to, clamp(z, low, high)); });
        return;
      }
    }
    if (straight) {
      each([&](S* to, int, int64_t, Vec<A> z) DW_INLINE_LAMBDA { store(to, clamp(z, low, high)); });
    } else if (partial) {
      each([&](S* to, int, int64_t, Vec<A> z)
               DW_INLINE_LAMBDA { store_part(to, clamp(z, low, high), tile->channels); });
    } else {
      each([&](S*, int t, int64_t c, Vec<A> z)
               DW_INLINE_LAMBDA { finish_slowly(*tile, row, column + t, c, z); });
    }
  }

 private:
  template <int columns, int vectors>
  DW_INLINE void put_half_lines(int64_t row, int64_t channel,
                                const Vec<A> (&sums)[columns][vectors]) const {
    auto* const first = halves->values + row * columns;
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) {
      const int64_t c = channel + v * lanes<A>;
      S* to = out + row * out_row + c - lanes<A>;
      if (c % (2 * lanes<A>) == 0) {
#pragma GCC unroll 16
        for (int t = 0; t < columns; ++t) store(first[t], clamp(sums[t][v], low, high));
      } else {
#pragma GCC unroll 16
        for (int t = 0; t < columns; ++t, to += out_step) {
          stream(to, first[t], clamp(sums[t][v], low, high));
        }
      }
    }
  }
};

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_CHANNELS_SINK_H_
