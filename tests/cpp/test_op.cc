// What the C ABI promises besides its numbers: threads, sizes of zero, refused arguments, memory.
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <memory>
#include <thread>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "cases.h"

using namespace depthwise;
using namespace depthwise::test;

namespace {

// Puts the number of threads back when a test ends.
struct Threads {
  explicit Threads(int count) { set_num_threads(count); }
  ~Threads() { set_num_threads(before); }
  int before = num_threads();
};

// A case in dense arrays, with numbers of its own.
struct Problem {
  Case c;
  Random random{c.seed};
  Placements at = place_arrays(c, false, random);
  Inputs in = make_inputs(c, at, random);

  explicit Problem(const Case& wanted) : c(wanted) {}

  bool run(Outputs* out) const {
    Arrays arrays(c, at, in, Edge::end);
    return run_together(c, arrays, out);
  }
};

// Enough work in each to be spread over threads, and cut in every way that work is cut.
std::vector<Problem> work_for_threads() {
  struct Size {
    int64_t batch, height, width, channels, multiplier, kernel, stride, dilation;
    int32_t activation;
  };
  constexpr Size sizes[] = {
      {1, 23, 19, 37, 1, 3, 1, 1, DEPTHWISE_RELU},   {5, 12, 11, 20, 1, 3, 2, 1, DEPTHWISE_LINEAR},
      {1, 40, 17, 6, 3, 5, 1, 2, DEPTHWISE_SILU},    {2, 9, 8, 9, 1, 13, 1, 1, DEPTHWISE_GELU},
      {1, 90, 70, 2, 1, 4, 3, 2, DEPTHWISE_TANH},    {1, 3, 600, 40, 1, 3, 1, 1, DEPTHWISE_RELU6},
      {70, 3, 3, 10, 1, 3, 1, 1, DEPTHWISE_LINEAR},  {1, 200, 150, 1, 1, 3, 1, 1, DEPTHWISE_ELU},
      {1, 60, 40, 1, 1, 27, 1, 1, DEPTHWISE_LINEAR}, {1, 8, 8, 128, 1, 15, 1, 1, DEPTHWISE_RELU},
  };
  std::vector<Problem> problems;
  int turn = 0;
  for (const Size& s : sizes) {
    for (const int layout : layouts) {
      for (const int dtype : dtypes) {
        if ((check::under_asan || check::under_tsan) && turn++ % 3 != 0) continue;
        Case c = make_case(dtype, layout, s.channels, s.height, s.width, s.kernel, s.kernel);
        c.p.batch = s.batch;
        c.p.multiplier = s.multiplier;
        c.p.stride_height = c.p.stride_width = s.stride;
        c.p.dilation_height = c.p.dilation_width = s.dilation;
        c.p.activation = s.activation;
        c.p.alpha = 1;
        c.seed = problems.size() + 1;
        pad_by_half(c.p);
        problems.emplace_back(c);
      }
    }
  }
  return problems;
}

void check_threads(const Problem& problem, const char* what) {
  for (const char* isa : supported_isas()) {
    depthwise_set_isa(isa);
    Outputs alone;
    set_num_threads(1);
    if (!problem.run(&alone)) return;
    for (const int threads : {2, 7}) {
      Outputs together;
      set_num_threads(threads);
      if (!problem.run(&together) || !holds(problem.c, together == alone, what)) return;
    }
  }
}

// Makes one in a thousand elements infinite or NaN.
void spoil(Problem& problem) {
  for (Values* values : {&problem.in.x, &problem.in.kernel, &problem.in.dy}) {
    for (size_t i = 1; i < values->reals.size(); i += 997) {
      values->reals[i] = i % 2 ? HUGE_VAL : std::nan("");
    }
    *values = Values(problem.c.p.dtype, values->reals);
  }
}

// A small call of every size and code that op.h names, with arrays for everything.
Case small_case() {
  Case c = make_case(DEPTHWISE_FLOAT32, DEPTHWISE_CHANNELS_LAST, 5, 6, 7, 3, 3);
  c.p.activation = DEPTHWISE_LEAKY_RELU;
  c.p.alpha = 0.5;
  pad_by_half(c.p);
  return c;
}

struct Change {
  const char* what;
  std::function<void(depthwise_params&)> make;
};

}  // namespace

