// The kernels of float16 and bfloat16 for one instruction set: compiled once for each, beside
// table_floats.cc (see CMakeLists.txt).
#include "choice.h"

namespace depthwise::DW_ISA {

// Half of what there would be to compile here is there, too.
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
