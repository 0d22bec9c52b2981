// The plans of all classes of rows and columns: for the forward pass one of rows, and of columns as
// many as the dilation asks for; for the gradient of the input one per residue modulo the stride.
#ifndef DEPTHWISE_KERNELS_CLASS_PLANS_H_
#define DEPTHWISE_KERNELS_CLASS_PLANS_H_

#include "call_memory.h"
#include "geometry.h"

namespace depthwise::DW_ISA {

// For classes that only the stride divides.
constexpr int64_t undivided = INT64_MAX;

// Plans of every class of rows and columns. Those of columns are divided by the dilation, too,
// where each still has `least` columns.
struct ClassPlans {
  AxisPlan *rows, *columns;
  int64_t row_classes, column_classes;
  CallMemory memory;

  bool make_forward(const depthwise_params& p, int64_t least) {
    const Axis column = column_axis(p);
    if (!allocate(1, forward_classes(column, least))) return false;
    rows[0] = forward_plan(row_axis(p), 0, 1);
    for (int64_t i = 0; i < column_classes; ++i) {
      columns[i] = forward_plan(column, i, column_classes);
    }
    return true;
  }
  bool make_gradient(const depthwise_params& p, int64_t least) {
    const Axis row = row_axis(p), column = column_axis(p);
    if (!allocate(gradient_classes(row), divided_gradient_classes(column, least))) return false;
    const int64_t column_step = max_of(column.stride, column_classes);
    for (int64_t i = 0; i < row_classes; ++i) rows[i] = gradient_plan(row, i, row.stride);
    for (int64_t i = 0; i < column_classes; ++i) columns[i] = gradient_plan(column, i, column_step);
    return true;
  }
  // One class of each.
  bool make(const AxisPlan& row, const AxisPlan& column) {
    if (!allocate(1, 1)) return false;
    rows[0] = row;
    columns[0] = column;
    return true;
  }
  // Rows of the source that the results of one target row can reach, from first to last, or those
  // of the rows of as many pairs as lie side by side, `distance` apart.
  int64_t row_reach(int64_t distance) const {
    int64_t reach = 1;
    for (int64_t i = 0; i < row_classes; ++i) {
      reach = max_of(reach, (rows[i].taps - 1) * rows[i].tap_step + 1);
    }
    reach += row_classes > 1 ? 1 : 0;  // classes may start one row apart
    return reach + max_of(0, 2 * distance - 1) / rows[0].target_step * rows[0].result_step;
  }
  int64_t target_rows() const {
    int64_t count = 0;
    for (int64_t i = 0; i < row_classes; ++i) count += rows[i].count;
    return count;
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
