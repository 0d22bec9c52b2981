// Times one kernel by the CPU time of its thread, which other programs on the machine disturb
// little: how the constants in csrc/kernels/tuning.h were chosen.
//
//   make cpp
//   g++ -std=c++20 -O2 -Icsrc tools/time_kernel.cc build/cpp/libdepthwise_core.a -lpthread -o
//   build/time_kernel build/time_kernel 1 56 128 3 1 channels_last forward [ISA [NAME]]
//
// The arguments are batch, height and width, channels, kernel size, stride, layout, and forward,
// input_gradient, kernel_gradient or backward (both gradients). Padding "same", bias and ReLU,
// float32. Arrays begin on cache lines, as the frameworks' do (NumPy's need not). A forward pass
// goes by the kernel that the op would choose, or by that of this name, as depthwise.info() lists
// them: so karatsuba_forward_float32 and channels_forward_float32 are compared on one layer.
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/table.h"
#include "op.h"
#include "runtime/pool.h"

namespace {

double thread_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

depthwise_image_strides strides(int64_t size, int64_t channels, bool channels_first) {
  if (channels_first) return {channels * size * size, size, 1, size * size};
  return {size * size * channels, size * channels, channels, 1};
}

// Floats from the beginning of a cache line on.
class Array {
 public:
  Array(int64_t count, float value) : lines_(static_cast<size_t>((count + 15) / 16)) {
    for (Line& line : lines_) std::fill_n(line.values, 16, value);
  }
  float* data() { return lines_.front().values; }

 private:
  struct alignas(64) Line {
    float values[16];
  };
  std::vector<Line> lines_;
};

depthwise::KernelSet kernels_in_use() {
  const std::string isa = depthwise_isa();
#if defined(__x86_64__)
  if (isa == "avx512") return depthwise::avx512::float32_kernels();
  if (isa == "avx2") return depthwise::avx2::float32_kernels();
#elif defined(__aarch64__)
  if (isa == "neon") return depthwise::neon::float32_kernels();
#endif
  return depthwise::baseline::float32_kernels();
}

// That of this name; null for none.
const depthwise::Kernel* find_kernel(const char* name) {
  const depthwise::KernelSet set = kernels_in_use();
  for (int i = 0; i < set.count; ++i) {
    if (std::strcmp(set.kernels[i].name, name) == 0) return &set.kernels[i];
  }
  return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 8 || (argc > 8 && !depthwise_set_isa(argv[8]))) {
    std::puts("usage: time_kernel BATCH SIZE CHANNELS KERNEL STRIDE LAYOUT DIRECTION [ISA [NAME]]");
    return 2;
  }
  const depthwise::Kernel* const named = argc > 9 ? find_kernel(argv[9]) : nullptr;
  if (argc > 9 && (named == nullptr || named->direction != depthwise::Direction::forward)) {
    std::printf("no forward kernel of float32 has the name %s\n", argv[9]);
    return 2;
  }
  int64_t given[5];
  for (int i = 0; i < 5; ++i) given[i] = std::atoll(argv[i + 1]);
  const auto [batch, size, channels, kernel, stride] = given;
  const bool channels_first = std::string(argv[6]) == "channels_first";
  const std::string direction = argv[7];
  depthwise::set_num_threads(1);

  depthwise_params p{};
  const int64_t out = (size + stride - 1) / stride;
  p.batch = batch;
  p.channels = channels;
  p.multiplier = p.dilation_height = p.dilation_width = 1;
  p.in_height = p.in_width = size;
  p.out_height = p.out_width = out;
  p.kernel_height = p.kernel_width = kernel;
  p.stride_height = p.stride_width = stride;
  p.pad_top = p.pad_left = std::max<int64_t>(0, (out - 1) * stride + kernel - size) / 2;
  p.layout = channels_first ? DEPTHWISE_CHANNELS_FIRST : DEPTHWISE_CHANNELS_LAST;
  p.activation = DEPTHWISE_RELU;
  p.x = p.dx = strides(size, channels, channels_first);
  p.y = p.dy = p.saved = strides(out, channels, channels_first);
  p.kernel = p.dkernel = {kernel * channels, channels, 1, 1};

  const int64_t inputs = batch * size * size * channels, outputs = batch * out * out * channels;
  const int64_t weights = kernel * kernel * channels;
  Array x(inputs, 1), dx(inputs, 0), y(outputs, 1), dy(outputs, 1);
  Array w(weights, 0.1f), dw(weights, 0), bias(channels, 0), dbias(channels, 0);
  const bool wants_x = direction != "kernel_gradient", wants_w = direction != "input_gradient";

  std::vector<double> times;
  for (const double end = thread_seconds() + 0.5; thread_seconds() < end || times.size() < 3;) {
    const double before = thread_seconds();
    if (named != nullptr) {
      depthwise::Call call{};
      call.params = &p;
      call.x = x.data();
      call.kernel = w.data();
      call.bias = bias.data();
      call.y = y.data();
      call.threads = call.tasks = 1;
      named->run(call);
    } else if (direction == "forward") {
      depthwise_forward(&p, x.data(), w.data(), bias.data(), y.data(), nullptr);
    } else {
      depthwise_backward(&p, x.data(), w.data(), dy.data(), y.data(), wants_x ? dx.data() : nullptr,
                         wants_w ? dw.data() : nullptr, wants_w ? dbias.data() : nullptr);
    }
    times.push_back(thread_seconds() - before);
  }
  std::sort(times.begin(), times.end());
  std::printf("%s: best %.1f us, median %.1f us\n", depthwise_isa(), times.front() * 1e6,
              times[times.size() / 2] * 1e6);
}
