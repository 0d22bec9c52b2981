// The karatsuba family: large kernels at strides and dilations of one, forward and back to the
// input, whose gradient is the convolution of the output's with the kernel turned round.
#ifndef DEPTHWISE_KERNELS_KARATSUBA_CONVOLUTION_H_
#define DEPTHWISE_KERNELS_KARATSUBA_CONVOLUTION_H_

#include "channels_forward.h"
#include "channels_input_gradient.h"
#include "karatsuba.h"

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

  // What blocks have: elements of a place, and into how many rows are cut. Sizes alone say so: a
  // block that holds something that is not finite is done over, and bits must not depend on the
  // threads.
  struct Cut {
    int64_t pitch, row_blocks;
  };
  static Cut cut(const depthwise_params& p) {
    const int64_t vectors = p.channels * p.multiplier / lanes<A>;
    const int64_t most = max_of(1, p.out_height / tuning::least_split_rows);
    int64_t blocks = min_of(most, ceil_div(tuning::least_split_blocks, vectors));
    while (blocks < most && bytes(p, {lanes<A>, blocks}) > most_bytes()) ++blocks;
    int64_t wide = 1;
    while (2 * wide <= tuning::most_split_vectors &&
           vectors >= 2 * wide * tuning::least_split_blocks &&
           bytes(p, {2 * wide * lanes<A>, blocks}) <= tuning::wide_split_bytes) {
      wide *= 2;
    }
    return {wide * lanes<A>, blocks};
  }
  // Of scratch that the largest block takes.
  static int64_t bytes(const depthwise_params& p, const Cut& cut) {
    const int64_t rows = 2 * ceil_div(ceil_div(p.out_height, 2), cut.row_blocks);
    return Room(p, rows, cut.pitch).bytes;
  }
  static bool fits(const depthwise_params& p) { return bytes(p, cut(p)) <= most_bytes(); }

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
    const Cut cut = KaratsubaConvolution::cut(p_);
    const int64_t wide = ceil_div(outputs_, cut.pitch), high = cut.row_blocks;
    const int64_t pairs = ceil_div(p_.out_height, 2);
    return parallel(p_.batch * wide * high, call_.threads, [&](int64_t task) {
      Block b{};
      b.image = task / (wide * high);
      b.pitch = cut.pitch;
      b.output = task / high % wide * b.pitch;
      // The last one overlaps the one before it.
      b.first = min_of(b.output, outputs_ - b.pitch);
      b.begin = pairs * (task % high) / high * 2;
      b.end = min_of(p_.out_height, pairs * (task % high + 1) / high * 2);
      return make_block(b);
    });
  }

 private:
  struct Block {
    int64_t image, output, first;  // the first channel of results to be written, and to be made
    int64_t pitch;                 // channels of results to be made
    int64_t begin, end;            // rows of results
  };

  // Of a block of so many rows: what its scratch holds.
  struct Room {
    SplitAxis rows, columns;
    int64_t source_rows, kernel, ring, taps, split, plane, weights, made, sums, bytes;

    Room(const depthwise_params& p, int64_t count, int64_t pitch) {
      rows = {count, p.kernel_height, p.in_height, 0};
      columns = {p.out_width, p.kernel_width, p.in_width, -p.pad_left};
      source_rows = max_of(1, min_of(p.in_height, count + p.kernel_height - 1));
      const int64_t split_rows = min_of(rows.most_reach(), source_rows / 2 + 1);
      ScratchLayout layout;
      kernel = layout.add<char>(PackedKernel<A>::block_bytes(pitch, p));
      // Whether or not rows are read in place: sizes alone say what a block has.
      ring = layout.add<char>(RowSource<T>::ring_bytes(source_rows, p.in_width, pitch));
      taps = layout.add<RowTaps<A>>(2 * p.kernel_height + 2);
      split = layout.add<A>(split_rows * p.in_width * pitch);
      plane = layout.add<A>(split_rows * columns.most_reach() * pitch);
      weights = layout.add<A>(rows.halves(shared_product) * columns.halves(shared_product) * pitch);
      made = layout.add<A>(2 * columns.results(shared_product) * pitch);
      sums = layout.add<A>(count * p.out_width * pitch + lanes<A>);  // move_row() reads on
      bytes = layout.bytes();
    }
  };

  static int64_t most_bytes() { return tuning::scratch_bytes / 64 * DW_VECTOR_BYTES; }

  bool make_block(const Block& b) const {
    Room room(p_, b.end - b.begin, b.pitch);
    room.rows.shift = b.begin - p_.pad_top;
    char* const scratch = static_cast<char*>(thread_scratch(static_cast<size_t>(room.bytes)));
    if (scratch == nullptr) return false;
    RowSource<T> source = source_of(b, scratch + room.ring, room.source_rows);
    const auto at = [&](int64_t place) { return reinterpret_cast<A*>(scratch + place); };
    RowTaps<A>* const taps = reinterpret_cast<RowTaps<A>*>(scratch + room.taps);
    const Places<A> sums{at(room.sums), p_.out_width, b.pitch};

    PackedKernel<A> kernel;
    kernel.use_block(kernel_, b.first, b.pitch, p_, scratch + room.kernel);
    const int64_t results = (b.end - b.begin) * p_.out_width;
    const A* const bias = bias_.data != nullptr ? bias_.data + b.first : nullptr;
    subtract<A>(sums.data, b.pitch, bias, nullptr, 0, results, b.pitch);
    for (const Product row_product : products) {
      const TapRange rows = room.rows.meeting(row_product);
      if (rows.begin == rows.end) continue;
      const Places<A> split{at(room.split), p_.in_width, b.pitch};
      split_rows(source, room.rows, row_product, rows, split);
      for (const Product column_product : products) {
        const TapRange columns = room.columns.meeting(column_product);
        if (columns.begin == columns.end) continue;
        const TapRange all = columns_of(room.columns, column_product, columns);
        const Places<A> plane{at(room.plane), all.end - all.begin, b.pitch};
        for (int64_t u = rows.begin; u < rows.end; ++u) {
          split_row(plane.at(u - rows.begin, 0), split.at(u - rows.begin, 0), b.pitch, room.columns,
                    column_product, columns, all);
        }
        const SplitKernel<A> weights = split_taps(kernel, b.pitch, room.rows, row_product,
                                                  room.columns, column_product, at(room.weights));
        if (!add_product(room, row_product, column_product, rows, all, plane, weights,
                         at(room.made), taps, sums)) {
          return false;
        }
      }
    }
    if (!are_finite(sums.data, results * b.pitch)) make_directly(source, kernel, b, taps, sums);
    finish(b, sums);
    return true;
  }

  RowSource<T> source_of(const Block& b, void* ring, int64_t rows) const {
    RowSource<T> source{};
    source.image = image_at<T>(call_.x, p_.x, b.image, b.first / p_.multiplier);
    source.saved = image_at<T>(call_.saved, p_.saved, b.image, b.first);
    source.width = p_.in_width;
    source.channels = b.pitch / p_.multiplier;
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

  // The elements of a product of rows, in all columns of the source.
  void split_rows(RowSource<T>& source, const SplitAxis& rows, Product product, TapRange range,
                  const Places<A>& to) const {
    for (int64_t u = range.begin; u < range.end; ++u) {
      const Pair pair = rows.elements(product, u);
      const A* const first = pair.first < 0 ? nullptr : source.template row<A>(pair.first);
      const A* const second = pair.second < 0 ? nullptr : source.template row<A>(pair.second);
      subtract(to.at(u - range.begin, 0), to.pitch, first, second, source.pitch, p_.in_width,
               to.pitch);
    }
  }

  // Which columns a plane has: with zeros beside those that meet the source, so that no tile is
  // clipped, unless the kernel covers them all from each of the tiles' columns.
  static TapRange columns_of(const SplitAxis& columns, Product product, TapRange meeting) {
    const int64_t count = columns.results(product);
    const int64_t widest = ceil_div(count, max_of(1, ceil_div(count, tile_columns)));
    const bool covers = count >= narrowest_tile_columns &&
                        covering_fits(tile_rows, static_cast<int>(widest)) &&
                        meeting.begin >= count - 1 && meeting.end <= columns.halves(product);
    return covers ? meeting : TapRange{0, columns.reach(product)};
  }

  // Adds the results of a product of rows and one of columns to the sums.
  bool add_product(const Room& room, Product row_product, Product column_product, TapRange rows,
                   TapRange columns, const Places<A>& plane, const SplitKernel<A>& weights, A* made,
                   RowTaps<A>* taps, const Places<A>& sums) const {
    ClassPlans plans;
    if (!plans.make(room.rows.plan(row_product, rows),
                    room.columns.plan(column_product, columns))) {
      return false;
    }
    PackedKernel<A> kernel;
    kernel.data = weights.data;
    kernel.row = weights.row;
    kernel.column = weights.column;
    RowSource<A> source{};
    source.image = {plane.data, plane.row * plane.pitch, plane.pitch, 1};
    source.width = plane.row;
    source.channels = plane.pitch;
    source.multiplier = 1;
    source.activation = DEPTHWISE_LINEAR;
    source.use_direct();
    const Clipping<A> clipping{plane.data, nullptr};  // no tile is clipped but covering ones
    const Finish<A> finish{nullptr, clamp_range<A>(DEPTHWISE_LINEAR), DEPTHWISE_LINEAR, A(0),
                           false};
    const int64_t row = room.columns.results(shared_product) * plane.pitch;
    const RowMaker<A, A> maker{plans,
                               source,
                               kernel,
                               0,
                               TargetView<A>{made, 0, plane.pitch, 1},
                               TargetView<A>{nullptr, 0, 0, 0},
                               row,
                               finish,
                               taps,
                               clipping};
    const int64_t count = room.rows.results(row_product);
    maker.make_each(0, count, pair_distance<A>(plans, true), [&](int64_t t, int64_t i) {
      const A* const results = made + i * row;
      if (row_product != odd_product) {
        add_results(sums.at(2 * t, 0), results, sums.pitch, room.columns, column_product);
      }
      if (row_product != even_product && 2 * t + 1 < room.rows.out) {
        add_results(sums.at(2 * t + 1, 0), results, sums.pitch, room.columns, column_product);
      }
    });
    return true;
  }

  // An infinity or a NaN of the source has come to results that do not have it, and differences of
  // large elements may have overflowed.
  static bool are_finite(const A* sums, int64_t count) {
    Vec<A> check = zero<A>();
    for (int64_t i = 0; i < count; i += lanes<A>) check = fma(load(sums + i), zero<A>(), check);
    return horizontal_sum<A>(check) == 0;
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
  void finish(const Block& b, const Places<A>& sums) const {
    const TargetView<T> y = target_at<T>(call_.y, p_.y, b.image, b.output);
    const TargetView<T> z = target_at<T>(call_.preactivation, p_.saved, b.image, b.output);
    const ClampRange<A> clamp_to = clamp_range<A>(p_.activation);
    const Vec<A> low = broadcast(clamp_to.low), high = broadcast(clamp_to.high);
    const A alpha = static_cast<A>(p_.alpha);
    const int64_t skipped = b.output - b.first, width = p_.out_width;
    for (int64_t h = b.begin; h < b.end; ++h) {
      A* const row = sums.at(h - b.begin, 0);
      if (z.data != nullptr) move_row(z, h, width, row + skipped, b.pitch, b.pitch - skipped);
      for (int64_t i = 0; i < width * b.pitch; i += lanes<A>) {
        const Vec<A> sum = load(row + i);
        store(row + i,
              clamp_to.is_clamp ? clamp(sum, low, high) : activate<A>(p_.activation, alpha, sum));
      }
      move_row(y, h, width, row + skipped, b.pitch, b.pitch - skipped);
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
      outputs < lanes<A> || !KaratsubaConvolution<T>::fits(p)) {
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
  return p.multiplier == 1 && takes_karatsuba<T>(backward_convolution(p));
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
