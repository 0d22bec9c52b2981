// Forward pass of the columns family on planes that are read and written where they are: channels-
// first images. Nothing is staged; where a tap is outside of the image, lanes read as zero and
// whole rows are left out.
#ifndef DEPTHWISE_KERNELS_STRIPS_FORWARD_H_
#define DEPTHWISE_KERNELS_STRIPS_FORWARD_H_

#include "channels_forward.h"
#include "columns_forward.h"
#include "strip_tile.h"

namespace depthwise::DW_ISA {

// From a row of results to the next whose taps are in the same rows of the image, every
// `dilation_height`-th of it: how many of these.
inline int64_t strip_rows_apart(const depthwise_params& p) {
  return tap_classes(row_axis(p)) * p.stride_height / p.dilation_height;
}

// Kernels of few taps in a row, at strides of one or two. Two cores of a Zen 5 took, transposed and
// so, for 3x3 on 112x112x32 58 and 37 us, on 57x43x73 110 and 70, on 32x32x64 18 and 8.4, at
// dilation 2 on 28x28x192 31 and 23 (all these in two runs); at stride 2 on 112x112x64 69 and 41,
// on 56x56x144 51 and 30; for 4x4 on 28x28x128 25 and 23, for 5x5 on 28x28x240 53 and 47, at stride
// 2 on 50x50x64 26 and 19.
//
// Transposing wins where vectors along channels are so much fuller (5x5 on 24x24x128 took 30 and
// 22, on 38x38x64 29 and 30, on 19x19x128 20 and 21; 3x3 on 17x17x64 7.5 and 6.2, on 14x14x512,
// without a full vector of columns, 19 and 22); where each tap of many has to be loaded for itself
// (with AVX2 one core of a Zen 1 took for 5x5 on 20x20x128 124 and 163, on 28x28x240 486 and 490,
// at stride 2 on 56x56x32 103 and 111, but on 56x56x32 249 and 211; for 4x4 194 and 142, on
// 28x28x128 220 and 184, on 21x21x128 121 and 136, at stride 2 on 56x56x32 87 and 75); and where
// there are no tiles (2x5 on 40x40x64 19 and 21, 7x5 33 and 41; 3x3 at strides of 1 and 2 16 and
// 23; 7x7 on 56x56x96 114 and 113). With AVX-512 few rows of more taps are worth it, too: two cores
// of a Zen 4 took for 1x5 on 56x56x128 97 and 77, on 8 of them 965 and 569, on 32x32x64 20 and 13,
// for 1x4 at dilation 3 on 113x113x66 260 and 140, for 2x4 on 100x100x40 120 and 81, for 3x5 at
// stride 2 80 and 60, at stride 1 on 40x40x64 38 and 38, for 1x7 on 56x56x128 106 and 94, 1x9 111
// and 112; but for 4x5 151 and 160, 7x4 184 and 203. So are strides of three where transposing
// leaves vectors emptier: 2x3 on 3 of 111x79x2 took 13.3 and 8.5, 2x2 on 90x90x16 10.7 and 7.2, 7x3
// on 90x90x40 45 and 39, but 2x3 on 112x112x32 27 and 33, on 63x71x341 108 and 119. Planes of few
// rows take about as long as if they had three more: 4x1 on 15 of 5x19x262 took 110 and 167, 3x3 on
// 7x20x512 18 and 26, on 5 of 9x19x262 71 and 86, of 19x19x262 165 and 174, on 7x47x100 13 and 12.
template <class T>
bool takes_strips(const depthwise_params& p) {
  if constexpr (loads_some<T>) {
    constexpr int64_t n = lanes<T>;
    const int64_t across = p.stride_width, width = p.kernel_width;
    const int64_t widest = !shares_loads<T> || p.kernel_height > 3 ? 3
                           : p.kernel_height == 1                  ? most_strip_width
                                                                   : most_piece_taps;
    const bool narrow = width <= widest && p.kernel_height <= most_strip_height;
    const int64_t largest_square = shares_loads<T> || across == 1 ? most_piece_taps : 4;
    const bool square = width <= largest_square && width == p.kernel_height &&
                        (shares_loads<T> || p.dilation_width == 1);
    const bool reached = !shares_loads<T> || (across == 1 ? (width - 1) * p.dilation_width <= n
                                                          : p.dilation_width == 1);
    const int64_t down = strip_rows_apart(p);
    const bool has_tiles = (narrow || square) && reached && across <= most_strip_stride<T> &&
                           (down == across || down >= p.kernel_height);
    const int64_t by_columns = p.channels * ceil_div(p.out_width, n);
    const int64_t by_channels = p.out_width * ceil_div(p.channels, n);
    const int64_t many_taps = shares_loads<T> ? 30 : 26;
    const int64_t twentieths = across == 3 ? 25 : width <= 3 ? 40 : many_taps;
    return p.layout == DEPTHWISE_CHANNELS_FIRST && has_tiles && p.out_width >= n &&
           20 * by_columns * (p.out_height + 3) <= twentieths * by_channels * p.out_height;
  }
  return false;
}

// Where the strips of a row are, and which lanes of them meet the image.
template <class A>
class Strips {
  static constexpr int64_t n = lanes<A>;
  static constexpr bool shared = shares_loads<A>;
  static constexpr int cut_vectors = cut_strip_vectors<A>;

