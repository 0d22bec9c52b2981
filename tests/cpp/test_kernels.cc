// Every kernel of every instruction set against a loop in double precision (cases.h): at the edges
// of the vectors, tiles and blocks that the kernels cut their work into. A failure prints the case.
#include <algorithm>
#include <thread>

#include "cases.h"
#include "runtime/scratch.h"

using namespace depthwise;
using namespace depthwise::test;

namespace {

// Checks the cases of a table. What the table leaves open is drawn from the case's place in it, so
// that the same cases are run each time.
class Table {
 public:
  explicit Table(uint64_t first_seed) : seed_(first_seed) {}

  void check(Case c) {
    c.seed = ++seed_;
    if (check::under_tsan && seed_ % 3 != 0) return;  // the slowest, and it looks at threads alone
    Random random(c.seed * 0x9e3779b97f4a7c15);
    c.strided = random.chance(3);
    c.bias = !random.chance(4);
    if (!activation_is_fixed_) {
      // Half of them one where sums of small integers come out exactly.
      c.p.activation = static_cast<int32_t>(random.between(0, random.chance(2) ? 3 : 12));
    }
    c.exact = is_exact(c.p.activation) && !random.chance(4);
    c.p.alpha = c.exact ? 0.25 : 0.7;
    if (failures_ < 5 && !check_case(c)) ++failures_;
  }
  void keep_activations() { activation_is_fixed_ = true; }

 private:
  uint64_t seed_;
  int failures_ = 0;
  bool activation_is_fixed_ = false;
};

void set_steps(depthwise_params& p, int64_t stride, int64_t dilation) {
  p.stride_height = p.stride_width = stride;
  p.dilation_height = p.dilation_width = dilation;
}

}  // namespace

TEST(instruction_sets_are_those_of_the_cpu) {
  for (const char* name : {"baseline", "avx2", "avx512", "neon"}) {
    std::printf("%-8s %s\n", name,
                depthwise_isa_supported(name)  ? "is tested"
                : depthwise_isa_compiled(name) ? "is not tested: this CPU does not have it"
                                               : "is not compiled for this architecture");
    if (!depthwise_isa_supported(name)) continue;
    CHECK(depthwise_set_isa(name) == 1);
    CHECK_EQ(std::string(depthwise_isa()), name);
    CHECK(depthwise_kernel_name(0) != nullptr);
  }
  CHECK(!supported_isas().empty());
}

TEST(channels_around_the_vector_length) {
  Table table(1000);
  for (const int dtype : dtypes) {
    for (const int layout : layouts) {
      for (const int64_t channels : channel_edges) {
        for (const int64_t stride : {1, 2}) {
          const int64_t kernel = stride == 1 ? 3 : 5;
          Case c = make_case(dtype, layout, channels, 4, 11, kernel, kernel);
          set_steps(c.p, stride, 1);
          pad_by_half(c.p);
          table.check(c);
        }
      }
    }
  }
}

TEST(widths_around_the_tile) {
  Table table(10000);
  for (const int dtype : dtypes) {
    for (const int layout : layouts) {
      for (const int64_t kernel : {1, 2, 3, 4, 5, 7}) {
        for (const int64_t stride : {1, 2}) {
          for (int64_t width = 1; width <= 24; ++width) {
            Case c = make_case(dtype, layout, 9, 3, 1, 2, kernel);
            set_steps(c.p, stride, 1);
            c.p.in_width = (width - 1) * stride + 1 + (stride == 2 ? width % 2 : 0);
            pad_by_half(c.p);
            table.check(c);
          }
        }
      }
    }
  }
}

TEST(kernel_sizes_strides_and_dilations) {
  Table table(20000);
  int turn = 0;
  for (const int layout : layouts) {
    for (const int64_t kernel : {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 16, 27, 31}) {
      for (const int64_t stride : {1, 2, 3}) {
        for (const int64_t dilation : {1, 2, 3}) {
          for (const int shape : {0, 1, 2}) {  // square, one row, one column
            const int dtype = dtypes[turn++ % 4];
            const int64_t channels = turn % 3 ? 10 : 19;
            Case c = make_case(dtype, layout, channels, 9, 14, shape == 1 ? 1 : kernel,
                               shape == 2 ? 1 : kernel);
            set_steps(c.p, stride, dilation);
            pad_by_half(c.p);
            table.check(c);
          }
        }
      }
    }
  }
}

