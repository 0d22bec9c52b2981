// Results past the caches whose columns are no whole lines, as with 72 channels, or in an array
// that does not begin with one, as NumPy's do not. Tiles write parts of lines then; so they make a
// row aside, in the second-level cache, and it is streamed in one run. Two cores of a Zen 4 took,
// written as usual and streamed, for 3x3 on 32 images of 56x56x72 2.5 and 1.5 ms, training 7.5
// and 5.9, for 2x2 on 16 of 66x46x314 4.4 and 3.5, training 15.5 and 12.8. Spreading a row's stores
// over the tiles of the next ones brought nothing more.
#ifndef DEPTHWISE_KERNELS_ROWS_ASIDE_H_
#define DEPTHWISE_KERNELS_ROWS_ASIDE_H_

#include "tuning.h"
#include "vec.h"
#include "views.h"

namespace depthwise::DW_ISA {

constexpr int64_t line_bytes = 64;

// Whether each column of a block begins with a line, if its channels do.
template <class T>
bool has_whole_lines(const void* data, const depthwise_image_strides& s, int64_t channels) {
  const int64_t elements = s.batch | s.row | s.column | channels;
  return (static_cast<int64_t>(reinterpret_cast<uintptr_t>(data)) |
          elements * static_cast<int64_t>(sizeof(T))) %
             line_bytes ==
         0;
}

// Past the caches, but for parts of lines at both ends, which somebody else may be writing to.
inline void stream_bytes(char* to, const char* from, int64_t bytes) {
  const int64_t off = static_cast<int64_t>(reinterpret_cast<uintptr_t>(to) % line_bytes);
  int64_t at = min_of(bytes, off != 0 ? line_bytes - off : 0);
  __builtin_memcpy(to, from, static_cast<size_t>(at));
  for (; at + line_bytes <= bytes; at += line_bytes) stream_line(to + at, from + at);
  __builtin_memcpy(to + at, from + at, static_cast<size_t>(bytes - at));
}

// Two rows of one block's results, made aside.
template <class T>
class RowsAside {
 public:
  RowsAside(int64_t width, int64_t channels) : width_(width), channels_(channels) {}

  // Wider ones leave no room in a thread's scratch, and shorter runs would be mostly parts of
  // lines.
  bool pays(const TargetView<T>& place) const {
    const bool is_long = channels_ * element >= tuning::least_streamed_bytes;
    return bytes() > 0 && (place.column == channels_ || is_long);
  }
  // Of scratch; none where they do not fit.
  int64_t bytes() const {
    const int64_t rows = 2 * row_elements() * element;
    return rows <= tuning::scratch_bytes / 2 ? rows : 0;
  }
  void use(void* memory) { rows_ = static_cast<T*>(memory); }

  // Where the first one is made, and from there to the second one.
  TargetView<T> target() const { return {rows_, 0, channels_, 1}; }
  int64_t row_elements() const {
    return round_up(width_ * channels_ * element, line_bytes) / element;
  }

  // Row h, which is the first one (i = 0) or the second one, to its place.
  void put(const TargetView<T>& place, int64_t h, int64_t i) const {
    T* to = place.data + h * place.row;
    const T* row = rows_ + i * row_elements();
    const auto stream = [&](int64_t elements) {
      stream_bytes(reinterpret_cast<char*>(to), reinterpret_cast<const char*>(row),
                   elements * element);
    };
    if (place.column == channels_) return stream(width_ * channels_);
    for (int64_t w = 0; w < width_; ++w, to += place.column, row += channels_) stream(channels_);
  }

 private:
  static constexpr int64_t element = sizeof(T);
  int64_t width_, channels_;
  T* rows_ = nullptr;
};

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_ROWS_ASIDE_H_
