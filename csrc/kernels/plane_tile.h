// Register tiles of the columns family: vectors run along the columns of one channel's staged
// plane. The forward pass and the gradient of the input are the same sums.
#ifndef DEPTHWISE_KERNELS_PLANE_TILE_H_
#define DEPTHWISE_KERNELS_PLANE_TILE_H_

#include "planes.h"

namespace depthwise::DW_ISA {

// What is done to a plane's sums before they are stored.
template <class A>
struct PlaneFinish {
  A bias;
  ClampRange<A> clamp;
  int activation;
  A alpha;
};

template <class A>
DW_INLINE Vec<A> finished(const PlaneFinish<A>& f, Vec<A> z) {
  if (f.clamp.is_clamp) return clamp(z, broadcast(f.clamp.low), broadcast(f.clamp.high));
  return activate<A>(f.activation, f.alpha, z);
}

// A block of results from taps at `offsets` with `weights`, `per_row` taps for each row of taps.
// Rows of the data are `pitch` apart, those of results `out_pitch`: the same but where
// goes_by_source().
template <class A>
struct PlaneTaps {
  const A* data;
  const int64_t* offsets;
  const A* weights;
  int64_t per_row;
  int64_t pitch, out_pitch;
  A* out;
  A* preactivation;  // null unless asked for
  PlaneFinish<A> finish;
  bool adjacent;  // neighbouring taps, and neighbouring results, are neighbours in the data too
};

// What a tile's sums become: `at(t)` is the element that vector t begins at.
template <int vectors, class A>
DW_INLINE void finish_plane_tile(const PlaneTaps<A>& s, const Vec<A> (&sums)[vectors], auto at) {
  const Vec<A> bias = broadcast(s.finish.bias);
#pragma GCC unroll 16
  for (int t = 0; t < vectors; ++t) {
    const int64_t p = at(t);
    const Vec<A> z = sums[t] + bias;
    if (s.preactivation != nullptr) store(s.preactivation + p, z);
    store(s.out + p, finished(s.finish, z));
  }
}

// Any taps.
template <int vectors, class A>
DW_INLINE void plane_tile(const PlaneTaps<A>& s, TapRange taps, int64_t p, int64_t step) {
  Vec<A> sums[vectors] = {};
  const A* const data = s.data + p;
  for (int64_t q = taps.begin; q < taps.end; ++q) {
    const A* const x = data + s.offsets[q];
    const Vec<A> weight = broadcast(s.weights[q]);
#pragma GCC unroll 16
    for (int t = 0; t < vectors; ++t) sums[t] = fma(load(x + t * step), weight, sums[t]);
  }
  finish_plane_tile<vectors>(s, sums, [=](int t) DW_INLINE_LAMBDA { return p + t * step; });
}

// Where a tile of neighbouring rows is: its first row, counted from the block's first one, its
// first column, and how far its second vector is from the first one, which it may overlap.
struct PlanePlace {
  int64_t row, column, apart;
};

template <int rows, int vectors, class A>
DW_INLINE void finish_source_tile(const PlaneTaps<A>& s, const Vec<A> (&sums)[rows * vectors],
                                  const PlanePlace& place) {
  finish_plane_tile<rows * vectors>(s, sums, [&](int t) DW_INLINE_LAMBDA {
    return (place.row + t / vectors) * s.out_pitch + place.column + t % vectors * place.apart;
  });
}

// size x size adjacent taps: each shifted row is loaded once and feeds every row of results that it
// belongs to. Shifted loads cross cache lines and take twice as long as others, a broadcast weight
// takes as long as one of those: with one vector they and not the multiply-adds are what 5x5 and
// 7x7 tiles wait for.
template <int size, int rows, int vectors, class A>
DW_INLINE void dense_plane_tile(const PlaneTaps<A>& s, const PlanePlace& place) {
  Vec<A> sums[rows * vectors] = {};
  const A* x = s.data + s.offsets[0] + place.row * s.pitch + place.column;
  const A* const w = s.weights;
#pragma GCC unroll 16
  for (int r = 0; r < rows + size - 1; ++r, x += s.pitch) {
#pragma GCC unroll 8
    for (int j = 0; j < size; ++j) {
      Vec<A> values[vectors];
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) values[v] = in_register(load(x + j + v * place.apart));
#pragma GCC unroll 16
      for (int t = 0; t < rows; ++t) {
        const int i = r - t;
        if (i < 0 || i >= size) continue;
        const Vec<A> weight = broadcast(w[i * size + j]);
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) {
          sums[t * vectors + v] = fma(values[v], weight, sums[t * vectors + v]);
        }
      }
    }
  }
  finish_source_tile<rows, vectors>(s, sums, place);
}

