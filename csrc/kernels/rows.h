// Where the channels kernels get their rows from: straight from the caller's array where its type
// and strides allow, else from a ring of staged rows (converted to the compute type, channels side
// by side; one copy per output channel where elements cannot be repeated as they are loaded).
// Staging is also where the activation's derivative is applied to the output's gradient.
#ifndef DEPTHWISE_KERNELS_ROWS_H_
#define DEPTHWISE_KERNELS_ROWS_H_

#include <utility>

#include "activation.h"
#include "ahead.h"
#include "geometry.h"
#include "repeated.h"
#include "shuffles.h"
#include "transposed_rows.h"
#include "tuning.h"
#include "views.h"

namespace depthwise::DW_ISA {

// `count` elements, `stride` apart: vectors of all elements between them are loaded, up to the last
// one wanted and no further.
template <int stride, class T>
DW_INLINE void convert_every(Compute<T>* to, const T* from, int64_t count) {
  using A = Compute<T>;
  constexpr int n = lanes<A>;
  const auto convert = [&](int64_t i, auto&& part) DW_INLINE_LAMBDA {
    Vec<A> parts[stride];
#pragma GCC unroll 16
    for (int v = 0; v < stride; ++v) parts[v] = part(from + stride * i + v * n, v * n);
    if constexpr (stride == 2) {
      store(to + i, even_elements(parts[0], parts[1]));
    } else if constexpr (stride == 3) {
      store(to + i, third_elements(parts[0], parts[1], parts[2]));
    } else {
      store(to + i, spaced_elements<stride, A>(parts));
    }
  };
  int64_t i = 0, left = stride * (count - 1) + 1;
  for (; left >= stride * n; i += n, left -= stride * n) {
    convert(i, [](const T* p, int64_t) DW_INLINE_LAMBDA { return load(p); });
  }
  for (; i < count; i += n, left -= stride * n) {
    convert(i, [&](const T* p, int64_t at) DW_INLINE_LAMBDA {
      if (left >= at + n) return load(p);
      return left > at ? load_part(p, left - at) : zero<A>();
    });
  }
}

// The same for the strides that are picked out of whole vectors.
template <class T>
[[gnu::noinline]] void convert_shuffled(Compute<T>* to, const T* from, int64_t stride,
                                        int64_t count) {
  const auto each = [&]<int... strides>(std::integer_sequence<int, strides...>) {
    ((stride == strides + 4 ? convert_every<strides + 4>(to, from, count) : void()), ...);
  };
  each(std::make_integer_sequence<int, tuning::most_shuffled_stride - 3>());
}

// `count` elements, `stride` apart, to the compute type; `to` has room up to the next full vector.
template <class T>
DW_INLINE void convert_span(Compute<T>* to, const T* from, int64_t stride, int64_t count) {
  using A = Compute<T>;
  constexpr int n = lanes<A>;
  if (stride == 1) {
    int64_t i = 0;
    for (; i + n <= count; i += n) store(to + i, load(from + i));
    if (i < count) store(to + i, load_part(from + i, count - i));
    return;
  }
  if (stride == 2) return convert_every<2>(to, from, count);
  if (stride == 3) return convert_every<3>(to, from, count);
  if constexpr (can_shift<A>) {
    if (stride > 3 && stride <= tuning::most_shuffled_stride) {
      return convert_shuffled(to, from, stride, count);
    }
  }
  int64_t i = 0;
  for (; i + n <= count; i += n) store(to + i, load_spaced(from + i * stride, stride));
  if (i < count && count >= n) {  // the last ones, some of them once more
    store(to + i, zero<A>());
    store(to + count - n, load_spaced(from + (count - n) * stride, stride));
  } else if (i < count) {
    T values[n] = {};
    for (int64_t l = 0; l < count - i; ++l) values[l] = from[(i + l) * stride];
    store(to + i, load(values));
  }
}

// Compute type to storage, elements `stride` apart; `from` is readable up to the next full vector.
template <class T>
DW_INLINE void convert_back(T* to, int64_t stride, const Compute<T>* from, int64_t count) {
  using A = Compute<T>;
  constexpr int n = lanes<A>;
  if (stride == 1) {
    int64_t i = 0;
    for (; i + n <= count; i += n) store(to + i, load(from + i));
    if (i < count) store_part(to + i, load(from + i), count - i);
    return;
  }
  for (int64_t i = 0; i < count; i += n) {
    const int64_t part = min_of(n, count - i);
    T values[n];
    store(values, load(from + i));
    for (int64_t l = 0; l < part; ++l) to[(i + l) * stride] = values[l];
  }
}

// Two rows of results into one: `even` at to[0], to[2], ... and `odd` between them.
template <class T>
DW_INLINE void convert_back_interleaved(T* to, const Compute<T>* even, const Compute<T>* odd,
                                        int64_t count) {
  using A = Compute<T>;
  constexpr int n = lanes<A>;
  for (int64_t i = 0; i < count; i += 2 * n) {
    const Vec<A> a = load(even + i / 2), b = load(odd + i / 2);
    const int64_t left = count - i;
    if (left >= 2 * n) {
      store(to + i, interleaved_low(a, b));
      store(to + i + n, interleaved_high(a, b));
    } else {
      store_part(to + i, interleaved_low(a, b), min_of(n, left));
      if (left > n) store_part(to + i + n, interleaved_high(a, b), left - n);
    }
  }
}

// The gradient of the output through the activation: `count` elements of dy times the activation's
// derivative at `saved`, to the compute type. `to` and `line`, which is scratch, have room up to
// the next full vector.
template <class T>
DW_INLINE void convert_gradient(Compute<T>* to, const T* dy, int64_t dy_stride, const T* saved,
                                int64_t saved_stride, int64_t count, int activation,
                                Compute<T> alpha, Compute<T>* line) {
  using A = Compute<T>;
  constexpr int n = lanes<A>;
  if (activation == DEPTHWISE_LINEAR) {
    convert_span(to, dy, dy_stride, count);
    return;
  }
  if (activation == DEPTHWISE_RELU && dy_stride == 1 && saved_stride == 1) {  // the common case
    int64_t i = 0;
    for (; i + n <= count; i += n) {
      store(to + i, load(saved + i) > zero<A>() ? load(dy + i) : zero<A>());
    }
    if (i < count) {
      const Vec<A> y = load_part(saved + i, count - i);
      store(to + i, y > zero<A>() ? load_part(dy + i, count - i) : zero<A>());
    }
    return;
  }
  convert_span(to, dy, dy_stride, count);
  convert_span(line, saved, saved_stride, count);
  for (int64_t i = 0; i < count; i += n) {
    store(to + i, through_activation<A>(load(to + i), activation, alpha, load(line + i)));
  }
}

template <class T>
struct RowSource {
  using A = Compute<T>;

