// One row of results of the channels family, or two: which tiles it is made of.
#ifndef DEPTHWISE_KERNELS_CHANNELS_ROW_H_
#define DEPTHWISE_KERNELS_CHANNELS_ROW_H_

#include "covering_tile.h"
#include "rows_aside.h"

namespace depthwise::DW_ISA {

// Columns of a dense tile, at least: of a row that is cut into several, and of one that is itself
// shorter, which has one tile. One core of a Zen 4 took column by column and in one tile for 3x3 on
// 8 of 3x3x1024 39 us and 20, training 180 and 143, on 8 of 2x2x1024 14 and 9; for 9x9 at strides 1
// and 3 on 16 of 7x7x602 641 and 433. (Sums of two columns of a single row wait for each other: 5x4
// without padding on 8 of 5x5x512 9.6 and 11.9.)
constexpr int least_tile_columns = 4;
constexpr int narrowest_tile_columns = 2;

// Of rows by themselves or in pairs, which sum in the same order so; `touch`: whose results are one
// tap apart. Single ones have few sums to go on with: 3x3 on 3x3x1024 took 6.5 us and 5.4 with
// AVX2, at stride 2 on 8 of 6x6x512 22 and 27.
constexpr int64_t narrowest_row(bool touch) {
  if (tile_rows == 2) return narrowest_tile_columns;
  return touch ? least_tile_columns - 1 : least_tile_columns;
}
inline int64_t narrowest_row(const AxisPlan& plan) {
  return narrowest_row(plan.result_step == plan.tap_step);
}

// Columns of each class that a dilation divides a row into, at least. One core of a Zen 4 took with
// classes of four columns at least and of these, in us, for 3x3 at dilation 2 on 4 of 7x7x256 20
// and 12, training 81 and 62, for 6x6 on 6 of 93x6x53 328 and 138, for 5x5 at stride 2 and dilation
// 3 on 4 of 20x20x256 107 and 65; with AVX2 the first two 22 and 20, 305 and 174, but with three at
// stride 3 and dilation 2 on 18x18x240 10 and 12.
inline int64_t least_class_columns(const depthwise_params& p) {
  return narrowest_row(p.stride_width == 1);
}

// The dense tiles of `narrowest_tile_columns` to `tile_columns` columns that are `stride` taps
// apart.
template <class S>
struct DenseTiles {
  static constexpr int count = tile_columns - narrowest_tile_columns + 1;
  TileFunction<S> full[count];
  TileFunction<S> clipped[count];
  TileFunction<S> covering[count];  // null where there is none
};

template <int... columns>
struct TileWidths {};

template <int rows, int stride, Loading loading, class S, int... columns>
constexpr DenseTiles<S> make_dense_tiles(TileWidths<columns...>) {
  static_assert(sizeof...(columns) == DenseTiles<S>::count);
  return {{dense_tile<rows, columns, stride, false, loading, S>...},
          {dense_tile<rows, columns, stride, true, loading, S>...},
          {covering_tile_or_none<rows, columns, stride, loading, S>()...}};
}

template <int rows, int stride, Loading loading, class S>
inline constexpr DenseTiles<S> dense_tiles =
    make_dense_tiles<rows, stride, loading, S>(TileWidths<2, 3, 4, 5, 6, 7, 8>{});

// Those for so many rows of results; null where there are none.
template <Loading loading, class S>
const DenseTiles<S>* dense_tiles_for(int rows, int64_t stride) {
  if (stride < 1 || stride > 3) return nullptr;
  if constexpr (tile_rows == 2) {
    static constexpr const DenseTiles<S>* pairs[] = {&dense_tiles<2, 1, loading, S>,
                                                     &dense_tiles<2, 2, loading, S>,
                                                     &dense_tiles<2, 3, loading, S>};
    if (rows == 2) return pairs[stride - 1];
  }
  static constexpr const DenseTiles<S>* single[] = {&dense_tiles<1, 1, loading, S>,
                                                    &dense_tiles<1, 2, loading, S>,
                                                    &dense_tiles<1, 3, loading, S>};
  return single[stride - 1];
}

// The same, however elements are loaded. Not inline, for tiles take long to compile: those of the
// type that half types are computed in are compiled in table_float32.cc only.
template <class S>
const DenseTiles<S>* find_dense_tiles(int rows, int64_t stride, Loading loading) {
  if constexpr (can_permute_run<S>) {
    if (loading == Loading::from_run) return dense_tiles_for<Loading::from_run, S>(rows, stride);
  }
  if constexpr (repeats_on_load<S>(2)) {
    if (loading == Loading::repeated) return dense_tiles_for<Loading::repeated, S>(rows, stride);
  }
  return dense_tiles_for<Loading::as_stored, S>(rows, stride);
}

// Null where a row of this plan is no work for dense tiles, or would need clipped ones where these
// cannot be used, or where tiles had better not read and write this type.
template <class S>
const DenseTiles<S>* choose_dense_tiles(const AxisPlan& plan, int rows, bool can_clip,
                                        Loading loading) {
  if (plan.count < narrowest_row(plan)) return nullptr;
  if (!can_clip && plan.is_clipped()) return nullptr;
  if constexpr (converts_quickly<S>) {
    for (int stride = 1; stride <= 3; ++stride) {
      if (plan.result_step == stride * plan.tap_step) {
        return find_dense_tiles<S>(rows, stride, loading);
      }
    }
  }
  return nullptr;
}

// What clipped tiles need: a column of zeros, as long as a block has channels, in place of every
// column that does not meet the source, and room for where a tile's elements lie.
template <class S>
struct Clipping {
  const S* zeros;  // null where there are no clipped tiles
  const S** places;
};

// Says where a clipped tile's elements lie: those `inside`, counted from the tile's first column
// and tap, which is `offset` after column 0, and zeros for the others.
template <class S>
void name_elements(Tile<S>& tile, const Clipping<S>& clipping, TapRange taps, int64_t spread,
                   TapRange inside, int64_t offset) {
  tile.elements = clipping.places;
  tile.row_elements = taps.end - taps.begin + spread;
  const S** place = clipping.places;
  const int64_t row_count = tile.single_rows + tile.shared_rows + tile.second_rows;
  const int64_t before = min_of(tile.row_elements, max_of(0, inside.begin - taps.begin));
  const int64_t there = min_of(tile.row_elements, max_of(before, inside.end - taps.begin));
  for (int64_t r = 0; r < row_count; ++r, place += tile.row_elements) {
    const S* const x = tile.rows[r].x + offset;
    int64_t e = 0;
    for (; e < before; ++e) place[e] = clipping.zeros;
    for (; e < there; ++e) place[e] = x + (taps.begin + e) * tile.x_tap;
    for (; e < tile.row_elements; ++e) place[e] = clipping.zeros;
  }
}

// Where a row of results goes: its columns are a step apart.
template <class S>
struct RowTarget {
  S* out;
  int64_t out_step;
  S* preactivation;  // null unless asked for
  int64_t preactivation_step;
  RowsAside<S>* aside = nullptr;  // where it is made instead, if this is not null
};

// Makes one row of results, or two of them at once. `tile` has its rows, channels and finish set,
// and how far the second row's results are from the first one's; the rest of it is overwritten (a
// copy of what has just been written element by element would wait for it). `pitch` is the source's
// column step. Tiles ask for those columns of `ahead` that they go over, if it is not null, unless
// they are narrow.
template <class S, Loading loading>
class RowOfTiles {
 public:
  RowOfTiles(const AxisPlan& plan, int rows, int64_t pitch, int64_t w_pitch,
             const Clipping<S>& clipping, const RowTarget<S>& to, Tile<S>& tile, const Ahead* ahead)
      : plan_(plan),
        rows_(rows),
        pitch_(pitch),
        w_pitch_(w_pitch),
        clipping_(clipping),
        to_(to),
        tile_(tile),
        ahead_(ahead) {
    tile.x_step = plan.result_step * pitch;
    tile.x_tap = plan.tap_step * pitch;
    tile.w_tap = plan.kernel_step * w_pitch;
    tile.out_step = (to.aside != nullptr ? to.aside->column() : to.out_step) * plan.target_step;
    tile.preactivation_step = to.preactivation_step * plan.target_step;
    tile.ahead = nullptr;
  }

