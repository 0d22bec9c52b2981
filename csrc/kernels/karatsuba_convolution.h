// The karatsuba family: large kernels at strides and dilations of one, forward and back to the
// input, whose gradient is the convolution of the output's with the kernel turned round.
#ifndef DEPTHWISE_KERNELS_KARATSUBA_CONVOLUTION_H_
#define DEPTHWISE_KERNELS_KARATSUBA_CONVOLUTION_H_

#include "channels_forward.h"
#include "channels_input_gradient.h"
#include "karatsuba_block.h"

namespace depthwise::DW_ISA {

// A forward pass: of `call.x` to `call.y`. The gradient of the input is one, too, of other arrays.
// It is made in blocks, of a few vectors of channels and of rows of an image.
template <class T>
class KaratsubaConvolution {
 public:
  using A = Compute<T>;

  // `activation`: whose derivative at `call.saved` the source is to be multiplied with; `turned`:
  // the kernel is used from its last tap to its first one.
  KaratsubaConvolution(const Call& call, int activation, bool turned)
      : call_(call),
        p_(*call.params),
        activation_(activation),
        turned_(turned),
        outputs_(p_.channels * p_.multiplier) {}

  bool pack() {
    return kernel_.pack(static_cast<const T*>(call_.kernel), p_, call_.threads) &&
           bias_.pack(static_cast<const T*>(call_.bias), outputs_) && plans_.make_forward(p_, 1);
  }
  // Weights that are not would meet elements that they have nothing to do with.
  bool has_finite_weights() const { return kernel_.is_finite(p_, call_.threads); }

  bool run() {
    if (turned_) {
      kernel_.data += (p_.kernel_height - 1) * kernel_.row + (p_.kernel_width - 1) * kernel_.column;
      kernel_.row = -kernel_.row;
      kernel_.column = -kernel_.column;
    }
    const KaratsubaCut cut = KaratsubaCut::of<T>(p_);
    const int64_t blocks = cut.count(p_);
    return parallel(p_.batch * blocks, call_.threads, [&](int64_t task) {
      return make_block(task / blocks, cut.block(p_, task % blocks), cut.pitch);
    });
  }

 private:
  using Block = KaratsubaCut::Block;

  bool make_block(int64_t image, const Block& b, int64_t pitch) const {
    KaratsubaRoom<T> room(p_, b.end - b.begin, pitch);
    char* const scratch = static_cast<char*>(thread_scratch(static_cast<size_t>(room.bytes)));
    if (scratch == nullptr) return false;
    room.rows.shift = b.begin - p_.pad_top;
    const KaratsubaBlock<T> block(room, pitch, scratch);
    RowSource<T> source = source_of(image, b.first, pitch, scratch + room.ring, room.source_rows);
    PackedKernel<A> kernel;
    kernel.use_block(kernel_, b.first, pitch, p_, scratch + room.kernel);
    block.start(bias_.data != nullptr ? bias_.data + b.first : nullptr);
    if (!block.add(source, kernel)) return false;
    // An infinity or a NaN of the source has come to results that do not have it, and differences
    // of large elements may have overflowed.
    if (!block.is_finite()) make_directly(source, kernel, b, block.taps(), block.sums());
    finish(image, b, block.sums());
    return true;
  }

  // The `outputs` channels of an image from number `first` on.
  RowSource<T> source_of(int64_t image, int64_t first, int64_t outputs, void* ring,
                         int64_t rows) const {
    RowSource<T> source{};
    source.image = image_at<T>(call_.x, p_.x, image, first / p_.multiplier);
    source.saved = image_at<T>(call_.saved, p_.saved, image, first);
    source.width = p_.in_width;
    source.channels = outputs / p_.multiplier;
    source.multiplier = p_.multiplier;
    source.activation = activation_;
    source.alpha = static_cast<A>(p_.alpha);
    const bool is_plain = activation_ == DEPTHWISE_LINEAR && p_.multiplier == 1;
    if (is_compute_type<T> && is_plain && p_.x.channel == 1) {
      source.use_direct();
    } else {
      source.use_ring(ring, rows, p_.multiplier);
    }
    return source;
  }

  void make_directly(RowSource<T>& source, const PackedKernel<A>& kernel, const Block& b,
                     RowTaps<A>* taps, const Places<A>& sums) const {
    const Clipping<A> clipping{nullptr, nullptr};
    const Finish<A> finish{bias_.data != nullptr ? bias_.data + b.first : nullptr,
                           clamp_range<A>(DEPTHWISE_LINEAR), DEPTHWISE_LINEAR, A(0), false};
    const int64_t row = sums.row * sums.pitch;
    const RowMaker<T, A> maker{plans_,
                               source,
                               kernel,
                               0,
                               TargetView<A>{sums.data - b.begin * row, row, sums.pitch, 1},
                               TargetView<A>{nullptr, 0, 0, 0},
                               0,
                               finish,
                               taps,
                               clipping};
    maker.make_each(b.begin, b.end, 0, [](int64_t, int64_t) {});
  }

