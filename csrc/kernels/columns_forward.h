// Forward pass of the columns family.
#ifndef DEPTHWISE_KERNELS_COLUMNS_FORWARD_H_
#define DEPTHWISE_KERNELS_COLUMNS_FORWARD_H_

#include "packed_kernel.h"
#include "phases.h"
#include "plane_tile.h"

namespace depthwise::DW_ISA {

// One task of a plane kernel: a block of rows and columns of one channel of one image.
struct PlaneTask {
  int64_t image, channel, row, column;
};
struct PlaneTasks {
  int64_t channels, row_blocks, column_blocks, count;
  PlaneBlock block;

  PlaneTasks(const depthwise_params& p, int64_t rows, int64_t columns, const PlaneBlock& size)
      : channels(p.channels), block(size) {
    row_blocks = ceil_div(rows, size.rows);
    column_blocks = ceil_div(columns, size.columns);
    count = p.batch * channels * row_blocks * column_blocks;
  }
  PlaneTask operator[](int64_t index) const {
    const int64_t rows = quotient(index, column_blocks), planes = quotient(rows, row_blocks);
    const int64_t image = planes < channels ? 0 : planes / channels;
    return {image, planes - image * channels, (rows - planes * row_blocks) * block.rows,
            (index - rows * column_blocks) * block.columns};
  }
};

// Blocks small enough that every thread has something to do.
inline PlaneBlock spread(PlaneBlock block, int64_t rows, int64_t other_tasks, int64_t tasks) {
  block.rows = min_of(block.rows, row_block(rows, other_tasks, tasks));
  return block;
}

template <class T>
bool columns_forward(const Call& call) {
  using A = Compute<T>;
  const depthwise_params& p = *call.params;
  PackedKernel<A> kernel;
  PackedBias<A> bias;
  if (!kernel.pack(static_cast<const T*>(call.kernel), p, call.threads) ||
      !bias.pack(static_cast<const T*>(call.bias), p.channels * p.multiplier)) {
    return false;
  }
  const PlaneBlock block =
      spread(phase_block<A>(p), p.out_height, p.batch * p.channels, call.tasks);
  const Phases phases(p, block);
  const PlaneTasks tasks(p, p.out_height, p.out_width, block);
  const AxisPlan rows = forward_plan(row_axis(p), 0, 1);
  const AxisPlan all_columns = forward_plan(column_axis(p), 0, 1);
  const ClampRange<A> clamp = clamp_range<A>(p.activation);
  CallMemory offsets;
  if (!phases.offsets(offsets)) return false;
  const RowClip clip(rows, block.rows);
  const bool adjacent = p.stride_height == 1 && p.stride_width == 1 && p.dilation_height == 1 &&
                        p.dilation_width == 1;

  return parallel_in_runs(tasks.count, call.tasks, call.threads, [&](int64_t index) {
    const PlaneTask task = tasks[index];
    ScratchLayout scratch;
    const int64_t data_at = scratch.add<A>(phases.elements<A>());
    const int64_t out_at = scratch.add<A>(phases.result_elements<A>());
    const int64_t z_at = scratch.add<A>(call.preactivation ? phases.result_elements<A>() : 0);
    const int64_t weights_at = scratch.add<A>(phases.taps());
    if (!scratch.allocate()) return false;
    A* const data = scratch.at<A>(data_at);
    A* const out = scratch.at<A>(out_at);
    A* const z = call.preactivation != nullptr ? scratch.at<A>(z_at) : nullptr;
    A* const weights = scratch.at<A>(weights_at);

    phases.stage(data, image_at<T>(call.x, p.x, task.image, task.channel), task.row, task.column);
    const int64_t row_end = min_of(task.row + block.rows, p.out_height);
    const int64_t columns = min_of(block.columns, p.out_width - task.column);
    const bool clipped = clip(task.row, row_end);
    for (int64_t m = 0; m < p.multiplier; ++m) {
      const int64_t output = task.channel * p.multiplier + m;
      kernel.gather(weights, output, p);
      const PlaneFinish<A> finish{bias.data != nullptr ? bias.data[output] : A(0), clamp,
                                  p.activation, static_cast<A>(p.alpha)};
      PlaneTaps<A> taps{data,         offsets.as<int64_t>(),
                        weights,      p.kernel_width,
                        phases.pitch, phases.pitch,
                        out,          z,
                        finish,       adjacent};
      const TargetView<T> y = target_at<T>(call.y, p.y, task.image, output);
      if (all_finite(weights, phases.taps())) {
        // Rows of whole vectors that are stored as they are go where they belong.
        bool in_place = false;
        if constexpr (is_compute_type<T>) {
          in_place = y.column == 1 && z == nullptr && columns >= lanes<A> &&
                     goes_by_source(taps, rows.taps, columns, clipped);
          if (in_place) {
            taps.out = y.data + task.row * y.row + task.column;
            taps.out_pitch = y.row;
          }
        }
        convolve_plane(taps, rows, task.row, row_end, columns, clipped);
        if (in_place) continue;
      } else if (!convolve_plane_exactly(taps, rows, task.row, row_end, all_columns, task.column,
                                         task.column + columns)) {
        return false;
      }
      const auto write = [&](const TargetView<T>& target, const A* from) {
        for (int64_t h = task.row; h < row_end; ++h) {
          convert_back(target.data + h * target.row + task.column * target.column, target.column,
                       from + (h - task.row) * phases.pitch, columns);
        }
      };
      write(y, out);
      if (z != nullptr) write(target_at<T>(call.preactivation, p.saved, task.image, output), z);
    }
    return true;
  });
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_COLUMNS_FORWARD_H_