TEST(unequal_strides_and_dilations) {
  Table table(30000);
  int turn = 0;
  for (const int layout : layouts) {
    for (int64_t code = 0; code < 256; ++code) {
      Case c = make_case(dtypes[turn++ % 4], layout, 11, 13, 12, 3, 4);
      c.p.stride_height = code % 4 + 1;
      c.p.stride_width = code / 4 % 4 + 1;
      c.p.dilation_height = code / 16 % 4 + 1;
      c.p.dilation_width = code / 64 + 1;
      pad_by_half(c.p);
      table.check(c);
    }
  }
}

// Columns a whole number of taps apart go through the same tiles, and rows a whole number of taps
// apart go in pairs: with a dilation there are classes of both, of columns a stride times as many
// for the gradient of the input. Padding of one side is so large that tiles, and a row of a pair or
// both, lie on it.
TEST(classes_of_columns_and_pairs_of_rows) {
  Table table(35000);
  int turn = 0;
  for (const int64_t stride : {1, 2, 3}) {
    for (const int64_t dilation : {1, 2, 3}) {
      for (const int64_t kernel : {1, 2, 6, 11}) {
        for (const int64_t columns : {3, 4, 7, 8, 9, 17}) {
          const int64_t classes = stride * dilation, rows = 1 + turn % 4;
          Case c = make_case(dtypes[turn % 4], layouts[turn % 7 == 0], turn % 3 ? 19 : 33,
                             rows * classes - turn % 2, columns * classes - turn % 3, 1 + turn % 3,
                             kernel);
          set_steps(c.p, stride, dilation);
          const int64_t reach = (kernel - 1) * dilation;
          const int64_t far = turn % 5 == 0 ? reach + 9 * dilation : reach / 2;
          set_padding(c.p, 2 * dilation, turn % 2 * dilation, reach - reach / 2, far);
          ++turn;
          table.check(c);
        }
      }
    }
  }
}

// Channels-first images of a vector of columns and more: rows and columns of taps fall beside the
// image, a vector and more of them with much padding.
TEST(planes_in_place) {
  Table table(37000);
  int turn = 0;
  for (const int dtype : dtypes) {
    for (const int64_t columns : {4, 8, 9, 15, 16, 17, 31, 35}) {
      for (int64_t height = 1; height <= 8; ++height) {
        for (int64_t width = 1; width <= 6; ++width) {
          Case c = make_case(dtype, DEPTHWISE_CHANNELS_FIRST, 2, 1 + turn % 9, columns + turn % 3,
                             height, width);
          set_steps(c.p, 1 + turn % 3 / 2, 1 + turn % 5 / 3);
          if (turn % 11 == 0) c.p.stride_height = 1 + turn % 4;
          if (turn % 4 == 0) {
            set_padding(c.p, turn % 8, height * 2, turn % 20, 2 * width + 19);
          } else {
            set_padding(c.p, height, height, width, width);
          }
          c.p.multiplier = 1 + turn % 6 / 5;
          ++turn;
          table.check(c);
        }
      }
    }
  }
}

// Large kernels at strides of one, which go by three products instead of four forward and back:
// every parity of rows and columns, more rows than a block has, channels that are no
// whole blocks, kernels that cover the image from every column, and some that are left to others.
TEST(large_kernels) {
  struct Shape {
    int64_t channels, height, width, kernel_height, kernel_width, multiplier;
  };
  const Shape shapes[] = {{16, 28, 29, 21, 20, 1}, {19, 29, 28, 18, 23, 1}, {35, 27, 27, 22, 21, 1},
                          {16, 40, 17, 23, 14, 2}, {17, 60, 20, 15, 39, 1}, {16, 33, 90, 13, 16, 1},
                          {8, 30, 31, 19, 21, 4},  {5, 26, 26, 21, 21, 2},  {16, 14, 14, 27, 27, 1},
                          {16, 24, 300, 15, 2, 1}, {150, 20, 21, 21, 21, 1}};
  Table table(38000);
  int turn = 0;
  for (const int layout : layouts) {
    for (const Shape& s : shapes) {
      Case c = make_case(dtypes[turn % 4], layout, s.channels, s.height, s.width, s.kernel_height,
                         s.kernel_width);
      c.p.multiplier = s.multiplier;
      c.p.batch = s.channels < 16 ? 2 : 1;
      if (turn++ % 3 == 0) {
        set_padding(c.p, turn % 20, turn % 13, turn % 7, turn % 17);
      } else {
        pad_by_half(c.p);
      }
      if (c.p.out_height > 0 && c.p.out_width > 0) table.check(c);
    }
  }
}

