// The channels family's convolution: rows of results, each made of rows of a source and a packed
// kernel. The forward pass is one class of rows and columns; the gradient of the input is one per
// residue modulo the stride.
#ifndef DEPTHWISE_KERNELS_CHANNELS_CONVOLUTION_H_
#define DEPTHWISE_KERNELS_CHANNELS_CONVOLUTION_H_

#include "channels_row.h"
#include "class_plans.h"
#include "outgrowing.h"
#include "packed_kernel.h"
#include "table.h"
#include "tuning.h"
#include "views.h"

namespace depthwise::DW_ISA {

// Which row of taps of one row of results is the first one of another, with which it may go through
// the same tiles: rows of the source then serve both. 0 where there is no such row.
inline int64_t pair_shift(const AxisPlan& rows) {
  const int64_t tap = max_of(1, rows.tap_step), result = max_of(1, rows.result_step);
  const int64_t shift = result / greatest_common_divisor(tap, result);
  return shift == 1 || shift < rows.taps ? shift : 0;
}

// The zeros of clipped tiles, and how many elements these go over. There are none where taps may
// not be multiplied with zeros, or where finding the elements would take memory and time.
template <class A>
struct ClippedTiles {
  const void* zeros = nullptr;  // of any type
  int64_t elements = 0;
  CallMemory memory;

  bool make(const ClassPlans& plans, const PackedKernel<A>& kernel, const depthwise_params& p,
            int64_t source_rows, int threads) {
    bool wanted = false;
    for (int64_t i = 0; i < plans.column_classes; ++i) {
      const AxisPlan& plan = plans.columns[i];
      wanted = wanted || plan.is_clipped();
      const int64_t spread = (tile_columns - 1) * (plan.result_step / max_of(1, plan.tap_step));
      const int64_t rows = p.kernel_height + pair_shift(plans.rows[0]);
      elements = max_of(elements, min_of(rows, source_rows) * (spread + plan.taps));
    }
    if (!wanted || elements > tuning::most_clipped_elements || !kernel.is_finite(p, threads)) {
      elements = 0;
      return true;
    }
    const int64_t count = round_up(p.channels * p.multiplier, lanes<A>) + lanes<A>;
    if (!memory.allocate(count * static_cast<int64_t>(sizeof(A)))) return false;
    A* const to = memory.as<A>();
    for (int64_t c = 0; c < count; c += lanes<A>) store(to + c, zero<A>());
    zeros = to;
    return true;
  }
  // Bytes of scratch for where a tile's elements lie.
  int64_t bytes() const { return round_up(elements * static_cast<int64_t>(sizeof(void*)), 64); }
  template <class S>
  Clipping<S> with(void* scratch) const {
    return {static_cast<const S*>(zeros), static_cast<const S**>(scratch)};
  }
};

// How often dense tiles load each element of a source of which `apart` elements have a result.
inline double tile_loads(const depthwise_params& p, int64_t apart) {
  const int64_t columns = (tile_columns - 1) * p.stride_width + p.kernel_width;
  return static_cast<double>(p.kernel_height * columns) / static_cast<double>(tile_columns * apart);
}

// Whether rows may be read and written as they are stored. Tiles of a half type convert each
// element that they load: that is quick beside dense tiles, which use it in several sums.
template <class T>
bool tiles_convert(const ClassPlans& plans, bool can_clip, double loads) {
  if (is_compute_type<T>) return true;
  for (int64_t i = 0; i < plans.column_classes; ++i) {
    if (choose_dense_tiles<T>(plans.columns[i], 1, can_clip, Loading::as_stored) == nullptr) {
      return false;
    }
  }
  return loads < most_conversions<T>;
}

// How far apart such rows of results are; 0 where there are none.
template <class S>
int64_t pair_distance(const ClassPlans& plans, bool can_clip) {
  const AxisPlan& rows = plans.rows[0];
  const int64_t shift = pair_shift(rows);
  if (tile_rows != 2 || shift == 0) return 0;
  for (int64_t i = 0; i < plans.column_classes; ++i) {
    if (choose_dense_tiles<S>(plans.columns[i], 2, can_clip, Loading::as_stored) == nullptr) {
      return 0;
    }
  }
  const int64_t distance = rows.target_step * (shift * rows.tap_step / rows.result_step);
  return distance < plans.target_rows() ? distance : 0;
}

// Rows of results that are made in one group, in pairs so far apart.
inline int64_t rows_together(int64_t distance) { return max_of(1, 2 * distance); }

// Rows that are asked for ahead while others are made: of `source` those from `row` on, up to
// `end`, one for every `stride` of the target's from `target` on.
template <class T>
struct RowsAlong {
  const RowSource<T>* source;
  int64_t row, end, target, stride;
  bool with_saved;

