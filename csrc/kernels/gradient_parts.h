// How the sums of a kernel's gradient are cut into parts: by shape alone, never by the number of
// threads. Each part is summed by one task, and the parts are added in order: the same bits however
// many threads there are.
#ifndef DEPTHWISE_KERNELS_GRADIENT_PARTS_H_
#define DEPTHWISE_KERNELS_GRADIENT_PARTS_H_

#include "geometry.h"
#include "tuning.h"

namespace depthwise::DW_ISA {

// The rows [begin, end) of all images' output rows, counted through, that one part sums.
struct Part {
  int64_t begin, end;
};
inline Part part_of(int64_t rows, int64_t parts, int64_t index) {
  return {rows * index / parts, rows * (index + 1) / parts};
}
inline int64_t count_parts(int64_t rows, int64_t other_tasks) {
  const int64_t wanted = ceil_div(tuning::gradient_parts, max_of(1, other_tasks));
  return max_of(1, min_of(wanted, ceil_div(rows, tuning::gradient_part_rows)));
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_GRADIENT_PARTS_H_
