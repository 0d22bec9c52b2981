// The short way for a call that has been made before with the same arguments, but for what its
// arrays hold: a few pointers and sizes are compared instead of everything checked.
#ifndef DEPTHWISE_BINDINGS_PYTHON_RECENT_H_
#define DEPTHWISE_BINDINGS_PYTHON_RECENT_H_

#include <algorithm>
#include <array>

#include "bindings/python_plan.h"

namespace depthwise::python {

// Calls of the forward pass into an array that is given, by their arguments. Whatever is out of the
// ordinary is left to ops.py, which knows what to do and what to say. Used with the GIL held.
class Recent {
 public:
  // strides, padding, data_format, dilation_rate, activation
  static constexpr int option_count = 5;

  // Runs the call and returns what was remembered with it, or does nothing and returns None if it
  // is not known, or anything about its arrays is unusual.
  nb::object forward(nb::handle x, nb::handle kernel, nb::handle bias, nb::handle strides,
                     nb::handle padding, nb::handle data_format, nb::handle dilation_rate,
                     nb::handle activation, nb::handle out) const {
    if (!is_array(x) || !is_array(kernel) || !is_array(out)) return nb::none();
    if (!bias.is_none() && !is_array(bias)) return nb::none();
    const ArrayView x_view(x), kernel_view(kernel), bias_view(bias), out_view(out);
    const Options options{strides.ptr(), padding.ptr(), data_format.ptr(), dilation_rate.ptr(),
                          activation.ptr()};
    Key key{options, {}, x_view.dtype()};
    if (!describe(x_view, 4, &key, 0) || !describe(kernel_view, 4, &key, 4)) return nb::none();
    if (!bias.is_none() && (!describe(bias_view, 1, &key, 8) || !bias_view.is_contiguous())) {
      return nb::none();
    }
    const Entry& entry = entries_[key.slot()];
    if (!(entry.key == key)) return nb::none();
    if (!describe(out_view, 4, &key, 0) || !out_view.is_contiguous() || !out_view.is_writable()) {
      return nb::none();
    }
    if (!std::equal(entry.out_shape.begin(), entry.out_shape.end(), key.sizes.begin())) {
      return nb::none();
    }
    // The entry may be another's while this thread is without the GIL.
    const Plan plan = entry.plan;
    nb::object known = entry.known;
    return plan.run_apart(x_view, kernel_view, bias_view, out_view) ? known : nb::none();
  }

  // Keeps a call whose arguments ops.py has checked, unless one of them may change; with it
  // `known`.
  void remember(nb::handle known, const Plan& plan, nb::handle x, nb::handle kernel,
                nb::handle bias, nb::handle strides, nb::handle padding, nb::handle data_format,
                nb::handle dilation_rate, nb::handle activation, nb::handle out) {
    const std::array<nb::handle, option_count> options{strides, padding, data_format, dilation_rate,
                                                       activation};
    for (const nb::handle option : options) {
      if (!never_changes(option)) return;
    }
    Entry entry{};
    for (int i = 0; i < option_count; ++i) {
      entry.key.options[i] = options[i].ptr();
      entry.kept[i] = nb::borrow(options[i]);
    }
    if (!is_array(x) || !is_array(kernel) || !is_array(out)) return;
    if (!bias.is_none() && !is_array(bias)) return;
    const ArrayView x_view(x);
    Key found{};
    found.dtype = entry.key.dtype = x_view.dtype();
    if (!describe(ArrayView(out), 4, &found, 0)) return;
    std::copy_n(found.sizes.begin(), entry.out_shape.size(), entry.out_shape.begin());
    if (!describe(x_view, 4, &entry.key, 0)) return;
    if (!describe(ArrayView(kernel), 4, &entry.key, 4)) return;
    if (!bias.is_none() && !describe(ArrayView(bias), 1, &entry.key, 8)) return;
    entry.plan = plan;
    entry.known = nb::borrow(known);
    Entry& place = entries_[entry.key.slot()];
    std::swap(place, entry);  // what it held is let go when the place is in order
  }

 private:
  using Options = std::array<PyObject*, option_count>;

  struct Key {
    Options options;
    std::array<int64_t, 9> sizes;  // of x, of the kernel, and of the bias: 0 without one
    int dtype;                     // of all arrays

    bool operator==(const Key&) const = default;
    size_t slot() const {
      size_t hash = static_cast<size_t>(dtype);
      const auto mix = [&](size_t value) { hash = (hash ^ value) * size_t{0x9e3779b97f4a7c15}; };
      for (PyObject* const option : options) mix(reinterpret_cast<size_t>(option));
      for (const int64_t size : sizes) mix(static_cast<size_t>(size));
      return hash >> (8 * sizeof(size_t) - slot_bits);
    }
  };
  struct Entry {
    Key key;
    std::array<nb::object, option_count> kept;  // so that nothing else gets their addresses
    std::array<int64_t, 4> out_shape;
    Plan plan;
    nb::object known;
  };

  static constexpr int slot_bits = 8;

  // Adds an array's sizes to `key` from `at` on. False if it has another dtype, other than `rank`
  // sizes, a size of 0, is misaligned or not in the machine's order of bytes.
  static bool describe(const ArrayView& array, int rank, Key* key, size_t at) {
    if (array.rank() != rank || array.dtype() != key->dtype || !array.is_plain()) return false;
    for (int axis = 0; axis < rank; ++axis) {
      const int64_t size = array.size(axis);
      if (size == 0) return false;
      key->sizes[at + static_cast<size_t>(axis)] = size;
    }
    return true;
  }

  static bool never_changes(nb::handle value) {
    PyObject* const object = value.ptr();
    if (PyTuple_CheckExact(object)) {
      for (Py_ssize_t i = 0; i < PyTuple_Size(object); ++i) {
        if (!never_changes(PyTuple_GetItem(object, i))) return false;
      }
      return true;
    }
    return object == Py_None || PyLong_CheckExact(object) || PyFloat_CheckExact(object) ||
           PyUnicode_CheckExact(object);
  }

  static bool is_array(nb::handle value) { return PyArray_CheckExact(value.ptr()); }

  std::array<Entry, size_t{1} << slot_bits> entries_{};
};

}  // namespace depthwise::python

#endif  // DEPTHWISE_BINDINGS_PYTHON_RECENT_H_
