// The harness of the C++ tests: named tests, checks that report and go on, and a last line that
// counts.
//
//   TEST(halves_are_smaller) {
//     CHECK(half(2) < 2);
//     CHECK_EQ(half(4), 2);
//     if (!CHECK(pointer != nullptr)) return;  // a check is an expression: whether it held
//   }
//   int main(int argc, char** argv) { return depthwise::check::run_tests(argc, argv); }
//
// Checks may be made from several threads at once. Arguments of the program choose the tests whose
// names contain one of them. The last line printed is "N passed, N failed", counting tests; the
// exit status is 1 if any failed or none ran.
#ifndef DEPTHWISE_TESTS_CPP_CHECK_H_
#define DEPTHWISE_TESTS_CPP_CHECK_H_

#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <sstream>
#include <string>
#include <vector>

#if defined(__has_feature)
#define DW_HAS_FEATURE(feature) __has_feature(feature)
#else
#define DW_HAS_FEATURE(feature) 0
#endif

namespace depthwise::check {

#if defined(__SANITIZE_THREAD__) || DW_HAS_FEATURE(thread_sanitizer)
constexpr bool under_tsan = true;
#else
constexpr bool under_tsan = false;
#endif
#if defined(__SANITIZE_ADDRESS__) || DW_HAS_FEATURE(address_sanitizer)
constexpr bool under_asan = true;
#else
constexpr bool under_asan = false;
#endif

struct Test {
  const char* name;
  void (*body)();
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

struct Registrar {
  Registrar(const char* name, void (*body)()) { tests().push_back({name, body}); }
};

inline std::atomic<int> failed_checks{0};
inline bool skipped = false;

inline bool report(bool held, const char* file, int line, const std::string& what) {
  if (!held) {
    failed_checks.fetch_add(1);
    std::printf("%s:%d: failed: %s\n", file, line, what.c_str());
    std::fflush(stdout);
  }
  return held;
}

template <typename A, typename B>
bool check_equal(const A& a, const B& b, const char* text, const char* file, int line) {
  if (a == b) return true;
  std::ostringstream what;
  what << text << " (" << a << " and " << b << ")";
  return report(false, file, line, what.str());
}

// NaN is near nothing.
inline bool check_near(double a, double b, double tolerance, const char* text, const char* file,
                       int line) {
  if (std::fabs(a - b) <= tolerance) return true;
  std::ostringstream what;
  what << text << " (" << a << " and " << b << ", tolerance " << tolerance << ")";
  return report(false, file, line, what.str());
}

inline bool chosen(const char* name, int argc, char** argv) {
  bool any = argc <= 1;
  for (int i = 1; i < argc; ++i) any = any || std::strstr(name, argv[i]) != nullptr;
  return any;
}

inline int run_tests(int argc, char** argv) {
  int passed = 0;
  int failed = 0;
  for (const Test& test : tests()) {
    if (!chosen(test.name, argc, argv)) continue;
    failed_checks.store(0);
    skipped = false;
    test.body();
    const bool bad = failed_checks.load() != 0;
    std::printf("%s %s\n", bad ? "FAILED " : skipped ? "skipped" : "passed ", test.name);
    std::fflush(stdout);
    passed += !bad && !skipped;
    failed += bad;
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 && passed > 0 ? 0 : 1;
}

}  // namespace depthwise::check

#define TEST(name)                                                                \
  static void test_##name();                                                      \
  static const depthwise::check::Registrar registrar_##name(#name, &test_##name); \
  static void test_##name()

#define CHECK(condition) \
  depthwise::check::report(static_cast<bool>(condition), __FILE__, __LINE__, #condition)
#define CHECK_EQ(a, b) depthwise::check::check_equal((a), (b), #a " == " #b, __FILE__, __LINE__)
#define CHECK_NEAR(a, b, tolerance) \
  depthwise::check::check_near((a), (b), (tolerance), #a " near " #b, __FILE__, __LINE__)

// Ends a test that cannot run here; it counts neither as passed nor as failed.
#define SKIP(reason)                          \
  do {                                        \
    std::printf("%s\n", "skipping: " reason); \
    depthwise::check::skipped = true;         \
    return;                                   \
  } while (false)

#endif  // DEPTHWISE_TESTS_CPP_CHECK_H_