  ImageView<T> image;  // at the first channel of the block
  ImageView<T> saved;  // for a gradient: what its activation's derivative is taken from
  int64_t width;       // columns of a row
  int64_t height;      // rows of the image; 0 where none is to be asked for ahead
  // From one image to the next one, whose rows are asked for after the last one's; 0 for no more.
  int64_t image_step, saved_step;
  int64_t channels;    // of the image, in this block
  int64_t multiplier;  // results of each
  int64_t copies;      // of each in the rows given out: one where they are repeated on loading
  int activation;      // linear: no derivative
  A alpha;

  int64_t pitch;  // elements from one column to the next in the rows given out
  bool direct;
  int64_t ring_rows;
  A* ring;
  int64_t ring_row;  // elements from one row of the ring to the next
  A* line;           // scratch for one column's channels
  int64_t* held;     // which row each slot of the ring holds

  // What is repeated on loading is none past the last channel; without a multiplier vectors have to
  // be whole.
  static bool can_be_direct(int64_t block_channels, int64_t multiplier, int64_t channel_stride,
                            int activation) {
    const int64_t least = multiplier == 1 ? lanes<A> : can_permute_run<A> ? run<A> : 1;
    return channel_stride == 1 && activation == DEPTHWISE_LINEAR && block_channels >= least &&
           (multiplier == 1 || DW_ISA::repeats_on_load<T>(multiplier));
  }
  // Copies to stage of each channel of the input.
  static int64_t staged_copies(const depthwise_params& p) {
    if (!DW_ISA::repeats_on_load<A>(p.multiplier)) return p.multiplier;
    // Taps that use an element are a stride apart.
    const int64_t apart =
        min_of(p.stride_height, p.kernel_height) * min_of(p.stride_width, p.kernel_width);
    const bool pays =
        p.kernel_height * p.kernel_width <= tuning::most_repeated_loads * p.multiplier * apart;
    return pays ? 1 : p.multiplier;
  }
  // Rows may be given out with fewer elements than results, or fewer than fill a vector. A run of
  // them can be read where they are staged.
  Loading loading() const {
    if (copies == multiplier && (!direct || channels >= lanes<A>)) return Loading::as_stored;
    const bool has_runs = can_permute_run<A> && multiplier > 1 && (!direct || channels >= run<A>);
    return has_runs ? Loading::from_run : Loading::repeated;
  }
  // Whole vectors, and one more where columns would evict each other.
  static int64_t staged_pitch(int64_t channels) {
    const int64_t pitch = round_up(channels, lanes<A>);
    return evicts(pitch) ? pitch + lanes<A> : pitch;
  }
  static bool evicts(int64_t elements) {
    return elements * static_cast<int64_t>(sizeof(A)) % tuning::evicting_bytes == 0;
  }
  // Bytes of scratch for a ring over `channels` channels, with their copies.
  static int64_t ring_bytes(int64_t rows, int64_t width, int64_t channels) {
    const int64_t pitch = staged_pitch(channels);
    const int64_t elements = rows * row_elements(width, pitch) + pitch + lanes<A>;
    return round_up(elements * static_cast<int64_t>(sizeof(A)) + rows * 8, 64);
  }
  // repeat_each() may overrun a row by less than a vector.
  static int64_t row_elements(int64_t width, int64_t pitch) { return width * pitch + lanes<A>; }

