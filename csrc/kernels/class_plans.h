// The plans of all classes of rows and columns: one of each for the forward pass, one per residue
// modulo the stride for the gradient of the input.
#ifndef DEPTHWISE_KERNELS_CLASS_PLANS_H_
#define DEPTHWISE_KERNELS_CLASS_PLANS_H_

#include "call_memory.h"
#include "geometry.h"

namespace depthwise::DW_ISA {

// Plans of every class of rows and columns.
struct ClassPlans {
  AxisPlan *rows, *columns;
  int64_t row_classes, column_classes;
  CallMemory memory;

  bool make_forward(const depthwise_params& p) {
    if (!allocate(1, 1)) return false;
    rows[0] = forward_plan(row_axis(p));
    columns[0] = forward_plan(column_axis(p));
    return true;
  }
  bool make_gradient(const depthwise_params& p) {
    const Axis row = row_axis(p), column = column_axis(p);
    if (!allocate(gradient_classes(row), gradient_classes(column))) return false;
    for (int64_t i = 0; i < row_classes; ++i) rows[i] = gradient_plan(row, i);
    for (int64_t i = 0; i < column_classes; ++i) columns[i] = gradient_plan(column, i);
    return true;
  }
  // Rows of the source that the results of one target row can reach, from first to last.
  int64_t row_reach() const {
    int64_t reach = 1;
    for (int64_t i = 0; i < row_classes; ++i) {
      reach = max_of(reach, (rows[i].taps - 1) * rows[i].tap_step + 1);
    }
    return reach + (row_classes > 1 ? 1 : 0);  // classes may start one row apart
  }

 private:
  bool allocate(int64_t row_count, int64_t column_count) {
    row_classes = row_count;
    column_classes = column_count;
    if (!memory.allocate((row_count + column_count) * static_cast<int64_t>(sizeof(AxisPlan)))) {
      return false;
    }
    rows = memory.as<AxisPlan>();
    columns = rows + row_count;
    return true;
  }
};

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_CLASS_PLANS_H_
