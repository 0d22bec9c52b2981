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

// Whether rows are staged even if they could be read in place: a block of channels side by side has
// no cache lines that evict each other, and its copy streams.
inline bool stage_pays(const depthwise_params& p) {
  return p.kernel_height * p.kernel_width >=
         tuning::staged_reuse * p.stride_height * p.stride_width;
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

// Channels of a block, so that the rows a result needs stay in the first-level cache; staged rows
// may fill the second.
template <class A>
int64_t channel_block(int64_t outputs, int64_t rows, int64_t width, bool direct) {
  const int64_t per_channel = max_of(1, rows * width * static_cast<int64_t>(sizeof(A)));
  const int64_t budget = direct ? tuning::hot_rows_bytes : tuning::staged_bytes;
  const int64_t wanted = max_of(budget / per_channel / lanes<A>, direct ? 4 : 1) * lanes<A>;
  return min_of(wanted, outputs);
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_CHANNELS_CONVOLUTION_H_