TEST(multipliers) {
  Table table(40000);
  for (const int dtype : dtypes) {
    for (const int layout : layouts) {
      for (int64_t multiplier = 1; multiplier <= 9; ++multiplier) {
        for (const int64_t channels : {1, 2, 3, 4, 5, 7, 8, 9, 17, 33}) {
          Case c = make_case(dtype, layout, channels, 5, 7, 3, 3);
          c.p.multiplier = multiplier;
          set_steps(c.p, 1 + channels % 2, 1);
          pad_by_half(c.p);
          table.check(c);
        }
      }
      for (const int64_t multiplier : {16, 37}) {
        Case c = make_case(dtype, layout, 3, 4, 5, 3, 2);
        c.p.multiplier = multiplier;
        pad_by_half(c.p);
        table.check(c);
      }
    }
  }
}

TEST(activations) {
  Table table(50000);
  table.keep_activations();
  for (int32_t activation = 0; activation < DEPTHWISE_ACTIVATION_COUNT; ++activation) {
    for (const int dtype : dtypes) {
      for (const int layout : layouts) {
        for (const int64_t channels : {1, 7, 20}) {
          Case c = make_case(dtype, layout, channels, 4, 10, 3, 3);
          c.p.activation = activation;
          pad_by_half(c.p);
          table.check(c);
        }
      }
    }
  }
}

TEST(padding_of_every_amount) {
  Table table(60000);
  int turn = 0;
  for (const int layout : layouts) {
    // From none to more than the kernel reaches: then there are outputs that no tap contributes to.
    for (const int64_t before : {0, 1, 2, 4, 9}) {
      for (const int64_t after : {0, 1, 3, 8}) {
        for (const int64_t stride : {1, 2}) {
          for (const int64_t dilation : {1, 2}) {
            Case c = make_case(dtypes[turn++ % 4], layout, 9, 5, 6, 3, 3);
            set_steps(c.p, stride, dilation);
            set_padding(c.p, before, after, after, before);
            if (c.p.out_height > 0 && c.p.out_width > 0) table.check(c);
            // An image smaller than the kernel.
            c.p.in_height = 1;
            c.p.in_width = 2;
            set_padding(c.p, before + 2, after + 2, after + 2, before + 2);
            table.check(c);
          }
        }
      }
    }
  }
  // Rows and columns after the last window, that nothing reads.
  for (const int layout : layouts) {
    for (const int dtype : dtypes) {
      Case c = make_case(dtype, layout, 9, 12, 13, 3, 3);
      set_steps(c.p, 2, 1);
      c.p.pad_top = c.p.pad_left = 1;
      c.p.out_height = 2;
      c.p.out_width = 3;
      table.check(c);
    }
  }
}

// Sizes at which the work is cut: channels and rows into blocks that fit a cache, sums of the
// kernel's gradient into parts (csrc/kernels/tuning.h).
TEST(work_cut_into_blocks) {
  struct Size {
    int64_t batch, height, width, channels, multiplier, kernel_height, kernel_width, stride;
    int64_t dilation = 1;
  };
  constexpr Size sizes[] = {
      {1, 3, 150, 83, 1, 3, 3, 1},    {2, 4, 170, 45, 2, 3, 3, 2},
      {1, 2, 90, 300, 1, 3, 1, 1},    {1, 70, 40, 11, 1, 3, 3, 1},
      {9, 9, 5, 20, 1, 3, 3, 1},      {40, 2, 3, 5, 1, 2, 2, 1},
      {1, 150, 150, 1, 1, 3, 3, 1},   {1, 1, 9000, 4, 1, 1, 3, 1},
      {1, 2, 90000, 1, 1, 3, 1, 1},   {1, 2, 45000, 1, 2, 3, 2, 2},
      {1, 3, 10000, 1, 1, 27, 1, 1},  {1, 400, 3, 3, 1, 27, 2, 1},
      {1, 1, 1, 5000, 1, 1, 1, 1},    {1, 2, 2, 1100, 3, 2, 2, 1},
      {1, 14, 14, 40, 1, 27, 27, 1},  {1, 60, 61, 3, 4, 5, 5, 3},
      {1, 100, 90, 2, 1, 9, 9, 1},    {1, 80, 200, 1, 2, 15, 3, 2},
      {2, 70, 110, 2, 1, 3, 3, 1, 2}, {1, 50, 120, 17, 1, 3, 3, 2, 3},
  };
  Table table(70000);
  int turn = 0;
  for (const Size& s : sizes) {
    for (const int layout : layouts) {
      for (int i = 0; i < 2; ++i) {
        Case c = make_case(dtypes[(turn++ + i) % 4], layout, s.channels, s.height, s.width,
                           s.kernel_height, s.kernel_width);
        c.p.batch = s.batch;
        c.p.multiplier = s.multiplier;
        set_steps(c.p, s.stride, s.dilation);
        pad_by_half(c.p);
        table.check(c);
      }
    }
  }
}

