// The kernels of float16 for one instruction set: compiled once for each (see CMakeLists.txt).
#include "choice.h"

namespace depthwise::DW_ISA {

// What half types are computed with is compiled in table_float32.cc.
extern template const DenseTiles<float>* find_dense_tiles<float>(int, int64_t, Loading);
extern template struct TapSumsChoices<float>;

namespace {

constexpr Kernel table[] = {DW_KERNELS(Half, "float16")};

}  // namespace

KernelSet float16_kernels() { return set_of(table); }

}  // namespace depthwise::DW_ISA
