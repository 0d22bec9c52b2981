// The C ABI: checks the struct, picks a kernel of the instruction set in use, runs it.
#include "op.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <string>

#include "kernels/table.h"
#include "kernels/tuning.h"
#include "runtime/cpu.h"
#include "runtime/floating_point.h"
#include "runtime/pool.h"

namespace depthwise {
namespace {

// The kernels of an instruction set: a function for each dtype, in the order of their codes.
constexpr int dtypes = 4;
using Kernels = KernelSet (*)();
#define DW_KERNELS_OF(isa)                                                                     \
  case Isa::isa: {                                                                             \
    static constexpr Kernels of_dtype[dtypes] = {isa::float32_kernels, isa::float64_kernels,   \
                                                 isa::float16_kernels, isa::bfloat16_kernels}; \
    return of_dtype;                                                                           \
  }

// Null where the set is not compiled in.
const Kernels* kernels_of(Isa isa) {
  switch (isa) {
#if defined(DW_HAVE_BASELINE)
    DW_KERNELS_OF(baseline)
#endif
#if defined(DW_HAVE_AVX2)
    DW_KERNELS_OF(avx2)
#endif
#if defined(DW_HAVE_AVX512)
    DW_KERNELS_OF(avx512)
#endif
#if defined(DW_HAVE_NEON)
    DW_KERNELS_OF(neon)
#endif
    default:
      return nullptr;
  }
}
#undef DW_KERNELS_OF

bool is_compiled(Isa isa) { return kernels_of(isa) != nullptr; }

bool usable(Isa isa) { return is_compiled(isa) && cpu_supports(isa); }

Isa initial_isa() {
  for (const Isa isa : {Isa::neon, Isa::avx512, Isa::avx2}) {
    if (usable(isa)) return isa;
  }
  return Isa::baseline;
}

std::atomic<Isa>& isa_in_use() {
  static std::atomic<Isa> isa{initial_isa()};
  return isa;
}

bool valid(const depthwise_params* p) {
  if (p == nullptr) return false;
  for (const int64_t size : {p->batch, p->channels, p->in_height, p->in_width, p->out_height,
                             p->out_width, p->pad_top, p->pad_left}) {
    if (size < 0) return false;
  }
  // The bound is spec.py's; it keeps every product of a size and a step within 64 bits.
  for (const int64_t size : {p->multiplier, p->kernel_height, p->kernel_width, p->stride_height,
                             p->stride_width, p->dilation_height, p->dilation_width}) {
    if (size < 1 || size > INT32_MAX) return false;
  }
  if (p->pad_top > INT32_MAX || p->pad_left > INT32_MAX) return false;
  return p->dtype >= DEPTHWISE_FLOAT32 && p->dtype <= DEPTHWISE_BFLOAT16 &&
         (p->layout == DEPTHWISE_CHANNELS_LAST || p->layout == DEPTHWISE_CHANNELS_FIRST) &&
         p->activation >= 0 && p->activation < DEPTHWISE_ACTIVATION_COUNT && p->alpha >= 0;
}

int64_t element_bytes(const depthwise_params& p) {
  switch (p.dtype) {
    case DEPTHWISE_FLOAT32:
      return 4;
    case DEPTHWISE_FLOAT64:
      return 8;
    default:
      return 2;
  }
}

// Zero is all bits zero in every dtype.
void zero_image(const depthwise_params& p, void* data, const depthwise_image_strides& s) {
  const int64_t bytes = element_bytes(p);
  for (int64_t n = 0; n < p.batch; ++n) {
    for (int64_t h = 0; h < p.in_height; ++h) {
      for (int64_t w = 0; w < p.in_width; ++w) {
        for (int64_t c = 0; c < p.channels; ++c) {
          const int64_t at = n * s.batch + h * s.row + w * s.column + c * s.channel;
          std::memset(static_cast<char*>(data) + at * bytes, 0, static_cast<size_t>(bytes));
        }
      }
    }
  }
}
void zero_kernel(const depthwise_params& p, void* data, const depthwise_kernel_strides& s) {
  const int64_t bytes = element_bytes(p);
  for (int64_t i = 0; i < p.kernel_height; ++i) {
    for (int64_t j = 0; j < p.kernel_width; ++j) {
      for (int64_t c = 0; c < p.channels; ++c) {
        for (int64_t m = 0; m < p.multiplier; ++m) {
          const int64_t at = i * s.row + j * s.column + c * s.channel + m * s.multiplier;
          std::memset(static_cast<char*>(data) + at * bytes, 0, static_cast<size_t>(bytes));
        }
      }
    }
  }
}

// How closely the calls that threads could share follow each other. Threads that race here lose a
// count, no more.
class Succession {
 public:
  // Whether this call is one of a few in a row: then waking threads for it pays later if not now.
  bool is_close() const { return close_calls_.load(relaxed) >= tuning::close_calls; }

