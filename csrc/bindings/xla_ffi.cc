// The handlers that XLA calls. `depthwise.jax` registers them, and its lowering.py says what their
// operands, results and attributes are. XLA hands them dense row-major buffers; every size is read
// from those when the call runs, so that a program whose sizes are open needs no other handlers.
#include <array>
#include <exception>
#include <new>
#include <optional>
#include <string>

#include "bindings/dense_call.h"
#include "bindings/teams.h"
#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;
using depthwise::Shape;

// A description of what is wrong; empty if nothing is. The handlers do not throw: XLA is compiled
// without exceptions.
using Problem = std::string;

ffi::Error error(ffi::ErrorCode code, const Problem& problem) {
  return ffi::Error(code, "depthwise: " + problem);
}

// What a call reads, with the attributes and buffers it comes from. The first problem is kept, so
// that a function reads everything it needs and asks once.
class Call {
 public:
  Call(ffi::Dictionary attributes, ffi::RemainingArgs operands, ffi::RemainingRets results)
      : attributes_(attributes), operands_(operands), results_(results) {}

  const Problem& problem() const { return problem_; }
  void fail(const Problem& problem) {
    if (problem_.empty()) problem_ = problem;
  }

  template <class T>
  T attribute(const char* name) {
    const auto value = attributes_.get<T>(name);
    if (value.has_value()) return *value;
    fail(std::string("no attribute '") + name + "' of the right type");
    return T{};
  }

  template <size_t n>
  std::array<int64_t, n> integers(const char* name) {
    std::array<int64_t, n> result{};
    const auto values = attribute<ffi::Span<const int64_t>>(name);
    if (values.size() == n) {
      std::copy(values.begin(), values.end(), result.begin());
    } else {
      fail(std::string("expected ") + std::to_string(n) + " integers in attribute '" + name + "'");
    }
    return result;
  }

  // The next operand or result.
  ffi::AnyBuffer operand() {
    const auto buffer = operands_.get<ffi::AnyBuffer>(next_operand_++);
    if (buffer.has_value()) return check_dtype(*buffer);
    fail("an operand is missing");
    return nothing();
  }
  ffi::AnyBuffer result() {
    auto buffer = results_.get<ffi::AnyBuffer>(next_result_++);
    if (buffer.has_value()) return check_dtype(**buffer);
    fail("a result is missing");
    return nothing();
  }
  std::optional<ffi::AnyBuffer> operand_if(bool present) {
    return present ? std::optional(operand()) : std::nullopt;
  }
  std::optional<ffi::AnyBuffer> result_if(bool present) {
    return present ? std::optional(result()) : std::nullopt;
  }
  bool has_operand() const { return next_operand_ < operands_.size(); }
  bool has_result() const { return next_result_ < results_.size(); }

  depthwise::Options options() {
    depthwise::Options options{};
    options.strides = integers<2>("strides");
    options.dilation = integers<2>("dilation");
    options.same = attribute<bool>("same");
    options.padding = integers<4>("padding");
    options.channels_first = attribute<bool>("channels_first");
    options.activation = attribute<int32_t>("activation");
    options.alpha = attribute<double>("alpha");
    return options;
  }

  // Checks that a buffer is four-dimensional and returns its sizes.
  Shape shape(const ffi::AnyBuffer& buffer) {
    const auto dimensions = buffer.dimensions();
    Shape shape{};
    if (dimensions.size() == shape.size()) {
      std::copy(dimensions.begin(), dimensions.end(), shape.begin());
    } else {
      fail("expected a buffer of 4 dimensions, got one of " + std::to_string(dimensions.size()));
    }
    return shape;
  }

  void check_shape(const char* name, const std::optional<ffi::AnyBuffer>& buffer,
                   const Shape& expected) {
    if (!buffer) return;
    const Shape actual = shape(*buffer);
    if (actual != expected) {
      fail(std::string(name) + ": expected shape " + depthwise::to_text(expected) + ", got shape " +
           depthwise::to_text(actual));
    }
  }

