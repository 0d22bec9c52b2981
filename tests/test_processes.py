"""Forks, interrupts and memory: what only shows in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import depthwise

ROOT = Path(__file__).parent.parent

# A call large enough to be shared out, its result on one thread, and a check of either direction.
PRELUDE = """
import numpy as np, depthwise, os, sys
rng = np.random.default_rng(0)
x = rng.standard_normal((4, 40, 41, 32), np.float32)
kernel = rng.standard_normal((3, 3, 32, 1), np.float32)
bias = rng.standard_normal(32, np.float32)

def call():
    y, pullback = depthwise.depthwise_conv2d_vjp(x, kernel, bias, padding="same", activation="silu")
    return [y, *pullback(y)]

depthwise.set_num_threads(1)
expected = call()
depthwise.set_num_threads(3)

def works():
    return all(np.array_equal(a, b) for a, b in zip(call(), expected))
"""

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@needs_fork
def test_a_child_forked_after_use_works(python: Callable[..., str]) -> None:
    program = """
def has_threads():
    tasks = "/proc/self/task"
    return len(os.listdir(tasks)) >= 3 if os.path.exists(tasks) else True

assert works() and has_threads()  # none of them is in the child, which must start its own
for _ in range(20):
    child = os.fork()
    if child == 0:
        ok = works() and has_threads()
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(0 if works() and has_threads() else 1)
        os._exit(0 if os.waitpid(grandchild, 0)[1] == 0 and ok and works() else 1)
    assert works()  # at the same time
    assert os.waitpid(child, 0)[1] == 0
assert works()
print("done")
"""
    assert python(PRELUDE + program) == "done\n"


@needs_fork
def test_a_child_forked_while_other_threads_are_in_calls_works(python: Callable[..., str]) -> None:
    program = """
import threading
over = threading.Event()

def keep_calling():
    while not over.is_set():
        assert works()

callers = [threading.Thread(target=keep_calling) for _ in range(2)]
for caller in callers:
    caller.start()
for _ in range(30):
    child = os.fork()
    if child == 0:
        os._exit(0 if works() else 1)
    assert os.waitpid(child, 0)[1] == 0
over.set()
for caller in callers:
    caller.join()
print("done")
"""
    assert python(PRELUDE + program) == "done\n"


@needs_fork
def test_a_multiprocessing_pool_of_forks_works(python: Callable[..., str]) -> None:
    program = """
import multiprocessing

def task(number):
    return works()

assert works()
with multiprocessing.get_context("fork").Pool(3) as pool:
    assert all(pool.map(task, range(30)))
assert works()
print("done")
"""
    assert python(PRELUDE + program) == "done\n"


def test_a_spawned_process_can_be_handed_specs_and_results(python: Callable[..., str]) -> None:
    program = """
import pickle
spec = depthwise.Spec(3, padding="same", activation=("elu", 0.5))
assert pickle.loads(pickle.dumps(spec)) == spec
gradients = depthwise.Gradients(*expected[1:])
assert np.array_equal(pickle.loads(pickle.dumps(gradients)).x, gradients.x)
print("done")
"""
    assert python(PRELUDE + program) == "done\n"


@pytest.mark.parametrize("callers", [1, 2, 3, 5, 8])
def test_the_process_ends_while_daemon_threads_are_in_calls(python: Callable[..., str], callers: int) -> None:
    """Some compute, some wait for the GIL, when the interpreter takes it away for good."""
    program = """
import threading, time
small, tap = np.ones((1, 3, 3, 1), np.float32), np.ones((1, 1, 1, 1), np.float32)

def keep_calling():
    while True:
        call()
        for _ in range(20):
            depthwise.depthwise_conv2d(small, tap)

for _ in range(CALLERS):
    threading.Thread(target=keep_calling, daemon=True).start()
