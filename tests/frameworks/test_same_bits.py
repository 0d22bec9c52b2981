"""One input and one kernel give the same bytes from NumPy, TensorFlow, JAX and PyTorch, in one process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
import torch

import depthwise
import depthwise.jax
import depthwise.tensorflow
import depthwise.torch
from depthwise.activations import ACTIVATIONS
from tests.cases import DTYPES, LAYOUTS, Case, assert_same_bits

jax.config.update("jax_enable_x64", True)

Array = Any
Results = tuple[Array, Array, Array, Array]  # y, dx, dkernel, dbias
Front = Callable[[Case, Array, Array, Array, Array], Results]


def numpy_results(case: Case, x: Array, kernel: Array, bias: Array, dy: Array) -> Results:
    y, pullback = depthwise.depthwise_conv2d_vjp(x, kernel, bias, **case.options)
    dx, dkernel, dbias = pullback(dy)
    assert dbias is not None
    return y, dx, dkernel, dbias


def jax_results(case: Case, x: Array, kernel: Array, bias: Array, dy: Array) -> Results:
    @jax.jit  # type: ignore[untyped-decorator, unused-ignore]
    def both(x: Array, kernel: Array, bias: Array, dy: Array) -> Any:
        y, pullback = jax.vjp(
            lambda *arrays: depthwise.jax.depthwise_conv2d(*arrays, **case.options), x, kernel, bias
        )
        return y, *pullback(dy)

    y, dx, dkernel, dbias = (np.asarray(a) for a in both(x, kernel, bias, dy))
    return y, dx, dkernel, dbias


def tensorflow_results(case: Case, x: Array, kernel: Array, bias: Array, dy: Array) -> Results:
    inputs = [tf.constant(a) for a in (x, kernel, bias)]

    @tf.function  # type: ignore[untyped-decorator, unused-ignore]
    def both(x: Array, kernel: Array, bias: Array, dy: Array) -> Any:
        with tf.GradientTape() as tape:
            tape.watch((x, kernel, bias))
            y = depthwise.tensorflow.depthwise_conv2d(x, kernel, bias, **case.options)
        return y, *tape.gradient(y, (x, kernel, bias), output_gradients=dy)

    y, dx, dkernel, dbias = (a.numpy() for a in both(*inputs, tf.constant(dy)))
    return y, dx, dkernel, dbias


def as_torch(a: Array) -> Any:
    if a.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(a.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(a.copy())


def as_numpy(t: Any, dtype: Any) -> Array:
    t = t.detach().contiguous()
    if dtype == ml_dtypes.bfloat16:
        return t.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return t.numpy()


def torch_results(case: Case, x: Array, kernel: Array, bias: Array, dy: Array) -> Results:
    last = case.data_format == "channels_last"
    image = as_torch(x)
    height, width, channels, multiplier = kernel.shape
    weight = as_torch(kernel).permute(2, 3, 0, 1).reshape(channels * multiplier, 1, height, width)
    if last:
        image = image.permute(0, 3, 1, 2)
    image, weight, b = (t.requires_grad_() for t in (image, weight, as_torch(bias)))
    y = depthwise.torch.depthwise_conv2d(
        image, weight, b, case.strides, case.padding, case.dilation_rate, case.activation
    )
    cotangent = as_torch(dy).permute(0, 3, 1, 2) if last else as_torch(dy)
    dx, dweight, dbias = torch.autograd.grad(y, (image, weight, b), cotangent)
    if last:
        assert y.is_contiguous(memory_format=torch.channels_last)
        y, dx = y.permute(0, 2, 3, 1), dx.permute(0, 2, 3, 1)
    dkernel = dweight.reshape(channels, multiplier, height, width).permute(2, 3, 0, 1)
    y, dx, dkernel, dbias = (as_numpy(t, x.dtype) for t in (y, dx, dkernel, dbias))
    return y, dx, dkernel, dbias


FRONTS: dict[str, Front] = {
    "tensorflow": tensorflow_results,
    "jax": jax_results,
    "torch": torch_results,
}

CASES = {
    "padded, several filters": Case(
        (9, 11), (3, 3), channels=20, batch=2, multiplier=2, padding="same", activation="silu"
    ),
    "strided and dilated": Case(
        (13, 10), (3, 2), 18, 2, strides=(2, 3), dilation_rate=(2, 1), padding=((2, 1), (0, 3))
    ),
    "few channels": Case((17, 8), (5, 5), 3, 1, padding="same", strides=(2, 2), activation="relu6"),
}


def check(case: Case, dtype: str) -> None:
    arrays = case.reals("float32").cast(dtype)
    assert arrays.bias is not None
    given = (arrays.x, arrays.kernel, arrays.bias, arrays.dy)
    expected = numpy_results(case, *given)
    for framework, results in FRONTS.items():
        named = zip(("y", "dx", "dkernel", "dbias"), results(case, *given), expected, strict=True)
        for name, actual, wanted in named:
            assert_same_bits(actual, wanted, f"{name} from {framework}, {dtype}, {case}")


@pytest.mark.parametrize("data_format", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_every_front_end_gives_the_bits_of_numpy(case: Case, dtype: str, data_format: str) -> None:
    check(Case(**{**vars(case), "data_format": data_format}), dtype)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_with_every_activation(activation: str) -> None:
    check(Case((7, 9), (3, 3), 17, 2, padding="same", activation=activation), "float32")


def test_from_threads_of_all_frameworks_at_once() -> None:
    case = Case((24, 24), (5, 5), 32, 2, padding="same", activation="gelu")
    arrays = case.reals("float32").cast("float32")
    assert arrays.bias is not None
    given = (arrays.x, arrays.kernel, arrays.bias, arrays.dy)
    expected = numpy_results(case, *given)
    failures: list[str] = []

    def work(framework: str) -> None:
        for _ in range(10):
            for actual, wanted in zip(FRONTS[framework](case, *given), expected, strict=True):
                if not np.array_equal(actual, wanted):
                    failures.append(framework)

    threads = [threading.Thread(target=work, args=(framework,)) for framework in FRONTS for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
