// Gradient of the input, channels family.
#ifndef DEPTHWISE_KERNELS_CHANNELS_INPUT_GRADIENT_H_
#define DEPTHWISE_KERNELS_CHANNELS_INPUT_GRADIENT_H_

#include "channels_forward.h"

namespace depthwise::DW_ISA {

// The source of the output's gradient, through the activation, for one block of output channels.
template <class T>
RowSource<T> gradient_source(const Call& call, int64_t image, int64_t first, int64_t count) {
  const depthwise_params& p = *call.params;
  RowSource<T> source{};
  source.image = image_at<T>(call.dy, p.dy, image, first);
  source.saved = image_at<T>(call.saved, p.saved, image, first);
  source.width = p.out_width;
  source.channels = count;
  source.multiplier = 1;
  source.activation = p.activation;
  source.alpha = static_cast<Compute<T>>(p.alpha);
  return source;
}

// In place: element c becomes the sum of its `multiplier` neighbours from c * multiplier on.
template <class A>
DW_INLINE void sum_groups(A* row, int64_t channels, int64_t multiplier) {
  if (multiplier == 1) return;
  for (int64_t c = 0; c < channels; ++c) {
    A sum = row[c * multiplier];
    for (int64_t m = 1; m < multiplier; ++m) sum += row[c * multiplier + m];
    row[c] = sum;
  }
}

template <class T>
bool channels_input_gradient(const Call& call) {
  using A = Compute<T>;
  const depthwise_params& p = *call.params;
  const int64_t outputs = p.channels * p.multiplier;
  PackedKernel<A> kernel;
  ClassPlans plans;
  ClippedTiles<A> clipped;
  if (!kernel.pack(static_cast<const T*>(call.kernel), p) || !plans.make_gradient(p) ||
      !clipped.make(plans, kernel, p, p.out_height)) {
    return false;
  }
  const int64_t ring_rows = min_of(plans.row_reach() + 1, max_of(1, p.out_height));

  const bool direct = RowSource<T>::can_be_direct(outputs, 1, p.dy.channel, p.activation) &&
                      !stage_pays<T>(p, p.dy);
  const bool in_place = p.multiplier == 1 && p.dx.channel == 1;
  const bool pairs = in_place && rows_pair<T>(plans, clipped.zeros != nullptr);
  const int64_t tasks = ceil_div(call.tasks, max_of(1, p.batch));
  const int64_t wanted =
      direct ? direct_block<A>(p, outputs, ring_rows + 1, p.out_width, p.in_height, tasks)
             : staged_block<A>(outputs, ring_rows + 1, p.out_width, tasks);
  const Blocks channels(p.channels, ceil_div(wanted, p.multiplier));
  const int64_t block_rows = row_block(p.in_height, p.batch * channels.count, call.tasks);
  const int64_t row_blocks = ceil_div(p.in_height, block_rows);
  const bool fetches = fetching_pays<T>(p.batch * p.out_height * p.out_width * outputs);
  const bool streams =
      in_place && streaming_pays<T>(p.batch * p.in_height * p.in_width * p.channels);
  const Finish<A> finish{nullptr, clamp_range<A>(DEPTHWISE_LINEAR), DEPTHWISE_LINEAR, 0, streams};

  return parallel(p.batch * row_blocks * channels.count, call.threads, [&](int64_t task) {
    const int64_t block = task % channels.count;
    const int64_t rows = task / channels.count % row_blocks;
    const int64_t image = task / channels.count / row_blocks;
    const int64_t c0 = channels.begin(block), count = channels.end(block) - c0;
    const int64_t co0 = c0 * p.multiplier, block_outputs = count * p.multiplier;
    const int64_t pitch = RowSource<T>::staged_pitch(block_outputs);
    const int64_t ring =
        direct ? 0 : RowSource<T>::ring_bytes(ring_rows, p.out_width, block_outputs);
    const int64_t taps =
        round_up((p.kernel_height + 1) * static_cast<int64_t>(sizeof(RowTaps<A>)), 64);
    const int64_t row_bytes = in_place ? 0 : p.in_width * pitch * static_cast<int64_t>(sizeof(A));
    char* scratch = static_cast<char*>(
        thread_scratch(static_cast<size_t>(ring + taps + clipped.bytes() + row_bytes)));
    if (scratch == nullptr) return false;

    RowSource<T> source = gradient_source<T>(call, image, co0, block_outputs);
    if (direct) {
      source.use_direct();
    } else {
      source.use_ring(scratch, ring_rows);
    }
    if (fetches) source.height = p.out_height;
    RowTaps<A>* const row_taps = reinterpret_cast<RowTaps<A>*>(scratch + ring);
    const Clipping<A> clipping = clipped.with(scratch + ring + taps);
    char* const rows_made = scratch + ring + taps + clipped.bytes();
    const TargetView<T> dx = target_at<T>(call.dx, p.dx, image, c0);
    const int64_t begin = rows * block_rows, end = min_of(begin + block_rows, p.in_height);
    if (in_place) {
      convolve_rows(plans, source, kernel, co0, begin, end, pairs, dx, TargetView<T>{}, finish,
                    row_taps, clipping, [](int64_t) {});
    } else {
      A* const row = reinterpret_cast<A*>(rows_made);
      convolve_rows(plans, source, kernel, co0, begin, end, false, TargetView<A>{row, 0, pitch, 1},
                    TargetView<A>{}, finish, row_taps, clipping, [&](int64_t h) {
                      for (int64_t w = 0; w < p.in_width; ++w) {
                        sum_groups(row + w * pitch, count, p.multiplier);
                      }
                      move_row(dx, h, p.in_width, row, pitch, count);
                    });
    }
    if (streams) finish_streaming();
    return true;
  });
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_CHANNELS_INPUT_GRADIENT_H_
