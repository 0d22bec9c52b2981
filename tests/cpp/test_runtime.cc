// The runtime: what it finds out about the machine, and scratch memory.
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "check.h"
#include "runtime/caches.h"
#include "runtime/cpu.h"
#include "runtime/pool.h"
#include "runtime/scratch.h"

#if defined(__linux__)
#include <sched.h>
#endif

using namespace depthwise;

namespace {

// A folder that stands for the root of a file system.
struct FakeRoot {
  FakeRoot() {
    std::string name = (std::filesystem::temp_directory_path() / "depthwise-XXXXXX").string();
    if (mkdtemp(name.data()) != nullptr) path = name;
  }
  ~FakeRoot() { std::filesystem::remove_all(path); }
  void write(const std::string& file, const std::string& text) {
    const std::filesystem::path whole = path + file;
    std::filesystem::create_directories(whole.parent_path());
    std::ofstream(whole) << text;
  }
  std::string path;
};

bool has_word(const std::string& words, const std::string& word) {
  return (" " + words + " ").find(" " + word + " ") != std::string::npos;
}

}  // namespace

// --- the machine ---------------------------------------------------------------------------------

TEST(instruction_set_names_read_back) {
  for (int i = 0; i < isa_count; ++i) {
    Isa isa = static_cast<Isa>((i + 1) % isa_count);
    CHECK(isa_from_name(isa_name(static_cast<Isa>(i)), &isa));
    CHECK_EQ(static_cast<int>(isa), i);
  }
}

TEST(unknown_instruction_set_names_are_refused) {
  for (const char* name : {"", "AVX2", "avx", "avx2 ", "sse2", static_cast<const char*>(nullptr)}) {
    Isa isa = Isa::avx512;
    CHECK(!isa_from_name(name, &isa));
    CHECK(isa == Isa::avx512);
  }
}

TEST(supported_instruction_sets_are_those_the_compiler_runtime_finds) {
  CHECK(cpu_supports(Isa::baseline) != cpu_supports(Isa::neon));
  const std::string features = cpu_features();
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  CHECK_EQ(cpu_supports(Isa::avx2), avx2 && has_word(features, "f16c"));
  CHECK_EQ(cpu_supports(Isa::avx512), avx512 && cpu_supports(Isa::avx2));
  CHECK(has_word(features, "sse2"));
  for (const char* name : {"avx2", "fma", "f16c"}) {
    CHECK(!cpu_supports(Isa::avx2) || has_word(features, name));
  }
#elif defined(__aarch64__)
  CHECK(cpu_supports(Isa::neon));
  CHECK(has_word(features, "neon"));
#else
  CHECK(cpu_supports(Isa::baseline) && !features.empty());
#endif
}

TEST(the_cache_size_is_plausible) {
  CHECK(last_level_bytes() >= 64 << 10 && last_level_bytes() <= int64_t{4} << 30);
}

TEST(cgroup_limits_are_found) {
  struct Case {
    const char* groups;
    std::vector<std::pair<const char*, const char*>> files;
    double expected;
  };
  const char* deep = "/sys/fs/cgroup/a/b/cpu.max";
  const char* above = "/sys/fs/cgroup/a/cpu.max";
  const char* top = "/sys/fs/cgroup/cpu.max";
  const char* old = "3:cpu,cpuacct:/a\n2:memory:/m\n0::/\n";
  const char* old_quota = "/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us";
  const char* old_period = "/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us";
  const Case cases[] = {
      {"0::/a/b\n", {{deep, "150000 100000\n"}}, 1.5},
      {"0::/a/b\n", {{deep, "max 100000\n"}, {above, "300000 100000\n"}}, 3},
      {"0::/a/b\n", {{deep, "400000 100000\n"}, {above, "50000 100000\n"}}, 0.5},
      {"0::/a/b\n", {{deep, "max 100000\n"}}, 0},
      {"0::/not/mounted/here\n", {{top, "200000 100000\n"}}, 2},
      {"0::/\n", {{top, "nonsense"}}, 0},
      {old, {{old_quota, "250000\n"}, {old_period, "100000\n"}}, 2.5},
      {old, {{old_quota, "-1\n"}, {old_period, "100000\n"}}, 0},
      {old, {{old_quota, "250000\n"}}, 0},
      {"2:cpuset:/a\n", {{"/sys/fs/cgroup/cpuset/a/cpu.cfs_quota_us", "1"}}, 0},
      {"no colon\n1:one\n", {}, 0},
  };
  for (const Case& c : cases) {
    FakeRoot root;
    root.write("/proc/self/cgroup", c.groups);
    for (const auto& [file, text] : c.files) root.write(file, text);
    CHECK_EQ(cgroup_cpu_limit(root.path), c.expected);
  }
  CHECK_EQ(cgroup_cpu_limit("/nowhere"), 0.0);
}

TEST(usable_cpus_follow_the_affinity_mask) {
  CHECK(usable_cpus() >= 1);
  CHECK_EQ(default_num_threads(), std::min(usable_cpus(), max_pool_threads));
#if defined(__linux__)
  std::thread([] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<size_t>(sched_getcpu()), &one);
    if (CHECK(sched_setaffinity(0, sizeof one, &one) == 0)) CHECK_EQ(usable_cpus(), 1);
  }).join();
#endif
}

// --- scratch memory ------------------------------------------------------------------------------

TEST(scratch_is_aligned_writable_and_reused) {
  std::thread([] {  // a thread that has no buffer yet
    size_t largest = 0;
    for (const size_t bytes : std::vector<size_t>{0, 1, 63, 64, 4097, 100, 1 << 20, 5, 3 << 20}) {
      void* const before = thread_scratch(largest);
      void* const buffer = thread_scratch(bytes);
      if (!CHECK(buffer != nullptr)) return;
      CHECK_EQ(reinterpret_cast<uintptr_t>(buffer) % 64, uintptr_t{0});
      if (bytes <= largest) CHECK(buffer == before);
      std::memset(buffer, 0xff, bytes);  // AddressSanitizer watches
      largest = std::max(largest, bytes);
    }
  })
      .join();
}

TEST(scratch_belongs_to_its_thread) {
  void* const mine = thread_scratch(100);
  void* theirs = mine;
  std::thread([&] { theirs = thread_scratch(100); }).join();
  CHECK(theirs != nullptr && theirs != mine);
  CHECK(thread_scratch(100) == mine);
}

TEST(large_scratch_is_given_back_and_small_scratch_kept) {
  constexpr size_t mib = size_t{1} << 20;
  void* const large = thread_scratch(64 * mib);
  CHECK(thread_scratch(16 * mib) == large);
  void* const small = thread_scratch(8 * mib);
  CHECK(small != nullptr && small != large);
  CHECK(thread_scratch(1) == small);
}

TEST(scratch_is_null_when_memory_is_out_and_recovers) {
  CHECK(thread_scratch(SIZE_MAX) == nullptr);
  if (!check::under_asan && !check::under_tsan) CHECK(thread_scratch(SIZE_MAX / 2) == nullptr);
  CHECK(thread_scratch(1000) != nullptr);
}

int main(int argc, char** argv) { return check::run_tests(argc, argv); }
