// How the sums of a kernel's gradient are cut into parts: by shape alone, never by the number of
// threads. Each part is summed by one task, and the parts are added in order: the same bits however
// many threads there are. And which rows a part has at once.
#ifndef DEPTHWISE_KERNELS_GRADIENT_PARTS_H_
#define DEPTHWISE_KERNELS_GRADIENT_PARTS_H_

#include "column_blocks.h"
#include "geometry.h"
#include "tuning.h"

namespace depthwise::DW_ISA {

// The rows [begin, end) of all images' output rows, counted through, that one part sums.
struct Part {
  int64_t begin, end;
};
inline Part part_of(int64_t rows, int64_t parts, int64_t index) {
  return {rows * index / parts, rows * (index + 1) / parts};
}
// Of images in pieces, or of several together, so that few parts end within one: beside such an end
// rows are read twice. Pieces are a power of two, so that threads get the same number of them.
inline int64_t count_parts(const depthwise_params& p, int64_t other_tasks) {
  const int64_t most = max_of(1, tuning::gradient_parts / max_of(1, other_tasks));
  const int64_t outputs = max_of(1, p.out_height * p.out_width);
  const int64_t together = ceil_div(tuning::gradient_part_outputs, outputs);  // images
  if (together > 1) return max_of(1, min_of(most, ceil_div(p.batch, together)));
  int64_t pieces = 1;
  while (2 * pieces * p.batch <= most && 2 * pieces * tuning::gradient_part_rows <= p.out_height &&
         2 * pieces * tuning::gradient_part_outputs <= outputs) {
    pieces *= 2;
  }
  return max_of(1, min_of(most, pieces * p.batch));
}

// Channels cut into blocks of nearly one size, each of whole grains but for the last one, and for
// the first one, which has `shift` channels more.
struct ChannelBlocks {
  int64_t channels, grain, count, shift = 0;

  ChannelBlocks(int64_t all, int64_t grain_channels, int64_t blocks)
      : channels(all), grain(grain_channels), count(max_of(1, min_of(blocks, all / grain))) {}
  // With at most so many channels in each, as far as grains allow.
  static ChannelBlocks of(int64_t all, int64_t grain, int64_t most) {
    return {all, grain, ceil_div(all / grain, max_of(1, most / grain))};
  }
  int64_t begin(int64_t i) const {
    if (i == 0 || i >= count) return i == 0 ? 0 : channels;
    return channels / grain * i / count * grain + shift;
  }
  int64_t end(int64_t i) const { return begin(i + 1); }
  int64_t largest() const {
    return min_of(channels,
                  ceil_div(channels / grain, count) * grain + max_of(shift, channels % grain));
  }
};

// Rows that a block of rows of outputs holds: of outputs themselves, of the input and of the
// output's gradient. `dx_reach`: rows of the latter that a row of the input's gradient reaches; 0
// where that is not made on the way.
struct GradientRows {
  int64_t outputs, x, dz;

  GradientRows(const depthwise_params& p, int64_t count, int64_t dx_reach) {
    const Axis a = row_axis(p);
    const int64_t reach = (a.kernel - 1) * a.dilation;
    // Rows of the input that begin in these outputs reach so many before them and after.
    const int64_t before = max_of(0, reach - a.pad) / a.stride, after = ceil_div(a.pad, a.stride);
    outputs = count;
    x = min_of((count - 1) * a.stride + reach + 1, max_of(1, a.in));
    dz = dx_reach == 0 ? count : max_of(dx_reach, count + before + after);
    dz = min_of(dz, a.out);
  }

  // Bytes of a vector of channels where all of these are staged, and rows of the input's gradient,
  // where that is made, moved.
  template <class A>
  int64_t bytes(const depthwise_params& p, int64_t dx_reach) const {
    return vector_bytes<A>((x + (dx_reach > 0 ? 2 : 0)) * p.in_width + dz * p.out_width);
  }
};

// Whether both gradients may be made in one pass: their rows fit, uncut.
template <class A>
bool gradients_fit(const depthwise_params& p) {
  const int64_t reach = gradient_rows_of_pair(row_axis(p));
  return GradientRows(p, 1, reach).bytes<A>(p, reach) <=
         tuning::scratch_bytes / least_vectors<A>(p);
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_GRADIENT_PARTS_H_
