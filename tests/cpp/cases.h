// A case: sizes and options of a call. check_case() makes its numbers from its seed and compares
// the op with naive.h, on every instruction set that the CPU has:
//
//   - arrays of any strides, with outputs for everything, against the naive loop; then dense arrays
//     with one output at a time, and another number of threads: the bits must be the same;
//   - one of the two with memory guarded at its beginning, the other at its end;
//   - inputs and whatever lies between the elements of an output must be left as they were.
#ifndef DEPTHWISE_TESTS_CPP_CASES_H_
#define DEPTHWISE_TESTS_CPP_CASES_H_

#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "check.h"
#include "guarded.h"
#include "naive.h"
#include "runtime/pool.h"
#include "runtime/scratch.h"

namespace depthwise::test {

struct Case {
  depthwise_params p{};
  bool bias = true;
  bool exact = false;    // small integers, for which sums are exact
  bool strided = false;  // arrays of any strides, in the first of the two runs
  uint64_t seed = 1;
};

constexpr int layouts[] = {DEPTHWISE_CHANNELS_LAST, DEPTHWISE_CHANNELS_FIRST};

// Numbers of channels below, at and above multiples of every vector length (2 to 16).
constexpr int64_t channel_edges[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  15, 16, 17,
                                     20, 23, 24, 25, 31, 32, 33, 47, 63, 64, 65, 79};

inline Case make_case(int dtype, int layout, int64_t channels, int64_t height, int64_t width,
                      int64_t kernel_height, int64_t kernel_width) {
  Case c;
  c.p.batch = 1;
  c.p.channels = channels;
  c.p.multiplier = 1;
  c.p.in_height = height;
  c.p.in_width = width;
  c.p.kernel_height = kernel_height;
  c.p.kernel_width = kernel_width;
  c.p.stride_height = c.p.stride_width = 1;
  c.p.dilation_height = c.p.dilation_width = 1;
  c.p.dtype = dtype;
  c.p.layout = layout;
  return c;
}

// Outputs along an axis with zeros before and after it; 0 if the kernel does not fit.
inline int64_t output_size(int64_t in, int64_t kernel, int64_t stride, int64_t dilation,
                           int64_t padding) {
  const int64_t room = in + padding - (kernel - 1) * dilation - 1;
  return room < 0 ? 0 : room / stride + 1;
}
inline void set_padding(depthwise_params& p, int64_t top, int64_t bottom, int64_t left,
                        int64_t right) {
  p.pad_top = top;
  p.pad_left = left;
  p.out_height =
      output_size(p.in_height, p.kernel_height, p.stride_height, p.dilation_height, top + bottom);
  p.out_width =
      output_size(p.in_width, p.kernel_width, p.stride_width, p.dilation_width, left + right);
}
// Half of the kernel on each side, the larger half after.
inline void pad_by_half(depthwise_params& p) {
  const int64_t h = (p.kernel_height - 1) * p.dilation_height;
  const int64_t w = (p.kernel_width - 1) * p.dilation_width;
  set_padding(p, h / 2, h - h / 2, w / 2, w - w / 2);
}

inline int64_t multiply_adds(const depthwise_params& p) {
  return p.batch * p.out_height * p.out_width * p.channels * p.multiplier * p.kernel_height *
         p.kernel_width;
}

inline std::string describe(const Case& c) {
  const depthwise_params& p = c.p;
  char text[400];
  std::snprintf(
      text, sizeof text,
      "%s %s n%lld h%lld w%lld c%lld m%lld kernel %lldx%lld stride %lldx%lld dilation %lldx%lld "
      "pad %lld,%lld out %lldx%lld %s alpha %g%s%s%s seed %llu",
      dtype_name(p.dtype), p.layout == DEPTHWISE_CHANNELS_LAST ? "channels_last" : "channels_first",
      (long long)p.batch, (long long)p.in_height, (long long)p.in_width, (long long)p.channels,
      (long long)p.multiplier, (long long)p.kernel_height, (long long)p.kernel_width,
      (long long)p.stride_height, (long long)p.stride_width, (long long)p.dilation_height,
      (long long)p.dilation_width, (long long)p.pad_top, (long long)p.pad_left,
      (long long)p.out_height, (long long)p.out_width, activation_names[p.activation], p.alpha,
      c.bias ? " bias" : "", c.exact ? " exact" : "", c.strided ? " strided" : "",
      (unsigned long long)c.seed);
  return text;
}

// What is being run, for print_case_on_crash().
inline char running[512];

inline void now_running(const char* isa, const std::string& case_text) {
  std::snprintf(running, sizeof running, "crashed: %s %s\n", isa, case_text.c_str());
}
inline void print_case_on_crash() {
  if (check::under_asan) return;  // it has more to say
  struct sigaction action{};
  action.sa_handler = [](int signal) {
    if (write(STDOUT_FILENO, running, std::strlen(running)) < 0) _exit(1);
    raise(signal);  // the default action this time
  };
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) sigaction(signal, &action, nullptr);
}

