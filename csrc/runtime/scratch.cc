#include "runtime/scratch.h"

#include <cstdint>
#include <cstdlib>

namespace depthwise {
namespace {

constexpr size_t alignment = 64;
constexpr size_t page = 4096;  // sizes are rounded up to it, so that small growth is free
constexpr size_t keep_always = size_t{8} << 20;

class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { release(); }

  void* reserve(size_t bytes) noexcept {
    const bool wasteful = capacity_ > keep_always && bytes < capacity_ / 4;
    if (data_ != nullptr && bytes <= capacity_ && !wasteful) return data_;
    // Freed first: the contents are not kept, so old and new need not be held at once.
    release();
    if (bytes > SIZE_MAX - page) return nullptr;
    const size_t rounded = bytes == 0 ? page : (bytes + page - 1) / page * page;
    if (posix_memalign(&data_, alignment, rounded) != 0) {
      data_ = nullptr;
      return nullptr;
    }
    capacity_ = rounded;
    return data_;
  }

  size_t capacity() const noexcept { return capacity_; }

 private:
  void release() noexcept {
    std::free(data_);
    data_ = nullptr;
    capacity_ = 0;
  }

  void* data_ = nullptr;
  size_t capacity_ = 0;
};

Scratch& own_scratch() noexcept {
  static thread_local Scratch scratch;
  return scratch;
}

}  // namespace

void* thread_scratch(size_t bytes) noexcept { return own_scratch().reserve(bytes); }

size_t thread_scratch_held() noexcept { return own_scratch().capacity(); }

}  // namespace depthwise
