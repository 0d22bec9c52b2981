// Every kernel of every instruction set against a loop in double precision (cases.h), at random.
//
//   test_random [--cases=N] [--first=N] [--seed=N] [NAME...]
//
// runs the tests whose names contain one of NAME with N cases per layout, counted from --first. The
// environment variable DEPTHWISE_TEST_CASES is another way to say --cases. A failure prints the
// case and how to run it again.
#include <cinttypes>
#include <cstdlib>

#include "cases.h"

using namespace depthwise;
using namespace depthwise::test;

namespace {

int64_t random_cases = check::under_asan || check::under_tsan ? 40 : 500;
int64_t first_case = 0;
uint64_t seed = 20;

Case random_case(uint64_t case_seed, int dtype, int layout) {
  Random random(case_seed);
  const int64_t most = random.chance(6) ? 600'000 : 60'000;
  for (;;) {
    const int64_t kernel_height = random.pick({1, 1, 2, 3, 3, 3, 4, 5, 5, 6, 7, 8, 9, 13, 27});
    const int64_t kernel_width =
        random.chance(2) ? kernel_height : random.pick({1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 27});
    const int64_t channels =
        random.chance(2) ? random.between(1, 20) : channel_edges[random.between(0, 23)];
    Case c = make_case(dtype, layout, channels, random.between(1, 24),
                       random.chance(5) ? random.between(1, 120) : random.between(1, 30),
                       kernel_height, kernel_width);
    depthwise_params& p = c.p;
    p.batch = random.pick({1, 1, 1, 2, 3, 5});
    p.multiplier = random.pick({1, 1, 1, 1, 2, 3, 4, 5});
    p.stride_height = random.pick({1, 1, 1, 2, 2, 3, 4, 7});
    p.stride_width = random.chance(2) ? p.stride_height : random.pick({1, 2, 3, 4, 5});
    p.dilation_height = random.pick({1, 1, 1, 1, 2, 3, 4, 6});
    p.dilation_width = random.chance(2) ? p.dilation_height : random.pick({1, 2, 3, 5});
    if (random.chance(3)) {
      pad_by_half(p);
    } else {
      const int64_t rows = (p.kernel_height - 1) * p.dilation_height + 2;
      const int64_t columns = (p.kernel_width - 1) * p.dilation_width + 2;
      const auto amount = [&](int64_t reach) {
        return random.chance(3) ? 0 : random.between(0, reach);
      };
      const int64_t top = amount(rows), bottom = amount(rows), left = amount(columns);
      set_padding(p, top, bottom, left, amount(columns));
    }
    if (multiply_adds(p) == 0 || multiply_adds(p) > most) continue;
    p.activation = random.chance(2) ? static_cast<int32_t>(random.between(0, 3))
                                    : static_cast<int32_t>(random.between(0, 12));
    c.exact = is_exact(p.activation) && random.chance(2);
    p.alpha = c.exact ? 0.25 : random.real(0, 2);
    c.bias = !random.chance(4);
    c.strided = random.chance(2);
    c.seed = random.bits();
    return c;
  }
}

void check_random(int dtype) {
  int failures = 0;
  for (int64_t i = first_case; i < first_case + random_cases && failures < 5; ++i) {
    for (const int layout : layouts) {
      const uint64_t number = static_cast<uint64_t>((i * 2 + layout) * 4 + dtype);
      if (check_case(random_case(seed + number * 0x9e3779b97f4a7c15, dtype, layout))) continue;
      ++failures;
      std::printf("again with: test_random --seed=%" PRIu64 " --first=%" PRId64
                  " --cases=1 random_cases_in_%s\n",
                  seed, i, dtype_name(dtype));
    }
  }
}

}  // namespace

TEST(random_cases_in_float32) { check_random(DEPTHWISE_FLOAT32); }
TEST(random_cases_in_float64) { check_random(DEPTHWISE_FLOAT64); }
TEST(random_cases_in_float16) { check_random(DEPTHWISE_FLOAT16); }
TEST(random_cases_in_bfloat16) { check_random(DEPTHWISE_BFLOAT16); }

int main(int argc, char** argv) {
  if (const char* const cases = std::getenv("DEPTHWISE_TEST_CASES"))
    random_cases = std::atoll(cases);
  print_case_on_crash();
  int names = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.rfind("--cases=", 0) == 0) {
      random_cases = std::atoll(argv[i] + 8);
    } else if (argument.rfind("--first=", 0) == 0) {
      first_case = std::atoll(argv[i] + 8);
    } else if (argument.rfind("--seed=", 0) == 0) {
      seed = std::strtoull(argv[i] + 7, nullptr, 10);
    } else {
      argv[names++] = argv[i];
    }
  }
  std::printf("%" PRId64 " random cases per dtype and layout, from %" PRId64 ", seed %" PRIu64 "\n",
              random_cases, first_case, seed);
  return check::run_tests(names, argv);
}
