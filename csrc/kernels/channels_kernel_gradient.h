// Gradients of the kernel and of the bias, channels family: for each tap, the product of input and
// output gradient summed over images, rows and columns.
#ifndef DEPTHWISE_KERNELS_CHANNELS_KERNEL_GRADIENT_H_
#define DEPTHWISE_KERNELS_CHANNELS_KERNEL_GRADIENT_H_

#include "gradient_columns.h"
#include "gradient_parts.h"
#include "row_sums.h"

namespace depthwise::DW_ISA {

// The sums of one call, and what they are cut into: channels into blocks, rows of outputs into
// parts (gradient_parts.h), columns into blocks (gradient_columns.h). With `input_gradients`, their
// rows are written on the way, while those of the output's gradient that they are made of are near.
template <class T>
class TapGradient {
 public:
  using A = Compute<T>;
  static constexpr int64_t element = sizeof(A);

  static bool fetches(const depthwise_params& p) {
    return gradients_fetch<T>(p) && covers_strides(p);
  }

  TapGradient(const Call& call, const ColumnBlocks& columns,
              const InputGradients<T>* input_gradients)
      : call_(call),
        p_(*call.params),
        columns_(columns),
        input_gradients_(input_gradients),
        outputs_(p_.channels * p_.multiplier),
        taps_(p_.kernel_height * p_.kernel_width),
        rows_(p_.batch * p_.out_height),
        dx_reach_(input_gradients != nullptr ? input_gradients->reach() : 0),
        fetches_(fetches(p_)),
        asks_(gradients_reach_memory<T>(p_) && covers_strides(p_)),
        strides_(p_.stride_height * p_.stride_width > 1),
        direct_x_(reads_input_in_place()),
        direct_dz_(is_compute_type<T> &&
                   RowSource<T>::can_be_direct(outputs_, 1, p_.dy.channel, p_.activation)),
        copies_(direct_x_ ? 1 : RowSource<T>::staged_copies(p_)),
        halves_(sums_halves<A>(column_axis(p_)) && copies_ == p_.multiplier),
        widths_(widest()),
        sized_(ChannelBlocks::of(p_.channels, ceil_div(lanes<A>, p_.multiplier),
                                 ceil_div(block_outputs(), p_.multiplier))),
        block_rows_(block_rows()),
        parts_(sums_bytes() > tuning::gradient_round_bytes ? 1 : count_parts(p_, sized_.count)),
        channels_(fitting_blocks()) {
    // Slots of whole vectors for every block: see write_row().
    pitch_ = round_up(outputs_, lanes<A>) + channels_.count * lanes<A>;
    part_elements_ = (taps_ + 1) * pitch_;
    const int64_t bytes = sums_bytes();
    const int64_t most = max_of(1, call.threads * tuning::gradient_round_bytes / bytes);
    round_ = ceil_div(parts_, ceil_div(parts_, most));  // rounds of nearly one size
  }

  bool run() {
    const bool has_rounds = round_ < parts_;
    if (!partials_.allocate((round_ + (has_rounds ? 1 : 0)) * part_elements_ * element)) {
      return false;
    }
    for (int64_t first = 0; first < parts_; first += round_) {
      const int64_t count = min_of(round_, parts_ - first);
      const int64_t groups = groups_of(count);
      const bool summed = parallel(groups * channels_.count, call_.threads, [&](int64_t task) {
        const int64_t group = task / channels_.count, block = task % channels_.count;
        return sum_parts(first + count * group / groups, first + count * (group + 1) / groups,
                         first, block);
      });
      if (!summed) return false;
      const bool written = parallel(taps_ + 1, call_.threads, [&](int64_t tap) {
        return write_row(tap, count, first > 0, first + count < parts_);
      });
      if (!written) return false;
    }
    return true;
  }

 private:
  // Columns of the widest block.
  struct Widths {
    int64_t x = 0, dz = 0, dx = 0;
  };
  Widths widest() const {
    Widths most;
    for (int64_t i = 0; i < columns_.count; ++i) {
      const bool with_dx = input_gradients_ != nullptr;
      const GradientColumns<T> columns(call_, columns_, i, with_dx);
      most.x = max_of(most.x, columns.sums.params.in_width);
      most.dz = max_of(most.dz, columns.both.params.out_width);
      if (with_dx) most.dx = max_of(most.dx, columns.both.params.in_width);
    }
    return most;
  }

  bool reads_input_in_place() const {
    const bool evicting =
        p_.x.column * static_cast<int64_t>(sizeof(T)) % tuning::gradient_evicting_bytes == 0;
    return is_compute_type<T> && taps_ < tuning::gradient_staged_taps && !evicting &&
           RowSource<T>::can_be_direct(p_.channels, p_.multiplier, p_.x.channel, DEPTHWISE_LINEAR);
  }

