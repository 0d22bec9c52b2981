// Staged planes of the columns family, whose vectors run along the columns of one channel's plane.
//
// A block of a plane is staged in the compute type with its zero padding, split into one phase per
// residue of the position modulo the stride. Then every tap, whatever stride and dilation, reads
// the staged block at a fixed offset, and a block of results is a sum of shifted copies of it.
#ifndef DEPTHWISE_KERNELS_PLANES_H_
#define DEPTHWISE_KERNELS_PLANES_H_

#include "ahead.h"
#include "call_memory.h"
#include "rows.h"
#include "table.h"
#include "tuning.h"

namespace depthwise::DW_ISA {

// In whole vectors: `to` is overrun by less than one.
template <class A>
DW_INLINE void fill_zero(A* to, int64_t count) {
  for (int64_t i = 0; i < count; i += lanes<A>) store(to + i, zero<A>());
}

// Along one axis, positions first, first + step, ... (`count` of them) of a source `extent` long:
// [begin, end) are those inside of it.
inline TapRange inside(int64_t first, int64_t step, int64_t count, int64_t extent) {
  const int64_t begin = first >= 0 ? 0 : ceil_quotient(-first, step);
  const int64_t end = first >= extent ? 0 : quotient(extent - 1 - first, step) + 1;
  const int64_t clipped = min_of(begin, count);
  return {clipped, max_of(clipped, min_of(end, count))};
}

// A rectangle of a strided plane, by position of its first element, step and count per axis;
// positions outside of the plane are zeros.
struct Window {
  int64_t row_first, row_step, rows, row_extent;
  int64_t column_first, column_step, columns, column_extent;
};

// Rows of a window that fill no more than a vector, picked out of two vectors of the plane. One
// core of a Zen 4 took span by span and so, in us, for 2x3 at strides 2 and 3 on 3 of
// channels-first 57x23x6 21 and 11, training 76 and 53, for 3x3 on 60x12x5 4.8 and 4.0, at stride 3
// on 4 of 30x30x5 14 and 8. Rows of two to four vectors, each picked so, gained nothing: 3x3 on 4
// of 28x28x3 4.2 and 4.1.
template <class A>
class ShortRow {
 public:
  static bool takes(const TapRange& columns, int64_t step, int64_t pitch) {
    const int64_t count = columns.end - columns.begin;
    return pitch <= n && count > 0 && (count - 1) * step + 1 < 2 * n;
  }
  ShortRow(const TapRange& columns, int64_t step) {
    const int64_t reach = (columns.end - columns.begin - 1) * step + 1;
    first_ = lanes_between<A>(0, min_of(reach, n));
    second_ = lanes_between<A>(0, max_of(0, reach - n));
    for (int i = 0; i < n; ++i) {  // the last lane is a zero
      const bool is_inside = i >= columns.begin && i < columns.end;
      places_[i] = is_inside ? (i - columns.begin) * step : 2 * n - 1;
    }
  }
  DW_INLINE Vec<A> load_from(const A* p) const {
    return shifted(load_some(p, first_), load_some(p + n, second_), places_);
  }

 private:
  static constexpr int64_t n = lanes<A>;
  SomeLanes<A> first_, second_;
  Mask<A> places_;
};

// Writes `window` of `plane` to `to`, whose rows are `pitch` >= window.columns apart; the rest of
// each row is zero. `to` may be overrun by less than a vector. With an activation, the values are
// multiplied by its derivative at `saved`; `line` has room for a row.
template <class T>
[[gnu::noinline]] void stage_window(Compute<T>* to, int64_t pitch, const Window& window,
                                    const ImageView<T>& plane, const ImageView<T>& saved,
                                    int activation, Compute<T> alpha, Compute<T>* line) {
  using A = Compute<T>;
  const TapRange rows = inside(window.row_first, window.row_step, window.rows, window.row_extent);
  const TapRange columns =
      inside(window.column_first, window.column_step, window.columns, window.column_extent);
  const int64_t count = columns.end - columns.begin;
  const int64_t w = window.column_first + columns.begin * window.column_step;
  if constexpr (is_compute_type<T> && can_shift<A>) {
    const bool gates = activation == DEPTHWISE_RELU && saved.column == 1;
    if (plane.column == 1 && (activation == DEPTHWISE_LINEAR || gates) &&
        ShortRow<A>::takes(columns, window.column_step, pitch)) {
      const ShortRow<A> row(columns, window.column_step);
      for (int64_t r = 0; r < window.rows; ++r, to += pitch) {
        Vec<A> v = zero<A>();
        if (r >= rows.begin && r < rows.end) {
          const int64_t h = window.row_first + r * window.row_step;
          v = row.load_from(plane.data + h * plane.row + w);
          if (gates) v = row.load_from(saved.data + h * saved.row + w) > zero<A>() ? v : zero<A>();
        }
        store(to, v);
      }
      return;
    }
  }
  for (int64_t r = 0; r < window.rows; ++r, to += pitch) {
    if (r < rows.begin || r >= rows.end || count == 0) {
      fill_zero(to, pitch);
      continue;
    }
    const int64_t h = window.row_first + r * window.row_step;
    A* const values = to + columns.begin;
    if (plane.column == 1) {
      ask_ahead(plane.data + h * plane.row + w, (count - 1) * window.column_step + 1);
    }
    fill_zero(to, columns.begin);
    convert_gradient(values, plane.data + h * plane.row + w * plane.column,
                     window.column_step * plane.column,
                     saved.data + h * saved.row + w * saved.column,
                     window.column_step * saved.column, count, activation, alpha, line);
    fill_zero(values + count, pitch - columns.end);
  }
}

// Size of the blocks that a plane is cut into: whole rows while they fit, then parts of rows.
struct PlaneBlock {
  int64_t rows, columns;
};
// `row_bytes`: staged bytes for one more row of results; `fixed_rows`: rows staged besides.
inline PlaneBlock plane_block(int64_t rows, int64_t columns, int64_t bytes_per_column,
                              int64_t fixed_rows, int64_t lane_count) {
  PlaneBlock block{rows, columns};
  const int64_t least = (fixed_rows + 1) * bytes_per_column;
  if (least * columns > 4 * tuning::staged_bytes) {
    block.columns = max_of(8 * lane_count, round_up(4 * tuning::staged_bytes / least, lane_count));
    block.columns = min_of(block.columns, columns);
  }
  const int64_t row_bytes = max_of(1, bytes_per_column * block.columns);
  block.rows = max_of(1, min_of(rows, tuning::staged_bytes / row_bytes - fixed_rows));
  return block;
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_PLANES_H_
