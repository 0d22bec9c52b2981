// Forward pass of the channels family.
#ifndef DEPTHWISE_KERNELS_CHANNELS_FORWARD_H_
#define DEPTHWISE_KERNELS_CHANNELS_FORWARD_H_

#include "channels_convolution.h"
#include "column_blocks.h"
#include "rows_aside.h"

namespace depthwise::DW_ISA {

// Rows of results that cannot be written in place are made in scratch, then moved.
template <class T>
void move_row(const TargetView<T>& target, int64_t h, int64_t width, const Compute<T>* row,
              int64_t pitch, int64_t channels) {
  if (target.column == 1 && target.channel != 1 && channels >= lanes<Compute<T>> / 2) {
    move_transposed(target, h, width, row, pitch, channels);
    return;
  }
  for (int64_t w = 0; w < width; ++w) {
    convert_back(target.data + h * target.row + w * target.column, target.channel, row + w * pitch,
                 channels);
  }
}

template <class T>
bool channels_forward_of_block(const Call& call) {
  using A = Compute<T>;
  const depthwise_params& p = *call.params;
  const int64_t outputs = p.channels * p.multiplier;
  PackedKernel<A> kernel;
  PackedBias<A> bias;
  ClassPlans plans;
  ClippedTiles<A> clipped;
  if (!kernel.pack(static_cast<const T*>(call.kernel), p, call.threads) ||
      !bias.pack(static_cast<const T*>(call.bias), outputs) ||
      !plans.make_forward(p, least_tile_columns) ||
      !clipped.make(plans, kernel, p, p.in_height, call.threads)) {
    return false;
  }
  bool direct =
      RowSource<T>::can_be_direct(p.channels, p.multiplier, p.x.channel, DEPTHWISE_LINEAR) &&
      !stage_pays<T>(p, p.x);
  bool in_place = p.y.channel == 1 && (call.preactivation == nullptr || p.saved.channel == 1);
  if (!is_compute_type<T>) {  // both or neither: a tile reads and writes one type
    direct = in_place = direct && in_place && tiles_convert<T>(plans, clipped.zeros != nullptr);
  }
  const int64_t distance = pair_distance<A>(plans, clipped.zeros != nullptr);
  const int64_t ring_rows = min_of(plans.row_reach(distance), max_of(1, p.in_height));
  const int64_t hot_rows = min_of(ring_rows, p.kernel_height) + 1;
  const int64_t tasks = ceil_div(call.tasks, max_of(1, p.batch));
  const bool large = fetching_pays<T>(p.batch * p.in_height * p.in_width * p.channels);
  const bool fetches = large && reads_most_rows(p);
  const bool asks = fetches && image_bytes<T>(p) >= tuning::memory_bytes;
  const ClampRange<A> clamp = clamp_range<A>(p.activation);
  const bool streams =
      in_place && streaming_pays<T>(p.batch * p.out_height * p.out_width * outputs);
  const bool aside = streams && call.preactivation == nullptr &&
                     !(clamp.is_clamp && has_whole_lines<T>(call.y, p.y, outputs));
  const int64_t copies = direct ? 1 : RowSource<T>::staged_copies(p);
  const int64_t near_rows = (plans.rows[0].overlaps() ? hot_rows : 0) + (aside ? 2 : 0);
  const int64_t wanted =
      direct ? direct_block<T>(p, outputs, near_rows, p.in_width, p.out_height, tasks, fetches)
             : staged_block<A>(p.channels * copies, p.multiplier / copies, hot_rows, p.in_width,
                               tasks, most_staged_vectors(p.x, p.in_width, large));
  const Blocks channels(p.channels, ceil_div(wanted, direct ? p.multiplier : copies));
  const RowBlocks rows(p.out_height, rows_together(distance), p.batch * channels.count, call.tasks,
                       call.threads);
  // Weights that evict each other are copied: a block's by the task that uses them, which then has
  // them near, if it is the only one.
  const int64_t largest_block =
      (channels.end(channels.count - 1) - channels.begin(channels.count - 1)) * p.multiplier;
  const bool copies_weights = kernel.evicts && p.batch * rows.count == 1 &&
                              kernel.block_bytes(largest_block, p) <= tuning::copied_weights_bytes;
  if (!copies_weights && !kernel.separate(p, call.threads)) return false;

  return parallel(p.batch * channels.count * rows.count, call.threads, [&](int64_t task) {
    const int64_t row = task % rows.count;
    const int64_t block = task / rows.count % channels.count;
    const int64_t image = task / rows.count / channels.count;
    const int64_t c0 = channels.begin(block), count = channels.end(block) - c0;
    const int64_t co0 = c0 * p.multiplier, block_outputs = count * p.multiplier;
    const int64_t pitch = RowSource<T>::staged_pitch(block_outputs);
    const int64_t ring =
        direct ? 0 : RowSource<T>::ring_bytes(ring_rows, p.in_width, count * copies);
    const int64_t taps =
        round_up(2 * p.kernel_height * static_cast<int64_t>(sizeof(RowTaps<T>)), 64);
    const TargetView<T> y = target_at<T>(call.y, p.y, image, co0);
    const TargetView<T> z = target_at<T>(call.preactivation, p.saved, image, co0);
    const RowsAside<T> results{p.out_width, block_outputs};
    const bool block_aside = aside && results.pays(y);
    const int64_t row_bytes =
        in_place ? 0 : round_up(p.out_width * pitch * static_cast<int64_t>(sizeof(A)), 64);
    const int64_t made_bytes = block_aside ? results.bytes() : 4 * row_bytes;
    const int64_t weights = copies_weights ? kernel.block_bytes(block_outputs, p) : 0;
    char* scratch = static_cast<char*>(
        thread_scratch(static_cast<size_t>(ring + taps + clipped.bytes() + made_bytes + weights)));
    if (scratch == nullptr) return false;

    RowSource<T> source{};
    source.image = image_at<T>(call.x, p.x, image, c0);
    source.width = p.in_width;
    source.channels = count;
    source.multiplier = p.multiplier;
    source.activation = DEPTHWISE_LINEAR;
    if (direct) {
      source.use_direct();
    } else {
      source.use_ring(scratch, ring_rows, copies);
    }
    if (asks) source.height = p.in_height;
    char* const row_taps = scratch + ring;
    char* const places = row_taps + taps;
    char* const rows_made = places + clipped.bytes();
    PackedKernel<A> copied;
    if (copies_weights) copied.use_block(kernel, co0, block_outputs, p, rows_made + made_bytes);
    const PackedKernel<A>& w = copies_weights ? copied : kernel;
    const int64_t first_weight = copies_weights ? 0 : co0;
    const Finish<A> finish{bias.data != nullptr ? bias.data + co0 : nullptr, clamp, p.activation,
                           static_cast<A>(p.alpha), streams && !block_aside};
    const int64_t begin = rows.begin(row), end = rows.end(row);
    if (in_place) {
      const Clipping<T> clipping = clipped.template with<T>(places);
      T* const y_rows = reinterpret_cast<T*>(rows_made);
      const RowMaker<T, T> maker{plans,
                                 source,
                                 w,
                                 first_weight,
                                 block_aside ? TargetView<T>{y_rows, 0, block_outputs, 1} : y,
                                 z,
                                 block_aside ? results.row_elements() : 0,
                                 finish,
                                 reinterpret_cast<RowTaps<T>*>(row_taps),
                                 clipping};
      maker.make_each(begin, end, distance, [&](int64_t h, int64_t i) {
        if (block_aside) results.put(y, h, y_rows + i * results.row_elements());
      });
    } else {
      const Clipping<A> clipping = clipped.template with<A>(places);
      const int64_t row_elements = row_bytes / static_cast<int64_t>(sizeof(A));
      A* const y_rows = reinterpret_cast<A*>(rows_made);
      A* const z_rows = y_rows + 2 * row_elements;
      const RowMaker<T, A> maker{plans,
                                 source,
                                 w,
                                 first_weight,
                                 {y_rows, 0, pitch, 1},
                                 {z.data != nullptr ? z_rows : nullptr, 0, pitch, 1},
                                 row_elements,
                                 finish,
                                 reinterpret_cast<RowTaps<A>*>(row_taps),
                                 clipping};
      maker.make_each(begin, end, distance, [&](int64_t h, int64_t i) {
        move_row(y, h, p.out_width, y_rows + i * row_elements, pitch, block_outputs);
        if (z.data == nullptr) return;
        move_row(z, h, p.out_width, z_rows + i * row_elements, pitch, block_outputs);
      });
    }
    if (streams) finish_streaming();
    return true;
  });
}

template <class T>
bool channels_forward(const Call& call) {
  const depthwise_params& p = *call.params;
  const ColumnBlocks blocks =
      column_blocks<Compute<T>>(p, forward_bytes<Compute<T>>(p), p.out_width);
  if (blocks.count == 1) return channels_forward_of_block<T>(call);
  for (int64_t i = 0; i < blocks.count; ++i) {
    PartOfCall<T> part(call);
    part.take_results(blocks.begin(i), blocks.end(i));
    if (!channels_forward_of_block<T>(part.call)) return false;
  }
  return true;
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_CHANNELS_FORWARD_H_
