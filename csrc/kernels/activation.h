// The fused activations and their derivatives, on vectors. The rules are those of activations.py.
#ifndef DEPTHWISE_KERNELS_ACTIVATION_H_
#define DEPTHWISE_KERNELS_ACTIVATION_H_

#include "../params.h"
#include "elementary.h"

namespace depthwise::DW_ISA {

// Linear, ReLU and ReLU6 are one clamp, done in registers with no branch.
template <class A>
struct ClampRange {
  bool is_clamp;
  A low, high;
};

template <class A>
inline ClampRange<A> clamp_range(int activation) {
  const A infinity = static_cast<A>(__builtin_inf());
  switch (activation) {
    case DEPTHWISE_LINEAR:
      return {true, -infinity, infinity};
    case DEPTHWISE_RELU:
      return {true, 0, infinity};
    case DEPTHWISE_RELU6:
      return {true, 0, 6};
    default:
      return {false, 0, 0};
  }
}

template <class A>
DW_INLINE Vec<A> hard_sigmoid(Vec<A> z) {
  return clamp(z + A(3), broadcast(A(0)), broadcast(A(6))) * A(1.0 / 6.0);
}

// sqrt(2 / pi) * (z + 0.044715 z^3), the argument of GELU's tanh.
template <class A>
DW_INLINE Vec<A> gelu_tanh_argument(Vec<A> z) {
  return A(0.79788456080286535588) * (z + A(0.044715) * z * z * z);
}

// Not inlined: one copy of the arithmetic, so that every caller gets the same bits.
template <class A>
[[gnu::noinline]] Vec<A> activate(int activation, A alpha, Vec<A> z) {
  const Vec<A> zeros = zero<A>();
  switch (activation) {
    case DEPTHWISE_RELU:
      return z < zeros ? zeros : z;
    case DEPTHWISE_RELU6:
      return clamp(z, zeros, broadcast(A(6)));
    case DEPTHWISE_LEAKY_RELU:
      return z < zeros ? z * alpha : z;
    case DEPTHWISE_ELU:
      return z < zeros ? expm1<A>(z) * alpha : z;
    case DEPTHWISE_SILU:
      return z * sigmoid<A>(z);
    case DEPTHWISE_HARD_SWISH:
      return z * hard_sigmoid<A>(z);
    case DEPTHWISE_HARD_SIGMOID:
      return hard_sigmoid<A>(z);
    case DEPTHWISE_SIGMOID:
      return sigmoid<A>(z);
    case DEPTHWISE_TANH:
      return tanh<A>(z);
    case DEPTHWISE_GELU:
      return z * normal_distribution<A>(z);
    case DEPTHWISE_GELU_TANH:
      return z * sigmoid<A>(A(2) * gelu_tanh_argument<A>(z));
    case DEPTHWISE_SOFTPLUS:
      return (z < zeros ? zeros : z) + log1p_unit<A>(exp<A>(-absolute<A>(z)));
    default:
      return z;
  }
}

// Derivative at the saved value: the pre-activation z where depthwise_needs_preactivation() says
// so, the output y otherwise.
template <class A>
[[gnu::noinline]] Vec<A> activation_derivative(int activation, A alpha, Vec<A> saved) {
  const Vec<A> zeros = zero<A>(), ones = broadcast(A(1));
  const Vec<A> v = saved;
  switch (activation) {
    case DEPTHWISE_RELU:
      return v > zeros ? ones : zeros;
    case DEPTHWISE_RELU6:
      return ((v > zeros) & (v < broadcast(A(6)))) ? ones : zeros;
    case DEPTHWISE_LEAKY_RELU:
      return v > zeros ? ones : broadcast(alpha);
    case DEPTHWISE_ELU:
      return v > zeros ? ones : v + alpha;
    case DEPTHWISE_SILU: {
      const Vec<A> s = sigmoid<A>(v);
      return s * (ones + v * sigmoid<A>(-v));  // 1 - s would lose its digits
    }
    case DEPTHWISE_HARD_SWISH: {
      const Vec<A> inside = (A(2) * v + A(3)) * A(1.0 / 6.0);
      const Vec<A> upper = v < broadcast(A(3)) ? inside : ones;
      return v > broadcast(A(-3)) ? upper : zeros;
    }
    case DEPTHWISE_HARD_SIGMOID:
      return ((v > zeros) & (v < ones)) ? broadcast(A(1.0 / 6.0)) : zeros;
    case DEPTHWISE_SIGMOID:
      return v * (ones - v);
    case DEPTHWISE_TANH:
      return ones - v * v;
    case DEPTHWISE_GELU: {
      const Vec<A> density = exp<A>(A(-0.5) * v * v) * A(0.39894228040143267794);
      return normal_distribution<A>(v) + v * density;
    }
    case DEPTHWISE_GELU_TANH: {
      const Vec<A> u = A(2) * gelu_tanh_argument<A>(v);
      const Vec<A> s = sigmoid<A>(u);
      const Vec<A> slope = A(0.79788456080286535588) * (ones + A(3 * 0.044715) * v * v);
      return s + A(2) * v * s * sigmoid<A>(-u) * slope;
    }
    case DEPTHWISE_SOFTPLUS:
      return -expm1<A>(-v);
    default:
      return ones;
  }
}

// The output's gradient through the activation. Where the derivative is 0 nothing comes through,
// not even what is infinite or NaN.
template <class A>
DW_INLINE Vec<A> through_activation(Vec<A> gradient, int activation, A alpha, Vec<A> saved) {
  if (activation == DEPTHWISE_RELU) return saved > zero<A>() ? gradient : zero<A>();
  const Vec<A> derivative = activation_derivative<A>(activation, alpha, saved);
  return derivative == zero<A>() ? zero<A>() : gradient * derivative;
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_ACTIVATION_H_
