// What the ops do when TensorFlow runs them: a node's attributes, and one call with its tensors.
#ifndef DEPTHWISE_BINDINGS_TENSORFLOW_CALL_H_
#define DEPTHWISE_BINDINGS_TENSORFLOW_CALL_H_

#include <cstdlib>
#include <locale>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <vector>

#include "bindings/dense_call.h"
#include "bindings/tensorflow_api.h"

namespace depthwise::tensorflow {

inline Api tf;  // filled before the first op is registered

class Status {
 public:
  Status() : status_(tf.TF_NewStatus()) {}
  ~Status() { tf.TF_DeleteStatus(status_); }
  Status(const Status&) = delete;
  Status& operator=(const Status&) = delete;
  TF_Status* get() const { return status_; }
  bool ok() const { return tf.TF_GetCode(status_) == TF_OK; }
  void set(TF_Code code, const std::string& text) { tf.TF_SetStatus(status_, code, text.c_str()); }

 private:
  TF_Status* status_;
};

// --- attributes ----------------------------------------------------------------------------------

struct Convolution {
  Options options{};
  bool keep_preactivation = false;
};

template <size_t count>
void list_attribute(TF_OpKernelConstruction* context, const char* name,
                    std::array<int64_t, count>* values, TF_Status* status) {
  int32_t items = 0, length = 0;
  tf.TF_OpKernelConstruction_GetAttrSize(context, name, &items, &length, status);
  if (tf.TF_GetCode(status) != TF_OK) return;
  if (items != static_cast<int32_t>(count)) {
    const std::string text = std::string(name) + ": expected " + std::to_string(count) +
                             " integers, got " + std::to_string(items);
    return tf.TF_SetStatus(status, TF_INVALID_ARGUMENT, text.c_str());
  }
  tf.TF_OpKernelConstruction_GetAttrInt64List(context, name, values->data(),
                                              static_cast<int>(count), status);
}

inline std::string text_attribute(TF_OpKernelConstruction* context, const char* name,
                                  TF_Status* status) {
  int32_t items = 0, length = 0;
  tf.TF_OpKernelConstruction_GetAttrSize(context, name, &items, &length, status);
  if (tf.TF_GetCode(status) != TF_OK) return {};
  std::string text(static_cast<size_t>(length), '\0');
  tf.TF_OpKernelConstruction_GetAttrString(context, name, text.data(), text.size(), status);
  return text;
}

// Reads what the program wrote with repr(), whatever the locale is.
inline bool parse_number(const std::string& text, double* number) {
  std::istringstream stream(text);
  stream.imbue(std::locale::classic());
  return static_cast<bool>(stream >> *number) &&
         stream.peek() == std::istringstream::traits_type::eof();
}

// The rules of spec.py that an attribute of a graph written elsewhere might break.
inline std::string check(const Options& options) {
  for (const int64_t step :
       {options.strides[0], options.strides[1], options.dilation[0], options.dilation[1]}) {
    if (step < 1 || step > INT32_MAX) return "strides, dilation_rate: expected positive integers";
  }
  for (const int64_t amount : options.padding) {
    if (amount < 0 || amount > INT32_MAX) return "padding: expected non-negative integers";
  }
  if (depthwise_needs_preactivation(options.activation) < 0) return "activation: unknown code";
  return {};
}

inline void* create(TF_OpKernelConstruction* context) {
  auto convolution = std::make_unique<Convolution>();
  Options& options = convolution->options;
  Status status;
  int64_t activation = 0;
  std::string padding, data_format, alpha;
  const auto read = [&](auto&& step) {
    if (status.ok()) step();
  };
  read([&] { list_attribute(context, "strides", &options.strides, status.get()); });
  read([&] { list_attribute(context, "dilation_rate", &options.dilation, status.get()); });
  read([&] { padding = text_attribute(context, "padding", status.get()); });
  read([&] { list_attribute(context, "explicit_padding", &options.padding, status.get()); });
  read([&] { data_format = text_attribute(context, "data_format", status.get()); });
  read([&] {
    tf.TF_OpKernelConstruction_GetAttrInt64(context, "activation", &activation, status.get());
  });
  read([&] { alpha = text_attribute(context, "alpha", status.get()); });
  if (status.ok()) {
    options.same = padding == "same";
    options.channels_first = data_format == "channels_first";
    options.activation = static_cast<int32_t>(std::clamp<int64_t>(activation, -1, INT32_MAX));
    std::string problem = check(options);
    if (!parse_number(alpha, &options.alpha)) problem = "alpha: expected a number, got " + alpha;
    if (!problem.empty()) status.set(TF_INVALID_ARGUMENT, problem);
  }
  if (!status.ok()) tf.TF_OpKernelConstruction_Failure(context, status.get());
  return convolution.release();
}

inline void* create_forward(TF_OpKernelConstruction* context) {
  auto* convolution = static_cast<Convolution*>(create(context));
  Status status;
  unsigned char keep = 0;
  tf.TF_OpKernelConstruction_GetAttrBool(context, "keep_preactivation", &keep, status.get());
  if (!status.ok()) tf.TF_OpKernelConstruction_Failure(context, status.get());
  convolution->keep_preactivation = keep != 0;
  return convolution;
}

inline void destroy(void* convolution) { delete static_cast<Convolution*>(convolution); }

// --- tensors -------------------------------------------------------------------------------------

inline std::string to_text(const std::vector<int64_t>& shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + (shape.size() == 1 ? ",)" : ")");
}
inline std::string to_text(const Shape& shape) { return depthwise::to_text(shape); }

inline const std::vector<int64_t> empty{0};  // the shape of an output that is not wanted

class Tensor {
 public:
  explicit Tensor(TF_Tensor* tensor = nullptr) : tensor_(tensor) {}
  Tensor(Tensor&& other) noexcept : tensor_(other.tensor_) { other.tensor_ = nullptr; }
  Tensor& operator=(Tensor&&) = delete;
  ~Tensor() {
    if (tensor_ != nullptr) tf.TF_DeleteTensor(tensor_);
  }
  bool exists() const { return tensor_ != nullptr; }
  void* data() const { return tensor_ == nullptr ? nullptr : tf.TF_TensorData(tensor_); }
  TF_DataType type() const { return tf.TF_TensorType(tensor_); }
  int rank() const { return tf.TF_NumDims(tensor_); }
  std::vector<int64_t> shape() const {
    std::vector<int64_t> sizes;
    for (int i = 0; i < rank(); ++i) sizes.push_back(tf.TF_Dim(tensor_, i));
    return sizes;
  }
  // Of a tensor of rank 4.
  Shape image() const {
    return {tf.TF_Dim(tensor_, 0), tf.TF_Dim(tensor_, 1), tf.TF_Dim(tensor_, 2),
            tf.TF_Dim(tensor_, 3)};
  }

