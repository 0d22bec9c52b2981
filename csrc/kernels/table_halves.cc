// The kernels of float16 and bfloat16 for one instruction set: compiled once for each, beside
// table_floats.cc (see CMakeLists.txt).
#include "choice.h"

namespace depthwise::DW_ISA {

// What half types are computed with is compiled there. With it, this file took 543 s for AVX-512 on
// one core of a Zen 1, and 351 without.
extern template const DenseTiles<float>* find_dense_tiles<float>(int, int64_t, Loading);
extern template struct TapSumsChoices<float>;

namespace {

constexpr Kernel table[] = {
    DW_KERNELS(Half, "float16", DEPTHWISE_FLOAT16),
    DW_KERNELS(BFloat16, "bfloat16", DEPTHWISE_BFLOAT16),
};

}  // namespace

KernelSet half_kernels() { return set_of(table); }

}  // namespace depthwise::DW_ISA
