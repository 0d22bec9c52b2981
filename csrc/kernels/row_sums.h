// The kernel's gradient of rows of outputs, channels family: sums for all taps of a block of
// channels, vector by vector, with the rows to come asked for on the way.
#ifndef DEPTHWISE_KERNELS_ROW_SUMS_H_
#define DEPTHWISE_KERNELS_ROW_SUMS_H_

#include "rows.h"
#include "table.h"
#include "tap_sums.h"
#include "tuning.h"

namespace depthwise::DW_ISA {

// Calls each(channel, slot, is_half) for every vector of a block. The last one, half a one where
// that is enough and there are `halves`, overlaps the one before it; its sums have a place of their
// own.
template <class A>
void over_slots(int64_t channels, bool halves, auto&& each) {
  for (int64_t slot = 0; slot < channels; slot += lanes<A>) {
    const bool is_half = halves && channels - slot <= lanes<A> / 2;
    const int64_t size = is_half ? lanes<A> / 2 : lanes<A>;
    each(channels >= size ? min_of(slot, channels - size) : 0, slot, is_half);
  }
}

// Which of the rows to come are asked for while sums are made. The rest is while the input's
// gradient is, so that memory is busy all the time.
enum class AskedInSums { input, input_and_saved, all };

// What row h of outputs reads that the rows before it do not; past the image's last one, of the
// next image.
template <class T>
void add_ahead(Ahead& ahead, const depthwise_params& p, const RowSource<T>& x,
               const RowSource<T>& dz, int64_t h, AskedInSums asked) {
  if (asked == AskedInSums::all) dz.add_ahead(ahead, h);
  if (asked != AskedInSums::input) dz.add_saved_ahead(ahead, h);
  const bool is_next = h >= p.out_height;
  const int64_t row = is_next ? h - p.out_height : h, before = is_next ? x.height : 0;
  const int64_t last =
      row * p.stride_height - p.pad_top + (p.kernel_height - 1) * p.dilation_height;
  const int64_t first = row == 0 ? 0 : max_of(0, last - p.stride_height + 1);
  const int64_t end = min_of(last + 1, x.height);
  for (int64_t i = first; i < end && ahead.count < Ahead::most; ++i) x.add_ahead(ahead, before + i);
}

// The outputs' own sum, over the output rows [begin, end) of one image. Of `dz`, whose rows may
// have columns beside those of the sums, these begin at column `first`.
template <class T>
void add_outputs_alone(const depthwise_params& p, RowSource<T>& dz, int64_t first, Compute<T>* bias,
                       int64_t channels, bool halves, int64_t begin, int64_t end) {
  using A = Compute<T>;
  const int64_t classes = tap_classes(column_axis(p));
  for (int64_t h = begin; h < end; ++h) {
    const A* const row = dz.template row<A>(h) + first * dz.pitch;
    over_slots<A>(channels, halves, [&](int64_t channel, int64_t slot, bool is_half) {
      const auto add = [&]<class V>(V sum) {
        store_as(bias + slot, plus_outputs(sum, row + channel, dz.pitch, p.out_width, classes));
      };
      is_half ? add(load_as<HalfVec<A>>(bias + slot)) : add(load(bias + slot));
    });
  }
}

// What adds the taps of a row up: of whole vectors, and of half ones where there are any.
template <class A>
struct TapSumsChoices {
  TapSumsChoice<A> whole, half{};

