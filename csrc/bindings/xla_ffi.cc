// The handlers that XLA calls.
#include "bindings/dense_call.h"
