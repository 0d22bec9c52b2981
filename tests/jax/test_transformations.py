"""What else programs are made of: checkpoints, loops, export with open sizes, donation, threads, caches."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import depthwise
from depthwise.jax import depthwise_conv2d
from tests.cases import Case, assert_same_bits
from tests.jax.support import CASES, arguments, assert_close, convolve

Array = Any

UNCHECKED = [
    export.DisabledSafetyCheck.custom_call(name)
    for name in ("depthwise_xla_forward", "depthwise_xla_backward")
]


def gradients(case: Case, wrap: Callable[..., Any] = lambda function: function) -> Callable[..., Any]:
    call = wrap(lambda *arrays: jnp.sin(convolve(case, *arrays)))
    return jax.jit(jax.grad(lambda *arrays: jnp.sum(call(*arrays)), (0, 1, 2)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_checkpoints_change_no_bit(activation: str) -> None:
    case = dataclasses.replace(CASES[0], activation=activation)
    arrays = arguments(case, "float32")
    expected = gradients(case)(*arrays)
    for policy in (None, jax.checkpoint_policies.everything_saveable):
        actual = gradients(case, lambda call, policy=policy: jax.checkpoint(call, policy=policy))(*arrays)
        for a, b in zip(actual, expected, strict=True):
            assert_same_bits(np.asarray(a), np.asarray(b), f"{activation}, {policy}")


def test_loops_and_branches() -> None:
    case = Case((5, 6), (3, 3), 4, padding="same", activation="tanh", bias=False)
    x, kernel = arguments(case)

    def looped(kernel: Array) -> Array:
        step = lambda carry, _: (convolve(case, carry, kernel), None)  # noqa: E731
        y, _ = jax.lax.scan(step, jnp.asarray(x), None, length=3)
        return jnp.sum(jax.lax.cond(y[0, 0, 0, 0] > 2, lambda a: a, lambda a: convolve(case, a, kernel), y))

    def unrolled(kernel: Array) -> Array:
        y = x
        for _ in range(4):
            y = convolve(case, y, kernel)
        return jnp.sum(y)

    assert_close(jax.jit(jax.value_and_grad(looped))(kernel), jax.value_and_grad(unrolled)(kernel))


@pytest.mark.parametrize("padding", ["valid", "same", ((1, 2), (0, 3))], ids=str)
def test_export_with_open_batch_and_image_size(data_format: str, padding: Any) -> None:
    case = Case(
        (9, 8),
        (2, 3),
        4,
        batch=3,
        multiplier=2,
        strides=(2, 3),
        padding=padding,
        dilation_rate=(2, 1),
        data_format=data_format,
        activation="silu",
    )
    x, kernel, bias = arguments(case, "float32")
    sizes = "n, h, w, 4" if data_format == "channels_last" else "n, 4, h, w"
    shape = export.symbolic_shape(sizes, constraints=["h >= 3", "w >= 3"])
    abstract = [
        jax.ShapeDtypeStruct(shape, x.dtype),
        *(jax.ShapeDtypeStruct(array.shape, array.dtype) for array in (kernel, bias)),
    ]
    for function in (jax.jit(lambda *arrays: convolve(case, *arrays)), gradients(case)):
        exported = export.export(function, platforms=["cpu"], disabled_checks=UNCHECKED)(*abstract)
        again = export.deserialize(exported.serialize()) if find_spec("flatbuffers") else exported
        for size in ((9, 8), (4, 13)):
            arrays = arguments(dataclasses.replace(case, size=size, batch=size[0] // 4), "float32")
            expected = jax.tree.leaves(function(*arrays))
            for a, b in zip(jax.tree.leaves(again.call(*arrays)), expected, strict=True):
                assert_same_bits(np.asarray(a), np.asarray(b), f"{size}, {case}")


def test_sizes_that_are_first_known_at_run_time_are_checked_there() -> None:
    kernel = np.ones((3, 3, 4, 1), np.float32)
    abstract = jax.ShapeDtypeStruct(export.symbolic_shape("n, h, w, 4"), np.float32)
    function = jax.jit(lambda x: depthwise_conv2d(x, kernel, strides=2, padding="same"))
    exported = export.export(function, disabled_checks=UNCHECKED)(abstract)
    assert exported.call(np.ones((2, 1, 1, 4), np.float32)).shape == (2, 1, 1, 4)
    with pytest.raises(ValueError, match="kernel: expected shape"):
        export.export(function)(jax.ShapeDtypeStruct(export.symbolic_shape("n, h, w, 5"), np.float32))


def test_donated_arrays() -> None:
    case = Case((6, 6), (3, 3), 4, padding="same", activation="relu")
    x, kernel, bias = arguments(case, "float32")
    step = jax.jit(lambda a: convolve(case, a, kernel, bias), donate_argnums=0)
    expected = depthwise.depthwise_conv2d(x, kernel, bias, **case.options)
    given = jnp.array(x)
    assert_same_bits(np.asarray(step(given)), expected, "donated")
    assert given.is_deleted()


def test_two_threads_run_two_compiled_functions_at_once() -> None:
    cases = [
        Case((30, 30), (3, 3), 32, batch=2, padding="same", activation="relu"),
        Case(
            (24, 25),
            (5, 5),
            17,
            padding="same",
            strides=(2, 1),
            activation="gelu",
            data_format="channels_first",
        ),
    ]
    failures: list[BaseException] = []

    def work(case: Case) -> None:
        try:
            arrays = arguments(case, "float32")
            function = gradients(case)
            expected = [np.asarray(gradient) for gradient in function(*arrays)]
            for _ in range(50):
                for actual, value in zip(function(*arrays), expected, strict=True):
                    assert_same_bits(np.asarray(actual), value, str(case))
        except BaseException as failure:
            failures.append(failure)

    workers = [threading.Thread(target=work, args=(case,)) for case in cases * 2]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=120)
    assert not any(worker.is_alive() for worker in workers)
    assert not failures, failures


def test_a_call_is_traced_once() -> None:
    case = dataclasses.replace(CASES[1], activation="relu")
    x, kernel, bias = arguments(case, "float32")
    traces = []

    def step(*arrays: Array) -> Array:
        traces.append(1)
        return convolve(case, *arrays)

    compiled = jax.jit(step)
    for _ in range(3):
        compiled(x, kernel, bias)
    assert len(traces) == 1


def test_after_the_caches_are_cleared() -> None:
    arrays = arguments(CASES[1], "float32")
    before = np.asarray(convolve(CASES[1], *arrays))
    jax.clear_caches()
    assert_same_bits(np.asarray(convolve(CASES[1], *arrays)), before, "cleared")
    assert_close(gradients(CASES[1])(*arrays), gradients(CASES[1])(*arrays), 0)


def test_a_program_from_the_cache_on_disk_gives_the_same_bits(
    python: Callable[..., str], tmp_path: Path
) -> None:
    program = """