  void add(Ahead& ahead, int64_t h) const {
    const int64_t made = h - target, next = row + made / stride;
    if (made % stride != 0 || next >= end) return;
    source->add_ahead(ahead, next);
    if (with_saved) source->add_saved_ahead(ahead, next);
  }
};

// Whether tiles had better begin with their last channels. A load waits for stores before it that
// go to the same place in another page. Where columns are so far apart that all lines of a tile are
// at one place, and results lie a little after the input in a page, a vector's results are where
// the next one's elements are, but not where those of the one before are. `steps`: elements from
// one column to the next, of both, or-ed.
template <class S>
bool results_follow(const S* results, const S* input, int64_t steps) {
  constexpr uintptr_t apart = tuning::aliasing_bytes;
  if (steps * static_cast<int64_t>(sizeof(S)) % tuning::aliasing_bytes != 0) return false;
  const uintptr_t after =
      (reinterpret_cast<uintptr_t>(results) - reinterpret_cast<uintptr_t>(input)) % apart;
  return after > 0 && after < tuning::following_bytes;
}

// Makes rows of one image and block of channels, from rows that are given out in the type in which
// those made are stored.
template <class T, class S>
struct RowMaker {
  using A = Compute<T>;
  const ClassPlans& plans;
  RowSource<T>& source;
  const PackedKernel<A>& w;
  int64_t first_output;
  TargetView<S> target;
  TargetView<S> preactivation;
  int64_t second_row;  // where the second row of a pair goes after the first; 0: to its own place
  const Finish<A>& finish;
  RowTaps<S>* taps;  // room for the taps of a pair of rows
  const Clipping<S>& clipping;
  const RowsAlong<T>* along = nullptr;  // asked for on the way, instead of the source's own rows
  RowsAside<S>* aside = nullptr;        // where rows are made, instead of the target

  // Target row h and, if `distance` is not 0, the one so far after it. Returns whether it made that
  // one, too.
  bool make(int64_t h, int64_t distance) const {
    const AxisPlan& rows = plans.rows[plans.row_classes == 1 ? 0 : h % plans.row_classes];
    const int64_t t = quotient(h - rows.target_first, rows.target_step);
    const int64_t position = rows.position_of(t);
    const TapRange range = rows.valid_taps(t);
    int64_t shift = 0;
    TapRange second{range.end, range.end};  // of the second row, as taps of this one
    if (distance != 0) {
      shift = pair_shift(rows);
      const TapRange other = rows.valid_taps(t + distance / rows.target_step);
      if (range.begin < range.end && other.begin < other.end) {
        second = {other.begin + shift, other.end + shift};
      }
    }
    const bool both = second.begin < second.end;
    const auto kernel_row = [&](int64_t q) {
      return w.data + (rows.kernel_first + q * rows.kernel_step) * w.row + first_output;
    };
    const int64_t last = both ? second.end : range.end;
    for (int64_t q = range.begin; q < last; ++q) {
      RowTaps<S>& row = taps[q - range.begin];
      row.x = source.template row<S>(position + q * rows.tap_step);
      // Of a row that has no tap here, some weights, which nobody reads.
      row.w[0] = kernel_row(min_of(q, rows.taps - 1));
      if constexpr (tile_rows == 2) row.w[1] = kernel_row(max_of(q - shift, 0));
    }
    // Without a value for each member: GCC would fill it by string instructions, which take a while
    // to start.
    Tile<S> tile;
    tile.last_first = false;
    tile.rows = taps;
    tile.channels = source.channels * source.multiplier;
    tile.multiplier = source.multiplier;
    tile.out_row = second_row != 0 ? second_row : distance * target.row;
    if (aside != nullptr) {
      aside->start(h, both ? distance : 0);
      tile.out_row = aside->row();
    } else if (is_compute_type<S> && source.direct && source.multiplier == 1 &&
               !(has_half_lines<S> && finish.stream)) {
      tile.last_first = range.begin < last && results_follow(target.data + h * target.row, taps->x,
                                                             source.pitch | target.column);
    }
    tile.preactivation_row = second_row != 0 ? second_row : distance * preactivation.row;
    tile.finish = &finish;
    tile.single_rows = (both ? second.begin : range.end) - range.begin;
    tile.shared_rows = both ? range.end - second.begin : 0;
    tile.second_rows = both ? second.end - range.end : 0;
    const RowTarget<S> to{
        target.data + h * target.row, target.column,
        preactivation.data != nullptr ? preactivation.data + h * preactivation.row : nullptr,
        preactivation.column, aside};
    const int64_t step = both ? rows.tap_step : 1, more = both ? 2 * shift : rows.result_step;
    const int64_t next = position + (rows.taps - 1 + (both ? shift : 0)) * rows.tap_step + step;
    Ahead ahead;
    if (along == nullptr) {
      add_source_ahead(ahead, next, step, more);
    } else {
      along->add(ahead, h);
      if (both) along->add(ahead, h + distance);
    }
    for (int64_t i = 0; i < plans.column_classes; ++i) {
      const Ahead* const asked = i == 0 && ahead.count > 0 ? &ahead : nullptr;
      const auto run = [&]<Loading how>() {
        RowOfTiles<S, how>(plans.columns[i], both ? 2 : 1, source.pitch, w.column, clipping, to,
                           tile, asked)
            .make();
      };
      const Loading loading = source.loading();
      if constexpr (can_permute_run<S>) {
        if (loading == Loading::from_run) {
          run.template operator()<Loading::from_run>();
          continue;
        }
      }
      if constexpr (repeats_on_load<S>(2)) {
        if (loading == Loading::repeated) {
          run.template operator()<Loading::repeated>();
          continue;
        }
      }
      run.template operator()<Loading::as_stored>();
    }
    if (aside != nullptr && !aside->in_order()) aside->made(aside->width());
    return both;
  }

