// Which of a type's kernels takes a call, and the table's entries of one type.
#ifndef DEPTHWISE_KERNELS_CHOICE_H_
#define DEPTHWISE_KERNELS_CHOICE_H_

#include "channels_forward.h"
#include "channels_input_gradient.h"
#include "channels_kernel_gradient.h"
#include "columns_forward.h"
#include "columns_input_gradient.h"
#include "columns_kernel_gradient.h"
#include "karatsuba_kernel_gradient.h"
#include "pixels_forward.h"
#include "scale_forward.h"
#include "strips_forward.h"
#include "table.h"
#include "turned.h"

namespace depthwise::DW_ISA {

// With few channels side by side most of a vector would be empty; each plane is then worked on by
// itself, its elements picked from between the others. Two cores of a Zen 4 took for training steps
// plane by plane and along channels, in us, for 3x3 on 60x60x6 94 and 52, on 60x60x5 49 and 39, on
// 60x60x4 34 and 36, on 60x60x3 28 and 37, for 2x2 on 16 of 35x35x5 192 and 134, for 5x5 on 4 of
// 112x112x6 690 and 658, on 4 of 112x112x5 515 and 615, for 7x7 on 60x60x6 90 and 94, on 60x60x5 86
// and 92.
template <class T>
bool takes_interleaved(const depthwise_params& p) {
  const int64_t least = p.kernel_height * p.kernel_width < 25 ? 5 : 6;  // of 16 lanes
  return 16 * p.channels * p.multiplier >= least * lanes<Compute<T>>;
}
// Planes are transposed for vectors along channels, unless vectors along columns are fuller by more
// than transposing costs: two cores of a Zen 5 took for 3x3 on 128x128x17 47 us plane by plane and
// 94 along channels, on 60x60x40 25 and 33, on 56x56x128 83 and 78, at stride 2 on 61x61x41 24 and
// 20; for 11x11 on 60x60x40 211 and 137. With a multiplier several results share what a stride
// costs along columns, and there are more to transpose back: 3x3 at stride 2 on 112x112x20 by 2 37
// and 42, training 131 and 182; 3x3 on 62x62x32 by 2 32 and 46, training 151 and 164, by 4 71 and
// 83, on 64x64x32 by 2 39 and 62. With more taps that matters less: 5x5 on 62x62x32 by 2 71 and 73,
// training 347 and 258.
inline bool columns_are_fuller(const depthwise_params& p, const Axis& along, int64_t n) {
  const int64_t by_columns = p.channels * ceil_div(along.out, n);
  const int64_t by_channels = along.out * ceil_div(p.channels, n);
  if (p.multiplier == 1) return 10 * along.stride * by_columns <= 9 * by_channels;
  const int64_t tenths = p.kernel_height * p.kernel_width < 16 ? 11 : 9;
  return 10 * by_columns <= tenths * by_channels;
}
// The forward pass of many adjacent taps goes plane by plane where vectors along columns are about
// as full: staging a plane takes less than transposing it. Two cores of a Zen 4 took, transposed
// and so, for 7x7 on 64x64x64 187 us and 141, on 32x32x256 194 and 158, on 112x112x64 503 and 421,
// on 61x61x128 293 and 278, for 9x9 on 64x64x128 523 and 445; but for 6x6 on 60x60x128 227 and 231,
// for 7x7 on 56x56x96 178 and 185, on 28x28x192 89 and 104. An odd vector, whose tiles are slower,
// and few rows, which have many staged above and below, do not pay: 11x5 without padding on 8 of
// 20x20x313 took 299 and 588, 7x7 on 16x16x128 25 and 30, 6x6 on 4 of 16x16x320 143 and 279, on
// 46x46x96 99 and 123, on 78x78x64 186 and 206, 7x7 on 5x64x200 36 and 41, on 14x48x128 54 and 61.
template <class T>
bool takes_adjacent(const depthwise_params& p) {
  constexpr int64_t n = lanes<Compute<T>>;
  const bool adjacent = p.stride_height == 1 && p.stride_width == 1 && p.dilation_height == 1 &&
                        p.dilation_width == 1;
  const int64_t vectors = ceil_div(p.out_width, n);
  const int64_t quarters = p.channels * (4 * vectors + vectors % 2);
  const int64_t by_channels = p.out_width * ceil_div(p.channels, n);
  return p.layout == DEPTHWISE_CHANNELS_FIRST && p.multiplier == 1 && adjacent &&
         p.out_width >= n && p.out_height >= 20 && p.kernel_height > 1 &&
         p.kernel_height * p.kernel_width >= 36 && 5 * quarters <= 21 * by_channels;
}
// Channels that fill no vector are worth it where planes are narrow, so that vectors along columns
// would be even emptier, or slow: training steps of 10x10 on 13 images of 19x19x15 took one core of
// a Zen 5 536 us plane by plane and 280 along channels, of 3x3 at stride 3 on 7 of 90x90x9 524 and
// 269, of 8x8 on 122x122x14 699 and 434; of 3x3 on 4 of 46x46x12 97 and 110, of 11x11 on 15 of
// 63x63x8 967 and 1106.
// With a multiplier a plane that is staged serves several, and long rows of it are faster where
// transposed ones are staged in copies, or their channels fill no vector. Two cores took for 3x3 at
// stride 3 of 10 times 5x5x781 by 3 1489 us plane by plane and 189 along channels, for 5x5 of
// 7x7x128 by 4 49 and 16, for 3x3 of 20x20x40 by 2 9.9 and 9.9, of 32x32x24 by 3 12 and 22; for
// training steps 8133 and 445, 206 and 58, 41 and 39, 55 and 66. 9x9 of 17x17x12 by 2 took 14.3
// and 9.1, 5x5 of 2 of 90x20x10 by 2 48 and 64. Without copies 3x3 of 112x112x64 by 4 took 456 and
// 422, training 3137 and 2124, of 40x40x64 by 2 139 and 130; 7x7 of 30x30x128 by 2 542 and 319.
// Where rows are narrow, results fill vectors that channels do not: one core of a Zen 4 took plane
// by plane and along channels for 11x3 at stride 2 and dilation 2 of 8 of 10x10x9 by 4 76 and 9,
// training 266 and 50; for training steps of 3x3 of 10x10x9 by 2 17 and 10, of 10x10x4 by 4 15 and
// 9, of 20x20x4 by 2 15 and 19, at stride 3 of 60x60x4 by 4 40 and 83, of 60x60x8 by 4 73 and 65.
template <class T>
bool takes_planes(const depthwise_params& p) {
  constexpr int64_t n = lanes<Compute<T>>;
  const Axis along = turning_pays(p, n) ? row_axis(p) : column_axis(p);
  const bool is_wide = 2 * along.out > 3 * n;
  if (p.multiplier > 1 && is_wide &&
      (p.channels < n || !repeats_on_load<Compute<T>>(p.multiplier))) {
    return false;
  }
  const bool narrow = 3 * along.out < 2 * round_up(along.out, n) || along.stride >= 3;
  const bool many_taps = p.kernel_height * p.kernel_width >= 64;
  if (p.channels >= n) {
    return (p.multiplier > 1 && !is_wide) || narrow || many_taps ||
           !columns_are_fuller(p, along, n);
  }
  if (p.multiplier > 1 && narrow && p.channels * p.multiplier >= n) {
    if (along.stride < 3 || 2 * p.channels >= n) return true;
  }
  return (narrow && p.multiplier == 1 && 2 * p.channels >= n) ||
         ((narrow || many_taps) && 4 * p.channels >= 3 * n);
}
// Kernels that reach so far both ways that no block of columns fits the scratch are left to the
// columns family, whose blocks are of planes.
template <class T>
bool cuts_columns(const depthwise_params& p) {
  using A = Compute<T>;
  return can_cut_columns<A>(p, forward_bytes<A>(p)) &&
         can_cut_columns<A>(p, input_gradient_bytes<A>(p)) &&
         can_cut_columns<A>(p, kernel_gradient_bytes<A>(p));
}
template <class T>
bool takes_channels(const depthwise_params& p) {
  if (!cuts_columns<T>(p)) return false;
  return p.layout == DEPTHWISE_CHANNELS_FIRST ? takes_planes<T>(p) : takes_interleaved<T>(p);
}
// Where rows of results are shorter than a dense tile, columns take their place. Images whose
// channels are planes would have to be transposed for that. Two cores of a Zen 5 took for 3x3 on
// 60x3x64 6.7 us by rows and 4.4 by columns, for 8x8 without padding on 5 of 83x8x22 46 and 10, for
// 7x7 on 56x8x960 83 and 42, for 4x7 at stride 3 on 2 of 92x10x702 137 and 140; for training steps
// 26 and 23, 175 and 52, 377 and 197, 756 and 661.
inline bool has_short_rows(const depthwise_params& p) {
  return p.layout == DEPTHWISE_CHANNELS_LAST && p.out_width < least_tile_columns &&
         p.out_height >= 2 * least_tile_columns;
}
// Whether planes are worked on with rows and columns exchanged.
template <class T>
bool has_narrow_planes(const depthwise_params& p) {
  return turning_pays(p, lanes<Compute<T>>);
}
// A dilation (or padding) out of all proportion to the image would make a staged plane mostly
// empty.
inline bool takes_columns(const depthwise_params& p) {
  const auto in_proportion = [](const Axis& a) {
    return (a.kernel - 1) * a.dilation <= 16 * (a.in + a.kernel);
  };
  return in_proportion(row_axis(p)) && in_proportion(column_axis(p));
}
// Both gradients in one pass: rows of the output's gradient between two parts are staged twice.
template <class T>
bool takes_gradients(const depthwise_params& p) {
  return takes_channels<T>(p) && !has_short_rows(p) && !takes_karatsuba_gradients<T>(p) &&
         gradients_fit<Compute<T>>(p) &&
         (p.kernel_height - 1) * p.dilation_height / p.stride_height <=
             tuning::most_shared_halo_rows;
}
inline bool takes_all(const depthwise_params&) { return true; }

// Elements of a table, in order of preference.
#define DW_FAMILY(family, T, dtype, accepts, kernel)                                        \
  {#family "_forward_" dtype, Direction::forward, accepts, kernel(family##_forward<T>, T)}, \
      {#family "_input_gradient_" dtype, Direction::input_gradient, accepts,                \
       kernel(family##_input_gradient<T>, T)},                                              \
  {                                                                                         \
    #family "_kernel_gradient_" dtype, Direction::kernel_gradient, accepts,                 \
        kernel(family##_kernel_gradient<T>, T)                                              \
  }
#define DW_CHANNELS(kernel, T) along_longer<kernel, has_short_rows>
#define DW_COLUMNS(kernel, T) along_longer<kernel, has_narrow_planes<T>>
#define DW_KERNELS(T, dtype)                                                                       \
  {"scale_forward_" dtype, Direction::forward, takes_scale<T>, scale_forward<T>},                  \
      {"pixels_forward_" dtype, Direction::forward, takes_pixels<T>, pixels_forward<T>},           \
      {"karatsuba_forward_" dtype, Direction::forward, takes_karatsuba<T>, karatsuba_forward<T>},  \
      {"columns_forward_" dtype "_in_place", Direction::forward, takes_strips<T>,                  \
       strips_forward<T>},                                                                         \
      {"columns_forward_" dtype "_adjacent", Direction::forward, takes_adjacent<T>,                \
       columns_forward<T>},                                                                        \
      {"karatsuba_input_gradient_" dtype, Direction::input_gradient, takes_karatsuba_gradients<T>, \
       karatsuba_input_gradient<T>},                                                               \
      {"karatsuba_kernel_gradient_" dtype, Direction::kernel_gradient,                             \
       takes_karatsuba_gradients<T>, karatsuba_kernel_gradient<T>},                                \
      {"channels_gradients_" dtype, Direction::gradients, takes_gradients<T>,                      \
       channels_gradients<T>},                                                                     \
      DW_FAMILY(channels, T, dtype, takes_channels<T>, DW_CHANNELS),                               \
      DW_FAMILY(columns, T, dtype, takes_columns, DW_COLUMNS),                                     \
      DW_FAMILY(channels, T, dtype "_any", takes_all, DW_CHANNELS)

template <int count>
KernelSet set_of(const Kernel (&table)[count]) {
  return {table, count};
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_CHOICE_H_