 private:
  TF_Tensor* tensor_;
};

inline int32_t dtype_code(TF_DataType type) {
  switch (type) {
    case TF_DOUBLE:
      return DEPTHWISE_FLOAT64;
    case TF_HALF:
      return DEPTHWISE_FLOAT16;
    case TF_BFLOAT16:
      return DEPTHWISE_BFLOAT16;
    default:
      return DEPTHWISE_FLOAT32;
  }
}

inline int64_t element_bytes(TF_DataType type) {
  return type == TF_DOUBLE ? 8 : type == TF_FLOAT ? 4 : 2;
}

// --- one call ------------------------------------------------------------------------------------

// A call of one of the ops: its inputs checked, its outputs allocated, its failures reported.
class Call {
 public:
  Call(const void* kernel, TF_OpKernelContext* context)
      : convolution_(*static_cast<const Convolution*>(kernel)), context_(context) {}

  void forward() {
    const Tensor x = input(0), kernel = input(1);
    const Tensor bias = tf.TF_NumInputs(context_) > 2 ? input(2) : Tensor();
    if (!prepare(x, kernel, bias)) return;
    const Tensor y = output(0, output_shape(params_));
    const bool keep =
        convolution_.keep_preactivation && depthwise_needs_preactivation(params_.activation) == 1;
    const Tensor preactivation = keep ? output(1, output_shape(params_)) : output(1, empty);
    if (!status_.ok()) return report();
    finish(run([&] {
      return depthwise_forward(&params_, x.data(), kernel.data(), bias.data(), y.data(),
                               keep ? preactivation.data() : nullptr);
    }));
  }

