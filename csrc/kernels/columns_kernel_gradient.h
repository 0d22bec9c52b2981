// Gradients of the kernel and of the bias, columns family. Parts as in gradient_parts.h.
#ifndef DEPTHWISE_KERNELS_COLUMNS_KERNEL_GRADIENT_H_
#define DEPTHWISE_KERNELS_COLUMNS_KERNEL_GRADIENT_H_

#include "columns_forward.h"
#include "gradient_parts.h"

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

// The same for one tap, over the rectangle of results whose tap meets the image and nothing else: a
// value that is not finite must not meet the zeros beside it.
template <class A>
[[gnu::noinline]] void add_products_exactly(const GradientPlanes<A>& s, int64_t offset,
                                            TapRange rows, TapRange columns, A* sums) {
  Vec<A> total = load(sums);
  for (int64_t r = rows.begin; r < rows.end; ++r) {
    for (int64_t c = columns.begin; c < columns.end; c += lanes<A>) {
      const int64_t part = min_of(lanes<A>, columns.end - c);
      const int64_t p = r * s.pitch + c;
      total = fma(load_part(s.x + offset + p, part), load_part(s.dz + p, part), total);
    }
  }
  store(sums, total);
}

// Adds dz itself: its margins are zeros.
template <class A>
void add_sum(const GradientPlanes<A>& s, int64_t rows, A* sum) {
  Vec<A> total = load(sum);
  const int64_t length = (rows - 1) * s.pitch + s.columns;
  for (int64_t p = 0; p < length; p += lanes<A>) total += load(s.dz + p);
  store(sum, total);
}

// The gradient of one call: what its tasks share.
template <class T>
class PlaneGradient {
 public:
  using A = Compute<T>;

  explicit PlaneGradient(const Call& call)
      : call_(call),
        p_(*call.params),
        phases_(p_, phase_block<A>(p_)),
        rows_(forward_plan(row_axis(p_), 0, 1)),
        clip_(rows_, phases_.block.rows),
        taps_(p_.kernel_height * p_.kernel_width),
        outputs_(p_.channels * p_.multiplier),
        row_blocks_(ceil_div(p_.out_height, phases_.block.rows)),
        parts_(max_of(
            1, min_of(p_.batch * row_blocks_, ceil_div(tuning::gradient_parts, p_.channels)))) {
    const int64_t bytes = outputs_ * (taps_ + 1) * static_cast<int64_t>(sizeof(A));
    parts_ = max_of(1, min_of(parts_, tuning::gradient_round_bytes / bytes));
  }

  bool run() {
    if (!phases_.offsets(offsets_) ||
        !partials_.allocate(parts_ * outputs_ * (taps_ + 1) * static_cast<int64_t>(sizeof(A)))) {
      return false;
    }
    const auto sum = [&](int64_t task) { return sum_part(task / p_.channels, task % p_.channels); };
    const auto write = [&](int64_t output) { return write_sums(output); };
    return parallel_in_runs(parts_ * p_.channels, call_.tasks, call_.threads, sum) &&
           parallel_in_runs(outputs_, call_.tasks, call_.threads, write);
  }

 private:
  // [part][output][taps + 1], the last one for the bias.
  A* partial(int64_t part, int64_t output) const {
    return partials_.as<A>() + (part * outputs_ + output) * (taps_ + 1);
  }

  bool sum_part(int64_t part_index, int64_t channel) const {
    ScratchLayout scratch;
    const int64_t data_at = scratch.add<A>(phases_.elements<A>());
    const int64_t dz_at = scratch.add<A>(phases_.result_elements<A>() + lanes<A>);
    const int64_t line_at = scratch.add<A>(phases_.pitch + lanes<A>);
    const int64_t sums_at = scratch.add<A>(p_.multiplier * (taps_ + 1) * lanes<A>);
    if (!scratch.allocate()) return false;
    A* const sums = scratch.at<A>(sums_at);
    A* const results = partial(part_index, channel * p_.multiplier);
    const int64_t count = p_.multiplier * (taps_ + 1);
    const Part part = part_of(p_.batch * row_blocks_, parts_, part_index);
    for (int round = 0; round < 2; ++round) {
      const bool exactly = round == 1;
      fill_zero(sums, count * lanes<A>);
      for (int64_t step = part.begin; step < part.end; ++step) {
        add_block_row(step, channel, exactly, scratch.at<A>(data_at), scratch.at<A>(dz_at),
                      scratch.at<A>(line_at), sums);
      }
      for (int64_t i = 0; i < count; ++i) {
        results[i] = horizontal_sum<A>(load(sums + i * lanes<A>));
      }
      // An infinity or a NaN may have met the zeros around the planes: then once more without them.
      if (all_finite(results, count)) break;
    }
    return true;
  }

