// What moves elements from one lane to another.
#ifndef DEPTHWISE_KERNELS_SHUFFLES_H_
#define DEPTHWISE_KERNELS_SHUFFLES_H_

#include "vec.h"

namespace depthwise::DW_ISA {

// Shuffles of two vectors by a constant pattern of element numbers, those of the second vector
// counted on from those of the first.
#if defined(__clang__)
#define DW_SHUFFLE(A, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define DW_SHUFFLE(A, a, b, ...) __builtin_shuffle(a, b, Mask<A>{__VA_ARGS__})
#endif

// Of two adjacent vectors, the elements at even places.
DW_INLINE Vec<float> even_elements(Vec<float> a, Vec<float> b) {
#if DW_VECTOR_BYTES == 64
  return DW_SHUFFLE(float, a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
#elif DW_VECTOR_BYTES == 32
  return DW_SHUFFLE(float, a, b, 0, 2, 4, 6, 8, 10, 12, 14);
#else
  return DW_SHUFFLE(float, a, b, 0, 2, 4, 6);
#endif
}
DW_INLINE Vec<double> even_elements(Vec<double> a, Vec<double> b) {
#if DW_VECTOR_BYTES == 64
  return DW_SHUFFLE(double, a, b, 0, 2, 4, 6, 8, 10, 12, 14);
#elif DW_VECTOR_BYTES == 32
  return DW_SHUFFLE(double, a, b, 0, 2, 4, 6);
#else
  return DW_SHUFFLE(double, a, b, 0, 2);
#endif
}

// The elements at even places of two adjacent vectors in the order in which one instruction gives
// them, and such a vector brought in order: for sums of many of them that is done once.
template <class A>
DW_INLINE Vec<A> even_elements_anyhow(Vec<A> a, Vec<A> b) {
#if DW_VECTOR_BYTES == 32
  if constexpr (sizeof(A) == 4) {
    return (Vec<A>)_mm256_shuffle_ps((__m256)a, (__m256)b, 0x88);
  } else {
    return (Vec<A>)_mm256_shuffle_pd((__m256d)a, (__m256d)b, 0);
  }
#else
  return even_elements(a, b);
#endif
}
template <class A>
DW_INLINE Vec<A> in_order(Vec<A> v) {
#if DW_VECTOR_BYTES == 32
  return (Vec<A>)_mm256_permute4x64_pd((__m256d)v, 0xd8);
#else
  return v;
#endif
}

// Elements of two adjacent vectors at ascending places, where the instruction set has this as one
// instruction.
template <class A>
inline constexpr bool can_shift = false;
#if defined(__AVX512F__)
template <>
inline constexpr bool can_shift<float> = true;
template <>
inline constexpr bool can_shift<double> = true;
DW_INLINE Vec<float> shifted(Vec<float> a, Vec<float> b, Mask<float> places) {
  return (Vec<float>)_mm512_permutex2var_ps((__m512)a, (__m512i)places, (__m512)b);
}
DW_INLINE Vec<double> shifted(Vec<double> a, Vec<double> b, Mask<double> places) {
  return (Vec<double>)_mm512_permutex2var_pd((__m512d)a, (__m512i)places, (__m512d)b);
}

// Of three adjacent vectors, every third element from number `phase` on.
template <class A>
DW_INLINE Vec<A> every_third(Vec<A> a, Vec<A> b, Vec<A> c, int phase) {
  constexpr int n = lanes<A>;
  Mask<A> first, second;  // places in a and b, then in these and c
#pragma GCC unroll 16
  for (int i = 0; i < n; ++i) {
    const int at = phase + 3 * i;
    first[i] = at < 2 * n ? at : 0;
    second[i] = at < 2 * n ? i : at - n;
  }
  return shifted(shifted(a, b, first), c, second);
}

// Of `step` adjacent vectors, every step-th element.
template <int step, class A>
DW_INLINE Vec<A> spaced_elements(const Vec<A> (&vectors)[step]) {
  constexpr int n = lanes<A>;
  Vec<A> elements = vectors[0];
#pragma GCC unroll 16
  for (int v = 1; v < step; ++v) {
    Mask<A> places;  // in those found so far, or in this vector
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) {
      const int at = i * step, found = v == 1 ? at : i;
      places[i] = at < v * n ? found : at < (v + 1) * n ? at - (v - 1) * n : 0;
    }
    elements = shifted(elements, vectors[v], places);
  }
  return elements;
}
#endif

// Of three adjacent vectors, every third element.
DW_INLINE Vec<float> third_elements(Vec<float> a, Vec<float> b, Vec<float> c) {
#if DW_VECTOR_BYTES == 64
  return every_third<float>(a, b, c, 0);
#elif DW_VECTOR_BYTES == 32
  const Vec<float> ab = DW_SHUFFLE(float, a, b, 0, 3, 6, 9, 12, 15, 0, 0);
  return DW_SHUFFLE(float, ab, c, 0, 1, 2, 3, 4, 5, 10, 13);
#else
  const Vec<float> ab = DW_SHUFFLE(float, a, b, 0, 3, 6, 0);
  return DW_SHUFFLE(float, ab, c, 0, 1, 2, 5);
#endif
}
DW_INLINE Vec<double> third_elements(Vec<double> a, Vec<double> b, Vec<double> c) {
#if DW_VECTOR_BYTES == 64
  return every_third<double>(a, b, c, 0);
#elif DW_VECTOR_BYTES == 32
  const Vec<double> ab = DW_SHUFFLE(double, a, b, 0, 3, 6, 0);
  return DW_SHUFFLE(double, ab, c, 0, 1, 2, 5);
#else
  (void)c;
  return DW_SHUFFLE(double, a, b, 0, 3);
#endif
}

// And those at odd places.
DW_INLINE Vec<float> odd_elements(Vec<float> a, Vec<float> b) {
#if DW_VECTOR_BYTES == 64
  return DW_SHUFFLE(float, a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
#elif DW_VECTOR_BYTES == 32
  return DW_SHUFFLE(float, a, b, 1, 3, 5, 7, 9, 11, 13, 15);
#else
  return DW_SHUFFLE(float, a, b, 1, 3, 5, 7);
#endif
}
DW_INLINE Vec<double> odd_elements(Vec<double> a, Vec<double> b) {
#if DW_VECTOR_BYTES == 64
  return DW_SHUFFLE(double, a, b, 1, 3, 5, 7, 9, 11, 13, 15);
#elif DW_VECTOR_BYTES == 32
  return DW_SHUFFLE(double, a, b, 1, 3, 5, 7);
#else
  return DW_SHUFFLE(double, a, b, 1, 3);
#endif
}

// Element places[i] of v in lane i, where the instruction set has this as one instruction.
template <class A>
inline constexpr bool can_permute = false;
#if defined(__AVX512F__)
template <>
inline constexpr bool can_permute<float> = true;
DW_INLINE Vec<float> permuted(Vec<float> v, Mask<float> places) {
  return (Vec<float>)_mm512_maskz_permutexvar_ps(0xffff, (__m512i)places, (__m512)v);
}
#elif defined(__AVX2__)
template <>
inline constexpr bool can_permute<float> = true;
DW_INLINE Vec<float> permuted(Vec<float> v, Mask<float> places) {
  return (Vec<float>)_mm256_permutevar8x32_ps((__m256)v, (__m256i)places);
}
#endif

// The same from the four elements at p, where these are a part of a vector and shuffles within
// parts are cheaper than from one to another. Places are given as the bytes that they have:
// shuffles of bytes take a Zen 1 one cycle, those of elements four, within parts, too.
template <class A>
inline constexpr bool can_permute_run = false;
constexpr int32_t place_bytes(int32_t place) { return place * 0x04040404 + 0x03020100; }
#if defined(__AVX2__) && !defined(__AVX512F__)
template <>
inline constexpr bool can_permute_run<float> = true;
DW_INLINE Vec<float> permuted_run(const float* p, Mask<float> bytes) {
  const __m128i run = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return (Vec<float>)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(run), (__m256i)bytes);
}
#endif

// The first, and the second, vector of a[0], b[0], a[1], b[1], ...
DW_INLINE Vec<float> interleaved_low(Vec<float> a, Vec<float> b) {
#if DW_VECTOR_BYTES == 64
  return DW_SHUFFLE(float, a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
#elif DW_VECTOR_BYTES == 32
  return DW_SHUFFLE(float, a, b, 0, 8, 1, 9, 2, 10, 3, 11);
#else
  return DW_SHUFFLE(float, a, b, 0, 4, 1, 5);
#endif
}
DW_INLINE Vec<float> interleaved_high(Vec<float> a, Vec<float> b) {
#if DW_VECTOR_BYTES == 64
  return DW_SHUFFLE(float, a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif DW_VECTOR_BYTES == 32
  return DW_SHUFFLE(float, a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#else
  return DW_SHUFFLE(float, a, b, 2, 6, 3, 7);
#endif
}
DW_INLINE Vec<double> interleaved_low(Vec<double> a, Vec<double> b) {
#if DW_VECTOR_BYTES == 64
  return DW_SHUFFLE(double, a, b, 0, 8, 1, 9, 2, 10, 3, 11);
#elif DW_VECTOR_BYTES == 32
  return DW_SHUFFLE(double, a, b, 0, 4, 1, 5);
#else
  return DW_SHUFFLE(double, a, b, 0, 2);
#endif
}
DW_INLINE Vec<double> interleaved_high(Vec<double> a, Vec<double> b) {
#if DW_VECTOR_BYTES == 64
  return DW_SHUFFLE(double, a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#elif DW_VECTOR_BYTES == 32
  return DW_SHUFFLE(double, a, b, 2, 6, 3, 7);
#else
  return DW_SHUFFLE(double, a, b, 1, 3);
#endif
}

// The elements of 128 bits: within those, shuffles of wider vectors are as cheap as narrow ones,
// and loads of so many go to any such part of a vector without a shuffle.
template <class A>
constexpr int run = 16 / static_cast<int>(sizeof(A));

// A run from each of the rows that `row(0)`, `row(1)`, ... point into, side by side.
template <class A, class Row>
DW_INLINE Vec<A> load_runs(const Row& row) {
#if DW_VECTOR_BYTES == 16
  return load(row(0));
#else
  const auto pair = [](const A* low, const A* high) DW_INLINE_LAMBDA {
    const __m128 first = _mm_loadu_ps(reinterpret_cast<const float*>(low));
    const __m128 second = _mm_loadu_ps(reinterpret_cast<const float*>(high));
    return _mm256_insertf128_ps(_mm256_castps128_ps256(first), second, 1);
  };
#if DW_VECTOR_BYTES == 32
  return bit_cast<Vec<A>>(pair(row(0), row(1)));
#else
  const __m512 low = _mm512_castps256_ps512(pair(row(0), row(1)));
  return bit_cast<Vec<A>>(_mm512_insertf32x8(low, pair(row(2), row(3)), 1));
#endif
#endif
}

// Of a[0], b[0], a[1], b[1], ... of the runs at the same place of both, the first and the second
// run.
DW_INLINE Vec<float> runs_interleaved_low(Vec<float> a, Vec<float> b) {
#if DW_VECTOR_BYTES == 64
  return DW_SHUFFLE(float, a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
#elif DW_VECTOR_BYTES == 32
  return DW_SHUFFLE(float, a, b, 0, 8, 1, 9, 4, 12, 5, 13);
#else
  return interleaved_low(a, b);
#endif
}
DW_INLINE Vec<float> runs_interleaved_high(Vec<float> a, Vec<float> b) {
#if DW_VECTOR_BYTES == 64
  return DW_SHUFFLE(float, a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
#elif DW_VECTOR_BYTES == 32
  return DW_SHUFFLE(float, a, b, 2, 10, 3, 11, 6, 14, 7, 15);
#else
  return interleaved_high(a, b);
#endif
}
DW_INLINE Vec<double> runs_interleaved_low(Vec<double> a, Vec<double> b) {
#if DW_VECTOR_BYTES == 64
  return DW_SHUFFLE(double, a, b, 0, 8, 2, 10, 4, 12, 6, 14);
#elif DW_VECTOR_BYTES == 32
  return DW_SHUFFLE(double, a, b, 0, 4, 2, 6);
#else
  return interleaved_low(a, b);
#endif
}
DW_INLINE Vec<double> runs_interleaved_high(Vec<double> a, Vec<double> b) {
#if DW_VECTOR_BYTES == 64
  return DW_SHUFFLE(double, a, b, 1, 9, 3, 11, 5, 13, 7, 15);
#elif DW_VECTOR_BYTES == 32
  return DW_SHUFFLE(double, a, b, 1, 5, 3, 7);
#else
  return interleaved_high(a, b);
#endif
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_SHUFFLES_H_
