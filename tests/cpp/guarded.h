// Arrays in memory of which not a byte before or after may be touched.
#ifndef DEPTHWISE_TESTS_CPP_GUARDED_H_
#define DEPTHWISE_TESTS_CPP_GUARDED_H_

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "check.h"
#include "numbers.h"

namespace depthwise::test {

// Which end of a block lies against an unreadable page. Under AddressSanitizer a block comes from
// the heap, and both ends are watched.
enum class Edge { begin, end };

class GuardedBlock {
 public:
  GuardedBlock(size_t bytes, Edge edge) : bytes_(bytes) {
    if (check::under_asan) {
      data_ = static_cast<unsigned char*>(std::malloc(bytes));
      return;
    }
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    open_bytes_ = (bytes + page - 1) / page * page;
    mapped_bytes_ = open_bytes_ + 2 * page;
    void* const mapped =
        mmap(nullptr, mapped_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) fail("mmap");
    open_ = static_cast<unsigned char*>(mapped) + page;
    if (open_bytes_ > 0 && mprotect(open_, open_bytes_, PROT_READ | PROT_WRITE) != 0) {
      fail("mprotect");
    }
    data_ = edge == Edge::begin ? open_ : open_ + (open_bytes_ - bytes);
    std::memset(open_, slack_byte, open_bytes_);
  }
  GuardedBlock(const GuardedBlock&) = delete;
  GuardedBlock& operator=(const GuardedBlock&) = delete;
  ~GuardedBlock() {
    if (open_ == nullptr) {
      std::free(data_);
    } else {
      munmap(open_ - sysconf(_SC_PAGESIZE), mapped_bytes_);
    }
  }

  unsigned char* data() const { return data_; }
  size_t bytes() const { return bytes_; }

  // Whether the rest of the page on the readable side is as it was.
  bool slack_is_untouched() const {
    if (open_ == nullptr) return true;
    const auto is_slack = [](unsigned char byte) { return byte == slack_byte; };
    return std::all_of(open_, data_, is_slack) &&
           std::all_of(data_ + bytes_, open_ + open_bytes_, is_slack);
  }

 private:
  static constexpr unsigned char slack_byte = 0xff;  // NaN in every dtype
  [[noreturn]] static void fail(const char* call) {
    std::perror(call);
    std::abort();
  }

  size_t bytes_;
  unsigned char* data_ = nullptr;
  unsigned char* open_ = nullptr;  // the pages that may be used, between two that may not
  size_t open_bytes_ = 0, mapped_bytes_ = 0;
};

// Where the elements of a 4-D array lie: strides in elements, the first byte used is an element's
// and so is the last.
struct Placement {
  std::array<int64_t, 4> sizes{}, strides{};
  int64_t elements = 0;  // from the first to the last, gaps included
  int64_t origin = 0;    // of the element (0, 0, 0, 0)

  int64_t count() const { return sizes[0] * sizes[1] * sizes[2] * sizes[3]; }

