// Elements several times, side by side: an input channel for each output channel that is made of
// it.
#ifndef DEPTHWISE_KERNELS_REPEATED_H_
#define DEPTHWISE_KERNELS_REPEATED_H_

#include "geometry.h"
#include "shuffles.h"

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

// Whether elements can be repeated as they are loaded, which makes staging them unnecessary. Two
// cores of a Zen 5 took for 3x3 on 56x56x32 by 2 36 us staged and 26 so, on 28x28x24 by 4 14.9 and
// 11.9, for 7x7 on 40x40x20 by 3 57 and 42; for training steps 141 and 130, 70 and 61, 212 and 207.
template <class S>
constexpr bool repeats_on_load(int64_t multiplier) {
  return is_compute_type<S> && can_permute<Compute<S>> && multiplier > 1 &&
         multiplier < lanes<Compute<S>>;
}

// How elements of a source come to the results that are made of them: as they are; each several
// times, from a vector of which only those are loaded that there are; or likewise from a run of 128
// bits. Two cores of a Zen 1 took from vectors and from runs, in us, for 3x3 on 56x56x32 by 2 297
// and 171, on 28x28x24 by 4 114 and 68, for 7x7 on 40x40x20 by 3 621 and 337; for training steps
// 818 and 519, 347 and 246, 1597 and 1005. One core then took from runs by shuffles of elements and
// by shuffles of bytes 335 and 226, 131 and 86, 680 and 413; 962 and 752, 451 and 355, 1980 and
// 1430.
enum class Loading { as_stored, repeated, from_run };

// Which element each lane of a vector of results takes, counted from the first one that it takes,
// for each multiplier less than its lanes and each copy that it begins with: `of[multiplier]` from
// that copy on.
template <Loading loading, class A>
struct RepeatedPlaces {
  static_assert(sizeof(A) == sizeof(int32_t));
  int32_t of[lanes<A>][2 * lanes<A>];

  static constexpr int32_t place(int element) {
    return loading == Loading::from_run ? place_bytes(element) : element;
  }
  constexpr RepeatedPlaces() : of{} {
    for (int multiplier = 1; multiplier < lanes<A>; ++multiplier) {
      for (int i = 0; i < 2 * lanes<A>; ++i) of[multiplier][i] = place(i / multiplier);
    }
  }
};
template <Loading loading, class A>
inline constexpr RepeatedPlaces<loading, A> repeated_places;

// Elements of a source for the vector of results that begins with number `channel` of a block of
// `channels`, `multiplier` of each element where they are repeated.
template <Loading loading, class S>
struct Elements {
  using A = Compute<S>;
  int64_t offset;  // of the first one in the block
  int64_t count;   // of those that are loaded
  Mask<A> places;  // which of them each lane takes

  Elements() = default;
  DW_INLINE Elements(int64_t channel, int64_t channels, int64_t multiplier)
      : offset(channel), count(lanes<A>), places{} {
    if constexpr (loading != Loading::as_stored) {
      constexpr auto& places_for = repeated_places<loading, A>;
      // Halves keep the quotients off whole numbers, which rounding might miss.
      const double share = 1.0 / static_cast<double>(multiplier);
      offset = static_cast<int64_t>((static_cast<double>(channel) + 0.5) * share);
      const int64_t copy = channel - offset * multiplier;
      places = load_as<Mask<A>>(places_for.of[multiplier] + copy);
      if constexpr (loading == Loading::from_run) {
        // The last ones are at the end of a run, unless there is none.
        const int64_t all = static_cast<int64_t>((static_cast<double>(channels) + 0.5) * share);
        const int64_t first = max_of(0, min_of(offset, all - run<A>));
        places +=
            static_cast<int32_t>(offset - first) * (places_for.place(1) - places_for.place(0));
        offset = first;
      } else {
        const int64_t last = copy + min_of(lanes<A>, channels - channel) - 1;
        count = static_cast<int64_t>((static_cast<double>(last) + 0.5) * share) + 1;
      }
    }
  }
  // From the first one on.
  DW_INLINE Vec<A> operator()(const S* first) const {
    if constexpr (loading == Loading::from_run) {
      return permuted_run(first, places);
    } else if constexpr (loading == Loading::repeated) {
      return permuted(load_part(first, count), places);
    } else {
      return load(first);
    }
  }
};

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_REPEATED_H_