  // Of all taps and outputs, for one part.
  int64_t sums_bytes() const { return (taps_ + 1) * outputs_ * element; }

  // Outputs of a block of channels, by sizes alone. Where parts are few or their sums large,
  // channels are divided: that costs no sums, but memory is read in shorter runs.
  int64_t block_outputs() const {
    const bool is_large = tuning::gradient_parts * sums_bytes() > tuning::gradient_parts_bytes;
    const int64_t parts = is_large ? 1 : count_parts(p_, 1);
    const int64_t wanted = ceil_div(tuning::least_gradient_tasks, parts);
    const int64_t least = fetches_ ? tuning::least_fetched_vectors : tuning::least_block_vectors;
    const int64_t share =
        wanted > 1 ? round_up(max_of(outputs_ / wanted, least * lanes<A>), lanes<A>) : outputs_;
    const int64_t reach = (p_.kernel_height - 1) * p_.dilation_height + 1;
    const auto fitting = [&](int64_t room) {
      return staged_block<A>(outputs_, 1, reach + 1, widths_.x, 1, INT64_MAX, room);
    };
    if (!fetches_) return min_of(share, fitting(tuning::staged_bytes));
    // Whole rows stream best, as long as what is staged of them fits, and more so where columns are
    // no whole lines, of which two blocks would have a part each.
    const int64_t whole = fitting(outputs_ % lanes<A> == 0 ? tuning::fetched_gradient_bytes
                                                           : 2 * tuning::fetched_gradient_bytes);
    const int64_t part =
        max_of(fitting(tuning::fetched_part_bytes), tuning::least_part_vectors * lanes<A>);
    return min_of(share, whole < outputs_ ? part : whole);
  }

  // Rows of a block of rows whose staged input and gradient fit the cache, and the scratch even if
  // the input's gradient is made, too. Sums are kept in memory from one to the next, and go into
  // the bits like that: so sizes alone say how many there are.
  GradientRows block_rows() const {
    const Axis columns = column_axis(p_);
    const int64_t beyond =
        columns_.count > 1 ? columns_beyond(columns, columns.out) / columns.stride + 2 : 0;
    const int64_t dz_width = min_of(columns.out, ceil_div(columns.out, columns_.count) + beyond);
    const int64_t vectors = ceil_div(sized_.largest() * p_.multiplier, lanes<A>);
    const int64_t row = vector_bytes<A>(widths_.x * p_.stride_height + dz_width) * vectors;
    const int64_t reach = gradient_rows_of_pair(row_axis(p_));
    int64_t count = max_of(1, tuning::staged_bytes / max_of(1, row));
    const auto bytes = [&] {
      const GradientRows rows(p_, count, reach);
      return vector_bytes<A>((rows.x + 2) * widths_.x + rows.dz * dz_width) * vectors;
    };
    while (count > 1 && bytes() > tuning::scratch_bytes) count = (count + 1) / 2;
    return GradientRows(p_, count, dx_reach_);
  }

  // Those by sizes, unless what is staged of one would not fit the scratch, or threads would have
  // none. They are no part of the bits.
  ChannelBlocks fitting_blocks() const {
    const GradientRows& rows = block_rows_;
    const bool moves_dx = input_gradients_ != nullptr && !input_gradients_->in_place();
    const int64_t columns = (direct_x_ ? 0 : rows.x) * widths_.x +
                            (direct_dz_ ? 0 : rows.dz) * widths_.dz +
                            (moves_dx ? 2 : 0) * widths_.dx;
    const int64_t most = max_of(1, tuning::scratch_bytes / max_of(1, vector_bytes<A>(columns)));
    ChannelBlocks blocks = sized_;
    while (ceil_div(blocks.largest() * p_.multiplier, lanes<A>) > most &&
           blocks.count < p_.channels / blocks.grain) {
      ++blocks.count;
    }
    const int64_t pairs = p_.channels / blocks.grain / 2;  // of vectors
    blocks.count = max_of(blocks.count, min_of(ceil_div(call_.threads, parts_), pairs));
    const int64_t shift = channels_before_line();
    if (shift < p_.channels / blocks.grain / blocks.count * blocks.grain) blocks.shift = shift;
    return blocks;
  }

  // Channels of every column of the input's gradient before its first whole line, where these are
  // as many in each: blocks that begin with a line share none.
  int64_t channels_before_line() const {
    const depthwise_image_strides& s = p_.dx;
    const int64_t bytes = sizeof(T);
    const int64_t off = static_cast<int64_t>(reinterpret_cast<uintptr_t>(call_.dx) % line_bytes);
    if (input_gradients_ == nullptr || s.channel != 1 || off % bytes != 0 ||
        (s.batch | s.row | s.column) * bytes % line_bytes != 0) {
      return 0;
    }
    return (line_bytes - off) % line_bytes / bytes;
  }

