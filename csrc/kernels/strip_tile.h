// Register tiles over planes that are read and written where they are: vectors run along the
// columns of a few rows of results, in strips of a vector or two.
#ifndef DEPTHWISE_KERNELS_STRIP_TILE_H_
#define DEPTHWISE_KERNELS_STRIP_TILE_H_

#include "ahead.h"
#include "plane_tile.h"
#include "shuffles.h"

namespace depthwise::DW_ISA {

// Rows of results of a tile, and the largest kernel that there are tiles for. (Of several rows of
// more than `most_piece_taps` the channels family makes the sums in another order.)
constexpr int strip_tile_rows = 4;
constexpr int64_t most_strip_height = 7, most_strip_width = 7;

// Whether taps of a row are shifted out of vectors that are loaded once for all of them, of which
// there is one more than of results, or two at a stride. Else each tap loads its own: neighbouring
// taps of results side by side do so, too. One core of a Zen 4 took for tiles of 5x5, 4 rows by 2
// vectors, by themselves in a loop over what the first-level cache holds, 260 cycles shifting and
// 200 loading, with lanes left out 225.
template <class A>
inline constexpr bool shares_loads = can_shift<A>;
// Vectors of a strip, at most. Where lanes are cut, strips that are not whole have one: one core of
// a Zen 1 took for 3x3 in strips of one and of two, in us, on 14x14x64 19.2 and 22.7, on 28x28x64
// 54 and 56, on 66x66x16 without padding, where all are whole, 55 and 48, at stride 2 on 56x56x144
// 211 and 222.
template <class A>
constexpr int most_strip_vectors(int64_t across) {
  return cuts_faster<A> && across > 1 ? 1 : 2;
}
template <class A>
inline constexpr int cut_strip_vectors = cuts_faster<A> ? 1 : 2;
// The largest stride that there are tiles for.
template <class A>
constexpr int64_t most_strip_stride = shares_loads<A> ? 3 : 2;

// How the taps of a row get their vectors: out of those that are loaded once for all of them, or
// each its own, side by side or with columns between them.
enum class Taps { shared, adjacent, apart };
template <class A>
inline constexpr Taps spaced_taps = shares_loads<A> ? Taps::shared : Taps::apart;

// How lanes that do not meet the image are left out: there are none; they are loaded and cut, of
// the first tap of a row only, of the last one only, or of all; or they are not loaded, for they
// may be of no memory. A Zen 1 waits for masked loads: two cores took for 3x3 on 14x14x512 with all
// of these masked 196 us and 94 cut, on 56x56x128 289 and 195, at stride 2 on 56x56x144 220 and
// 137, at dilation 2 on 28x28x192 247 and 156; one core with all taps cut and with those that have
// to be, on 14x14x64 20.1 and 19.4, at stride 2 on 56x56x16 26.0 and 22.8.
enum class Border { none, cut_first, cut_last, cut, masked };

// Vectors of columns of results.
template <class A>
struct Strip {
  int64_t column;  // of the first one
  int vectors;
  int full;  // of these, all of whose lanes are results
  int left;  // results in the vector that is not full
  // Null if all are full, and all of their taps meet the image. Else, vector by vector, the lanes
  // that meet the image where taps share what is loaded, and where each loads its own.
  const SomeLanes<A>*shared, *loaded;
  Border cut;  // which taps are cut where lanes may be

  bool is_whole() const { return loaded == nullptr; }
};

// Rows of results whose taps are in neighbouring rows of the source. (With a dilation these are
// every so many rows of the image.)
template <class A>
struct StripRows {
  const A* x;  // what the first tap of the first result meets; it may be outside of the image
  int64_t x_row;
  int64_t x_columns;
  int64_t first, last;              // [first, last): rows of the source that are of the image
  int64_t whole_first, whole_last;  // those around which whole vectors are of the images' memory
  int64_t down;                     // rows of the source from a row of results to the next
  const A* weights;
  int64_t high, taps;  // rows of weights, and weights in each
  int64_t step;        // from one of these to the next
  A* out;
  int64_t out_row;
  A bias, least, most;  // what sums begin with, and what bounds the results
  bool asks;            // for rows to come

  // Whether lanes of rows [begin, end) of the source, as far as these are of the image, may be cut.
  bool can_cut(int64_t begin, int64_t end) const {
    return max_of(begin, first) >= whole_first && min_of(end, last) <= whole_last;
  }
};

// What taps of a row of the source take from it: results are `across` columns apart.
template <Taps how, int across, int vectors, Border border, class A>
class StripSource {
  static constexpr bool shared = how == Taps::shared;

