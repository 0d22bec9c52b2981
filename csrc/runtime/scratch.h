// Working memory for a kernel, reused from call to call.
#ifndef DEPTHWISE_RUNTIME_SCRATCH_H_
#define DEPTHWISE_RUNTIME_SCRATCH_H_

#include <cstddef>

namespace depthwise {

// Returns at least `bytes` bytes, aligned to 64, or null if memory is out. They are the calling
// thread's own, and stay valid until it asks again or ends: a thread has one buffer, so ask once
// for everything a task needs. The contents are undefined, whatever was written there before.
//
// The buffer only grows, except that one above 8 MiB is given back once less than a quarter of it
// is asked for.
void* thread_scratch(size_t bytes) noexcept;

// Bytes of the calling thread's buffer: as many as it has asked for at most, rounded up to pages.
size_t thread_scratch_held() noexcept;

}  // namespace depthwise

#endif  // DEPTHWISE_RUNTIME_SCRATCH_H_
