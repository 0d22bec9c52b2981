// Elements of the four dtypes as bits and as doubles, and random numbers. Written apart from the
// kernels' own conversions, one element at a time.
#ifndef DEPTHWISE_TESTS_CPP_NUMBERS_H_
#define DEPTHWISE_TESTS_CPP_NUMBERS_H_

#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <vector>

#include "params.h"

namespace depthwise::test {

constexpr int dtypes[] = {DEPTHWISE_FLOAT32, DEPTHWISE_FLOAT64, DEPTHWISE_FLOAT16,
                          DEPTHWISE_BFLOAT16};

inline const char* dtype_name(int dtype) {
  constexpr const char* names[] = {"float32", "float64", "float16", "bfloat16"};
  return names[dtype];
}
inline bool is_half_type(int dtype) { return dtype >= DEPTHWISE_FLOAT16; }
inline size_t element_bytes(int dtype) {
  return dtype == DEPTHWISE_FLOAT64 ? 8 : dtype == DEPTHWISE_FLOAT32 ? 4 : 2;
}

// Half the distance from 1 to the next number, of the type that sums are made in.
inline double compute_roundoff(int dtype) { return dtype == DEPTHWISE_FLOAT64 ? 0x1p-53 : 0x1p-24; }
// What rounding a sum near `value` to a half type may change.
inline double storage_rounding(int dtype, double value) {
  if (dtype == DEPTHWISE_FLOAT16) return std::fabs(value) * 0x1p-11 + 0x1p-25;
  if (dtype == DEPTHWISE_BFLOAT16) return std::fabs(value) * 0x1p-8 + 0x1p-134;
  return 0;
}

inline double decode(int dtype, uint64_t bits) {
  if (dtype == DEPTHWISE_FLOAT64) {
    double value;
    std::memcpy(&value, &bits, 8);
    return value;
  }
  if (dtype == DEPTHWISE_FLOAT16) {
    const int exponent = static_cast<int>(bits >> 10 & 31);
    const int fraction = static_cast<int>(bits & 1023);
    const double sign = bits & 0x8000 ? -1 : 1;
    if (exponent == 31) return fraction != 0 ? std::nan("") : sign * HUGE_VAL;
    if (exponent == 0) return sign * std::ldexp(fraction, -24);
    return sign * std::ldexp(1024 + fraction, exponent - 25);
  }
  const uint32_t word = static_cast<uint32_t>(dtype == DEPTHWISE_BFLOAT16 ? bits << 16 : bits);
  float value;
  std::memcpy(&value, &word, 4);
  return value;
}

// Rounds to nearest, ties to even.
inline uint64_t encode(int dtype, double value) {
  uint64_t bits = 0;
  if (dtype == DEPTHWISE_FLOAT64) {
    std::memcpy(&bits, &value, 8);
    return bits;
  }
  if (dtype == DEPTHWISE_FLOAT16) {
    const uint64_t sign = std::signbit(value) ? 0x8000 : 0;
    const double magnitude = std::fabs(value);
    if (std::isnan(value)) return 0x7e00;
    if (magnitude < 0x1p-14)
      return sign | static_cast<uint64_t>(std::nearbyint(magnitude * 0x1p24));
    if (magnitude >= 65520) return sign | 0x7c00;
    const int exponent = std::ilogb(magnitude);
    // A fraction that rounds up to 1024 carries into the exponent, as it should.
    const double fraction = std::nearbyint(std::ldexp(magnitude, 10 - exponent)) - 1024;
    return sign | (static_cast<uint64_t>(exponent + 15) * 1024 + static_cast<uint64_t>(fraction));
  }
  const float narrow = static_cast<float>(value);
  uint32_t word;
  std::memcpy(&word, &narrow, 4);
  if (dtype == DEPTHWISE_FLOAT32) return word;
  // The values that come here are floats: nothing is rounded twice.
  if (std::isnan(value)) return 0x7fc0;
  const uint32_t below = word & 0xffff, kept = word >> 16;
  return kept + (below > 0x8000 || (below == 0x8000 && (kept & 1)) ? 1 : 0);
}

// SplitMix64: the same numbers from the same seed everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t bits() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  // From low to high, both included.
  int64_t between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(bits() % static_cast<uint64_t>(high - low + 1));
  }
  bool chance(int one_in) { return between(1, one_in) == 1; }
  int64_t pick(std::initializer_list<int64_t> choices) {
    return choices.begin()[between(0, static_cast<int64_t>(choices.size()) - 1)];
  }
  double real(double low, double high) {
    return low + (high - low) * static_cast<double>(bits() >> 11) * 0x1p-53;
  }

 private:
  uint64_t state_;
};

// Numbers that a dtype holds exactly.
struct Values {
  int dtype = DEPTHWISE_FLOAT32;
  std::vector<uint64_t> bits;
  std::vector<double> reals;

  Values() = default;
  Values(int type, std::vector<double> wanted) : dtype(type), reals(std::move(wanted)) {
    bits.reserve(reals.size());
    for (double& value : reals) {
      bits.push_back(encode(type, value));
      value = decode(type, bits.back());
    }
  }
};

}  // namespace depthwise::test

#endif  // DEPTHWISE_TESTS_CPP_NUMBERS_H_
