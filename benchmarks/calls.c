/* Counts a process's native calls of the op, and the time they take. Compiled and preloaded by
 * calls.py:
 *
 *     cc -O2 -shared -fPIC -pthread -I ../csrc calls.c -o calls.so -ldl && LD_PRELOAD=./calls.so
 * ...
 *
 * A preloaded library comes first wherever a symbol is looked up: the bindings find these functions
 * in place of those of libdepthwise, which are then called from here with the same arguments. */

#define _POSIX_C_SOURCE 200809L
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "op.h"

typedef struct {
  uint64_t forward_calls, forward_ns, backward_calls, backward_ns;
} Counts;

typedef struct {
  atomic_uint_fast64_t calls, ns;
} Counter;

static Counter forward, backward;
static __typeof__(&depthwise_forward) real_forward;
static __typeof__(&depthwise_backward) real_backward;
static pthread_once_t found = PTHREAD_ONCE_INIT;

/* RTLD_NEXT would not find them: the bindings are loaded for themselves alone (RTLD_LOCAL), and so
 * is what they need. By this name dlopen gives the library that is already there, and no other. */
static void find(void) {
  void* library = dlopen("libdepthwise.so", RTLD_NOW | RTLD_NOLOAD);
  if (library != NULL) {
    *(void**)&real_forward = dlsym(library, "depthwise_forward");
    *(void**)&real_backward = dlsym(library, "depthwise_backward");
  }
  if (real_forward == NULL || real_backward == NULL) {
    fprintf(stderr, "calls: found no libdepthwise.so to call\n");
    abort();
  }
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void count(Counter* counter, uint64_t begin) {
  atomic_fetch_add(&counter->ns, now() - begin);
  atomic_fetch_add(&counter->calls, 1);
}

DEPTHWISE_EXPORT depthwise_status depthwise_forward(const depthwise_params* params, const void* x,
                                                    const void* kernel, const void* bias, void* y,
                                                    void* preactivation) {
  pthread_once(&found, find);
  uint64_t begin = now();
  depthwise_status status = real_forward(params, x, kernel, bias, y, preactivation);
  count(&forward, begin);
  return status;
}

DEPTHWISE_EXPORT depthwise_status depthwise_backward(const depthwise_params* params, const void* x,
                                                     const void* kernel, const void* dy,
                                                     const void* saved, void* dx, void* dkernel,
                                                     void* dbias) {
  pthread_once(&found, find);
  uint64_t begin = now();
  depthwise_status status = real_backward(params, x, kernel, dy, saved, dx, dkernel, dbias);
  count(&backward, begin);
  return status;
}

/* What was counted since the last time, which is then forgotten. */
DEPTHWISE_EXPORT void depthwise_calls_take(Counts* counts) {
  counts->forward_calls = atomic_exchange(&forward.calls, 0);
  counts->forward_ns = atomic_exchange(&forward.ns, 0);
  counts->backward_calls = atomic_exchange(&backward.calls, 0);
  counts->backward_ns = atomic_exchange(&backward.ns, 0);
}
