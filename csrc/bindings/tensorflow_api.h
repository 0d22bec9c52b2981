// The functions of TensorFlow's C API that the ops are made of, looked up in the TensorFlow that
// the process has loaded. That API is stable: one build of this library serves every version that
// has these functions, and none is needed to build it.
#ifndef DEPTHWISE_BINDINGS_TENSORFLOW_API_H_
#define DEPTHWISE_BINDINGS_TENSORFLOW_API_H_

#include <dlfcn.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#if defined(__APPLE__)
#include <mach-o/dyld.h>
#endif

extern "C" {  // names and values of tensorflow/c/{tf_status,tf_datatype,ops,kernels}.h
struct TF_Status;
struct TF_Tensor;
struct TF_OpDefinitionBuilder;
struct TF_ShapeInferenceContext;
struct TF_ShapeHandle;
struct TF_KernelBuilder;
struct TF_OpKernelConstruction;
struct TF_OpKernelContext;
using TF_ShapeFunction = void (*)(TF_ShapeInferenceContext*, TF_Status*);
using TF_CreateFunction = void* (*)(TF_OpKernelConstruction*);
using TF_ComputeFunction = void (*)(void*, TF_OpKernelContext*);
using TF_DeleteFunction = void (*)(void*);
enum TF_Code : int { TF_OK = 0, TF_INVALID_ARGUMENT = 3, TF_RESOURCE_EXHAUSTED = 8 };
enum TF_DataType : int { TF_FLOAT = 1, TF_DOUBLE = 2, TF_BFLOAT16 = 14, TF_HALF = 19 };
}