  // Adds the sums over one row of blocks of one image.
  void add_block_row(int64_t step, int64_t channel, bool exactly, A* data, A* dz, A* line,
                     A* sums) const {
    const PlaneBlock& block = phases_.block;
    const int64_t image = step / row_blocks_, row = step % row_blocks_ * block.rows;
    const int64_t row_end = min_of(row + block.rows, p_.out_height);
    for (int64_t column = 0; column < p_.out_width; column += block.columns) {
      const int64_t columns = min_of(block.columns, p_.out_width - column);
      if (call_.dkernel != nullptr) {
        phases_.stage(data, image_at<T>(call_.x, p_.x, image, channel), row, column);
      }
      const Window window{row, 1, row_end - row, p_.out_height, column, 1, columns, p_.out_width};
      for (int64_t m = 0; m < p_.multiplier; ++m) {
        const int64_t output = channel * p_.multiplier + m;
        A* const output_sums = sums + m * (taps_ + 1) * lanes<A>;
        stage_window<T>(dz, phases_.pitch, window, image_at<T>(call_.dy, p_.dy, image, output),
                        image_at<T>(call_.saved, p_.saved, image, output), p_.activation,
                        static_cast<A>(p_.alpha), line);
        fill_zero(dz + (row_end - row) * phases_.pitch, lanes<A>);
        const GradientPlanes<A> planes{data, dz, phases_.pitch, columns};
        if (call_.dkernel != nullptr) {
          add_block(planes, {row, row_end}, {column, column + columns}, exactly, output_sums);
        }
        add_sum(planes, row_end - row, output_sums + taps_ * lanes<A>);
      }
    }
  }

  void add_block(const GradientPlanes<A>& planes, TapRange rows, TapRange columns, bool exactly,
                 A* sums) const {
    const int64_t* offsets = offsets_.as<int64_t>();
    const int64_t kernel_width = p_.kernel_width;
    if (!exactly && !clip_(rows.begin, rows.end)) {
      add_all_products(planes, offsets, taps_, 0, rows.end - rows.begin, sums);
      return;
    }
    for (int64_t i = 0; i < p_.kernel_height; ++i) {
      const TapRange in_rows = within(outputs_of_tap(row_axis(p_), i), rows);
      if (!exactly) {
        add_all_products(planes, offsets, kernel_width, in_rows.begin, in_rows.end, sums);
      }
      for (int64_t j = 0; exactly && j < kernel_width; ++j) {
        add_products_exactly(planes, offsets[j], in_rows,
                             within(outputs_of_tap(column_axis(p_), j), columns),
                             sums + j * lanes<A>);
      }
      offsets += kernel_width;
      sums += kernel_width * lanes<A>;
    }
  }

  // What `range` and the block have in common, counted from the block's first.
  static TapRange within(TapRange range, TapRange block) {
    return {max_of(range.begin, block.begin) - block.begin,
            min_of(range.end, block.end) - block.begin};
  }

  // Adds up the parts of one output channel, in order.
  bool write_sums(int64_t output) const {
    ScratchLayout scratch;
    const int64_t total_at = scratch.add<A>(taps_ + 1 + lanes<A>);
    if (!scratch.allocate()) return false;
    A* const total = scratch.at<A>(total_at);
    for (int64_t i = 0; i <= taps_; ++i) {
      A sum = 0;
      for (int64_t part = 0; part < parts_; ++part) sum += partial(part, output)[i];
      total[i] = sum;
    }
    if (call_.dbias != nullptr) {
      convert_back(static_cast<T*>(call_.dbias) + output, 1, total + taps_, 1);
    }
    if (call_.dkernel != nullptr) {
      const depthwise_kernel_strides& s = p_.dkernel;
      T* const to = static_cast<T*>(call_.dkernel) + output / p_.multiplier * s.channel +
                    output % p_.multiplier * s.multiplier;
      for (int64_t i = 0; i < p_.kernel_height; ++i) {
        convert_back(to + i * s.row, s.column, total + i * p_.kernel_width, p_.kernel_width);
      }
    }
    return true;
  }

  const Call& call_;
  const depthwise_params& p_;
  Phases phases_;
  AxisPlan rows_;
  RowClip clip_;
  int64_t taps_, outputs_, row_blocks_, parts_;
  CallMemory offsets_, partials_;
};

template <class T>
bool columns_kernel_gradient(const Call& call) {
  return PlaneGradient<T>(call).run();
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_COLUMNS_KERNEL_GRADIENT_H_