inline std::vector<const char*> supported_isas() {
  std::vector<const char*> names;
  for (const char* name : {"baseline", "avx2", "avx512", "neon"}) {
    if (depthwise_isa_supported(name)) names.push_back(name);
  }
  return names;
}

// Where a case's arrays lie.
struct Placements {
  Placement x, kernel, bias, y, saved, dy, dx, dkernel;
};

inline Placements place_arrays(const Case& c, bool strided, Random& random) {
  const depthwise_params& p = c.p;
  const int64_t outputs = p.channels * p.multiplier;
  const Order order =
      p.layout == DEPTHWISE_CHANNELS_LAST ? channels_last_order : channels_first_order;
  const auto image = [&](int64_t height, int64_t width, int64_t channels, bool read_only) {
    const std::array<int64_t, 4> sizes{p.batch, height, width, channels};
    return strided && !random.chance(4) ? place_at_random(random, sizes, order, read_only)
                                        : place(sizes, order);
  };
  const auto kernel = [&](bool read_only) {
    const std::array<int64_t, 4> sizes{p.kernel_height, p.kernel_width, p.channels, p.multiplier};
    return strided && !random.chance(4)
               ? place_at_random(random, sizes, channels_last_order, read_only)
               : place(sizes, channels_last_order);
  };
  Placements at;
  at.x = image(p.in_height, p.in_width, p.channels, true);
  at.kernel = kernel(true);
  at.bias = place({1, 1, 1, outputs}, channels_last_order);
  at.y = image(p.out_height, p.out_width, outputs, false);
  at.saved = image(p.out_height, p.out_width, outputs, false);
  at.dy = image(p.out_height, p.out_width, outputs, true);
  at.dx = image(p.in_height, p.in_width, p.channels, false);
  at.dkernel = kernel(false);
  return at;
}

inline depthwise_params with_strides(depthwise_params p, const Placements& at) {
  p.x = image_strides(at.x);
  p.y = image_strides(at.y);
  p.saved = image_strides(at.saved);
  p.dy = image_strides(at.dy);
  p.dx = image_strides(at.dx);
  p.kernel = kernel_strides(at.kernel);
  p.dkernel = kernel_strides(at.dkernel);
  return p;
}

// Numbers for an array; along an axis of stride zero they repeat.
inline Values random_values(const Case& c, const Placement& at, Random& random, double scale) {
  std::vector<double> values(static_cast<size_t>(at.count()));
  std::vector<double> stored(static_cast<size_t>(at.elements));
  for (double& value : stored) {
    value = c.exact             ? static_cast<double>(random.between(-4, 4))
            : random.chance(50) ? 0
                                : random.real(-scale, scale);
  }
  at.each([&](int64_t index, int64_t offset) {
    values[static_cast<size_t>(index)] = stored[static_cast<size_t>(offset)];
  });
  return Values(c.p.dtype, std::move(values));
}

