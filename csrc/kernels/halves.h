// The two 16-bit floating-point types: stored only, computed in float.
#ifndef DEPTHWISE_KERNELS_HALVES_H_
#define DEPTHWISE_KERNELS_HALVES_H_

#include "vec.h"

namespace depthwise::DW_ISA {

struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

typedef uint32_t VecU32 __attribute__((vector_size(DW_VECTOR_BYTES)));
typedef uint16_t VecU16 __attribute__((vector_size(DW_VECTOR_BYTES / 2)));

DW_INLINE VecU32 load_u16(const void* p) {
  VecU16 v;
  __builtin_memcpy(&v, p, sizeof(v));
  return __builtin_convertvector(v, VecU32);
}
DW_INLINE void store_u16(void* p, VecU32 wide) {
  const VecU16 v = __builtin_convertvector(wide, VecU16);
  __builtin_memcpy(p, &v, sizeof(v));
}

// A bfloat16 is the upper half of a float. It is rounded to nearest, ties to even; a NaN stays one
// (its quiet bit is set before it is cut).
#if defined(__AVX512F__)
// With one shuffle of words each: a tile converts what it reads and writes.
DW_INLINE Vec<float> load(const BFloat16* p) {
  const __m512i to_upper = _mm512_set_epi16(15, 0, 14, 0, 13, 0, 12, 0, 11, 0, 10, 0, 9, 0, 8, 0, 7,
                                            0, 6, 0, 5, 0, 4, 0, 3, 0, 2, 0, 1, 0, 0, 0);
  const __m512i bits =
      _mm512_maskz_broadcast_i64x4(0xff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return (Vec<float>)_mm512_maskz_permutexvar_epi16(0xaaaaaaaa, to_upper, bits);
}
DW_INLINE void store(BFloat16* p, Vec<float> v) {
  const __m512i bits = (__m512i)v, cut_down = (__m512i)(bit_cast<VecU32>(v) + 0x7fff);
  const __mmask16 odd = _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0x10000));
  const __mmask16 nan = _mm512_cmp_ps_mask((__m512)v, (__m512)v, _CMP_UNORD_Q);
  const __m512i even = _mm512_mask_add_epi32(cut_down, odd, cut_down, _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_mask_or_epi32(even, nan, bits, _mm512_set1_epi32(0x400000));
  const __m512i from_upper =
      _mm512_set_epi16(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 31, 29, 27, 25, 23, 21, 19,
                       17, 15, 13, 11, 9, 7, 5, 3, 1);
  const __m512i packed = _mm512_maskz_permutexvar_epi16(0xffff, from_upper, rounded);
  __builtin_memcpy(p, &packed, sizeof(packed) / 2);
}
#elif defined(__AVX2__)
// With one shuffle within 128 bits each: a load fills both halves with all of its elements.
DW_INLINE Vec<float> load(const BFloat16* p) {
  const __m256i to_upper =
      _mm256_setr_epi8(-1, -1, 0, 1, -1, -1, 2, 3, -1, -1, 4, 5, -1, -1, 6, 7, -1, -1, 8, 9, -1, -1,
                       10, 11, -1, -1, 12, 13, -1, -1, 14, 15);
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return (Vec<float>)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bits), to_upper);
}
DW_INLINE void store(BFloat16* p, Vec<float> v) {
  const __m256i nan = (__m256i)_mm256_cmp_ps((__m256)v, (__m256)v, _CMP_UNORD_Q);
  const VecU32 bits = bit_cast<VecU32>(v);
  const VecU32 odd = (bits & 0x10000) == 0x10000;  // all ones where it is
  const VecU32 rounded = bits + (VecU32)_mm256_andnot_si256(nan, (__m256i)(0x7fff - odd));
  const VecU32 quiet = (VecU32)nan & 0x400000;
  const __m256i from_upper =
      _mm256_setr_epi8(2, 3, 6, 7, 10, 11, 14, 15, -1, -1, -1, -1, -1, -1, -1, -1, 2, 3, 6, 7, 10,
                       11, 14, 15, -1, -1, -1, -1, -1, -1, -1, -1);
  const __m256i packed = _mm256_shuffle_epi8((__m256i)(rounded | quiet), from_upper);
  const __m128i low = _mm256_castsi256_si128(packed), high = _mm256_extracti128_si256(packed, 1);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_unpacklo_epi64(low, high));
}
#else
DW_INLINE Vec<float> load(const BFloat16* p) { return bit_cast<Vec<float>>(load_u16(p) << 16); }
DW_INLINE void store(BFloat16* p, Vec<float> v) {
  const VecU32 u = bit_cast<VecU32>(v);
  const VecU32 rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
  const VecU32 quiet = (u >> 16) | 0x40;
  store_u16(p, (u & 0x7fffffff) > 0x7f800000 ? quiet : rounded);
}
#endif

