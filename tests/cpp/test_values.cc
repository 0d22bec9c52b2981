// Numbers that need care: the activations over their whole range, every float16 and bfloat16, and
// values that are not finite. All go through the op with a kernel of one tap.
#include "cases.h"

using namespace depthwise;
using namespace depthwise::test;

namespace {

constexpr double infinity = HUGE_VAL;
constexpr double not_a_number = __builtin_nan("");

// One tap, no bias: the value before the activation is x times `weight`.
struct OneTap {
  Case c;
  Placements at;
  Inputs in;

  OneTap(int dtype, int layout, int32_t activation, double alpha, const std::vector<double>& x,
         double weight, const std::vector<double>& saved)
      : c(make_case(dtype, layout, 24, 1, static_cast<int64_t>(x.size() / 24), 1, 1)) {
    c.p.activation = activation;
    c.p.alpha = alpha;
    c.bias = false;
    set_padding(c.p, 0, 0, 0, 0);
    Random random(1);
    at = place_arrays(c, false, random);
    in.x = Values(dtype, x);
    in.kernel = Values(dtype, std::vector<double>(24, weight));
    in.dy = Values(dtype, std::vector<double>(x.size(), 1));
    in.saved = Values(dtype, saved);
  }
  bool run(Outputs* out) const {
    Arrays arrays(c, at, in, Edge::end);
    return run_together(c, arrays, out);
  }
};

// Fills up to whole pixels of 24 channels: whole vectors and a rest in every instruction set.
std::vector<double> whole_pixels(std::vector<double> values) {
  while (values.size() % 24 != 0) values.push_back(1);
  return values;
}

std::vector<double> values_everywhere(int dtype) {
  std::vector<double> values = {0.0, infinity, -infinity, not_a_number};
  const double smallest = dtype == DEPTHWISE_FLOAT64 ? 0x1p-1022 : 0x1p-126;
  const double largest = dtype == DEPTHWISE_FLOAT64 ? 0x1p1023 : 0x1p127;
  for (const double sign : {-1.0, 1.0}) {
    for (double v = smallest; v <= largest; v *= 1.7) values.push_back(sign * v);
    for (double v = 0; v < 120; v += 0.037) values.push_back(sign * v);
    for (const double v : {3.0, 6.0, 87.3, 88.3, 88.8, 104.0, 708.0, 709.5, 745.0, 1000.0}) {
      for (const double nudge : {-1e-6, 0.0, 1e-6}) values.push_back(sign * v * (1 + nudge));
    }
  }
  return whole_pixels(values);
}

bool same(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

// Whether each result is finite, infinite or NaN as the naive loop's is.
void check_kind(const Case& c, const Expected& expected, const std::vector<uint64_t>& bits,
                const char* what) {
  for (size_t i = 0; i < bits.size(); ++i) {
    const double got = decode(c.p.dtype, bits[i]), wanted = expected.values[i];
    if (same(got, wanted) || std::isfinite(got - wanted)) continue;
    char text[200];
    std::snprintf(text, sizeof text, "%s %s[%zu] is %g, not %g: ", depthwise_isa(), what, i, got,
                  wanted);
    check::report(false, __FILE__, __LINE__, text + describe(c));
    return;
  }
}

// Puts an infinity and a NaN somewhere in x (where = 0), the kernel (1) or dy (2).
void check_spoilt(const Case& c, int where) {
  Random random(c.seed);
  const Placements at = place_arrays(c, false, random);
  Inputs in = make_inputs(c, at, random);
  Values& spoilt = where == 0 ? in.x : where == 1 ? in.kernel : in.dy;
  for (const double value : {infinity, not_a_number}) {
    const auto last = static_cast<int64_t>(spoilt.reals.size()) - 1;
    spoilt.reals[static_cast<size_t>(random.between(0, last))] = value;
  }
  spoilt = Values(c.p.dtype, spoilt.reals);
  const ExpectedForward forward = naive_forward(c.p, in);
  const ExpectedBackward backward = naive_backward(c.p, in);
  for (const char* isa : supported_isas()) {
    depthwise_set_isa(isa);
    Arrays arrays(c, at, in, Edge::end);
    Outputs out;
    if (!run_together(c, arrays, &out)) continue;
    check_kind(c, forward.y, out.y, "y");
    check_kind(c, backward.dx, out.dx, "dx");
    check_kind(c, backward.dkernel, out.dkernel, "dkernel");
    check_kind(c, backward.dbias, out.dbias, "dbias");
  }
}

}  // namespace

// Relative errors are within 12 units of roundoff. In the tail of GELU the rounding of what goes
// into the exponential, -z^2/2 or GELU's tanh argument, adds four times its size. Below what exp()
// can give as a normal number the result may be zero.
TEST(activations_are_accurate_over_their_whole_range) {
  for (const int dtype : {DEPTHWISE_FLOAT32, DEPTHWISE_FLOAT64}) {
    const std::vector<double> z = values_everywhere(dtype);
    const double u = compute_roundoff(dtype);
    const double underflow = dtype == DEPTHWISE_FLOAT64 ? 1e-304 : 1e-35;
    for (int32_t activation = 0; activation < DEPTHWISE_ACTIVATION_COUNT; ++activation) {
      const OneTap problem(dtype, DEPTHWISE_CHANNELS_LAST, activation, 0.5, z, 1, z);
      for (const char* isa : supported_isas()) {
        depthwise_set_isa(isa);
        Outputs out;
        if (!problem.run(&out)) continue;
        int failures = 0;
        for (size_t i = 0; i < z.size() && failures < 3; ++i) {
          const double v = problem.in.x.reals[i];
          const double wanted = naive_activation(activation, 0.5, v);
          const double got = decode(dtype, out.y[i]);
          double exponent = 0;
          if (activation == DEPTHWISE_GELU) exponent = v * v / 2;
          if (activation == DEPTHWISE_GELU_TANH) exponent = 2 * naive_gelu_tanh_argument(v);
          exponent = std::min(std::fabs(exponent), 1e3);
          const double tolerance = (12 + 4 * exponent) * u * std::fabs(wanted) + underflow;
          if (same(got, wanted) || std::fabs(got - wanted) <= tolerance) continue;
          ++failures;
          char text[200];
          std::snprintf(text, sizeof text, "%s %s %s(%.17g) is %.17g, not %.17g: %.1f units", isa,
                        dtype_name(dtype), activation_names[activation], v, got, wanted,
                        std::fabs(got - wanted) / (u * std::fabs(wanted)));
          check::report(false, __FILE__, __LINE__, text);
        }
      }
    }
  }
}

// Within 32 units of roundoff: what naive.h allows for derivatives around 1.
TEST(derivatives_are_accurate_over_their_whole_range) {
  for (const int dtype : {DEPTHWISE_FLOAT32, DEPTHWISE_FLOAT64}) {
    const double u = compute_roundoff(dtype);
    for (int32_t activation = 1; activation < DEPTHWISE_ACTIVATION_COUNT; ++activation) {
      const bool from_z = depthwise_needs_preactivation(activation) == 1;
      std::vector<double> saved;
      for (const double z : values_everywhere(dtype)) {
        if (std::fabs(z) > 1e6 || std::isnan(z)) continue;  // no derivative there but 0 and 1
        saved.push_back(from_z ? z : naive_activation(activation, 0.5, z));
      }
      saved = whole_pixels(saved);
      const OneTap problem(dtype, DEPTHWISE_CHANNELS_LAST, activation, 0.5, saved, 1, saved);
      for (const char* isa : supported_isas()) {
        depthwise_set_isa(isa);
        Outputs out;
        if (!problem.run(&out)) continue;
        int failures = 0;
        for (size_t i = 0; i < saved.size() && failures < 3; ++i) {
          const double v = problem.in.saved.reals[i];
          const double wanted = naive_derivative(activation, 0.5, v);
          const double got = decode(dtype, out.dx[i]);
          if (std::fabs(got - wanted) <= 32 * u) continue;
          ++failures;
          char text[200];
          std::snprintf(text, sizeof text, "%s %s derivative of %s at %.17g is %.17g, not %.17g",
                        isa, dtype_name(dtype), activation_names[activation], v, got, wanted);
          check::report(false, __FILE__, __LINE__, text);
        }
      }
    }
  }
}

TEST(derivatives_at_the_corners_are_those_of_the_table) {
  struct Corner {
    int32_t activation;
    double saved, derivative;
  };
  constexpr Corner corners[] = {
      {DEPTHWISE_RELU, 0, 0},         {DEPTHWISE_RELU6, 0, 0},
      {DEPTHWISE_RELU6, 6, 0},        {DEPTHWISE_LEAKY_RELU, 0, 0.5},
      {DEPTHWISE_ELU, 0, 0.5},        {DEPTHWISE_HARD_SWISH, -3, 0},
      {DEPTHWISE_HARD_SWISH, 3, 1},   {DEPTHWISE_HARD_SIGMOID, 0, 0},
      {DEPTHWISE_HARD_SIGMOID, 1, 0},
  };
  for (const Corner& corner : corners) {
    for (const int dtype : dtypes) {
      for (const int layout : layouts) {
        const std::vector<double> saved(24, corner.saved);
        const OneTap problem(dtype, layout, corner.activation, 0.5, saved, 1, saved);
        for (const char* isa : supported_isas()) {
          depthwise_set_isa(isa);
          Outputs out;
          if (!problem.run(&out)) continue;
          for (const uint64_t bits : out.dx) {
            if (!CHECK_EQ(decode(dtype, bits), corner.derivative)) {
              std::printf("  %s, %s\n", isa, describe(problem.c).c_str());
              break;
            }
          }
        }
      }
    }
  }
}

// Products of two such numbers fit a float: what is left is to widen and to round rightly.
TEST(every_half_is_read_and_every_product_rounded_rightly) {
  for (const int dtype : {DEPTHWISE_FLOAT16, DEPTHWISE_BFLOAT16}) {
    std::vector<double> x;
    for (uint64_t bits = 0; bits < 0x10000; ++bits) x.push_back(decode(dtype, bits));
    x = whole_pixels(x);
    for (const double weight : {1.0, -1.0, 1.3, 0.77, 1.0 / 3, 0x1p-11, 0x1.ffp-6, 1e-4, 777.0}) {
      for (const int layout : layouts) {
        const OneTap problem(dtype, layout, DEPTHWISE_LINEAR, 0, x, weight, x);
        const double exact_weight = problem.in.kernel.reals[0];
        for (const char* isa : supported_isas()) {
          depthwise_set_isa(isa);
          Outputs out;
          if (!problem.run(&out)) continue;
          int failures = 0;
          for (size_t i = 0; i < x.size() && failures < 3; ++i) {
            const double wanted = decode(dtype, encode(dtype, x[i] * exact_weight));
            const double got = decode(dtype, out.y[i]);
            if (same(got, wanted)) continue;
            ++failures;
            char text[200];
            std::snprintf(text, sizeof text, "%s %s: %.9g * %.9g is %.9g, not %.9g", isa,
                          dtype_name(dtype), x[i], exact_weight, got, wanted);
            check::report(false, __FILE__, __LINE__, text);
          }
        }
      }
    }
  }
}

// An element that is not finite reaches the results that it is a term of, and no others: zeros of
// the padding are not multiplied with it.
TEST(values_that_are_not_finite_stay_where_they_belong) {
  struct Size {
    int64_t height, width, channels, multiplier, kernel_height, kernel_width, stride, dilation;
  };
  constexpr Size sizes[] = {
      {6, 9, 3, 1, 3, 3, 1, 1},   {6, 9, 21, 1, 3, 3, 1, 1},   {5, 11, 2, 1, 9, 5, 1, 1},
      {5, 11, 18, 1, 9, 5, 1, 1}, {7, 8, 2, 1, 3, 4, 2, 1},    {7, 8, 18, 1, 3, 4, 2, 1},
      {4, 30, 1, 1, 11, 3, 1, 1}, {4, 40, 2, 3, 3, 9, 1, 1},   {6, 7, 9, 2, 3, 5, 3, 1},
      {9, 9, 1, 1, 3, 3, 1, 3},   {9, 13, 5, 1, 4, 3, 2, 3},   {3, 17, 20, 1, 1, 13, 1, 1},
      {3, 5, 1, 2, 27, 27, 1, 1}, {3, 5, 33, 1, 27, 27, 1, 1}, {2, 100, 3, 1, 2, 2, 1, 1},
      {4, 26, 20, 1, 3, 7, 1, 3}, {5, 25, 17, 1, 3, 5, 3, 2},  {3, 12, 33, 1, 2, 13, 1, 1},
  };
  uint64_t seed = 900;
  for (const Size& s : sizes) {
    for (const int layout : layouts) {
      for (const int dtype : dtypes) {
        for (const int where : {0, 1, 2}) {
          Case c = make_case(dtype, layout, s.channels, s.height, s.width, s.kernel_height,
                             s.kernel_width);
          c.p.multiplier = s.multiplier;
          c.p.stride_height = c.p.stride_width = s.stride;
          c.p.dilation_height = c.p.dilation_width = s.dilation;
          c.seed = ++seed;
          pad_by_half(c.p);
          check_spoilt(c, where);
        }
      }
    }
  }
}

int main(int argc, char** argv) {
  print_case_on_crash();
  return check::run_tests(argc, argv);
}
