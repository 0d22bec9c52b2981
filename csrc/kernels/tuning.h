// Every constant that was chosen by measurement or by a cache's size, in one place. Figures are of
// a 2-core AMD EPYC (Zen 4; 32 KiB L1, 1 MiB L2 per core), `python -m benchmarks.run`.
#ifndef DEPTHWISE_KERNELS_TUNING_H_
#define DEPTHWISE_KERNELS_TUNING_H_

#include <stdint.h>

namespace depthwise::tuning {

// Below this many multiply-adds a call stays on the caller's thread: waking a second one costs
// about as much as the work.
constexpr int64_t serial_macs = 40'000;

// Tasks per thread that a call is cut into, so that a late thread does not hold up the others.
constexpr int64_t tasks_per_thread = 4;

// Bytes of source rows that one block of channels may keep hot while a row of results is made
// (three quarters of a 32 KiB L1 cache).
constexpr int64_t hot_rows_bytes = 24 * 1024;

// Bytes of staged data per thread: a quarter of the smallest L2 cache in use today (1 MiB; 512 KiB
// on older cores, where it is half).
constexpr int64_t staged_bytes = 256 * 1024;

// Kernel gradients are summed in this many parts at most, whatever the number of threads: the
// partition fixes the bits.
constexpr int64_t gradient_parts = 32;
constexpr int64_t gradient_parts_bytes = 16 * 1024 * 1024;  // memory for their partial sums

}  // namespace depthwise::tuning

#endif  // DEPTHWISE_KERNELS_TUNING_H_
