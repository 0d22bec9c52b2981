// Gradient of the input, columns family: the output's gradient is staged once per block, then each
// residue of the position modulo the stride is a stride-1 convolution of it.
#ifndef DEPTHWISE_KERNELS_COLUMNS_INPUT_GRADIENT_H_
#define DEPTHWISE_KERNELS_COLUMNS_INPUT_GRADIENT_H_

#include "class_plans.h"
#include "columns_forward.h"

namespace depthwise::DW_ISA {

// The results t of `plan` whose targets lie in [begin, end).
inline TapRange results_between(const AxisPlan& plan, int64_t begin, int64_t end) {
  const auto first = [&](int64_t target) {
    return target <= plan.target_first ? 0 : ceil_div(target - plan.target_first, plan.target_step);
  };
  const int64_t last = min_of(plan.count, first(end));
  return {min_of(first(begin), last), last};
}

// The positions of the source that the targets [begin, end) read, over all classes of an axis.
inline TapRange positions_between(const AxisPlan* plans, int64_t classes, int64_t begin,
                                  int64_t end) {
  TapRange positions{INT64_MAX, INT64_MIN};
  for (int64_t i = 0; i < classes; ++i) {
    const TapRange t = results_between(plans[i], begin, end);
    if (t.begin == t.end || plans[i].taps == 0) continue;
    const int64_t last = plans[i].position_of(t.end - 1) + (plans[i].taps - 1) * plans[i].tap_step;
    positions.begin = min_of(positions.begin, plans[i].position_of(t.begin));
    positions.end = max_of(positions.end, last + 1);
  }
  if (positions.begin > positions.end) return {0, 0};
  return positions;
}

template <class T>
bool columns_input_gradient(const Call& call) {
  using A = Compute<T>;
  const depthwise_params& p = *call.params;
  PackedKernel<A> kernel;
  ClassPlans plans;
  if (!kernel.pack(static_cast<const T*>(call.kernel), p, call.threads) ||
      !plans.make_gradient(p, undivided))
    return false;

  const int64_t reach = (p.kernel_height - 1) * p.dilation_height / p.stride_height + 1;
  PlaneBlock block =
      plane_block(ceil_div(p.in_height, p.stride_height), ceil_div(p.in_width, p.stride_width),
                  p.multiplier * static_cast<int64_t>(sizeof(A)), reach, lanes<A>);
  block = spread(block, ceil_div(p.in_height, p.stride_height), p.batch * p.channels, call.tasks);
  block.rows *= p.stride_height;
  block.columns *= p.stride_width;
  const PlaneTasks tasks(p, p.in_height, p.in_width, block);

  // Largest window of the source that a block reads.
  int64_t window_rows = 1, window_columns = 1;
  for (int64_t h = 0; h < p.in_height; h += block.rows) {
    const TapRange r = positions_between(plans.rows, plans.row_classes, h, h + block.rows);
    window_rows = max_of(window_rows, r.end - r.begin);
  }
  for (int64_t w = 0; w < p.in_width; w += block.columns) {
    const TapRange r = positions_between(plans.columns, plans.column_classes, w, w + block.columns);
    window_columns = max_of(window_columns, r.end - r.begin);
  }
  // A class without taps still makes its (zero) results: they need room too.
  const int64_t pitch = max_of(window_columns, ceil_div(block.columns, p.stride_width) + 1);
  const int64_t plane_elements = window_rows * pitch;
  const int64_t result_rows = max_of(window_rows, ceil_div(block.rows, p.stride_height) + 1);
  const int64_t result_elements = round_up(result_rows * pitch, lanes<A>) + 2 * lanes<A>;
  // At stride 2 both classes of columns are made before either is written: whole vectors then.
  const bool interleave = plans.column_classes == 2 && p.dx.column == 1;
  const int64_t most_taps = p.multiplier * p.kernel_height * p.kernel_width;

  return parallel_in_runs(tasks.count, call.tasks, call.threads, [&](int64_t index) {
    const PlaneTask task = tasks[index];
    ScratchLayout scratch;
    const int64_t data_at = scratch.add<A>(p.multiplier * plane_elements + 2 * lanes<A>);
    const int64_t line_at = scratch.add<A>(pitch + lanes<A>);
    const int64_t out_at = scratch.add<A>((interleave ? 2 : 1) * result_elements);
    const int64_t offsets_at = scratch.add<int64_t>(most_taps);
    const int64_t weights_at = scratch.add<A>(most_taps);
    if (!scratch.allocate()) return false;
    A* const data = scratch.at<A>(data_at);
    A* out = scratch.at<A>(out_at);
    int64_t* const offsets = scratch.at<int64_t>(offsets_at);
    A* const weights = scratch.at<A>(weights_at);

    const int64_t h1 = min_of(task.row + block.rows, p.in_height);
    const int64_t w1 = min_of(task.column + block.columns, p.in_width);
    const TapRange from_rows = positions_between(plans.rows, plans.row_classes, task.row, h1);
    const TapRange from_columns =
        positions_between(plans.columns, plans.column_classes, task.column, w1);
    const Window window{from_rows.begin,    1, window_rows, p.out_height,
                        from_columns.begin, 1, pitch,       p.out_width};
    for (int64_t m = 0; m < p.multiplier; ++m) {
      const int64_t output = task.channel * p.multiplier + m;
      stage_window<T>(data + m * plane_elements, pitch, window,
                      image_at<T>(call.dy, p.dy, task.image, output),
                      image_at<T>(call.saved, p.saved, task.image, output), p.activation,
                      static_cast<A>(p.alpha), scratch.at<A>(line_at));
    }
    fill_zero(data + p.multiplier * plane_elements, 2 * lanes<A>);

    const TargetView<T> dx = target_at<T>(call.dx, p.dx, task.image, task.channel);
    const PlaneFinish<A> finish{0, clamp_range<A>(DEPTHWISE_LINEAR), DEPTHWISE_LINEAR, 0};
    for (int64_t a = 0; a < plans.row_classes; ++a) {
      const AxisPlan& rows = plans.rows[a];
      const TapRange t = results_between(rows, task.row, h1);
      if (t.begin == t.end) continue;
      out = scratch.at<A>(out_at);
      for (int64_t b = 0; b < plans.column_classes; ++b) {
        const AxisPlan& columns = plans.columns[b];
        const TapRange u = results_between(columns, task.column, w1);
        if (u.begin == u.end) continue;
        int64_t n = 0;
        for (int64_t i = 0; i < rows.taps; ++i) {
          const int64_t row = rows.position_of(t.begin) + i * rows.tap_step - from_rows.begin;
          const A* w = kernel.data + (rows.kernel_first + i * rows.kernel_step) * kernel.row +
                       task.channel * p.multiplier;
          for (int64_t m = 0; m < p.multiplier; ++m) {
            for (int64_t j = 0; j < columns.taps; ++j, ++n) {
              const int64_t column =
                  columns.position_of(u.begin) + j * columns.tap_step - from_columns.begin;
              offsets[n] = m * plane_elements + row * pitch + column;
              weights[n] = w[m + (columns.kernel_first + j * columns.kernel_step) * kernel.column];
            }
          }
        }
        const int64_t width = u.end - u.begin;
        // No taps at all: then offsets[0], where adjacent ones begin, has no value.
        const bool adjacent =
            n > 0 && p.multiplier == 1 && rows.tap_step == 1 && columns.tap_step == 1;
        const PlaneTaps<A> taps{data,   offsets, weights, p.multiplier * columns.taps,
                                pitch,  pitch,   out,     nullptr,
                                finish, adjacent};
        if (all_finite(weights, n)) {
          convolve_plane(taps, rows, t.begin, t.end, width, clip_rows(rows, t.begin, t.end));
        } else if (!convolve_plane_exactly(taps, rows, t.begin, t.end, columns, u.begin, u.end)) {
          return false;
        }
        if (interleave) {
          out += result_elements;
          continue;
        }
        for (int64_t row = t.begin; row < t.end; ++row) {
          const int64_t h = rows.target_first + row * rows.target_step;
          const int64_t w = columns.target_first + u.begin * columns.target_step;
          convert_back(dx.data + h * dx.row + w * dx.column, columns.target_step * dx.column,
                       out + (row - t.begin) * pitch, width);
        }
      }
      for (int64_t row = t.begin; interleave && row < t.end; ++row) {
        const A* const even = scratch.at<A>(out_at) + (row - t.begin) * pitch;
        const int64_t h = rows.target_first + row * rows.target_step;
        convert_back_interleaved(dx.data + h * dx.row + task.column, even, even + result_elements,
                                 w1 - task.column);
      }
    }
    return true;
  });
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_COLUMNS_INPUT_GRADIENT_H_