 public:
  bool make(const depthwise_params& p) {
    const int64_t most = ceil_div(p.out_width, n * cut_vectors);
    const int64_t loads = cut_vectors * p.kernel_width + (shared ? cut_vectors + 1 : 0);
    const int64_t most_lanes = p.stride_width * loads;
    if (!strips_.allocate(most * static_cast<int64_t>(sizeof(Strip<A>))) ||
        !lanes_.allocate(most * most_lanes * static_cast<int64_t>(sizeof(SomeLanes<A>)))) {
      return false;
    }
    SomeLanes<A>* next = lanes_.as<SomeLanes<A>>();
    for (int64_t column = 0; column < p.out_width; ++count) {
      Strip<A> strip = strip_at(column, most_strip_vectors<A>(p.stride_width), p);
      if (strip.vectors > cut_vectors && !is_whole(strip, p)) {
        strip = strip_at(column, cut_vectors, p);
      }
      if (strip.vectors < cut_vectors || !is_whole(strip, p)) {
        name_lanes(strip, next, p);
        next += most_lanes;
      }
      strips_.as<Strip<A>>()[count] = strip;
      column += strip.vectors * n;
    }
    return true;
  }
  const Strip<A>* data() const { return strips_.as<Strip<A>>(); }
  int64_t count = 0;

 private:
  // The one from this column on, of no more vectors than there are results for.
  static Strip<A> strip_at(int64_t column, int64_t vectors, const depthwise_params& p) {
    const int64_t left = p.out_width - column;
    return {column,
            static_cast<int>(min_of(vectors, ceil_div(left, n))),
            static_cast<int>(min_of(vectors, left / n)),
            static_cast<int>(left % n),
            nullptr,
            nullptr,
            Border::none};
  }

  static bool is_whole(const Strip<A>& strip, const depthwise_params& p) {
    const int64_t results = strip.vectors * n;
    const int64_t from = strip.column * p.stride_width - p.pad_left;
    const int64_t loaded = shared ? n : (p.kernel_width - 1) * p.dilation_width;
    return strip.column + results <= p.out_width && from >= 0 &&
           from + p.stride_width * (results + loaded) <= p.in_width;
  }

  static void name_lanes(Strip<A>& strip, SomeLanes<A>* to, const depthwise_params& p) {
    const int64_t across = p.stride_width;
    const int64_t from = strip.column * across - p.pad_left;
    const auto add = [&](int64_t position, int64_t extent) {
      const TapRange range = inside(position, 1, n, extent);
      *to++ = lanes_between<A>(range.begin, range.end);
    };
    strip.shared = to;
    for (int64_t v = 0; shared && v < across * (strip.vectors + 1); ++v) {
      add(from + v * n, p.in_width);
    }
    strip.loaded = to;
    for (int64_t j = 0; j < p.kernel_width; ++j) {
      for (int64_t v = 0; v < across * strip.vectors; ++v) {
        add(from + j * p.dilation_width + v * n, p.in_width);
      }
    }
    strip.cut = taps_to_cut(strip, from, p);
  }

  // Lanes without a result may have anything.
  static Border taps_to_cut(const Strip<A>& strip, int64_t from, const depthwise_params& p) {
    const int64_t results = min_of(strip.vectors * n, p.out_width - strip.column);
    const int64_t reach = (results - 1) * p.stride_width;
    const auto is_cut = [&](int64_t j) {
      const int64_t first = from + j * p.dilation_width;
      return first < 0 || first + reach >= p.in_width;
    };
    const int64_t last = p.kernel_width - 1;
    for (int64_t j = 1; j < last; ++j) {
      if (is_cut(j)) return Border::cut;
    }
    if (!is_cut(last)) return Border::cut_first;
    return is_cut(0) ? Border::cut : Border::cut_last;
  }