  // Calls body(canonical index, offset in the block) for every element.
  template <class Body>
  void each(Body body) const {
    int64_t index = 0;
    for (int64_t a = 0; a < sizes[0]; ++a) {
      for (int64_t b = 0; b < sizes[1]; ++b) {
        for (int64_t c = 0; c < sizes[2]; ++c) {
          const int64_t at = origin + a * strides[0] + b * strides[1] + c * strides[2];
          for (int64_t d = 0; d < sizes[3]; ++d) body(index++, at + d * strides[3]);
        }
      }
    }
  }
};

using Order = std::array<int, 4>;  // axes from the outermost to the innermost
constexpr Order channels_last_order{0, 1, 2, 3};
constexpr Order channels_first_order{0, 3, 1, 2};

// How an array lies in memory, besides the order of its axes.
struct Style {
  std::array<int64_t, 4> gap{};     // elements left free after each step along an axis
  std::array<bool, 4> backwards{};  // negative stride
  std::array<bool, 4> broadcast{};  // stride zero
};

inline Placement place(const std::array<int64_t, 4>& sizes, const Order& order,
                       const Style& style = {}) {
  Placement placement;
  placement.sizes = sizes;
  const bool empty = placement.count() == 0;
  int64_t step = 1;
  placement.elements = empty ? 0 : 1;
  for (int i = 3; i >= 0; --i) {
    const size_t axis = static_cast<size_t>(order[static_cast<size_t>(i)]);
    if (style.broadcast[axis]) continue;
    step += style.gap[axis];
    const int64_t reach = empty ? 0 : (sizes[axis] - 1) * step;
    placement.strides[axis] = style.backwards[axis] ? -step : step;
    placement.elements += reach;
    if (style.backwards[axis]) placement.origin += reach;
    step *= std::max<int64_t>(sizes[axis], 1);
  }
  return placement;
}

// Any order of the axes, gaps, negative strides and, for an array that is only read, zero strides.
inline Placement place_at_random(Random& random, const std::array<int64_t, 4>& sizes, Order order,
                                 bool read_only) {
  Style style;
  if (random.chance(2)) {
    for (size_t i = 3; i > 0; --i) {
      std::swap(order[i], order[static_cast<size_t>(random.between(0, static_cast<int64_t>(i)))]);
    }
  }
  for (size_t axis = 0; axis < 4; ++axis) {
    style.gap[axis] = random.pick({0, 0, 0, 1, 2, 7});
    style.backwards[axis] = random.chance(4);
    style.broadcast[axis] = read_only && random.chance(6);
  }
  return place(sizes, order, style);
}

// An array in a block of its own.
class Array {
 public:
  Array(int dtype, const Placement& placement, Edge edge)
      : dtype_(dtype),
        placement_(placement),
        block_(static_cast<size_t>(placement.elements) * element_bytes(dtype), edge) {}

  void* data() const { return at(placement_.origin); }

  // Sets the elements, and what lies between them to NaN.
  void write(const std::vector<uint64_t>& bits) {
    std::memset(block_.data(), 0xff, block_.bytes());
    placement_.each([&](int64_t index, int64_t offset) {
      std::memcpy(at(offset), &bits[static_cast<size_t>(index)], element_bytes(dtype_));
    });
    written_.assign(block_.data(), block_.data() + block_.bytes());
  }
  bool is_as_written() const {
    return (written_.empty() ||
            std::memcmp(written_.data(), block_.data(), written_.size()) == 0) &&
           block_.slack_is_untouched();
  }

  // Makes it an output that nothing has been written to.
  void clear() { std::memset(block_.data(), unwritten, block_.bytes()); }
  bool is_clear() const {
    return std::all_of(block_.data(), block_.data() + block_.bytes(),
                       [](unsigned char byte) { return byte == unwritten; }) &&
           block_.slack_is_untouched();
  }
  // The elements; clears them.
  std::vector<uint64_t> take() {
    std::vector<uint64_t> bits(static_cast<size_t>(placement_.count()), 0);
    placement_.each([&](int64_t index, int64_t offset) {
      std::memcpy(&bits[static_cast<size_t>(index)], at(offset), element_bytes(dtype_));
    });
    placement_.each([&](int64_t, int64_t offset) {
      std::memset(at(offset), unwritten, element_bytes(dtype_));
    });
    return bits;
  }

 private:
  static constexpr unsigned char unwritten = 0x7b;  // a large number in every dtype

  unsigned char* at(int64_t offset) const {
    return block_.data() + static_cast<size_t>(offset) * element_bytes(dtype_);
  }

  int dtype_;
  Placement placement_;
  GuardedBlock block_;
  std::vector<unsigned char> written_;
};

inline depthwise_image_strides image_strides(const Placement& p) {
  return {p.strides[0], p.strides[1], p.strides[2], p.strides[3]};
}
inline depthwise_kernel_strides kernel_strides(const Placement& p) {
  return {p.strides[0], p.strides[1], p.strides[2], p.strides[3]};
}

}  // namespace depthwise::test

#endif  // DEPTHWISE_TESTS_CPP_GUARDED_H_
