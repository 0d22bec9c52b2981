// What the pixels family works on: rows staged pixel by pixel, and weights that repeat with them.
#ifndef DEPTHWISE_KERNELS_PIXELS_H_
#define DEPTHWISE_KERNELS_PIXELS_H_

#include "packed_kernel.h"
#include "phases.h"
#include "pixel_gather.h"
#include "pixel_tile.h"

namespace depthwise::DW_ISA {

// Rows of an image from the first one that a block of so many results needs to the last one.
inline int64_t source_rows(const depthwise_params& p, int64_t results) {
  return (results - 1) * p.stride_height + (p.kernel_height - 1) * p.dilation_height + 1;
}

// Rows of results that a block has at least, if there are so many: a tile of each class of them,
// for only rows of one class share rows of taps (forward_classes()).
inline int64_t pixel_block_rows(const depthwise_params& p) {
  return min_of(pixel_tile_rows * tap_classes(row_axis(p)), max_of(1, p.out_height));
}

// Blocks of results, and how the rows are staged that one of them needs: with zeros around them,
// and with the columns that a tap meets side by side, in one phase per residue modulo the stride
// (phases.h).
template <class A>
struct PixelBlocks {
  AxisPhases phases;
  int64_t pixel;          // elements of a column of results
  int64_t rows, columns;  // results of a block
  int64_t staged;         // rows that are staged for a block at most

  explicit PixelBlocks(const depthwise_params& p)
      : phases(column_axis(p)), pixel(p.channels * p.multiplier) {
    constexpr int64_t budget = tuning::staged_bytes / static_cast<int64_t>(sizeof(A));
    const int64_t least = pixel_block_rows(p);
    const int64_t held = min_of(source_rows(p, least), max_of(1, p.in_height));
    const int64_t fitting = budget / (held * phases.count * pixel) - phases.reach;
    columns = min_of(max_of(fitting, least_columns()), p.out_width);
    const int64_t most = min_of(budget / row_elements(), tuning::most_pixel_rows);
    rows = max_of((most - source_rows(p, 1)) / p.stride_height + 1, least);
    rows = min_of(rows, p.out_height);
    stage(p);
  }
  // Cuts images into tasks, of which threads have about `tasks`: into rows if they are enough for
  // all threads, else into columns, where two of them write to a line between them.
  void share(const depthwise_params& p, int64_t tasks, int64_t threads) {
    if (tasks <= p.batch || p.out_height == 0 || p.out_width == 0) return;
    const int64_t most = min_of(ceil_div(tasks, p.batch), p.out_height);
    int64_t best = INT64_MAX;
    for (int64_t count = 1, whole = rows; count <= most; ++count) {
      const int64_t each = min_of(whole, ceil_div(p.out_height, count));
      const int64_t longest = ceil_div(p.batch * ceil_div(p.out_height, each), threads);
      const int64_t cost = longest * rows_cost(p, each);
      if (cost > best) continue;
      best = cost;
      rows = each;
    }
    const int64_t column_tasks = ceil_div(threads, p.batch * ceil_div(p.out_height, rows));
    const int64_t least = max_of(ceil_div(p.out_width, column_tasks), least_columns());
    columns = min_of(columns, round_up(least, 64 / static_cast<int64_t>(sizeof(A))));
    stage(p);
  }
  int64_t phase_columns() const { return columns + phases.reach; }
  // Elements of a phase of a staged row, and of all of them, with room to overrun.
  int64_t phase_elements() const { return round_up(phase_columns() * pixel + lanes<A>, lanes<A>); }
  int64_t row_elements() const { return phases.count * phase_elements() + lanes<A>; }
  // Where in a staged row tap j of the first result is.
  int64_t offset_of(int64_t j) const {
    return phases.slot_of(j) * phase_elements() + phases.shift_of(j) * pixel;
  }

 private:
  int64_t least_columns() const { return ceil_div(pixel_tile_rows * lanes<A>, pixel); }
  // What so many rows of results take, in rows of a whole tile.
  static int64_t rows_cost(const depthwise_params& p, int64_t count) {
    constexpr int64_t half = pixel_tile_rows / 2;
    const int64_t classes = tap_classes(row_axis(p)), each = ceil_div(count, classes);
    const int64_t halves = each % pixel_tile_rows;
    const int64_t left = each < half ? 2 * each : (half + 1) * ceil_div(halves, half);
    const int64_t between = (p.kernel_height - 1) * p.dilation_height / p.stride_height;
    return classes * (each - halves + left) + between;
  }
  void stage(const depthwise_params& p) {
    staged = min_of(source_rows(p, rows), max_of(1, p.in_height));
  }
};

// Stages `count` rows of an image, the first of them at `from`, for the results from `column` on.
// `line` has room for a phase.
template <class T>
void stage_pixels(Compute<T>* to, const depthwise_params& p, const T* from, int64_t count,
                  const PixelBlocks<Compute<T>>& blocks, int64_t column, Compute<T>* line) {
  using A = Compute<T>;
  const Axis& axis = blocks.phases.axis;
  const PixelGather<T> gather(p, axis.stride * p.x.column);
  for (int64_t slot = 0; slot < blocks.phases.count; ++slot, to += blocks.phase_elements()) {
    const int64_t first = column * axis.stride + blocks.phases.residue(slot) - axis.pad;
    const TapRange in = inside(first, axis.stride, blocks.phase_columns(), axis.in);
    const T* row = from + (first + in.begin * axis.stride) * p.x.column;
    const T* end = from + (p.in_width - 1) * p.x.column + p.channels;
    A* phase = to;
    for (int64_t r = 0; r < count; ++r) {
      fill_zero(phase, in.begin * blocks.pixel);
      if (in.end > in.begin) {
        gather(phase + in.begin * blocks.pixel, row, in.end - in.begin, end, line);
      }
      fill_zero(phase + in.end * blocks.pixel, (blocks.phase_columns() - in.end) * blocks.pixel);
      row += p.x.row;
      end += p.x.row;
      phase += blocks.row_elements();
    }
  }
}

// The kernel and the bias: each tap's weights, then the first of them again, so that full vectors
// can be read from every channel on.
template <class A>
class PixelWeights {
 public:
  bool make(const PackedKernel<A>& kernel, const A* bias, const depthwise_params& p) {
    const int64_t pixel = p.channels * p.multiplier;
    tap = round_up(pixel + lanes<A>, lanes<A>);
    taps_ = p.kernel_height * p.kernel_width;
    if (!memory_.allocate((taps_ + 1) * tap * static_cast<int64_t>(sizeof(A)))) return false;
    A* to = memory_.as<A>();
    const auto repeat = [&](const A* from) {
      for (int64_t i = 0, c = 0; i < tap; ++i, c = c + 1 < pixel ? c + 1 : 0) {
        to[i] = from != nullptr ? from[c] : A(0);
      }
      to += tap;
    };
    for (int64_t i = 0; i < p.kernel_height; ++i) {
      for (int64_t j = 0; j < p.kernel_width; ++j) {
        repeat(kernel.data + i * kernel.row + j * kernel.column);
      }
    }
    repeat(bias);
    return true;
  }
  const A* weights() const { return memory_.as<A>(); }
  const A* bias() const { return memory_.as<A>() + taps_ * tap; }

  int64_t tap = 0;  // elements from one tap's weights to the next one's

 private:
  int64_t taps_ = 0;
  CallMemory memory_;
};

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_PIXELS_H_
