/* The machine's own limits: float32 multiply-adds per second, and bytes copied per second at several sizes, over all
 * the threads asked for at once. Compiled and run by limits.py:
 *
 *     cc -O3 -march=native -ffp-contract=fast -pthread limits.c -o limits && ./limits THREADS SECONDS BYTES...
 *
 * SECONDS is the time given to each measurement; each is taken REPEATS times and the best one is printed, because a
 * limit is what the machine can do, not what it did while something else ran. BYTES are the sizes of the working set of
 * all threads together, source and destination. Prints one JSON object. */

#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

enum { REPEATS = 5, LANES = VECTOR_BYTES / 4, CHAINS = 12, MAX_THREADS = 1024 };

typedef float Vector __attribute__((vector_size(VECTOR_BYTES)));

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* What one thread is told to do, and what it did. */
typedef struct {
  int copy;           /* 0: arithmetic, 1: vector loop, 2: memcpy (which may stream past the caches) */
  size_t vectors;     /* copy: vectors in each of source and destination */
  Vector *source;
  Vector *destination;
  double seconds;     /* how long to go on */
  double work;        /* flops or bytes */
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

static void copying(Task *task) {
  size_t bytes = task->vectors * sizeof(Vector);
  size_t rounds = bytes < 262144 ? 262144 / bytes : 1; /* so that reading the clock costs nothing */
  double begin = now(), end;
  task->work = 0;
  do {
    for (size_t i = 0; i < rounds; i++) {
      if (task->copy == 1) {
        copy_vectors(task->destination, task->source, task->vectors);
      } else {
        memcpy(task->destination, task->source, bytes);
      }
      __asm__ volatile("" ::: "memory"); /* every round must happen */
    }
    task->work += 2.0 * (double)bytes * (double)rounds; /* read and written */
    end = now();
  } while (end - begin < task->seconds);
  task->elapsed = end - begin;
}

static void *run(void *argument) {
  Task *task = argument;
  if (task->copy) { /* touched by the thread that uses them, for the sake of NUMA */
    memset(task->source, 1, task->vectors * sizeof(Vector));
    memset(task->destination, 0, task->vectors * sizeof(Vector));
  }
  pthread_barrier_wait(&start_line);
  if (task->copy) {
    copying(task);
  } else {
    arithmetic(task);
  }
  return NULL;
}

/* Runs the same task on every thread at once; returns work per second of all of them. */
static double measure(int threads, Task task) {
  static Task tasks[MAX_THREADS];
  static pthread_t ids[MAX_THREADS];
  double best = 0;
  size_t bytes = task.vectors * sizeof(Vector);
  for (int t = 0; t < threads; t++) {
    tasks[t] = task;
    if (task.copy) {
      /* A page and a half between the two keeps loads and stores from sharing the low 12 bits of their addresses,
       * which stalls Intel's CPUs ("4K aliasing"). */
      char *block = NULL;
      if (posix_memalign((void **)&block, 4096, 2 * bytes + 8192)) {
        fprintf(stderr, "limits: out of memory\n");
        exit(1);
      }
      tasks[t].source = (Vector *)block;
      tasks[t].destination = (Vector *)(block + (bytes + 4095) / 4096 * 4096 + 2048);
    }
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
  for (int t = 0; task.copy && t < threads; t++) free(tasks[t].source);
  return best;
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
  Task task = {.seconds = atof(arguments[2])};
  printf("{\"vector_bytes\": %d, \"peak_flops\": %.0f, \"copy\": [", VECTOR_BYTES, measure(threads, task));
  for (int i = 3; i < count; i++) {
    size_t per_thread = strtoull(arguments[i], NULL, 10) / 2 / (size_t)threads;
    task.vectors = per_thread / sizeof(Vector) / 4 * 4;
    if (task.vectors == 0) task.vectors = 4;
    double best = 0;
    for (task.copy = 1; task.copy <= 2; task.copy++) {
      double rate = measure(threads, task);
      if (rate > best) best = rate;
    }
    size_t total = task.vectors * sizeof(Vector) * 2 * (size_t)threads;
    printf("%s{\"bytes\": %zu, \"bytes_per_second\": %.0f}", i == 3 ? "" : ", ", total, best);
  }
  printf("]}\n");
  return 0;
}
