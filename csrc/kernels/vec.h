// The small vector type on which every kernel is written: one full register of the instruction set
// this file is compiled for, in a namespace of its own (DW_ISA).
//
// Nothing here may come from an inline standard template: the linker would keep one copy of it,
// perhaps the one compiled for an instruction set that the CPU lacks.
#ifndef DEPTHWISE_KERNELS_VEC_H_
#define DEPTHWISE_KERNELS_VEC_H_

#include <stdint.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if !defined(DW_ISA)
#error "compile the kernels with -DDW_ISA=baseline, avx2, avx512 or neon"
#endif

#define DW_INLINE inline __attribute__((always_inline))
#define DW_INLINE_LAMBDA __attribute__((always_inline))

#if defined(__AVX512F__)
#define DW_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define DW_VECTOR_BYTES 32
#else
#define DW_VECTOR_BYTES 16
#endif

namespace depthwise::DW_ISA {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int vector_registers = 32;
#else
constexpr int vector_registers = 16;
#endif

// What a stored type is computed in.
template <class T>
struct ComputeOf {
  using type = float;
};
template <>
struct ComputeOf<double> {
  using type = double;
};
template <class T>
using Compute = typename ComputeOf<T>::type;

// Whether elements are computed as they are stored.
template <class T>
inline constexpr bool is_compute_type = sizeof(T) == sizeof(Compute<T>);

template <class A>
constexpr int lanes = DW_VECTOR_BYTES / static_cast<int>(sizeof(A));

template <class A>
struct VecTypes;
template <>
struct VecTypes<float> {
  typedef float type __attribute__((vector_size(DW_VECTOR_BYTES)));
  typedef int32_t mask __attribute__((vector_size(DW_VECTOR_BYTES)));
};
template <>
struct VecTypes<double> {
  typedef double type __attribute__((vector_size(DW_VECTOR_BYTES)));
  typedef int64_t mask __attribute__((vector_size(DW_VECTOR_BYTES)));
};
template <class A>
using Vec = typename VecTypes<A>::type;
template <class A>
using Mask = typename VecTypes<A>::mask;  // all ones or all zeros in each lane

// Vectors of half as many lanes, for what a few channels leave over, of types for which that pays:
// a core that computes one whole vector at once, or two halves, takes half the time.
template <class A>
inline constexpr bool has_half_vectors = false;
template <class A>
struct HalfVecType {
  using type = Vec<A>;
};
#if defined(__AVX512F__)
template <>
inline constexpr bool has_half_vectors<float> = true;
template <>
struct HalfVecType<float> {
  typedef float type __attribute__((vector_size(DW_VECTOR_BYTES / 2)));
};
#endif
template <class A>
using HalfVec = typename HalfVecType<A>::type;

template <class To, class From>
DW_INLINE To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof(to));
  return to;
}

template <class A>
DW_INLINE Vec<A> broadcast(A s) {
  if constexpr (lanes<A> == 2) {
    return Vec<A>{s, s};
  } else if constexpr (lanes<A> == 4) {
    return Vec<A>{s, s, s, s};
  } else if constexpr (lanes<A> == 8) {
    return Vec<A>{s, s, s, s, s, s, s, s};
  } else {
    return Vec<A>{s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s};
  }
}

template <class A>
DW_INLINE Vec<A> zero() {
  return Vec<A>{};
}

// One rounding where the instruction set has fused multiply-add, two on x86-64 baseline: the
// kernels are compiled with -ffp-contract=fast.
template <class V>
DW_INLINE V fma(V a, V b, V c) {
  return a * b + c;
}

// NaN in `v` comes out as NaN: the comparison is false and keeps it.
template <class V>
DW_INLINE V clamp(V v, V low, V high) {
  v = v < low ? low : v;
  return v > high ? high : v;
}

// Keeps the compiler from loading a value again for each of its uses: it would fold the load into
// every multiply-add, and the load ports are the narrower ones.
template <class V>
DW_INLINE V in_register(V v) {
#if defined(__x86_64__)
  __asm__("" : "+v"(v));
#elif defined(__aarch64__)
  __asm__("" : "+w"(v));
#endif
  return v;
}

template <class A>
DW_INLINE A horizontal_sum(Vec<A> v) {
  A values[lanes<A>];
  __builtin_memcpy(values, &v, sizeof(v));
  for (int width = lanes<A> / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) values[i] += values[i + width];
  }
  return values[0];
}