  CallMemory strips_, lanes_;
};

// Rows of a plane around which all that vectors of these strips load is memory of the images: of
// the plane itself where its rows touch, and of the planes before and after it where these do, too.
template <class A>
TapRange whole_rows(const depthwise_params& p, const PlaneTask& task) {
  const int64_t n = lanes<A>, plane = p.in_height * p.in_width;
  if (p.x.row != p.in_width || plane == 0) return {0, 0};
  const bool touch = p.x.channel == plane && (p.batch == 1 || p.x.batch == p.channels * plane);
  const int64_t index = task.image * p.channels + task.channel;
  const int64_t elements_before = touch ? index * plane : 0;
  const int64_t elements_after = touch ? (p.batch * p.channels - 1 - index) * plane : 0;
  const int64_t reach = round_up(p.out_width, n) * p.stride_width +
                        (p.kernel_width - 1) * p.dilation_width - p.pad_left;
  const int64_t before = max_of(0, p.pad_left - elements_before);
  const int64_t after = max_of(0, reach - p.in_width - elements_after);
  const auto rows = [&](int64_t elements) {
    return elements == 0 ? 0 : ceil_div(elements, p.in_width);
  };
  return {rows(before), p.in_height - rows(after)};
}

// Sums to results, in place, and kept before that where asked for.
template <class T>
void activate_row(T* row, T* preactivation, int64_t columns, const depthwise_params& p) {
  for (int64_t w = 0; w < columns; w += lanes<T>) {
    const int64_t count = min_of(lanes<T>, columns - w);
    const Vec<T> z = load_part(row + w, count);
    if (preactivation != nullptr) store_part(preactivation + w, z, count);
    store_part(row + w, activate<T>(p.activation, static_cast<T>(p.alpha), z), count);
  }
}

template <class T>
bool strips_forward(const Call& call) {
  if constexpr (!loads_some<T>) {
    return channels_forward<T>(call);
  } else {
    const depthwise_params& p = *call.params;
    PackedKernel<T> kernel;
    PackedBias<T> bias;
    Strips<T> strips;
    // Which kernel runs, and so the bits, must not depend on where elements lie: the channels
    // family gives the same.
    if (p.x.column != 1 || p.y.column != 1 ||
        (call.preactivation != nullptr && p.saved.column != 1)) {
      return channels_forward<T>(call);
    }
    if (!kernel.pack(static_cast<const T*>(call.kernel), p, call.threads)) return false;
    // What is not finite must not meet the zeros around the image.
    if (!kernel.is_finite(p, call.threads)) return channels_forward<T>(call);
    if (!bias.pack(static_cast<const T*>(call.bias), p.channels * p.multiplier) ||
        !strips.make(p)) {
      return false;
    }
    const PlaneBlock block = spread({max_of(1, p.out_height), p.out_width}, p.out_height,
                                    p.batch * p.channels, call.tasks);
    const PlaneTasks tasks(p, p.out_height, p.out_width, block);
    const bool is_clamp = clamp_range<T>(p.activation).is_clamp && call.preactivation == nullptr;
    const ClampRange<T> clamp = clamp_range<T>(is_clamp ? p.activation : DEPTHWISE_LINEAR);
    const int64_t apart = tap_classes(row_axis(p)), down = strip_rows_apart(p);
    // With AVX2, what is in the caches is not asked for: one core of a Zen 1 took, asking and not,
    // in us, for 3x3 on 56x56x128 356 and 339, at stride 2 on 56x56x144 233 and 214, on 112x112x512
    // 4540 and 5500.
    const bool asks =
        !cuts_faster<T> || fetching_pays<T>(p.batch * p.in_height * p.in_width * p.channels);

    return parallel_in_runs(tasks.count, call.tasks, call.threads, [&](int64_t index) {
      const PlaneTask task = tasks[index];
      T weights[most_strip_height * most_strip_width];
      const ImageView<T> x = image_at<T>(call.x, p.x, task.image, task.channel);
      const int64_t end = min_of(task.row + block.rows, p.out_height);
      const TapRange whole = whole_rows<T>(p, task);
      for (int64_t m = 0; m < p.multiplier; ++m) {
        const int64_t output = task.channel * p.multiplier + m;
        kernel.gather(weights, output, p);
        const TargetView<T> y = target_at<T>(call.y, p.y, task.image, output);
        // Rows of results so many apart have their taps in the same rows of these.
        for (int64_t k = task.row; k < min_of(task.row + apart, end); ++k) {
          const int64_t top = k * p.stride_height - p.pad_top, results = ceil_div(end - k, apart);
          const int64_t count = (results - 1) * down + p.kernel_height;
          const TapRange rows = inside(top, p.dilation_height, count, p.in_height);
          const TapRange near = inside(top - whole.begin, p.dilation_height, count,
                                       max_of(0, whole.end - whole.begin));
          const StripRows<T> s{x.data + top * x.row - p.pad_left,
                               p.dilation_height * x.row,
                               p.in_width,
                               rows.begin,
                               rows.end,
                               near.begin,
                               near.end,
                               down,
                               weights,
                               p.kernel_height,
                               p.kernel_width,
                               p.dilation_width,
                               y.data + k * y.row,
                               apart * y.row,
                               bias.data != nullptr ? bias.data[output] : T(0),
                               clamp.low,
                               clamp.high,
                               asks};
          any_strip_rows(p.stride_width, s, strips.data(), strips.count, 0, results);
        }
        if (is_clamp) continue;
        const TargetView<T> z = target_at<T>(call.preactivation, p.saved, task.image, output);
        for (int64_t k = task.row; k < end; ++k) {
          activate_row(y.data + k * y.row, z.data != nullptr ? z.data + k * z.row : nullptr,
                       p.out_width, p);
        }
      }
      return true;
    });
  }
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_STRIPS_FORWARD_H_
