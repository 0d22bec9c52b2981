// The op as plain loops in double precision, with how far a result may be from it.
//
// Tolerances. A sum of n terms in a precision of unit roundoff u, in any order, with or without
// fused multiply-add, is within (n + 1) u times the sum of the terms' magnitudes; we allow n + 2.
// An activation multiplies that by its steepest slope (at most 1.5, or alpha) and adds an error of
// its own, for which we allow 16 u of |z| + |y|, and for a derivative d 16 u of 1 + |d|. A half
// type adds one rounding (numbers.h). Terms that are small integers or quarters have exact sums:
// then nothing is allowed but that rounding, which must be the right one.
#ifndef DEPTHWISE_TESTS_CPP_NAIVE_H_
#define DEPTHWISE_TESTS_CPP_NAIVE_H_

#include <algorithm>
#include <cmath>
#include <vector>

#include "numbers.h"
#include "op.h"

namespace depthwise::test {

constexpr const char* activation_names[] = {
    "linear",       "relu",    "relu6", "leaky_relu", "elu",       "silu",    "hard_swish",
    "hard_sigmoid", "sigmoid", "tanh",  "gelu",       "gelu_tanh", "softplus"};

inline double naive_sigmoid(double z) { return 1 / (1 + std::exp(-z)); }
inline double naive_gelu_tanh_argument(double z) {
  return std::sqrt(2 / M_PI) * (z + 0.044715 * z * z * z);
}

inline double naive_activation(int activation, double alpha, double z) {
  if (std::isnan(z)) return z;
  switch (activation) {
    case DEPTHWISE_RELU:
      return std::max(z, 0.0);
    case DEPTHWISE_RELU6:
      return std::min(std::max(z, 0.0), 6.0);
    case DEPTHWISE_LEAKY_RELU:
      return z > 0 ? z : alpha * z;
    case DEPTHWISE_ELU:
      return z > 0 ? z : alpha * std::expm1(z);
    case DEPTHWISE_SILU:
      return z * naive_sigmoid(z);
    case DEPTHWISE_HARD_SWISH:
      return z * (std::min(std::max(z + 3, 0.0), 6.0) / 6);
    case DEPTHWISE_HARD_SIGMOID:
      return std::min(std::max(z + 3, 0.0), 6.0) / 6;
    case DEPTHWISE_SIGMOID:
      return naive_sigmoid(z);
    case DEPTHWISE_TANH:
      return std::tanh(z);
    case DEPTHWISE_GELU:
      return z * (std::erfc(-z * M_SQRT1_2) / 2);
    case DEPTHWISE_GELU_TANH:
      return z * naive_sigmoid(2 * naive_gelu_tanh_argument(z));
    case DEPTHWISE_SOFTPLUS:
      return std::max(z, 0.0) + std::log1p(std::exp(-std::fabs(z)));
    default:
      return z;
  }
}

// From the saved value: the pre-activation where depthwise_needs_preactivation() says so, else y.
inline double naive_derivative(int activation, double alpha, double v) {
  switch (activation) {
    case DEPTHWISE_RELU:
      return v > 0 ? 1 : 0;
    case DEPTHWISE_RELU6:
      return v > 0 && v < 6 ? 1 : 0;
    case DEPTHWISE_LEAKY_RELU:
      return v > 0 ? 1 : alpha;
    case DEPTHWISE_ELU:
      return v > 0 ? 1 : v + alpha;
    case DEPTHWISE_SILU: {
      const double s = naive_sigmoid(v);
      return s * (1 + v * naive_sigmoid(-v));  // 1 - s would lose its digits
    }
    case DEPTHWISE_HARD_SWISH:
      return v <= -3 ? 0 : v >= 3 ? 1 : (2 * v + 3) / 6;
    case DEPTHWISE_HARD_SIGMOID:
      return v > 0 && v < 1 ? 1.0 / 6 : 0;
    case DEPTHWISE_SIGMOID:
      return v * (1 - v);
    case DEPTHWISE_TANH:
      return 1 - v * v;
    case DEPTHWISE_GELU:
      return std::erfc(-v * M_SQRT1_2) / 2 + v * std::exp(-v * v / 2) / std::sqrt(2 * M_PI);
    case DEPTHWISE_GELU_TANH: {
      const double u = 2 * naive_gelu_tanh_argument(v);
      const double slope = std::sqrt(2 / M_PI) * (1 + 3 * 0.044715 * v * v);
      return naive_sigmoid(u) * (1 + 2 * v * naive_sigmoid(-u) * slope);
    }
    case DEPTHWISE_SOFTPLUS:
      return -std::expm1(-v);
    default:
      return 1;
  }
}

// Those for which small integers stay exact, with alpha = 1/4.
inline bool is_exact(int activation) { return activation <= DEPTHWISE_LEAKY_RELU; }
inline bool has_slope_one(int activation) { return activation <= DEPTHWISE_RELU6; }

struct Sum {
  double value = 0, magnitude = 0;  // of the terms, and of their absolute values
  double slack = 0;                 // what the terms themselves may be off by
  int64_t terms = 0;

