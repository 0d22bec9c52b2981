// The table of kernels: what op.cc chooses from, what info() lists and what the tests run.
//
// A kernel's name is <family>_<direction>_<dtype>, with a word added where a family takes calls by
// a rule of their own (choice.h): _in_place and _adjacent, and _any for what no other takes:
//   family     channels (vectors along channels), columns (vectors along the columns of a plane),
//              pixels (vectors along rows of few channels side by side, forward only), scale
//              (kernels of one tap, forward only) or karatsuba (large kernels with fewer
//              multiplications)
//   direction  forward, input_gradient, kernel_gradient (which gives the bias's gradient too) or
//              gradients: all three in one pass, for those shapes for which that is faster
#ifndef DEPTHWISE_KERNELS_TABLE_H_
#define DEPTHWISE_KERNELS_TABLE_H_

#include "../params.h"

namespace depthwise {

enum class Direction { forward, input_gradient, kernel_gradient, gradients };

// One call of the op, as a kernel sees it. Pointers that a direction does not use are null.
struct Call {
  const depthwise_params* params;
  const void* x;
  const void* kernel;
  const void* bias;
  void* y;
  void* preactivation;
  const void* dy;
  const void* saved;
  void* dx;
  void* dkernel;
  void* dbias;
  int threads;  // at most so many
  int tasks;    // about so many to cut it into; 1 for one thread
};

struct Kernel {
  const char* name;
  Direction direction;
  bool (*accepts)(const depthwise_params& params);
  bool (*run)(const Call& call);  // false: out of memory
};

// Kernels of one instruction set, in order of preference.
struct KernelSet {
  const Kernel* kernels;
  int count;
};

// Those of each dtype are in a file of their own (table_*.cc), to be compiled side by side.
#define DW_DECLARE_KERNELS(isa) \
  namespace isa {               \
  KernelSet float32_kernels();  \
  KernelSet float64_kernels();  \
  KernelSet float16_kernels();  \
  KernelSet bfloat16_kernels(); \
  }
DW_DECLARE_KERNELS(baseline)
DW_DECLARE_KERNELS(avx2)
DW_DECLARE_KERNELS(avx512)
DW_DECLARE_KERNELS(neon)
#undef DW_DECLARE_KERNELS

}  // namespace depthwise

#endif  // DEPTHWISE_KERNELS_TABLE_H_
