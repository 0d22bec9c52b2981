// Strided images of one batch item, read and written.
#ifndef DEPTHWISE_KERNELS_VIEWS_H_
#define DEPTHWISE_KERNELS_VIEWS_H_

#include "../params.h"
#include "halves.h"

namespace depthwise::DW_ISA {

// A strided image of one batch item, and the strides between its elements.
template <class T>
struct ImageView {
  const T* data;
  int64_t row, column, channel;
};

// A strided image that is written.
template <class T>
struct TargetView {
  T* data;
  int64_t row, column, channel;
};

template <class T>
TargetView<T> target_at(void* data, const depthwise_image_strides& s, int64_t image,
                        int64_t channel) {
  if (data == nullptr) return {nullptr, 0, 0, 0};
  return {static_cast<T*>(data) + image * s.batch + channel * s.channel, s.row, s.column,
          s.channel};
}
template <class T>
ImageView<T> image_at(const void* data, const depthwise_image_strides& s, int64_t image,
                      int64_t channel) {
  if (data == nullptr) return {nullptr, 0, 0, 0};
  return {static_cast<const T*>(data) + image * s.batch + channel * s.channel, s.row, s.column,
          s.channel};
}

}  // namespace depthwise::DW_ISA

#endif  // DEPTHWISE_KERNELS_VIEWS_H_