  // Sums through the activation to where they go.
  void finish(int64_t image, const Block& b, const Places<A>& sums) const {
    const TargetView<T> y = target_at<T>(call_.y, p_.y, image, b.output);
    const TargetView<T> z = target_at<T>(call_.preactivation, p_.saved, image, b.output);
    const ClampRange<A> clamp_to = clamp_range<A>(p_.activation);
    const Vec<A> low = broadcast(clamp_to.low), high = broadcast(clamp_to.high);
    const A alpha = static_cast<A>(p_.alpha);
    const int64_t skipped = b.output - b.first, width = p_.out_width;
    for (int64_t h = b.begin; h < b.end; ++h) {
      A* const row = sums.at(h - b.begin, 0);
      if (z.data != nullptr) move_row(z, h, width, row + skipped, sums.pitch, sums.pitch - skipped);
      for (int64_t i = 0; i < width * sums.pitch; i += lanes<A>) {
        const Vec<A> sum = load(row + i);
        store(row + i,
              clamp_to.is_clamp ? clamp(sum, low, high) : activate<A>(p_.activation, alpha, sum));
      }
      move_row(y, h, width, row + skipped, sums.pitch, sums.pitch - skipped);
    }
  }

  const Call& call_;
  const depthwise_params& p_;
  int activation_;
  bool turned_;
  int64_t outputs_;
  PackedKernel<A> kernel_;
  PackedBias<A> bias_;
  ClassPlans plans_;
};

// Taps of a result that meet the source, on the average.
inline double meeting_taps(const Axis& a) {
  int64_t results = 0;
  for (int64_t j = 0; j < a.kernel; ++j) {
    const TapRange of_tap = outputs_of_tap(a, j);
    results += of_tap.end - of_tap.begin;
  }
  return static_cast<double>(results) / static_cast<double>(a.out);
}

template <class T>
bool fits_karatsuba(const depthwise_params& p) {
  return KaratsubaCut::of<T>(p).template bytes<T>(p) <= most_karatsuba_bytes;
}

// Large kernels at strides of one: where the multiplications that are left, with what it takes to
// split and to add, are fewer. Columns are padded, so that rows alone are cut to taps that meet the
// image.
template <class T>
bool takes_karatsuba(const depthwise_params& p) {
  using A = Compute<T>;
  const int64_t outputs = p.channels * p.multiplier;
  if (p.kernel_height * p.kernel_width < tuning::least_split_taps || p.kernel_height == 1 ||
      p.kernel_width == 1 || p.stride_height != 1 || p.stride_width != 1 ||
      p.dilation_height != 1 || p.dilation_width != 1 || lanes<A> % p.multiplier != 0 ||
      outputs < lanes<A> || !fits_karatsuba<T>(p)) {
    return false;
  }
  const auto halves = [](int64_t taps) { return ceil_div(taps, 2) * 2 + taps / 2; };
  const double rows = meeting_taps(row_axis(p)), columns = meeting_taps(column_axis(p));
  const double meeting = rows / static_cast<double>(p.kernel_height);
  const double multiplied =
      static_cast<double>(halves(p.kernel_height) * halves(p.kernel_width)) / 4;
  const double filled =
      static_cast<double>(outputs) / static_cast<double>(round_up(outputs, lanes<A>));
  return rows * columns * filled > multiplied * meeting + tuning::splitting_taps;
}

template <class T>
bool karatsuba_forward(const Call& call) {
  KaratsubaConvolution<T> convolution(call, DEPTHWISE_LINEAR, false);
  if (!convolution.pack()) return false;
  return convolution.has_finite_weights() ? convolution.run() : channels_forward<T>(call);
}

// The gradient of the input as a forward pass over the output's gradient.
inline depthwise_params backward_convolution(const depthwise_params& p) {
  depthwise_params back = p;
  back.in_height = p.out_height;
  back.in_width = p.out_width;
  back.out_height = p.in_height;
  back.out_width = p.in_width;
  back.pad_top = p.kernel_height - 1 - p.pad_top;
  back.pad_left = p.kernel_width - 1 - p.pad_left;
  back.activation = DEPTHWISE_LINEAR;
  back.x = p.dy;
  back.y = p.dx;
  return back;
}

template <class T>
bool takes_karatsuba_back(const depthwise_params& p) {
  return p.multiplier == 1 && p.kernel_height * p.kernel_width >= tuning::least_split_taps &&
         takes_karatsuba<T>(backward_convolution(p));
}

template <class T>
bool karatsuba_input_gradient(const Call& call) {
  const depthwise_params back = backward_convolution(*call.params);
  Call forward = call;
  forward.params = &back;
  forward.x = call.dy;
  forward.y = call.dx;
  KaratsubaConvolution<T> convolution(forward, call.params->activation, true);
  if (!convolution.pack()) return false;
  return convolution.has_finite_weights() ? convolution.run() : channels_input_gradient<T>(call);
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_KARATSUBA_CONVOLUTION_H_
