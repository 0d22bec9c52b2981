// The kernel's gradient in registers, channels family: sums for a rectangle of taps over rows of
// outputs.
#ifndef DEPTHWISE_KERNELS_TAP_SUMS_H_
#define DEPTHWISE_KERNELS_TAP_SUMS_H_

#include "ahead.h"
#include "geometry.h"
#include "repeated.h"
#include "vec.h"

namespace depthwise::DW_ISA {

// Most taps of one kernel row, and most rows of them, that are summed at once: their sums, the
// gradients of a few columns and one element of the input have to fit the registers.
constexpr int gradient_columns = 8;

// Outputs that are added at once, each element of the input being loaded once for all of them.
constexpr int outputs_at_once = 4;

constexpr int gradient_rows_for(int columns) {
  const int fitting = (vector_registers - 6) / columns, square = columns == 1 ? 3 : columns;
  return fitting < 1 ? 1 : fitting < square ? fitting : square;
}

// Sums for a rectangle of taps, over `row_count` rows of outputs.
template <class A>
struct TapSums {
  const A* const* dz;  // a row of the output's gradient for each of them
  const A* const* x;   // and as many rows of the input as the rectangle has rows of taps
  int64_t row_count;
  int64_t x_pitch, z_pitch;
  Axis columns;
  int64_t tap;         // first tap of each row of taps
  int64_t classes;     // outputs so many columns apart are a whole number of taps apart
  int64_t channel;     // of the block's results
  int64_t channels;    // how many these are
  int64_t multiplier;  // results of each of the input's channels, which are repeated on loading
  A* partial;  // a vector per tap: `tap_pitch` apart, `row_pitch` from one row of taps to the next
  int64_t tap_pitch, row_pitch;
  A* bias;         // a vector for the outputs' own sum; null for none
  Asking* asking;  // told to ask once for every `outputs_at_once` outputs; null for none
};

// A row of outputs added to `sum`, in the order in which add_row() goes over them.
template <class V, class A>
DW_INLINE V plus_outputs(V sum, const A* dz, int64_t z_pitch, int64_t outputs, int64_t classes) {
  for (int64_t first = 0; first < min_of(classes, outputs); ++first) {
    for (int64_t w = first; w < outputs; w += classes) sum += load_as<V>(dz + w * z_pitch);
  }
  return sum;
}

// Adds `together` outputs, whose first elements of the input are `stride` elements apart: each
// element is loaded once for all the taps and outputs that it belongs to. With `clipped`, only the
// elements [begin, end) meet the input. The outputs' own sum, which the bias's gradient is made of,
// takes no loads here; where nobody wants it, one of many additions.
template <int together, int stride, bool clipped, class V, class A, int rows, int taps>
DW_INLINE void add_outputs(V (&sums)[rows][taps], V& sum, const A* const (&x)[rows], int64_t x_step,
                           const auto& element, const A* dz, int64_t z_step, int64_t begin,
                           int64_t end) {
  V g[together];
#pragma GCC unroll 8
  for (int u = 0; u < together; ++u) g[u] = load_as<V>(dz + u * z_step);
#pragma GCC unroll 8
  for (int u = 0; u < together; ++u) sum += g[u];
#pragma GCC unroll 32
  for (int c = 0; c < (together - 1) * stride + taps; ++c) {
    if constexpr (clipped) {
      if (c < begin || c >= end) continue;
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) {
      const V value = in_register(element(x[i] + c * x_step));
#pragma GCC unroll 8
      for (int u = 0; u < together; ++u) {
        const int q = c - u * stride;
        if (q >= 0 && q < taps) sums[i][q] = fma(value, g[u], sums[i][q]);
      }
    }
  }
}

// One row of outputs whose taps are elements apart as in add_outputs(): every `classes`-th output
// in turn, so that they are so with a dilation, too.
template <int stride, class V, class A, int rows, int taps>
DW_INLINE void add_row(V (&sums)[rows][taps], V& sum, const A* const (&x)[rows],
                       const auto& element, const A* dz, const TapSums<A>& s) {
  const Axis& a = s.columns;
  const int64_t tap = s.tap, classes = s.classes, x_pitch = s.x_pitch, z_pitch = s.z_pitch;
  const int64_t x_step = a.dilation * x_pitch, z_step = classes * z_pitch;
  for (int64_t first = 0; first < min_of(classes, a.out); ++first) {
    const int64_t count = ceil_div(a.out - first, classes);
    int64_t position = first * a.stride + tap * a.dilation - a.pad, k = 0;
    const A* g = dz + first * z_pitch;
    const auto go_on = [&](int64_t together) DW_INLINE_LAMBDA {
      position += together * stride * a.dilation;
      g += together * z_step;
      k += together;
    };
    // Outputs some of whose elements may be beside the input.
    const auto add = [&]<int together>() DW_INLINE_LAMBDA {
      constexpr int64_t reach = (together - 1) * stride + taps;
      const A* from[rows];
      for (int i = 0; i < rows; ++i) from[i] = x[i] + position * x_pitch;
      const int64_t begin = position >= 0 ? 0 : ceil_div(-position, a.dilation);
      const int64_t end = position >= a.in ? 0 : ceil_div(a.in - position, a.dilation);
      add_outputs<together, stride, true>(sums, sum, from, x_step, element, g, z_step, begin,
                                          min_of(end, reach));
      go_on(together);
    };
    // Groups that meet the input with all of their elements follow each other in a loop of their
    // own, which has sums and addresses in registers.
    constexpr int64_t reach = (outputs_at_once - 1) * stride + taps;
    const int64_t inside = a.in - (reach - 1) * a.dilation;
    const int64_t x_next = outputs_at_once * stride * x_step;
    while (k + outputs_at_once <= count) {
      if (position < 0 || position >= inside) {
        if (s.asking != nullptr) s.asking->ask_inline();
        add.template operator()<outputs_at_once>();
        continue;
      }
      const A* from[rows];
      for (int i = 0; i < rows; ++i) from[i] = x[i] + position * x_pitch;
      do {
        if (s.asking != nullptr) s.asking->ask_inline();
        add_outputs<outputs_at_once, stride, false>(sums, sum, from, x_step, element, g, z_step, 0,
                                                    reach);
        for (int i = 0; i < rows; ++i) from[i] += x_next;
        go_on(outputs_at_once);
      } while (k + outputs_at_once <= count && position < inside);
    }
    if (k + 2 <= count) add.template operator()<2>();
    if (k < count) add.template operator()<1>();
  }
}

// `stride` elements of the input from one output to the next, each a tap apart (1 to 3); 0 for any
// other stride and dilation, where each element is loaded once per tap. V: whole vectors or halves.
template <class V, int rows, int taps, int stride, Loading loading, class A>
[[gnu::noinline]] void add_taps(const TapSums<A>& given) {
  const TapSums<A> s = given;
  const Elements<loading, A> elements(s.channel, s.channels, s.multiplier);
  const auto element = [&](const A* at) DW_INLINE_LAMBDA {
    if constexpr (loading != Loading::as_stored) {
      return elements(at);
    } else {
      return load_as<V>(at);
    }
  };
  const Axis a = s.columns;
  const int64_t x_pitch = s.x_pitch, z_pitch = s.z_pitch;
  V sums[rows][taps];
  for (int i = 0; i < rows; ++i) {
    for (int q = 0; q < taps; ++q) {
      sums[i][q] = load_as<V>(s.partial + i * s.row_pitch + q * s.tap_pitch);
    }
  }
  V sum = s.bias != nullptr ? load_as<V>(s.bias) : V{};
  for (int64_t h = 0; h < s.row_count; ++h) {
    const A* x[rows];
    for (int i = 0; i < rows; ++i) x[i] = s.x[h * rows + i] + elements.offset;
    const A* const dz = s.dz[h] + s.channel;
    if constexpr (stride > 0) {
      add_row<stride>(sums, sum, x, element, dz, s);
    } else {
      if (s.bias != nullptr) sum = plus_outputs(sum, dz, z_pitch, a.out, s.classes);
#pragma GCC unroll 8
      for (int q = 0; q < taps; ++q) {
        const TapRange outputs = outputs_of_tap(a, s.tap + q);
        const int64_t shift = (s.tap + q) * a.dilation - a.pad;
        for (int64_t w = outputs.begin; w < outputs.end; ++w) {
          const V g = load_as<V>(dz + w * z_pitch);
          const int64_t at = (w * a.stride + shift) * x_pitch;
#pragma GCC unroll 8
          for (int i = 0; i < rows; ++i) sums[i][q] = fma(element(x[i] + at), g, sums[i][q]);
        }
      }
    }
  }
  for (int i = 0; i < rows; ++i) {
    for (int q = 0; q < taps; ++q) {
      store_as(s.partial + i * s.row_pitch + q * s.tap_pitch, sums[i][q]);
    }
  }
  if (s.bias != nullptr) store_as(s.bias, sum);
}

template <class A>
using TapSumsFunction = void (*)(const TapSums<A>&);

// For `taps` taps in a row: the function for as many rows as fit the registers, and for one.
template <class A>
struct TapSumsChoice {
  TapSumsFunction<A> many, one;
  int rows;
};

template <class V, int taps, int stride, Loading loading, class A>
inline constexpr TapSumsChoice<A> tap_sums_choice = {
    add_taps<V, gradient_rows_for(taps), taps, stride, loading, A>,
    add_taps<V, 1, taps, stride, loading, A>, gradient_rows_for(taps)};

template <class V, int stride, Loading loading, class A>
TapSumsChoice<A> choose_tap_sums(int64_t taps) {
  static constexpr TapSumsChoice<A> choices[gradient_columns] = {
      tap_sums_choice<V, 1, stride, loading, A>, tap_sums_choice<V, 2, stride, loading, A>,
      tap_sums_choice<V, 3, stride, loading, A>, tap_sums_choice<V, 4, stride, loading, A>,
      tap_sums_choice<V, 5, stride, loading, A>, tap_sums_choice<V, 6, stride, loading, A>,
      tap_sums_choice<V, 7, stride, loading, A>, tap_sums_choice<V, 8, stride, loading, A>,
  };
  return choices[taps - 1];
}

template <class V, Loading loading, class A>
TapSumsChoice<A> choose_tap_sums(const Axis& columns, int64_t taps) {
  const int64_t step = tap_classes(columns) * columns.stride;
  if (step == columns.dilation) return choose_tap_sums<V, 1, loading, A>(taps);
  if (step == 2 * columns.dilation) return choose_tap_sums<V, 2, loading, A>(taps);
  if (step == 3 * columns.dilation) return choose_tap_sums<V, 3, loading, A>(taps);
  return choose_tap_sums<V, 0, loading, A>(taps);
}

// Whether half vectors are summed as such. They take, whole vectors and halves on two cores of a
// Zen 4, in us: 281 and 270 for a training step of 3x3 on 150x150x24, 1241 and 1099 on 8 of
// 56x56x72.
template <class A>
constexpr bool sums_halves(const Axis& columns) {
  return has_half_vectors<A> && tap_classes(columns) * columns.stride <= 2 * columns.dilation;
}
template <class A>
TapSumsChoice<A> choose_tap_sums_of_halves(const Axis& columns, int64_t taps) {
  if (tap_classes(columns) * columns.stride == columns.dilation) {
    return choose_tap_sums<HalfVec<A>, 1, Loading::as_stored, A>(taps);
  }
  return choose_tap_sums<HalfVec<A>, 2, Loading::as_stored, A>(taps);
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_TAP_SUMS_H_