// A vector anywhere in memory. Through such a type, for GCC 12 copies with memcpy() in integer
// registers, some of which it spills and reloads as the floats that they are.
template <class V>
struct Unaligned {
  typedef V type __attribute__((aligned(1), may_alias));
};
// Vectors of any size.
template <class V, class A>
DW_INLINE V load_as(const A* p) {
  return *reinterpret_cast<const typename Unaligned<V>::type*>(p);
}
template <class V, class A>
DW_INLINE void store_as(A* p, V v) {
  *reinterpret_cast<typename Unaligned<V>::type*>(p) = v;
}
DW_INLINE Vec<float> load(const float* p) { return load_as<Vec<float>>(p); }
DW_INLINE Vec<double> load(const double* p) { return load_as<Vec<double>>(p); }
DW_INLINE void store(float* p, Vec<float> v) { store_as(p, v); }
DW_INLINE void store(double* p, Vec<double> v) { store_as(p, v); }

// Stores that go to memory past the caches, which then do not read the line first: of whole lines
// only, aligned. Other threads see them after finish_streaming().
template <class T>
inline constexpr bool can_stream = false;
#if defined(__AVX512F__)
template <>
inline constexpr bool can_stream<float> = true;
template <>
inline constexpr bool can_stream<double> = true;
DW_INLINE void stream(float* p, Vec<float> v) { _mm512_stream_ps(p, (__m512)v); }
DW_INLINE void stream(double* p, Vec<double> v) { _mm512_stream_pd(p, (__m512d)v); }
// 64 bytes from anywhere.
DW_INLINE void stream_line(void* to, const void* from) {
  _mm512_stream_si512(static_cast<__m512i*>(to), _mm512_loadu_si512(from));
}
DW_INLINE void finish_streaming() { _mm_sfence(); }
#elif defined(__AVX2__)
template <>
inline constexpr bool can_stream<float> = true;
template <>
inline constexpr bool can_stream<double> = true;
// Half a line: the other half should follow at once, or memory is written twice.
DW_INLINE void stream(float* p, Vec<float> v) { _mm256_stream_ps(p, (__m256)v); }
DW_INLINE void stream(double* p, Vec<double> v) { _mm256_stream_pd(p, (__m256d)v); }
DW_INLINE void stream_line(void* to, const void* from) {
  const float* const values = static_cast<const float*>(from);
  const Vec<float> low = load(values), high = load(values + lanes<float>);
  stream(static_cast<float*>(to), low);
  stream(static_cast<float*>(to) + lanes<float>, high);
}
DW_INLINE void finish_streaming() { _mm_sfence(); }
#else
DW_INLINE void stream_line(void* to, const void* from) { __builtin_memcpy(to, from, 64); }
DW_INLINE void finish_streaming() {}
#endif

// Whether a vector of results is half a line of memory.
template <class T>
constexpr bool has_half_lines = lanes<Compute<T>> * static_cast<int>(sizeof(T)) == 32;

// A line of results that are stored as they are computed: the values at `first`, then the vector.
#if DW_VECTOR_BYTES == 32
template <class A>
DW_INLINE void stream(A* p, const A* first, Vec<A> second) {
  const Vec<A> values = load(first);
  stream(p, values);
  stream(p + lanes<A>, second);
}
#endif

