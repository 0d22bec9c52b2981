// Gradient of the input, channels family.
#ifndef DEPTHWISE_KERNELS_CHANNELS_INPUT_GRADIENT_H_
#define DEPTHWISE_KERNELS_CHANNELS_INPUT_GRADIENT_H_

#include <type_traits>

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

// Element 0, 1, ... of each of as many groups of `size` adjacent elements as a vector has lanes. Of
// the groups' elements, even and odd ones are parted until they are alone: `size` is a power of
// two.
template <int size, class A>
struct Parted {
  Vec<A> elements[size];

  DW_INLINE explicit Parted(const Vec<A>* vectors) {
    if constexpr (size == 1) {
      elements[0] = vectors[0];
    } else {
      Vec<A> even[size / 2], odd[size / 2];
#pragma GCC unroll 4
      for (int i = 0; i < size / 2; ++i) {
        even[i] = even_elements(vectors[2 * i], vectors[2 * i + 1]);
        odd[i] = odd_elements(vectors[2 * i], vectors[2 * i + 1]);
      }
      const Parted<size / 2, A> evens(even), odds(odd);
#pragma GCC unroll 4
      for (int i = 0; i < size / 2; ++i) {
        elements[2 * i] = evens.elements[i];
        elements[2 * i + 1] = odds.elements[i];
      }
    }
  }
};

// The sums of as many groups of `size` adjacent elements as a vector has lanes, added in order.
template <int size, class A>
DW_INLINE Vec<A> sums_of_groups(const A* from) {
  constexpr int n = lanes<A>;
  Vec<A> vectors[size];
#pragma GCC unroll 8
  for (int v = 0; v < size; ++v) vectors[v] = load(from + v * n);
  Vec<A> sum = zero<A>();
  if constexpr ((size & (size - 1)) == 0) {
    const Parted<size, A> parted(vectors);
    sum = parted.elements[0];
#pragma GCC unroll 8
    for (int m = 1; m < size; ++m) sum += parted.elements[m];
  } else {
#pragma GCC unroll 8
    for (int m = 0; m < size; ++m) {
      // Of which of the vectors each element is, and where in it.
      const Mask<A> places = __builtin_convertvector(lane_numbers<A>() * A(size) + A(m), Mask<A>);
      Vec<A> elements = permuted(vectors[0], places);
#pragma GCC unroll 8
      for (int v = 1; v < size; ++v) {
        elements = places >= v * n ? permuted(vectors[v], places) : elements;
      }
      sum = m == 0 ? elements : sum + elements;
    }
  }
  return sum;
}

// Up to this multiplier sums_of_groups() makes the sums.
constexpr int most_summed = 8;

// In place: element c becomes the sum of its `multiplier` neighbours from c * multiplier on. Whole
// vectors of sums are made: `row` has room for them, and for `most_summed` vectors past its end.
template <class A>
DW_INLINE void sum_groups(A* row, int64_t channels, int64_t multiplier) {
  const auto in_vectors = [&]<int of>() DW_INLINE_LAMBDA {
    for (int64_t c = 0; c < channels; c += lanes<A>) {
      store(row + c, sums_of_groups<of>(row + c * of));
    }
  };
  const auto one_by_one = [&] {
    for (int64_t c = 0; c < channels; ++c) {
      A sum = row[c * multiplier];
      for (int64_t m = 1; m < multiplier; ++m) sum += row[c * multiplier + m];
      row[c] = sum;
    }
  };
  const auto permuted = [&]<int of>() DW_INLINE_LAMBDA {
    if constexpr (can_permute<A>) {
      in_vectors.template operator()<of>();
    } else {
      one_by_one();
    }
  };
  switch (multiplier) {
    case 1:
      return;
    case 2:
      return in_vectors.template operator()<2>();
    case 3:
      return permuted.template operator()<3>();
    case 4:
      return in_vectors.template operator()<4>();
    case 5:
      return permuted.template operator()<5>();
    case 6:
      return permuted.template operator()<6>();
    case 7:
      return permuted.template operator()<7>();
    case most_summed:
      return in_vectors.template operator()<8>();
    default:
      return one_by_one();
  }
}

