/* The machine's own limits: float32 multiply-adds per second, and bytes moved per second at several sizes, over all the
 * threads asked for at once. Compiled and run by limits.py:
 *
 *     cc -O3 -march=native -ffp-contract=fast -pthread limits.c -o limits && ./limits THREADS SECONDS BYTES...
 *
 * Bytes are moved as a forward pass does, from one array to another, and as gradients do, from three arrays (input,
 * output and the output's gradient) to a fourth (the input's gradient), past the caches.
 *
 * SECONDS is the time given to each measurement; each is taken REPEATS times and the best one is printed, because a
 * limit is what the machine can do, not what it did while something else ran. BYTES are the sizes of the working set of
 * all threads together, all arrays. Prints one JSON object. */

#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(__SSE__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

enum { REPEATS = 5, LANES = VECTOR_BYTES / 4, CHAINS = 12, MAX_THREADS = 1024, MOST_ARRAYS = 4 };

typedef float Vector __attribute__((vector_size(VECTOR_BYTES)));

/* Arithmetic, copying by a loop of vectors or by memcpy (which may stream past the caches), gradients' traffic. */
typedef enum { ARITHMETIC, COPY_VECTORS, COPY_LIBRARY, GRADIENTS } Kind;

static int arrays_of(Kind kind) { return kind == ARITHMETIC ? 0 : kind == GRADIENTS ? 4 : 2; }

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* What one thread is told to do, and what it did. */
typedef struct {
  Kind kind;
  size_t vectors;              /* in each array */
  Vector *arrays[MOST_ARRAYS]; /* the last one is written, the others are read */
  double seconds;              /* how long to go on */
  double work;                 /* flops or bytes */
  double elapsed;
  float sink;
} Task;

static pthread_barrier_t start_line;

/* CHAINS independent sums hide the latency of the multiply-add (4 cycles x 2 units = 8 on the CPUs of today). They must
 * stay in registers, hence the unrolled names; 12 sums and 2 operands fit the 16 of AVX2. */
static void arithmetic(Task *task) {
  const float tenth = 0.1f, shrink = 0.9f; /* sum -> 0.9 sum + 0.1 settles at 1: no overflow, no denormals */
  Vector a, b, s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11;
  for (int i = 0; i < LANES; i++) {
    a[i] = shrink;
    b[i] = tenth;
  }
  __asm__ volatile("" : "+m"(a), "+m"(b)); /* the compiler must not know the values */
  /* Different starts: the compiler computes equal sums once. */
  s0 = b, s1 = b * 2, s2 = b * 3, s3 = b * 4, s4 = b * 5, s5 = b * 6;
  s6 = b * 7, s7 = b * 8, s8 = b * 9, s9 = b * 10, s10 = b * 11, s11 = b * 12;
  double begin = now(), end;
  double steps = 0;
  do {
    for (int i = 0; i < 20000; i++) {
      s0 = s0 * a + b, s1 = s1 * a + b, s2 = s2 * a + b, s3 = s3 * a + b;
      s4 = s4 * a + b, s5 = s5 * a + b, s6 = s6 * a + b, s7 = s7 * a + b;
      s8 = s8 * a + b, s9 = s9 * a + b, s10 = s10 * a + b, s11 = s11 * a + b;
    }
    steps += 20000;
    end = now();
  } while (end - begin < task->seconds);
  Vector total = s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9 + s10 + s11;
  for (int i = 0; i < LANES; i++) task->sink += total[i];
  task->work = steps * CHAINS * LANES * 2;
  task->elapsed = end - begin;
}

static void copy_vectors(Vector *restrict destination, const Vector *restrict source, size_t count) {
  for (size_t i = 0; i < count; i += 4) {
    Vector v0 = source[i], v1 = source[i + 1], v2 = source[i + 2], v3 = source[i + 3];
    __asm__ volatile("" ::: "memory"); /* keeps the loop from being turned into a call of memcpy */
    destination[i] = v0, destination[i + 1] = v1, destination[i + 2] = v2, destination[i + 3] = v3;
  }
}

static void stream(Vector *to, Vector value) {
#if defined(__AVX512F__)
  _mm512_stream_ps((float *)to, (__m512)value);
#elif defined(__AVX__)
  _mm256_stream_ps((float *)to, (__m256)value);
#elif defined(__SSE__)
  _mm_stream_ps((float *)to, (__m128)value);
#else
  *to = value;
#endif
}

static void move_gradients(Vector *const *arrays, size_t count) {
  const Vector *x = arrays[0], *y = arrays[1], *dy = arrays[2];
  for (size_t i = 0; i < count; i++) stream(arrays[3] + i, x[i] + y[i] + dy[i]);
}

