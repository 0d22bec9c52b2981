// The kernels of float32 and float64 for one instruction set: compiled once for each, beside
// table_halves.cc (see CMakeLists.txt).
#include "choice.h"

namespace depthwise::DW_ISA {

template const DenseTiles<float>* find_dense_tiles<float>(int, int64_t, Loading);
template struct TapSumsChoices<float>;

namespace {

constexpr Kernel table[] = {
    {"channels_forward_float32_few", Direction::forward, DEPTHWISE_FLOAT32, takes_few<float>,
     DW_CHANNELS(channels_forward<float>, float)},
    DW_KERNELS(float, "float32", DEPTHWISE_FLOAT32),
    DW_KERNELS(double, "float64", DEPTHWISE_FLOAT64),
};

}  // namespace

KernelSet float_kernels() { return set_of(table); }

}  // namespace depthwise::DW_ISA