  // What is on its way while a row is computed: rows of the source that it is the first to read,
  // from some columns ahead on, then the first columns of the `count` rows from `next` on. No more
  // of either than there is room for, however many a stride leaves out.
  void add_source_ahead(Ahead& ahead, int64_t next, int64_t step, int64_t count) const {
    if (source.height == 0) return;
    const int64_t columns = source.columns_ahead();
    count = min_of(count, Ahead::most / 4);
    for (int64_t i = -count; i < count; ++i) {
      const int64_t row = next + i * step, at = i < 0 ? -columns : source.width - columns;
      source.add_ahead(ahead, row, at);
      source.add_saved_ahead(ahead, row, at);
    }
  }

  // The target rows [begin, end), in pairs where `distance` is not 0. Calls after_row(h, i) for
  // each when it is made, i being 1 for the second one of a pair.
  void make_each(int64_t begin, int64_t end, int64_t distance, auto&& after_row) const {
    const int64_t single = max_of(1, distance);
    for (int64_t group = begin; group < end; group += distance != 0 ? 2 * distance : 1) {
      for (int64_t h = group; h < min_of(group + single, end); ++h) {
        const bool pairs = distance != 0 && h + distance < end;
        const bool both = make(h, pairs ? distance : 0);
        after_row(h, 0);
        if (!pairs) continue;
        if (!both) make(h + distance, 0);
        after_row(h + distance, both ? 1 : 0);
      }
    }
  }
};

// Whether rows are staged even if they could be read in place: where the lines that a tile reads
// fall into a few sets of the first-level cache and evict each other. Side by side they do not.
template <class T>
bool stage_pays(const depthwise_params& p, const depthwise_image_strides& source) {
  const int64_t column = source.column * static_cast<int64_t>(sizeof(T));
  const int64_t row = source.row * static_cast<int64_t>(sizeof(T));
  const int64_t reuse = p.kernel_height * p.kernel_width / (p.stride_height * p.stride_width);
  const bool is_large = p.kernel_height * p.kernel_width >= tuning::evicting_taps;
  if (reuse < tuning::staged_reuse || is_large || column % tuning::evicting_bytes != 0) {
    return false;
  }
  constexpr int line = 64, sets = 64;
  int lines[sets] = {};
  const int64_t rows = min_of(p.kernel_height, ceil_div(p.in_height, p.dilation_height));
  const int64_t columns =
      min_of(tile_columns + p.kernel_width - 1, ceil_div(p.in_width, p.dilation_width));
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      const int64_t at = i * p.dilation_height * row + j * p.dilation_width * column;
      if (++lines[at / line & (sets - 1)] > tuning::evicting_lines) return true;
    }
  }
  return false;
}

// Tasks of one call on the forward pass or the input's gradient: blocks of channels, and of rows,
// of an image. Those that follow each other go to one thread, see parallel_for(). Where channels
// lie side by side, threads had better share images by rows: with a part of each column for each,
// what one fetches ahead of its run are lines that another is writing. So tasks go row by row
// there, unless each thread would read many weights for that.
class BlockTasks {
 public:
  struct Task {
    int64_t image, channels, rows;  // which, and which blocks
  };

