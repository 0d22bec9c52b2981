// Calls cut into blocks of columns, where images are so wide, or kernels so tall, that the rows of
// one vector of channels would not fit a thread's scratch. A block is a call of its own, on a part
// of the same arrays. Sizes alone say where it is cut: bits do not depend on memory's strides.
#ifndef DEPTHWISE_KERNELS_COLUMN_BLOCKS_H_
#define DEPTHWISE_KERNELS_COLUMN_BLOCKS_H_

#include "geometry.h"
#include "table.h"
#include "tuning.h"
#include "vec.h"

namespace depthwise::DW_ISA {

// Bytes of scratch for one vector of channels: for all columns of a call, and for those of a block
// of so many columns, `each` for one and `beyond` for what the kernel reaches past them.
struct ColumnBytes {
  int64_t whole, each, beyond;
};

template <class A>
int64_t vector_bytes(int64_t rows) {
  return rows * lanes<A> * static_cast<int64_t>(sizeof(A));
}

// Rows of the input that two rows of results reach which go through the same tiles.
inline int64_t rows_of_pair(const Axis& rows) {
  const int64_t more = max_of(rows.stride, 2 * rows.dilation);
  return min_of((rows.kernel - 1) * rows.dilation + 1 + more, max_of(1, rows.in));
}
// Rows of the output's gradient that two rows of the input's reach.
inline int64_t gradient_rows_of_pair(const Axis& rows) {
  const int64_t reach = (rows.kernel - 1) * rows.dilation / rows.stride;
  return min_of(reach + 2 + 2 * rows.dilation, max_of(1, rows.out));
}
inline int64_t columns_beyond(const Axis& columns, int64_t most) {
  return min_of((columns.kernel - 1) * columns.dilation, most);
}

// The input's rows; two rows of results, and of what is kept of them.
template <class A>
ColumnBytes forward_bytes(const depthwise_params& p) {
  const Axis columns = column_axis(p);
  const int64_t source = vector_bytes<A>(rows_of_pair(row_axis(p)));
  const int64_t results = vector_bytes<A>(4 * p.multiplier);
  return {source * columns.in + results * columns.out, source * columns.stride + results,
          source * columns_beyond(columns, columns.in)};
}
// The output gradient's rows; two rows of the input's, before those of a multiplier are summed.
template <class A>
ColumnBytes input_gradient_bytes(const depthwise_params& p) {
  const Axis columns = column_axis(p);
  const int64_t source = vector_bytes<A>(gradient_rows_of_pair(row_axis(p)));
  const int64_t results = vector_bytes<A>(2);
  return {source * columns.out + results * columns.in, source + results,
          source * (columns_beyond(columns, columns.out) / columns.stride + 2)};
}
// Rows of both that one row of results multiplies.
template <class A>
ColumnBytes kernel_gradient_bytes(const depthwise_params& p) {
  const Axis rows = row_axis(p), columns = column_axis(p);
  const int64_t reach = min_of((rows.kernel - 1) * rows.dilation + 1, max_of(1, rows.in));
  const int64_t source = vector_bytes<A>(reach), results = vector_bytes<A>(1);
  return {source * columns.in + results * columns.out, source * columns.stride + results,
          source * columns_beyond(columns, columns.in)};
}

// Vectors of channels that a block of channels has at least: the last one takes what is left.
template <class A>
int64_t least_vectors(const depthwise_params& p) {
  const int64_t outputs = p.channels * p.multiplier;
  return outputs % lanes<A> == 0 ? 1 : min_of(2, ceil_div(outputs, lanes<A>));
}

template <class A>
bool fits_scratch(const depthwise_params& p, const ColumnBytes& bytes) {
  return bytes.whole <= tuning::scratch_bytes / least_vectors<A>(p);
}
// Whether there are blocks that fit.
template <class A>
bool can_cut_columns(const depthwise_params& p, const ColumnBytes& bytes) {
  const int64_t room = tuning::scratch_bytes / least_vectors<A>(p) - bytes.beyond;
  return fits_scratch<A>(p, bytes) || room >= tuning::least_block_columns * bytes.each;
}

// `columns` cut into blocks that fit, of nearly one size.
struct ColumnBlocks {
  int64_t columns, count;

