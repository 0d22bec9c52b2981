// The kernels of one instruction set. This file, and with it every kernel, is compiled once for
// each (see CMakeLists.txt).
#include "table.h"

#include "columns_kernel_gradient.h"

namespace depthwise::DW_ISA {
namespace {

// With few channels side by side most of a vector would be empty; each plane is then worked on by
// itself, its elements gathered from between the others.
template <class T>
bool takes_channels(const depthwise_params& p) {
  return p.layout == DEPTHWISE_CHANNELS_LAST &&
         2 * p.channels * p.multiplier >= lanes<Compute<T>>;
}
bool takes_all(const depthwise_params&) { return true; }

// clang-format off
#define DW_KERNELS(T, dtype, code)                                                                                \
  {"channels_forward_" dtype, Direction::forward, code, takes_channels<T>, channels_forward<T>},                  \
  {"channels_input_gradient_" dtype, Direction::input_gradient, code, takes_channels<T>, channels_input_gradient<T>}, \
  {"channels_kernel_gradient_" dtype, Direction::kernel_gradient, code, takes_channels<T>, channels_kernel_gradient<T>}, \
  {"columns_forward_" dtype, Direction::forward, code, takes_all, columns_forward<T>},                            \
  {"columns_input_gradient_" dtype, Direction::input_gradient, code, takes_all, columns_input_gradient<T>},       \
  {"columns_kernel_gradient_" dtype, Direction::kernel_gradient, code, takes_all, columns_kernel_gradient<T>}
// clang-format on

constexpr Kernel table[] = {
    DW_KERNELS(float, "float32", DEPTHWISE_FLOAT32),
    DW_KERNELS(double, "float64", DEPTHWISE_FLOAT64),
    DW_KERNELS(Half, "float16", DEPTHWISE_FLOAT16),
    DW_KERNELS(BFloat16, "bfloat16", DEPTHWISE_BFLOAT16),
};

}  // namespace

KernelSet kernel_set() { return {table, static_cast<int>(sizeof(table) / sizeof(table[0]))}; }

}  // namespace depthwise::DW_ISA