 public:
  DW_INLINE StripSource(const A* from, const Strip<A>& strip) : from_(from), strip_(strip) {
    if constexpr (shared) {
#pragma GCC unroll 4
      for (int v = 0; v <= vectors; ++v) {
        Vec<A> wide[across];
#pragma GCC unroll 4
        for (int u = 0; u < across; ++u) wide[u] = loaded(from, v * across + u, strip_.shared);
        if constexpr (across == 1) {
          parts_[0][v] = in_register(wide[0]);
        } else if constexpr (across == 2) {
          parts_[0][v] = even_elements(wide[0], wide[1]);
          parts_[1][v] = odd_elements(wide[0], wide[1]);
        } else {
#pragma GCC unroll 4
          for (int phase = 0; phase < across; ++phase) {
            parts_[phase][v] = every_third<A>(wide[0], wide[1], wide[2], phase);
          }
        }
      }
    }
  }
  // Vector v of a tap: where loads are shared number `index` of a phase, else of all. `places` are
  // those of its elements in what is shared, else it is `step` columns from one to the next of
  // `taps`.
  DW_INLINE Vec<A> operator()(int64_t index, int64_t taps, int phase, int v, int64_t step,
                              Mask<A> places) const {
    if constexpr (shared) {
      if (__builtin_constant_p(index) && index == 0) return parts_[phase][v];
      return shifted(parts_[phase][v], parts_[phase][v + 1], places);
    } else {
      Vec<A> wide[across];
      const A* const at = from_ + index * step;
#pragma GCC unroll 4
      for (int u = 0; u < across; ++u) {
        const int64_t vector = v * across + u;
        const bool is_whole = (border == Border::cut_first && index > 0) ||
                              (border == Border::cut_last && index < taps - 1);
        wide[u] = is_whole ? load(at + vector * lanes<A>)
                           : loaded(at, vector, strip_.loaded + index * vectors * across);
      }
      if constexpr (across == 1) return in_register(wide[0]);
      if constexpr (across == 2) return even_elements_anyhow<A>(wide[0], wide[1]);
    }
  }

 private:
  DW_INLINE Vec<A> loaded(const A* from, int64_t vector, const SomeLanes<A>* inside) const {
    const A* const at = from + vector * lanes<A>;
    if constexpr (border == Border::none) {
      return load(at);
    } else if constexpr (border == Border::masked) {
      return load_some(at, inside[vector]);
    } else {
      return bit_cast<Vec<A>>(bit_cast<Mask<A>>(load(at)) & inside[vector]);
    }
  }

  const A* from_;
  const Strip<A>& strip_;
  Vec<A> parts_[shared ? across : 1][vectors + 1];
};

template <class A>
DW_INLINE Mask<A> first_places() {
  Mask<A> places;
#pragma GCC unroll 16
  for (int i = 0; i < lanes<A>; ++i) places[i] = i;
  return places;
}

// What a tile keeps in registers of a kernel of known size.
template <int high, int wide, Taps how, class A>
struct KnownTaps {
  static constexpr int most = vector_registers == 32 && how != Taps::shared ? 25 : 9;
  static constexpr bool in_registers = 0 < high * wide && high * wide <= most;
  Vec<A> weights[in_registers ? high * wide : 1];
  Mask<A> places[wide > 0 ? wide : 1];