// The same sums of all columns of a row, `pitch` apart, one after the other and to where they
// belong: what few results a column has do not fill vectors.
template <class A>
DW_INLINE void put_sums(const TargetView<A>& target, int64_t h, int64_t width, const A* row,
                        int64_t pitch, int64_t channels, int64_t multiplier) {
  A* to = target.data + h * target.row;
  const auto put = [&](auto known) DW_INLINE_LAMBDA {
    const int64_t of = known != 0 ? known : multiplier;
    for (int64_t w = 0; w < width; ++w, row += pitch, to += target.column) {
      for (int64_t c = 0; c < channels; ++c) {
        A sum = row[c * of];
        for (int64_t m = 1; m < of; ++m) sum += row[c * of + m];
        to[c * target.channel] = sum;
      }
    }
  };
  switch (multiplier) {
    case 2:
      return put(std::integral_constant<int64_t, 2>());
    case 3:
      return put(std::integral_constant<int64_t, 3>());
    case 4:
      return put(std::integral_constant<int64_t, 4>());
    case 8:
      return put(std::integral_constant<int64_t, 8>());
    default:
      return put(std::integral_constant<int64_t, 0>());
  }
}

// What a call needs for rows of the input's gradient, whoever provides those of the output's.
template <class T>
class InputGradient {
 public:
  using A = Compute<T>;

  // `may_be_direct`: rows of the output's gradient can be read in place. `streams`: those of the
  // input's go past the caches where they can.
  bool make(const Call& call, bool may_be_direct, bool streams) {
    const depthwise_params& p = *call.params;
    weights_ = &kernel_;
    if (!kernel_.pack(static_cast<const T*>(call.kernel), p, call.threads)) return false;
    if (RowSource<T>::can_be_direct(p.channels * p.multiplier, 1, p.dy.channel, p.activation)) {
      kernel_.keep_apart(call.dy, p.dy.column * static_cast<int64_t>(sizeof(T)), p);
    }
    return kernel_.separate(p, call.threads) && plan(call, may_be_direct, streams);
  }
  // Another block of columns of a call, with the weights of this one.
  bool make_beside(const InputGradient& other, const Call& call, bool may_be_direct, bool streams) {
    weights_ = other.weights_;
    return plan(call, may_be_direct, streams);
  }

  // Whether write_rows() is to be given rows of the output's gradient that are read in place.
  bool direct() const { return direct_; }

  // Whether the input's rows are written where they belong, not made beside it and moved.
  bool in_place() const { return in_place_ && !keeps_rows_aside(); }

  // Whether whole ones are made beside it and streamed.
  bool keeps_rows_aside() const { return aside_ && plans_.column_classes > 1; }

  // Rows of the input's that are made in one group.
  int64_t together() const { return rows_together(distance_); }

  // Rows of the output's gradient that have to be there at once.
  int64_t reach() const { return plans_.row_reach(distance_); }

  // Bytes of scratch for one task, of `outputs` output channels.
  int64_t scratch_bytes(const depthwise_params& p, int64_t outputs) const {
    constexpr int64_t overrun = most_summed * lanes<A> * static_cast<int64_t>(sizeof(A));
    const int64_t besides = taps_bytes(p) + clipped_.bytes();
    if (in_place_) return besides + (aside_ ? aside_rows(p, outputs).bytes() : 0);
    return besides + 2 * row_bytes(p, outputs) + overrun;
  }