  void begin() {
    const bool close = now() - end_.load(relaxed) < tuning::close_nanoseconds;
    close_calls_.store(close ? close_calls_.load(relaxed) + 1 : 0, relaxed);
  }
  void end() { end_.store(now(), relaxed); }

 private:
  static constexpr std::memory_order relaxed = std::memory_order_relaxed;
  static int64_t now() {
    const auto since = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::nanoseconds>(since).count();
  }

  std::atomic<int64_t> end_{0};  // of the last call
  std::atomic<int64_t> close_calls_{0};
};

constinit Succession succession;

// Whether there is nothing to compute.
bool has_no_results(const depthwise_params& p) {
  return p.batch == 0 || p.channels == 0 || p.out_height == 0 || p.out_width == 0;
}

// In floating point: the product may not fit an integer, and only its size matters.
double multiply_adds(const depthwise_params& p) {
  return static_cast<double>(p.batch) * static_cast<double>(p.out_height) *
         static_cast<double>(p.out_width) * static_cast<double>(p.channels) *
         static_cast<double>(p.multiplier) * static_cast<double>(p.kernel_height) *
         static_cast<double>(p.kernel_width);
}

// Elements that the image has more than the results.
double elements_beyond(const depthwise_params& p) {
  const double image = static_cast<double>(p.in_height) * static_cast<double>(p.in_width);
  const double results = static_cast<double>(p.out_height) * static_cast<double>(p.out_width) *
                         static_cast<double>(p.multiplier);
  const double beyond = image > results ? image - results : 0;
  return static_cast<double>(p.batch) * static_cast<double>(p.channels) * beyond;
}

// The first kernel that takes this direction and these parameters; null for none.
const Kernel* find_kernel(Direction direction, const depthwise_params& p) {
  const KernelSet set = kernels_of(isa_in_use().load(std::memory_order_relaxed))[p.dtype]();
  for (int i = 0; i < set.count; ++i) {
    const Kernel& kernel = set.kernels[i];
    if (kernel.direction == direction && kernel.accepts(p)) return &kernel;
  }
  return nullptr;
}

// No more than have about as much to do as a call that is shared at all.
int threads_for(double work) {
  const double most = work / static_cast<double>(tuning::serial_work);
  const int threads = num_threads();
  return most < threads ? std::max(2, static_cast<int>(most)) : threads;
}

depthwise_status run(const Kernel* kernel, Call call) {
  if (kernel == nullptr) return DEPTHWISE_INVALID_PARAMS;  // the columns family takes everything
  const depthwise_params& p = *call.params;
  const double work = multiply_adds(p) + elements_beyond(p);
  const bool may_share = work >= static_cast<double>(tuning::serial_work);
  const bool is_brief = work < static_cast<double>(tuning::brief_work);
  if (may_share) succession.begin();
  const bool shares = may_share && (!is_brief || threads_are_awake() || succession.is_close());
  call.threads = shares ? threads_for(work) : 1;
  const int64_t share = is_brief ? tuning::brief_tasks_per_thread : tuning::tasks_per_thread;
  call.tasks = call.threads > 1 ? static_cast<int>(share * call.threads) : 1;

  const StandardFloatingPoint mode;
  const bool done = kernel->run(call);
  if (may_share) succession.end();
  return done ? DEPTHWISE_OK : DEPTHWISE_OUT_OF_MEMORY;
}

}  // namespace
}  // namespace depthwise

using depthwise::Call;
using depthwise::Direction;

extern "C" depthwise_status depthwise_forward(const depthwise_params* params, const void* x,
                                              const void* kernel, const void* bias, void* y,
                                              void* preactivation) {
  if (!depthwise::valid(params)) return DEPTHWISE_INVALID_PARAMS;
  const depthwise_params& p = *params;
  if (depthwise::has_no_results(p)) return DEPTHWISE_OK;
  const bool empty_input = p.in_height == 0 || p.in_width == 0;
  if ((x == nullptr && !empty_input) || kernel == nullptr || y == nullptr) {
    return DEPTHWISE_INVALID_PARAMS;
  }
  Call call{};
  call.params = params;
  call.x = x;
  call.kernel = kernel;
  call.bias = bias;
  call.y = y;
  call.preactivation = preactivation;
  return depthwise::run(depthwise::find_kernel(Direction::forward, p), call);
}