  int64_t begin(int64_t i) const { return columns * i / count; }
  int64_t end(int64_t i) const { return begin(i + 1); }
};
template <class A>
ColumnBlocks column_blocks(const depthwise_params& p, const ColumnBytes& bytes, int64_t columns) {
  if (fits_scratch<A>(p, bytes)) return {columns, 1};
  const int64_t room = tuning::scratch_bytes / least_vectors<A>(p) - bytes.beyond;
  const int64_t most = max_of(tuning::least_block_columns, room / bytes.each);
  return {columns, ceil_div(columns, most)};
}

// A part of a call, with parameters of its own.
template <class T>
struct PartOfCall {
  depthwise_params params;
  Call call;

  explicit PartOfCall(const Call& whole) : params(*whole.params), call(whole) {
    call.params = &params;
  }
  PartOfCall(const PartOfCall&) = delete;
  PartOfCall& operator=(const PartOfCall&) = delete;

  // The results in the columns [begin, end), and of the input what they are made of.
  void take_results(int64_t begin, int64_t end) {
    const Axis a = column_axis(params);
    const int64_t first = begin * a.stride - a.pad;
    const int64_t last = (end - 1) * a.stride - a.pad + (a.kernel - 1) * a.dilation;
    const int64_t from = max_of(0, min_of(first, a.in - 1));
    params.in_width = min_of(a.in, max_of(from, last) + 1) - from;
    params.pad_left = from - first;
    params.out_width = end - begin;
    move(call.x, from * params.x.column);
    move_results(begin);
    move(call.y, begin * params.y.column);
    move(call.preactivation, begin * params.saved.column);
  }
  // The input's gradient in the columns [begin, end), and of the output's what it is made of.
  void take_input_gradient(int64_t begin, int64_t end) {
    take_input_gradient_of(begin, end, input_gradient_made_of(begin, end));
  }
  // The input's gradient in the columns that begin in the results [begin, end), and of the output's
  // what it is made of, which has these. Returns which is the first column of that.
  int64_t take_both_gradients(int64_t begin, int64_t end) {
    const Axis a = column_axis(params);
    const int64_t from = begin * a.stride, to = end == a.out ? a.in : end * a.stride;
    const Columns made_of = input_gradient_made_of(from, to);
    const int64_t first = min_of(begin, made_of.begin);
    take_input_gradient_of(from, to, {first, max_of(end, made_of.end)});
    return first;
  }

 private:
  struct Columns {
    int64_t begin, end;
  };
  Columns input_gradient_made_of(int64_t begin, int64_t end) const {
    const Axis a = column_axis(params);
    const int64_t reach = (a.kernel - 1) * a.dilation;
    const int64_t first = max_of(0, begin + a.pad - reach) / a.stride;
    const int64_t from = max_of(0, min_of(first, a.out - 1));
    const int64_t last = min_of((end - 1 + a.pad) / a.stride, a.out - 1);
    return {from, max_of(from, last) + 1};
  }
  void take_input_gradient_of(int64_t begin, int64_t end, Columns results) {
    params.out_width = results.end - results.begin;
    params.pad_left += begin - results.begin * params.stride_width;
    params.in_width = end - begin;
    move(call.dx, begin * params.dx.column);
    move_results(results.begin);
  }
  void move_results(int64_t column) {
    move(call.dy, column * params.dy.column);
    move(call.saved, column * params.saved.column);
  }
  static void move(const void*& data, int64_t elements) {
    if (data != nullptr) data = static_cast<const T*>(data) + elements;
  }
  static void move(void*& data, int64_t elements) {
    if (data != nullptr) data = static_cast<T*>(data) + elements;
  }
};

// Runs the call as a whole, or block by block, each of which `take` takes.
template <class T>
bool over_column_blocks(const Call& call, const ColumnBlocks& blocks,
                        void (PartOfCall<T>::*take)(int64_t, int64_t), auto&& run) {
  if (blocks.count == 1) return run(call);
  for (int64_t i = 0; i < blocks.count; ++i) {
    PartOfCall<T> part(call);
    (part.*take)(blocks.begin(i), blocks.end(i));
    if (!run(part.call)) return false;
  }
  return true;
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_COLUMN_BLOCKS_H_