  DW_INLINE void keep(const StripRows<A>& s) {
    if constexpr (in_registers) {
#pragma GCC unroll 32
      for (int i = 0; i < high * wide; ++i) weights[i] = broadcast(s.weights[i]);
    }
#pragma GCC unroll 8
    for (int j = 0; j < wide; ++j) places[j] = first_places<A>() + j * static_cast<int>(s.step);
  }
};

// `rows` rows of results from row t on, summed as the channels family does: from the bias on, tap
// by tap, those beside the image adding zero. A row of the source feeds every row of results that
// it belongs to. `high`, `wide`: rows of weights, and weights in each, or 0 if this is not known.
// Not knowing the rows, a tile has a single one of results; of more than one row of weights,
// results are as many rows apart as columns.
template <int high, int wide, Taps how, int across, int vectors, int rows, Border border, class A>
DW_INLINE void strip_tile(const StripRows<A>& s, const Strip<A>& strip, int64_t t,
                          const KnownTaps<high, wide, how, A>& known) {
  static_assert(high > 0 || rows == 1);
  Vec<A> sums[rows][vectors];
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) sums[i][v] = broadcast(s.bias);
  }
  const int64_t taps = wide > 0 ? wide : s.taps, step = how == Taps::adjacent ? 1 : s.step;
  // Row r of the source, counted from the tile's first tap on.
  const auto add_row = [&](int64_t r, const A* from) DW_INLINE_LAMBDA {
    const StripSource<how, across, vectors, border, A> source(from, strip);
    constexpr int phases = how == Taps::shared ? across : 1;
    const auto add_taps = [&](int64_t index, Mask<A> places) DW_INLINE_LAMBDA {
#pragma GCC unroll 4
      for (int phase = 0; phase < phases; ++phase) {
        const int64_t j = index * phases + phase;
        if (phase > 0 && j >= taps) continue;
        Vec<A> values[vectors];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) values[v] = source(index, taps, phase, v, step, places);
#pragma GCC unroll 16
        for (int i = 0; i < rows; ++i) {
          const int64_t tap = high > 0 ? r - i * across : r;
          if (high > 0 && (tap < 0 || tap >= high)) continue;
          Vec<A> weight;
          if constexpr (KnownTaps<high, wide, how, A>::in_registers) {
            weight = known.weights[tap * wide + j];
          } else {
            weight = broadcast(s.weights[tap * taps + j]);
          }
#pragma GCC unroll 4
          for (int v = 0; v < vectors; ++v) {
            sums[i][v] = fma(values[v], weight, sums[i][v]);
          }
        }
      }
    };
    const int64_t indices = ceil_div(taps, phases);
    if constexpr (wide > 0) {
#pragma GCC unroll 8
      for (int64_t index = 0; index < indices; ++index) add_taps(index, known.places[index]);
    } else {
      Mask<A> places = first_places<A>();
#pragma GCC unroll 1
      for (int64_t index = 0; index < indices; ++index, places += static_cast<int>(s.step)) {
        add_taps(index, places);
      }
    }
  };
  const int64_t top = t * (high > 1 ? across : s.down);
  const A* const x = s.x + strip.column * across;
  if constexpr (high == 1) {
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
      const int64_t row = top + i * s.down;
      if (row >= s.first && row < s.last) add_row(i * across, x + row * s.x_row);
    }
  } else if constexpr (high > 1) {
    const A* from = x + top * s.x_row;
#pragma GCC unroll 16
    for (int r = 0; r < (rows - 1) * across + high; ++r, from += s.x_row) {
      if (top + r >= s.first && top + r < s.last) add_row(r, from);
    }
  } else {
    for (int64_t r = max_of(0, s.first - top); r < min_of(s.high, s.last - top); ++r) {
      add_row(r, x + (top + r) * s.x_row);
    }
  }
  A* out = s.out + t * s.out_row + strip.column;
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i, out += s.out_row) {
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      A* const to = out + v * lanes<A>;
      if constexpr (how != Taps::shared && across == 2) sums[i][v] = in_order<A>(sums[i][v]);
      const Vec<A> value = clamp(sums[i][v], broadcast(s.least), broadcast(s.most));
      // To memory that is not in the caches, masked stores take a fifth longer.
      if (border != Border::none && v >= strip.full) {
        store_part(to, value, strip.left);
      } else {
        store(to, value);
      }
    }
  }
}

