// Blocks of the karatsuba family: a few vectors of channels and some rows of results, the nine
// products that make them, and the scratch that these are made in.
#ifndef DEPTHWISE_KERNELS_KARATSUBA_BLOCK_H_
#define DEPTHWISE_KERNELS_KARATSUBA_BLOCK_H_

#include "karatsuba.h"

namespace depthwise::DW_ISA {

// A thread's scratch, at most: less where vectors are shorter, for so a block's channels are fewer.
constexpr int64_t most_karatsuba_bytes = tuning::scratch_bytes / 64 * DW_VECTOR_BYTES;

// Of a block of `count` rows of results, `pitch` channels each: what its scratch holds. The parts
// are offsets in bytes.
template <class T>
struct KaratsubaRoom {
  using A = Compute<T>;
  SplitAxis rows, columns;
  int64_t source_rows, kernel, ring, taps, split, plane, weights, made, sums, bytes;

  KaratsubaRoom(const depthwise_params& p, int64_t count, int64_t pitch) {
    rows = {count, p.kernel_height, p.in_height, 0};
    columns = {p.out_width, p.kernel_width, p.in_width, -p.pad_left};
    source_rows = max_of(1, min_of(p.in_height, count + p.kernel_height - 1));
    const int64_t split_rows = min_of(rows.most_reach(), source_rows / 2 + 1);
    ScratchLayout layout;
    kernel =
        layout.add<char>(max_of(PackedKernel<A>::block_bytes(pitch, p),
                                RowSource<T>::ring_bytes(p.kernel_height, p.kernel_width, pitch)));
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

// What a convolution is cut into: channels, `pitch` of them in each block, and rows of results.
// Sizes alone say so: a block that holds something that is not finite is done over, and bits must
// not depend on the threads.
struct KaratsubaCut {
  int64_t pitch, row_blocks;

  template <class T>
  static KaratsubaCut of(const depthwise_params& p) {
    using A = Compute<T>;
    const int64_t vectors = p.channels * p.multiplier / lanes<A>;
    const int64_t most = max_of(1, p.out_height / tuning::least_split_rows);
    int64_t blocks = min_of(most, ceil_div(tuning::least_split_blocks, vectors));
    while (blocks < most && KaratsubaCut{lanes<A>, blocks}.bytes<T>(p) > most_karatsuba_bytes) {
      ++blocks;
    }
    int64_t wide = 1;
    while (2 * wide <= tuning::most_split_vectors &&
           vectors >= 2 * wide * tuning::least_split_blocks &&
           KaratsubaCut{2 * wide * lanes<A>, blocks}.bytes<T>(p) <= tuning::wide_split_bytes) {
      wide *= 2;
    }
    return {wide * lanes<A>, blocks};
  }

  // Of scratch that the largest block takes.
  template <class T>
  int64_t bytes(const depthwise_params& p) const {
    const int64_t rows = 2 * ceil_div(ceil_div(p.out_height, 2), row_blocks);
    return KaratsubaRoom<T>(p, rows, pitch).bytes;
  }
  int64_t count(const depthwise_params& p) const {
    return ceil_div(p.channels * p.multiplier, pitch) * row_blocks;
  }

  struct Block {
    int64_t output, first;  // the first channel of results to be written, and to be made
    int64_t begin, end;     // rows of results
  };
  // The last one of channels overlaps the one before it.
  Block block(const depthwise_params& p, int64_t index) const {
    const int64_t pairs = ceil_div(p.out_height, 2), row = index % row_blocks;
    const int64_t output = index / row_blocks * pitch;
    return {output, min_of(output, p.channels * p.multiplier - pitch), pairs * row / row_blocks * 2,
            min_of(p.out_height, pairs * (row + 1) / row_blocks * 2)};
  }
};

// The sums of one block. `room` says where its results and its taps meet the source.
template <class T>
class KaratsubaBlock {
 public:
  using A = Compute<T>;

  KaratsubaBlock(const KaratsubaRoom<T>& room, int64_t pitch, char* scratch)
      : room_(room), pitch_(pitch), scratch_(scratch) {}

  Places<A> sums() const { return {at(room_.sums), room_.columns.out, pitch_}; }
  RowTaps<A>* taps() const { return reinterpret_cast<RowTaps<A>*>(scratch_ + room_.taps); }

  // Begins with the bias of each channel; null for zeros.
  void start(const A* bias) const {
    subtract<A>(at(room_.sums), pitch_, bias, nullptr, 0, results(), pitch_);
  }
  bool is_finite() const { return all_finite(at(room_.sums), results() * pitch_); }

  // Adds the convolution of a source with a kernel.
  bool add(RowSource<T>& source, const PackedKernel<A>& kernel) const {
    for (const Product row_product : products) {
      const TapRange rows = room_.rows.meeting(row_product);
      if (rows.begin == rows.end) continue;
      const Places<A> split{at(room_.split), room_.columns.extent, pitch_};
      split_rows(source, row_product, rows, split);
      for (const Product column_product : products) {
        const TapRange columns = room_.columns.meeting(column_product);
        if (columns.begin == columns.end) continue;
        const TapRange all = columns_of(room_.columns, column_product, columns);
        const Places<A> plane{at(room_.plane), all.end - all.begin, pitch_};
        for (int64_t u = rows.begin; u < rows.end; ++u) {
          split_row(plane.at(u - rows.begin, 0), split.at(u - rows.begin, 0), pitch_, room_.columns,
                    column_product, columns, all);
        }
        const SplitKernel<A> weights = split_taps(kernel, pitch_, room_.rows, row_product,
                                                  room_.columns, column_product, at(room_.weights));
        if (!add_product(row_product, column_product, rows, all, plane, weights)) return false;
      }
    }
    return true;
  }

 private:
  A* at(int64_t place) const { return reinterpret_cast<A*>(scratch_ + place); }
  int64_t results() const { return room_.rows.out * room_.columns.out; }

  // The elements of a product of rows, in all columns of the source.
  void split_rows(RowSource<T>& source, Product product, TapRange range,
                  const Places<A>& to) const {
    for (int64_t u = range.begin; u < range.end; ++u) {
      const Pair pair = room_.rows.elements(product, u);
      const A* const first = pair.first < 0 ? nullptr : source.template row<A>(pair.first);
      const A* const second = pair.second < 0 ? nullptr : source.template row<A>(pair.second);
      subtract(to.at(u - range.begin, 0), to.pitch, first, second, source.pitch, to.row, to.pitch);
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
  bool add_product(Product row_product, Product column_product, TapRange rows, TapRange columns,
                   const Places<A>& plane, const SplitKernel<A>& weights) const {
    ClassPlans plans;
    if (!plans.make(room_.rows.plan(row_product, rows),
                    room_.columns.plan(column_product, columns))) {
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
    A* const made = at(room_.made);
    const int64_t row = room_.columns.results(shared_product) * plane.pitch;
    const RowMaker<A, A> maker{plans,
                               source,
                               kernel,
                               0,
                               TargetView<A>{made, 0, plane.pitch, 1},
                               TargetView<A>{nullptr, 0, 0, 0},
                               row,
                               finish,
                               taps(),
                               clipping};
    const int64_t count = room_.rows.results(row_product);
    const Places<A> to = sums();
    maker.make_each(0, count, pair_distance<A>(plans, true), [&](int64_t t, int64_t i) {
      const A* const results = made + i * row;
      if (row_product != odd_product) {
        add_results(to.at(2 * t, 0), results, to.pitch, room_.columns, column_product);
      }
      if (row_product != even_product && 2 * t + 1 < room_.rows.out) {
        add_results(to.at(2 * t + 1, 0), results, to.pitch, room_.columns, column_product);
      }
    });
    return true;
  }

  const KaratsubaRoom<T>& room_;
  int64_t pitch_;
  char* scratch_;
};

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_KARATSUBA_BLOCK_H_