  TapSumsChoices(const Axis& columns, int64_t taps, Loading loading, bool halves);
};

// Not inline, like find_dense_tiles().
template <class A>
TapSumsChoices<A>::TapSumsChoices(const Axis& columns, int64_t taps, Loading loading, bool halves)
    : whole(choose_tap_sums<Vec<A>, Loading::as_stored, A>(columns, taps)) {
  if constexpr (repeats_on_load<A>(2)) {
    if (loading == Loading::repeated) {
      whole = choose_tap_sums<Vec<A>, Loading::repeated, A>(columns, taps);
    }
  }
  if constexpr (can_permute_run<A>) {
    if (loading == Loading::from_run) {
      whole = choose_tap_sums<Vec<A>, Loading::from_run, A>(columns, taps);
    }
  }
  if constexpr (has_half_vectors<A>) {
    if (halves) half = choose_tap_sums_of_halves<A>(columns, taps);
  }
}

// Sums for all taps and channels, and the outputs' own, over the output rows [begin, end) of one
// image.
template <class T>
void add_all_taps(const depthwise_params& p, RowSource<T>& x, RowSource<T>& dz,
                  int64_t first_column, TapSums<Compute<T>> s, int64_t channels, bool halves,
                  int64_t begin, int64_t end, AskedInSums asked) {
  using A = Compute<T>;
  const Axis rows = row_axis(p);
  A *const partial = s.partial, *const bias = s.bias;
  const int64_t asks = ceil_div(channels, lanes<A>) * max_of(1, p.out_width / outputs_at_once);
  // Row i of taps and the `count` - 1 rows after it.
  const auto run = [&](const TapSumsChoices<A>& choices, int64_t i, int64_t count, int64_t first,
                       int64_t last) {
    // A few rows of all channels at a time, which the first-level cache keeps, but so many outputs
    // that loading and storing the sums does not count.
    constexpr int64_t most = tuning::gradient_outputs;
    const A *x_rows[most * gradient_columns], *dz_rows[most];
    s.x = x_rows;
    s.dz = dz_rows;
    const int64_t together = max_of(ceil_div(most, max_of(1, p.out_width)), tuning::gradient_rows);
    const bool is_first = i == 0 && s.tap == 0;
    for (int64_t h = first; h < last; h += s.row_count) {
      s.row_count = min_of(together, last - h);
      Ahead ahead;
      for (int64_t r = 0; r < s.row_count; ++r) {
        const int64_t x_row = (h + r) * rows.stride - rows.pad;
        for (int64_t k = 0; k < count; ++k) {
          x_rows[r * count + k] = x.template row<A>(x_row + (i + k) * rows.dilation);
        }
        dz_rows[r] = dz.template row<A>(h + r) + first_column * dz.pitch;
        if (is_first) add_ahead(ahead, p, x, dz, h + r + together, asked);
      }
      Asking asking(ahead, 0, max_of(x.width, dz.width), s.row_count * asks);
      s.asking = ahead.count > 0 ? &asking : nullptr;
      over_slots<A>(channels, halves, [&](int64_t channel, int64_t slot, bool is_half) {
        const TapSumsChoice<A>& choice = is_half ? choices.half : choices.whole;
        s.channel = channel;
        s.partial = partial + i * s.row_pitch + s.tap * s.tap_pitch + slot;
        s.bias = is_first ? bias + slot : nullptr;
        (count == 1 ? choice.one : choice.many)(s);
      });
    }
  };
  // The first row of taps adds the outputs that it meets to their own sum.
  const TapRange met = outputs_of_tap(rows, 0);
  add_outputs_alone(p, dz, first_column, bias, channels, halves, begin, min_of(end, met.begin));
  for (s.tap = 0; s.tap < p.kernel_width;) {
    const int64_t taps = min_of(gradient_columns, p.kernel_width - s.tap);
    const TapSumsChoices<A> choices(s.columns, taps, x.loading(), halves);
    for (int64_t i = 0; i < p.kernel_height;) {
      const int64_t most = choices.whole.rows, count = i + most <= p.kernel_height ? most : 1;
      // The rows of outputs that all these rows of taps meet, then what single ones meet besides.
      const TapRange first = outputs_of_tap(rows, i);
      const TapRange last = outputs_of_tap(rows, i + count - 1);
      const int64_t from = max_of(begin, first.begin), to = max_of(from, min_of(end, last.end));
      run(choices, i, count, from, to);
      for (int64_t k = 0; count > 1 && k < count; ++k) {
        const TapRange single = outputs_of_tap(rows, i + k);
        const int64_t first_row = max_of(begin, single.begin), last_row = min_of(end, single.end);
        run(choices, i + k, 1, first_row, min_of(from, last_row));
        run(choices, i + k, 1, max_of(to, first_row), last_row);
      }
      i += count;
    }
    s.tap += taps;
  }
  add_outputs_alone(p, dz, first_column, bias, channels, halves, max_of(begin, met.end), end);
}

// One block of channels over one part. `partial`: [taps + 1][pitch], the last row for the bias;
// `halves`: see over_slots().
template <class T>
void sum_rows(const depthwise_params& p, RowSource<T>& x, RowSource<T>& dz, int64_t first_column,
              int64_t channels, int64_t begin, int64_t end, bool kernel_wanted, AskedInSums asked,
              Compute<T>* partial, int64_t pitch, bool halves) {
  using A = Compute<T>;
  A* const bias = partial + p.kernel_height * p.kernel_width * pitch;
  if (!kernel_wanted) {
    add_outputs_alone(p, dz, first_column, bias, channels, halves, begin, end);
    return;
  }
  TapSums<A> s{};
  s.x_pitch = x.pitch;
  s.z_pitch = dz.pitch;
  s.columns = column_axis(p);
  s.classes = tap_classes(s.columns);
  s.channels = channels;
  s.multiplier = p.multiplier;
  s.partial = partial;
  s.tap_pitch = pitch;
  s.row_pitch = p.kernel_width * pitch;
  s.bias = bias;
  add_all_taps(p, x, dz, first_column, s, channels, halves, begin, end, asked);
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_ROW_SUMS_H_
