// Rows of images whose channels are planes, staged and moved back for kernels whose vectors run
// along channels: a few columns of a vector of channels at a time are transposed in registers.
#ifndef DEPTHWISE_KERNELS_TRANSPOSED_ROWS_H_
#define DEPTHWISE_KERNELS_TRANSPOSED_ROWS_H_

#include "activation.h"
#include "ahead.h"
#include "geometry.h"
#include "repeated.h"
#include "shuffles.h"
#include "views.h"

namespace depthwise::DW_ISA {

// Element j of run r of vector i becomes element i of run r of vector j. Each round puts the
// elements of one vector between those of the one that is half of all vectors further.
template <class A>
DW_INLINE void transpose_runs(Vec<A> (&v)[run<A>]) {
  constexpr int n = run<A>;
#pragma GCC unroll 2
  for (int round = 1; round < n; round *= 2) {
    Vec<A> next[n];
#pragma GCC unroll 2
    for (int i = 0; i < n / 2; ++i) {
      next[2 * i] = runs_interleaved_low(v[i], v[i + n / 2]);
      next[2 * i + 1] = runs_interleaved_high(v[i], v[i + n / 2]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < n; ++i) v[i] = next[i];
  }
}

// A run from each of a full vector's rows: those transpose_runs() makes one vector of each column
// from. Whole squares of columns and rows take twice the shuffles, and leave more over at the ends
// of rows that are no multiple of them. One core of a Zen 4 took to stage 16 x 16 of 56 columns 33
// ns by squares and 19 by runs, with ReLU 47 and 32, of 7 columns 30 and 14, 52 and 31.
template <class A, class Row>
DW_INLINE void load_row_runs(Vec<A> (&v)[run<A>], const Row& row) {
#pragma GCC unroll 4
  for (int i = 0; i < run<A>; ++i) {
    v[i] = load_runs<A>([&](int part) DW_INLINE_LAMBDA { return row(part * run<A> + i); });
  }
}

// Where the rows of such a square begin: all of them, or only the first ones, with the last of
// those once more for each that there is not.
struct AllRows {
  int64_t step;
  DW_INLINE int64_t operator()(int i) const { return i * step; }
};
template <class A>
struct FirstRows {
  int64_t offsets[lanes<A>];
  DW_INLINE FirstRows(int64_t count, int64_t step) {
    for (int i = 0; i < lanes<A>; ++i) offsets[i] = min_of(i, count - 1) * step;
  }
  DW_INLINE int64_t operator()(int i) const { return offsets[i]; }
};

// A vector of channels of a staged row.
template <class A>
struct StagedColumns {
  A* to;
  int64_t pitch;               // from one column to the next
  int64_t planes, multiplier;  // channels of the image, and how often each is there

  // Columns w, w + 1, ...
  DW_INLINE void put(int64_t w, const Vec<A> (&columns)[run<A>], int64_t count = run<A>) const {
    constexpr int n = lanes<A>;
    if (multiplier == 1) {
#pragma GCC unroll 4
      for (int i = 0; i < run<A>; ++i) {
        if (i < count) store(to + (w + i) * pitch, columns[i]);
      }
      return;
    }
    alignas(64) A elements[(run<A> + 1) * n];  // repeat_each() reads past the end
#pragma GCC unroll 4
    for (int i = 0; i < run<A>; ++i) store(elements + i * n, columns[i]);
    for (int64_t i = 0; i < count; ++i) {
      repeat_each(to + (w + i) * pitch, elements + i * n, planes, multiplier);
    }
  }
};

// Rows of a run or more that need no conversion: as they are, or dy through ReLU. The last run of a
// row begins before the one ahead of it ends where they do not come out even.
template <bool relu, class A, class Rows>
DW_INLINE void stage_runs(const StagedColumns<A>& staged, const A* from, const Rows& rows,
                          const A* saved, const Rows& saved_rows, int64_t width) {
  for (int64_t begin = 0; begin < width; begin += run<A>) {
    const int64_t w = min_of(begin, width - run<A>);
    Vec<A> columns[run<A>];
    load_row_runs<A>(columns, [&](int i) DW_INLINE_LAMBDA { return from + rows(i) + w; });
    if constexpr (relu) {
      Vec<A> y[run<A>];
      load_row_runs<A>(y, [&](int i) DW_INLINE_LAMBDA { return saved + saved_rows(i) + w; });
#pragma GCC unroll 4
      for (int i = 0; i < run<A>; ++i) columns[i] = y[i] > zero<A>() ? columns[i] : zero<A>();
    }
    transpose_runs<A>(columns);
    staged.put(w, columns);
  }
}

// Any rows, `step` apart, by way of a few lines of each in the compute type, side by side.
template <class T>
DW_INLINE void stage_lines(const StagedColumns<Compute<T>>& staged, const T* from, int64_t step,
                           const T* saved, int64_t saved_step, int64_t width, int activation,
                           Compute<T> alpha) {
  using A = Compute<T>;
  constexpr int n = lanes<A>;
  constexpr int64_t most = 4 * n, line_pitch = most + n;  // no power of two: sets are shared
  alignas(64) A lines[n * line_pitch];
  const FirstRows<A> rows(staged.planes, line_pitch);
  for (int64_t begin = 0; begin < width; begin += most) {
    const int64_t count = min_of(most, width - begin);
    for (int64_t i = 0; i < staged.planes; ++i) {
      for (int64_t w = 0; w < count; w += n) {
        const int64_t left = count - w;
        const auto take = [&](const T* p)
                              DW_INLINE_LAMBDA { return left >= n ? load(p) : load_part(p, left); };
        Vec<A> row = take(from + i * step + begin + w);
        if (activation != DEPTHWISE_LINEAR) {
          const Vec<A> at = take(saved + i * saved_step + begin + w);
          row = through_activation<A>(row, activation, alpha, at);
        }
        store(lines + i * line_pitch + w, row);
      }
    }
    for (int64_t w = 0; w < count; w += run<A>) {
      Vec<A> columns[run<A>];
      load_row_runs<A>(columns, [&](int i) DW_INLINE_LAMBDA { return lines + rows(i) + w; });
      transpose_runs<A>(columns);
      staged.put(begin + w, columns, min_of(run<A>, count - w));
    }
  }
}

// Row h of an image whose columns lie side by side, to the compute type with its channels side by
// side, each `multiplier` times, columns `pitch` apart; with an activation, times its derivative at
// `saved`. `to` has room for full vectors of channels, which hold whatever repeats_in_vectors().
// The row `ahead` further on, if it is not 0, is asked for on the way.
template <class T>
[[gnu::noinline]] void stage_transposed(Compute<T>* to, int64_t pitch, const ImageView<T>& image,
                                        const ImageView<T>& saved, int64_t h, int64_t width,
                                        int64_t channels, int64_t multiplier, int activation,
                                        Compute<T> alpha, int64_t ahead) {
  using A = Compute<T>;
  constexpr int n = lanes<A>;
  const auto evicts = [](int64_t step) {
    return step * static_cast<int64_t>(sizeof(T)) % tuning::evicting_plane_bytes == 0;
  };
  for (int64_t c = 0; c < channels; c += n) {
    const T* const from = image.data + h * image.row + c * image.channel;
    const T* const at = saved.data + h * saved.row + c * saved.channel;
    const int64_t step = image.channel, at_step = saved.channel;
    const int64_t planes = min_of(n, channels - c);
    if (ahead > 0) {
      ask_for_planes(from + ahead * image.row, step, width, planes);
      if (activation != DEPTHWISE_LINEAR) {
        ask_for_planes(at + ahead * saved.row, at_step, width, planes);
      }
    }
    const StagedColumns<A> staged = {to + c * multiplier, pitch, planes, multiplier};
    const bool in_runs =
        width >= run<A> && !evicts(step) && (activation == DEPTHWISE_LINEAR || !evicts(at_step));
    if constexpr (is_compute_type<T>) {
      if (in_runs && activation == DEPTHWISE_LINEAR) {
        if (planes == n) {
          stage_runs<false>(staged, from, AllRows{step}, from, AllRows{step}, width);
        } else {
          const FirstRows<A> rows(planes, step);
          stage_runs<false>(staged, from, rows, from, rows, width);
        }
        continue;
      }
      if (in_runs && activation == DEPTHWISE_RELU) {
        if (planes == n) {
          stage_runs<true>(staged, from, AllRows{step}, at, AllRows{at_step}, width);
        } else {
          stage_runs<true>(staged, from, FirstRows<A>(planes, step), at,
                           FirstRows<A>(planes, at_step), width);
        }
        continue;
      }
    }
    stage_lines(staged, from, step, at, at_step, width, activation, alpha);
  }
}

// Columns of `from`, one in each of the rows, to n columns of planes `step` apart.
template <class T, class Rows>
DW_INLINE void move_columns(T* to, int64_t step, int64_t count, const Compute<T>* from,
                            const Rows& rows, int64_t channels) {
  using A = Compute<T>;
  for (int64_t c = 0; c < channels; c += run<A>) {
    Vec<A> planes[run<A>];
    load_row_runs<A>(planes, [&](int i) DW_INLINE_LAMBDA { return from + rows(i) + c; });
    transpose_runs<A>(planes);
#pragma GCC unroll 4
    for (int i = 0; i < run<A>; ++i) {
      if (c + i >= channels) continue;
      T* const plane = to + (c + i) * step;
      if (count == lanes<A>) {
        store(plane, planes[i]);
      } else {
        store_part(plane, planes[i], count);
      }
    }
  }
}

// The way back: `channels` side by side, columns `pitch` apart, to row h of an image whose columns
// lie side by side. `from` is readable in full vectors of channels.
template <class T>
[[gnu::noinline]] void move_transposed(const TargetView<T>& target, int64_t h, int64_t width,
                                       const Compute<T>* from, int64_t pitch, int64_t channels) {
  using A = Compute<T>;
  constexpr int n = lanes<A>;
  T* const to = target.data + h * target.row;
  if (width < n) {
    move_columns(to, target.channel, width, from, FirstRows<A>(width, pitch), channels);
    return;
  }
  for (int64_t begin = 0; begin < width; begin += n) {
    const int64_t w = min_of(begin, width - n);
    move_columns(to + w, target.channel, n, from + w * pitch, AllRows{pitch}, channels);
  }
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_TRANSPOSED_ROWS_H_
