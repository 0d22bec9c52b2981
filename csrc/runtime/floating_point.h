// The floating-point mode of a call. XLA and TensorFlow run their operations in threads that flush
// subnormal numbers to zero, and PyTorch can be told to; the same arrays would then not give the
// same bits from everywhere.
#ifndef DEPTHWISE_RUNTIME_FLOATING_POINT_H_
#define DEPTHWISE_RUNTIME_FLOATING_POINT_H_

#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace depthwise {

// As long as one lives, its thread computes with subnormal numbers and rounds to the nearest, and
// so do the threads that it starts.
class StandardFloatingPoint {
 public:
  StandardFloatingPoint() : before_(get()) {
    if ((before_ & kSpecialModes) != 0) set(before_ & ~kSpecialModes);
  }
  StandardFloatingPoint(const StandardFloatingPoint&) = delete;
  StandardFloatingPoint& operator=(const StandardFloatingPoint&) = delete;
  ~StandardFloatingPoint() {
    if ((before_ & kSpecialModes) != 0) set(before_);
  }

 private:
#if defined(__x86_64__)
  using Register = uint32_t;
  // Of MXCSR: flush results to zero, rounding mode (2 bits), take operands for zero.
  static constexpr Register kSpecialModes = 0x8000 | 0x6000 | 0x0040;
  static Register get() { return _mm_getcsr(); }
  static void set(Register value) { _mm_setcsr(value); }
#elif defined(__aarch64__)
  using Register = uint64_t;
  // Of FPCR: flush to zero, rounding mode (2 bits), flush half precision to zero.
  static constexpr Register kSpecialModes = (1u << 24) | (3u << 22) | (1u << 19);
  static Register get() {
    Register value;
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(value));
    return value;
  }
  static void set(Register value) { __asm__ __volatile__("msr fpcr, %0" : : "r"(value)); }
#else
  using Register = uint32_t;
  static constexpr Register kSpecialModes = 0;
  static Register get() { return 0; }
  static void set(Register) {}
#endif

  const Register before_;
};

}  // namespace depthwise

#endif  // DEPTHWISE_RUNTIME_FLOATING_POINT_H_