// Any number of adjacent taps, over the rows [first, last) of the data that are not padding: each
// shifted row is loaded once and multiplied with the weight that each row of results has for it.
template <int rows, int vectors, class A>
DW_INLINE void source_plane_tile(const PlaneTaps<A>& s, int64_t tap_rows, const PlanePlace& place,
                                 int64_t first, int64_t last) {
  const int64_t taps = s.per_row;
  Vec<A> sums[rows * vectors] = {};
  const A* const data = s.data + s.offsets[0] + place.row * s.pitch + place.column;
  for (int64_t r = max_of(0, first); r < min_of(last, tap_rows + rows - 1); ++r) {
    const A* const x = data + r * s.pitch;
    const A* const w = s.weights + r * taps;
    const auto add = [&](int64_t j, auto has) DW_INLINE_LAMBDA {
      Vec<A> values[vectors];
#pragma GCC unroll 2
      for (int v = 0; v < vectors; ++v) values[v] = in_register(load(x + j + v * place.apart));
#pragma GCC unroll 16
      for (int t = 0; t < rows; ++t) {
        if (!has(t)) continue;
        const Vec<A> weight = broadcast(w[j - t * taps]);
#pragma GCC unroll 2
        for (int v = 0; v < vectors; ++v) {
          sums[t * vectors + v] = fma(values[v], weight, sums[t * vectors + v]);
        }
      }
    };
    if (r >= rows - 1 && r < tap_rows) {  // every row of results has a tap here
      for (int64_t j = 0; j < taps; ++j) add(j, [](int) DW_INLINE_LAMBDA { return true; });
    } else {
      for (int64_t j = 0; j < taps; ++j) {
        add(j, [&](int t) DW_INLINE_LAMBDA { return r >= t && r - t < tap_rows; });
      }
    }
  }
  finish_source_tile<rows, vectors>(s, sums, place);
}

// Whether vectors of `columns` results can be written without meeting those of the next row: the
// last one overlaps the one before it, or ends in the margin.
template <class A>
bool whole_vectors(int64_t columns, int64_t pitch) {
  return columns >= lanes<A> || round_up(columns, lanes<A>) <= pitch;
}

// Rows of results from the first one on, and the columns of one or two vectors.
struct PlaneStrip {
  int64_t begin, end;
  int64_t column, apart;
};

// Rows that are left over are made with some of those before them, once more.
template <int rows>
DW_INLINE void down_strip(const PlaneStrip& strip, auto tile) {
  for (int64_t t = strip.begin; t < strip.end; t += rows) {
    tile(PlanePlace{min_of(t, strip.end - rows), strip.column, strip.apart});
  }
}
template <int size, int rows, int vectors, class A>
[[gnu::noinline]] void dense_plane_strip(const PlaneTaps<A>& given, const PlaneStrip& strip) {
  const PlaneTaps<A> s = given;
  down_strip<rows>(strip, [&](const PlanePlace& place) DW_INLINE_LAMBDA {
    dense_plane_tile<size, rows, vectors>(s, place);
  });
}
// `first`: the row of the source that the first row's taps begin at; those of [0, extent) are no
// padding.
template <int rows, int vectors, class A>
[[gnu::noinline]] void source_plane_strip(const PlaneTaps<A>& given, int64_t tap_rows,
                                          int64_t first, int64_t extent, const PlaneStrip& strip) {
  const PlaneTaps<A> s = given;
  down_strip<rows>(strip, [&](const PlanePlace& place) DW_INLINE_LAMBDA {
    source_plane_tile<rows, vectors>(s, tap_rows, place, -first - place.row,
                                     extent - first - place.row);
  });
}

