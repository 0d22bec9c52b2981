// The Python module: unpacks arrays, fills the params struct, calls the C ABI without the GIL.
// It checks nothing about shapes: native.py hands it arrays that spec.py has accepted.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <vector>

#include "bindings/python_array.h"
#include "bindings/python_plan.h"
#include "bindings/python_recent.h"
#include "op.h"

namespace nb = nanobind;
using namespace depthwise::python;

namespace {

// How many bytes into an array's memory the next multiple of `alignment` lies.
int64_t bytes_to_multiple(nb::handle array, int64_t alignment) {
  const int64_t beyond = static_cast<int64_t>(reinterpret_cast<uintptr_t>(ArrayView(array).data()) %
                                              static_cast<uintptr_t>(alignment));
  return beyond == 0 ? 0 : alignment - beyond;
}

std::vector<std::string> isa_names(int (*chosen)(const char*)) {
  std::vector<std::string> names;
  for (int i = 0; const char* name = depthwise_isa_name(i); ++i) {
    if (chosen(name)) names.emplace_back(name);
  }
  return names;
}

std::vector<std::string> kernel_names() {
  std::vector<std::string> names;
  for (int i = 0; const char* name = depthwise_kernel_name(i); ++i) names.emplace_back(name);
  return names;
}

void use_openmp(uintptr_t parallel, uintptr_t max_threads, uintptr_t in_parallel) {
  depthwise::OpenMP::Functions functions;
  functions.GOMP_parallel = reinterpret_cast<decltype(functions.GOMP_parallel)>(pointer(parallel));
  functions.omp_get_max_threads =
      reinterpret_cast<decltype(functions.omp_get_max_threads)>(pointer(max_threads));
  functions.omp_in_parallel =
      reinterpret_cast<decltype(functions.omp_in_parallel)>(pointer(in_parallel));
  depthwise::OpenMP::set(functions);
}

}  // namespace

NB_MODULE(_native, m) {
  m.doc() = "The compiled op. Use it through depthwise.ops; this module checks nothing.";
  import_numpy();
  // Plans live in a cache that the interpreter may drop only after this module.
  nb::set_leak_warnings(false);
  nb::module_::import_("atexit").attr("register")(nb::cpp_function(interpreter_ends));
  m.attr("version") = DEPTHWISE_VERSION;

  nb::class_<Plan>(m, "Plan", "A call's sizes and options, without its arrays.")
      .def(nb::init<int64_t, int64_t, int64_t, Sizes, Sizes, Sizes, Sizes, Sizes, Sizes, int, bool,
                    int, double>(),
           nb::arg("batch"), nb::arg("channels"), nb::arg("multiplier"), nb::arg("input_size"),
           nb::arg("output_size"), nb::arg("kernel_size"), nb::arg("strides"), nb::arg("dilation"),
           nb::arg("padding_before"), nb::arg("dtype"), nb::arg("channels_first"),
           nb::arg("activation"), nb::arg("alpha"))
      .def("kernel_name", &Plan::kernel_name, nb::arg("backward"),
           "Kernel of the instruction set in use that runs the forward pass, or the gradients.")
      .def("forward", &Plan::forward, nb::arg("x"), nb::arg("kernel"), nb::arg("bias").none(),
           nb::arg("y"), nb::arg("preactivation").none(),
           "Write activation(conv(x, kernel) + bias) to y, and what it is taken of to "
           "preactivation.")
      .def("forward_apart", &Plan::forward_apart, nb::arg("x"), nb::arg("kernel"),
           nb::arg("bias").none(), nb::arg("y"),
           "forward() without preactivation and True, or False and nothing done if y might overlap "
           "an input.")
      .def("backward", &Plan::backward, nb::arg("x"), nb::arg("kernel"), nb::arg("dy"),
           nb::arg("saved").none(), nb::arg("dx").none(), nb::arg("dkernel").none(),
           nb::arg("dbias").none(), "Write the gradients that are not None.")
      .def(
          "backward_plain", &Plan::backward_plain, nb::arg("x"), nb::arg("kernel"),
          nb::arg("dy").none(), nb::arg("saved").none(), nb::arg("dx").none(),
          nb::arg("dkernel").none(), nb::arg("dbias").none(),
          "backward() and True, or False and nothing done if dy or a gradient needs a closer look.")
      .def("forward_at", &Plan::forward_at, nb::arg("x"), nb::arg("kernel"), nb::arg("bias"),
           nb::arg("y"), nb::arg("preactivation"),
           "The same on addresses, each with its strides (csrc/bindings/python.cc).")
      .def("backward_at", &Plan::backward_at, nb::arg("x"), nb::arg("kernel"), nb::arg("dy"),
           nb::arg("saved"), nb::arg("dx"), nb::arg("dkernel"), nb::arg("dbias"),
           "The same on addresses.");

  nb::class_<Recent>(m, "Recent", "Calls that were made before, by their arguments.")
      .def(nb::init<>())
      .def("forward", &Recent::forward, nb::arg("x"), nb::arg("kernel"), nb::arg("bias").none(),
           nb::arg("strides"), nb::arg("padding"), nb::arg("data_format"), nb::arg("dilation_rate"),
           nb::arg("activation").none(), nb::arg("out").none(),
           nb::sig("def forward(self, x: object, kernel: object, bias: object | None, "
                   "strides: object, padding: object, data_format: object, dilation_rate: object, "
                   "activation: object | None, out: object | None) -> typing.Any"),
           "The call into `out`, and what was remembered with it; None and nothing done if it is "
           "not known or unusual.")
      .def("remember", &Recent::remember, nb::arg("known"), nb::arg("plan"), nb::arg("x"),
           nb::arg("kernel"), nb::arg("bias").none(), nb::arg("strides"), nb::arg("padding"),
           nb::arg("data_format"), nb::arg("dilation_rate"), nb::arg("activation").none(),
           nb::arg("out"), "Keep a call whose arguments have been checked.");

  m.def("bytes_to_multiple", bytes_to_multiple, nb::arg("array"), nb::arg("alignment"),
        "How many bytes into an array's memory the next multiple of `alignment` lies.");
  m.def("isa", [] { return std::string(depthwise_isa()); }, "Instruction set in use.");
  m.def(
      "set_isa",
      [](const std::string& name) {  // a null character would hide what follows it
        return name.find('\0') == std::string::npos && depthwise_set_isa(name.c_str()) != 0;
      },
      nb::arg("name"), "Use another instruction set; False if it is unknown or not supported.");
  m.def("compiled_isas", [] { return isa_names(depthwise_isa_compiled); });
  m.def("supported_isas", [] { return isa_names(depthwise_isa_supported); });
  m.def("kernel_names", kernel_names, "Kernels of the instruction set in use.");
  m.def("cpu_features", [] { return std::string(depthwise_cpu_features()); });
  m.def("num_threads", depthwise_num_threads);
  m.def("set_num_threads", depthwise_set_num_threads, nb::arg("count"));
  m.def("use_openmp", use_openmp, nb::arg("parallel"), nb::arg("max_threads"),
        nb::arg("in_parallel"),
        "Have calls on addresses run on the threads of an OpenMP library with these functions.");
}
