// Threads of another library. Plain C, because it is part of the C ABI.
#ifndef DEPTHWISE_RUNTIME_TEAM_H_
#define DEPTHWISE_RUNTIME_TEAM_H_

// What a framework has used a moment ago is still awake, and keeps its CPU busy while it looks for
// more work: borrowing those threads is cheaper than waking our own beside them.
typedef struct depthwise_team {
  // Has up to `threads` - 1 other threads call work(), at once or later, even when the call that
  // wants them is over. The calling thread may do so, too. Must not throw.
  void (*gather)(void* context, int threads, void (*work)(void));
  void* context;
} depthwise_team;

#endif  // DEPTHWISE_RUNTIME_TEAM_H_