TEST(the_number_of_threads_does_not_change_the_bits) {
  Threads restore(1);
  for (const Problem& problem : work_for_threads()) check_threads(problem, "other bits");
}

TEST(the_number_of_threads_does_not_change_the_bits_of_infinities_and_nans) {
  Threads restore(1);
  for (Problem& problem : std::vector<Problem>(work_for_threads())) {
    spoil(problem);
    check_threads(problem, "other bits with inf and NaN");
  }
}

TEST(calls_from_several_threads_do_not_disturb_each_other) {
  Threads restore(3);
  const std::vector<Problem> problems = work_for_threads();
  std::vector<Outputs> expected(problems.size());
  for (size_t i = 0; i < problems.size(); ++i) problems[i].run(&expected[i]);
  std::vector<std::thread> callers;
  for (size_t caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&, caller] {
      for (size_t i = caller; i < problems.size(); i += 2) {  // two callers have the same ones
        Outputs out;
        if (problems[i].run(&out)) {
          holds(problems[i].c, out == expected[i], "other bits while others call");
        }
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
}

TEST(impossible_arguments_are_refused_and_nothing_is_written) {
  const Change changes[] = {
      {"batch", [](auto& p) { p.batch = -1; }},
      {"channels", [](auto& p) { p.channels = -1; }},
      {"multiplier", [](auto& p) { p.multiplier = 0; }},
      {"multiplier", [](auto& p) { p.multiplier = -2; }},
      {"in_height", [](auto& p) { p.in_height = -1; }},
      {"in_width", [](auto& p) { p.in_width = INT64_MIN; }},
      {"out_height", [](auto& p) { p.out_height = -1; }},
      {"out_width", [](auto& p) { p.out_width = -1; }},
      {"kernel_height", [](auto& p) { p.kernel_height = 0; }},
      {"kernel_width", [](auto& p) { p.kernel_width = -3; }},
      {"stride_height", [](auto& p) { p.stride_height = 0; }},
      {"stride_width", [](auto& p) { p.stride_width = -1; }},
      {"dilation_height", [](auto& p) { p.dilation_height = 0; }},
      {"dilation_width", [](auto& p) { p.dilation_width = -1; }},
      {"pad_top", [](auto& p) { p.pad_top = -1; }},
      {"pad_left", [](auto& p) { p.pad_left = -1; }},
      // Steps are at most 2^31 - 1.
      {"multiplier", [](auto& p) { p.multiplier = int64_t{1} << 31; }},
      {"kernel_height", [](auto& p) { p.kernel_height = int64_t{1} << 31; }},
      {"kernel_width", [](auto& p) { p.kernel_width = INT64_MAX; }},
      {"stride_height", [](auto& p) { p.stride_height = INT64_MAX; }},
      {"stride_width", [](auto& p) { p.stride_width = int64_t{1} << 31; }},
      {"dilation_height", [](auto& p) { p.dilation_height = int64_t{1} << 31; }},
      {"dilation_width", [](auto& p) { p.dilation_width = INT64_MAX; }},
      {"pad_top", [](auto& p) { p.pad_top = INT64_MAX; }},
      {"pad_left", [](auto& p) { p.pad_left = int64_t{1} << 31; }},
      {"dtype", [](auto& p) { p.dtype = 4; }},
      {"dtype", [](auto& p) { p.dtype = -1; }},
      {"layout", [](auto& p) { p.layout = 2; }},
      {"layout", [](auto& p) { p.layout = -1; }},
      {"activation", [](auto& p) { p.activation = DEPTHWISE_ACTIVATION_COUNT; }},
      {"activation", [](auto& p) { p.activation = -1; }},
      {"alpha", [](auto& p) { p.alpha = -0.1; }},
      {"alpha", [](auto& p) { p.alpha = std::nan(""); }},
  };
  const Problem problem(small_case());
  for (const Change& change : changes) {
    Arrays arrays(problem.c, problem.at, problem.in, Edge::end);
    change.make(arrays.p);
    const depthwise_params& p = arrays.p;
    const auto forward =
        depthwise_forward(&p, arrays.x.data(), arrays.kernel.data(), arrays.bias.data(),
                          arrays.y.data(), arrays.preactivation.data());
    const auto backward = depthwise_backward(
        &p, arrays.x.data(), arrays.kernel.data(), arrays.dy.data(), arrays.saved_in.data(),
        arrays.dx.data(), arrays.dkernel.data(), arrays.dbias.data());
    if (!CHECK_EQ(forward, DEPTHWISE_INVALID_PARAMS) ||
        !CHECK_EQ(backward, DEPTHWISE_INVALID_PARAMS) || !CHECK(arrays.rest_is_untouched())) {
      std::printf("  with another %s\n", change.what);
    }
  }
}

TEST(missing_buffers_are_refused_and_nothing_is_written) {
  const Problem problem(small_case());
  Arrays a(problem.c, problem.at, problem.in, Edge::end);
  const auto forward = [&](const void* x, const void* kernel, void* y) {
    return depthwise_forward(&a.p, x, kernel, nullptr, y, nullptr);
  };
  CHECK_EQ(depthwise_forward(nullptr, a.x.data(), a.kernel.data(), nullptr, a.y.data(), nullptr),
           DEPTHWISE_INVALID_PARAMS);
  CHECK_EQ(forward(nullptr, a.kernel.data(), a.y.data()), DEPTHWISE_INVALID_PARAMS);
  CHECK_EQ(forward(a.x.data(), nullptr, a.y.data()), DEPTHWISE_INVALID_PARAMS);
  CHECK_EQ(forward(a.x.data(), a.kernel.data(), nullptr), DEPTHWISE_INVALID_PARAMS);

  const auto backward = [&](const void* x, const void* kernel, const void* dy, const void* saved) {
    return depthwise_backward(&a.p, x, kernel, dy, saved, a.dx.data(), a.dkernel.data(),
                              a.dbias.data());
  };
  const void *x = a.x.data(), *kernel = a.kernel.data(), *dy = a.dy.data();
  const void* const saved = a.saved_in.data();
  CHECK_EQ(depthwise_backward(nullptr, x, kernel, dy, saved, a.dx.data(), nullptr, nullptr),
           DEPTHWISE_INVALID_PARAMS);
  CHECK_EQ(backward(nullptr, kernel, dy, saved), DEPTHWISE_INVALID_PARAMS);
  CHECK_EQ(backward(x, nullptr, dy, saved), DEPTHWISE_INVALID_PARAMS);
  CHECK_EQ(backward(x, kernel, nullptr, saved), DEPTHWISE_INVALID_PARAMS);
  CHECK_EQ(backward(x, kernel, dy, nullptr), DEPTHWISE_INVALID_PARAMS);
  CHECK(a.rest_is_untouched());
}

TEST(unknown_names_and_codes_are_refused) {
  const std::string before = depthwise_isa();
  for (const char* name : {"", "AVX2", "avx2 ", "sse2", "x", static_cast<const char*>(nullptr)}) {
    CHECK_EQ(depthwise_set_isa(name), 0);
    CHECK_EQ(depthwise_isa_compiled(name), 0);
    CHECK_EQ(depthwise_isa_supported(name), 0);
  }
  for (const char* name : {"baseline", "avx2", "avx512", "neon"}) {
    if (!depthwise_isa_supported(name)) CHECK_EQ(depthwise_set_isa(name), 0);
  }
  CHECK_EQ(before, depthwise_isa());
  CHECK_EQ(depthwise_needs_preactivation(-1), -1);
  CHECK_EQ(depthwise_needs_preactivation(DEPTHWISE_ACTIVATION_COUNT), -1);
  CHECK(depthwise_kernel_name(-1) == nullptr);
  int kernels = 0;
  while (depthwise_kernel_name(kernels) != nullptr) ++kernels;
  CHECK(kernels > 0);
  CHECK(depthwise_kernel_name(kernels + 1) == nullptr);
  depthwise_params params{};                // sizes of zero are no kernel's
  depthwise_params empty = small_case().p;  // and neither is a call without results
  empty.channels = 0;
  for (const int backward : {0, 1}) {
    CHECK(depthwise_chosen_kernel(nullptr, backward) == nullptr);
    CHECK(depthwise_chosen_kernel(&params, backward) == nullptr);
    CHECK(depthwise_chosen_kernel(&empty, backward) == nullptr);
  }
}

TEST(sizes_of_zero_give_empty_or_zero_results) {
  const Change changes[] = {
      {"batch", [](auto& p) { p.batch = 0; }},
      {"channels", [](auto& p) { p.channels = 0; }},
      {"output rows", [](auto& p) { p.out_height = 0; }},
      {"output columns", [](auto& p) { p.out_width = 0; }},
      {"input rows", [](auto& p) { p.in_height = 0; }},  // the outputs lie on padding alone
      {"input columns", [](auto& p) { p.in_width = 0; }},
      {"input", [](auto& p) { p.in_height = p.in_width = 0; }},
      {"everything", [](auto& p) { p.batch = p.channels = p.in_height = p.out_width = 0; }},
  };
  for (const Change& change : changes) {
    for (const int layout : layouts) {
      for (const int dtype : dtypes) {
        for (const int32_t activation : {DEPTHWISE_LINEAR, DEPTHWISE_SIGMOID}) {
          for (const int64_t multiplier : {1, 3}) {
            Case c = small_case();
            c.p.layout = layout;
            c.p.dtype = dtype;
            c.p.activation = activation;
            c.p.multiplier = multiplier;
            change.make(c.p);
            if (!check_case(c)) std::printf("  with no %s\n", change.what);
          }
        }
      }
    }
  }
}

// Strides as frameworks have them: of an image without elements some are zero.
depthwise_image_strides dense(int layout, int64_t height, int64_t width, int64_t channels) {
  const int64_t image = height * width * channels;
  if (layout == DEPTHWISE_CHANNELS_FIRST) return {image, width, 1, height * width};
  return {image, width * channels, channels, 1};
}

// The bias is all that gets through. Results that outgrow the caches are cut in ways of their own.
TEST(images_without_elements_by_dense_strides) {
  struct Size {
    int64_t batch, height, width, channels, top, left;
  };
  constexpr Size sizes[] = {
      {1, 0, 5, 16, 2, 2},   {1, 16, 0, 64, 1, 2},   {2, 20, 0, 16, 1, 9},   {1, 0, 0, 3, 20, 20},
      {1, 30, 0, 64, 0, 40}, {8, 0, 224, 64, 40, 1}, {8, 224, 0, 64, 1, 40},
  };
  for (const Size& s : sizes) {
    for (const int layout : layouts) {
      for (const int kernel : {1, 3, 15}) {
        depthwise_params p = small_case().p;
        p.dtype = DEPTHWISE_FLOAT32;
        p.layout = layout;
        p.batch = s.batch;
        p.in_height = s.height;
        p.in_width = s.width;
        p.channels = s.channels;
        p.multiplier = 1;
        p.kernel_height = p.kernel_width = kernel;
        p.stride_height = p.stride_width = p.dilation_height = p.dilation_width = 1;
        p.activation = DEPTHWISE_LINEAR;
        set_padding(p, s.top, s.top, s.left, s.left);
        p.x = p.dx = dense(layout, p.in_height, p.in_width, p.channels);
        p.y = p.saved = p.dy = dense(layout, p.out_height, p.out_width, p.channels);
        p.kernel = p.dkernel = {kernel * p.channels, p.channels, 1, 1};
        const size_t results = static_cast<size_t>(p.batch * p.out_height * p.out_width);
        const size_t channels = static_cast<size_t>(p.channels);
        std::vector<float> weights(static_cast<size_t>(kernel * kernel) * channels, 2.0f);
        std::vector<float> bias(channels, 0.5f), y(results * channels);
        const std::vector<float> dy(y.size(), 1.0f);
        std::vector<float> dkernel(weights.size(), 3.0f), dbias(channels);
        for (const char* isa : supported_isas()) {
          depthwise_set_isa(isa);
          CHECK_EQ(depthwise_forward(&p, nullptr, weights.data(), bias.data(), y.data(), nullptr),
                   DEPTHWISE_OK);
          CHECK_EQ(depthwise_backward(&p, nullptr, weights.data(), dy.data(), nullptr, nullptr,
                                      dkernel.data(), dbias.data()),
                   DEPTHWISE_OK);
          const auto all = [](const std::vector<float>& values, float value) {
            return std::count(values.begin(), values.end(), value) ==
                   static_cast<std::ptrdiff_t>(values.size());
          };
          CHECK(all(y, 0.5f));
          CHECK(all(dkernel, 0.0f));
          CHECK(all(dbias, static_cast<float>(results)));
        }
      }
    }
  }
}

TEST(empty_inputs_may_be_null) {
  Case c = small_case();
  c.p.in_height = 0;
  const Problem problem(c);
  Arrays a(c, problem.at, problem.in, Edge::end);
  CHECK_EQ(depthwise_forward(&a.p, nullptr, a.kernel.data(), a.bias.data(), a.y.data(), nullptr),
           DEPTHWISE_OK);
  CHECK_EQ(depthwise_backward(&a.p, nullptr, a.kernel.data(), a.dy.data(), a.saved_in.data(),
                              nullptr, a.dkernel.data(), a.dbias.data()),
           DEPTHWISE_OK);
  CHECK(agrees(c, naive_forward(c.p, problem.in).y, a.y.take(), "y"));
  const ExpectedBackward expected = naive_backward(c.p, problem.in);
  CHECK(agrees(c, expected.dkernel, a.dkernel.take(), "dkernel"));
  CHECK(agrees(c, expected.dbias, a.dbias.take(), "dbias"));

  c.p.batch = 0;
  CHECK_EQ(depthwise_forward(&c.p, nullptr, nullptr, nullptr, nullptr, nullptr), DEPTHWISE_OK);
  CHECK_EQ(depthwise_backward(&c.p, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr),
           DEPTHWISE_OK);
}

// Steps that lead out of the image are allowed, up to 2^31 - 1: one output is left.
TEST(steps_larger_than_the_image) {
  uint64_t seed = 500;
  for (const int64_t step : {100, 1 << 20, INT32_MAX}) {
    for (const int layout : layouts) {
      for (const int turn : {0, 1, 2, 3, 4, 5}) {
        Case c = small_case();
        c.p.layout = layout;
        c.seed = ++seed;
        if (turn == 0) c.p.stride_height = step;
        if (turn == 1) c.p.stride_width = step;
        if (turn == 2) c.p.pad_top = step;
        if (turn == 3) c.p.pad_left = step;
        if (turn >= 4) {  // one tap: how far the next would be does not matter
          c.p.kernel_height = c.p.kernel_width = 1;
          c.p.dilation_height = c.p.dilation_width = step;
          c.p.stride_height = turn == 4 ? 1 : 3;
          set_padding(c.p, 0, 0, 1, 1);
        }
        if (turn == 0) c.p.out_height = 1;
        if (turn == 1) c.p.out_width = 1;
        check_case(c);
      }
    }
  }
}

TEST(memory_that_cannot_be_had_is_reported) {
#if !defined(__linux__)
  SKIP("limits the address space as Linux does");
#else
  if (check::under_asan || check::under_tsan) SKIP("sanitizers need the address space");
  constexpr int unlimited = 3;
  Threads restore(1);
  for (const int layout : layouts) {
    // A kernel of 146 MB that is worked on in float32: more than malloc may have left in a corner.
    // Nothing is read before the call finds that out, so the arrays take no memory.
    Case c = make_case(DEPTHWISE_FLOAT16, layout, 100'000, 1, 1, 27, 27);
    pad_by_half(c.p);
    Random random(1);
    const Placements at = place_arrays(c, false, random);
    const depthwise_params p = with_strides(c.p, at);
    const auto zeros = [](const Placement& placement) {
      return std::unique_ptr<void, void (*)(void*)>(
          std::calloc(static_cast<size_t>(placement.elements), 2), std::free);
    };
    const auto x = zeros(at.x), kernel = zeros(at.kernel), y = zeros(at.y), dx = zeros(at.dx);
    const auto dkernel = zeros(at.dkernel);
    const pid_t child = fork();
    if (child == 0) {
      int64_t pages = 0;
      std::ifstream("/proc/self/statm") >> pages;
      const rlim_t bytes = static_cast<rlim_t>(pages * sysconf(_SC_PAGESIZE));
      const rlimit limit{bytes, bytes};
      if (setrlimit(RLIMIT_AS, &limit) != 0) _exit(2);
      void* volatile probe = std::malloc(size_t{1} << 28);  // volatile: Clang would leave it out
      if (probe != nullptr) _exit(unlimited);
      const auto forward = depthwise_forward(&p, x.get(), kernel.get(), nullptr, y.get(), nullptr);
      const auto backward = depthwise_backward(&p, x.get(), kernel.get(), y.get(), nullptr,
                                               dx.get(), dkernel.get(), nullptr);
      _exit(forward == DEPTHWISE_OUT_OF_MEMORY && backward == DEPTHWISE_OUT_OF_MEMORY ? 0 : 1);
    }
    int status = 0;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    if (WEXITSTATUS(status) == unlimited) {
      SKIP("the system does not limit the address space, as in QEMU's user mode");
    }
    CHECK_EQ(WEXITSTATUS(status), 0);
  }
#endif
}

#if defined(__x86_64__)
TEST(subnormal_numbers_count_in_threads_that_flush_them) {
  constexpr unsigned flush = 0x8040;  // results and operands
  const Threads keep(2);
  Case c = make_case(DEPTHWISE_FLOAT32, DEPTHWISE_CHANNELS_LAST, 64, 40, 40, 3, 3);
  const depthwise_params& p = c.p;
  const size_t inputs = static_cast<size_t>(p.in_height * p.in_width * p.channels);
  const size_t outputs = static_cast<size_t>(p.out_height * p.out_width * p.channels);
  const std::vector<float> x(inputs, 1e-40f), kernel(size_t{9} * 64, 1.0f);
  std::vector<float> y(outputs);
  depthwise_params dense = p;
  dense.x = {0, p.in_width * p.channels, p.channels, 1};
  dense.y = {0, p.out_width * p.channels, p.channels, 1};
  dense.kernel = {3 * p.channels, p.channels, 1, 1};
  _mm_setcsr(_mm_getcsr() | flush);
  const auto status =
      depthwise_forward(&dense, x.data(), kernel.data(), nullptr, y.data(), nullptr);
  const unsigned after = _mm_getcsr();
  _mm_setcsr(after & ~flush);
  CHECK_EQ(status, DEPTHWISE_OK);
  CHECK_EQ(after & flush, flush);  // the caller's mode is its own
  for (const float value : y) CHECK(value > 8e-40f && value < 1e-39f);
}
#endif

int main(int argc, char** argv) {
  print_case_on_crash();
  return check::run_tests(argc, argv);
}
