// The kernels of float32 for one instruction set: compiled once for each (see CMakeLists.txt).
#include "choice.h"

namespace depthwise::DW_ISA {

// Half types are computed with these, too, but do not compile them again.
template const DenseTiles<float>* find_dense_tiles<float>(int, int64_t, Loading);
template struct TapSumsChoices<float>;

namespace {

constexpr Kernel table[] = {
    {"channels_forward_float32_few", Direction::forward, takes_few<float>,
     DW_CHANNELS(channels_forward<float>, float)},
    DW_KERNELS(float, "float32"),
};

}  // namespace

KernelSet float32_kernels() { return set_of(table); }

}  // namespace depthwise::DW_ISA
