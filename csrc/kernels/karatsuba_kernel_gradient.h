// The kernel's gradient, karatsuba family: for each image the convolution of the input with the
// output's gradient for a kernel, whose results are the kernel's taps.
#ifndef DEPTHWISE_KERNELS_KARATSUBA_KERNEL_GRADIENT_H_
#define DEPTHWISE_KERNELS_KARATSUBA_KERNEL_GRADIENT_H_

#include "channels_kernel_gradient.h"
#include "karatsuba_convolution.h"

namespace depthwise::DW_ISA {

// That convolution, with so many rows of the output's gradient at a time.
inline depthwise_params gradient_convolution(const depthwise_params& p, int64_t rows) {
  depthwise_params taps = p;
  taps.out_height = p.kernel_height;
  taps.out_width = p.kernel_width;
  taps.kernel_height = rows;
  taps.kernel_width = p.out_width;
  taps.activation = DEPTHWISE_LINEAR;
  taps.y = {0, p.dkernel.row, p.dkernel.column, p.dkernel.channel};
  return taps;
}

// As many rows as leave the scratch room for a block.
template <class T>
depthwise_params fitting_gradient_convolution(const depthwise_params& p) {
  int64_t rows = p.out_height;
  while (rows > tuning::least_split_rows && !fits_karatsuba<T>(gradient_convolution(p, rows))) {
    rows = ceil_div(rows, 2);
  }
  return gradient_convolution(p, rows);
}

// What goes back to the input in this way. Both gradients do or neither does, for there is one pass
// for both elsewhere.
template <class T>
bool takes_karatsuba_gradients(const depthwise_params& p) {
  return takes_karatsuba_back<T>(p) && fits_karatsuba<T>(fitting_gradient_convolution<T>(p));
}

// Its sums, in blocks of taps and channels that go over all images.
template <class T>
class KaratsubaTapGradient {
 public:
  using A = Compute<T>;

  explicit KaratsubaTapGradient(const Call& call)
      : call_(call), p_(*call.params), taps_(fitting_gradient_convolution<T>(p_)) {}

  // `finite`: whether all sums are. An infinity or a NaN has come to taps that do not meet it, too.
  bool run(bool& finite) const {
    const KaratsubaCut cut = KaratsubaCut::of<T>(taps_);
    int is_finite = 1;
    const bool done = parallel(cut.count(taps_), call_.threads, [&](int64_t task) {
      return make_block(cut.block(taps_, task), cut.pitch, is_finite);
    });
    finite = is_finite != 0;
    return done;
  }

 private:
  bool make_block(const KaratsubaCut::Block& b, int64_t pitch, int& is_finite) const {
    KaratsubaRoom<T> room(taps_, b.end - b.begin, pitch);
    char* const scratch = static_cast<char*>(thread_scratch(static_cast<size_t>(room.bytes)));
    if (scratch == nullptr) return false;
    const KaratsubaBlock<T> block(room, pitch, scratch);
    block.start(nullptr);
    for (int64_t image = 0; image < p_.batch; ++image) {
      for (int64_t h = 0; h < p_.out_height; h += taps_.kernel_height) {
        room.rows.taps = min_of(taps_.kernel_height, p_.out_height - h);
        room.rows.shift = b.begin + h - p_.pad_top;
        PackedKernel<A> kernel;
        use_gradient(kernel, image, b.first, pitch, h, room.rows.taps, scratch + room.kernel);
        RowSource<T> x = source_of(image, b.first, pitch, scratch + room.ring, room.source_rows);
        if (!block.add(x, kernel)) return false;
      }
    }
    if (!block.is_finite()) __atomic_store_n(&is_finite, 0, __ATOMIC_RELAXED);
    const Places<A> sums = block.sums();
    const TargetView<T> to = target_at<T>(call_.dkernel, taps_.y, 0, b.output);
    const int64_t skipped = b.output - b.first;
    for (int64_t i = b.begin; i < b.end; ++i) {
      move_row(to, i, taps_.out_width, sums.at(i - b.begin, 0) + skipped, pitch, pitch - skipped);
    }
    return true;
  }

  // The output's gradient for a kernel: `count` of its rows from `row` on, as they are staged.
  void use_gradient(PackedKernel<A>& kernel, int64_t image, int64_t first, int64_t channels,
                    int64_t row, int64_t count, void* memory) const {
    RowSource<T> dz = gradient_source<T>(call_, image, first, channels);
    dz.image.data += row * dz.image.row;
    if (dz.activation != DEPTHWISE_LINEAR) dz.saved.data += row * dz.saved.row;
    dz.use_ring(memory, count, 1);
    for (int64_t h = 0; h < count; ++h) dz.staged(h);
    kernel.data = dz.ring;
    kernel.row = dz.ring_row;
    kernel.column = dz.pitch;
  }

  RowSource<T> source_of(int64_t image, int64_t first, int64_t channels, void* ring,
                         int64_t rows) const {
    RowSource<T> source{};
    source.image = image_at<T>(call_.x, p_.x, image, first);
    source.width = p_.in_width;
    source.channels = channels;
    source.multiplier = 1;
    source.activation = DEPTHWISE_LINEAR;
    if (is_compute_type<T> && p_.x.channel == 1) {
      source.use_direct();
    } else {
      source.use_ring(ring, rows, 1);
    }
    return source;
  }

  const Call& call_;
  const depthwise_params& p_;
  const depthwise_params taps_;
};

template <class T>
bool karatsuba_kernel_gradient(const Call& call) {
  if (call.dkernel == nullptr) return channels_kernel_gradient<T>(call);
  bool finite = true;
  if (!KaratsubaTapGradient<T>(call).run(finite)) return false;
  if (!finite) return channels_kernel_gradient<T>(call);
  if (call.dbias == nullptr) return true;
  Call outputs = call;
  outputs.dkernel = nullptr;
  return channels_kernel_gradient<T>(outputs);
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_KARATSUBA_KERNEL_GRADIENT_H_
