// TensorFlow's ops, registered through its C API when this library is loaded:
//
//   Depthwise>Conv2d                y = activation(conv(x, kernel) + bias)
//   Depthwise>Conv2dInputGradient   dx from dy
//   Depthwise>Conv2dKernelGradient  dkernel and dbias from dy
//
// The gradients are ops of their own so that TensorFlow can leave out the one that nobody asked
// for.
#include <string>
#include <vector>

#include "bindings/tensorflow_api.h"
#include "bindings/tensorflow_call.h"

namespace depthwise::tensorflow {
namespace {

constexpr char forward_op[] = "Depthwise>Conv2d";
constexpr char input_gradient_op[] = "Depthwise>Conv2dInputGradient";
constexpr char kernel_gradient_op[] = "Depthwise>Conv2dKernelGradient";
constexpr char gradients_op[] = "Depthwise>Conv2dGradients";

void compute_forward(void* kernel, TF_OpKernelContext* context) { Call(kernel, context).forward(); }
void compute_input_gradient(void* kernel, TF_OpKernelContext* context) {
  Call(kernel, context).gradients(true, false);
}
void compute_kernel_gradient(void* kernel, TF_OpKernelContext* context) {
  Call(kernel, context).gradients(false, true);
}
void compute_gradients(void* kernel, TF_OpKernelContext* context) {
  Call(kernel, context).gradients(true, true);
}

// --- static shapes -------------------------------------------------------------------------------

// A shape function of the C API can read no attribute but dtypes, so it cannot know the strides or
// the layout. The Python front-end knows, and sets the shape of y.
void forward_shapes(TF_ShapeInferenceContext* context, TF_Status* status) {
  tf.TF_ShapeInferenceContextSetUnknownShape(context, status);
}

void copy_shape(TF_ShapeInferenceContext* context, int from, int to, TF_Status* status) {
  TF_ShapeHandle* const shape = tf.TF_NewShapeHandle();
  tf.TF_ShapeInferenceContextGetInput(context, from, shape, status);
  if (tf.TF_GetCode(status) == TF_OK) {
    tf.TF_ShapeInferenceContextSetOutput(context, to, shape, status);
  }
  tf.TF_DeleteShapeHandle(shape);
}

void input_gradient_shapes(TF_ShapeInferenceContext* context, TF_Status* status) {
  copy_shape(context, 0, 0, status);
}

// Those of dkernel and, after it, dbias. The third input is the bias, if it is a vector, or else
// dy.
void set_kernel_gradient_shapes(TF_ShapeInferenceContext* context, int dkernel, TF_Status* status) {
  if (tf.TF_GetCode(status) == TF_OK) copy_shape(context, 1, dkernel, status);
  if (tf.TF_GetCode(status) != TF_OK) return;
  TF_ShapeHandle* const third = tf.TF_NewShapeHandle();
  tf.TF_ShapeInferenceContextGetInput(context, 2, third, status);
  if (tf.TF_GetCode(status) == TF_OK && tf.TF_ShapeInferenceContextRankKnown(context, third) &&
      tf.TF_ShapeInferenceContextRank(context, third) == 1) {
    tf.TF_ShapeInferenceContextSetOutput(context, dkernel + 1, third, status);
  }
  tf.TF_DeleteShapeHandle(third);
}

void kernel_gradient_shapes(TF_ShapeInferenceContext* context, TF_Status* status) {
  tf.TF_ShapeInferenceContextSetUnknownShape(context, status);
  set_kernel_gradient_shapes(context, 0, status);
}

void gradients_shapes(TF_ShapeInferenceContext* context, TF_Status* status) {
  tf.TF_ShapeInferenceContextSetUnknownShape(context, status);
  if (tf.TF_GetCode(status) == TF_OK) copy_shape(context, 0, 0, status);
  set_kernel_gradient_shapes(context, 1, status);
}

// --- registration --------------------------------------------------------------------------------

struct Op {
  const char* name;
  std::vector<const char*> inputs, outputs, attributes;
  TF_ShapeFunction shapes;
  TF_CreateFunction create;
  TF_ComputeFunction compute;
};

std::vector<Op> ops() {
  const std::vector<const char*> gradient_inputs{"x: T", "kernel: T", "bias: biases * T", "dy: T",
                                                 "saved: saves * T"};
  return {
      {forward_op,
       {"x: T", "kernel: T", "bias: biases * T"},
       {"y: T", "preactivation: T"},
       {"keep_preactivation: bool = false"},
       forward_shapes,
       create_forward,
       compute_forward},
      {input_gradient_op,
       gradient_inputs,
       {"dx: T"},
       {"saves: int >= 0"},
       input_gradient_shapes,
       create,
       compute_input_gradient},
      {kernel_gradient_op,
       gradient_inputs,
       {"dkernel: T", "dbias: T"},
       {"saves: int >= 0"},
       kernel_gradient_shapes,
       create,
       compute_kernel_gradient},
      {gradients_op,
       gradient_inputs,
       {"dx: T", "dkernel: T", "dbias: T"},
       {"saves: int >= 0"},
       gradients_shapes,
       create,
       compute_gradients},
  };
}

constexpr const char* common_attributes[] = {
    "T: {float, double, half, bfloat16}",
    "biases: int >= 0",  // 0 or 1
    "strides: list(int) = [1, 1]",
    "dilation_rate: list(int) = [1, 1]",
    "padding: {'same', 'explicit'} = 'explicit'",
    "explicit_padding: list(int) = [0, 0, 0, 0]",  // top, bottom, left, right
    "data_format: {'channels_last', 'channels_first'} = 'channels_last'",
    "activation: int = 0",    // a code of activations.py
    "alpha: string = '0.0'",  // attributes of type float are float32, and the number must not
                              // change
};

std::string register_op(const Op& op) {
  TF_OpDefinitionBuilder* const builder = tf.TF_NewOpDefinitionBuilder(op.name);
  for (const char* attribute : common_attributes) {
    tf.TF_OpDefinitionBuilderAddAttr(builder, attribute);
  }
  for (const char* attribute : op.attributes) tf.TF_OpDefinitionBuilderAddAttr(builder, attribute);
  for (const char* input : op.inputs) tf.TF_OpDefinitionBuilderAddInput(builder, input);
  for (const char* output : op.outputs) tf.TF_OpDefinitionBuilderAddOutput(builder, output);
  tf.TF_OpDefinitionBuilderSetShapeInferenceFunction(builder, op.shapes);
  Status status;
  tf.TF_RegisterOpDefinition(builder, status.get());
  for (const TF_DataType type : {TF_FLOAT, TF_DOUBLE, TF_HALF, TF_BFLOAT16}) {
    if (!status.ok()) break;
    TF_KernelBuilder* const kernel =
        tf.TF_NewKernelBuilder(op.name, "CPU", op.create, op.compute, destroy);
    tf.TF_KernelBuilder_TypeConstraint(kernel, "T", type, status.get());
    if (status.ok()) tf.TF_RegisterKernelBuilder(op.name, kernel, status.get());
  }
  return status.ok() ? std::string() : std::string(op.name) + ": " + tf.TF_Message(status.get());
}

// Returns what went wrong, or nothing.
std::string register_ops() {
  std::string problem = look_up(&tf);
  for (const Op& op : ops()) {
    if (problem.empty()) problem = register_op(op);
  }
  return problem;
}

// tf.load_op_library() collects the ops that are registered while the library is being loaded.
const std::string registration_problem = register_ops();

}  // namespace
}  // namespace depthwise::tensorflow

// Why there are no ops: a text that stays, empty if there are.
extern "C" DEPTHWISE_EXPORT const char* depthwise_tensorflow_problem() {
  return depthwise::tensorflow::registration_problem.c_str();
}
