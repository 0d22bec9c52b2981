#include "runtime/cpu.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <fstream>
#include <initializer_list>
#include <string>
#include <thread>

#include "runtime/caches.h"

#if defined(__x86_64__) || defined(__i386__)
#define DW_CPU_X86 1
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sched.h>
#if defined(__aarch64__)
#include <sys/auxv.h>
#endif
#endif
#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace depthwise {
namespace {

// --- instruction sets ----------------------------------------------------------------------------

constexpr const char* isa_names[isa_count] = {"baseline", "avx2", "avx512", "neon"};

// A set of features: bit i stands for features[i].
using FeatureSet = uint32_t;

#if defined(DW_CPU_X86)

enum class Saved { always, ymm, zmm };  // the registers that the operating system must save

struct Feature {
  const char* name;
  unsigned leaf, subleaf;
  int word;  // of CPUID's answer: 0 EAX, 1 EBX, 2 ECX, 3 EDX
  int bit;
  Saved saved;
};

constexpr Feature features[] = {
    {"sse2", 1, 0, 3, 26, Saved::always},    {"sse4_1", 1, 0, 2, 19, Saved::always},
    {"avx", 1, 0, 2, 28, Saved::ymm},        {"f16c", 1, 0, 2, 29, Saved::ymm},
    {"fma", 1, 0, 2, 12, Saved::ymm},        {"avx2", 7, 0, 1, 5, Saved::ymm},
    {"avx512f", 7, 0, 1, 16, Saved::zmm},    {"avx512bw", 7, 0, 1, 30, Saved::zmm},
    {"avx512dq", 7, 0, 1, 17, Saved::zmm},   {"avx512vl", 7, 0, 1, 31, Saved::zmm},
    {"avx512_bf16", 7, 1, 0, 5, Saved::zmm}, {"avx512_fp16", 7, 0, 3, 23, Saved::zmm},
};

// What the operating system saves when it switches threads (XCR0), 0 if the CPU cannot tell.
uint64_t saved_state() {
  unsigned answer[4];
  constexpr unsigned osxsave = 1u << 27;
  if (!__get_cpuid(1, &answer[0], &answer[1], &answer[2], &answer[3]) || !(answer[2] & osxsave)) {
    return 0;
  }
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

FeatureSet detect_features() {
  constexpr uint64_t ymm = 0x06;  // SSE and AVX state
  constexpr uint64_t zmm = 0xe6;  // those, the mask registers and both parts of AVX-512's state
  const uint64_t state = saved_state();
  FeatureSet found = 0;
  int index = 0;
  for (const Feature& feature : features) {
    const uint64_t needed = feature.saved == Saved::zmm   ? zmm
                            : feature.saved == Saved::ymm ? ymm
                                                          : 0;
    unsigned answer[4];
    if ((state & needed) == needed &&
        __get_cpuid_count(feature.leaf, feature.subleaf, &answer[0], &answer[1], &answer[2],
                          &answer[3]) &&
        ((answer[feature.word] >> feature.bit) & 1u)) {
      found |= FeatureSet{1} << index;
    }
    ++index;
  }
  return found;
}

#elif defined(__aarch64__)

struct Feature {
  const char* name;
  unsigned long hwcap, hwcap2;  // Linux's bits for it, of <asm/hwcap.h>; 0 and 0: always there
  const char* sysctl;           // macOS's name for it
};

constexpr Feature features[] = {
    {"neon", 0, 0, ""},
    {"fp16", 1ul << 10, 0, "hw.optional.arm.FEAT_FP16"},
    {"sve", 1ul << 22, 0, ""},
    {"bf16", 0, 1ul << 14, "hw.optional.arm.FEAT_BF16"},
};

bool detect(const Feature& feature) {
  if (std::strcmp(feature.name, "neon") == 0) return true;
#if defined(__linux__)
  return (getauxval(AT_HWCAP) & feature.hwcap) || (getauxval(AT_HWCAP2) & feature.hwcap2);
#elif defined(__APPLE__)
  int value = 0;
  size_t size = sizeof value;
  return *feature.sysctl != '\0' && sysctlbyname(feature.sysctl, &value, &size, nullptr, 0) == 0 &&
         value != 0;
#else
  return false;
#endif
}

FeatureSet detect_features() {
  FeatureSet found = 0;
  int index = 0;
  for (const Feature& feature : features) {
    if (detect(feature)) found |= FeatureSet{1} << index;
    ++index;
  }
  return found;
}

#else

struct Feature {
  const char* name;
};
constexpr Feature features[] = {{"baseline"}};
FeatureSet detect_features() { return 1; }

#endif

// Asked once: under a hypervisor each CPUID instruction costs tens of microseconds. Threads that
// ask at the same time find the same, so that no lock is needed, which a fork could leave locked.
FeatureSet cpu_feature_set() {
  constexpr FeatureSet known = FeatureSet{1} << 31;
  static std::atomic<FeatureSet> cached{0};
  FeatureSet set = cached.load(std::memory_order_relaxed);
  if (set == 0) {
    set = detect_features() | known;
    cached.store(set, std::memory_order_relaxed);
  }
  return set;
}

bool has_all(std::initializer_list<const char*> names) {
  const FeatureSet set = cpu_feature_set();
  for (const char* name : names) {
    int index = 0;
    bool found = false;
    for (const Feature& feature : features) {
      found = found || (std::strcmp(feature.name, name) == 0 && ((set >> index) & 1u));
      ++index;
    }
    if (!found) return false;
  }
  return true;
}

// --- caches --------------------------------------------------------------------------------------

#if defined(__linux__)

// The size in bytes of cpu0's data or unified cache of that level, 0 if sysfs does not say.
int64_t sysfs_cache_bytes(int wanted_level) {
  for (int index = 0; index < 8; ++index) {
    const std::string folder =
        "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/";
    std::ifstream level_file(folder + "level"), type_file(folder + "type");
    std::ifstream size_file(folder + "size");
    int level = 0;
    int64_t size = 0;
    char unit = ' ';
    std::string type;
    if (!(level_file >> level) || !(type_file >> type) || !(size_file >> size)) continue;
    if (level != wanted_level || type == "Instruction") continue;
    size_file >> unit;
    return unit == 'K' ? size << 10 : unit == 'M' ? size << 20 : size;
  }
  return 0;
}

#endif

// The same from whatever the system offers.
int64_t cache_bytes(int level) {
#if defined(__APPLE__)
  // The performance cores' caches first; machines with one kind of core have only the second name.
  for (const char* prefix : {"hw.perflevel0.l", "hw.l"}) {
    const std::string name = prefix + std::to_string(level) + "cachesize";
    int64_t bytes = 0;
    size_t size = sizeof bytes;
    if (sysctlbyname(name.c_str(), &bytes, &size, nullptr, 0) == 0 && bytes > 0) return bytes;
  }
#endif
#if defined(__linux__)
  // sysconf() says 64 MiB of an AMD EPYC whose cores reach 8 of these.
  if (const int64_t bytes = sysfs_cache_bytes(level); bytes > 0) return bytes;
#endif
#if defined(_SC_LEVEL2_CACHE_SIZE) && defined(_SC_LEVEL3_CACHE_SIZE)
  const long bytes = sysconf(level == 2 ? _SC_LEVEL2_CACHE_SIZE : _SC_LEVEL3_CACHE_SIZE);
  if (bytes > 0) return bytes;
#endif
  return 0;
}

// --- CPUs ----------------------------------------------------------------------------------------

int affinity_cpus() {
#if defined(__linux__)
  // The kernel refuses a mask smaller than its own, so offer larger ones until it accepts.
  for (int cpus = 1024; cpus <= (1 << 20); cpus *= 4) {
    cpu_set_t* set = CPU_ALLOC(static_cast<size_t>(cpus));
    if (set == nullptr) break;
    const size_t size = CPU_ALLOC_SIZE(static_cast<size_t>(cpus));
    const int count = sched_getaffinity(0, size, set) == 0 ? CPU_COUNT_S(size, set) : 0;
    CPU_FREE(set);
    if (count > 0) return count;
  }
#endif
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// One group's limit in CPUs, 0 if it sets none. In version 2 a file holds "max 100000" or
// "quota period"; in version 1 two files hold one number each, the quota being -1 for none.
double group_limit(const std::string& folder, bool version_2) {
  double quota = 0;
  double period = 0;
  if (version_2) {
    std::ifstream file(folder + "/cpu.max");
    file >> quota >> period;  // "max" is no number: quota stays 0
    if (!file) return 0;
  } else {
    std::ifstream quota_file(folder + "/cpu.cfs_quota_us");
    std::ifstream period_file(folder + "/cpu.cfs_period_us");
    if (!(quota_file >> quota) || !(period_file >> period)) return 0;
  }
  return quota > 0 && period > 0 ? quota / period : 0;
}

}  // namespace

const char* isa_name(Isa isa) {
  const int index = static_cast<int>(isa);
  return index >= 0 && index < isa_count ? isa_names[index] : "unknown";
}

bool isa_from_name(const char* name, Isa* isa) {
  if (name == nullptr) return false;
  for (int i = 0; i < isa_count; ++i) {
    if (std::strcmp(name, isa_names[i]) == 0) {
      *isa = static_cast<Isa>(i);
      return true;
    }
  }
  return false;
}

bool cpu_supports(Isa isa) {
  switch (isa) {
    case Isa::baseline:
#if defined(__aarch64__)
      return false;
#else
      return true;
#endif
    case Isa::avx2:
      return has_all({"avx2", "fma", "f16c"});
    case Isa::avx512:
      return has_all({"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl"});
    case Isa::neon:
      return has_all({"neon"});
  }
  return false;
}

std::string cpu_features() {
  const FeatureSet set = cpu_feature_set();
  std::string names;
  int index = 0;
  for (const Feature& feature : features) {
    if ((set >> index) & 1u) {
      if (!names.empty()) names += ' ';
      names += feature.name;
    }
    ++index;
  }
  return names;
}

int64_t last_level_bytes() {
  static std::atomic<int64_t> cached{0};
  int64_t bytes = cached.load(std::memory_order_relaxed);
  if (bytes == 0) {
    bytes = cache_bytes(3);
    if (bytes == 0) bytes = cache_bytes(2);
    if (bytes == 0) bytes = int64_t{32} << 20;
    cached.store(bytes, std::memory_order_relaxed);
  }
  return bytes;
}

double cgroup_cpu_limit(const std::string& root) {
  // A line is "hierarchy:controllers:/path", the hierarchy of version 2 being 0 with no
  // controllers. Version 1 mounts a hierarchy under the name of its controllers. These are the
  // usual places rather than those /proc/self/mountinfo tells: a wrong guess only misses a limit.
  std::ifstream groups(root + "/proc/self/cgroup");
  std::string line;
  double limit = 0;
  while (std::getline(groups, line)) {
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool version_2 = controllers.empty();
    if (!version_2 && ("," + controllers + ",").find(",cpu,") == std::string::npos) continue;
    const std::string mount = root + "/sys/fs/cgroup" + (version_2 ? "" : "/" + controllers);

    // Every ancestor's limit holds as well. Inside a container the path may be the host's, of which
    // only the last step up, the mount itself, is to be found here.
    std::string path = line.substr(second + 1);
    while (true) {
      while (!path.empty() && path.back() == '/') path.pop_back();
      const double here = group_limit(mount + path, version_2);
      if (here > 0) limit = limit > 0 ? std::min(limit, here) : here;
      if (path.empty()) break;
      path.resize(path.find_last_of('/') == std::string::npos ? 0 : path.find_last_of('/'));
    }
  }
  return limit;
}

int usable_cpus() {
  int cpus = affinity_cpus();
#if defined(__linux__)
  const double limit = cgroup_cpu_limit();
  if (limit > 0 && limit < cpus) cpus = std::max(1, static_cast<int>(std::ceil(limit)));
#endif
  return cpus;
}

}  // namespace depthwise