  // Inputs: x, kernel, bias if the convolution has one, dy, saved unless it is linear. Outputs: of
  // dx those of_input, of dkernel and dbias those of_kernel.
  void gradients(bool of_input, bool of_kernel) {
    const int inputs = tf.TF_NumInputs(context_);
    const bool linear = convolution_.options.activation == DEPTHWISE_LINEAR;
    const int dy_at = inputs - (linear ? 1 : 2);
    const Tensor x = input(0), kernel = input(1);
    const Tensor bias = dy_at > 2 ? input(2) : Tensor();
    if (!prepare(x, kernel, bias)) return;
    const Tensor dy = input(dy_at), saved = linear ? Tensor() : input(inputs - 1);
    const Shape shape = output_shape(params_);
    const std::vector<int64_t> expected(shape.begin(), shape.end());
    if (dy.shape() != expected) {
      return fail("dy: expected shape " + to_text(shape) + ", that of the output, got shape " +
                  to_text(dy.shape()));
    }
    const void* values = saved.data();
    std::unique_ptr<void, decltype(&std::free)> again(nullptr, std::free);
    if (!linear && saved.shape() != expected) {
      if (depthwise_needs_preactivation(params_.activation) != 1) {
        return fail("saved: expected shape " + to_text(shape) + ", that of the output, got shape " +
                    to_text(saved.shape()));
      }
      again.reset(preactivation_again(x, kernel, bias));
      if (again == nullptr) return finish(DEPTHWISE_OUT_OF_MEMORY);
      values = again.get();
    }
    int next = 0;
    const Tensor dx = of_input ? output(next++, x.shape()) : Tensor();
    const Tensor dkernel = of_kernel ? output(next++, kernel.shape()) : Tensor();
    const Tensor dbias =
        of_kernel ? output(next++, bias.exists() ? bias.shape() : empty) : Tensor();
    if (!status_.ok()) return report();
    finish(run([&] {
      return depthwise_backward(&params_, x.data(), kernel.data(), dy.data(), values, dx.data(),
                                dkernel.data(), bias.exists() ? dbias.data() : nullptr);
    }));
  }

 private:
  // For a forward op that did not keep it: see gradients.py. Null if memory is short.
  void* preactivation_again(const Tensor& x, const Tensor& kernel, const Tensor& bias) {
    const Shape shape = output_shape(params_);
    const int64_t elements = shape[0] * shape[1] * shape[2] * shape[3];
    void* const z =
        std::malloc(static_cast<size_t>(std::max<int64_t>(1, elements * element_bytes(x.type()))));
    if (z == nullptr) return nullptr;
    depthwise_params linear = params_;
    linear.activation = DEPTHWISE_LINEAR;
    const depthwise_status status = run([&] {
      return depthwise_forward(&linear, x.data(), kernel.data(), bias.data(), z, nullptr);
    });
    if (status == DEPTHWISE_OK) return z;
    std::free(z);
    return nullptr;
  }

  Tensor input(int index) {
    TF_Tensor* tensor = nullptr;
    if (status_.ok()) tf.TF_GetInput(context_, index, &tensor, status_.get());
    return Tensor(tensor);
  }

  Tensor output(int index, const std::vector<int64_t>& shape) {
    int64_t bytes = element_bytes(type_);
    for (const int64_t size : shape) bytes *= size;
    if (!status_.ok()) return Tensor();
    return Tensor(tf.TF_AllocateOutput(context_, index, type_, shape.data(),
                                       static_cast<int>(shape.size()), static_cast<size_t>(bytes),
                                       status_.get()));
  }
  Tensor output(int index, const Shape& shape) {
    return output(index, std::vector<int64_t>(shape.begin(), shape.end()));
  }

