// Forward pass of the channels family.
#ifndef DEPTHWISE_KERNELS_CHANNELS_FORWARD_H_
#define DEPTHWISE_KERNELS_CHANNELS_FORWARD_H_

#include "channels_convolution.h"
#include "column_blocks.h"

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

// Few channels and a stride: staging rows, pixel by pixel, takes longer than to go over pixels with
// most lanes empty, each read in place, unless there are many taps. Two cores of a Zen 4 took,
// along pixels and like this, in us, for 3x3 at stride 3 on 85x85x5 11.5 and 8.0, on 130x130x8 15.3
// and 11.7, at stride 2 on 112x112x8 13.8 and 10.7, for 5x5 at stride 2 17.6 and 19.3; where rows
// were staged along channels, for 3x3 at stride 2 on 60x60x12 7.6 and 5.9, for 5x5 on
// 112x112x14 27.9 and 20.1; with less than 5 channels it is slower. Not so where masked loads are
// slow: one core of a Zen 1 took for 3x3 at stride 3 on 85x85x5 28 and 46, at stride 2 on 112x112x4
// 41 and 110, on 60x60x6 19 and 37, for 1x8 at strides 1 and 2 on 4 of 66x66x4 59 and 233.
template <class T>
bool takes_few(const depthwise_params& p) {
  constexpr int64_t n = lanes<Compute<T>>;
  const int64_t strides = p.stride_height * p.stride_width;
  const int64_t taps = p.kernel_height * p.kernel_width;
  if (!repeats_on_load<T>(2) || cuts_faster<T> || p.layout != DEPTHWISE_CHANNELS_LAST ||
      p.multiplier != 1 || strides == 1 || taps == 1 || p.channels >= n || 4 * p.channels <= n) {
    return false;
  }
  // In cycles for a row of results: those to move a pixel were 5, those of a tap 1.5 and 1.
  const int64_t vectors = ceil_div(p.out_width * p.channels, n);
  return 3 * p.out_width * taps < 2 * (5 * p.out_width * strides + vectors * taps);
}

// What a call needs, and the blocks of channels and rows that its tasks make.
template <class T>
class ChannelsForward {
 public:
  using A = Compute<T>;

  // `call`: a block of columns of one of the size `whole`, or all of it.
  ChannelsForward(const Call& call, const depthwise_params& whole)
      : call_(call), p_(*call.params), whole_(whole), outputs_(p_.channels * p_.multiplier) {}

  bool run() {
    if (!make_weights()) return false;
    choose_ways();
    if (direct_) {
      kernel_.keep_apart(call_.x, p_.x.column * static_cast<int64_t>(sizeof(T)), p_);
    }
    cut();
    if (!copies_weights_ && !kernel_.separate(p_, call_.threads)) return false;
    const BlockTasks tasks = BlockTasks::of<A>(p_, channels_.count, rows_.count);
    return parallel(tasks.count(), call_.threads,
                    [&](int64_t index) { return make_block(tasks[index]); });
  }

 private:
  // One block of channels and rows of an image.
  struct Block {
    int64_t begin, end;  // rows of results
    int64_t outputs;
    const PackedKernel<A>* weights;
    int64_t first_weight;
    TargetView<T> y, z;
    Finish<A> finish;
    char *taps, *places, *made;  // scratch
  };

  bool make_weights() {
    return kernel_.pack(static_cast<const T*>(call_.kernel), p_, call_.threads) &&
           bias_.pack(static_cast<const T*>(call_.bias), outputs_) &&
           plans_.make_forward(p_, least_class_columns(p_)) &&
           clipped_.make(plans_, kernel_, p_, p_.in_height, call_.threads);
  }

  // How rows are read and written.
  void choose_ways() {
    const bool can_clip = clipped_.zeros != nullptr;
    direct_ =
        (takes_few<T>(p_) && p_.x.channel == 1) ||
        (RowSource<T>::can_be_direct(p_.channels, p_.multiplier, p_.x.channel, DEPTHWISE_LINEAR) &&
         !stage_pays<T>(p_, p_.x));
    in_place_ = p_.y.channel == 1 && (call_.preactivation == nullptr || p_.saved.channel == 1);
    if (!is_compute_type<T>) {  // both or neither: a tile reads and writes one type
      const double loads = tile_loads(p_, p_.stride_height * p_.stride_width);
      direct_ = in_place_ = direct_ && in_place_ && tiles_convert<T>(plans_, can_clip, loads);
    }
    copies_ = direct_ ? 1 : RowSource<T>::staged_copies(p_);
    distance_ = pair_distance<A>(plans_, can_clip);
    stages_at_once_ =
        !direct_ && copies_ == 1 && rows_touch(p_.x, p_.in_width) && planes_are_small();
    moves_at_once_ = stages_at_once_ && !in_place_ && rows_touch(p_.y, p_.out_width) &&
                     (call_.preactivation == nullptr || rows_touch(p_.saved, p_.out_width));
    ring_rows_ = max_of(1, p_.in_height);
    if (!stages_at_once_) ring_rows_ = min_of(ring_rows_, plans_.row_reach(distance_));
    streams_ = in_place_ && streaming_pays<T>(whole_);
    const bool tiles_stream =
        clamp_range<A>(p_.activation).is_clamp && has_whole_lines<T>(call_.y, p_.y, outputs_);
    aside_ = streams_ && call_.preactivation == nullptr && !tiles_stream;
  }

