// Gradients of the kernel and of the bias, channels family: for each tap, the product of input and
// output gradient summed over images, rows and columns.
#ifndef DEPTHWISE_KERNELS_CHANNELS_KERNEL_GRADIENT_H_
#define DEPTHWISE_KERNELS_CHANNELS_KERNEL_GRADIENT_H_

#include "channels_input_gradient.h"
#include "gradient_parts.h"
#include "tap_sums.h"

namespace depthwise::DW_ISA {

// Calls each(channel, slot) for every vector of a block. The last one overlaps the one before it;
// its sums have a place of their own.
template <class A>
void over_slots(int64_t channels, auto&& each) {
  for (int64_t slot = 0; slot < channels; slot += lanes<A>) {
    each(channels >= lanes<A> ? min_of(slot, channels - lanes<A>) : 0, slot);
  }
}

// What row h of outputs reads that the rows before it do not.
template <class T>
void add_ahead(Ahead& ahead, const depthwise_params& p, const RowSource<T>& x,
               const RowSource<T>& dz, int64_t h) {
  dz.add_ahead(ahead, h);
  const int64_t last = h * p.stride_height - p.pad_top + (p.kernel_height - 1) * p.dilation_height;
  const int64_t first = max_of(0, last - p.stride_height + 1), end = min_of(last + 1, x.height);
  for (int64_t row = first; row < end; ++row) x.add_ahead(ahead, row);
}

// Sums for all taps and channels, over the output rows [begin, end) of one image.
template <class T>
void add_all_taps(const depthwise_params& p, RowSource<T>& x, RowSource<T>& dz,
                  TapSums<Compute<T>> s, int64_t channels, int64_t begin, int64_t end) {
  using A = Compute<T>;
  const Axis rows = row_axis(p);
  A* const partial = s.partial;
  const int64_t asks = ceil_div(channels, lanes<A>) * max_of(1, p.out_width / outputs_at_once);
  // Row i of taps and the `count` - 1 rows after it.
  const auto run = [&](TapSumsFunction<A> function, int64_t i, int64_t count, int64_t first,
                       int64_t last) {
    // A few rows of all channels at a time, which the first-level cache keeps, but so many outputs
    // that loading and storing the sums does not count.
    constexpr int64_t most = tuning::gradient_outputs;
    const A *x_rows[most * gradient_columns], *dz_rows[most];
    s.x = x_rows;
    s.dz = dz_rows;
    const int64_t together = ceil_div(most, max_of(1, p.out_width));
    for (int64_t h = first; h < last; h += s.row_count) {
      s.row_count = min_of(together, last - h);
      Ahead ahead;
      for (int64_t r = 0; r < s.row_count; ++r) {
        const int64_t x_row = (h + r) * rows.stride - rows.pad;
        for (int64_t k = 0; k < count; ++k) {
          x_rows[r * count + k] = x.template row<A>(x_row + (i + k) * rows.dilation);
        }
        dz_rows[r] = dz.template row<A>(h + r);
        if (i == 0 && s.tap == 0) add_ahead(ahead, p, x, dz, h + r + together);
      }
      Asking asking(ahead, 0, max_of(p.in_width, p.out_width), s.row_count * asks);
      s.asking = ahead.count > 0 ? &asking : nullptr;
      over_slots<A>(channels, [&](int64_t channel, int64_t slot) {
        s.channel = channel;
        s.partial = partial + i * s.row_pitch + s.tap * s.tap_pitch + slot;
        function(s);
      });
    }
  };
  for (s.tap = 0; s.tap < p.kernel_width;) {
    const int64_t taps = min_of(gradient_columns, p.kernel_width - s.tap);
    TapSumsChoice<A> choice = choose_tap_sums<A, false>(s.columns, taps);
    if constexpr (repeats_on_load<A>(2)) {
      if (x.repeats_on_load()) choice = choose_tap_sums<A, true>(s.columns, taps);
    }
    for (int64_t i = 0; i < p.kernel_height;) {
      const int64_t count = i + choice.rows <= p.kernel_height ? choice.rows : 1;
      // The rows of outputs that all these rows of taps meet, then what single ones meet besides.
      const TapRange first = outputs_of_tap(rows, i);
      const TapRange last = outputs_of_tap(rows, i + count - 1);
      const int64_t from = max_of(begin, first.begin), to = max_of(from, min_of(end, last.end));
      run(count == 1 ? choice.one : choice.many, i, count, from, to);
      for (int64_t k = 0; count > 1 && k < count; ++k) {
        const TapRange single = outputs_of_tap(rows, i + k);
        const int64_t first_row = max_of(begin, single.begin), last_row = min_of(end, single.end);
        run(choice.one, i + k, 1, first_row, min_of(from, last_row));
        run(choice.one, i + k, 1, max_of(to, first_row), last_row);
      }
      i += count;
    }
    s.tap += taps;
  }
}

// One block of channels over one part. `partial`: [taps + 1][pitch], the last row for the bias.
template <class T>
void sum_rows(const depthwise_params& p, RowSource<T>& x, RowSource<T>& dz, int64_t channels,
              int64_t begin, int64_t end, bool kernel_wanted, Compute<T>* partial, int64_t pitch) {
  using A = Compute<T>;
  const int64_t taps = p.kernel_height * p.kernel_width;
  if (kernel_wanted) {
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
    add_all_taps(p, x, dz, s, channels, begin, end);
  }
  over_slots<A>(channels, [&](int64_t channel, int64_t slot) {
    constexpr int together = 4;  // sums that do not wait for each other
    Vec<A> sums[together] = {};
    for (int64_t h = begin; h < end; ++h) {
      const A* g = dz.template row<A>(h) + channel;
      int64_t w = 0;
      for (; w + together <= p.out_width; w += together, g += together * dz.pitch) {
#pragma GCC unroll 4
        for (int u = 0; u < together; ++u) sums[u] += load(g + u * dz.pitch);
      }
      for (; w < p.out_width; ++w, g += dz.pitch) sums[0] += load(g);
    }
    A* const bias = partial + taps * pitch + slot;
    store(bias, load(bias) + ((sums[0] + sums[1]) + (sums[2] + sums[3])));
  });
}

// Adds up the parts of one row of `outputs` channels, in order, and writes them with a stride.
template <class T>
void write_gradient(const depthwise_params& p, const Compute<T>* partials, int64_t part_elements,
                    int64_t parts, const Blocks& blocks, Compute<T>* sums, auto&& place) {
  using A = Compute<T>;
  for (int64_t b = 0; b < blocks.count; ++b) {
    const int64_t first = blocks.begin(b) * p.multiplier;
    const int64_t count = (blocks.end(b) - blocks.begin(b)) * p.multiplier;
    for (int64_t v = 0; v * lanes<A> < count; ++v) {
      const int64_t slot = v * lanes<A>;
      const int64_t channel = count >= lanes<A> ? min_of(slot, count - lanes<A>) : 0;
      Vec<A> sum = zero<A>();
      for (int64_t i = 0; i < parts; ++i) {
        sum += load(partials + i * part_elements + round_up(first, lanes<A>) + b * lanes<A> + slot);
      }
      store_part(sums + first + channel, sum, min_of(lanes<A>, count));
    }
  }
  place(sums);
}

// Output rows of a block whose staged rows of input and gradient fit the cache.
template <class A>
int64_t gradient_rows(const depthwise_params& p, int64_t outputs) {
  const int64_t bytes =
      (p.in_width * p.stride_height + p.out_width) * outputs * static_cast<int64_t>(sizeof(A));
  return max_of(1, tuning::staged_bytes / max_of(1, bytes));
}

// The parts' sums, and what they are cut into. With `input_gradient`, its rows are written on the
// way, while those of the output's gradient that they are made of are near.
template <class T>
bool sum_parts(const Call& call, const InputGradient<T>* input_gradient) {
  using A = Compute<T>;
  const depthwise_params& p = *call.params;
  const int64_t outputs = p.channels * p.multiplier;
  const int64_t taps = p.kernel_height * p.kernel_width;
  const bool evicting = p.x.column * static_cast<int64_t>(sizeof(T)) % tuning::evicting_bytes == 0;
  const bool direct_x =
      is_compute_type<T> && taps < tuning::gradient_staged_taps && !evicting &&
      RowSource<T>::can_be_direct(p.channels, p.multiplier, p.x.channel, DEPTHWISE_LINEAR);
  const bool direct_dz =
      is_compute_type<T> && RowSource<T>::can_be_direct(outputs, 1, p.dy.channel, p.activation);
  const int64_t copies = direct_x ? 1 : RowSource<T>::staged_copies(p);
  const int64_t reach = (p.kernel_height - 1) * p.dilation_height + 1;
  const bool fetches = gradients_fetch<T>(p) && reads_most_rows(p);

  // Where rows are few, channels are divided: that costs no sums, but memory is read in shorter
  // runs.
  const int64_t rows = p.batch * p.out_height;
  const bool divides =
      rows < tuning::gradient_parts * tuning::gradient_part_rows ||
      tuning::gradient_parts * (taps + 1) * outputs * static_cast<int64_t>(sizeof(A)) >
          tuning::gradient_parts_bytes;
  const int64_t least = fetches ? tuning::least_fetched_vectors : tuning::least_block_vectors;
  const int64_t share =
      divides ? round_up(max_of(outputs / 8, least * lanes<A>), lanes<A>) : outputs;
  const int64_t wanted = min_of(
      share, staged_block<A>(outputs, 1, reach + 1, p.in_width, 1, INT64_MAX,
                             fetches ? tuning::fetched_gradient_bytes : tuning::staged_bytes));
  const Blocks channels(p.channels, ceil_div(wanted, p.multiplier));
  // Slots of whole vectors for every block: see write_gradient().
  const int64_t pitch = round_up(outputs, lanes<A>) + channels.count * lanes<A>;
  const int64_t part_elements = (taps + 1) * pitch;
  const int64_t parts =
      count_parts(rows, channels.count, part_elements * static_cast<int64_t>(sizeof(A)));
  CallMemory memory;
  if (!memory.allocate(parts * part_elements * static_cast<int64_t>(sizeof(A)))) return false;
  A* const partials = memory.as<A>();

  const bool done = parallel(parts * channels.count, call.threads, [&](int64_t task) {
    const int64_t block = task % channels.count, index = task / channels.count;
    const int64_t c0 = channels.begin(block), count = channels.end(block) - c0;
    const int64_t co0 = c0 * p.multiplier, block_outputs = count * p.multiplier;
    const int64_t block_rows = gradient_rows<A>(p, block_outputs);
    const int64_t dx_reach = input_gradient != nullptr ? input_gradient->reach() : 0;
    const int64_t x_rows =
        min_of((block_rows - 1) * p.stride_height + reach, max_of(1, p.in_height));
    const int64_t z_rows = min_of(block_rows + 2 * dx_reach, p.out_height);
    const int64_t x_ring =
        direct_x ? 0 : RowSource<T>::ring_bytes(x_rows, p.in_width, count * copies);
    const int64_t z_ring =
        direct_dz ? 0 : RowSource<T>::ring_bytes(z_rows, p.out_width, block_outputs);
    const int64_t dx_bytes =
        input_gradient != nullptr ? input_gradient->scratch_bytes(p, block_outputs) : 0;
    char* scratch =
        static_cast<char*>(thread_scratch(static_cast<size_t>(x_ring + z_ring + dx_bytes + 64)));
    if (scratch == nullptr) return false;

    A* const partial =
        partials + index * part_elements + round_up(co0, lanes<A>) + block * lanes<A>;
    for (int64_t tap = 0; tap <= taps; ++tap) {
      for (int64_t c = 0; c < block_outputs; c += lanes<A>) {
        store(partial + tap * pitch + c, zero<A>());
      }
    }
    const Part part = part_of(rows, parts, index);
    RowSource<T> x{}, dz{};
    int64_t current = -1;
    for (int64_t row = part.begin; row < part.end;) {
      const int64_t image = row / p.out_height, begin = row % p.out_height;
      const int64_t end = min_of(min_of(begin + block_rows, p.out_height), begin + part.end - row);
      if (image != current) {  // rows that are staged stay from block to block
        current = image;
        x.image = image_at<T>(call.x, p.x, image, c0);
        x.width = p.in_width;
        x.channels = count;
        x.multiplier = p.multiplier;
        x.activation = DEPTHWISE_LINEAR;
        x.height = fetches ? p.in_height : 0;
        if (direct_x) {
          x.use_direct();
        } else {
          x.use_ring(scratch, x_rows, copies);
        }
        dz = gradient_source<T>(call, image, co0, block_outputs);
        if (direct_dz) {
          dz.use_direct();
        } else {
          dz.use_ring(scratch + x_ring, z_rows, 1);
        }
      }
      dz.height = fetches ? p.out_height : 0;
      sum_rows(p, x, dz, block_outputs, begin, end, call.dkernel != nullptr, partial, pitch);
      if (input_gradient != nullptr) {
        // The rows of the input that begin in these rows of the output, which are here already.
        dz.height = 0;
        const int64_t from = begin == 0 ? 0 : min_of(begin * p.stride_height, p.in_height);
        const int64_t to =
            end == p.out_height ? p.in_height : min_of(end * p.stride_height, p.in_height);
        input_gradient->write_rows(call, dz, image, c0, count, from, to, scratch + x_ring + z_ring);
      }
      row += end - begin;
    }
    return true;
  });
  if (!done) return false;

  return parallel(taps + 1, call.threads, [&](int64_t tap) {
    A* const sums = static_cast<A*>(
        thread_scratch(static_cast<size_t>(round_up(outputs, lanes<A>) + lanes<A>) * sizeof(A)));
    if (sums == nullptr) return false;
    const auto place = [&](const A* values) {
      if (tap == taps) {
        if (call.dbias != nullptr) convert_back(static_cast<T*>(call.dbias), 1, values, outputs);
        return;
      }
      if (call.dkernel == nullptr) return;
      const depthwise_kernel_strides& s = p.dkernel;
      T* const to = static_cast<T*>(call.dkernel) + tap / p.kernel_width * s.row +
                    tap % p.kernel_width * s.column;
      if (p.multiplier == 1 || s.channel == p.multiplier * s.multiplier) {
        convert_back(to, p.multiplier == 1 ? s.channel : s.multiplier, values, outputs);
        return;
      }
      for (int64_t c = 0; c < p.channels; ++c) {
        convert_back(to + c * s.channel, s.multiplier, values + c * p.multiplier, p.multiplier);
      }
    };
    write_gradient<T>(p, partials + tap * pitch, part_elements, parts, channels, sums, place);
    return true;
  });
}

template <class T>
bool channels_kernel_gradient(const Call& call) {
  return sum_parts<T>(call, nullptr);
}

// Both gradients in one pass.
template <class T>
bool channels_gradients(const Call& call) {
  InputGradient<T> input_gradient;
  return input_gradient.make(call, false) && sum_parts<T>(call, &input_gradient);
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_CHANNELS_KERNEL_GRADIENT_H_
