// For kernels, too: nothing of the standard library is needed here.
#ifndef DEPTHWISE_RUNTIME_CACHES_H_
#define DEPTHWISE_RUNTIME_CACHES_H_

#include <stdint.h>

namespace depthwise {

// Bytes of the largest cache that a core reaches; 32 MiB where the system does not say.
int64_t last_level_bytes();

}  // namespace depthwise

#endif  // DEPTHWISE_RUNTIME_CACHES_H_
