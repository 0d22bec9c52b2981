// The input of the columns family, split into the phases that its taps use.
#ifndef DEPTHWISE_KERNELS_PHASES_H_
#define DEPTHWISE_KERNELS_PHASES_H_

#include "planes.h"

namespace depthwise::DW_ISA {

// Phases of one axis: tap i reads phase slot_of(i) shifted by (i * dilation) / stride.
struct AxisPhases {
  Axis axis;
  int64_t count;  // phases in use: residues of i * dilation modulo the stride
  int64_t reach;  // largest shift

  explicit AxisPhases(const Axis& a) : axis(a) {
    count = 0;
    while (count < a.kernel && (count == 0 || residue(count) != 0)) ++count;
    reach = (a.kernel - 1) * a.dilation / a.stride;
  }
  // The residues repeat with some period: the first `count` taps name them all.
  int64_t residue(int64_t slot) const { return slot * axis.dilation % axis.stride; }
  int64_t slot_of(int64_t tap) const { return tap % count; }
  int64_t shift_of(int64_t tap) const { return tap * axis.dilation / axis.stride; }
};

struct Phases {
  AxisPhases rows, columns;
  PlaneBlock block;  // results of a block
  int64_t pitch;     // of a staged row, and of the results
  int64_t plane_elements;

  Phases(const depthwise_params& p, const PlaneBlock& size)
      : rows(row_axis(p)), columns(column_axis(p)), block(size) {
    pitch = block.columns + columns.reach;
    plane_elements = (block.rows + rows.reach) * pitch;
  }
  int64_t taps() const { return rows.axis.kernel * columns.axis.kernel; }
  // Elements of the staged input, with room to overrun.
  template <class A>
  int64_t elements() const {
    return rows.count * columns.count * plane_elements + 2 * lanes<A>;
  }
  // Elements of a block of results in staged form, likewise.
  template <class A>
  int64_t result_elements() const {
    return round_up(block.rows * pitch + lanes<A>, lanes<A>);
  }
  int64_t offset_of(int64_t i, int64_t j) const {
    const int64_t plane = rows.slot_of(i) * columns.count + columns.slot_of(j);
    return plane * plane_elements + rows.shift_of(i) * pitch + columns.shift_of(j);
  }
  // Offsets of all taps, rows of taps first: made once per call, since each takes divisions.
  bool offsets(CallMemory& memory) const {
    if (!memory.allocate(taps() * static_cast<int64_t>(sizeof(int64_t)))) return false;
    int64_t* next = memory.as<int64_t>();
    for (int64_t i = 0; i < rows.axis.kernel; ++i) {
      for (int64_t j = 0; j < columns.axis.kernel; ++j) *next++ = offset_of(i, j);
    }
    return true;
  }
  // Stages the input for the results from (row, column) on.
  template <class T>
  void stage(Compute<T>* to, const ImageView<T>& plane, int64_t row, int64_t column) const {
    for (int64_t a = 0; a < rows.count; ++a) {
      for (int64_t b = 0; b < columns.count; ++b, to += plane_elements) {
        const Axis &r = rows.axis, &c = columns.axis;
        const Window window{row * r.stride + rows.residue(a) - r.pad,
                            r.stride,
                            block.rows + rows.reach,
                            r.in,
                            column * c.stride + columns.residue(b) - c.pad,
                            c.stride,
                            pitch,
                            c.in};
        stage_window<T>(to, pitch, window, plane, {}, DEPTHWISE_LINEAR, 0, nullptr);
      }
    }
    fill_zero(to, lanes<Compute<T>>);
  }
};

// Blocks of a plane of results for which the staged input fits the cache.
template <class A>
PlaneBlock phase_block(const depthwise_params& p) {
  const AxisPhases rows(row_axis(p)), columns(column_axis(p));
  return plane_block(p.out_height, p.out_width,
                     rows.count * columns.count * static_cast<int64_t>(sizeof(A)), rows.reach,
                     lanes<A>);
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_PHASES_H_
