// Which calls outgrow the caches: what they read is asked for ahead and in long runs, what they
// write goes past the caches.
#ifndef DEPTHWISE_KERNELS_OUTGROWING_H_
#define DEPTHWISE_KERNELS_OUTGROWING_H_

#include "../runtime/caches.h"
#include "geometry.h"
#include "tuning.h"
#include "vec.h"

namespace depthwise::DW_ISA {

// Bytes that caches hold: as many as were measured with a last-level cache of 32 MiB, or where this
// machine's is smaller, its share.
inline int64_t within_cache(int64_t bytes, int64_t sixteenths) {
  return min_of(bytes, last_level_bytes() / 16 * sixteenths);
}

// Bytes of a call's input and its results together.
template <class T>
int64_t image_bytes(const depthwise_params& p) {
  const int64_t inputs = p.batch * p.in_height * p.in_width * p.channels;
  const int64_t results = p.batch * p.out_height * p.out_width * p.channels * p.multiplier;
  return (inputs + results) * static_cast<int64_t>(sizeof(T));
}

// Whether rows of the convolution's input are read in long runs.
template <class T>
bool fetching_pays(int64_t elements) {
  return elements * static_cast<int64_t>(sizeof(T)) >=
         within_cache(tuning::streamed_bytes, tuning::streamed_sixteenths);
}

// Whether a kernel has a tap for each position that a stride passes over.
inline bool covers_strides(const depthwise_params& p) {
  return p.kernel_height >= p.stride_height && p.kernel_width >= p.stride_width;
}

// Whether all rows and columns of the input are read: what is not would be asked for in vain. Two
// cores of a Zen 1 took, asking for whole rows and not, in us, for 2x2 at stride 3 and dilation 2
// on 92x92x676 1473 and 1075, for 3x3 at stride 2 and dilation 2 on 16 of 56x56x144 2928 and 2435.
inline bool reads_all(const depthwise_params& p) {
  return covers_strides(p) && greatest_common_divisor(p.stride_height, p.dilation_height) == 1 &&
         greatest_common_divisor(p.stride_width, p.dilation_width) == 1;
}

// Whether a call reads its input from memory.
template <class T>
bool reads_memory(const depthwise_params& p) {
  return image_bytes<T>(p) >= within_cache(tuning::memory_bytes, tuning::memory_sixteenths);
}

// Whether results go past the caches: what is larger than a good part of the last one would be
// evicted before anybody reads it, and until then stores have to read what they overwrite. And
// where input and results together do not fit, results would evict the input.
template <class T>
bool streaming_pays(const depthwise_params& p) {
  const int64_t results = p.batch * p.out_height * p.out_width * p.channels * p.multiplier;
  return can_stream<T> && (fetching_pays<T>(results) || reads_memory<T>(p));
}

// Whether gradients read from memory and write there: asked for ahead, and past the caches. They go
// over an image, its results and the gradients of both. Planes are transposed as they are staged.
template <class T>
bool gradients_reach_memory(const depthwise_params& p) {
  if (p.layout == DEPTHWISE_CHANNELS_FIRST) {
    return fetching_pays<T>(p.batch * p.in_height * p.in_width * p.channels);
  }
  return image_bytes<T>(p) >=
         within_cache(tuning::gradient_memory_bytes, tuning::streamed_sixteenths);
}

// Whether they do so in long runs. Which gradients a call wants, and the machine's caches, make no
// difference, for the runs' length goes into the bits. Planes take long runs only where the input
// alone is large: two cores of a Zen 5 took for a training step of 5x5 on 16 of 14x14x480 2.4 ms in
// short runs and 3.0 in long ones.
template <class T>
bool gradients_fetch(const depthwise_params& p) {
  if (p.layout == DEPTHWISE_CHANNELS_FIRST) {
    const int64_t elements = p.batch * p.in_height * p.in_width * p.channels;
    return elements * static_cast<int64_t>(sizeof(T)) >= tuning::streamed_bytes;
  }
  return image_bytes<T>(p) >= tuning::gradient_memory_bytes;
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_OUTGROWING_H_