  template <class A>
  static BlockTasks of(const depthwise_params& p, int64_t channel_blocks, int64_t row_blocks) {
    const int64_t weights = p.kernel_height * p.kernel_width * p.channels * p.multiplier;
    const bool is_light = weights * static_cast<int64_t>(sizeof(A)) <= tuning::whole_weights_bytes;
    const bool goes_by_rows = p.layout == DEPTHWISE_CHANNELS_LAST && is_light;
    return {p.batch, channel_blocks, row_blocks, goes_by_rows};
  }

  int64_t count() const { return batch_ * channels_ * rows_; }

  Task operator[](int64_t index) const {
    const int64_t image = index / (channels_ * rows_), left = index % (channels_ * rows_);
    if (goes_by_rows_) return {image, left % channels_, left / channels_};
    return {image, left / rows_, left % rows_};
  }

 private:
  BlockTasks(int64_t batch, int64_t channels, int64_t rows, bool goes_by_rows)
      : batch_(batch), channels_(channels), rows_(rows), goes_by_rows_(goes_by_rows) {}

  int64_t batch_, channels_, rows_;  // images, and blocks of each
  bool goes_by_rows_;
};

// Channels of a block whose rows are read in place: all, if the rows that a result needs and the
// weights stay near in the second-level cache, for then memory is read in one run; else as many as
// leave its weights in the first-level cache. `tasks` are cut into these as far as rows do not do.
// Rows that are fetched from memory should be so in long runs.
template <class T>
int64_t direct_block(const depthwise_params& p, int64_t outputs, int64_t rows, int64_t width,
                     int64_t target_rows, int64_t tasks, bool fetches) {
  using A = Compute<T>;
  constexpr int64_t vector = lanes<A> * static_cast<int64_t>(sizeof(T));
  constexpr int64_t weights = lanes<A> * static_cast<int64_t>(sizeof(A));
  const int64_t taps = p.kernel_height * p.kernel_width;
  const int64_t row_tasks = max_of(1, min_of(tasks, target_rows / tuning::least_task_rows));
  // About as many as are asked for: a cut more makes shorter runs of memory, one fewer larger
  // tasks.
  const int64_t channel_tasks = max_of(1, (2 * tasks + row_tasks) / (2 * row_tasks));
  const int64_t share = ceil_div(outputs, channel_tasks * lanes<A>);
  const int64_t rows_bytes = fetches ? tuning::fetched_rows_bytes : tuning::direct_rows_bytes;
  const int64_t weights_bytes =
      fetches ? tuning::fetched_weights_bytes : tuning::direct_weights_bytes;
  const int64_t vectors = ceil_div(outputs, lanes<A>);
  const int64_t most_weights = image_bytes<T>(p) < tuning::outgrowing_bytes
                                   ? tuning::whole_weights_bytes
                                   : tuning::outgrowing_weights_bytes;
  const bool whole = rows * width * vectors * vector <= tuning::whole_rows_bytes &&
                     taps * vectors * weights <= most_weights;
  const int64_t fitting =
      min_of(rows_bytes / (max_of(1, rows * width) * vector), weights_bytes / (taps * weights));
  const int64_t wanted = whole ? share : min_of(fitting, share);
  return min_of(max_of(wanted, tuning::least_block_vectors) * lanes<A>, outputs);
}

// Vectors of channels that a block has at most whose rows are transposed as they are staged: each
// channel is a stream of memory.
inline int64_t most_staged_vectors(const depthwise_image_strides& source, int64_t width,
                                   bool fetches) {
  if (source.column != 1 || source.channel == 1) return INT64_MAX;
  if (width < tuning::plane_columns) return INT64_MAX;
  return fetches ? tuning::fetched_plane_vectors : tuning::plane_vectors;
}

// How many of the `channels`, each of so many results, a block has whose rows are staged: `most`
// vectors of them. They may fill the second-level cache. Rather than into blocks of rows, which
// stage the rows between them twice, `tasks` are cut into these.
template <class A>
int64_t staged_block(int64_t channels, int64_t results, int64_t rows, int64_t width, int64_t tasks,
                     int64_t most = INT64_MAX, int64_t bytes = tuning::staged_bytes) {
  constexpr int64_t vector = lanes<A> * static_cast<int64_t>(sizeof(A));
  const int64_t fitting = max_of(bytes / (max_of(1, rows * width) * vector), 1);
  const int64_t share = ceil_div(channels, max_of(1, tasks) * lanes<A>);
  const int64_t least = ceil_div(tuning::least_staged_vectors, results);
  const int64_t wanted = min_of(fitting, max_of(share, least));
  return min_of(min_of(wanted, most) * lanes<A>, channels);
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_CHANNELS_CONVOLUTION_H_