  void use_direct() {
    direct = true;
    copies = 1;
    pitch = image.column;
  }
  // `rows_touch`: for stage_planes().
  void use_ring(void* memory, int64_t rows, int64_t staged, bool rows_touch = false) {
    direct = false;
    copies = staged;
    // Columns that touch there, and do not cross too many lines, touch here: a row is one run.
    const bool touches = copies == 1 && image.channel == 1 && image.column == channels;
    const bool is_dense =
        touches && channels >= lanes<A> && channels % (lanes<A> / 2) == 0 && !evicts(channels);
    pitch = is_dense ? channels : staged_pitch(channels * copies);
    ring_rows = rows;
    ring_row = rows_touch ? width * pitch : row_elements(width, pitch);
    ring = static_cast<A*>(memory);
    line = ring + rows * row_elements(width, pitch);
    held = reinterpret_cast<int64_t*>(static_cast<char*>(memory) +
                                      ring_bytes(rows, width, channels * copies) - rows * 8);
    for (int64_t slot = 0; slot < rows; ++slot) held[slot] = -1;
  }

  // Row h at column 0, as it is stored or in the compute type: those read in place are only to be
  // had in the one, staged ones in the other. A staged row stays until `ring_rows` further ones
  // have been asked for.
  template <class S>
  const S* row(int64_t h) {
    if constexpr (is_compute_type<T>) {
      return direct ? image.data + h * image.row : staged(h);
    } else if constexpr (is_compute_type<S>) {
      return staged(h);
    } else {
      return image.data + h * image.row;
    }
  }
  const A* staged(int64_t h) {
    const int64_t slot = h % ring_rows;
    A* row = ring + slot * ring_row;
    if (held[slot] != h) {
      held[slot] = h;
      stage(row, h);
    }
    return row;
  }