  // Fills params_, or reports what is wrong with the shapes.
  bool prepare(const Tensor& x, const Tensor& kernel, const Tensor& bias) {
    if (!status_.ok()) {
      report();
      return false;
    }
    type_ = x.type();
    std::string problem = ranks(x, kernel, bias);
    if (problem.empty()) {
      problem = dense_params(convolution_.options, dtype_code(type_), x.image(), kernel.image(),
                             &params_);
    }
    if (problem.empty()) problem = sizes(kernel, bias);
    if (!problem.empty()) fail(problem);
    return problem.empty();
  }

  // The checks of spec.py for ranks that were not known when the graph was made.
  std::string ranks(const Tensor& x, const Tensor& kernel, const Tensor& bias) const {
    const auto wrong = [](const char* name, const char* sizes, const Tensor& tensor) {
      return std::string(name) + ": expected " + sizes + ", got " + std::to_string(tensor.rank()) +
             ": " + to_text(tensor.shape());
    };
    if (x.rank() != 4) {
      return wrong("x",
                   convolution_.options.channels_first ? "4 sizes (batch, channels, height, width)"
                                                       : "4 sizes (batch, height, width, channels)",
                   x);
    }
    if (kernel.rank() != 4) {
      return wrong("kernel", "4 sizes (kernel height, kernel width, channels, depth multiplier)",
                   kernel);
    }
    if (bias.exists() && bias.rank() != 1) return wrong("bias", "1 size (output channels)", bias);
    return {};
  }

  // Likewise for the one size that dense_params() does not know.
  std::string sizes(const Tensor& kernel, const Tensor& bias) const {
    const int64_t outputs = params_.channels * params_.multiplier;
    if (!bias.exists() || bias.shape()[0] == outputs) return {};
    return "bias: expected shape (" + std::to_string(outputs) +
           ",), one number per output channel, for kernel of shape " + to_text(kernel.shape()) +
           ", got shape " + to_text(bias.shape());
  }

  // The library's pool runs one job at a time, and what comes meanwhile runs on its caller alone.
  // TensorFlow starts jobs at the same time (layers side by side, replicas, elements of a data
  // set): large ones take turns, so that none is left to one core of many. On 2 cores it makes
  // no difference: training steps took 1 to 3 % longer without.
  template <class Job>
  depthwise_status run(const Job& job) const {
    static std::mutex turns;
    constexpr double worth_a_turn = 1.5e6;  // multiply-adds; smaller ones seldom share threads
    const double macs =
        static_cast<double>(params_.batch) * static_cast<double>(params_.out_height) *
        static_cast<double>(params_.out_width) * static_cast<double>(params_.channels) *
        static_cast<double>(params_.multiplier) * static_cast<double>(params_.kernel_height) *
        static_cast<double>(params_.kernel_width);
    if (macs < worth_a_turn || depthwise_num_threads() == 1) return job();
    const std::lock_guard<std::mutex> turn(turns);
    return job();
  }

  void finish(depthwise_status result) {
    if (result == DEPTHWISE_OUT_OF_MEMORY) {
      status_.set(TF_RESOURCE_EXHAUSTED, "depthwise: there is not enough memory");
      report();
    }
    if (result == DEPTHWISE_INVALID_PARAMS) fail("depthwise: the native op refused its parameters");
  }
  void fail(const std::string& problem) {
    status_.set(TF_INVALID_ARGUMENT, problem);
    report();
  }
  void report() { tf.TF_OpKernelContext_Failure(context_, status_.get()); }

  const Convolution& convolution_;
  TF_OpKernelContext* context_;
  Status status_;
  TF_DataType type_ = TF_FLOAT;
  depthwise_params params_{};
};

}  // namespace depthwise::tensorflow

#endif  // DEPTHWISE_BINDINGS_TENSORFLOW_CALL_H_
