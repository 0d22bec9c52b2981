// Forward pass of the columns family on planes that are read and written where they are: channels-
// first images at unit strides. Nothing is staged; where a tap is outside of the image, lanes or
// whole rows are left out.
#ifndef DEPTHWISE_KERNELS_STRIPS_FORWARD_H_
#define DEPTHWISE_KERNELS_STRIPS_FORWARD_H_

#include "channels_forward.h"
#include "columns_forward.h"
#include "strip_tile.h"

namespace depthwise::DW_ISA {

// Kernels of few taps in a row: others have too many loads that cross cache lines, which
// transposing saves. Two cores of a Zen 5 took, transposed and so, for 3x3 on 112x112x32 58 and 50
// us, on 57x43x73 110 and 85, on 56x56x128 69 and 59, on 32x32x64 18 and 11, on 28x28x128, all of
// whose strips meet a border, 20 and 19; for 5x5 on 28x28x240 54 and 65, for 7x7 on 56x56x96 117
// and 173, for 1x7 on 40x40x64 18 and 23; for 3x3 on 25x25x64, where vectors along channels are
// fuller, 17 and 13.
template <class T>
bool takes_strips(const depthwise_params& p) {
  if constexpr (loads_some<T>) {
    constexpr int64_t n = lanes<T>;
    const int64_t by_columns = p.channels * ceil_div(p.out_width, n);
    const int64_t by_channels = p.out_width * ceil_div(p.channels, n);
    return p.layout == DEPTHWISE_CHANNELS_FIRST && p.stride_height == 1 && p.stride_width == 1 &&
           p.kernel_height <= most_strip_height && p.kernel_width <= 3 && p.out_width >= n &&
           2 * by_columns <= 3 * by_channels;
  }
  return false;
}

// Where the strips of a row are, and which lanes of them meet the image.
template <class A>
class Strips {
 public:
  bool make(const depthwise_params& p) {
    constexpr int64_t n = lanes<A>;
    count = ceil_div(p.out_width, n);
    const auto is_inside = [&](int64_t column) {
      return column >= p.pad_left &&
             column - p.pad_left + (p.kernel_width - 1) * p.dilation_width + n <= p.in_width;
    };
    int64_t clipped = 0;
    for (int64_t i = 0; i < count; ++i) clipped += is_inside(column_of(i, p)) ? 0 : 1;
    if (!strips_.allocate(count * static_cast<int64_t>(sizeof(Strip<A>))) ||
        !lanes_.allocate(clipped * p.kernel_width * static_cast<int64_t>(sizeof(SomeLanes<A>)))) {
      return false;
    }
    SomeLanes<A>* next = lanes_.as<SomeLanes<A>>();
    for (int64_t i = 0; i < count; ++i) {
      const int64_t column = column_of(i, p);
      Strip<A>& strip = strips_.as<Strip<A>>()[i];
      strip = {column, nullptr};
      if (is_inside(column)) continue;
      strip.inside = next;
      for (int64_t j = 0; j < p.kernel_width; ++j) {
        const TapRange range = inside(column - p.pad_left + j * p.dilation_width, 1, n, p.in_width);
        *next++ = lanes_between<A>(range.begin, range.end);
      }
    }
    return true;
  }
  const Strip<A>* data() const { return strips_.as<Strip<A>>(); }
  int64_t count = 0;

 private:
  // The last strip begins where it ends with the row.
  static int64_t column_of(int64_t i, const depthwise_params& p) {
    return min_of(i * lanes<A>, p.out_width - lanes<A>);
  }

  CallMemory strips_, lanes_;
};

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
    if (!kernel.pack(static_cast<const T*>(call.kernel), p) ||
        !bias.pack(static_cast<const T*>(call.bias), p.channels * p.multiplier) ||
        !strips.make(p)) {
      return false;
    }
    const PlaneBlock block = spread({max_of(1, p.out_height), p.out_width}, p.out_height,
                                    p.batch * p.channels, call.tasks);
    const PlaneTasks tasks(p, p.out_height, p.out_width, block);
    const ClampRange<T> clamp = clamp_range<T>(p.activation);
    const int64_t taps = p.kernel_height * p.kernel_width;

    return parallel_in_runs(tasks.count, call.tasks, call.threads, [&](int64_t index) {
      const PlaneTask task = tasks[index];
      ScratchLayout scratch;
      const int64_t weights_at = scratch.add<T>(taps);
      if (!scratch.allocate()) return false;
      T* const weights = scratch.at<T>(weights_at);
      const ImageView<T> x = image_at<T>(call.x, p.x, task.image, task.channel);
      const int64_t end = min_of(task.row + block.rows, p.out_height);
      for (int64_t m = 0; m < p.multiplier; ++m) {
        const int64_t output = task.channel * p.multiplier + m;
        T* next = weights;
        for (int64_t i = 0; i < p.kernel_height; ++i) {
          const T* from = kernel.data + i * kernel.row + output;
          for (int64_t j = 0; j < p.kernel_width; ++j) *next++ = from[j * kernel.column];
        }
        const TargetView<T> y = target_at<T>(call.y, p.y, task.image, output);
        const TargetView<T> z = target_at<T>(call.preactivation, p.saved, task.image, output);
        // Rows of results that are a dilation apart have their taps in neighbouring ones of these.
        const int64_t apart = p.dilation_height;
        for (int64_t k = task.row; k < min_of(task.row + apart, end); ++k) {
          const int64_t top = k - p.pad_top;
          const TapRange rows =
              inside(top, apart, ceil_div(end - k, apart) + p.kernel_height - 1, p.in_height);
          const StripRows<T> s{x.data + top * x.row - p.pad_left,
                               apart * x.row,
                               rows.begin,
                               rows.end,
                               weights,
                               p.kernel_width,
                               p.dilation_width,
                               y.data + k * y.row,
                               apart * y.row,
                               z.data != nullptr ? z.data + k * z.row : nullptr,
                               apart * z.row,
                               {bias.data != nullptr ? bias.data[output] : T(0), clamp,
                                p.activation, static_cast<T>(p.alpha)}};
          any_strip_rows(p.kernel_height, s, strips.data(), strips.count, 0,
                         ceil_div(end - k, apart));
        }
      }
      return true;
    });
  }
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_STRIPS_FORWARD_H_