  // Groups of as many parts each that follow each other and are one task: rows at the ends of a
  // group are staged twice, those between its parts are not. As many as threads at least, whose
  // rows are then those of their forward pass.
  int64_t groups_of(int64_t parts) const {
    const int64_t wanted = ceil_div(call_.tasks, channels_.count * tuning::tasks_together);
    int64_t groups = min_of(parts, max_of(call_.threads, wanted));
    while (parts % groups != 0) ++groups;
    return groups;
  }

  A* partial(int64_t part, int64_t block) const {
    const int64_t first = channels_.begin(block) * p_.multiplier;
    return partials_.as<A>() + part * part_elements_ + round_up(first, lanes<A>) + block * lanes<A>;
  }

  // One block of channels over the parts [begin, end), of the round that begins with part `first`.
  bool sum_parts(int64_t begin, int64_t end, int64_t first, int64_t block) const {
    const int64_t outputs = (channels_.end(block) - channels_.begin(block)) * p_.multiplier;
    for (int64_t part = begin; part < end; ++part) {
      A* const sums = partial(part - first, block);
      for (int64_t tap = 0; tap <= taps_; ++tap) {
        for (int64_t c = 0; c < outputs; c += lanes<A>) store(sums + tap * pitch_ + c, zero<A>());
      }
    }
    for (int64_t i = 0; i < columns_.count; ++i) {
      if (!sum_columns(i, begin, end, first, block)) return false;
    }
    return true;
  }

  // One block of columns. Rows that are staged stay from part to part.
  bool sum_columns(int64_t columns_index, int64_t first_part, int64_t last_part, int64_t round,
                   int64_t block) const {
    const bool with_dx = input_gradients_ != nullptr;
    const GradientColumns<T> columns(call_, columns_, columns_index, with_dx);
    const Call &sums = columns.sums.call, &both = columns.both.call;
    const depthwise_params& p = *sums.params;
    const int64_t dz_width = both.params->out_width;
    const InputGradient<T>* const input_gradient =
        with_dx ? &(*input_gradients_)[columns_index] : nullptr;
    const int64_t c0 = channels_.begin(block), count = channels_.end(block) - c0;
    const int64_t outputs = count * p.multiplier;
    const GradientRows& rows = block_rows_;
    const int64_t x_ring =
        direct_x_ ? 0 : RowSource<T>::ring_bytes(rows.x, p.in_width, count * copies_);
    const int64_t z_ring = direct_dz_ ? 0 : RowSource<T>::ring_bytes(rows.dz, dz_width, outputs);
    const int64_t dx_bytes = with_dx ? input_gradient->scratch_bytes(*both.params, outputs) : 0;
    char* const scratch =
        static_cast<char*>(thread_scratch(static_cast<size_t>(x_ring + z_ring + dx_bytes + 64)));
    if (scratch == nullptr) return false;

    RowSource<T> x{}, dz{};
    int64_t current = -1;
    bool is_asked_for = false;  // what the activation's gradient is made of, by the block before
    int64_t part = first_part;
    const int64_t last_row = part_of(rows_, parts_, last_part - 1).end;
    for (int64_t row = part_of(rows_, parts_, first_part).begin; row < last_row;) {
      while (row >= part_of(rows_, parts_, part).end) ++part;
      const int64_t image = row / p.out_height, begin = row % p.out_height;
      const int64_t left_of_part = part_of(rows_, parts_, part).end - row;
      const int64_t end = min_of(min_of(begin + rows.outputs, p.out_height), begin + left_of_part);
      const int64_t left = last_row - (row + end - begin);  // rows after this block
      if (image != current) {  // rows that are staged stay from block to block
        current = image;
        const bool continues = row - begin + p.out_height < last_row;
        x.image = image_at<T>(sums.x, p.x, image, c0);
        x.width = p.in_width;
        x.channels = count;
        x.multiplier = p.multiplier;
        x.activation = DEPTHWISE_LINEAR;
        x.height = asks_ ? p.in_height : 0;
        x.image_step = continues ? p.x.batch : 0;
        if (direct_x_) {
          x.use_direct();
        } else {
          x.use_ring(scratch, rows.x, copies_);
        }
        dz = gradient_source<T>(both, image, c0 * p.multiplier, outputs);
        dz.height = asks_ ? p.out_height : 0;
        dz.image_step = continues ? p.dy.batch : 0;
        dz.saved_step = continues ? p.saved.batch : 0;
        if (direct_dz_) {
          dz.use_direct();
        } else {
          dz.use_ring(scratch + x_ring, rows.dz, 1);
        }
      }
      AskedInSums asked = AskedInSums::all;
      if (is_asked_for) {
        asked = strides_ ? AskedInSums::input : AskedInSums::input_and_saved;
      }
      sum_rows(p, x, dz, columns.first, outputs, begin, end, sums.dkernel != nullptr, asked,
               partial(part - round, block), pitch_, halves_);
      if (with_dx) {
        // The rows of the input that begin in these rows of the output, which are here already.
        const int64_t from = begin == 0 ? 0 : min_of(begin * p.stride_height, p.in_height);
        const int64_t to =
            end == p.out_height ? p.in_height : min_of(end * p.stride_height, p.in_height);
        const RowsAlong<T> along{
            &dz, end, end + min_of(left, rows.outputs), from, p.stride_height, strides_};
        input_gradient->write_rows(both, dz, image, c0, count, from, to, scratch + x_ring + z_ring,
                                   &along);
        is_asked_for = true;
      }
      row += end - begin;
    }
    return true;
  }

