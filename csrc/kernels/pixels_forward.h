// Forward pass of the pixels family: few channels side by side. Vectors run on from one column's
// channels to the next one's, so that no lane is empty.
#ifndef DEPTHWISE_KERNELS_PIXELS_FORWARD_H_
#define DEPTHWISE_KERNELS_PIXELS_FORWARD_H_

#include "channels_forward.h"
#include "pixels.h"

namespace depthwise::DW_ISA {

// Along channels a pixel takes a whole vector, or two. Two cores of a Zen 5 took, along channels
// and along pixels, for 3x3 on 2 images of 56x56 with 5 channels 14.5 and 6.4 us, with 8 15.8 and
// 8; at stride 2, where columns are moved one by one, 3x3 with 8 7.5 and 6.0; 9x9 with 7 25.6
// and 20.1. Two of a Zen 4, whose vectors take two steps, for 3x3 on 60x60 with 11 channels 13.0
// and 9.6, with 14 13.0 and 10.8, for 7x7 with 12 35.4 and 27.3, for 5x5 on 5 of 130x130x11 412 and
// 328; at stride 2 on 60x60x9 11.0 and 9.7, 7x7 on 112x112x11 40.6 and 43.9; for 5x5 on 60x60x20 31
// and 25, for 9x9 on 60x60x17 88 and 59, but for 3x3 on 112x112x17 45 and 50, for 5x5 on
// 28x28x24 8.2 and 9.1. With few rows tiles are half empty: 5x5 on 10x80x13 7.1 and 8.7, on
// 14x14x20 3.6 and 4.4, on 14x56x12 7.2 and 6.6.
template <class T>
bool pixels_pay(const depthwise_params& p) {
  constexpr int64_t n = lanes<Compute<T>>;
  const int64_t pixel = p.channels * p.multiplier;
  const int64_t most = p.stride_width == 1 ? 7 : 6;  // eighths of a vector
  const int64_t rows = p.out_height / tap_classes(row_axis(p));
  if (8 * pixel <= (rows >= 12 ? most : most - 2) * n) return true;
  const bool many_taps = p.kernel_height * p.kernel_width >= 20;
  return p.stride_width == 1 && rows >= 16 && many_taps && pixel > n && 4 * pixel <= 5 * n;
}
template <class T>
bool takes_pixels(const depthwise_params& p) {
  using A = Compute<T>;
  if (p.layout != DEPTHWISE_CHANNELS_LAST || !pixels_pay<T>(p)) return false;
  // What does not fit would be staged over and over; rows and columns far apart are few.
  if (source_rows(p, pixel_block_rows(p)) > tuning::most_pixel_rows ||
      (p.kernel_width - 1) * p.dilation_width > 16 * (p.in_width + p.kernel_width)) {
    return false;
  }
  const PixelBlocks<A> blocks(p);
  return blocks.staged * blocks.row_elements() * static_cast<int64_t>(sizeof(A)) <=
         2 * tuning::staged_bytes;
}

// `count` rows of results from that of `tile` on, `source_step` rows of the source apart. Calls
// made(t, rows) when rows [t, t + rows) of them are there; with `stays`, always where `tile` says.
template <class S>
void pixel_rows(PixelTile<S> tile, int64_t count, int64_t source_step, bool stays, auto&& made) {
  const PixelTile<S> first = tile;
  const auto run = [&]<int rows, int stride>(int64_t t) {
    tile.rows = first.rows + t * source_step;
    if (!stays) {
      tile.out = first.out + t * first.out_row;
      if (first.preactivation != nullptr) {
        tile.preactivation = first.preactivation + t * first.preactivation_row;
      }
    }
    pixel_tile<rows, stride>(tile);
    made(t, rows);
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

// Rows of results from `begin` on, of the columns from `column` on.
struct PixelBlock {
  int64_t begin, rows, column, columns;
};

// Stages the rows of an image that a block needs, and puts into `rows` where they are, those
// outside of the image among them: these are all `zeros`.
template <class T>
void stage_block(const Compute<T>** rows, Compute<T>* staged, Compute<T>* zeros, Compute<T>* line,
                 const depthwise_params& p, const ImageView<T>& x,
                 const PixelBlocks<Compute<T>>& blocks, const PixelBlock& block) {
  const int64_t first = block.begin * p.stride_height - p.pad_top;
  const int64_t count = source_rows(p, block.rows);
  const TapRange in = inside(first, 1, count, p.in_height);
  if (in.end - in.begin < count) fill_zero(zeros, blocks.row_elements());
  for (int64_t r = 0; r < count; ++r) {
    const bool meets = r >= in.begin && r < in.end;
    rows[r] = meets ? staged + (r - in.begin) * blocks.row_elements() : zeros;
  }
  const int64_t meeting = in.end - in.begin;
  if (meeting == 0) return;
  stage_pixels(staged, p, x.data + (first + in.begin) * x.row, meeting, blocks, block.column, line);
}

// The results of a block in their place, from rows that are staged; `tile` has what all blocks
// have in common.
template <class T>
void make_pixels(PixelTile<T> tile, const depthwise_params& p, const PixelBlock& block,
                 const Compute<T>* const* rows, int64_t classes, const TargetView<T>& y,
                 const TargetView<T>& z) {
  tile.out_row = classes * y.row;
  tile.preactivation_row = classes * z.row;
  for (int64_t k = 0; k < min_of(classes, block.rows); ++k) {
    const int64_t h = block.begin + k;
    tile.rows = rows + k * p.stride_height;
    tile.out = y.data + h * y.row + block.column * y.column;
    if (z.data != nullptr) tile.preactivation = z.data + h * z.row + block.column * z.column;
    pixel_rows(tile, ceil_div(block.rows - k, classes), classes * p.stride_height, false,
               [](int64_t, int64_t) {});
  }
}

// Where results are no runs: made in scratch, a tile's rows `made_row` apart, then moved.
template <class T>
void make_pixels_apart(PixelTile<Compute<T>> tile, const depthwise_params& p,
                       const PixelBlock& block, const Compute<T>* const* rows, int64_t classes,
                       const TargetView<T>& y, const TargetView<T>& z, Compute<T>* made,
                       int64_t made_row) {
  using A = Compute<T>;
  A* const z_made = made + pixel_tile_rows * made_row;
  tile.out = made;
  tile.out_row = tile.preactivation_row = made_row;
  if (z.data != nullptr) tile.preactivation = z_made;
  const auto move = [&](const TargetView<T>& target, int64_t h, const A* from) {
    T* const to = target.data + h * target.row + block.column * target.column;
    for (int64_t w = 0; w < block.columns; ++w) {
      convert_back(to + w * target.column, target.channel, from + w * tile.pixel, tile.pixel);
    }
  };
  for (int64_t k = 0; k < min_of(classes, block.rows); ++k) {
    tile.rows = rows + k * p.stride_height;
    const auto moved = [&](int64_t t, int64_t count) {
      for (int64_t i = 0; i < count; ++i) {
        const int64_t h = block.begin + k + (t + i) * classes;
        move(y, h, made + i * made_row);
        if (z.data != nullptr) move(z, h, z_made + i * made_row);
      }
    };
    pixel_rows(tile, ceil_div(block.rows - k, classes), classes * p.stride_height, true, moved);
  }
}

template <class T>
bool pixels_forward(const Call& call) {
  using A = Compute<T>;
  const depthwise_params& p = *call.params;
  PackedKernel<A> kernel;
  PackedBias<A> bias;
  PixelWeights<A> weights;
  CallMemory memory;
  if (!kernel.pack(static_cast<const T*>(call.kernel), p, call.threads)) return false;
  // What is not finite must not meet the zeros around the image.
  if (!kernel.is_finite(p, call.threads)) return channels_forward<T>(call);
  if (!bias.pack(static_cast<const T*>(call.bias), p.channels * p.multiplier) ||
      !weights.make(kernel, bias.data, p) ||
      !memory.allocate(p.kernel_width * static_cast<int64_t>(sizeof(int64_t)))) {
    return false;
  }

  PixelBlocks<A> blocks(p);
  blocks.share(p, call.tasks, call.threads);
  const int64_t column_blocks = ceil_div(p.out_width, blocks.columns);
  const int64_t row_blocks = ceil_div(p.out_height, blocks.rows);
  int64_t* const offsets = memory.as<int64_t>();
  for (int64_t j = 0; j < p.kernel_width; ++j) offsets[j] = blocks.offset_of(j);
  const auto is_dense = [&](const depthwise_image_strides& s) {
    return s.channel == 1 && s.column == blocks.pixel;
  };
  const bool in_place = is_dense(p.y) && (call.preactivation == nullptr || is_dense(p.saved));
  const auto tile_of = [&]<class S>(int64_t columns) {
    PixelTile<S> tile{};
    tile.row_step = p.dilation_height;
    tile.taps = p.kernel_height;
    tile.per_row = p.kernel_width;
    tile.offsets = offsets;
    tile.weights = weights.weights();
    tile.weights_row = p.kernel_width * weights.tap;
    tile.weights_tap = weights.tap;
    tile.bias = weights.bias();
    tile.pixel = blocks.pixel;
    tile.length = columns * blocks.pixel;
    tile.clamp_to = clamp_range<A>(p.activation);
    tile.activation = p.activation;
    tile.alpha = static_cast<A>(p.alpha);
    return tile;
  };

  return parallel(p.batch * row_blocks * column_blocks, call.threads, [&](int64_t task) {
    PixelBlock block{};
    block.column = task % column_blocks * blocks.columns;
    block.columns = min_of(blocks.columns, p.out_width - block.column);
    block.begin = task / column_blocks % row_blocks * blocks.rows;
    block.rows = min_of(blocks.rows, p.out_height - block.begin);
    const int64_t image = task / column_blocks / row_blocks, elements = blocks.row_elements();
    ScratchLayout scratch;
    const int64_t rows_at = scratch.add<const A*>(source_rows(p, block.rows));
    const int64_t zeros_at = scratch.add<A>(elements);
    const int64_t line_at = scratch.add<A>(p.multiplier > 1 ? blocks.phase_elements() : 0);
    const int64_t made_at = scratch.add<A>(in_place ? 0 : 2 * pixel_tile_rows * elements);
    const int64_t staged_at = scratch.add<A>(blocks.staged * elements);
    if (!scratch.allocate()) return false;

    const A** const rows = scratch.at<const A*>(rows_at);
    stage_block(rows, scratch.at<A>(staged_at), scratch.at<A>(zeros_at), scratch.at<A>(line_at), p,
                image_at<T>(call.x, p.x, image, 0), blocks, block);
    const Axis axis{p.in_height,     block.rows,        p.kernel_height,
                    p.stride_height, p.dilation_height, p.pad_top};
    const int64_t classes = forward_classes(axis, pixel_tile_rows / 2);
    const TargetView<T> y = target_at<T>(call.y, p.y, image, 0);
    const TargetView<T> z = target_at<T>(call.preactivation, p.saved, image, 0);
    if (in_place) {
      make_pixels(tile_of.template operator()<T>(block.columns), p, block, rows, classes, y, z);
    } else {
      make_pixels_apart(tile_of.template operator()<A>(block.columns), p, block, rows, classes, y,
                        z, scratch.at<A>(made_at), elements);
    }
    return true;
  });
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_PIXELS_FORWARD_H_
