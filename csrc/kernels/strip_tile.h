// Register tiles over planes that are read and written where they are: vectors run along the
// columns of a few rows of results, in strips of one vector each.
#ifndef DEPTHWISE_KERNELS_STRIP_TILE_H_
#define DEPTHWISE_KERNELS_STRIP_TILE_H_

#include "plane_tile.h"

namespace depthwise::DW_ISA {

// Rows of results of a tile, and rows of taps of the highest kernel that there are tiles for.
constexpr int strip_tile_rows = 4;
constexpr int64_t most_strip_height = 7;

// A vector of columns of results.
template <class A>
struct Strip {
  int64_t column;              // of the first one
  const SomeLanes<A>* inside;  // for each column of taps, the lanes that meet the image; null: all
};

// Rows of results whose taps are in neighbouring rows of the source. (With a dilation these are
// every so many rows of the image.)
template <class A>
struct StripRows {
  const A* x;  // what the first tap of the first result meets; it may be outside of the image
  int64_t x_row;
  int64_t first, last;  // [first, last): rows of the source that are of the image
  const A* weights;
  int64_t taps;  // in a row of them
  int64_t step;  // from one of these to the next
  A* out;
  int64_t out_row;
  A* preactivation;  // null unless asked for
  int64_t preactivation_row;
  PlaneFinish<A> finish;
};

// `rows` rows of results from row t on, summed as the channels family does: from the bias on, tap
// by tap, those beside the image left out. Each shifted row of the source is loaded once and feeds
// every row of results that it belongs to. `wide`: taps in a row, whose weights are kept in
// registers; 0 if there are too many.
template <int high, int wide, int rows, bool some, class A>
DW_INLINE void strip_tile(const StripRows<A>& s, const Strip<A>& strip, int64_t t,
                          const Vec<A>* weights) {
  Vec<A> sums[rows];
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i) sums[i] = broadcast(s.finish.bias);
  const A* from = s.x + t * s.x_row + strip.column;
  const int64_t taps = wide > 0 ? wide : s.taps;
#pragma GCC unroll 16
  for (int r = 0; r < rows + high - 1; ++r, from += s.x_row) {
    if (t + r < s.first || t + r >= s.last) continue;
#pragma GCC unroll 8
    for (int64_t j = 0; j < taps; ++j) {
      Vec<A> value;
      if constexpr (some) {
        value = load_some(from + j * s.step, strip.inside[j]);
      } else {
        value = in_register(load(from + j * s.step));
      }
#pragma GCC unroll 16
      for (int i = 0; i < rows; ++i) {
        const int tap = r - i;
        if (tap < 0 || tap >= high) continue;
        Vec<A> weight;
        if constexpr (wide > 0) {
          weight = weights[tap * wide + j];
        } else {
          weight = broadcast(s.weights[tap * taps + j]);
        }
        if constexpr (some) {
          sums[i] = fma_some(value, weight, sums[i], strip.inside[j]);
        } else {
          sums[i] = fma(value, weight, sums[i]);
        }
      }
    }
  }
  A* const out = s.out + t * s.out_row + strip.column;
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i) {
    if (s.preactivation != nullptr) {
      store(s.preactivation + (t + i) * s.preactivation_row + strip.column, sums[i]);
    }
    store(out + i * s.out_row, finished(s.finish, sums[i]));
  }
}

// Rows [begin, end) of results.
template <int high, int wide, class A>
[[gnu::noinline]] void strip_rows(const StripRows<A>& given, const Strip<A>* strips, int64_t count,
                                  int64_t begin, int64_t end) {
  const StripRows<A> s = given;
  Vec<A> weights[wide > 0 ? high * wide : 1];
#pragma GCC unroll 32
  for (int i = 0; i < high * wide; ++i) weights[i] = broadcast(s.weights[i]);
  const auto across = [&]<int rows>(int64_t t) DW_INLINE_LAMBDA {
    for (int64_t i = 0; i < count; ++i) {
      if (strips[i].inside != nullptr) {
        strip_tile<high, wide, rows, true>(s, strips[i], t, weights);
      } else {
        strip_tile<high, wide, rows, false>(s, strips[i], t, weights);
      }
    }
  };
  constexpr int rows = strip_tile_rows;
  if (end - begin < rows) {
    for (int64_t t = begin; t < end; ++t) across.template operator()<1>(t);
    return;
  }
  // Rows that are left are made with some of those before them, once more.
  for (int64_t t = begin; t < end; t += rows) {
    across.template operator()<rows>(min_of(t, end - rows));
  }
}

// The same for a kernel of `high` rows of taps, at most `most_strip_height`.
template <class A>
void any_strip_rows(int64_t high, const StripRows<A>& s, const Strip<A>* strips, int64_t count,
                    int64_t begin, int64_t end) {
  switch (high) {
    case 1:
      return strip_rows<1, 0>(s, strips, count, begin, end);
    case 2:
      if (s.taps == 2) return strip_rows<2, 2>(s, strips, count, begin, end);
      return strip_rows<2, 0>(s, strips, count, begin, end);
    case 3:
      if (s.taps == 3) return strip_rows<3, 3>(s, strips, count, begin, end);
      return strip_rows<3, 0>(s, strips, count, begin, end);
    case 4:
      return strip_rows<4, 0>(s, strips, count, begin, end);
    case 5:
      return strip_rows<5, 0>(s, strips, count, begin, end);
    case 6:
      return strip_rows<6, 0>(s, strips, count, begin, end);
    default:
      return strip_rows<7, 0>(s, strips, count, begin, end);
  }
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_STRIP_TILE_H_