  void add(double a, double b, double error_of_a = 0) {
    value += a * b;
    magnitude += std::fabs(a * b);
    slack += error_of_a * std::fabs(b);
    ++terms;
  }
  double tolerance(double roundoff) const {
    return static_cast<double>(terms + 2) * roundoff * magnitude + slack;
  }
};

// What is expected of an element, and by how much it may differ.
struct Expected {
  std::vector<double> values, tolerances;

  void add(double value, double tolerance) {
    values.push_back(value);
    tolerances.push_back(tolerance);
  }
};

struct Inputs {
  Values x, kernel, bias, dy, saved;  // in the order of their canonical indices; bias may be empty
};

inline size_t image_index(int64_t n, int64_t h, int64_t w, int64_t c, int64_t height, int64_t width,
                          int64_t channels) {
  return static_cast<size_t>(((n * height + h) * width + w) * channels + c);
}

// Calls body(output index, input index, kernel index, output channel) for every term of the sums.
template <class Body>
void each_term(const depthwise_params& p, Body body) {
  const int64_t outputs = p.channels * p.multiplier;
  for (int64_t n = 0; n < p.batch; ++n) {
    for (int64_t oh = 0; oh < p.out_height; ++oh) {
      for (int64_t ow = 0; ow < p.out_width; ++ow) {
        for (int64_t i = 0; i < p.kernel_height; ++i) {
          const int64_t h = oh * p.stride_height + i * p.dilation_height - p.pad_top;
          if (h < 0 || h >= p.in_height) continue;
          for (int64_t j = 0; j < p.kernel_width; ++j) {
            const int64_t w = ow * p.stride_width + j * p.dilation_width - p.pad_left;
            if (w < 0 || w >= p.in_width) continue;
            for (int64_t co = 0; co < outputs; ++co) {
              body(image_index(n, oh, ow, co, p.out_height, p.out_width, outputs),
                   image_index(n, h, w, co / p.multiplier, p.in_height, p.in_width, p.channels),
                   static_cast<size_t>((i * p.kernel_width + j) * outputs + co));
            }
          }
        }
      }
    }
  }
}

struct ExpectedForward {
  Expected y, preactivation;
};

inline ExpectedForward naive_forward(const depthwise_params& p, const Inputs& in) {
  const double u = compute_roundoff(p.dtype);
  const size_t outputs = static_cast<size_t>(p.channels * p.multiplier);
  std::vector<Sum> sums(static_cast<size_t>(p.batch * p.out_height * p.out_width) * outputs);
  if (!in.bias.reals.empty()) {
    for (size_t i = 0; i < sums.size(); ++i) sums[i].add(in.bias.reals[i % outputs], 1);
  }
  each_term(p, [&](size_t output, size_t input, size_t tap) {
    sums[output].add(in.x.reals[input], in.kernel.reals[tap]);
  });
  ExpectedForward expected;
  for (const Sum& sum : sums) {
    const double z = sum.value, y = naive_activation(p.activation, p.alpha, z);
    const double from_sum = sum.tolerance(u) * std::max(1.5, p.alpha);
    const double own = 16 * u * (std::fabs(z) + std::fabs(y)) * std::max(1.0, p.alpha);
    expected.preactivation.add(z, sum.tolerance(u) + storage_rounding(p.dtype, z));
    expected.y.add(
        y, from_sum + (has_slope_one(p.activation) ? 0 : own) + storage_rounding(p.dtype, y));
  }
  return expected;
}

struct ExpectedBackward {
  Expected dx, dkernel, dbias;
};

inline ExpectedBackward naive_backward(const depthwise_params& p, const Inputs& in) {
  const double u = compute_roundoff(p.dtype);
  const size_t outputs = static_cast<size_t>(p.channels * p.multiplier);
  std::vector<Sum> dx(in.x.reals.size()), dkernel(in.kernel.reals.size()), dbias(outputs);
  std::vector<double> dz(in.dy.reals.size()), error(dz.size());
  for (size_t i = 0; i < dz.size(); ++i) {
    const double d = naive_derivative(p.activation, p.alpha, in.saved.reals[i]);
    dz[i] = in.dy.reals[i] * d;
    const double own = 16 * u * (1 + std::fabs(d)) * std::max(1.0, p.alpha);
    error[i] = has_slope_one(p.activation) ? 0 : own * std::fabs(in.dy.reals[i]);
    dbias[i % outputs].add(dz[i], 1, error[i]);
  }
  each_term(p, [&](size_t output, size_t input, size_t tap) {
    dx[input].add(dz[output], in.kernel.reals[tap], error[output]);
    dkernel[tap].add(dz[output], in.x.reals[input], error[output]);
  });
  const auto finish = [&](const std::vector<Sum>& sums) {
    Expected expected;
    for (const Sum& sum : sums) {
      expected.add(sum.value, sum.tolerance(u) + storage_rounding(p.dtype, sum.value));
    }
    return expected;
  };
  return {finish(dx), finish(dkernel), finish(dbias)};
}

}  // namespace depthwise::test

#endif  // DEPTHWISE_TESTS_CPP_NAIVE_H_
