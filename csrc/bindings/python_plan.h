// A call from Python: borrowed arrays, the GIL, and the Plan that is kept for calls alike.
#ifndef DEPTHWISE_BINDINGS_PYTHON_PLAN_H_
#define DEPTHWISE_BINDINGS_PYTHON_PLAN_H_

#include <nanobind/nanobind.h>
#include <nanobind/stl/tuple.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <tuple>

#include "bindings/python_array.h"
#include "bindings/teams.h"
#include "op.h"

namespace depthwise::python {

// Before Python 3.14 a thread that waits for the GIL when the interpreter ends is ended from
// within, by unwinding its stack, which C++ frames do not survive. Only daemon threads, for which
// nobody waits, can get there. So once the interpreter is about to end, a thread that comes back
// from the op does not ask for the GIL any more but stays where it is.
inline std::atomic<bool> ending{false};
inline std::atomic<pthread_t>
    ending_thread{};  // the one that ends the interpreter: it may go on calling
inline std::atomic<int> threads_asking{0};  // for the GIL, on their way back from the op

inline void take_gil(PyThreadState* state) {
  ++threads_asking;
  if (ending && !pthread_equal(ending_thread, pthread_self())) {
    --threads_asking;
    for (;;) pause();
  }
  PyEval_RestoreThread(state);
  --threads_asking;
}

// Called by the interpreter before it ends. Threads that asked before they could know get the GIL;
// the wait is bounded, in case one of them has been ended in some other way.
inline void interpreter_ends() {
  ending_thread = pthread_self();
  ending = true;
  const nb::gil_scoped_release release;
  for (int i = 0; threads_asking > 0 && i < 10'000; ++i) usleep(100);
}

// Runs `body` without the GIL.
template <class Body>
depthwise_status without_gil(const Body& body) {
  PyThreadState* const state = PyEval_SaveThread();
  const depthwise_status status = body();
  take_gil(state);
  return status;
}

using Sizes = std::tuple<int64_t, int64_t>;

// Where an array is, for frameworks that tell the address (0 for an array that is not there). Its
// strides follow, in elements: those of batch, row, column and channel for an image, of row,
// column, channel and multiplier for a kernel.
using Address = std::tuple<uintptr_t, int64_t, int64_t, int64_t, int64_t>;

inline void* pointer(uintptr_t address) { return reinterpret_cast<void*>(address); }

// Everything about a call but its arrays. Made once per combination of Spec, shapes and dtype.
class Plan {
 public:
  Plan() = default;
  Plan(int64_t batch, int64_t channels, int64_t multiplier, Sizes in, Sizes out, Sizes kernel,
       Sizes strides, Sizes dilation, Sizes padding, int dtype, bool channels_first, int activation,
       double alpha) {
    params_.batch = batch;
    params_.channels = channels;
    params_.multiplier = multiplier;
    std::tie(params_.in_height, params_.in_width) = in;
    std::tie(params_.out_height, params_.out_width) = out;
    std::tie(params_.kernel_height, params_.kernel_width) = kernel;
    std::tie(params_.stride_height, params_.stride_width) = strides;
    std::tie(params_.dilation_height, params_.dilation_width) = dilation;
    std::tie(params_.pad_top, params_.pad_left) = padding;
    params_.dtype = dtype;
    params_.layout = channels_first ? DEPTHWISE_CHANNELS_FIRST : DEPTHWISE_CHANNELS_LAST;
    params_.activation = activation;
    params_.alpha = alpha;
  }

  // The kernel that runs the forward pass, or the gradients.
  const char* kernel_name(bool backward) const {
    const char* const name = depthwise_chosen_kernel(&params_, backward);
    if (name == nullptr) check(DEPTHWISE_INVALID_PARAMS);
    return name;
  }

  void forward(nb::handle x, nb::handle kernel, nb::handle bias, nb::handle y,
               nb::handle preactivation) const {
    run_forward(image(ArrayView(x)), filters(ArrayView(kernel)), ArrayView(bias).data(),
                image(ArrayView::writable(y)), image(ArrayView::writable(preactivation)));
  }

  bool forward_apart(nb::handle x, nb::handle kernel, nb::handle bias, nb::handle y) const {
    return run_apart(ArrayView(x), ArrayView(kernel), ArrayView(bias), ArrayView::writable(y));
  }
  bool run_apart(const ArrayView& x, const ArrayView& kernel, const ArrayView& bias,
                 const ArrayView& y) const {
    for (const ArrayView* input : {&x, &kernel, &bias}) {
      if (y.may_overlap(*input)) return false;
    }
    run_forward(image(x), filters(kernel), bias.data(), image(y), {});
    return true;
  }

  void backward(nb::handle x, nb::handle kernel, nb::handle dy, nb::handle saved, nb::handle dx,
                nb::handle dkernel, nb::handle dbias) const {
    run_backward(gradient_arrays(x, kernel, dy, saved, dx, dkernel, dbias));
  }

  bool backward_plain(nb::handle x, nb::handle kernel, nb::handle dy, nb::handle saved,
                      nb::handle dx, nb::handle dkernel, nb::handle dbias) const {
    for (const nb::handle array : {dy, dx, dkernel, dbias}) {
      if (!array.is_none() && !PyArray_CheckExact(array.ptr())) return false;
    }
    const GradientArrays views{ArrayView(x),  ArrayView(kernel),  ArrayView(dy),   ArrayView(saved),
                               ArrayView(dx), ArrayView(dkernel), ArrayView(dbias)};
    if (!are_plain(views)) return false;
    const ArrayView* const outputs[] = {&views.dx, &views.dkernel, &views.dbias};
    for (const ArrayView* output : outputs) {
      for (const ArrayView* input : {&views.x, &views.kernel, &views.dy, &views.saved}) {
        if (output->may_overlap(*input)) return false;
      }
      for (const ArrayView* other : outputs) {
        if (other != output && output->may_overlap(*other)) return false;
      }
    }
    run_backward(views);
    return true;
  }

  void forward_at(Address x, Address kernel, uintptr_t bias, Address y,
                  Address preactivation) const {
    const Borrowed team(OpenMP::team());
    run_forward(image(x), filters(kernel), pointer(bias), image(y), image(preactivation));
  }

  void backward_at(Address x, Address kernel, Address dy, Address saved, Address dx,
                   Address dkernel, uintptr_t dbias) const {
    const Borrowed team(OpenMP::team());
    run_backward(image(x), filters(kernel), image(dy), image(saved), image(dx), filters(dkernel),
                 pointer(dbias));
  }

 private:
  struct GradientArrays {
    ArrayView x, kernel, dy, saved, dx, dkernel, dbias;
  };
  struct Image {
    void* data;
    depthwise_image_strides strides;
  };
  struct Filters {
    void* data;
    depthwise_kernel_strides strides;
  };

  static GradientArrays gradient_arrays(nb::handle x, nb::handle kernel, nb::handle dy,
                                        nb::handle saved, nb::handle dx, nb::handle dkernel,
                                        nb::handle dbias) {
    return {ArrayView(x),
            ArrayView(kernel),
            ArrayView(dy),
            ArrayView(saved),
            ArrayView::writable(dx),
            ArrayView::writable(dkernel),
            ArrayView::writable(dbias)};
  }

  // Whether these are what this plan's gradients are made of and go into, and nothing about those
  // that a pullback is given needs a closer look.
  bool are_plain(const GradientArrays& views) const {
    const depthwise_params& p = params_;
    const int64_t results = p.channels * p.multiplier;
    const int dtype = views.x.dtype();
    const auto image = [&](const ArrayView& view, bool to_write, int64_t height, int64_t width,
                           int64_t channels) {
      const bool first = channels_first();
      const int64_t row = first ? channels : height, column = first ? height : width;
      const int64_t last = first ? width : channels;
      return to_write ? view.takes({p.batch, row, column, last}, dtype)
                      : view.is_plain({p.batch, row, column, last}, dtype);
    };
    return image(views.x, false, p.in_height, p.in_width, p.channels) &&
           image(views.dy, false, p.out_height, p.out_width, results) &&
           image(views.dx, true, p.in_height, p.in_width, p.channels) &&
           views.dkernel.takes({p.kernel_height, p.kernel_width, p.channels, p.multiplier},
                               dtype) &&
           (views.dbias.data() == nullptr || views.dbias.takes({results}, dtype));
  }

  bool channels_first() const { return params_.layout == DEPTHWISE_CHANNELS_FIRST; }
  Image image(const ArrayView& view) const {
    return {view.data(), view.image_strides(channels_first())};
  }
  static Image image(const Address& at) {
    const auto [data, batch, row, column, channel] = at;
    return {pointer(data), {batch, row, column, channel}};
  }
  static Filters filters(const ArrayView& view) { return {view.data(), view.kernel_strides()}; }
  static Filters filters(const Address& at) {
    const auto [data, row, column, channel, multiplier] = at;
    return {pointer(data), {row, column, channel, multiplier}};
  }

  void run_forward(const Image& x, const Filters& kernel, const void* bias, const Image& y,
                   const Image& preactivation) const {
    depthwise_params params = params_;
    params.x = x.strides;
    params.kernel = kernel.strides;
    params.y = y.strides;
    params.saved = preactivation.strides;
    check(without_gil([&] {
      return depthwise_forward(&params, x.data, kernel.data, bias, y.data, preactivation.data);
    }));
  }

  void run_backward(const GradientArrays& views) const {
    run_backward(image(views.x), filters(views.kernel), image(views.dy), image(views.saved),
                 image(views.dx), filters(views.dkernel), views.dbias.data());
  }

  void run_backward(const Image& x, const Filters& kernel, const Image& dy, const Image& saved,
                    const Image& dx, const Filters& dkernel, void* dbias) const {
    depthwise_params params = params_;
    params.x = x.strides;
    params.kernel = kernel.strides;
    params.dy = dy.strides;
    params.saved = saved.strides;
    params.dx = dx.strides;
    params.dkernel = dkernel.strides;
    check(without_gil([&] {
      return depthwise_backward(&params, x.data, kernel.data, dy.data, saved.data, dx.data,
                                dkernel.data, dbias);
    }));
  }

  static void check(depthwise_status status) {
    if (status == DEPTHWISE_OUT_OF_MEMORY) {
      PyErr_NoMemory();
      throw nb::python_error();
    }
    if (status == DEPTHWISE_INVALID_PARAMS) {
      throw nb::value_error("depthwise: the native op refused its parameters");
    }
  }

  depthwise_params params_{};
};

}  // namespace depthwise::python

#endif  // DEPTHWISE_BINDINGS_PYTHON_PLAN_H_