// Numbers of rows and vectors as types.
template <int r, int v>
struct TileSize {
  static constexpr int rows = r, vectors = v;
};

// `count` rows of results in whole vectors: `make(size, strip)` makes a strip in tiles of a
// TileSize, of which it has one at least.
template <class A>
DW_INLINE void over_strips(int64_t count, int64_t columns, auto make) {
  constexpr int64_t n = lanes<A>;
  const int64_t last = max_of(0, columns - n);
  for (int64_t v = 0; v < columns; v += 2 * n) {
    const int64_t column = min_of(v, last), apart = min_of(v + n, last) - column;
    if (apart > 0) {
      const int64_t whole = count < 4 ? 0 : count % 4 == 1 ? count - 1 : count;
      if (whole > 0) make(TileSize<4, 2>{}, PlaneStrip{0, whole, column, apart});
      if (whole < count) make(TileSize<1, 2>{}, PlaneStrip{whole, count, column, apart});
      continue;
    }
    int64_t done = count < 8 ? 0 : count % 8 <= 4 ? count - count % 8 : count;
    if (done > 0) make(TileSize<8, 1>{}, PlaneStrip{0, done, column, 0});
    if (count >= 4 && count - done > 1) {
      make(TileSize<4, 1>{}, PlaneStrip{count - done > 4 ? done : count - 4, count, column, 0});
      done = count;
    }
    if (done < count) make(TileSize<1, 1>{}, PlaneStrip{done, count, column, 0});
  }
}

// `count` vectors, `step` apart.
template <class A>
void plane_run(const PlaneTaps<A>& s, TapRange taps, int64_t p, int64_t count, int64_t step) {
  for (; count >= 8; count -= 8, p += 8 * step) plane_tile<8>(s, taps, p, step);
  if (count >= 4) {
    plane_tile<4>(s, taps, p, step);
    count -= 4;
    p += 4 * step;
  }
  if (count >= 2) {
    plane_tile<2>(s, taps, p, step);
    count -= 2;
    p += 2 * step;
  }
  if (count == 1) plane_tile<1>(s, taps, p, step);
}

// Whether to go through a block row by row: it takes no more vectors than one run over all of it,
// margins included.
template <class A>
bool by_rows(int64_t columns, int64_t pitch) {
  return round_up(columns, lanes<A>) <= pitch;
}

// Rows [begin, end) of the block, with one range of rows of taps.
template <class A>
void plane_rows(const PlaneTaps<A>& s, TapRange tap_rows, int64_t begin, int64_t end,
                int64_t columns) {
  const TapRange taps{tap_rows.begin * s.per_row, tap_rows.end * s.per_row};
  if (by_rows<A>(columns, s.pitch)) {
    for (int64_t v = 0; v < columns; v += lanes<A>) {
      plane_run(s, taps, begin * s.pitch + v, end - begin, s.pitch);
    }
  } else {
    const int64_t length = (end - begin - 1) * s.pitch + columns;
    plane_run(s, taps, begin * s.pitch, ceil_div(length, lanes<A>), lanes<A>);
  }
}

// Taps that lie outside of the image for a whole row are left out, but for kernels that hardly have
// any: there one run over all rows is faster than a run per range of taps.
inline bool clip_rows(const AxisPlan& rows, int64_t begin, int64_t end) {
  int64_t valid = 0;
  for (int64_t t = begin; t < end; ++t) {
    const TapRange range = rows.valid_taps(t);
    valid += range.end - range.begin;
  }
  return 4 * valid < 3 * rows.taps * (end - begin);
}

// clip_rows() for the blocks of a call: worked out once where one block is the whole plane.
class RowClip {
 public:
  RowClip(const AxisPlan& rows, int64_t block_rows)
      : rows_(&rows), whole_(block_rows >= rows.count), whole_clips_(false) {
    if (whole_) whole_clips_ = clip_rows(rows, 0, rows.count);
  }
  bool operator()(int64_t begin, int64_t end) const {
    return whole_ ? whole_clips_ : clip_rows(*rows_, begin, end);
  }

 private:
  const AxisPlan* rows_;
  bool whole_, whole_clips_;
};

