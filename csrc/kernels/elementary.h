// Elementary functions on vectors, for the activations: accurate to a few units in the last place,
// with IEEE's answers for infinities and NaN.
#ifndef DEPTHWISE_KERNELS_ELEMENTARY_H_
#define DEPTHWISE_KERNELS_ELEMENTARY_H_

#include "vec.h"

namespace depthwise::DW_ISA {

template <class A>
DW_INLINE Vec<A> absolute(Vec<A> v) {
  if constexpr (sizeof(A) == 4) {
    return bit_cast<Vec<A>>(bit_cast<Mask<A>>(v) & 0x7fffffff);
  } else {
    return bit_cast<Vec<A>>(bit_cast<Mask<A>>(v) & 0x7fffffffffffffff);
  }
}

// c[0] + c[1] x + ... by Horner's rule.
template <class A, int n>
DW_INLINE Vec<A> polynomial(Vec<A> x, const A (&c)[n]) {
  Vec<A> sum = broadcast(c[n - 1]);
#pragma GCC unroll 32
  for (int i = n - 2; i >= 0; --i) sum = fma(sum, x, broadcast(c[i]));
  return sum;
}

template <class A>
struct ExpConstants;

template <>
struct ExpConstants<float> {
  static constexpr float low = -87.3f, high = 88.3f;  // 2^n below stays a normal number
  static constexpr float rounder = 0x1.8p23f;         // adding it rounds to an integer
  static constexpr float ln2_high = 0x1.62e4p-1f, ln2_low = 0x1.7f7d1cp-20f;
  static constexpr int mantissa_bits = 23, bias = 127;
  // 1/2!, 1/3!, ...: for |r| <= ln(2)/2 the first term left out is below 2^-27 r.
  static constexpr float taylor[] = {1.f / 2, 1.f / 6, 1.f / 24, 1.f / 120, 1.f / 720, 1.f / 5040};
};
template <>
struct ExpConstants<double> {
  static constexpr double low = -708.0, high = 709.0;
  static constexpr double rounder = 0x1.8p52;
  static constexpr double ln2_high = 0x1.62e42fefap-1, ln2_low = 0x1.cf79abc9e3b3ap-40;
  static constexpr int mantissa_bits = 52, bias = 1023;
  static constexpr double taylor[] = {1. / 2,       1. / 6,        1. / 24,        1. / 120,
                                      1. / 720,     1. / 5040,     1. / 40320,     1. / 362880,
                                      1. / 3628800, 1. / 39916800, 1. / 479001600, 1. / 6227020800};
};

// x = n ln 2 + r, |r| <= ln(2)/2: `scale` = 2^n and `minus_one` = e^r - 1.
template <class A>
struct ExpParts {
  Vec<A> scale, minus_one;
};
template <class A>
DW_INLINE ExpParts<A> exp_parts(Vec<A> x) {
  using C = ExpConstants<A>;
  const Vec<A> bounded = clamp(x, broadcast(C::low), broadcast(C::high));
  const Vec<A> shifted = bounded * A(1.44269504088896340736) + C::rounder;
  const Vec<A> n = shifted - C::rounder;
  const Vec<A> r = (bounded - n * C::ln2_high) - n * C::ln2_low;
  const Vec<A> minus_one = r + r * r * polynomial<A>(r, C::taylor);
  const Mask<A> integer = bit_cast<Mask<A>>(shifted) - bit_cast<Mask<A>>(broadcast(C::rounder));
  return {bit_cast<Vec<A>>((integer + C::bias) << C::mantissa_bits), minus_one};
}

template <class A>
DW_INLINE Vec<A> exp(Vec<A> x) {
  using C = ExpConstants<A>;
  const ExpParts<A> e = exp_parts<A>(x);
  Vec<A> y = e.scale + e.scale * e.minus_one;
  y = x < broadcast(C::low) ? zero<A>() : y;
  return x > broadcast(C::high) ? broadcast(static_cast<A>(__builtin_inf())) : y;
}

// For x <= 0, exact to the last places near zero too.
template <class A>
DW_INLINE Vec<A> expm1(Vec<A> x) {
  const ExpParts<A> e = exp_parts<A>(x);
  return e.scale * e.minus_one + (e.scale - A(1));
}

template <class A>
DW_INLINE Vec<A> sigmoid(Vec<A> x) {
  return A(1) / (A(1) + exp<A>(-x));
}

template <class A>
DW_INLINE Vec<A> tanh(Vec<A> x) {
  const Vec<A> e = expm1<A>(A(-2) * absolute<A>(x));
  const Vec<A> magnitude = -e / (e + A(2));
  return x < zero<A>() ? -magnitude : magnitude;
}

// log(1 + t) for 0 <= t <= 1: 2 atanh(t / (2 + t)), whose argument is at most 1/3.
template <class A>
DW_INLINE Vec<A> log1p_unit(Vec<A> t) {
  const Vec<A> u = t / (t + A(2)), square = u * u;
  if constexpr (sizeof(A) == 4) {
    constexpr A series[] = {1.f, 1.f / 3, 1.f / 5, 1.f / 7, 1.f / 9, 1.f / 11, 1.f / 13, 1.f / 15};
    return A(2) * u * polynomial<A>(square, series);
  } else {
    constexpr A series[] = {1.,      1. / 3,  1. / 5,  1. / 7,  1. / 9,  1. / 11,
                            1. / 13, 1. / 15, 1. / 17, 1. / 19, 1. / 21, 1. / 23,
                            1. / 25, 1. / 27, 1. / 29, 1. / 31, 1. / 33, 1. / 35};
    return A(2) * u * polynomial<A>(square, series);
  }
}

// (1 + 2 x) erfcx(x) as a polynomial in (x - 3.75) / (x + 3.75), from tools/fit_erfcx.py.
template <class A>
struct ErfcxConstants;
template <>
struct ErfcxConstants<float> {
  static constexpr float limit = 12.f;  // exp(-x^2) is zero beyond
  // float: degree 12, relative error 5.9e-9
  static constexpr float coefficients[] = {
      1.23751263f,     -0.140240659f,   0.00358543802f, 0.0822784339f,  -0.108804565f,
      0.0922906917f,   -0.058688252f,   0.0284094304f,  -0.0097646905f, 0.00167573425f,
      0.000325388465f, -0.00022405205f, 2.36348201e-5f};
};
template <>
struct ErfcxConstants<double> {
  static constexpr double limit = 28.;
  // double: degree 22, relative error 1.3e-16
  static constexpr double coefficients[] = {
      1.2375126308378276,     -0.14024059858554521,   0.0035854154854663069,
      0.08227673848999159,    -0.10880393014193915,   0.09230432116435616,
      -0.058693398584491848,  0.028362277371370046,   -0.0097465796208150901,
      0.0017556261692276721,  0.00029371408777227682, -0.00029015536563947128,
      5.1647371238718377e-5,  2.2387592725347689e-5,  -1.143961526007595e-5,
      -9.7929752909982292e-7, 1.7438577411359181e-6,  -5.0816911811698188e-8,
      -2.4996538037405242e-7, 1.8778501156468797e-8,  3.2564990837985129e-8,
      -1.9527901629748369e-9, -2.7293941332533855e-9};
};

// The normal distribution function, with a small relative error in its lower tail too.
template <class A>
DW_INLINE Vec<A> normal_distribution(Vec<A> z) {
  using C = ErfcxConstants<A>;
  const Vec<A> limit = broadcast(C::limit);
  Vec<A> x = absolute<A>(z) * A(0.70710678118654752440);
  x = x > limit ? limit : x;
  const Vec<A> scaled = polynomial<A>((x - A(3.75)) / (x + A(3.75)), C::coefficients);
  const Vec<A> tail = A(0.5) * exp<A>(-x * x) * scaled / (A(1) + A(2) * x);
  return z > zero<A>() ? A(1) - tail : tail;
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_ELEMENTARY_H_
