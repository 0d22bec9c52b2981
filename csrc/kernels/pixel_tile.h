// Register tiles of the pixels family: vectors run along the elements of a row of results, channel
// after channel and column after column. Each begins at a channel of its own, and with it its
// weights.
#ifndef DEPTHWISE_KERNELS_PIXEL_TILE_H_
#define DEPTHWISE_KERNELS_PIXEL_TILE_H_

#include "channels_tile.h"

namespace depthwise::DW_ISA {

// Rows of results that go through one tile.
constexpr int pixel_tile_rows = 8;

// Rows of results and what they are made of: sums over taps of elements of staged rows, whose
// columns lie as they do in the results.
template <class T>
struct PixelTile {
  using A = Compute<T>;
  const A* const* rows;     // staged rows, from that of the first result's first tap on
  int64_t row_step;         // rows from one tap to the next
  int64_t taps, per_row;    // rows of taps, and taps of each
  const int64_t* offsets;   // where in a staged row each of these finds the first element
  const A *weights, *bias;  // of tap (i, j) at i * weights_row + j * weights_tap: those of a pixel,
  int64_t weights_row, weights_tap;  // then the first ones again, up to a full vector
  int64_t pixel, length;             // elements of a pixel, and of a row of results
  T *out, *preactivation;            // the latter null unless asked for
  int64_t out_row, preactivation_row;
  ClampRange<A> clamp_to;
  int activation;
  A alpha;
};

template <int rows, class T>
DW_INLINE void put_pixels(const PixelTile<T>& s, int64_t p,
                          const Vec<Compute<T>> (&sums)[1][rows][1]) {
  using A = Compute<T>;
  const Vec<A> low = broadcast(s.clamp_to.low), high = broadcast(s.clamp_to.high);
  const int64_t left = s.length - p;
  const bool whole = left >= lanes<A>;
  T* out = s.out + p;
  if (s.clamp_to.is_clamp && s.preactivation == nullptr) {
#pragma GCC unroll 8
    for (int t = 0; t < rows; ++t, out += s.out_row) {
      const Vec<A> y = clamp(sums[0][t][0], low, high);
      if (whole) {
        store(out, y);
      } else {
        store_part(out, y, left);
      }
    }
    return;
  }
  for (int t = 0; t < rows; ++t, out += s.out_row) {
    const Vec<A> z = sums[0][t][0];
    if (s.preactivation != nullptr) {
      store_part(s.preactivation + t * s.preactivation_row + p, z, min_of(left, lanes<A>));
    }
    store_part(out, activate<A>(s.activation, s.alpha, z), min_of(left, lanes<A>));
  }
}

// Results `stride` rows of taps apart. For a column of taps at a time, each element of the source
// is loaded once and feeds every row of results that it belongs to.
template <int rows, int stride, class T>
[[gnu::noinline]] void pixel_tile(const PixelTile<T>& given) {
  using A = Compute<T>;
  const PixelTile<T> s = given;
  const Pieces pieces(s.taps);
  int64_t first = 0;  // element of its pixel that a vector begins with
  for (int64_t p = 0; p < s.length; p += lanes<A>) {
    Vec<A> sums[1][rows][1];
#pragma GCC unroll 8
    for (int t = 0; t < rows; ++t) sums[0][t][0] = load(s.bias + first);
    const A* const* x = s.rows;
    const A* w = s.weights + first;
    const auto add = [&]<int taps>() DW_INLINE_LAMBDA {
      for (int64_t j = 0; j < s.per_row; ++j) {
        const A* const weights[1] = {w + j * s.weights_tap};
        const int64_t at = p + s.offsets[j];
        add_piece<0, 1, taps, stride>(
            sums, [&](int i) DW_INLINE_LAMBDA { return load(x[i * s.row_step] + at); }, weights,
            s.weights_row);
      }
      x += taps * s.row_step;
      w += taps * s.weights_row;
    };
    pieces.each(add);
    put_pixels<rows>(s, p, sums);
    first = (first + lanes<A>) % s.pixel;
  }
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_PIXEL_TILE_H_
