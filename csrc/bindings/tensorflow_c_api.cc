// TensorFlow's ops, registered through its C API.
#include "bindings/dense_call.h"
