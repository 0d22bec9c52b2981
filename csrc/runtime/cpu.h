// What the machine can do: instruction sets and the number of CPUs this process may use (caches.h
// has the size of its cache).
#ifndef DEPTHWISE_RUNTIME_CPU_H_
#define DEPTHWISE_RUNTIME_CPU_H_

#include <cstdint>
#include <string>

namespace depthwise {

// The instruction sets that kernels are compiled for. The values index tables of kernels.
enum class Isa : int {
  baseline = 0,  // what every CPU of the architecture has (SSE2 on x86-64); not used on aarch64
  avx2 = 1,      // AVX2, FMA and F16C
  avx512 = 2,    // AVX-512 F, BW, DQ and VL, on top of avx2
  neon = 3,      // Advanced SIMD, which every aarch64 CPU has
};
constexpr int isa_count = 4;

// "baseline", "avx2", "avx512" or "neon".
const char* isa_name(Isa isa);

// Sets *isa to the instruction set of that exact name. Returns false, with *isa untouched, if there
// is none (or if name is null).
bool isa_from_name(const char* name, Isa* isa);

// Whether this CPU executes the instruction set and the operating system saves its registers.
bool cpu_supports(Isa isa);

// What the CPU and the operating system offer of the features that kernels here could use,
// separated by spaces, for a human to read: "sse2 avx avx2 fma f16c avx512f ...".
std::string cpu_features();

// The number of CPUs that this thread may keep busy: those in its affinity mask, or fewer if a
// cgroup limits the CPU time of the process. At least 1. Reads files: not for a hot path.
int usable_cpus();

// The CPUs' worth of time that cgroups (version 1 or 2) grant this process, which need not be
// whole; 0 if they set no limit. `root` goes before every path that is read, so that a test can
// present files of its own.
double cgroup_cpu_limit(const std::string& root = "");

}  // namespace depthwise

#endif  // DEPTHWISE_RUNTIME_CPU_H_