  // Adds up `count` parts of one tap, or of the bias, in order, after those of the rounds before if
  // there are any. Writes the sums, or leaves them to the round that follows.
  bool write_row(int64_t tap, int64_t count, bool follows, bool is_followed) const {
    A* const row = static_cast<A*>(
        thread_scratch(static_cast<size_t>(round_up(outputs_, lanes<A>) + lanes<A>) * element));
    if (row == nullptr) return false;
    for (int64_t b = 0; b < channels_.count; ++b) {
      const int64_t first = channels_.begin(b) * p_.multiplier;
      const int64_t outputs = (channels_.end(b) - channels_.begin(b)) * p_.multiplier;
      const A* const sums = partial(0, b) + tap * pitch_;
      A* const rounds = partial(round_, b) + tap * pitch_;  // after the parts, if there are several
      over_slots<A>(outputs, halves_, [&](int64_t channel, int64_t slot, bool is_half) {
        Vec<A> sum = follows ? load(rounds + slot) : zero<A>();
        for (int64_t i = 0; i < count; ++i) sum += load(sums + i * part_elements_ + slot);
        if (is_followed) {
          store(rounds + slot, sum);
          return;
        }
        store_part(row + first + channel, sum, min_of(is_half ? lanes<A> / 2 : lanes<A>, outputs));
      });
    }
    if (!is_followed) place(tap, row);
    return true;
  }

  // The sums of all outputs where they belong.
  void place(int64_t tap, const A* sums) const {
    if (tap == taps_) {
      if (call_.dbias != nullptr) convert_back(static_cast<T*>(call_.dbias), 1, sums, outputs_);
      return;
    }
    if (call_.dkernel == nullptr) return;
    const depthwise_kernel_strides& s = p_.dkernel;
    T* const to = static_cast<T*>(call_.dkernel) + tap / p_.kernel_width * s.row +
                  tap % p_.kernel_width * s.column;
    if (p_.multiplier == 1 || s.channel == p_.multiplier * s.multiplier) {
      convert_back(to, p_.multiplier == 1 ? s.channel : s.multiplier, sums, outputs_);
      return;
    }
    for (int64_t c = 0; c < p_.channels; ++c) {
      convert_back(to + c * s.channel, s.multiplier, sums + c * p_.multiplier, p_.multiplier);
    }
  }

  const Call& call_;
  const depthwise_params& p_;
  ColumnBlocks columns_;
  const InputGradients<T>* input_gradients_;
  int64_t outputs_, taps_, rows_, dx_reach_;
  bool fetches_;  // in long runs
  bool asks_;     // for rows ahead
  bool strides_, direct_x_, direct_dz_;
  int64_t copies_;
  bool halves_;  // whether half a vector of results is summed as that: not where they are repeated
  Widths widths_;
  ChannelBlocks sized_;  // by sizes alone: what rows and parts go by
  GradientRows block_rows_;
  int64_t parts_;
  ChannelBlocks channels_;  // as they are gone over
  int64_t pitch_, part_elements_;
  int64_t round_;  // parts whose sums there is memory for at once
  CallMemory partials_;
};

template <class T>
bool channels_kernel_gradient(const Call& call) {
  const depthwise_params& p = *call.params;
  const ColumnBlocks columns = gradient_blocks<T>(p, TapGradient<T>::fetches(p));
  return TapGradient<T>(call, columns, nullptr).run();
}

// Both gradients in one pass.
template <class T>
bool channels_gradients(const Call& call) {
  const depthwise_params& p = *call.params;
  const ColumnBlocks columns = gradient_blocks<T>(p, TapGradient<T>::fetches(p));
  InputGradients<T> input_gradients;
  return input_gradients.make(call, columns, gradients_reach_memory<T>(p)) &&
         TapGradient<T>(call, columns, &input_gradients).run();
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_CHANNELS_KERNEL_GRADIENT_H_