static void moving(Task *task) {
  size_t bytes = task->vectors * sizeof(Vector);
  size_t rounds = bytes < 262144 ? 262144 / bytes : 1; /* so that reading the clock costs nothing */
  double begin = now(), end;
  task->work = 0;
  do {
    for (size_t i = 0; i < rounds; i++) {
      switch (task->kind) {
        case COPY_VECTORS:
          copy_vectors(task->arrays[1], task->arrays[0], task->vectors);
          break;
        case COPY_LIBRARY:
          memcpy(task->arrays[1], task->arrays[0], bytes);
          break;
        default:
          move_gradients(task->arrays, task->vectors);
      }
      __asm__ volatile("" ::: "memory"); /* every round must happen */
    }
    task->work += arrays_of(task->kind) * (double)bytes * (double)rounds; /* read and written */
    end = now();
  } while (end - begin < task->seconds);
  task->elapsed = end - begin;
}

static void *run(void *argument) {
  Task *task = argument;
  for (int i = 0; i < arrays_of(task->kind); i++) { /* touched by the thread that uses them, for the sake of NUMA */
    memset(task->arrays[i], i == 0, task->vectors * sizeof(Vector));
  }
  pthread_barrier_wait(&start_line);
  if (task->kind == ARITHMETIC) {
    arithmetic(task);
  } else {
    moving(task);
  }
  return NULL;
}

/* Runs the same task on every thread at once; returns work per second of all of them. */
static double measure(int threads, Task task) {
  static Task tasks[MAX_THREADS];
  static pthread_t ids[MAX_THREADS];
  double best = 0;
  int arrays = arrays_of(task.kind);
  size_t bytes = task.vectors * sizeof(Vector);
  /* Arrays begin an even part of a page apart from each other: loads and stores that share the low 12 bits of their
   * addresses would stall Intel's CPUs ("4K aliasing"). */
  size_t apart = (bytes + 4095) / 4096 * 4096 + (arrays > 0 ? 4096 / (size_t)arrays : 0);
  for (int t = 0; t < threads; t++) {
    tasks[t] = task;
    char *block = NULL;
    if (arrays > 0 && posix_memalign((void **)&block, 4096, (size_t)arrays * apart)) {
      fprintf(stderr, "limits: out of memory\n");
      exit(1);
    }
    for (int i = 0; i < arrays; i++) tasks[t].arrays[i] = (Vector *)(block + (size_t)i * apart);
  }
  for (int repeat = 0; repeat < REPEATS; repeat++) {
    pthread_barrier_init(&start_line, NULL, (unsigned)threads);
    for (int t = 0; t < threads; t++) {
      if (pthread_create(&ids[t], NULL, run, &tasks[t])) {
        fprintf(stderr, "limits: cannot start thread %d\n", t);
        exit(1);
      }
    }
    double rate = 0;
    for (int t = 0; t < threads; t++) {
      pthread_join(ids[t], NULL);
      rate += tasks[t].work / tasks[t].elapsed;
    }
    pthread_barrier_destroy(&start_line);
    if (rate > best) best = rate;
  }
  for (int t = 0; arrays > 0 && t < threads; t++) free(tasks[t].arrays[0]);
  return best;
}

/* Prints what threads move at each of the sizes, by whichever of the kinds from `first` to `last` is fastest there. */
static void print_moving(const char *name, int threads, Task task, int sizes, char **arguments, Kind first, Kind last) {
  size_t arrays = (size_t)arrays_of(first);
  printf("\"%s\": [", name);
  for (int i = 0; i < sizes; i++) {
    size_t per_thread = strtoull(arguments[i], NULL, 10) / arrays / (size_t)threads;
    task.vectors = per_thread / sizeof(Vector) / 4 * 4;
    if (task.vectors == 0) task.vectors = 4;
    double best = 0;
    for (Kind kind = first; kind <= last; kind++) {
      task.kind = kind;
      double rate = measure(threads, task);
      if (rate > best) best = rate;
    }
    size_t total = task.vectors * sizeof(Vector) * arrays * (size_t)threads;
    printf("%s{\"bytes\": %zu, \"bytes_per_second\": %.0f}", i == 0 ? "" : ", ", total, best);
  }
  printf("]");
}

int main(int count, char **arguments) {
  if (count < 3) {
    fprintf(stderr, "usage: limits THREADS SECONDS BYTES...\n");
    return 2;
  }
  int threads = atoi(arguments[1]);
  if (threads < 1 || threads > MAX_THREADS) {
    fprintf(stderr, "limits: THREADS must be 1 to %d, received %s\n", MAX_THREADS, arguments[1]);
    return 2;
  }
  Task task = {.kind = ARITHMETIC, .seconds = atof(arguments[2])};
  printf("{\"vector_bytes\": %d, \"peak_flops\": %.0f, ", VECTOR_BYTES, measure(threads, task));
  print_moving("copy", threads, task, count - 3, arguments + 3, COPY_VECTORS, COPY_LIBRARY);
  printf(", ");
  print_moving("gradients", threads, task, count - 3, arguments + 3, GRADIENTS, GRADIENTS);
  printf("}\n");
  return 0;
}
