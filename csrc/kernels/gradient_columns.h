// The gradients' blocks of columns: where rows do not fit the scratch, and where those from memory
// are so long that a few of them fill the second-level cache. Sizes alone say how many there are:
// sums go block by block, so that these are part of the bits.
#ifndef DEPTHWISE_KERNELS_GRADIENT_COLUMNS_H_
#define DEPTHWISE_KERNELS_GRADIENT_COLUMNS_H_

#include <new>

#include "channels_input_gradient.h"
#include "column_blocks.h"

namespace depthwise::DW_ISA {

// Blocks of results. Those for memory's sake are only made of an image that each block of results
// has a part of, for the input's gradient is cut along with them.
template <class T>
ColumnBlocks gradient_blocks(const depthwise_params& p, bool fetches) {
  using A = Compute<T>;
  ColumnBlocks blocks = column_blocks<A>(p, kernel_gradient_bytes<A>(p), p.out_width);
  const Axis columns = column_axis(p);
  const int64_t reach = (columns.kernel - 1) * columns.dilation;
  const bool is_covered = columns.pad <= reach && (columns.out - 1) * columns.stride < columns.in;
  if (!fetches || !is_covered || p.layout != DEPTHWISE_CHANNELS_LAST || blocks.count > 1) {
    return blocks;
  }
  const int64_t rows =
      max_of(1, min_of((p.kernel_height - 1) * p.dilation_height + 2, p.in_height));
  const int64_t bytes = p.channels % lanes<A> == 0 ? tuning::gradient_columns_bytes
                                                   : tuning::gradient_part_lines_bytes;
  const int64_t step = min_of(columns.stride, columns.in);
  const int64_t most = bytes / (rows * step * p.channels * static_cast<int64_t>(sizeof(T)));
  if (most < tuning::least_gradient_columns) return blocks;
  blocks.count =
      max_of(1, min_of(ceil_div(p.out_width, most), p.out_width / tuning::least_gradient_columns));
  return blocks;
}

// One of these blocks: what the kernel's gradient sums, and what the input's is made of, which has
// results besides; the same where that is not wanted.
template <class T>
struct GradientColumns {
  PartOfCall<T> sums, both;
  int64_t first = 0;  // column of the results in `both` with which those in `sums` begin

  GradientColumns(const Call& call, const ColumnBlocks& blocks, int64_t i, bool with_dx)
      : sums(call), both(call) {
    const int64_t begin = blocks.begin(i), end = blocks.end(i);
    sums.take_results(begin, end);
    if (with_dx && blocks.count > 1) {
      first = begin - both.take_both_gradients(begin, end);
    } else if (!with_dx) {
      both.take_results(begin, end);
    }
  }
};

// The gradient of the input for each block.
template <class T>
class InputGradients {
 public:
  InputGradients() = default;
  InputGradients(const InputGradients&) = delete;
  InputGradients& operator=(const InputGradients&) = delete;
  ~InputGradients() { delete[] each_; }

  bool make(const Call& call, const ColumnBlocks& blocks, bool streams) {
    count_ = blocks.count;
    each_ = new (std::nothrow) InputGradient<T>[static_cast<size_t>(count_)];
    if (each_ == nullptr) return false;
    for (int64_t i = 0; i < count_; ++i) {
      const GradientColumns<T> columns(call, blocks, i, true);
      const Call& part = columns.both.call;
      if (!(i == 0 ? each_[0].make(part, false, streams)
                   : each_[i].make_beside(each_[0], part, false, streams))) {
        return false;
      }
    }
    return true;
  }
  const InputGradient<T>& operator[](int64_t i) const { return each_[i]; }

  // Rows of the output's gradient that have to be there at once, for any block.
  int64_t reach() const {
    int64_t most = 0;
    for (int64_t i = 0; i < count_; ++i) most = max_of(most, each_[i].reach());
    return most;
  }
  // Whether all are written where they belong.
  bool in_place() const {
    bool all = true;
    for (int64_t i = 0; i < count_; ++i) all = all && each_[i].in_place();
    return all;
  }

 private:
  InputGradient<T>* each_ = nullptr;
  int64_t count_ = 0;
};

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_GRADIENT_COLUMNS_H_
