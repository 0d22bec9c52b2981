// Results past the caches whose columns are no whole lines, as with 72 channels, or in an array
// that does not begin with one, as NumPy's do not. Tiles write parts of lines then; so they make
// some columns aside, and whole lines of these are streamed while they are in the first-level
// cache. Two cores of a Zen 4 took, written as usual and streamed, for 3x3 on 32 images of 56x56x72
// 2.5 and 1.5 ms, training 7.5 and 5.9, for 2x2 on 16 of 66x46x314 4.4 and 3.5, training 15.5 and
// 12.8.
#ifndef DEPTHWISE_KERNELS_ROWS_ASIDE_H_
#define DEPTHWISE_KERNELS_ROWS_ASIDE_H_

#include <stddef.h>

#include "channels_tile.h"
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
// Unless it `ends` there, a part of a line at the end is left: returns its bytes.
inline int64_t stream_bytes(char* to, const char* from, int64_t bytes, bool ends = true) {
  const int64_t off = static_cast<int64_t>(reinterpret_cast<uintptr_t>(to) % line_bytes);
  int64_t at = min_of(bytes, off != 0 ? line_bytes - off : 0);
  __builtin_memcpy(to, from, static_cast<size_t>(at));
  for (; at + line_bytes <= bytes; at += line_bytes) stream_line(to + at, from + at);
  if (!ends) return bytes - at;
  __builtin_memcpy(to + at, from + at, static_cast<size_t>(bytes - at));
  return 0;
}

// One or two rows of a block's results at a time.
template <class T>
class RowsAside {
 public:
  // `in_order`: a row is made from left to right. Else, if column by column of each of some
  // classes, all of it is kept until it is whole.
  RowsAside(int64_t width, int64_t channels, bool in_order)
      : width_(width),
        column_bytes_(channels * static_cast<int64_t>(sizeof(T))),
        in_order_(in_order),
        most_(in_order ? min_of(width, max_of(tile_columns, tuning::aside_bytes / column_bytes_))
                       : width),
        row_bytes_(line_bytes + round_up(most_ * column_bytes_, line_bytes)) {}

  // Wider ones leave no room in a thread's scratch, and shorter runs would be mostly parts of
  // lines.
  bool pays(const TargetView<T>& place) const {
    const bool is_long = column_bytes_ >= tuning::least_streamed_bytes;
    return bytes() > 0 && (touches(place) || is_long);
  }
  // Of scratch; none where they do not fit.
  int64_t bytes() const { return 2 * row_bytes_ <= tuning::scratch_bytes / 2 ? 2 * row_bytes_ : 0; }
  void use(void* memory, const TargetView<T>& place) {
    memory_ = static_cast<char*>(memory);
    place_ = place;
  }

  // Row h and, if `distance` is not 0, the one so far after it.
  void start(int64_t h, int64_t distance) {
    rows_ = distance != 0 ? 2 : 1;
    for (int64_t i = 0; i < rows_; ++i) {
      to_[i] = reinterpret_cast<char*>(place_.data + (h + i * distance) * place_.row);
      held_[i] = 0;
    }
    done_ = 0;
  }
  // Where column w of the first one is made, from there to the next column and to the second row,
  // and how many columns may be made before made() is called.
  T* at(int64_t w) const {
    return reinterpret_cast<T*>(memory_ + line_bytes + (w - done_) * column_bytes_);
  }
  int64_t column() const { return column_bytes_ / static_cast<int64_t>(sizeof(T)); }
  int64_t row() const { return row_bytes_ / static_cast<int64_t>(sizeof(T)); }
  int64_t most() const { return most_; }
  int64_t width() const { return width_; }
  bool in_order() const { return in_order_; }

  // All columns before `end` are made.
  void made(int64_t end) {
    for (int64_t i = 0; i < rows_; ++i) put(i, end);
    done_ = end;
  }

 private:
  bool touches(const TargetView<T>& place) const { return place.column == column(); }

  // Row i, from where it was put last. What is left of a line goes with what comes next.
  void put(int64_t i, int64_t end) {
    char* from = memory_ + i * row_bytes_ + line_bytes;
    if (!touches(place_)) {
      const int64_t step = place_.column * static_cast<int64_t>(sizeof(T));
      for (int64_t w = done_; w < end; ++w, from += column_bytes_) {
        stream_bytes(to_[i] + w * step, from, column_bytes_);
      }
      return;
    }
    const int64_t bytes = (end - done_) * column_bytes_, held = held_[i];
    char* const to = to_[i] + done_ * column_bytes_;
    const int64_t left = stream_bytes(to - held, from - held, bytes + held, end == width_);
    __builtin_memmove(from - left, from + bytes - left, static_cast<size_t>(left));
    held_[i] = left;
  }

  int64_t width_, column_bytes_;
  bool in_order_;
  int64_t most_, row_bytes_;
  char* memory_ = nullptr;
  TargetView<T> place_{};
  int64_t rows_ = 0, done_ = 0;  // rows at hand, and columns of them that were put
  char* to_[2] = {};
  int64_t held_[2] = {};  // bytes before those of column done_ that were not
};

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_ROWS_ASIDE_H_