  // Whether nothing lies between rows of planes, and they are so short that it pays to go over
  // several of them at once.
  bool rows_touch(const depthwise_image_strides& s, int64_t width) const {
    return s.column == 1 && s.channel != 1 && s.row == width && width < tuning::touching_columns &&
           p_.channels >= lanes<A> / 2;
  }
  bool planes_are_small() const {
    const int64_t results = p_.out_height * p_.out_width * p_.multiplier;
    return vector_bytes<A>(p_.in_height * p_.in_width + results) <= tuning::staged_bytes;
  }

  void cut() {
    const int64_t hot_rows = min_of(ring_rows_, p_.kernel_height) + 1;
    const int64_t results = moves_at_once_ ? p_.out_height * p_.out_width * p_.multiplier : 0;
    const int64_t kept_rows =
        stages_at_once_ ? ring_rows_ + ceil_div(results, max_of(1, p_.in_width)) : hot_rows;
    const int64_t near_rows = plans_.rows[0].overlaps() ? hot_rows : 0;
    const int64_t tasks = ceil_div(call_.tasks, max_of(1, p_.batch));
    const bool large =
        fetching_pays<T>(whole_.batch * whole_.in_height * whole_.in_width * whole_.channels);
    const bool fetches = large && reads_all(p_);
    asks_ = fetches && reads_memory<T>(whole_);
    const int64_t wanted =
        direct_
            ? direct_block<T>(p_, outputs_, near_rows, p_.in_width, p_.out_height, tasks, fetches)
            : max_of(least_staged(),
                     staged_block<A>(p_.channels * copies_, p_.multiplier / copies_, kept_rows,
                                     p_.in_width, tasks,
                                     most_staged_vectors(p_.x, p_.in_width, large)));
    channels_ = Blocks(p_.channels, ceil_div(wanted, direct_ ? p_.multiplier : copies_));
    const bool is_even = stages_planes() && share_evenly(ceil_div(wanted, copies_));
    rows_ = RowBlocks(p_.out_height, rows_together(distance_), p_.batch * channels_.count,
                      is_even ? 1 : call_.tasks, call_.threads);
    // Weights that evict each other are copied: a block's by the task that uses them, which then
    // has them near, if it is the only one.
    const int64_t last = channels_.count - 1;
    const int64_t largest = (channels_.end(last) - channels_.begin(last)) * p_.multiplier;
    copies_weights_ = kernel_.evicts && p_.batch * rows_.count == 1 &&
                      kernel_.block_bytes(largest, p_) <= tuning::copied_weights_bytes;
  }

  // Whether images are planes that are transposed as they are staged.
  bool stages_planes() const { return !direct_ && p_.x.column == 1 && p_.x.channel != 1; }

  // Takes blocks of about so many channels that threads share evenly, if there are such: blocks of
  // rows stage the rows between them twice.
  bool share_evenly(int64_t wanted) {
    const int64_t vectors = p_.channels / lanes<A>, threads = call_.threads;
    const int64_t least = ceil_div(vectors, max_of(1, wanted / lanes<A>));
    for (int64_t count = max_of(1, least); count < least + threads && count <= vectors; ++count) {
      if (p_.batch * count % threads != 0) continue;
      const Blocks blocks = Blocks::even(p_.channels, lanes<A>, count);
      if (p_.batch % threads != 0 && !are_even(blocks, threads)) continue;
      channels_ = blocks;
      return true;
    }
    return false;
  }
  // Whether no thread has much more than its share of an image. Two cores of a Zen 4 took with
  // blocks of rows, too, and with even blocks of channels, in us, for 4x5 on 10x10x664 16.1 and
  // 12.4, for 3x3 at stride 2 on 112x112x64 57 and 52, for 4x4 on 28x28x128 31 and 25, for 9x9 on
  // 40x40x128 183 and 195; with one of two vectors and one of three, 3x3 on 14x14x80 13.4 and 14.6.
  static bool are_even(const Blocks& blocks, int64_t threads) {
    int64_t largest = 0;
    for (int64_t i = 0; i < threads; ++i) {
      const int64_t begin = blocks.begin(blocks.count * i / threads);
      const int64_t end = blocks.begin(blocks.count * (i + 1) / threads);
      largest = max_of(largest, ceil_div(end - begin, lanes<A>));
    }
    return 10 * largest * threads <= 11 * ceil_div(blocks.total, lanes<A>);
  }

