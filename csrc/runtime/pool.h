// A pool of threads for loops whose iterations are independent.
#ifndef DEPTHWISE_RUNTIME_POOL_H_
#define DEPTHWISE_RUNTIME_POOL_H_

#include <cstdint>

#include "runtime/team.h"

namespace depthwise {

// No job runs on more threads than this, whatever is asked for.
constexpr int max_pool_threads = 256;

// The number of threads that suits the machine: usable_cpus(), at most max_pool_threads.
int default_num_threads();

// The number of threads, the caller's included, that a job may use; default_num_threads() until it
// is set.
int num_threads();

// Sets it, clamped to 1 ... max_pool_threads. May be called at any time: jobs that are already
// running are not affected.
void set_num_threads(int count);

// One iteration of a loop. It must not throw.
using Task = void (*)(void* context, int64_t index);

using Team = depthwise_team;

// Has the calling thread's parallel_for run on this team, or on our own threads if it is null.
// Returns what was set before. The team must stay as it is until another is set.
const Team* use_team(const Team* team);

// False if the calling thread's job would have to wake threads first.
bool threads_are_awake();

// Calls task(context, index) once for each index in [0, count), on the calling thread and on at
// most min(max_threads, num_threads()) - 1 others, and returns when all calls have returned. If the
// caller has a team, up to as many of its threads help, and those of our own that are awake. What
// the calls wrote is then visible to the caller. The indices are divided into as many ranges as
// threads; each thread begins with its own, the caller with the first, and then helps with others.
//
// All of it runs on the calling thread, in order, if count or the number of threads is at most 1,
// if no thread can be started, or if the pool is in use: by another thread, or by the task that
// makes this call. So calls may be nested and may be made from any thread; none waits for another.
//
// After a fork, the child has a pool of its own, with no threads yet. Only a child forked from
// inside a task must not return from that task (it may call exec or _exit).
void parallel_for(int64_t count, int max_threads, Task task, void* context) noexcept;

}  // namespace depthwise

#endif  // DEPTHWISE_RUNTIME_POOL_H_