  void make() {
    const bool in_order = goes_in_order();
    const DenseTiles<S>* const dense =
        in_order ? nullptr
                 : choose_dense_tiles<S>(plan_, rows_, clipping_.zeros != nullptr, loading);
    if (dense != nullptr) {
      make_dense(*dense);
    } else {
      make_of_any(in_order);
    }
  }

 private:
  // Whether columns evict each other.
  bool is_evicting() const {
    return pitch_ * static_cast<int64_t>(sizeof(S)) % tuning::evicting_bytes == 0;
  }

  // Where no element is used twice, what counts is to read them in order: a few columns at a time.
  // Two cores of a Zen 5 took for 2x2 at stride 2 on 56x56x960 147 us in dense tiles and 94
  // without, on 4 of 67x67x128 104 and 74, for 3x3 at stride 3 on 130x130x64 44 and 33. Not so
  // where they are asked for in order before, unless columns evict each other: two of a Zen 4 took
  // for 3x3 at stride 3 on 4 of 120x120x197 705 us in dense tiles and 1105, on 8 of 37x34x800 447
  // and 507, but for 2x2 at stride 2 on 8 of 56x56x256 305 and 281, on 16 of 28x28x512 344 and 294.
  bool goes_in_order() const {
    return rows_ == 1 && !plan_.overlaps() && tile_.channels >= 4 * lanes<Compute<S>> &&
           (ahead_ == nullptr || is_evicting());
  }

  TapRange all_taps() const { return {0, plan_.taps}; }

  // How often tiles of so many columns may follow each other.
  int64_t most_repeats(int64_t columns) const {
    return to_.aside != nullptr ? to_.aside->most() / columns : plan_.count;
  }