  // Planes are transposed a vector of channels at a time: of these, with their copies, a block has
  // no fewer if the scratch has room.
  int64_t least_staged() const {
    const int64_t bytes = vector_bytes<A>(copies_ * (ring_rows_ * p_.in_width + 4 * p_.out_width));
    const bool fits = copies_ > 1 && bytes <= tuning::scratch_bytes;
    return stages_planes() && fits ? copies_ * min_of(lanes<A>, p_.channels) : 0;
  }

  bool make_block(const BlockTasks::Task& task) const {
    const int64_t c0 = channels_.begin(task.channels), count = channels_.end(task.channels) - c0;
    const int64_t co0 = c0 * p_.multiplier;
    Block b{};
    b.begin = rows_.begin(task.rows);
    b.end = rows_.end(task.rows);
    b.outputs = count * p_.multiplier;
    b.y = target_at<T>(call_.y, p_.y, task.image, co0);
    b.z = target_at<T>(call_.preactivation, p_.saved, task.image, co0);
    RowsAside<T> aside(p_.out_width, b.outputs, plans_.column_classes == 1);
    const bool is_aside = aside_ && aside.pays(b.y);
    const int64_t ring =
        direct_ ? 0 : RowSource<T>::ring_bytes(ring_rows_, p_.in_width, count * copies_);
    const int64_t taps =
        round_up(2 * p_.kernel_height * static_cast<int64_t>(sizeof(RowTaps<T>)), 64);
    const int64_t weights = copies_weights_ ? kernel_.block_bytes(b.outputs, p_) : 0;
    const int64_t rows_apart =
        moves_at_once_ ? b.end - b.begin : 2;  // of results, and of what is kept
    const int64_t apart =
        in_place_ ? 0
                  : (call_.preactivation != nullptr ? 2 : 1) * rows_apart * row_bytes(b.outputs);
    const int64_t made = is_aside ? aside.bytes() : apart;
    char* const scratch = static_cast<char*>(
        thread_scratch(static_cast<size_t>(ring + taps + clipped_.bytes() + weights + made)));
    if (scratch == nullptr) return false;
    b.taps = scratch + ring;
    b.places = b.taps + taps;
    char* const copied = b.places + clipped_.bytes();
    b.made = copied + weights;

    RowSource<T> source{};
    source.image = image_at<T>(call_.x, p_.x, task.image, c0);
    source.width = p_.in_width;
    source.height = asks_ ? p_.in_height : 0;
    source.channels = count;
    source.multiplier = p_.multiplier;
    source.activation = DEPTHWISE_LINEAR;
    if (direct_) {
      source.use_direct();
    } else {
      source.use_ring(scratch, ring_rows_, copies_, stages_at_once_);
    }
    if (stages_at_once_) {
      const AxisPlan& rows = plans_.rows[0];
      source.stage_planes(
          max_of(0, rows.position_of(b.begin)),
          min_of(p_.in_height, rows.position_of(b.end - 1) + (rows.taps - 1) * rows.tap_step + 1));
    }
    PackedKernel<A> own;
    if (copies_weights_) own.use_block(kernel_, co0, b.outputs, p_, copied);
    b.weights = copies_weights_ ? &own : &kernel_;
    b.first_weight = copies_weights_ ? 0 : co0;
    b.finish = {bias_.data != nullptr ? bias_.data + co0 : nullptr, clamp_range<A>(p_.activation),
                p_.activation, static_cast<A>(p_.alpha), streams_ && !is_aside};
    if (is_aside) {
      aside.use(b.made, b.y);
      make_in_place(source, b, &aside);
    } else if (in_place_) {
      make_in_place(source, b, nullptr);
    } else if (moves_at_once_) {
      make_planes(source, b);
    } else {
      make_apart(source, b);
    }
    if (streams_) finish_streaming();
    return true;
  }

  void make_in_place(RowSource<T>& source, const Block& b, RowsAside<T>* aside) const {
    const Clipping<T> clipping = clipped_.template with<T>(b.places);
    RowTaps<T>* const taps = reinterpret_cast<RowTaps<T>*>(b.taps);
    const RowMaker<T, T> maker{plans_, source,   *b.weights, b.first_weight, b.y,     b.z,
                               0,      b.finish, taps,       clipping,       nullptr, aside};
    maker.make_each(b.begin, b.end, distance_, [](int64_t, int64_t) {});
  }

