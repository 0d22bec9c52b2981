// The short way for a call that has been made before with the same arguments, but for what its
// arrays hold: a few pointers and sizes are compared instead of everything checked.
#ifndef DEPTHWISE_BINDINGS_PYTHON_RECENT_H_
#define DEPTHWISE_BINDINGS_PYTHON_RECENT_H_

#include <algorithm>
#include <array>
#include <new>

#include "bindings/python_plan.h"

namespace depthwise::python {

// Calls of the forward pass into an array that is given, by their arguments. Whatever is out of the
// ordinary is left to ops.py, which knows what to do and what to say. Used with the GIL held.
class Recent {
 public:
  // strides, padding, data_format, dilation_rate, activation
  static constexpr int option_count = 5;

  // Runs the call and returns true, or does nothing and returns false if it is not known, or
  // anything about its arrays is unusual.
  bool forward(nb::handle x, nb::handle kernel, nb::handle bias, nb::handle strides,
               nb::handle padding, nb::handle data_format, nb::handle dilation_rate,
               nb::handle activation, nb::handle out) const {
    if (!is_array(x) || !is_array(kernel) || !is_array(out)) return false;
    if (!bias.is_none() && !is_array(bias)) return false;
    const Buffer x_view(x, false, std::nothrow), kernel_view(kernel, false, std::nothrow);
    const Options options{strides.ptr(), padding.ptr(), data_format.ptr(), dilation_rate.ptr(),
                          activation.ptr()};
    Key key{options, {}, 0};
    if (!describe(x_view, 4, &key, 0) || !describe(kernel_view, 4, &key, 4)) return false;
    const Buffer bias_view = bias.is_none() ? Buffer() : Buffer(bias, false, std::nothrow);
    if (!bias.is_none() && (!describe(bias_view, 1, &key, 8) || !is_contiguous(bias_view))) {
      return false;
    }
    const Entry& entry = entries_[key.slot()];
    if (!(entry.key == key)) return false;
    const Buffer out_view(out, true, std::nothrow);
    Key found = key;
    if (!describe(out_view, 4, &found, 0) || !is_contiguous(out_view)) return false;
    if (!std::equal(entry.out_shape.begin(), entry.out_shape.end(), found.sizes.begin())) {
      return false;
    }
    const Plan plan =
        entry.plan;  // the entry may be another's while this thread is without the GIL
    return plan.run_apart(x_view, kernel_view, bias_view, out_view);
  }

  // Keeps a call whose arguments ops.py has checked, unless one of them may change.
  void remember(const Plan& plan, nb::handle x, nb::handle kernel, nb::handle bias,
                nb::handle strides, nb::handle padding, nb::handle data_format,
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
    const Buffer x_view(x, false, std::nothrow), kernel_view(kernel, false, std::nothrow);
    const Buffer out_view(out, true, std::nothrow);
    Key found{};
    if (!describe(out_view, 4, &found, 0)) return;
    std::copy_n(found.sizes.begin(), entry.out_shape.size(), entry.out_shape.begin());
    if (!describe(x_view, 4, &entry.key, 0) || !describe(kernel_view, 4, &entry.key, 4)) return;
    if (!bias.is_none() && !describe(Buffer(bias, false, std::nothrow), 1, &entry.key, 8)) {
      return;
    }
    entry.plan = plan;
    Entry& place = entries_[entry.key.slot()];
    std::swap(place, entry);  // what it held is let go when the place is in order
  }

 private:
  using Options = std::array<PyObject*, option_count>;

  struct Key {
    Options options;
    std::array<int64_t, 9> sizes;  // of x, of the kernel, and of the bias: 0 without one
    char format;                   // of all arrays, as in Python's struct module

    bool operator==(const Key&) const = default;
    size_t slot() const {
      size_t hash = static_cast<unsigned char>(format);
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
  };

  static constexpr int slot_bits = 8;

  // Adds an array's sizes to `key` from `at` on, and its format. False if it has another format
  // than those before, none of ours, other than `rank` sizes, a size of 0, or is misaligned.
  static bool describe(const Buffer& buffer, int rank, Key* key, size_t at) {
    if (!buffer.held()) return false;
    const Py_buffer& view = buffer.view();
    if (view.ndim != rank || view.format == nullptr || view.format[1] != '\0') return false;
    const char format = view.format[0];
    if (format != 'f' && format != 'd' && format != 'e') return false;
    if (key->format != 0 && key->format != format) return false;
    key->format = format;
    Py_ssize_t misaligned =
        static_cast<Py_ssize_t>(reinterpret_cast<uintptr_t>(view.buf)) % view.itemsize;
    for (int axis = 0; axis < rank; ++axis) {
      misaligned |= view.strides[axis] % view.itemsize;
      if (view.shape[axis] == 0) return false;
      key->sizes[at + static_cast<size_t>(axis)] = view.shape[axis];
    }
    return misaligned == 0;
  }

  static bool is_contiguous(const Buffer& buffer) {
    const Py_buffer& view = buffer.view();
    Py_ssize_t step = view.itemsize;
    for (int axis = view.ndim; axis-- > 0; step *= view.shape[axis]) {
      if (view.shape[axis] > 1 && view.strides[axis] != step) return false;
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

  bool is_array(nb::handle value) const { return value.type().ptr() == array_type_.ptr(); }

  nb::object array_type_ = nb::module_::import_("numpy").attr("ndarray");
  std::array<Entry, size_t{1} << slot_bits> entries_{};
};

}  // namespace depthwise::python

#endif  // DEPTHWISE_BINDINGS_PYTHON_RECENT_H_