time.sleep(0.1)
print("done")
""".replace("CALLERS", str(callers))
    for _ in range(5):
        assert python(PRELUDE + program) == "done\n"


@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
def test_an_interrupt_in_a_long_call_leaves_everything_usable() -> None:
    program = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started with it ignored
print("started", flush=True)
image = np.broadcast_to(np.float32(1), (16, 200, 200, 64))
interrupts = 0
while interrupts < 3:
    try:
        while True:
            depthwise.depthwise_conv2d(image, np.ones((21, 21, 64, 1), np.float32))
    except KeyboardInterrupt:
        interrupts += 1
        assert works()
        print("interrupted", flush=True)
print("done", flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", PRELUDE + program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # its own Ctrl-C
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            for _ in range(3):
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(0.3)  # by now it is in the call
                process.send_signal(signal.SIGINT)
                assert process.stdout.readline() == "interrupted\n"
            assert process.stdout.readline() == "done\n"
            assert process.wait(60) == 0
        finally:
            process.kill()


LEAK = """
import gc, resource, tracemalloc
small = np.ones((1, 9, 11, 20), np.float32)
tap = np.ones((3, 3, 20, 1), np.float32)
dy = np.ones((1, 7, 9, 20), np.float32)
out = np.empty((1, 7, 9, 20), np.float32)
first = np.ones((1, 20, 9, 11), np.float32)

def forward():
    depthwise.depthwise_conv2d(small, tap)
    depthwise.depthwise_conv2d(small[:, ::-1], tap, bias[:20], out=out, activation="relu")
    depthwise.depthwise_conv2d(first, tap, data_format="channels_first", padding="same")

def vjp():
    y, pullback = depthwise.depthwise_conv2d_vjp(small, tap, bias[:20], activation="gelu")
    pullback(dy)
    pullback(dy)

def errors():
    for wrong in ({"strides": 0}, {"out": small}, {"bias": tap}):
        try:
            depthwise.depthwise_conv2d(small, tap, **wrong)
        except (TypeError, ValueError):
            pass
        else:
            raise AssertionError(wrong)
    y, pullback = depthwise.depthwise_conv2d_vjp(small, tap)
    try:
        pullback(small)
    except ValueError:
        pass

def new_shapes(count=[0]):
    count[0] += 1  # every call is a new one to the cache, which must let go of old ones
    depthwise.depthwise_conv2d(small[:, :, :, :1], tap[:, :, :1], padding=((count[0] % 3000, 0), (0, 0)), strides=97)

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()

def run(calls):
    for _ in range(calls):
        PATH()

# Python's own objects, to the byte: less may be left than any object that each call could leave.
tracemalloc.start()
run(3000)
gc.collect()
before = tracemalloc.get_traced_memory()[0]
run(3000)
gc.collect()
grown = tracemalloc.get_traced_memory()[0] - before
assert grown < 60_000, f"{grown} bytes of Python's"
tracemalloc.stop()

# Everything else.
run(1000)
arrays = [small, tap, dy, out, first, bias]
references = [sys.getrefcount(array) for array in arrays]
before = resident()
run(10_000)
gc.collect()
grown = resident() - before
assert references == [sys.getrefcount(array) for array in arrays]
assert grown < 1_000_000, f"{grown} bytes"
print("done")
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("path", ["forward", "vjp", "errors", "new_shapes"])
def test_ten_thousand_calls_leak_nothing(python: Callable[..., str], path: str) -> None:
    assert python(PRELUDE + LEAK.replace("PATH", path)) == "done\n"


def test_the_pool_is_not_started_by_an_import_or_a_small_call(python: Callable[..., str]) -> None:
    if not Path("/proc/self/task").exists():
        pytest.skip("threads are read from /proc")
    program = """
import os
import numpy as np
before = len(os.listdir("/proc/self/task"))
import depthwise
depthwise.set_num_threads(4)
depthwise.depthwise_conv2d(np.ones((1, 3, 3, 2), np.float32), np.ones((3, 3, 2, 1), np.float32))
print(len(os.listdir("/proc/self/task")) - before)
depthwise.depthwise_conv2d(np.ones((1, 99, 99, 32), np.float32), np.ones((3, 3, 32, 1), np.float32))
print(len(os.listdir("/proc/self/task")) - before)
"""
    assert python(program) == "0\n3\n"
    assert depthwise.get_num_threads() >= 1