DW_INLINE Vec<float> load(const Half* p) {
#if defined(__AVX512F__)
  // The masked forms, with every lane on: GCC 12 warns of its own header in the plain ones.
  const __m256i h = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return (Vec<float>)_mm512_maskz_cvtph_ps(0xffff, h);
#elif defined(__F16C__)
  // Loaded first: a Zen 1 takes three cycles to do both by one instruction, and two so.
  return (Vec<float>)_mm256_cvtph_ps(
      in_register(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
#elif defined(__aarch64__)
  return (Vec<float>)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(&p->bits)));
#else
  // Exponent and mantissa move to their place, then a multiplication by 2^112 mends the bias, for
  // subnormal numbers too; infinities and NaNs get the float's largest exponent.
  const VecU32 u = load_u16(p);
  const VecU32 shifted = (u & 0x7fff) << 13;
  const VecU32 finite = bit_cast<VecU32>(bit_cast<Vec<float>>(shifted) * broadcast(0x1p112f));
  const VecU32 magnitude = (u & 0x7c00) == 0x7c00 ? (shifted | 0x7f800000) : finite;
  return bit_cast<Vec<float>>(magnitude | ((u & 0x8000) << 16));
#endif
}

DW_INLINE void store(Half* p, Vec<float> v) {
#if defined(__AVX512F__)
  const __m256i h =
      _mm512_maskz_cvtps_ph(0xffff, (__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), h);
#elif defined(__F16C__)
  const __m128i h = _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), h);
#elif defined(__aarch64__)
  vst1_u16(&p->bits, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)v)));
#else
  const VecU32 u = bit_cast<VecU32>(v);
  const VecU32 magnitude = u & 0x7fffffff;
  // Normal results: round to nearest even in the integer, which carries into the exponent.
  const VecU32 normal = (magnitude + 0xfff + ((magnitude >> 13) & 1) - 0x38000000) >> 13;
  // Subnormal results: adding 0.5, whose last bit is worth 2^-24, lets the addition round.
  const VecU32 tiny =
      bit_cast<VecU32>(bit_cast<Vec<float>>(magnitude) + broadcast(0.5f)) - 0x3f000000;
  const VecU32 nan_or_inf = magnitude > 0x7f800000 ? (VecU32{} + 0x7e00) : (VecU32{} + 0x7c00);
  VecU32 h = magnitude < 0x38800000 ? tiny : normal;
  h = magnitude >= 0x47800000 ? nan_or_inf : h;
  store_u16(p, h | ((u >> 16) & 0x8000));
#endif
}

// Whether a load or a store of this type costs little more than one of the type it is computed in.
template <class T>
inline constexpr bool converts_quickly = true;
#if !defined(__AVX512F__) && !defined(__F16C__) && !defined(__aarch64__)
template <>
inline constexpr bool converts_quickly<Half> = false;
#endif

// Tiles that load an element so often had better have it converted before. One core of a Zen 1 took
// converting in tiles and before, in us, for 7x7 on 56x56x96 (12 loads) 1145 and 996 in float16,
// 1250 and 1049 in bfloat16, for 5x5 on 5 of 56x56x144 (7.5) 4942 and 4920, 5553 and 5201, for 3x3
// on 6 of 112x112x32 (3.8) 2664 and 2984, 3193 and 3319.
template <class T>
inline constexpr double most_conversions = converts_quickly<T> ? __builtin_inf() : 0;
#if defined(__AVX2__) && !defined(__AVX512F__)
template <>
inline constexpr double most_conversions<Half> = 7;
template <>
inline constexpr double most_conversions<BFloat16> = 7;
#endif

#if defined(__AVX512F__)
template <>
inline constexpr bool can_stream<Half> = true;
template <>
inline constexpr bool can_stream<BFloat16> = true;

// A line of such a type: the values at `first`, then the vector.
template <class T>
DW_INLINE void stream(T* p, const T* first, Vec<float> second) {
  T values[lanes<float>];
  store(values, second);
  const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(first));
  const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values));
  const __m512i both = _mm512_maskz_broadcast_i64x4(0xff, low);
  _mm512_stream_si512(reinterpret_cast<__m512i*>(p), _mm512_mask_broadcast_i64x4(both, 0xf0, high));
}

template <class T>
DW_INLINE Vec<float> load_part_u16(const T* p, int64_t count) {
  T values[lanes<float>];
  const __m256i bits = _mm256_maskz_loadu_epi16(first_lanes(count), p);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(values), bits);
  return load(values);
}
DW_INLINE Vec<float> load_part(const Half* p, int64_t count) { return load_part_u16(p, count); }
DW_INLINE Vec<float> load_part(const BFloat16* p, int64_t count) { return load_part_u16(p, count); }
template <class T>
DW_INLINE void store_part_u16(T* p, Vec<float> v, int64_t count) {
  T values[lanes<float>];
  store(values, v);
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values));
  _mm256_mask_storeu_epi16(p, first_lanes(count), bits);
}
DW_INLINE void store_part(Half* p, Vec<float> v, int64_t count) { store_part_u16(p, v, count); }
DW_INLINE void store_part(BFloat16* p, Vec<float> v, int64_t count) { store_part_u16(p, v, count); }
#endif

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_HALVES_H_
