// Reading ahead. Tiles go over many columns at once, a vector of channels of each: memory gives
// half as much to a reader who goes about like that as to one who reads in order (20 to 27 GB/s and
// 40 to 46, two cores of a Zen 5). So while tiles compute, the rows that the next ones need are
// asked for in order, some lines at a time: all at once would hold up the tile's own loads. In the
// caches that brings nothing and costs a third (see tuning::memory_bytes).
//
// They are asked for into the second-level cache. What is on its way into the first one takes one
// of its few places for misses, and when these are gone, whatever comes next waits: a loop that
// reads three streams with so much arithmetic in between took one core of a Zen 4 66 ns for twelve
// lines asked for into the first level, 69 not asked for, and 37 asked for into the second. Two
// cores took, into the first and into the second, for 3x3 at stride 2 on 8 images of 75x75x480 3.7
// and 1.8 ms, on 32 of 56x56x144 2.2 and 1.2, training 3x3 on 16 of 112x112x32 4.8 and 3.9.
#ifndef DEPTHWISE_KERNELS_AHEAD_H_
#define DEPTHWISE_KERNELS_AHEAD_H_

#include "geometry.h"
#include "tuning.h"
#include "vec.h"
#include "views.h"

namespace depthwise::DW_ISA {

// Rows that will be read soon: of some images, whose channels lie side by side.
struct Ahead {
  static constexpr int most = 32;
  struct Row {
    const char* first;  // at column 0
    int64_t columns;
    int64_t column, run;  // bytes from one column to the next, and of those that will be read
    int64_t at;           // where tiles are when column 0 is asked for
  };
  Row rows[most];
  int count = 0;

  // The first `channels` of row h. More rows than there is room for are not asked for.
  template <class T>
  void add(const ImageView<T>& image, int64_t h, int64_t columns, int64_t channels, int64_t at) {
    constexpr int64_t bytes = sizeof(T);
    if (image.channel != 1 || count == most) return;
    rows[count++] = {reinterpret_cast<const char*>(image.data + h * image.row), columns,
                     image.column * bytes, channels * bytes, at};
  }
};

// Asks for what these rows have while tiles are at the columns [begin, end), spread over so many
// calls.
class Asking {
 public:
  // For nothing. The rest is not looked at: setting it took a Zen 1 27 cycles for each tile.
  DW_INLINE Asking() : share_(0) {}
  [[gnu::noinline]] Asking(const Ahead& ahead, int64_t begin, int64_t end, int64_t calls)
      : row_(ahead.rows), last_row_(ahead.rows + ahead.count), begin_(begin), end_(end) {
    int64_t lines = 0;
    for (int i = 0; i < ahead.count; ++i) {
      lines += columns_of(ahead.rows[i]) * ceil_div(ahead.rows[i].run, line);
    }
    share_ = ceil_div(lines, max_of(1, calls));
    if (share_ > 0) start_row();
  }

  // Where no vectors are held: a call, for there are hundreds of tiles.
  DW_INLINE void ask() {
    if (share_ > 0) ask_apart();
  }
  // Where sums are in registers, which they would not be across a call.
  DW_INLINE void ask_inline() {
    for (int64_t i = 0; i < share_; ++i, at_ += line) {
      if (at_ >= stop_ && !next_run()) return;
      __builtin_prefetch(at_, 0, 2);
    }
  }

 private:
  static constexpr int64_t line = 64;

  [[gnu::noinline]] void ask_apart() { ask_inline(); }

  // The first of a row's columns to be asked for, and how many are.
  DW_INLINE int64_t first_of(const Ahead::Row& row) const { return max_of(0, begin_ - row.at); }
  DW_INLINE int64_t columns_of(const Ahead::Row& row) const {
    return max_of(0, min_of(end_ - row.at, row.columns) - first_of(row));
  }

  // From row_ on, the next one that has such columns. Returns false where there is none.
  DW_INLINE bool start_row() {
    while (row_ < last_row_ && columns_of(*row_) == 0) ++row_;
    if (row_ == last_row_) return false;
    const int64_t columns = columns_of(*row_);
    first_ = row_->first + first_of(*row_) * row_->column;
    whole_ = row_->run == row_->column;
    left_ = whole_ ? 1 : columns;
    length_ = whole_ ? columns * row_->column : row_->run;
    start_run();
    return true;
  }
  DW_INLINE void start_run() {
    at_ = first_ - (reinterpret_cast<uintptr_t>(first_) & (line - 1));
    stop_ = first_ + length_;
  }
  // Returns false where there is nothing left to ask for.
  DW_INLINE bool next_run() {
    if (--left_ > 0) {
      first_ += row_->column;
      start_run();
      return true;
    }
    ++row_;
    if (start_row()) return true;
    share_ = 0;
    return false;
  }

  const Ahead::Row *row_, *last_row_;
  int64_t begin_, end_;
  int64_t share_;      // lines of a call
  const char* first_;  // of the run: a column's channels, or all columns where these touch
  const char *at_, *stop_;
  int64_t length_, left_;  // bytes of a run, and runs of this row
  bool whole_;
};

// Asks for what comes some way after the `count` elements from `from` on. Planes lie one after the
// other, so that this is of the next one where it is not of this one.
template <class A>
DW_INLINE void ask_ahead(const A* from, int64_t count) {
  const uintptr_t begin = reinterpret_cast<uintptr_t>(from) + tuning::strip_ahead_bytes;
  const int64_t bytes = count * static_cast<int64_t>(sizeof(A));
  for (int64_t i = 0; i < bytes; i += 64) {
    __builtin_prefetch(reinterpret_cast<const void*>(begin + static_cast<uintptr_t>(i)));
  }
}

// Asks for a row of each of so many planes, `step` apart, whose columns lie side by side.
template <class T>
DW_INLINE void ask_for_planes(const T* row, int64_t step, int64_t columns, int64_t planes) {
  for (int64_t i = 0; i < planes; ++i, row += step) {
    const char* const end = reinterpret_cast<const char*>(row + columns);
    for (const char* at = reinterpret_cast<const char*>(row); at < end; at += 64) {
      __builtin_prefetch(at, 0, 2);
    }
  }
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_AHEAD_H_