inline Inputs make_inputs(const Case& c, const Placements& at, Random& random) {
  Inputs in;
  const double taps = static_cast<double>(c.p.kernel_height * c.p.kernel_width);
  in.x = random_values(c, at.x, random, 2);
  in.kernel = random_values(c, at.kernel, random, 2 / std::sqrt(taps));
  if (c.bias) in.bias = random_values(c, at.bias, random, 2);
  in.dy = random_values(c, at.dy, random, 2);
  // The corners of the activations are among the saved values.
  const bool from_z = depthwise_needs_preactivation(c.p.activation) == 1;
  std::vector<double> saved(static_cast<size_t>(at.saved.count()));
  for (double& value : saved) {
    const double z = c.exact || random.chance(20) ? static_cast<double>(random.between(-7, 7))
                                                  : random.real(-5, 5);
    value = from_z ? z : naive_activation(c.p.activation, c.p.alpha, z);
  }
  in.saved = Values(c.p.dtype, std::move(saved));
  return in;
}

inline bool agrees(const Case& c, const Expected& expected, const std::vector<uint64_t>& bits,
                   const char* what) {
  const int dtype = c.p.dtype;
  for (size_t i = 0; i < bits.size(); ++i) {
    const double got = decode(dtype, bits[i]);
    const double wanted =
        c.exact ? decode(dtype, encode(dtype, expected.values[i])) : expected.values[i];
    const double tolerance = c.exact ? 0 : expected.tolerances[i];
    if (got == wanted || std::fabs(got - wanted) <= tolerance) continue;
    char text[200];
    std::snprintf(text, sizeof text,
                  "%s %s[%zu] is %.17g, not %.17g (tolerance %.3g): ", depthwise_isa(), what, i,
                  got, wanted, tolerance);
    return check::report(false, __FILE__, __LINE__, text + describe(c));
  }
  return true;
}

inline bool holds(const Case& c, bool condition, const char* what) {
  return condition || check::report(false, __FILE__, __LINE__,
                                    std::string(depthwise_isa()) + " " + what + ": " + describe(c));
}

// Fills the calling thread's working memory with NaN, so that a result of what was left there
// shows.
inline void spoil_scratch() {
  constexpr size_t bytes = 128 << 10;
  if (void* const scratch = thread_scratch(bytes)) std::memset(scratch, 0xff, bytes);
}

// The arrays of one run.
struct Arrays {
  depthwise_params p;
  Array x, kernel, bias, dy, saved_in;         // read
  Array y, preactivation, dx, dkernel, dbias;  // written
  bool has_bias;

  Arrays(const Case& c, const Placements& at, const Inputs& in, Edge edge)
      : p(with_strides(c.p, at)),
        x(p.dtype, at.x, edge),
        kernel(p.dtype, at.kernel, edge),
        bias(p.dtype, at.bias, edge),
        dy(p.dtype, at.dy, edge),
        saved_in(p.dtype, at.saved, edge),
        y(p.dtype, at.y, edge),
        preactivation(p.dtype, at.saved, edge),
        dx(p.dtype, at.dx, edge),
        dkernel(p.dtype, at.dkernel, edge),
        dbias(p.dtype, at.bias, edge),
        has_bias(c.bias) {
    x.write(in.x.bits);
    kernel.write(in.kernel.bits);
    if (has_bias) bias.write(in.bias.bits);
    dy.write(in.dy.bits);
    saved_in.write(in.saved.bits);
    for (Array* output : {&y, &preactivation, &dx, &dkernel, &dbias}) output->clear();
  }