// Elements `stride` apart.
template <class T>
DW_INLINE Vec<Compute<T>> load_spaced(const T* p, int64_t stride) {
  T values[lanes<Compute<T>>];
  for (int64_t i = 0; i < lanes<Compute<T>>; ++i) values[i] = p[i * stride];
  return load(values);
}
#if defined(__AVX512F__)
DW_INLINE Vec<float> load_spaced(const float* p, int64_t stride) {
  constexpr int64_t most = INT32_MAX / 16;  // for offsets of 32 bits
  if (stride > most || stride < -most) return load_spaced<float>(p, stride);
  const Mask<float> places{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const __m512i offsets = (__m512i)(places * static_cast<int32_t>(stride));
  return (Vec<float>)_mm512_mask_i32gather_ps(_mm512_setzero_ps(), 0xffff, offsets, p, 4);
}
#endif

// The first `count` lanes only (0 < count <= lanes); the others read as zero and are not written.
template <class T>
DW_INLINE Vec<Compute<T>> load_part(const T* p, int64_t count) {
  T values[lanes<Compute<T>>] = {};
  for (int64_t i = 0; i < count; ++i) values[i] = p[i];
  return load(values);
}
template <class T>
DW_INLINE void store_part(T* p, Vec<Compute<T>> v, int64_t count) {
  T values[lanes<Compute<T>>];
  store(values, v);
  for (int64_t i = 0; i < count; ++i) p[i] = values[i];
}

#if defined(__AVX512F__)
DW_INLINE __mmask16 first_lanes(int64_t count) { return static_cast<__mmask16>((1u << count) - 1); }
DW_INLINE Vec<float> load_part(const float* p, int64_t count) {
  return (Vec<float>)_mm512_maskz_loadu_ps(first_lanes(count), p);
}
DW_INLINE void store_part(float* p, Vec<float> v, int64_t count) {
  _mm512_mask_storeu_ps(p, first_lanes(count), (__m512)v);
}
DW_INLINE Vec<double> load_part(const double* p, int64_t count) {
  return (Vec<double>)_mm512_maskz_loadu_pd(static_cast<__mmask8>(first_lanes(count)), p);
}
DW_INLINE void store_part(double* p, Vec<double> v, int64_t count) {
  _mm512_mask_storeu_pd(p, static_cast<__mmask8>(first_lanes(count)), (__m512d)v);
}
#elif defined(__AVX2__)
DW_INLINE __m256i first_lanes(int64_t count) {
  const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), index);
}
DW_INLINE Vec<float> load_part(const float* p, int64_t count) {
  return (Vec<float>)_mm256_maskload_ps(p, first_lanes(count));
}
// In pieces: 3x3 on channels-first 14x14x512 took two cores of a Zen 1 220 us with masked stores
// and 198 so.
DW_INLINE void store_part(float* p, Vec<float> v, int64_t count) {
  if (count >= lanes<float>) return store(p, v);
  __m128 piece = _mm256_castps256_ps128((__m256)v);
  if (count & 4) {
    _mm_storeu_ps(p, piece);
    piece = _mm256_extractf128_ps((__m256)v, 1);
    p += 4;
  }
  if (count & 2) {
    _mm_storel_pi(reinterpret_cast<__m64*>(p), piece);
    piece = _mm_movehl_ps(piece, piece);
    p += 2;
  }
  if (count & 1) _mm_store_ss(p, piece);
}
DW_INLINE void store_part(double* p, Vec<double> v, int64_t count) {
  if (count >= lanes<double>) return store(p, v);
  __m128d piece = _mm256_castpd256_pd128((__m256d)v);
  if (count & 2) {
    _mm_storeu_pd(p, piece);
    piece = _mm256_extractf128_pd((__m256d)v, 1);
    p += 2;
  }
  if (count & 1) _mm_store_sd(p, piece);
}
#endif

// Whether none of them is infinite or NaN, of which zero times makes NaN.
template <class A>
bool all_finite(const A* values, int64_t count) {
  Vec<A> check = zero<A>();
  int64_t i = 0;
  for (; i + lanes<A> <= count; i += lanes<A>) check = fma(load(values + i), zero<A>(), check);
  if (i < count) check = fma(load_part(values + i, count - i), zero<A>(), check);
  return horizontal_sum<A>(check) == 0;
}

// 0, 1, 2, ...
template <class A>
DW_INLINE Vec<A> lane_numbers() {
  Vec<A> numbers;
  for (int i = 0; i < lanes<A>; ++i) numbers[i] = static_cast<A>(i);
  return numbers;
}

// Loads of a range of lanes, where the instruction set has them. The others read as zero, and their
// memory, which need not exist, is not touched.
template <class T>
inline constexpr bool loads_some = false;
// Whether to load a whole vector and cut it takes less, where all of its memory is there.
template <class T>
inline constexpr bool cuts_faster = false;
#if defined(__AVX512F__)
template <>
inline constexpr bool loads_some<float> = true;
template <>
inline constexpr bool loads_some<double> = true;
template <class A>
using SomeLanes = uint16_t;
template <class A>
DW_INLINE SomeLanes<A> lanes_between(int64_t begin, int64_t end) {
  return static_cast<uint16_t>(((1u << end) - 1) & ~((1u << begin) - 1));
}
DW_INLINE Vec<float> load_some(const float* p, uint16_t some) {
  return (Vec<float>)_mm512_maskz_loadu_ps(static_cast<__mmask16>(some), p);
}
DW_INLINE Vec<double> load_some(const double* p, uint16_t some) {
  return (Vec<double>)_mm512_maskz_loadu_pd(static_cast<__mmask8>(some), p);
}
#elif defined(__AVX2__)
template <>
inline constexpr bool loads_some<float> = true;
template <>
inline constexpr bool loads_some<double> = true;
template <class A>
using SomeLanes = Mask<A>;
template <class A>
DW_INLINE SomeLanes<A> lanes_between(int64_t begin, int64_t end) {
  return (lane_numbers<A>() >= static_cast<A>(begin)) & (lane_numbers<A>() < static_cast<A>(end));
}
template <>
inline constexpr bool cuts_faster<float> = true;
template <>
inline constexpr bool cuts_faster<double> = true;
DW_INLINE Vec<float> load_some(const float* p, Mask<float> some) {
  return (Vec<float>)_mm256_maskload_ps(p, (__m256i)some);
}
DW_INLINE Vec<double> load_some(const double* p, Mask<double> some) {
  return (Vec<double>)_mm256_maskload_pd(p, (__m256i)some);
}
#else
template <class A>
using SomeLanes = Mask<A>;
#endif

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_VEC_H_
