// The kernels of float64 for one instruction set: compiled once for each (see CMakeLists.txt).
#include "choice.h"

namespace depthwise::DW_ISA {
namespace {

constexpr Kernel table[] = {DW_KERNELS(double, "float64")};

}  // namespace

KernelSet float64_kernels() { return set_of(table); }

}  // namespace depthwise::DW_ISA
