// NumPy arrays as the op takes them. NumPy's own interface in C tells of one in a few loads, where
// the buffer protocol allocates a description of each array for each call.
#ifndef DEPTHWISE_BINDINGS_PYTHON_ARRAY_H_
#define DEPTHWISE_BINDINGS_PYTHON_ARRAY_H_

#include <nanobind/nanobind.h>

#define NPY_NO_DEPRECATED_API NPY_1_7_API_VERSION
#include <numpy/arrayobject.h>

#include <algorithm>
#include <bit>
#include <initializer_list>
#include <utility>

#include "op.h"

namespace depthwise::python {

namespace nb = nanobind;

// Makes NumPy's functions known to this module, when it is imported.
inline void import_numpy() {
  if (PyArray_ImportNumPyAPI() < 0) throw nb::python_error();
}

// A borrowed array; None gives a null pointer.
class ArrayView {
 public:
  ArrayView() = default;
  // TypeError for anything else.
  explicit ArrayView(nb::handle object) {
    if (object.is_none()) return;
    if (!PyArray_Check(object.ptr())) throw nb::type_error("depthwise: expected a NumPy array");
    array_ = reinterpret_cast<PyArrayObject*>(object.ptr());
  }
  // One to write to. ValueError if it must not be.
  static ArrayView writable(nb::handle object) {
    const ArrayView view(object);
    if (view.array_ != nullptr && !PyArray_ISWRITEABLE(view.array_)) {
      throw nb::value_error("depthwise: expected an array that can be written");
    }
    return view;
  }

  void* data() const { return array_ != nullptr ? PyArray_DATA(array_) : nullptr; }
  bool is_writable() const { return PyArray_ISWRITEABLE(array_); }
  bool is_contiguous() const { return PyArray_IS_C_CONTIGUOUS(array_); }
  int rank() const { return PyArray_NDIM(array_); }
  int64_t size(int axis) const { return PyArray_DIM(array_, axis); }
  // NumPy's number of the dtype; of ml_dtypes' it is given when they are loaded.
  int dtype() const { return PyArray_TYPE(array_); }
  // Whether it is no subclass's, and has these sizes and this dtype, aligned and in the machine's
  // order of bytes.
  bool is_plain(std::initializer_list<int64_t> sizes, int wanted) const {
    if (array_ == nullptr || !PyArray_CheckExact(array_) || dtype() != wanted || !is_plain() ||
        rank() != static_cast<int>(sizes.size())) {
      return false;
    }
    return std::equal(sizes.begin(), sizes.end(), PyArray_DIMS(array_));
  }
  // The same of one that can be written without a look at its strides.
  bool takes(std::initializer_list<int64_t> sizes, int wanted) const {
    return is_plain(sizes, wanted) && is_writable() && is_contiguous();
  }
  // Aligned, and in the machine's order of bytes.
  bool is_plain() const { return PyArray_ISBEHAVED_RO(array_); }

  // Whether the stretches of memory from each one's first element to its last have a byte in
  // common.
  bool may_overlap(const ArrayView& other) const {
    const auto [begin, end] = stretch();
    const auto [other_begin, other_end] = other.stretch();
    return begin < other_end && other_begin < end;
  }

  // In elements, as the op counts; 0 where there is no array.
  depthwise_image_strides image_strides(bool channels_first) const {
    if (array_ == nullptr) return {};
    const int channel = channels_first ? 1 : 3;
    const int row = channels_first ? 2 : 1;
    return {stride(0), stride(row), stride(row + 1), stride(channel)};
  }
  depthwise_kernel_strides kernel_strides() const {
    if (array_ == nullptr) return {};
    return {stride(0), stride(1), stride(2), stride(3)};
  }

 private:
  // In elements, whose bytes are a power of two: small calls notice divisions.
  int64_t stride(int axis) const {
    const auto itemsize = static_cast<uint64_t>(PyArray_ITEMSIZE(array_));
    return PyArray_STRIDE(array_, axis) >> std::countr_zero(itemsize);
  }

  std::pair<uintptr_t, uintptr_t> stretch() const {
    if (array_ == nullptr) return {0, 0};
    uintptr_t begin = reinterpret_cast<uintptr_t>(PyArray_DATA(array_));
    uintptr_t end = begin + static_cast<uintptr_t>(PyArray_ITEMSIZE(array_));
    for (int axis = 0; axis < rank(); ++axis) {
      if (size(axis) == 0) return {0, 0};
      const npy_intp reach = (size(axis) - 1) * PyArray_STRIDE(array_, axis);
      (reach < 0 ? begin : end) += static_cast<uintptr_t>(reach);
    }
    return {begin, end};
  }

  PyArrayObject* array_ = nullptr;
};

}  // namespace depthwise::python

#endif  // DEPTHWISE_BINDINGS_PYTHON_ARRAY_H_