  // The tiles that run next, over as many columns from t on, ask for these columns of what is
  // ahead.
  void ask(int64_t t, int64_t columns) {
    tile_.ahead = ahead_;
    tile_.ahead_begin = max_of(0, plan_.position_of(t));
    tile_.ahead_end = plan_.position_of(t + columns);
  }

  // Tiles of `columns` each.
  void run(int64_t t, int64_t columns, TapRange taps, TileFunction<S> function, int64_t repeats) {
    RowsAside<S>* const aside = to_.aside;
    const int64_t target = plan_.target_first + t * plan_.target_step;
    tile_.x_first = (plan_.position_of(t) + taps.begin * plan_.tap_step) * pitch_;
    tile_.w_first = (plan_.kernel_first + taps.begin * plan_.kernel_step) * w_pitch_;
    tile_.tap_count = taps.end - taps.begin;
    tile_.repeats = repeats;
    tile_.out = aside != nullptr ? aside->at(target) : to_.out + target * to_.out_step;
    tile_.preactivation = to_.preactivation != nullptr
                              ? to_.preactivation + target * to_.preactivation_step
                              : nullptr;
    function(tile_);
    if (aside != nullptr && aside->in_order()) aside->made(target + repeats * columns);
  }

  // Tiles of nearly equal width: none of them is narrow. Those of one width that need no clipping
  // go together.
  void make_dense(const DenseTiles<S>& dense) {
    const int64_t tiles = ceil_div(plan_.count, tile_columns);
    const int64_t longer = plan_.count % tiles;  // so many have a column more than the rest
    int64_t repeats = 1;
    for (int64_t i = 0, t = 0, columns; i < tiles; i += repeats, t += repeats * columns) {
      columns = plan_.count / tiles + (i < longer ? 1 : 0);
      const int64_t alike = (i < longer ? longer : tiles) - i;
      const int64_t full = t >= plan_.full_begin ? max_of(0, plan_.full_end - t) / columns : 0;
      repeats = max_of(1, min_of(min_of(alike, full), most_repeats(columns)));
      ask(t, repeats * columns);
      if (full > 0) {
        run(t, columns, all_taps(), dense.full[columns - narrowest_tile_columns], repeats);
      } else {
        make_clipped(dense, t, columns);
      }
    }
  }

  // One tile whose taps do not all meet the source.
  void make_clipped(const DenseTiles<S>& dense, int64_t t, int64_t columns) {
    const int64_t width = columns - narrowest_tile_columns;
    const int64_t position = plan_.position_of(t);
    const int64_t spread = (columns - 1) * (plan_.result_step / plan_.tap_step);
    // The elements that meet the source, and the taps that have any of these.
    const int64_t begin = position >= 0 ? 0 : ceil_div(-position, plan_.tap_step);
    const int64_t end =
        position >= plan_.extent ? 0 : ceil_div(plan_.extent - position, plan_.tap_step);
    // Where each of these elements has a tap in every column, elements are gone over.
    if (dense.covering[width] != nullptr && begin >= spread && begin < end && end <= plan_.taps) {
      run(t, columns, {begin, end}, dense.covering[width], 1);
      return;
    }
    TapRange taps;
    taps.begin = min_of(plan_.taps, max_of(0, begin - spread));
    taps.end = max_of(taps.begin, min_of(plan_.taps, end));
    name_elements(tile_, clipping_, taps, spread, {begin, end}, position * pitch_);
    run(t, columns, taps, dense.clipped[width], 1);
  }

  // As many tiles of `columns`, whose taps all meet the source, as there are from t on. Returns the
  // column after them.
  int64_t make_full(int64_t t, TileFunction<S> function, int64_t columns, bool asks) {
    for (int64_t left = (plan_.full_end - t) / columns; left > 0;) {
      const int64_t repeats = min_of(left, most_repeats(columns));
      if (asks) ask(t, repeats * columns);
      run(t, columns, all_taps(), function, repeats);
      tile_.ahead = nullptr;
      t += repeats * columns;
      left -= repeats;
    }
    return t;
  }

  // Whatever the distances between taps and columns, and single columns at the borders.
  void make_of_any(bool in_order) {
    int64_t t = 0;
    const auto single = [&] {
      run(t, 1, plan_.valid_taps(t), any_tile<1, 4, loading, S>, 1);
      ++t;
    };
    while (t < plan_.full_begin) single();
    if (!in_order) t = make_full(t, any_tile<tile_columns, 1, loading, S>, tile_columns, true);
    const int64_t pixels = 4 * tile_.single_rows * plan_.taps;
    if (!in_order || (pixels <= tuning::most_ordered_pixels && !is_evicting())) {
      t = make_full(t, any_tile<4, 2, loading, S>, 4, in_order);
    }
    t = make_full(t, any_tile<2, 4, loading, S>, 2, in_order);
    while (t < plan_.count) single();
  }

  const AxisPlan& plan_;
  int rows_;
  int64_t pitch_, w_pitch_;
  const Clipping<S>& clipping_;
  const RowTarget<S>& to_;
  Tile<S>& tile_;
  const Ahead* ahead_;
};

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_CHANNELS_ROW_H_
