// Gradients of the kernel and of the bias, columns family. Parts as in channels_kernel_gradient.h.
#ifndef DEPTHWISE_KERNELS_COLUMNS_KERNEL_GRADIENT_H_
#define DEPTHWISE_KERNELS_COLUMNS_KERNEL_GRADIENT_H_

#include "channels_kernel_gradient.h"
#include "columns_input_gradient.h"

namespace depthwise::DW_ISA {

// Staged input and gradient of one block of a plane: rows `pitch` apart in both, the gradient zero
// beyond its columns.
template <class A>
struct GradientPlanes {
  const A* x;
  const A* dz;
  int64_t pitch, columns;
};

// Adds the products of dz with x at each tap's offset, over rows [begin, end), to the tap's vector.
template <int taps, class A>
[[gnu::noinline]] void add_products(const GradientPlanes<A>& s, const int64_t* offsets,
                                    int64_t begin, int64_t end, A* sums) {
  Vec<A> total[taps];
#pragma GCC unroll 16
  for (int q = 0; q < taps; ++q) total[q] = load(sums + q * lanes<A>);
  const auto run = [&](int64_t p, int64_t count) {
    const A* const x = s.x + p;
    const A* const dz = s.dz + p;
    for (int64_t i = 0; i < count; i += lanes<A>) {
      const Vec<A> g = load(dz + i);
#pragma GCC unroll 16
      for (int q = 0; q < taps; ++q) total[q] = fma(load(x + offsets[q] + i), g, total[q]);
    }
  };
  if (by_rows<A>(s.columns, s.pitch)) {
    for (int64_t r = begin; r < end; ++r) run(r * s.pitch, s.columns);
  } else {
    run(begin * s.pitch, (end - begin - 1) * s.pitch + s.columns);
  }
#pragma GCC unroll 16
  for (int q = 0; q < taps; ++q) store(sums + q * lanes<A>, total[q]);
}

template <class A>
void add_all_products(const GradientPlanes<A>& s, const int64_t* offsets, int64_t taps,
                      int64_t begin, int64_t end, A* sums) {
  if (begin >= end) return;
  for (; taps >= 9; taps -= 9, offsets += 9, sums += 9 * lanes<A>) {
    add_products<9>(s, offsets, begin, end, sums);
  }
  for (; taps >= 5; taps -= 5, offsets += 5, sums += 5 * lanes<A>) {
    add_products<5>(s, offsets, begin, end, sums);
  }
  for (; taps >= 2; taps -= 2, offsets += 2, sums += 2 * lanes<A>) {
    add_products<2>(s, offsets, begin, end, sums);
  }
  if (taps == 1) add_products<1>(s, offsets, begin, end, sums);
}

// Adds dz itself: its margins are zeros.
template <class A>
void add_sum(const GradientPlanes<A>& s, int64_t rows, A* sum) {
  Vec<A> total = load(sum);
  const int64_t length = (rows - 1) * s.pitch + s.columns;
  for (int64_t p = 0; p < length; p += lanes<A>) total += load(s.dz + p);
  store(sum, total);
}

template <class T>
bool columns_kernel_gradient(const Call& call) {
  using A = Compute<T>;
  const depthwise_params& p = *call.params;
  const int64_t outputs = p.channels * p.multiplier;
  const int64_t taps = p.kernel_height * p.kernel_width;
  const PlaneBlock block = phase_block<A>(p);
  const Phases phases(p, block);
  const int64_t row_blocks = ceil_div(p.out_height, block.rows);
  const int64_t rows = p.batch * row_blocks;  // counted in blocks here
  const int64_t parts =
      count_parts(rows, p.channels, outputs * (taps + 1) * static_cast<int64_t>(sizeof(A)));
  CallMemory memory;  // [part][output][taps + 1], the last one for the bias
  if (!memory.allocate(parts * outputs * (taps + 1) * static_cast<int64_t>(sizeof(A)))) {
    return false;
  }
  A* const partials = memory.as<A>();
  const AxisPlan plan = forward_plan(row_axis(p));

  const bool done = parallel(parts * p.channels, call.threads, [&](int64_t index) {
    const int64_t channel = index % p.channels, part_index = index / p.channels;
    ScratchLayout scratch;
    const int64_t data_at = scratch.add<A>(phases.elements<A>());
    const int64_t dz_at = scratch.add<A>(phases.result_elements<A>() + lanes<A>);
    const int64_t line_at = scratch.add<A>(phases.pitch + lanes<A>);
    const int64_t offsets_at = scratch.add<int64_t>(taps);
    const int64_t sums_at = scratch.add<A>(p.multiplier * (taps + 1) * lanes<A>);
    if (!scratch.allocate()) return false;
    A* const data = scratch.at<A>(data_at);
    A* const dz = scratch.at<A>(dz_at);
    A* const sums = scratch.at<A>(sums_at);
    int64_t* const offsets = scratch.at<int64_t>(offsets_at);
    int64_t* next_offset = offsets;
    for (int64_t i = 0; i < p.kernel_height; ++i) {
      for (int64_t j = 0; j < p.kernel_width; ++j) *next_offset++ = phases.offset_of(i, j);
    }
    fill_zero(sums, p.multiplier * (taps + 1) * lanes<A>);

    const Part part = part_of(rows, parts, part_index);
    for (int64_t step = part.begin; step < part.end; ++step) {
      const int64_t image = step / row_blocks, row = step % row_blocks * block.rows;
      const int64_t row_end = min_of(row + block.rows, p.out_height);
      const bool clip = clip_rows(plan, row, row_end);
      for (int64_t column = 0; column < p.out_width; column += block.columns) {
        const int64_t columns = min_of(block.columns, p.out_width - column);
        if (call.dkernel != nullptr) {
          phases.stage(data, image_at<T>(call.x, p.x, image, channel), row, column);
        }
        const Window window{row, 1, row_end - row, p.out_height, column, 1, columns, p.out_width};
        for (int64_t m = 0; m < p.multiplier; ++m) {
          const int64_t output = channel * p.multiplier + m;
          A* const output_sums = sums + m * (taps + 1) * lanes<A>;
          stage_window<T>(dz, phases.pitch, window, image_at<T>(call.dy, p.dy, image, output),
                          image_at<T>(call.saved, p.saved, image, output), p.activation,
                          static_cast<A>(p.alpha), scratch.at<A>(line_at));
          fill_zero(dz + (row_end - row) * phases.pitch, lanes<A>);
          const GradientPlanes<A> planes{data, dz, phases.pitch, columns};
          if (call.dkernel != nullptr && !clip) {
            add_all_products(planes, offsets, taps, 0, row_end - row, output_sums);
          } else if (call.dkernel != nullptr) {
            for (int64_t i = 0; i < p.kernel_height; ++i) {
              const TapRange meets = outputs_of_tap(row_axis(p), i);
              add_all_products(planes, offsets + i * p.kernel_width, p.kernel_width,
                               max_of(meets.begin, row) - row, min_of(meets.end, row_end) - row,
                               output_sums + i * p.kernel_width * lanes<A>);
            }
          }
          add_sum(planes, row_end - row, output_sums + taps * lanes<A>);
        }
      }
    }
    A* const partial =
        partials + (part_index * outputs + channel * p.multiplier) * (taps + 1);
    for (int64_t i = 0; i < p.multiplier * (taps + 1); ++i) {
      partial[i] = horizontal_sum<A>(load(sums + i * lanes<A>));
    }
    return true;
  });
  if (!done) return false;

  return parallel(outputs, call.threads, [&](int64_t output) {
    ScratchLayout scratch;
    const int64_t total_at = scratch.add<A>(taps + 1 + lanes<A>);
    if (!scratch.allocate()) return false;
    A* const total = scratch.at<A>(total_at);
    for (int64_t i = 0; i <= taps; ++i) {
      A sum = 0;
      for (int64_t part = 0; part < parts; ++part) {
        sum += partials[(part * outputs + output) * (taps + 1) + i];
      }
      total[i] = sum;
    }
    if (call.dbias != nullptr) {
      convert_back(static_cast<T*>(call.dbias) + output, 1, total + taps, 1);
    }
    if (call.dkernel != nullptr) {
      const depthwise_kernel_strides& s = p.dkernel;
      T* const to = static_cast<T*>(call.dkernel) + output / p.multiplier * s.channel +
                    output % p.multiplier * s.multiplier;
      for (int64_t i = 0; i < p.kernel_height; ++i) {
        convert_back(to + i * s.row, s.column, total + i * p.kernel_width, p.kernel_width);
      }
    }
    return true;
  });
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_COLUMNS_KERNEL_GRADIENT_H_