template <class A>
bool has_dense_tile(const PlaneTaps<A>& s, int64_t tap_rows, bool clip) {
  return tap_rows == s.per_row && !clip && (tap_rows == 3 || tap_rows == 5 || tap_rows == 7);
}

// Whether a block's rows of `columns` results are made by tiles that go over rows of the source.
template <class A>
bool goes_by_source(const PlaneTaps<A>& s, int64_t tap_rows, int64_t columns, bool clip) {
  return s.adjacent && whole_vectors<A>(columns, s.pitch) &&
         (has_dense_tile(s, tap_rows, clip) || tap_rows >= tuning::source_plane_taps);
}

// Results [begin, end) of a class of rows, each `columns` wide.
template <class A>
void convolve_plane(const PlaneTaps<A>& s, const AxisPlan& rows, int64_t begin, int64_t end,
                    int64_t columns, bool clip) {
  if (begin >= end || columns == 0) return;
  if (goes_by_source(s, rows.taps, columns, clip)) {
    const int64_t taps = rows.taps;
    if (has_dense_tile(s, taps, clip)) {
      over_strips<A>(end - begin, columns, [&](auto size, const PlaneStrip& strip) {
        if (taps == 3) return dense_plane_strip<3, size.rows, size.vectors>(s, strip);
        if (taps == 5) return dense_plane_strip<5, size.rows, size.vectors>(s, strip);
        dense_plane_strip<7, size.rows, size.vectors>(s, strip);
      });
      return;
    }
    over_strips<A>(end - begin, columns, [&](auto size, const PlaneStrip& strip) {
      source_plane_strip<size.rows, size.vectors>(s, taps, rows.position_of(begin), rows.extent,
                                                  strip);
    });
    return;
  }
  if (!clip) {
    plane_rows(s, {0, rows.taps}, 0, end - begin, columns);
    return;
  }
  for (int64_t t = begin; t < end;) {
    const TapRange range = rows.valid_taps(t);
    int64_t last = t + 1;
    for (; last < end; ++last) {
      const TapRange next = rows.valid_taps(last);
      if (next.begin != range.begin || next.end != range.end) break;
    }
    plane_rows(s, range, t - begin, last - begin, columns);
    t = last;
  }
}

// The same for weights that are not all finite, which must not meet the zeros of the padding: the
// taps of every result are those that meet the image. Columns [first, last) of the class.
template <class A>
[[gnu::noinline]] bool convolve_plane_exactly(PlaneTaps<A> s, const AxisPlan& rows, int64_t begin,
                                              int64_t end, const AxisPlan& columns, int64_t first,
                                              int64_t last) {
  const int64_t most = rows.taps * s.per_row;
  CallMemory offset_memory, weight_memory;
  if (!offset_memory.allocate(most * static_cast<int64_t>(sizeof(int64_t))) ||
      !weight_memory.allocate(most * static_cast<int64_t>(sizeof(A)))) {
    return false;
  }
  const int64_t* const all_offsets = s.offsets;
  const A* const all_weights = s.weights;
  int64_t* const offsets = offset_memory.as<int64_t>();
  A* const weights = weight_memory.as<A>();
  s.offsets = offsets;
  s.weights = weights;
  for (int64_t t = begin; t < end; ++t) {
    const TapRange in_row = rows.valid_taps(t);
    for (int64_t u = first; u < last;) {  // whole vectors: each overrun is mended by the next run
      const TapRange in_column = columns.valid_taps(u);
      int64_t run_end = u + 1;
      for (; run_end < last; ++run_end) {
        const TapRange next = columns.valid_taps(run_end);
        if (next.begin != in_column.begin || next.end != in_column.end) break;
      }
      int64_t n = 0;
      for (int64_t q = in_row.begin * s.per_row; q < in_row.end * s.per_row; ++q) {
        const int64_t column_tap = q % columns.taps;
        if (column_tap < in_column.begin || column_tap >= in_column.end) continue;
        offsets[n] = all_offsets[q];
        weights[n++] = all_weights[q];
      }
      plane_run(s, {0, n}, (t - begin) * s.pitch + u - first, ceil_div(run_end - u, lanes<A>),
                lanes<A>);
      u = run_end;
    }
  }
  return true;
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_PLANE_TILE_H_