  // Writes the rows [begin, end) of one image's gradient, for the input channels [first, first +
  // count). `dz` has the output channels that come from these. `along` is asked for on the way, if
  // it is not null, and otherwise rows of `dz` that come next.
  void write_rows(const Call& call, RowSource<T>& dz, int64_t image, int64_t first, int64_t count,
                  int64_t begin, int64_t end, char* scratch,
                  const RowsAlong<T>* along = nullptr) const {
    const depthwise_params& p = *call.params;
    char* const places = scratch + taps_bytes(p);
    const TargetView<T> dx = target_at<T>(call.dx, p.dx, image, first), no_preactivation{};
    const int64_t first_output = first * p.multiplier;
    if (in_place_) {
      RowTaps<T>* const taps = reinterpret_cast<RowTaps<T>*>(scratch);
      const Clipping<T> clipping = clipped_.template with<T>(places);
      RowsAside<T> rows = aside_rows(p, count);
      const bool aside = aside_ && rows.pays(dx);
      rows.use(places + clipped_.bytes(), dx);
      const RowMaker<T, T> maker{
          plans_, dz,      *weights_, first_output, dx,    no_preactivation,
          0,      finish_, taps,      clipping,     along, aside ? &rows : nullptr};
      maker.make_each(begin, end, distance_, [](int64_t, int64_t) {});
      if (finish_.stream || aside) finish_streaming();
      return;
    }
    RowTaps<A>* const taps = reinterpret_cast<RowTaps<A>*>(scratch);
    const Clipping<A> clipping = clipped_.template with<A>(places);
    A* const rows = reinterpret_cast<A*>(places + clipped_.bytes());
    const int64_t row_elements =
        row_bytes(p, count * p.multiplier) / static_cast<int64_t>(sizeof(A));
    const int64_t pitch = RowSource<T>::staged_pitch(count * p.multiplier);
    const RowMaker<T, A> maker{plans_, dz,           *weights_, first_output, {rows, 0, pitch, 1},
                               {},     row_elements, finish_,   taps,         clipping,
                               along};
    maker.make_each(begin, end, distance_, [&](int64_t h, int64_t i) {
      A* const row = rows + i * row_elements;
      if constexpr (is_compute_type<T>) {
        if (p.multiplier > 1 && count <= tuning::few_summed_channels) {
          put_sums(dx, h, p.in_width, row, pitch, count, p.multiplier);
          return;
        }
      }
      for (int64_t w = 0; w < p.in_width; ++w) sum_groups(row + w * pitch, count, p.multiplier);
      move_row(dx, h, p.in_width, row, pitch, count);
    });
  }

 private:
  // How rows are made: everything but the weights.
  bool plan(const Call& call, bool may_be_direct, bool streams) {
    const depthwise_params& p = *call.params;
    if (!plans_.make_gradient(p, least_class_columns(p)) ||
        !clipped_.make(plans_, *weights_, p, p.out_height, call.threads)) {
      return false;
    }
    const bool can_clip = clipped_.zeros != nullptr;
    in_place_ = p.multiplier == 1 && p.dx.channel == 1;
    if (!is_compute_type<T>) {  // both or neither: a tile reads and writes one type
      in_place_ =
          in_place_ && may_be_direct && tiles_convert<T>(plans_, can_clip, tile_loads(p, 1));
    }
    direct_ = may_be_direct && (is_compute_type<T> || in_place_);
    distance_ = pair_distance<A>(plans_, can_clip);
    streams = streams && in_place_ && can_stream<T>;
    aside_ = streams && !has_whole_lines<T>(call.dx, p.dx, p.channels);
    finish_ = {nullptr, clamp_range<A>(DEPTHWISE_LINEAR), DEPTHWISE_LINEAR, 0, streams && !aside_};
    return true;
  }

