// The C ABI of the op. Every binding calls these and nothing below them.
//
// All buffers have the dtype of `params->dtype`; bias and its gradient are contiguous vectors of
// channels * multiplier elements. Calls are thread-safe, run on one thread pool or on the caller's
// team, and give the same bits for every number of threads.
#ifndef DEPTHWISE_OP_H_
#define DEPTHWISE_OP_H_

#include "params.h"
#include "runtime/team.h"

#if defined(__GNUC__)
#define DEPTHWISE_EXPORT __attribute__((visibility("default")))
#else
#define DEPTHWISE_EXPORT
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum depthwise_status {
  DEPTHWISE_OK = 0,
  DEPTHWISE_OUT_OF_MEMORY = 1,   // scratch could not be had; outputs are unspecified
  DEPTHWISE_INVALID_PARAMS = 2,  // a size, code or pointer is impossible; nothing was written
} depthwise_status;

// y = activation(depthwise_conv2d(x, kernel) + bias).
//
// `bias` may be null. `preactivation` may be null; otherwise the value before the activation is
// written there too, with the strides `params->saved`.
DEPTHWISE_EXPORT depthwise_status depthwise_forward(const depthwise_params* params, const void* x,
                                                    const void* kernel, const void* bias, void* y,
                                                    void* preactivation);

// Gradients of a loss for which `dy` is the gradient of y. Each of `dx`, `dkernel` and `dbias` may
// be null and is then not computed.
//
// `saved` (strides `params->saved`) is what the activation's derivative is taken from: the output
// y, or the pre-activation for those activations that depthwise_needs_preactivation() names. It may
// be null for a linear activation. `x` may be null if dkernel is, `kernel` if dx is.
DEPTHWISE_EXPORT depthwise_status depthwise_backward(const depthwise_params* params, const void* x,
                                                     const void* kernel, const void* dy,
                                                     const void* saved, void* dx, void* dkernel,
                                                     void* dbias);

// 1 if the derivative is taken from the pre-activation (the activation is not monotone, or its
// output does not determine its derivative), 0 if from the output, -1 for an unknown code.
DEPTHWISE_EXPORT int depthwise_needs_preactivation(int32_t activation);

// Instruction sets: "baseline", "avx2", "avx512" or "neon".
DEPTHWISE_EXPORT const char* depthwise_isa(void);          // in use
DEPTHWISE_EXPORT int depthwise_set_isa(const char* name);  // 0 if unknown or not supported here
DEPTHWISE_EXPORT int depthwise_isa_compiled(const char* name);
DEPTHWISE_EXPORT int depthwise_isa_supported(const char* name);  // compiled, and the CPU has it

DEPTHWISE_EXPORT const char* depthwise_isa_name(int index);  // of all there are, null past the end

// Features of this CPU that kernels could use, separated by spaces, for a human to read. The text
// stays as long as the program runs.
DEPTHWISE_EXPORT const char* depthwise_cpu_features(void);

// Most threads a call uses, its caller's included: see runtime/pool.h.
DEPTHWISE_EXPORT int depthwise_num_threads(void);
DEPTHWISE_EXPORT void depthwise_set_num_threads(int count);

// Has the calls of this thread run on a team, which must stay as it is meanwhile, or, if it is
// null, on the library's own threads. Returns what was set before.
DEPTHWISE_EXPORT const depthwise_team* depthwise_use_team(const depthwise_team* team);

// Name of the index-th kernel of the instruction set in use, null past the end. The first one that
// takes a call's direction, dtype and shape runs it.
DEPTHWISE_EXPORT const char* depthwise_kernel_name(int index);

// Name of the kernel that takes calls of these sizes and options, wherever their arrays lie: of the
// forward pass, or with `backward` of the gradients (the input's, where it has a kernel of its
// own). Null for params that the call itself would refuse.
DEPTHWISE_EXPORT const char* depthwise_chosen_kernel(const depthwise_params* params, int backward);

#ifdef __cplusplus
}
#endif

#endif  // DEPTHWISE_OP_H_
