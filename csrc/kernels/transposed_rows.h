// Rows of images whose channels are planes, staged and moved back for kernels whose vectors run
// along channels: squares of columns and channels are transposed in registers.
#ifndef DEPTHWISE_KERNELS_TRANSPOSED_ROWS_H_
#define DEPTHWISE_KERNELS_TRANSPOSED_ROWS_H_

#include "activation.h"
#include "geometry.h"
#include "repeated.h"
#include "views.h"

namespace depthwise::DW_ISA {

// Element j of vector i becomes element i of vector j. Each round puts the elements of one vector
// between those of the one that is half of all vectors further.
template <class A>
DW_INLINE void transpose(Vec<A> (&v)[lanes<A>]) {
  constexpr int n = lanes<A>;
#pragma GCC unroll 4
  for (int round = 1; round < n; round *= 2) {
    Vec<A> next[n];
#pragma GCC unroll 8
    for (int i = 0; i < n / 2; ++i) {
      next[2 * i] = interleaved_low(v[i], v[i + n / 2]);
      next[2 * i + 1] = interleaved_high(v[i], v[i + n / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < n; ++i) v[i] = next[i];
  }
}

// Row h of an image whose columns lie side by side, to the compute type with its channels side by
// side, each `multiplier` times, columns `pitch` apart; with an activation, times its derivative at
// `saved`. `to` has room for full vectors of channels, which hold whatever repeats_in_vectors().
template <class T>
[[gnu::noinline]] void stage_transposed(Compute<T>* to, int64_t pitch, const ImageView<T>& image,
                                        const ImageView<T>& saved, int64_t h, int64_t width,
                                        int64_t channels, int64_t multiplier, int activation,
                                        Compute<T> alpha) {
  using A = Compute<T>;
  constexpr int n = lanes<A>;
  for (int64_t c = 0; c < channels; c += n) {
    const T* const from = image.data + h * image.row + c * image.channel;
    const T* const at = saved.data + h * saved.row + c * saved.channel;
    const int64_t planes = min_of(n, channels - c);
    for (int64_t w = 0; w < width; w += n) {
      const int64_t columns = min_of(n, width - w);
      const auto take = [&](const T* p) DW_INLINE_LAMBDA {
        return columns == n ? load(p) : load_part(p, columns);
      };
      Vec<A> square[n];
#pragma GCC unroll 16
      for (int i = 0; i < n; ++i) {
        square[i] = i < planes ? take(from + i * image.channel + w) : zero<A>();
      }
      if (activation != DEPTHWISE_LINEAR) {
        for (int i = 0; i < planes; ++i) {
          square[i] =
              through_activation<A>(square[i], activation, alpha, take(at + i * saved.channel + w));
        }
      }
      transpose<A>(square);
      if (multiplier == 1) {
#pragma GCC unroll 16
        for (int i = 0; i < n; ++i) {
          if (i < columns) store(to + (w + i) * pitch + c, square[i]);
        }
      } else {
        alignas(64) A elements[n * (n + 1)];  // repeat_each() reads past the end
#pragma GCC unroll 16
        for (int i = 0; i < n; ++i) store(elements + i * n, square[i]);
        for (int64_t i = 0; i < columns; ++i) {
          repeat_each(to + (w + i) * pitch + c * multiplier, elements + i * n, planes, multiplier);
        }
      }
    }
  }
}

// The way back: `channels` side by side, columns `pitch` apart, to row h of an image whose columns
// lie side by side. `from` is readable in full vectors of channels.
template <class T>
[[gnu::noinline]] void move_transposed(const TargetView<T>& target, int64_t h, int64_t width,
                                       const Compute<T>* from, int64_t pitch, int64_t channels) {
  using A = Compute<T>;
  constexpr int n = lanes<A>;
  for (int64_t c = 0; c < channels; c += n) {
    T* const to = target.data + h * target.row + c * target.channel;
    const int64_t planes = min_of(n, channels - c);
    for (int64_t w = 0; w < width; w += n) {
      const int64_t columns = min_of(n, width - w);
      Vec<A> square[n];
#pragma GCC unroll 16
      for (int i = 0; i < n; ++i) {
        square[i] = i < columns ? load(from + (w + i) * pitch + c) : zero<A>();
      }
      transpose<A>(square);
#pragma GCC unroll 16
      for (int i = 0; i < n; ++i) {
        if (i >= planes) continue;
        T* const p = to + i * target.channel + w;
        if (columns == n) {
          store(p, square[i]);
        } else {
          store_part(p, square[i], columns);
        }
      }
    }
  }
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_TRANSPOSED_ROWS_H_