  RowsAside<T> aside_rows(const depthwise_params& p, int64_t channels) const {
    return RowsAside<T>(p.in_width, channels, plans_.column_classes == 1);
  }
  static int64_t taps_bytes(const depthwise_params& p) {
    return round_up((p.kernel_height + 1) * static_cast<int64_t>(sizeof(RowTaps<A>)), 64);
  }
  static int64_t row_bytes(const depthwise_params& p, int64_t outputs) {
    return round_up(
        p.in_width * RowSource<T>::staged_pitch(outputs) * static_cast<int64_t>(sizeof(A)), 64);
  }

  PackedKernel<A> kernel_;  // empty where those of another block are used
  const PackedKernel<A>* weights_ = nullptr;
  ClassPlans plans_;
  ClippedTiles<A> clipped_;
  Finish<A> finish_;
  int64_t distance_;
  bool direct_, in_place_;
  bool aside_;  // rows go past the caches, but not from tiles
};

// One block of columns of a call of the size `whole`.
template <class T>
bool channels_input_gradient_of_block(const Call& call, const depthwise_params& whole) {
  using A = Compute<T>;
  const depthwise_params& p = *call.params;
  const int64_t outputs = p.channels * p.multiplier;
  InputGradient<T> gradient;
  const bool may_be_direct = RowSource<T>::can_be_direct(outputs, 1, p.dy.channel, p.activation) &&
                             !stage_pays<T>(p, p.dy);
  if (!gradient.make(call, may_be_direct, gradients_reach_memory<T>(whole))) return false;
  const bool direct = gradient.direct();
  const int64_t ring_rows = min_of(gradient.reach(), max_of(1, p.out_height));
  const int64_t tasks = ceil_div(call.tasks, max_of(1, p.batch));
  const bool fetches = fetching_pays<T>(whole.batch * whole.out_height * whole.out_width * outputs);
  const int64_t near_rows = ring_rows + 1 + (gradient.keeps_rows_aside() ? 2 : 0);
  const int64_t wanted =
      direct ? direct_block<T>(p, outputs, near_rows, p.out_width, p.in_height, tasks, fetches)
             : staged_block<A>(outputs, 1, ring_rows + 1, p.out_width, tasks,
                               most_staged_vectors(p.dy, p.out_width, fetches));
  const Blocks channels(p.channels, ceil_div(wanted, p.multiplier));
  const RowBlocks rows(p.in_height, gradient.together(), p.batch * channels.count, call.tasks,
                       call.threads);

  const BlockTasks blocks = BlockTasks::of<A>(p, channels.count, rows.count);
  return parallel(blocks.count(), call.threads, [&](int64_t index) {
    const auto [image, block, row] = blocks[index];
    const int64_t c0 = channels.begin(block), count = channels.end(block) - c0;
    const int64_t block_outputs = count * p.multiplier;
    const int64_t ring =
        direct ? 0 : RowSource<T>::ring_bytes(ring_rows, p.out_width, block_outputs);
    char* scratch = static_cast<char*>(
        thread_scratch(static_cast<size_t>(ring + gradient.scratch_bytes(p, block_outputs))));
    if (scratch == nullptr) return false;

    RowSource<T> dz = gradient_source<T>(call, image, c0 * p.multiplier, block_outputs);
    if (direct) {
      dz.use_direct();
    } else {
      dz.use_ring(scratch, ring_rows, 1);
    }
    if (gradients_reach_memory<T>(whole)) dz.height = p.out_height;
    const int64_t begin = rows.begin(row), end = rows.end(row);
    gradient.write_rows(call, dz, image, c0, count, begin, end, scratch + ring);
    return true;
  });
}

template <class T>
bool channels_input_gradient(const Call& call) {
  const depthwise_params& p = *call.params;
  const ColumnBlocks blocks =
      column_blocks<Compute<T>>(p, input_gradient_bytes<Compute<T>>(p), p.in_width);
  return over_column_blocks<T>(
      call, blocks, &PartOfCall<T>::take_input_gradient,
      [&](const Call& part) { return channels_input_gradient_of_block<T>(part, p); });
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_CHANNELS_INPUT_GRADIENT_H_