  // The rows [first, end) of planes without gaps between their rows, which are one row then, in a
  // ring of all rows.
  void stage_planes(int64_t first, int64_t end) {
    if (first >= end) return;
    stage_transposed(ring + first * ring_row, pitch, image, saved, first, (end - first) * width,
                     channels, 1, DEPTHWISE_LINEAR, A(0), 0);
    for (int64_t h = first; h < end; ++h) held[h] = h;
  }

  // Row h, if there is one, which will be read soon: from where tiles are at column `at`.
  void add_ahead(Ahead& ahead, int64_t h, int64_t at = 0) const {
    add_rows_ahead(ahead, image, image_step, h, at);
  }
  // What its activation's derivative is taken from.
  void add_saved_ahead(Ahead& ahead, int64_t h, int64_t at = 0) const {
    if (activation != DEPTHWISE_LINEAR) add_rows_ahead(ahead, saved, saved_step, h, at);
  }
  // Columns that tiles are asked for ahead.
  int64_t columns_ahead() const {
    const int64_t column = max_of(1, channels) * static_cast<int64_t>(sizeof(T));
    return min_of(width, ceil_div(tuning::row_ahead_bytes, column));
  }

  void add_rows_ahead(Ahead& ahead, ImageView<T> rows, int64_t step, int64_t h, int64_t at) const {
    if (h >= height && step != 0) {
      h -= height;
      rows.data += step;
    }
    if (h >= 0 && h < height) ahead.add(rows, h, width, channels, at);
  }

  // The first columns of a row whose channels can be read in whole vectors: what comes after them
  // goes to lanes that nobody reads, as long as it is of the row.
  int64_t whole_columns(const ImageView<T>& view) const {
    if (view.channel != 1 || view.column <= 0) return 0;
    const int64_t beyond = round_up(channels, lanes<A>) - channels;
    return max_of(0, width - ceil_div(beyond, view.column));
  }

  [[gnu::noinline]] void stage(A* row, int64_t h) {
    const T* from = image.data + h * image.row;
    const bool transposes = image.column == 1 && image.channel != 1 && channels >= lanes<A> / 2 &&
                            repeats_in_vectors<A>(copies) &&
                            (activation == DEPTHWISE_LINEAR || saved.column == 1);
    if (transposes) {
      const int64_t ahead = h + tuning::plane_rows_ahead < height ? tuning::plane_rows_ahead : 0;
      stage_transposed(row, pitch, image, saved, h, width, channels, copies, activation, alpha,
                       ahead);
      return;
    }
    if (copies > 1) {
      for (int64_t w = 0; w < width; ++w, row += pitch) {
        convert_span(line, from + w * image.column, image.channel, channels);
        repeat_each(row, line, channels, copies);
      }
      return;
    }
    const T* s = saved.data + h * saved.row;
    // One run where the row is unbroken and so wide that `line` is not needed in pieces.
    if (image.channel == 1 && image.column == pitch &&
        (activation == DEPTHWISE_LINEAR ||
         (activation == DEPTHWISE_RELU && saved.channel == 1 && saved.column == pitch))) {
      convert_gradient(row, from, 1, s, 1, (width - 1) * pitch + channels, activation, alpha, line);
      return;
    }
    int64_t w = 0;
    if (activation == DEPTHWISE_LINEAR) {
      for (const int64_t end = whole_columns(image); w < end; ++w, row += pitch) {
        const T* const x = from + w * image.column;
        for (int64_t i = 0; i < channels; i += lanes<A>) store(row + i, load(x + i));
      }
    } else if (activation == DEPTHWISE_RELU) {
      const int64_t end = min_of(whole_columns(image), whole_columns(saved));
      for (; w < end; ++w, row += pitch) {
        const T *const dy = from + w * image.column, *const y = s + w * saved.column;
        for (int64_t i = 0; i < channels; i += lanes<A>) {
          store(row + i, load(y + i) > zero<A>() ? load(dy + i) : zero<A>());
        }
      }
    }
    for (; w < width; ++w, row += pitch) {
      convert_gradient(row, from + w * image.column, image.channel, s + w * saved.column,
                       saved.channel, channels, activation, alpha, line);
    }
  }
};

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_ROWS_H_