namespace depthwise::tensorflow {

// F(result, name, arguments)
#define DEPTHWISE_TENSORFLOW_FUNCTIONS(F)                                                   \
  F(TF_Status*, TF_NewStatus, ())                                                           \
  F(void, TF_DeleteStatus, (TF_Status*))                                                    \
  F(void, TF_SetStatus, (TF_Status*, TF_Code, const char*))                                 \
  F(TF_Code, TF_GetCode, (const TF_Status*))                                                \
  F(const char*, TF_Message, (const TF_Status*))                                            \
  F(TF_DataType, TF_TensorType, (const TF_Tensor*))                                         \
  F(int, TF_NumDims, (const TF_Tensor*))                                                    \
  F(int64_t, TF_Dim, (const TF_Tensor*, int))                                               \
  F(void*, TF_TensorData, (const TF_Tensor*))                                               \
  F(void, TF_DeleteTensor, (TF_Tensor*))                                                    \
  F(TF_OpDefinitionBuilder*, TF_NewOpDefinitionBuilder, (const char*))                      \
  F(void, TF_OpDefinitionBuilderAddAttr, (TF_OpDefinitionBuilder*, const char*))            \
  F(void, TF_OpDefinitionBuilderAddInput, (TF_OpDefinitionBuilder*, const char*))           \
  F(void, TF_OpDefinitionBuilderAddOutput, (TF_OpDefinitionBuilder*, const char*))          \
  F(void, TF_OpDefinitionBuilderSetShapeInferenceFunction,                                  \
    (TF_OpDefinitionBuilder*, TF_ShapeFunction))                                            \
  F(void, TF_RegisterOpDefinition, (TF_OpDefinitionBuilder*, TF_Status*))                   \
  F(TF_ShapeHandle*, TF_NewShapeHandle, ())                                                 \
  F(void, TF_DeleteShapeHandle, (TF_ShapeHandle*))                                          \
  F(void, TF_ShapeInferenceContextGetInput,                                                 \
    (TF_ShapeInferenceContext*, int, TF_ShapeHandle*, TF_Status*))                          \
  F(void, TF_ShapeInferenceContextSetOutput,                                                \
    (TF_ShapeInferenceContext*, int, TF_ShapeHandle*, TF_Status*))                          \
  F(void, TF_ShapeInferenceContextSetUnknownShape, (TF_ShapeInferenceContext*, TF_Status*)) \
  F(int64_t, TF_ShapeInferenceContextRank, (TF_ShapeInferenceContext*, TF_ShapeHandle*))    \
  F(int, TF_ShapeInferenceContextRankKnown, (TF_ShapeInferenceContext*, TF_ShapeHandle*))   \
  F(TF_KernelBuilder*, TF_NewKernelBuilder,                                                 \
    (const char*, const char*, TF_CreateFunction, TF_ComputeFunction, TF_DeleteFunction))   \
  F(void, TF_KernelBuilder_TypeConstraint,                                                  \
    (TF_KernelBuilder*, const char*, TF_DataType, TF_Status*))                              \
  F(void, TF_RegisterKernelBuilder, (const char*, TF_KernelBuilder*, TF_Status*))           \
  F(void, TF_OpKernelConstruction_GetAttrSize,                                              \
    (TF_OpKernelConstruction*, const char*, int32_t*, int32_t*, TF_Status*))                \
  F(void, TF_OpKernelConstruction_GetAttrInt64,                                             \
    (TF_OpKernelConstruction*, const char*, int64_t*, TF_Status*))                          \
  F(void, TF_OpKernelConstruction_GetAttrInt64List,                                         \
    (TF_OpKernelConstruction*, const char*, int64_t*, int, TF_Status*))                     \
  F(void, TF_OpKernelConstruction_GetAttrBool,                                              \
    (TF_OpKernelConstruction*, const char*, unsigned char*, TF_Status*))                    \
  F(void, TF_OpKernelConstruction_GetAttrString,                                            \
    (TF_OpKernelConstruction*, const char*, char*, size_t, TF_Status*))                     \
  F(void, TF_OpKernelConstruction_Failure, (TF_OpKernelConstruction*, TF_Status*))          \
  F(int, TF_NumInputs, (TF_OpKernelContext*))                                               \
  F(void, TF_GetInput, (TF_OpKernelContext*, int, TF_Tensor**, TF_Status*))                 \
  F(TF_Tensor*, TF_AllocateOutput,                                                          \
    (TF_OpKernelContext*, int, TF_DataType, const int64_t*, int, size_t, TF_Status*))       \
  F(void, TF_OpKernelContext_Failure, (TF_OpKernelContext*, TF_Status*))

struct Api {
#define DEPTHWISE_DECLARE(result, name, arguments) result(*name) arguments = nullptr;
  DEPTHWISE_TENSORFLOW_FUNCTIONS(DEPTHWISE_DECLARE)
#undef DEPTHWISE_DECLARE
};

// The library that TensorFlow's C API is in, if the process has loaded it. It is never loaded here:
// which one, and how, is for `import tensorflow` to say.
inline void* loaded_library() {
#if defined(__APPLE__)
  for (uint32_t i = 0; i < _dyld_image_count(); ++i) {
    const char* path = _dyld_get_image_name(i);
    if (path == nullptr || std::strstr(path, "libtensorflow_framework.") == nullptr) continue;
    if (void* library = dlopen(path, RTLD_NOLOAD | RTLD_LAZY)) return library;
  }
#else
  if (void* library = dlopen("libtensorflow_framework.so.2", RTLD_NOLOAD | RTLD_LAZY)) {
    return library;
  }
#endif
  return RTLD_DEFAULT;  // a program with TensorFlow linked into it
}

// Fills `api`. Returns what is missing, or nothing.
inline std::string look_up(Api* api) {
  void* const library = loaded_library();
  std::string missing;
  int found = 0;
  const auto find = [&](const char* name) {
    void* const function = dlsym(library, name);
    if (function != nullptr) {
      ++found;
    } else {
      missing += std::string(missing.empty() ? "" : ", ") + name;
    }
    return function;
  };
#define DEPTHWISE_FIND(result, name, arguments) \
  api->name = reinterpret_cast<decltype(api->name)>(find(#name));
  DEPTHWISE_TENSORFLOW_FUNCTIONS(DEPTHWISE_FIND)
#undef DEPTHWISE_FIND
  if (missing.empty()) return {};
  if (found == 0) return "TensorFlow was not loaded before the ops of depthwise.tensorflow";
  return "this version of TensorFlow lacks functions of its C API: " + missing;
}

}  // namespace depthwise::tensorflow

#endif  // DEPTHWISE_BINDINGS_TENSORFLOW_API_H_