  void check_length(const char* name, const std::optional<ffi::AnyBuffer>& buffer,
                    int64_t expected) {
    if (!buffer) return;
    const auto dimensions = buffer->dimensions();
    if (dimensions.size() != 1 || dimensions[0] != expected) {
      fail(std::string(name) + ": expected shape (" + std::to_string(expected) +
           ",), one number per output channel");
    }
  }

  // The code of the dtype that all buffers have.
  int32_t dtype() const { return dtype_; }

 private:
  static ffi::AnyBuffer nothing() {
    static const XLA_FFI_Buffer empty{};
    return ffi::AnyBuffer(&empty);
  }

  ffi::AnyBuffer check_dtype(const ffi::AnyBuffer& buffer) {
    const int32_t code = dtype_code(buffer.element_type());
    if (code < 0 || (dtype_ >= 0 && code != dtype_)) {
      fail("expected buffers of one dtype: float32, float64, float16 or bfloat16");
    }
    dtype_ = code;
    return buffer;
  }

  static int32_t dtype_code(ffi::DataType type) {
    switch (type) {
      case ffi::DataType::F32:
        return DEPTHWISE_FLOAT32;
      case ffi::DataType::F64:
        return DEPTHWISE_FLOAT64;
      case ffi::DataType::F16:
        return DEPTHWISE_FLOAT16;
      case ffi::DataType::BF16:
        return DEPTHWISE_BFLOAT16;
      default:
        return -1;
    }
  }

  ffi::Dictionary attributes_;
  ffi::RemainingArgs operands_;
  ffi::RemainingRets results_;
  size_t next_operand_ = 0;
  size_t next_result_ = 0;
  int32_t dtype_ = -1;
  Problem problem_;
};

// The address of a buffer that is there, which is not null even if the buffer is empty.
void* address(const std::optional<ffi::AnyBuffer>& buffer) {
  static double empty;
  if (!buffer) return nullptr;
  return buffer->untyped_data() == nullptr ? &empty : buffer->untyped_data();
}

ffi::Error finish(depthwise_status status) {
  switch (status) {
    case DEPTHWISE_OK:
      return ffi::Error::Success();
    case DEPTHWISE_OUT_OF_MEMORY:
      return error(ffi::ErrorCode::kResourceExhausted, "out of memory");
    default:
      return error(ffi::ErrorCode::kInternal, "the native op refused its parameters");
  }
}

// (x, kernel[, bias]) -> (y[, preactivation])
ffi::Error forward(Call& call) {
  const depthwise::Options options = call.options();
  const ffi::AnyBuffer x = call.operand(), kernel = call.operand();
  const auto bias = call.operand_if(call.has_operand());
  const ffi::AnyBuffer y = call.result();
  const auto preactivation = call.result_if(call.has_result());
  const Shape x_shape = call.shape(x), kernel_shape = call.shape(kernel);
  if (!call.problem().empty()) return error(ffi::ErrorCode::kInvalidArgument, call.problem());

  depthwise_params params;
  call.fail(depthwise::dense_params(options, call.dtype(), x_shape, kernel_shape, &params));
  if (call.problem().empty()) {
    call.check_length("bias", bias, params.channels * params.multiplier);
    call.check_shape("y", y, depthwise::output_shape(params));
    call.check_shape("preactivation", preactivation, depthwise::output_shape(params));
  }
  if (!call.problem().empty()) return error(ffi::ErrorCode::kInvalidArgument, call.problem());
  return finish(depthwise_forward(&params, address(x), address(kernel), address(bias), address(y),
                                  address(preactivation)));
}

// An input of this many rows or columns gives `output` of them without padding.
int64_t input_size(int64_t output, int64_t kernel, int64_t dilation, int64_t stride) {
  return (output - 1) * stride + (kernel - 1) * dilation + 1;
}