  bool forward(bool keep) {
    spoil_scratch();
    return depthwise_forward(&p, x.data(), kernel.data(), has_bias ? bias.data() : nullptr,
                             y.data(), keep ? preactivation.data() : nullptr) == DEPTHWISE_OK;
  }
  bool backward(bool want_dx, bool want_dkernel, bool want_dbias) {
    spoil_scratch();
    return depthwise_backward(
               &p, want_dkernel ? x.data() : nullptr, want_dx ? kernel.data() : nullptr, dy.data(),
               p.activation == DEPTHWISE_LINEAR ? nullptr : saved_in.data(),
               want_dx ? dx.data() : nullptr, want_dkernel ? dkernel.data() : nullptr,
               want_dbias ? dbias.data() : nullptr) == DEPTHWISE_OK;
  }
  // After the outputs have been taken: nothing else may have been written.
  bool rest_is_untouched() const {
    return x.is_as_written() && kernel.is_as_written() && bias.is_as_written() &&
           dy.is_as_written() && saved_in.is_as_written() && y.is_clear() &&
           preactivation.is_clear() && dx.is_clear() && dkernel.is_clear() && dbias.is_clear();
  }
};

struct Outputs {
  std::vector<uint64_t> y, preactivation, dx, dkernel, dbias;

  bool operator==(const Outputs&) const = default;
};

// Everything at once.
inline bool run_together(const Case& c, Arrays& arrays, Outputs* out) {
  if (!holds(c, arrays.forward(true), "forward call")) return false;
  if (!holds(c, arrays.backward(true, true, true), "backward call")) return false;
  *out = {arrays.y.take(), arrays.preactivation.take(), arrays.dx.take(), arrays.dkernel.take(),
          arrays.dbias.take()};
  return holds(c, arrays.rest_is_untouched(), "wrote beside its outputs");
}

// One output at a time; the pre-activation is left as it is in `out`.
inline bool run_apart(const Case& c, Arrays& arrays, Outputs* out) {
  if (!holds(c, arrays.forward(false), "forward call")) return false;
  out->y = arrays.y.take();
  if (!holds(c, arrays.backward(true, false, false), "dx call")) return false;
  out->dx = arrays.dx.take();
  if (!holds(c, arrays.backward(false, true, false), "dkernel call")) return false;
  out->dkernel = arrays.dkernel.take();
  if (!holds(c, arrays.backward(false, false, true), "dbias call")) return false;
  out->dbias = arrays.dbias.take();
  return holds(c, arrays.rest_is_untouched(), "wrote beside an output asked for alone");
}

inline bool check_case(const Case& c) {
  const std::string text = describe(c);
  Random random(c.seed);
  const Placements strided = place_arrays(c, c.strided, random);
  const Placements dense = place_arrays(c, false, random);
  const Inputs in = make_inputs(c, strided, random);
  const ExpectedForward forward = naive_forward(c.p, in);
  const ExpectedBackward backward = naive_backward(c.p, in);
  const Edge edge = random.chance(2) ? Edge::begin : Edge::end;
  const int threads = static_cast<int>(random.pick({1, 2, 7}));
  const int other_threads = static_cast<int>(random.pick({1, 2, 7}));
  Arrays first(c, strided, in, edge);
  Arrays second(c, dense, in, edge == Edge::begin ? Edge::end : Edge::begin);
  for (const char* isa : supported_isas()) {
    depthwise_set_isa(isa);
    now_running(isa, text);
    Outputs together;
    set_num_threads(threads);
    if (!run_together(c, first, &together)) return false;
    if (!agrees(c, forward.preactivation, together.preactivation, "preactivation") ||
        !agrees(c, forward.y, together.y, "y") || !agrees(c, backward.dx, together.dx, "dx") ||
        !agrees(c, backward.dkernel, together.dkernel, "dkernel") ||
        !agrees(c, backward.dbias, together.dbias, "dbias")) {
      return false;
    }
    Outputs apart = together;
    set_num_threads(other_threads);
    if (!run_apart(c, second, &apart)) return false;
    if (!holds(c, apart == together, "other bits from dense arrays, one output at a time")) {
      return false;
    }
  }
  return true;
}

}  // namespace depthwise::test

#endif  // DEPTHWISE_TESTS_CPP_CASES_H_