// Images so wide, or kernels so tall, that the rows which a row of results needs would not fit a
// second-level cache: they are cut into blocks of columns, too, or left to kernels that cut planes.
TEST(scratch_fits_the_second_level_cache) {
  struct Size {
    int64_t height, width, channels, multiplier, kernel_height, kernel_width, stride;
    int64_t dilation = 1;
  };
  constexpr Size sizes[] = {
      {33, 1200, 6, 1, 31, 2, 1},    {33, 600, 17, 1, 31, 1, 1}, {64, 900, 6, 1, 31, 1, 2},
      {12, 2400, 6, 1, 9, 2, 1},     {10, 2500, 3, 2, 9, 2, 1},  {34, 1000, 6, 1, 11, 2, 1, 3},
      {3, 1500, 6, 1, 3, 3, 1, 400}, {40, 1300, 6, 1, 40, 2, 1}, {5, 6000, 6, 1, 5, 2, 1},
      {7, 7, 256, 1, 13, 13, 1},     {4, 4000, 6, 1, 3, 3, 3},   {33, 700, 6, 1, 31, 1, 1, 2},
      {5, 110, 512, 1, 3, 3, 1},     {3, 300, 512, 1, 3, 2, 1},
  };
  std::thread([&] {  // with a buffer of its own
    Table table(75000);
    int turn = 0;
    for (const Size& s : sizes) {
      for (const int layout : layouts) {
        Case c = make_case(dtypes[turn++ % 4], layout, s.channels, s.height, s.width,
                           s.kernel_height, s.kernel_width);
        c.p.multiplier = s.multiplier;
        set_steps(c.p, s.stride, s.dilation);
        pad_by_half(c.p);
        table.check(c);
        CHECK(thread_scratch_held() <= size_t{1} << 20);
      }
    }
  })
      .join();
}

// Images and results of 8 MiB and more: gradients ask for rows ahead, write past the caches, and go
// over blocks of columns, or of channels where there are too many.
TEST(gradients_from_memory) {
  struct Size {
    int dtype;
    int64_t height, width, channels, kernel_height, kernel_width, stride, dilation;
  };
  constexpr Size sizes[] = {
      {DEPTHWISE_FLOAT64, 8, 520, 130, 2, 2, 1, 1},  {DEPTHWISE_FLOAT64, 9, 480, 128, 2, 3, 1, 2},
      {DEPTHWISE_FLOAT64, 16, 560, 100, 3, 2, 2, 1}, {DEPTHWISE_FLOAT32, 8, 1060, 130, 2, 2, 1, 1},
      {DEPTHWISE_FLOAT64, 9, 20, 3000, 2, 2, 1, 1},
  };
  Table table(79000);
  for (const Size& s : sizes) {
    Case c = make_case(s.dtype, DEPTHWISE_CHANNELS_LAST, s.channels, s.height, s.width,
                       s.kernel_height, s.kernel_width);
    set_steps(c.p, s.stride, s.dilation);
    pad_by_half(c.p);
    table.check(c);
  }
}

// Kernels that reach over the whole row of the image from each column of a tile, or from some.
TEST(kernels_wider_than_the_image) {
  Table table(78000);
  int turn = 0;
  for (const int64_t dilation : {1, 2}) {
    for (int64_t columns = 3; columns <= 17; ++columns) {
      for (const int64_t more : {-3, -1, 0, 4}) {
        const int64_t width = std::max<int64_t>(1, 2 * columns / dilation + more);
        const int64_t height = 1 + turn % 5;
        Case c = make_case(dtypes[turn % 4], layouts[turn % 6 == 0], turn % 3 ? 19 : 33, height,
                           columns, 1 + turn % 4, width);
        set_steps(c.p, 1, dilation);
        c.p.multiplier = turn % 7 == 0 ? 2 : 1;
        pad_by_half(c.p);
        ++turn;
        table.check(c);
      }
    }
  }
}

int main(int argc, char** argv) {
  print_case_on_crash();
  return check::run_tests(argc, argv);
}
