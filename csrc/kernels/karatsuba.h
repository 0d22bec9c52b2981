// Two taps and two results at a time with three products instead of four, along rows and along
// columns: what the karatsuba family is made of. With e and o the elements at even and odd places,
// v and w the even and odd taps, correlations are
//
//   even results:  e * v + o * w           =  (e - o) * v  +  o * (v + w)
//   odd results:   o * v + e' * w          =  (e' - o) * w  +  o * (v + w)
//
// where e' is e from its second element on. So three convolutions of half as many results and taps
// do the work of four. (The minimal algorithm F(2, 2) of Winograd 1980, which is Karatsuba's
// product transposed, over polynomials in steps of two taps, as Mou and Duhamel 1991 use it for
// filters of any length.) Along both axes nine do the work of sixteen.
#ifndef DEPTHWISE_KERNELS_KARATSUBA_H_
#define DEPTHWISE_KERNELS_KARATSUBA_H_

#include "channels_convolution.h"

namespace depthwise::DW_ISA {

// The three products of one axis: (e - o) * v, o * (v + w) and (e' - o) * w.
enum Product { even_product, shared_product, odd_product };
constexpr Product products[] = {shared_product, even_product, odd_product};

// Elements a product is made of, one subtracted from the other, or one alone. -1: none.
struct Pair {
  int64_t first, second;
};

// One axis of a convolution of stride and dilation 1, of which a block makes `out` results; result
// t and tap q meet at place t + q, which is element t + q + shift of the source.
struct SplitAxis {
  int64_t out, taps, extent, shift;

  int64_t results(Product product) const {
    return product == odd_product ? out / 2 : ceil_div(out, 2);
  }
  int64_t halves(Product product) const {
    return product == odd_product ? taps / 2 : ceil_div(taps, 2);
  }
  // Elements that a product's results and taps reach.
  int64_t reach(Product product) const { return max_of(0, results(product) + halves(product) - 1); }
  int64_t most_reach() const { return reach(shared_product); }

  // Which of the source make element u of a product's.
  Pair elements(Product product, int64_t u) const {
    const auto element = [&](int64_t place) {
      const int64_t at = place + shift;
      return at >= 0 && at < extent ? at : -1;
    };
    switch (product) {
      case even_product:
        return {element(2 * u), element(2 * u + 1)};
      case shared_product:
        return {element(2 * u + 1), -1};
      default:
        return {element(2 * u + 2), element(2 * u + 1)};
    }
  }
  // Which taps make tap r of a product's: their sum.
  Pair tap(Product product, int64_t r) const {
    switch (product) {
      case even_product:
        return {2 * r, -1};
      case shared_product:
        return {2 * r, 2 * r + 1 < taps ? 2 * r + 1 : -1};
      default:
        return {2 * r + 1, -1};
    }
  }
  // Elements of a product's that meet the source.
  TapRange meeting(Product product) const {
    const int64_t first = product == even_product ? 0 : 1, last = product == odd_product ? 2 : 1;
    const int64_t all = reach(product);
    const int64_t begin = min_of(all, max_of(0, -shift - last + 1) / 2);
    const int64_t end = extent - shift - first <= 0 ? 0 : (extent - shift - first + 1) / 2;
    return {begin, max_of(begin, min_of(all, end))};
  }
  // The results of a product, from its elements [range.begin, range.end) alone.
  AxisPlan plan(Product product, TapRange range) const {
    AxisPlan plan{};
    plan.count = results(product);
    plan.taps = halves(product);
    plan.extent = range.end - range.begin;
    plan.position = -range.begin;
    plan.result_step = plan.tap_step = plan.kernel_step = plan.target_step = 1;
    plan.find_full();
    return plan;
  }
};

// Places of a block's channels, side by side: rows of `row` places of `pitch` elements, which are
// whole vectors.
template <class A>
struct Places {
  A* data;
  int64_t row, pitch;