// Rows [begin, end) of results.
template <int high, int wide, Taps how, int across, class A>
[[gnu::noinline]] void strip_rows(const StripRows<A>& given, const Strip<A>* strips, int64_t count,
                                  int64_t begin, int64_t end) {
  const StripRows<A> s = given;
  KnownTaps<high, wide, how, A> known;
  known.keep(s);
  const int64_t down = high > 1 ? across : s.down;
  const auto over_strips = [&]<int rows>(int64_t t) DW_INLINE_LAMBDA {
    if (s.asks) {
      ask_ahead(s.x + (t * down + s.high) * s.x_row, rows * min_of(down, s.high) * s.x_columns);
    }
    const bool can_cut = s.can_cut(t * down, (t + rows - 1) * down + s.high);
    for (int64_t i = 0; i < count; ++i) {
      const Strip<A>& strip = strips[i];
      const auto make = [&]<int vectors, Border border>() DW_INLINE_LAMBDA {
        strip_tile<high, wide, how, across, vectors, rows, border>(s, strip, t, known);
      };
      if constexpr (cuts_faster<A>) {
        constexpr bool ends = wide > 1;
        if (strip.is_whole()) {
          constexpr int most = most_strip_vectors<A>(across);
          strip.vectors == most ? make.template operator()<most, Border::none>()
                                : make.template operator()<1, Border::none>();
        } else if (!can_cut) {
          make.template operator()<1, Border::masked>();
        } else if (ends && strip.cut == Border::cut_first) {
          make.template operator()<1, ends ? Border::cut_first : Border::cut>();
        } else if (ends && strip.cut == Border::cut_last) {
          make.template operator()<1, ends ? Border::cut_last : Border::cut>();
        } else {
          make.template operator()<1, Border::cut>();
        }
      } else if (strip.vectors == 1) {
        make.template operator()<1, Border::masked>();
      } else if (strip.is_whole()) {
        make.template operator()<2, Border::none>();
      } else {
        make.template operator()<2, Border::masked>();
      }
    }
  };
  if constexpr (high > 0) {
    constexpr int rows = strip_tile_rows;
    // Rows that are left are made with some of those before them, once more.
    for (int64_t t = begin; t < end; t += rows) {
      over_strips.template operator()<rows>(min_of(t, end - rows));
    }
  } else {
    for (int64_t t = begin; t < end; ++t) over_strips.template operator()<1>(t);
  }
}

template <int across, class A>
void strip_rows_of(const StripRows<A>& s, const Strip<A>* strips, int64_t count, int64_t begin,
                   int64_t end) {
  constexpr Taps spaced = spaced_taps<A>;
  constexpr Taps close = shares_loads<A> && across > 1 ? Taps::shared : Taps::adjacent;
  // Of one row of taps no row of the source has two rows of results: these may be any number apart.
  // Two cores of a Zen 4 took, row by row and so, in us, for 1x4 at strides 1 and 2 on 79x79x49 42
  // and 36, for 1x3 at strides 2 and 1 on 56x56x32 8.8 and 7.3.
  const bool has_tiles = (s.down == across || s.high == 1) && end - begin >= strip_tile_rows;
  if (has_tiles && s.taps == s.high && s.step == 1) {
    if (s.taps == 2) return strip_rows<2, 2, close, across>(s, strips, count, begin, end);
    if (s.taps == 3) return strip_rows<3, 3, close, across>(s, strips, count, begin, end);
    if constexpr (across < 3) {
      if (s.taps == 4) return strip_rows<4, 4, close, across>(s, strips, count, begin, end);
    }
    if constexpr (across <= (shares_loads<A> ? 2 : 1)) {
      if (s.taps == 5) return strip_rows<5, 5, close, across>(s, strips, count, begin, end);
    }
  }
  if constexpr (across == 1) {
    if (has_tiles && s.taps == s.high) {
      if (s.taps == 2) return strip_rows<2, 2, spaced, across>(s, strips, count, begin, end);
      if (s.taps == 3) return strip_rows<3, 3, spaced, across>(s, strips, count, begin, end);
      if constexpr (shares_loads<A>) {
        if (s.taps == 5) return strip_rows<5, 5, spaced, across>(s, strips, count, begin, end);
      }
    }
  }
  switch (has_tiles ? s.high : 0) {
    case 1:
      return strip_rows<1, 0, spaced, across>(s, strips, count, begin, end);
    case 2:
      return strip_rows<2, 0, spaced, across>(s, strips, count, begin, end);
    case 3:
      return strip_rows<3, 0, spaced, across>(s, strips, count, begin, end);
    case 4:
      return strip_rows<4, 0, spaced, across>(s, strips, count, begin, end);
    case 5:
      return strip_rows<5, 0, spaced, across>(s, strips, count, begin, end);
    case 6:
      return strip_rows<6, 0, spaced, across>(s, strips, count, begin, end);
    case 7:
      return strip_rows<7, 0, spaced, across>(s, strips, count, begin, end);
    default:
      return strip_rows<0, 0, spaced, across>(s, strips, count, begin, end);
  }
}

// Results that are one or two columns apart, with shared loads three, whatever the kernel and the
// rows.
template <class A>
void any_strip_rows(int64_t across, const StripRows<A>& s, const Strip<A>* strips, int64_t count,
                    int64_t begin, int64_t end) {
  if (across == 1) return strip_rows_of<1>(s, strips, count, begin, end);
  if constexpr (shares_loads<A>) {
    if (across == 3) return strip_rows_of<3>(s, strips, count, begin, end);
  }
  return strip_rows_of<2>(s, strips, count, begin, end);
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_STRIP_TILE_H_