extern "C" depthwise_status depthwise_backward(const depthwise_params* params, const void* x,
                                               const void* kernel, const void* dy,
                                               const void* saved, void* dx, void* dkernel,
                                               void* dbias) {
  if (!depthwise::valid(params)) return DEPTHWISE_INVALID_PARAMS;
  const depthwise_params& p = *params;
  if (p.channels == 0) return DEPTHWISE_OK;
  const bool empty_input = p.batch == 0 || p.in_height == 0 || p.in_width == 0;
  if (depthwise::has_no_results(p)) {  // nothing flows back
    if (dx != nullptr) depthwise::zero_image(p, dx, p.dx);
    if (dkernel != nullptr) depthwise::zero_kernel(p, dkernel, p.dkernel);
    if (dbias != nullptr) {
      std::memset(dbias, 0,
                  static_cast<size_t>(p.channels * p.multiplier * depthwise::element_bytes(p)));
    }
    return DEPTHWISE_OK;
  }
  if (dy == nullptr || (saved == nullptr && p.activation != DEPTHWISE_LINEAR) ||
      (dkernel != nullptr && x == nullptr && !empty_input) ||
      (dx != nullptr && kernel == nullptr)) {
    return DEPTHWISE_INVALID_PARAMS;
  }
  Call call{};
  call.params = params;
  call.x = x;
  call.kernel = kernel;
  call.dy = dy;
  call.saved = saved;
  call.dx = dx;
  call.dkernel = dkernel;
  call.dbias = dbias;
  if (dx != nullptr && dkernel != nullptr && !empty_input) {
    const depthwise::Kernel* const both = depthwise::find_kernel(Direction::gradients, p);
    if (both != nullptr) return depthwise::run(both, call);
  }
  if (dx != nullptr && !empty_input) {
    const depthwise_status status =
        depthwise::run(depthwise::find_kernel(Direction::input_gradient, p), call);
    if (status != DEPTHWISE_OK) return status;
  }
  if (dkernel == nullptr && dbias == nullptr) return DEPTHWISE_OK;
  return depthwise::run(depthwise::find_kernel(Direction::kernel_gradient, p), call);
}

extern "C" int depthwise_needs_preactivation(int32_t activation) {
  if (activation < 0 || activation >= DEPTHWISE_ACTIVATION_COUNT) return -1;
  return activation == DEPTHWISE_SILU || activation == DEPTHWISE_HARD_SWISH ||
         activation == DEPTHWISE_GELU || activation == DEPTHWISE_GELU_TANH;
}

extern "C" const char* depthwise_isa(void) {
  return depthwise::isa_name(depthwise::isa_in_use().load());
}

extern "C" int depthwise_isa_compiled(const char* name) {
  depthwise::Isa isa;
  return depthwise::isa_from_name(name, &isa) && depthwise::is_compiled(isa);
}

extern "C" int depthwise_isa_supported(const char* name) {
  depthwise::Isa isa;
  return depthwise::isa_from_name(name, &isa) && depthwise::usable(isa);
}

extern "C" int depthwise_set_isa(const char* name) {
  depthwise::Isa isa;
  if (!depthwise::isa_from_name(name, &isa) || !depthwise::usable(isa)) return 0;
  depthwise::isa_in_use().store(isa);
  return 1;
}

extern "C" const char* depthwise_isa_name(int index) {
  return index >= 0 && index < depthwise::isa_count
             ? depthwise::isa_name(static_cast<depthwise::Isa>(index))
             : nullptr;
}

extern "C" const char* depthwise_cpu_features(void) {
  static const std::string features = depthwise::cpu_features();
  return features.c_str();
}

extern "C" int depthwise_num_threads(void) { return depthwise::num_threads(); }

extern "C" void depthwise_set_num_threads(int count) { depthwise::set_num_threads(count); }

extern "C" const depthwise_team* depthwise_use_team(const depthwise_team* team) {
  return depthwise::use_team(team);
}

extern "C" const char* depthwise_kernel_name(int index) {
  if (index < 0) return nullptr;
  const depthwise::Kernels* const kernels = depthwise::kernels_of(depthwise::isa_in_use().load());
  for (int dtype = 0; dtype < depthwise::dtypes; ++dtype) {
    const depthwise::KernelSet set = kernels[dtype]();
    if (index < set.count) return set.kernels[index].name;
    index -= set.count;
  }
  return nullptr;
}

extern "C" const char* depthwise_chosen_kernel(const depthwise_params* params, int backward) {
  if (!depthwise::valid(params) || depthwise::has_no_results(*params)) return nullptr;
  const depthwise::Kernel* kernel =
      depthwise::find_kernel(backward ? Direction::gradients : Direction::forward, *params);
  if (kernel == nullptr && backward) {
    kernel = depthwise::find_kernel(Direction::input_gradient, *params);
  }
  return kernel != nullptr ? kernel->name : nullptr;
}