// (dy[, kernel][, x][, saved]) -> (dx, dkernel, dbias), of these only what is wanted: kernel is
// there if dx is, x if dkernel is, and saved if the activation is not linear.
ffi::Error backward(Call& call) {
  depthwise::Options options = call.options();
  const auto kernel_size = call.integers<2>("kernel_size");
  const int64_t multiplier = call.attribute<int64_t>("multiplier");
  const bool wants_input = call.attribute<bool>("input_gradient");
  const bool wants_kernel = call.attribute<bool>("kernel_gradient");
  const bool wants_bias = call.attribute<bool>("bias_gradient");
  const ffi::AnyBuffer dy = call.operand();
  const auto kernel = call.operand_if(wants_input);
  const auto x = call.operand_if(wants_kernel);
  const auto saved = call.operand_if(options.activation != DEPTHWISE_LINEAR);
  const auto dx = call.result_if(wants_input);
  const auto dkernel = call.result_if(wants_kernel);
  const auto dbias = call.result_if(wants_bias);
  const Shape dy_shape = call.shape(dy);
  const bool first = options.channels_first;
  const int64_t outputs = dy_shape[first ? 1 : 3];
  if (multiplier < 1 || outputs % multiplier != 0) {
    call.fail("dy: expected a multiple of " + std::to_string(multiplier) + " channels");
  }
  if (!call.problem().empty()) return error(ffi::ErrorCode::kInvalidArgument, call.problem());

  const Shape kernel_shape{kernel_size[0], kernel_size[1], outputs / multiplier, multiplier};
  Shape x_shape;
  if (dx || x) {
    x_shape = call.shape(dx ? *dx : *x);
  } else {  // the gradient of the bias depends on neither: any input that gives this output will do
    options.same = false;
    options.padding = {};
    x_shape = depthwise::image_shape(first, dy_shape[0],
                                     input_size(dy_shape[first ? 2 : 1], kernel_size[0],
                                                options.dilation[0], options.strides[0]),
                                     input_size(dy_shape[first ? 3 : 2], kernel_size[1],
                                                options.dilation[1], options.strides[1]),
                                     outputs / multiplier);
  }
  depthwise_params params;
  call.fail(depthwise::dense_params(options, call.dtype(), x_shape, kernel_shape, &params));
  if (call.problem().empty()) {
    call.check_shape("dy", dy, depthwise::output_shape(params));
    call.check_shape("saved", saved, depthwise::output_shape(params));
    call.check_shape("x", x, x_shape);
    call.check_shape("kernel", kernel, kernel_shape);
    call.check_shape("dkernel", dkernel, kernel_shape);
    call.check_length("dbias", dbias, outputs);
  }
  if (!call.problem().empty()) return error(ffi::ErrorCode::kInvalidArgument, call.problem());
  return finish(depthwise_backward(&params, address(x), address(kernel), address(dy),
                                   address(saved), address(dx), address(dkernel), address(dbias)));
}

// Has the threads of XLA's own loops come. If there is no memory to ask them, fewer do.
void gather(void* context, int threads, void (*work)()) {
  try {
    for (int i = 1; i < threads; ++i) {
      static_cast<ffi::ThreadPool*>(context)->Schedule([work] { work(); });
    }
  } catch (const std::bad_alloc&) {
  }
}

template <ffi::Error (*body)(Call&)>
ffi::Error handle(ffi::ThreadPool threads, ffi::Dictionary attributes, ffi::RemainingArgs operands,
                  ffi::RemainingRets results) {
  const depthwise_team team{&gather, &threads};
  const depthwise::Borrowed borrowed(&team);
  try {
    Call call(attributes, operands, results);
    return body(call);
  } catch (const std::exception& exception) {
    return error(ffi::ErrorCode::kInternal, exception.what());
  }
}

}  // namespace

extern "C" DEPTHWISE_EXPORT XLA_FFI_Error* depthwise_xla_forward(XLA_FFI_CallFrame*);
extern "C" DEPTHWISE_EXPORT XLA_FFI_Error* depthwise_xla_backward(XLA_FFI_CallFrame*);

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    depthwise_xla_forward, handle<forward>,
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Attrs().RemainingArgs().RemainingRets());
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    depthwise_xla_backward, handle<backward>,
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Attrs().RemainingArgs().RemainingRets());
