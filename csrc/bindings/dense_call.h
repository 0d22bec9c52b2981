// The params of a call on dense arrays whose sizes are first known when the call runs: what the
// bindings of frameworks with compiled graphs (XLA, TensorFlow) share. Arguments were checked by
// spec.py when the graph was made; sizes that were not known then are checked here, by the same
// rules and in the same words.
#ifndef DEPTHWISE_BINDINGS_DENSE_CALL_H_
#define DEPTHWISE_BINDINGS_DENSE_CALL_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

#include "op.h"

namespace depthwise {

using Shape = std::array<int64_t, 4>;

// The arguments of a convolution that are no arrays, in spec.py's normal form.
struct Options {
  std::array<int64_t, 2> strides;   // height, width
  std::array<int64_t, 2> dilation;  // height, width
  bool same;                        // padding by TensorFlow's rule; `padding` is not read then
  std::array<int64_t, 4> padding;   // zeros at top, bottom, left, right
  bool channels_first;
  int32_t activation;  // depthwise_activation
  double alpha;
};

inline std::string to_text(const Shape& shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + ")";
}

inline depthwise_image_strides dense_strides(bool channels_first, int64_t height, int64_t width,
                                             int64_t channels) {
  const int64_t pixels = height * width;
  if (channels_first) return {pixels * channels, width, 1, pixels};
  return {pixels * channels, width * channels, channels, 1};
}

inline Shape image_shape(bool channels_first, int64_t batch, int64_t height, int64_t width,
                         int64_t channels) {
  if (channels_first) return {batch, channels, height, width};
  return {batch, height, width, channels};
}

inline std::string to_text(int64_t a, int64_t b) {
  std::string text = "(";
  text += std::to_string(a) + ", ";
  text += std::to_string(b) + ")";
  return text;
}

// As spec.py would show it.
inline std::string padding_text(const Options& options) {
  const auto& p = options.padding;
  if (options.same) return "'same'";
  if (p == std::array<int64_t, 4>{}) return "'valid'";
  std::string text = "(";
  text += to_text(p[0], p[1]) + ", ";
  text += to_text(p[2], p[3]) + ")";
  return text;
}

// One axis: 0 for the height, 1 for the width. Sets the size of the output and the zeros before the
// image, or returns what is wrong.
inline std::string place_axis(const Options& options, const Shape& kernel, int axis, int64_t size,
                              int64_t* output, int64_t* pad) {
  const size_t a = static_cast<size_t>(axis);
  const int64_t stride = options.strides[a], dilation = options.dilation[a];
  const int64_t window = (kernel[a] - 1) * dilation + 1;
  int64_t before = options.padding[2 * a], after = options.padding[2 * a + 1];
  if (options.same) {
    const int64_t total =
        std::max<int64_t>(((size + stride - 1) / stride - 1) * stride + window - size, 0);
    before = total / 2;
    after = total - before;
  }
  const int64_t padded = before + size + after;
  if (window <= padded) {
    *output = (padded - window) / stride + 1;
    *pad = before;
    return {};
  }
  const std::string name = axis == 0 ? "height " : "width ";
  return "kernel_size: expected a dilated kernel no larger than the padded input, got " +
         to_text(kernel[0], kernel[1]) + " with dilation_rate " +
         to_text(options.dilation[0], options.dilation[1]) + ", of " + name +
         std::to_string(window) + ", for an input of " + name + std::to_string(size) +
         ", which is " + std::to_string(padded) + " with padding " + padding_text(options);
}

// Fills `params` for arrays of these shapes, all of them dense and row-major: x in the order of the
// layout, the kernel as (kernel height, kernel width, channels, multiplier). Returns what is wrong,
// or nothing.
inline std::string dense_params(const Options& options, int32_t dtype, const Shape& x,
                                const Shape& kernel, depthwise_params* params) {
  const bool first = options.channels_first;
  depthwise_params p{};
  p.batch = x[0];
  p.channels = x[first ? 1 : 3];
  p.in_height = x[first ? 2 : 1];
  p.in_width = x[first ? 3 : 2];
  p.kernel_height = kernel[0];
  p.kernel_width = kernel[1];
  p.multiplier = kernel[3];
  p.stride_height = options.strides[0];
  p.stride_width = options.strides[1];
  p.dilation_height = options.dilation[0];
  p.dilation_width = options.dilation[1];
  p.dtype = dtype;
  p.layout = first ? DEPTHWISE_CHANNELS_FIRST : DEPTHWISE_CHANNELS_LAST;
  p.activation = options.activation;
  p.alpha = options.alpha;
  if (kernel[0] < 1 || kernel[1] < 1 || kernel[3] < 1) {
    return "kernel: expected shape (kernel height, kernel width, channels, depth multiplier) with "
           "kernel height, kernel width and depth multiplier of at least 1, got shape " +
           to_text(kernel);
  }
  if (kernel[2] != p.channels) {
    const Shape expected{kernel[0], kernel[1], p.channels, kernel[3]};
    return "kernel: expected shape " + to_text(expected) +
           ", which is (kernel height, kernel width, channels, depth multiplier), for x of shape " +
           to_text(x) + " with data_format '" + (first ? "channels_first" : "channels_last") +
           "', got shape " + to_text(kernel);
  }
  std::string problem = place_axis(options, kernel, 0, p.in_height, &p.out_height, &p.pad_top);
  if (problem.empty()) {
    problem = place_axis(options, kernel, 1, p.in_width, &p.out_width, &p.pad_left);
  }
  if (!problem.empty()) return problem;
  const int64_t outputs = p.channels * p.multiplier;
  const Shape output = image_shape(first, p.batch, p.out_height, p.out_width, outputs);
  int64_t elements = 1;
  bool fits = true;
  for (const int64_t size : output) {
    fits = fits && !__builtin_mul_overflow(elements, size, &elements);
  }
  if (!fits || elements > INT64_MAX / 8) {
    return "padding: expected an output of at most " + std::to_string(INT64_MAX / 8) +
           " elements, got " + padding_text(options) + ", which makes it of shape " +
           to_text(output) + " for x of shape " + to_text(x);
  }
  p.x = p.dx = dense_strides(first, p.in_height, p.in_width, p.channels);
  p.y = p.saved = p.dy = dense_strides(first, p.out_height, p.out_width, outputs);
  p.kernel = p.dkernel = {p.kernel_width * outputs, outputs, p.multiplier, 1};
  *params = p;
  return {};
}

inline Shape output_shape(const depthwise_params& p) {
  return image_shape(p.layout == DEPTHWISE_CHANNELS_FIRST, p.batch, p.out_height, p.out_width,
                     p.channels * p.multiplier);
}

}  // namespace depthwise

#endif  // DEPTHWISE_BINDINGS_DENSE_CALL_H_
