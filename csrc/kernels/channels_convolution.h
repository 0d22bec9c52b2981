// The channels family's convolution: rows of results, each made of rows of a source and a packed
// kernel. The forward pass is one class of rows and columns; the gradient of the input is one per
// residue modulo the stride.
#ifndef DEPTHWISE_KERNELS_CHANNELS_CONVOLUTION_H_
#define DEPTHWISE_KERNELS_CHANNELS_CONVOLUTION_H_

#include "channels_tile.h"
#include "class_plans.h"
#include "packed_kernel.h"
#include "table.h"
#include "tuning.h"
#include "views.h"

namespace depthwise::DW_ISA {

// Makes the target rows [begin, end) of one image and block of channels. `taps` has room for the
// taps of a row class.
template <class T, class S>
void convolve_rows(const ClassPlans& plans, RowSource<T>& source, const PackedKernel<Compute<T>>& w,
                   int64_t first_output, int64_t begin, int64_t end, const TargetView<S>& target,
                   const TargetView<S>& preactivation, const Finish<Compute<T>>& finish,
                   RowTaps<Compute<T>>* taps, auto&& after_row) {
  Tile<S> tile{};
  tile.rows = taps;
  tile.channels = source.channels * source.multiplier;
  tile.out_step = target.column;
  tile.preactivation_step = preactivation.column;
  tile.finish = &finish;
  for (int64_t h = begin; h < end; ++h) {
    const AxisPlan& rows = plans.rows[h % plans.row_classes];
    const int64_t t = (h - rows.target_first) / rows.target_step;
    const TapRange range = rows.valid_taps(t);
    for (int64_t q = range.begin; q < range.end; ++q) {
      const int64_t kernel_row = rows.kernel_first + q * rows.kernel_step;
      taps[q - range.begin] = {source(rows.position_of(t) + q * rows.tap_step),
                               w.data + kernel_row * w.row + first_output};
    }
    tile.row_count = range.end - range.begin;
    tile.out = target.data + h * target.row;
    tile.preactivation =
        preactivation.data != nullptr ? preactivation.data + h * preactivation.row : nullptr;
    // While this row is computed, the rows that the next one needs besides are on their way.
    const int64_t next = rows.position_of(t) + (rows.taps - 1) * rows.tap_step + 1;
    const auto fetch = [&](int64_t first, int64_t last) DW_INLINE_LAMBDA {
      for (int64_t row = next; row < next + rows.result_step; ++row) source.fetch(row, first, last);
    };
    const auto nothing = [](int64_t, int64_t) {};
    for (int64_t i = 0; i < plans.column_classes; ++i) {
      const AxisPlan& columns = plans.columns[i];
      if (i == 0 && source.height > 0 && next >= 0) {
        run_row(columns, choose_tile<S>(columns), source.pitch, w.column, tile, fetch);
      } else {
        run_row(columns, choose_tile<S>(columns), source.pitch, w.column, tile, nothing);
      }
    }
    after_row(h);
  }
}

// Whether rows are staged even if they could be read in place: where the lines that a tile reads
// fall into a few sets of the first-level cache and evict each other. Side by side they do not.
template <class T>
bool stage_pays(const depthwise_params& p, const depthwise_image_strides& source) {
  const int64_t column = source.column * static_cast<int64_t>(sizeof(T));
  const int64_t row = source.row * static_cast<int64_t>(sizeof(T));
  const int64_t reuse = p.kernel_height * p.kernel_width / (p.stride_height * p.stride_width);
  if (reuse < tuning::staged_reuse || column % tuning::evicting_bytes != 0) return false;
  constexpr int line = 64, sets = 64;
  int lines[sets] = {};
  const int64_t columns = min_of(tile_columns + p.kernel_width - 1, p.in_width);
  for (int64_t i = 0; i < min_of(p.kernel_height, p.in_height); ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      if (++lines[(i * row + j * column) / line & (sets - 1)] > tuning::evicting_lines) return true;
    }
  }
  return false;
}

// Whether results go past the caches: what is larger than a good part of the last one would be
// evicted before anybody reads it, and until then stores have to read what they overwrite.
template <class T>
bool streaming_pays(int64_t elements) {
  return can_stream<T> && elements * static_cast<int64_t>(sizeof(T)) >= tuning::streamed_bytes;
}

// Whether rows are asked for ahead of their staging: where they come from memory.
template <class T>
bool fetching_pays(int64_t elements) {
  return elements * static_cast<int64_t>(sizeof(T)) >= tuning::streamed_bytes;
}

// Channels of a block whose rows are read in place: those that a result needs stay near, its
// weights in the first-level cache.
template <class A>
int64_t direct_block(const depthwise_params& p, int64_t outputs, int64_t rows, int64_t width) {
  constexpr int64_t vector = lanes<A> * static_cast<int64_t>(sizeof(A));
  const int64_t taps = p.kernel_height * p.kernel_width;
  const int64_t wanted = min_of(tuning::direct_rows_bytes / (max_of(1, rows * width) * vector),
                                tuning::direct_weights_bytes / (taps * vector));
  return min_of(max_of(wanted, tuning::least_block_vectors) * lanes<A>, outputs);
}

// Channels of a block whose rows are staged: they may fill the second-level cache. Rather than into
// blocks of rows, which stage the rows between them twice, `tasks` are cut into these.
template <class A>
int64_t staged_block(int64_t outputs, int64_t rows, int64_t width, int64_t tasks) {
  constexpr int64_t vector = lanes<A> * static_cast<int64_t>(sizeof(A));
  const int64_t fitting = max_of(tuning::staged_bytes / (max_of(1, rows * width) * vector), 1);
  const int64_t share = ceil_div(outputs, max_of(1, tasks) * lanes<A>);
  const int64_t wanted = min_of(fitting, max_of(share, tuning::least_staged_vectors));
  return min_of(wanted * lanes<A>, outputs);
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_CHANNELS_CONVOLUTION_H_
