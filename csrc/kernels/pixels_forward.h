// Forward pass of the pixels family: few channels side by side. Vectors run on from one column's
// channels to the next one's, so that no lane is empty.
#ifndef DEPTHWISE_KERNELS_PIXELS_FORWARD_H_
#define DEPTHWISE_KERNELS_PIXELS_FORWARD_H_

#include "channels_forward.h"
#include "pixels.h"

namespace depthwise::DW_ISA {

// Along channels a pixel takes a whole vector. Two cores of a Zen 5 took, along channels and along
// pixels, for 3x3 on 2 images of 56x56 with 5 channels 14.5 and 6.4 us, with 8 15.8 and 8, with 9
// 14.5 and 9.1, with 13 14.8 and 12.3; 7x7 with 9 35.8 and 33.4, with 13 36 and 46; at stride 2,
// where columns are moved one by one, 3x3 with 8 7.5 and 6.0, with 13 7.7 and 7.7; 9x9 with 7 25.6
// and 20.1, with 9 23.9 and 26.2. With 17 or 20, of two vectors, small images took longer.
template <class T>
bool takes_pixels(const depthwise_params& p) {
  using A = Compute<T>;
  const int64_t eighths = p.stride_width == 1 ? 5 : 4;
  const bool pays = 8 * p.channels * p.multiplier <= eighths * lanes<A>;
  if (p.layout != DEPTHWISE_CHANNELS_LAST || !pays) return false;
  // What does not fit would be staged over and over; rows and columns far apart are few.
  if (source_rows(p, pixel_tile_rows) > tuning::most_pixel_rows ||
      (p.kernel_width - 1) * p.dilation_width > 16 * (p.in_width + p.kernel_width)) {
    return false;
  }
  const PixelBlocks<A> blocks(p);
  return blocks.staged * blocks.row_elements() * static_cast<int64_t>(sizeof(A)) <=
         2 * tuning::staged_bytes;
}

// Rows of results that are `classes` rows apart, so that neighbours among them are a whole number
// of taps apart wherever they can be: `count` of them from `tile` on. Calls moved(t, rows) for
// the rows [t, t + rows) when they are made; where `keeps`, all are made in the same place.
template <class S>
void pixel_rows(PixelTile<S> tile, int64_t count, int64_t source_step, bool keeps, auto&& moved) {
  const PixelTile<S> first = tile;
  const auto run = [&]<int rows, int stride>(int64_t t) {
    tile.rows = first.rows + t * source_step;
    if (!keeps) {
      tile.out = first.out + t * first.out_row;
      if (first.preactivation != nullptr) {
        tile.preactivation = first.preactivation + t * first.preactivation_row;
      }
    }
    pixel_tile<rows, stride>(tile);
    moved(t, rows);
  };
  const auto some = [&]<int rows>(int64_t t) {
    if (source_step == tile.row_step) {
      run.template operator()<rows, 1>(t);
    } else if (source_step == 2 * tile.row_step) {
      run.template operator()<rows, 2>(t);
    } else {
      run.template operator()<rows, 3>(t);
    }
  };
  constexpr int whole = pixel_tile_rows, half = pixel_tile_rows / 2;
  if (source_step > 3 * tile.row_step || source_step % tile.row_step != 0 || count < half) {
    for (int64_t t = 0; t < count; ++t) run.template operator()<1, 1>(t);
    return;
  }
  int64_t t = 0;
  for (; t + whole <= count; t += whole) some.template operator()<whole>(t);
  // Rows that are left are made with some of those before them, once more.
  for (; t < count; t += half) some.template operator()<half>(min_of(t, count - half));
}

template <class T>
bool pixels_forward(const Call& call) {
  using A = Compute<T>;
  const depthwise_params& p = *call.params;
  PackedKernel<A> kernel;
  PackedBias<A> bias;
  PixelWeights<A> weights;
  CallMemory memory;
  if (!kernel.pack(static_cast<const T*>(call.kernel), p) ||
      !bias.pack(static_cast<const T*>(call.bias), p.channels * p.multiplier) ||
      !weights.make(kernel, bias.data, p) ||
      !memory.allocate(p.kernel_width * static_cast<int64_t>(sizeof(int64_t)))) {
    return false;
  }
  // What is not finite must not meet the zeros around the image.
  if (!kernel.is_finite(p)) return channels_forward<T>(call);

  const PixelBlocks<A> blocks(p);
  const int64_t column_blocks = ceil_div(p.out_width, blocks.columns);
  const int64_t block_rows =
      min_of(blocks.rows, row_block(p.out_height, p.batch * column_blocks, call.tasks));
  const int64_t row_blocks = ceil_div(p.out_height, block_rows);
  int64_t* const offsets = memory.as<int64_t>();
  for (int64_t j = 0; j < p.kernel_width; ++j) offsets[j] = blocks.offset_of(j);
  const auto is_dense = [&](const depthwise_image_strides& s) {
    return s.channel == 1 && s.column == blocks.pixel;
  };
  const bool in_place = is_dense(p.y) && (call.preactivation == nullptr || is_dense(p.saved));
  const ClampRange<A> clamp = clamp_range<A>(p.activation);

  return parallel(p.batch * row_blocks * column_blocks, call.threads, [&](int64_t task) {
    const int64_t column = task % column_blocks * blocks.columns;
    const int64_t begin = task / column_blocks % row_blocks * block_rows;
    const int64_t image = task / column_blocks / row_blocks;
    const int64_t results = min_of(block_rows, p.out_height - begin);
    const int64_t columns = min_of(blocks.columns, p.out_width - column);
    const int64_t length = columns * blocks.pixel;
    const int64_t count = source_rows(p, results), elements = blocks.row_elements();
    ScratchLayout scratch;
    const int64_t rows_at = scratch.add<const A*>(count);
    const int64_t zeros_at = scratch.add<A>(elements);
    const int64_t line_at = scratch.add<A>(p.multiplier > 1 ? blocks.phase_elements() : 0);
    const int64_t made_at = scratch.add<A>(in_place ? 0 : 2 * pixel_tile_rows * elements);
    const int64_t staged_at = scratch.add<A>(blocks.staged * elements);
    if (!scratch.allocate()) return false;

    const A** const rows = scratch.at<const A*>(rows_at);
    A* const zeros = scratch.at<A>(zeros_at);
    A* staged = scratch.at<A>(staged_at);
    const ImageView<T> x = image_at<T>(call.x, p.x, image, 0);
    const int64_t first = begin * p.stride_height - p.pad_top;
    const TapRange in = inside(first, 1, count, p.in_height);
    if (in.end - in.begin < count) fill_zero(zeros, elements);
    for (int64_t r = 0; r < count; ++r) {
      rows[r] = zeros;
      if (r < in.begin || r >= in.end) continue;
      stage_pixels(staged, p, x.data + (first + r) * x.row, blocks, column, scratch.at<A>(line_at));
      rows[r] = staged;
      staged += elements;
    }

    const TargetView<T> y = target_at<T>(call.y, p.y, image, 0);
    const TargetView<T> z = target_at<T>(call.preactivation, p.saved, image, 0);
    const Axis axis{p.in_height,     results,           p.kernel_height,
                    p.stride_height, p.dilation_height, p.pad_top};
    const int64_t classes = forward_classes(axis, pixel_tile_rows / 2);
    const auto make = [&]<class S>(int64_t h, S* out, int64_t out_row, S* preactivation,
                                   int64_t preactivation_row, bool keeps, auto&& moved) {
      PixelTile<S> tile{};
      tile.rows = rows + h * p.stride_height;
      tile.row_step = p.dilation_height;
      tile.taps = p.kernel_height;
      tile.per_row = p.kernel_width;
      tile.offsets = offsets;
      tile.weights = weights.weights();
      tile.weights_row = p.kernel_width * weights.tap;
      tile.weights_tap = weights.tap;
      tile.bias = weights.bias();
      tile.pixel = blocks.pixel;
      tile.length = length;
      tile.out = out;
      tile.out_row = out_row;
      tile.preactivation = preactivation;
      tile.preactivation_row = preactivation_row;
      tile.clamp_to = clamp;
      tile.activation = p.activation;
      tile.alpha = static_cast<A>(p.alpha);
      pixel_rows(tile, ceil_div(results - h, classes), classes * p.stride_height, keeps, moved);
    };
    for (int64_t h = 0; h < min_of(classes, results); ++h) {
      const int64_t row = begin + h;
      const auto place = [&](const TargetView<T>& target, int64_t at) {
        return target.data == nullptr ? nullptr
                                      : target.data + at * target.row + column * target.column;
      };
      if (in_place) {
        make(h, place(y, row), classes * y.row, place(z, row), classes * z.row, false,
             [](int64_t, int64_t) {});
        continue;
      }
      A* const y_rows = scratch.at<A>(made_at);
      A* const z_rows = y_rows + pixel_tile_rows * elements;
      const auto move = [&](const TargetView<T>& target, const A* from, int64_t at) {
        for (int64_t w = 0; w < columns; ++w) {
          convert_back(place(target, at) + w * target.column, target.channel,
                       from + w * blocks.pixel, blocks.pixel);
        }
      };
      make(h, y_rows, elements, z.data != nullptr ? z_rows : nullptr, elements, true,
           [&](int64_t t, int64_t made) {
             for (int64_t i = 0; i < made; ++i) {
               move(y, y_rows + i * elements, row + (t + i) * classes);
               if (z.data != nullptr) move(z, z_rows + i * elements, row + (t + i) * classes);
             }
           });
    }
    return true;
  });
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_PIXELS_FORWARD_H_
