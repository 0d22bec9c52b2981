// The one struct that enters C++: what a front-end says about a depthwise convolution and the
// buffers it works on. Plain C, so that every binding (Python, XLA, TensorFlow) can fill it.
#ifndef DEPTHWISE_PARAMS_H_
#define DEPTHWISE_PARAMS_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum depthwise_dtype {
  DEPTHWISE_FLOAT32 = 0,
  DEPTHWISE_FLOAT64 = 1,
  DEPTHWISE_FLOAT16 = 2,   // IEEE binary16, accumulated in float32
  DEPTHWISE_BFLOAT16 = 3,  // upper half of a float32, accumulated in float32
} depthwise_dtype;

// Which axis the vectors run along. It fixes the order of summation, hence the bits, so it is the
// front-end's data format and not guessed from the strides.
typedef enum depthwise_layout {
  DEPTHWISE_CHANNELS_LAST = 0,
  DEPTHWISE_CHANNELS_FIRST = 1,
} depthwise_layout;

// The codes of activations.py.
typedef enum depthwise_activation {
  DEPTHWISE_LINEAR = 0,
  DEPTHWISE_RELU = 1,
  DEPTHWISE_RELU6 = 2,
  DEPTHWISE_LEAKY_RELU = 3,  // slope `alpha` below zero
  DEPTHWISE_ELU = 4,         // alpha * expm1(z) below zero
  DEPTHWISE_SILU = 5,
  DEPTHWISE_HARD_SWISH = 6,
  DEPTHWISE_HARD_SIGMOID = 7,
  DEPTHWISE_SIGMOID = 8,
  DEPTHWISE_TANH = 9,
  DEPTHWISE_GELU = 10,
  DEPTHWISE_GELU_TANH = 11,
  DEPTHWISE_SOFTPLUS = 12,
  DEPTHWISE_ACTIVATION_COUNT = 13,
} depthwise_activation;

// Element strides of a 4-D image, always in the order batch, row, column, channel, whatever the
// layout in memory. Inputs may have zero or negative strides; outputs must not overlap themselves.
typedef struct depthwise_image_strides {
  int64_t batch, row, column, channel;
} depthwise_image_strides;

// Element strides of a kernel (kernel_height, kernel_width, channels, multiplier).
typedef struct depthwise_kernel_strides {
  int64_t row, column, channel, multiplier;
} depthwise_kernel_strides;

typedef struct depthwise_params {
  int64_t batch;
  int64_t channels;    // of the input; the output has channels * multiplier
  int64_t multiplier;  // output channel = channel * multiplier + m
  int64_t in_height, in_width;
  int64_t out_height, out_width;
  int64_t kernel_height, kernel_width;
  int64_t stride_height, stride_width;
  int64_t dilation_height, dilation_width;
  int64_t pad_top, pad_left;  // zeros before the image; those after it follow from the output size

  int32_t dtype;       // depthwise_dtype, of every buffer
  int32_t layout;      // depthwise_layout
  int32_t activation;  // depthwise_activation
  int32_t reserved;    // zero
  double alpha;        // the activation's parameter, >= 0

  depthwise_image_strides x;      // input, and nothing else
  depthwise_image_strides y;      // output of the forward call
  depthwise_image_strides saved;  // what the backward pass needs: see op.h
  depthwise_image_strides dy;     // gradient of the output
  depthwise_image_strides dx;     // gradient of the input
  depthwise_kernel_strides kernel;
  depthwise_kernel_strides dkernel;
} depthwise_params;

#ifdef __cplusplus
}
#endif

#endif  // DEPTHWISE_PARAMS_H_