import hashlib, jax, numpy as np
from depthwise.jax import depthwise_conv2d
rng = np.random.default_rng(0)
x, kernel = (rng.standard_normal(s).astype(np.float32) for s in ((2, 9, 9, 5), (3, 3, 5, 1)))
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name.endswith("/cache_hits")))
loss = lambda x, kernel: depthwise_conv2d(x, kernel, activation="silu").sum()
gradients = jax.jit(jax.grad(loss, (0, 1)))(x, kernel)
print(any(hits), hashlib.sha256(b"".join(np.asarray(g).tobytes() for g in gradients)).hexdigest())
"""
    env = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    first, second = (python(program, env=env).split() for _ in range(2))
    assert (first[0], second[0]) == ("False", "True")
    assert first[1] == second[1]


def test_importing_it_imports_no_other_framework(python: Callable[..., str]) -> None:
    program = """
import sys
import depthwise.jax
print(sorted({"torch", "tensorflow", "keras"} & {name.partition(".")[0] for name in sys.modules}))
"""
    assert python(program) == "[]\n"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")
def test_it_runs_on_xlas_threads(python: Callable[..., str]) -> None:
    """Threads of our own would have to share the CPUs with XLA's, which spin after each operation."""
    program = """
import pathlib, time, jax, numpy
from depthwise import depthwise_conv2d as on_numpy, set_num_threads
from depthwise.jax import depthwise_conv2d

def ours():
    time.sleep(0.2)  # a new thread has no name yet
    names = [path.read_text() for path in pathlib.Path("/proc/self/task").glob("*/comm")]
    return [name.strip() for name in names if name.startswith("depthwise")]

set_num_threads(2)
x, kernel = numpy.ones((1, 64, 64, 64), "float32"), numpy.ones((3, 3, 64, 1), "float32")
jax.block_until_ready(jax.jit(depthwise_conv2d)(x, kernel))
print(ours())
on_numpy(x, kernel)
print(ours())
"""
    assert python(program, env={"JAX_PLATFORMS": "cpu"}, timeout=120) == "[]\n['depthwise/1']\n"