  // Rows that cannot be written in place are made in scratch, then moved.
  void make_apart(RowSource<T>& source, const Block& b) const {
    const Clipping<A> clipping = clipped_.template with<A>(b.places);
    const int64_t row = row_bytes(b.outputs) / static_cast<int64_t>(sizeof(A));
    const int64_t pitch = RowSource<T>::staged_pitch(b.outputs);
    A* const y_rows = reinterpret_cast<A*>(b.made);
    A* const z_rows = y_rows + 2 * row;
    const TargetView<A> to{y_rows, 0, pitch, 1};
    const TargetView<A> kept{b.z.data != nullptr ? z_rows : nullptr, 0, pitch, 1};
    RowTaps<A>* const taps = reinterpret_cast<RowTaps<A>*>(b.taps);
    const RowMaker<T, A> maker{plans_, source, *b.weights, b.first_weight, to,
                               kept,   row,    b.finish,   taps,           clipping};
    maker.make_each(b.begin, b.end, distance_, [&](int64_t h, int64_t i) {
      move_row(b.y, h, p_.out_width, y_rows + i * row, pitch, b.outputs);
      if (b.z.data != nullptr) move_row(b.z, h, p_.out_width, z_rows + i * row, pitch, b.outputs);
    });
  }

  // Rows that touch: all are made in scratch, then moved as one.
  void make_planes(RowSource<T>& source, const Block& b) const {
    const Clipping<A> clipping = clipped_.template with<A>(b.places);
    const int64_t pitch = RowSource<T>::staged_pitch(b.outputs), row = p_.out_width * pitch;
    A* const y_rows = reinterpret_cast<A*>(b.made);
    A* const z_rows = y_rows + (b.end - b.begin) * row;
    const TargetView<A> to{y_rows - b.begin * row, row, pitch, 1};
    const TargetView<A> kept{b.z.data != nullptr ? z_rows - b.begin * row : nullptr, row, pitch, 1};
    RowTaps<A>* const taps = reinterpret_cast<RowTaps<A>*>(b.taps);
    const RowMaker<T, A> maker{plans_, source, *b.weights, b.first_weight, to,
                               kept,   0,      b.finish,   taps,           clipping};
    maker.make_each(b.begin, b.end, distance_, [](int64_t, int64_t) {});
    const int64_t columns = (b.end - b.begin) * p_.out_width;
    move_transposed(b.y, b.begin, columns, y_rows, pitch, b.outputs);
    if (b.z.data != nullptr) move_transposed(b.z, b.begin, columns, z_rows, pitch, b.outputs);
  }

  int64_t row_bytes(int64_t outputs) const {
    const int64_t pitch = RowSource<T>::staged_pitch(outputs);
    return round_up(p_.out_width * pitch * static_cast<int64_t>(sizeof(A)), 64);
  }

  const Call& call_;
  const depthwise_params &p_, &whole_;
  int64_t outputs_;
  PackedKernel<A> kernel_;
  PackedBias<A> bias_;
  ClassPlans plans_;
  ClippedTiles<A> clipped_;
  bool direct_ = false, in_place_ = false;
  bool stages_at_once_ = false, moves_at_once_ = false;  // at once, not row by row
  int64_t copies_ = 1;                                   // of each channel of the input, staged
  int64_t distance_ = 0, ring_rows_ = 0;
  bool asks_ = false, streams_ = false;
  bool aside_ = false;           // results go past the caches, but not from tiles
  bool copies_weights_ = false;  // each task its own
  Blocks channels_{0, 1};
  RowBlocks rows_{0, 1, 1, 1, 1};
};

// What does not fit the scratch is cut, and what comes from memory where rows are so long that
// those of one row of results would fill the second-level cache: a part of the columns leaves
// longer runs than a part of the channels.
template <class T>
ColumnBlocks forward_blocks(const depthwise_params& p) {
  ColumnBlocks blocks = column_blocks<Compute<T>>(p, forward_bytes<Compute<T>>(p), p.out_width);
  const bool fetches = p.layout == DEPTHWISE_CHANNELS_LAST && reads_all(p) && reads_memory<T>(p);
  if (!fetches || blocks.count > 1) return blocks;
  const int64_t reach = (p.kernel_height - 1) * p.dilation_height + 1;
  const int64_t rows = max_of(1, min_of(reach + p.stride_height, p.in_height));
  const int64_t columns = max_of(1, min_of(p.stride_width, p.in_width));
  const int64_t most = tuning::fetched_columns_bytes /
                       (rows * columns * p.channels * static_cast<int64_t>(sizeof(T)));
  if (most >= tuning::least_fetched_columns) blocks.count = ceil_div(p.out_width, most);
  return blocks;
}

template <class T>
bool channels_forward(const Call& call) {
  const depthwise_params& p = *call.params;
  return over_column_blocks<T>(call, forward_blocks<T>(p), &PartOfCall<T>::take_results,
                               [&](const Call& part) { return ChannelsForward<T>(part, p).run(); });
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_CHANNELS_FORWARD_H_