  A* at(int64_t i, int64_t j) const { return data + (i * row + j) * pitch; }
};

// `count` places, `step` elements apart: those at `first` less those at `second`, which are
// `from_step` apart. Either may be null, for zeros.
template <class A>
DW_INLINE void subtract(A* to, int64_t step, const A* first, const A* second, int64_t from_step,
                        int64_t count, int64_t pitch) {
  for (int64_t c = 0; c < pitch; c += lanes<A>) {
    const auto each = [&](auto&& difference) DW_INLINE_LAMBDA {
      for (int64_t i = 0; i < count; ++i) {
        store(to + i * step + c, difference(i * from_step + c));
      }
    };
    if (first == nullptr && second == nullptr) {
      each([](int64_t) DW_INLINE_LAMBDA { return zero<A>(); });
    } else if (second == nullptr) {
      each([&](int64_t at) DW_INLINE_LAMBDA { return load(first + at); });
    } else if (first == nullptr) {
      each([&](int64_t at) DW_INLINE_LAMBDA { return -load(second + at); });
    } else {
      each([&](int64_t at) DW_INLINE_LAMBDA { return load(first + at) - load(second + at); });
    }
  }
}

// A row of a product's elements: those in `range` of the row's, and zeros up to those in `all`.
template <class A>
void split_row(A* to, const A* row, int64_t pitch, const SplitAxis& columns, Product product,
               TapRange range, TapRange all) {
  const auto make = [&](int64_t begin, int64_t end) {
    const Pair pair = columns.elements(product, begin);
    const A* const first = pair.first < 0 ? nullptr : row + pair.first * pitch;
    const A* const second = pair.second < 0 ? nullptr : row + pair.second * pitch;
    subtract(to + (begin - all.begin) * pitch, pitch, first, second, 2 * pitch, end - begin, pitch);
  };
  const A* const none = nullptr;
  subtract(to, pitch, none, none, 0, range.begin - all.begin, pitch);
  // At either end one of two elements may be missing.
  const int64_t inner = min_of(range.begin + 1, range.end), last = max_of(inner, range.end - 1);
  make(range.begin, inner);
  if (inner < last) make(inner, last);
  if (last < range.end) make(last, range.end);
  subtract(to + (range.end - all.begin) * pitch, pitch, none, none, 0, all.end - range.end, pitch);
}

// The taps of a product of rows and one of columns: every second one of the kernel's where neither
// is the shared product, else sums, which go to `room`.
template <class A>
struct SplitKernel {
  const A* data;
  int64_t row, column;
};
template <class A>
SplitKernel<A> split_taps(const PackedKernel<A>& kernel, int64_t pitch, const SplitAxis& rows,
                          Product row_product, const SplitAxis& columns, Product column_product,
                          A* room) {
  const Pair row_taps = rows.tap(row_product, 0), column_taps = columns.tap(column_product, 0);
  if (row_product != shared_product && column_product != shared_product) {
    return {kernel.data + row_taps.first * kernel.row + column_taps.first * kernel.column,
            2 * kernel.row, 2 * kernel.column};
  }
  const int64_t height = rows.halves(row_product), width = columns.halves(column_product);
  A* to = room;
  for (int64_t r = 0; r < height; ++r) {
    const Pair row = rows.tap(row_product, r);
    for (int64_t s = 0; s < width; ++s, to += pitch) {
      const Pair column = columns.tap(column_product, s);
      for (int64_t c = 0; c < pitch; c += lanes<A>) {
        const auto of_row = [&](int64_t i) DW_INLINE_LAMBDA {
          const A* const from = kernel.data + i * kernel.row + c;
          const Vec<A> first = load(from + column.first * kernel.column);
          return column.second < 0 ? first : first + load(from + column.second * kernel.column);
        };
        store(to + c, row.second < 0 ? of_row(row.first) : of_row(row.first) + of_row(row.second));
      }
    }
  }
  return {room, width * pitch, pitch};
}

// Adds a row of a product's results to the columns that it belongs to.
template <class A>
void add_results(A* sums, const A* results, int64_t pitch, const SplitAxis& columns,
                 Product product) {
  const auto add = [&](A* to, int64_t count) {
    for (int64_t c = 0; c < pitch; c += lanes<A>) {
      for (int64_t t = 0; t < count; ++t) {
        A* const sum = to + 2 * t * pitch + c;
        store(sum, load(sum) + load(results + t * pitch + c));
      }
    }
  };
  if (product != odd_product) add(sums, columns.results(even_product));
  if (product != even_product) add(sums + pitch, columns.results(odd_product));
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_KARATSUBA_H_
