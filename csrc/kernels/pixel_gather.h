// Pixels of a row that are some columns apart, side by side and each element once for every result
// that is made of it.
#ifndef DEPTHWISE_KERNELS_PIXEL_GATHER_H_
#define DEPTHWISE_KERNELS_PIXEL_GATHER_H_

#include "rows.h"
#include "shuffles.h"

namespace depthwise::DW_ISA {

// `count` pixels of `channels` elements, `step` apart, to the compute type and side by side. The
// row that they are of ends at `end`.
template <class T>
DW_INLINE void move_pixels(Compute<T>* to, const T* from, int64_t step, int64_t channel_step,
                           int64_t channels, int64_t count, const T* end) {
  constexpr int n = lanes<Compute<T>>;
  if (channel_step == 1 && step == channels) {
    convert_span(to, from, 1, count * channels);
    return;
  }
  if (channels == 1) {
    convert_span(to, from, step, count);
    return;
  }
  int64_t i = 0;
  // What comes after the channels is overwritten by the next pixel.
  const auto move = [&]<int elements>() DW_INLINE_LAMBDA {
    for (; i < count && end - from >= elements; ++i, from += step, to += channels) {
      if constexpr (elements < n) {
        __builtin_memcpy(to, from, elements * sizeof(T));
      } else {
        store(to, load(from));
      }
    }
  };
  if (channel_step == 1 && step > 0 && channels <= n) {
    if (is_compute_type<T> && 4 * channels <= n) {
      move.template operator()<n / 4>();
    } else if (is_compute_type<T> && 2 * channels <= n) {
      move.template operator()<n / 2>();
    } else {
      move.template operator()<n>();
    }
  }
  for (; i < count; ++i, from += step, to += channels) {
    convert_span(to, from, channel_step, channels);
  }
}

// How a vector of results takes its elements: by permutation of a few vectors of the row, where
// pixels are so close and there is an instruction for it, else pixel by pixel. Two cores of a Zen 5
// took, pixel by pixel and permuted, for 3x3 at stride 3 on 9 images of 108x108x2 by 2 54 and 39
// us, at stride 2 on 112x112x3 8.0 and 6.3, 7x7 on 224x224x3 45 and 34; for side by side pixels by
// 2 on 60x60x4, repeated after they are moved and permuted, 5.9 and 6.4.
template <class T>
class PixelGather {
  using A = Compute<T>;
  static constexpr int64_t n = lanes<A>;
  static constexpr int64_t most_sources = 3;

 public:
  // For pixels `step` elements of the input apart.
  PixelGather(const depthwise_params& p, int64_t step)
      : channels_(p.channels), multiplier_(p.multiplier), step_(step), channel_step_(p.x.channel) {
    const int64_t pixel = channels_ * multiplier_;
    if constexpr (can_permute<A>) {
      const bool has_shuffles = pixel == 1 && step == 2;  // convert_span()
      if (channel_step_ == 1 && step > channels_ && pixel <= n && !has_shuffles) plan(pixel);
    }
  }

  // `count` pixels of a row that ends at `end`; `to` and `line`, which is scratch for them without
  // their repetitions, have room up to the next full vector.
  DW_INLINE void operator()(A* to, const T* from, int64_t count, const T* end, A* line) const {
    if constexpr (can_permute<A>) {
      const int64_t elements = count * channels_ * multiplier_;
      switch (sources_) {
        case 1:
          return permute<1>(to, from, elements, end);
        case 2:
          return permute<2>(to, from, elements, end);
        case 3:
          return permute<3>(to, from, elements, end);
        default:
          break;
      }
    }
    move_pixels(multiplier_ == 1 ? to : line, from, step_, channel_step_, channels_, count, end);
    if (multiplier_ != 1) repeat_each(to, line, count * channels_, multiplier_);
  }

 private:
  // What the lanes of a vector take is the same again after as many vectors as a pixel has elements
  // at most.
  void plan(int64_t pixel) {
    int64_t source = 0, channel = 0, copy = 0, furthest = 0;  // of the next element
    do {
      offsets_[period_] = source;
      for (int64_t l = 0; l < n; ++l) {
        const int64_t place = source - offsets_[period_];
        places_[period_][l] = static_cast<int>(place);
        furthest = max_of(furthest, place);
        if (++copy < multiplier_) continue;
        copy = 0;
        ++source;
        if (++channel < channels_) continue;
        channel = 0;
        source += step_ - channels_;
      }
      ++period_;
    } while (period_ * n % pixel != 0);
    advance_ = source;
    const int64_t sources = furthest / n + 1;
    // Pixels that are moved one by one take a load and a store each, and are repeated afterwards.
    const bool pays = multiplier_ > 1 || sources * pixel < n;
    if (pays && sources <= most_sources) sources_ = sources;
  }

  template <int sources>
  [[gnu::noinline]] void permute(A* to, const T* from, int64_t elements, const T* end) const {
    int64_t at = 0, v = 0;
    const auto make = [&](const T* first, auto&& vector_at) DW_INLINE_LAMBDA {
      const Mask<A> places = places_[v];
      Vec<A> taken = permuted(vector_at(first), places);
#pragma GCC unroll 3
      for (int i = 1; i < sources; ++i) {
        taken =
            places >= i * static_cast<int>(n) ? permuted(vector_at(first + i * n), places) : taken;
      }
      store(to + at, taken);
      at += n;
      if (++v == period_) {
        v = 0;
        from += advance_;
      }
    };
    while (at < elements && end - from >= offsets_[v] + sources * n) {
      make(from + offsets_[v], [](const T* whole) DW_INLINE_LAMBDA { return load(whole); });
    }
    while (at < elements) {
      make(from + offsets_[v], [&](const T* part) DW_INLINE_LAMBDA {
        const int64_t left = end - part;
        if (left <= 0) return zero<A>();
        return left >= n ? load(part) : load_part(part, left);
      });
    }
  }

  int64_t channels_, multiplier_, step_, channel_step_;
  int64_t sources_ = 0;  // vectors of the row that one of results is made of; 0: pixel by pixel
  int64_t period_ = 0, advance_ = 0;  // vectors of results, and elements of the row they go over
  int64_t offsets_[n];
  Mask<A> places_[n];
};

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_PIXEL_GATHER_H_
