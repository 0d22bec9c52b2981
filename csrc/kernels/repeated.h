// Elements several times, side by side: an input channel for each output channel that is made of
// it.
#ifndef DEPTHWISE_KERNELS_REPEATED_H_
#define DEPTHWISE_KERNELS_REPEATED_H_

#include "vec.h"

namespace depthwise::DW_ISA {

// Whether repeat_each() writes no further than up to the next full vector.
template <class A>
constexpr bool repeats_in_vectors(int64_t multiplier) {
  return multiplier == 1 || multiplier == 2 || multiplier == 4 ||
         (can_permute<A> && multiplier < lanes<A>);
}

// Each of `count` elements `multiplier` times, a vector of results at a time. The multiplier is
// less than the lanes of a vector.
template <class A>
DW_INLINE void repeat_permuted(A* to, const A* from, int64_t count, int64_t multiplier) {
  constexpr int64_t n = lanes<A>;
  const int64_t elements = n / multiplier, copies = n % multiplier;  // of a vector of results
  const A share = A(1) / static_cast<A>(multiplier);
  int64_t element = 0, copy = 0;  // what the next one begins with
  for (int64_t at = 0; at < count * multiplier; at += n) {
    // Halves keep the quotients off whole numbers, which rounding might miss.
    const Vec<A> quotients = (lane_numbers<A>() + (static_cast<A>(copy) + A(0.5))) * share;
    store(to + at, permuted(load(from + element), __builtin_convertvector(quotients, Mask<A>)));
    element += elements;
    copy += copies;
    if (copy >= multiplier) {
      copy -= multiplier;
      ++element;
    }
  }
}

// Each of `count` elements `multiplier` times; `from` is readable up to the next full vector, and
// `to` has room for one past the end.
template <class A>
DW_INLINE void repeat_each(A* to, const A* from, int64_t count, int64_t multiplier) {
  if (multiplier == 2 || multiplier == 4) {
    for (int64_t c = 0; c < count; c += lanes<A>) {
      const Vec<A> v = load(from + c);
      const Vec<A> pairs[2] = {interleaved_low(v, v), interleaved_high(v, v)};
      const int64_t left = (count - c) * multiplier;
      A* const repeated = to + c * multiplier;
      const auto put = [&](int64_t at, Vec<A> values) DW_INLINE_LAMBDA {
        if (at < left) store(repeated + at, values);
      };
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
        if (multiplier == 2) {
          put(i * lanes<A>, pairs[i]);
        } else {
          put(2 * i * lanes<A>, interleaved_low(pairs[i], pairs[i]));
          put((2 * i + 1) * lanes<A>, interleaved_high(pairs[i], pairs[i]));
        }
      }
    }
    return;
  }
  if constexpr (can_permute<A>) {
    if (multiplier < lanes<A>) {
      repeat_permuted(to, from, count, multiplier);
      return;
    }
  }
  for (int64_t c = 0; c < count; ++c) {
    const Vec<A> v = broadcast(from[c]);
    for (int64_t m = 0; m < multiplier; m += lanes<A>) store(to + c * multiplier + m, v);
  }
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_REPEATED_H_
