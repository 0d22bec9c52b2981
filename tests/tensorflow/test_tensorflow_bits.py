"""The op gives the very bits of the NumPy functions, forward and backward."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

import depthwise
from depthwise.activations import ACTIVATIONS
from depthwise.tensorflow import depthwise_conv2d, gradients
from tests.cases import Case, assert_same_bits
from tests.tensorflow.support import MODES, check_bits, evaluate_numpy, tensors, value_and_gradients

CASES = (
    Case((9, 12), (3, 3), 8, batch=2, padding="same"),
    Case((10, 11), (4, 2), 5, multiplier=2, strides=(2, 1), padding=((1, 2), (0, 3)), bias=False),
    Case((13, 14), (3, 5), 3, strides=(2, 3), padding="same", dilation_rate=(2, 1)),
)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(mode: str, activation: str, data_format: str) -> None:
    check_bits(mode, dataclasses.replace(CASES[0], activation=activation, data_format=data_format), "float32")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_every_dtype(mode: str, case: Case, dtype: str, data_format: str) -> None:
    for activation in (None, "relu6", "silu"):
        check_bits(mode, dataclasses.replace(case, activation=activation, data_format=data_format), dtype)


def test_an_alpha_that_is_no_float32_number() -> None:
    for mode in MODES:
        check_bits(mode, dataclasses.replace(CASES[0], activation=("leaky_relu", 0.1)), "float64")
        check_bits(mode, dataclasses.replace(CASES[0], activation=("elu", 1e-300)), "float64")


@pytest.mark.usefixtures("isa")
def test_every_instruction_set() -> None:
    check_bits("graph", dataclasses.replace(CASES[0], activation="gelu"), "float32")


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_number_of_threads(threads: Callable[[int], None], count: int) -> None:
    case = Case((40, 41), (5, 5), 32, batch=2, padding="same", activation="silu")
    threads(count)
    check_bits("graph", case, "float32")


@pytest.mark.parametrize("activation", ["silu", "hard_swish", "gelu", "gelu_tanh"])
@pytest.mark.parametrize("mode", MODES)
def test_what_was_not_kept_is_computed_again_with_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, mode: str, activation: str, dtype: str
) -> None:
    """As for a gradient of a graph that a session has run, which can no longer be changed."""
    monkeypatch.setattr(gradients, "_keep_preactivation", lambda _: None)
    monkeypatch.setattr("depthwise.tensorflow.ops._is_recorded", lambda _: False)
    check_bits(mode, dataclasses.replace(CASES[0], activation=activation), dtype)
    check_bits(mode, dataclasses.replace(CASES[1], activation=activation), dtype)


def test_subnormal_numbers_are_not_flushed_to_zero(threads: Callable[[int], None], dtype: str) -> None:
    """TensorFlow's own ops do that, on the threads that it owns."""
    tiny = np.finfo(np.float16).tiny if dtype == "float16" else np.finfo(np.float32).tiny
    tiny = np.finfo(np.float64).tiny if dtype == "float64" else tiny
    case = Case((64, 64), (3, 3), 16, padding="same")
    arrays = case.reals(dtype)
    arrays = dataclasses.replace(arrays, x=arrays.x * float(tiny), bias=np.zeros(16)).cast(dtype)
    expected = evaluate_numpy(case, arrays)
    assert (abs(expected.y.astype(np.float64)) < tiny).any()
    for count in (1, 2):
        threads(count)
        for mode in MODES:
            y, _, dkernel, _ = value_and_gradients(
                mode, lambda *args: depthwise_conv2d(*args, **case.options), tensors(arrays), arrays.dy
            )
            assert_same_bits(y.numpy(), expected.y, f"y, {mode}, {count} threads")
            assert_same_bits(dkernel.numpy(), expected.dkernel, f"dkernel, {mode}, {count} threads")


def test_two_threads_at_once() -> None:
    case = Case((48, 48), (5, 5), 32, batch=2, padding="same", activation="gelu")
    arrays = case.reals("float32").cast("float32")
    expected = evaluate_numpy(case, arrays).parts()
    inputs = tensors(arrays)

    def repeat(mode: str) -> None:
        for _ in range(10):
            actual = value_and_gradients(
                mode, lambda *args: depthwise_conv2d(*args, **case.options), inputs, arrays.dy
            )
            for (name, value), tensor in zip(expected.items(), actual, strict=True):
                assert_same_bits(tensor.numpy(), value, name)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(repeat, ["eager", "eager"]))


def test_slices_that_tensorflow_did_not_copy() -> None:
    x = np.random.default_rng(0).standard_normal((5, 3, 3, 1)).astype(np.float32)
    kernel = np.ones((2, 2, 1, 1), np.float32)
    parts = tf.split(tf.constant(x), [1, 3, 1])
    for part, expected in zip(parts, (x[:1], x[1:4], x[4:]), strict=True):
        assert_same_bits(
            depthwise_conv2d(part, kernel).numpy(), depthwise.depthwise_conv2d(expected, kernel), "slice"
        )


@pytest.mark.parametrize("mode", MODES)
def test_empty_batches_and_no_channels(mode: str) -> None:
    for case in (Case((5, 5), (3, 3), 4, batch=0), Case((5, 5), (3, 3), 0, activation="silu")):
        check_bits(mode, case, "float32")


def test_anything_that_converts_to_a_tensor() -> None:
    x, kernel = np.ones((1, 4, 4, 2), np.float32), np.ones((3, 3, 2, 1), np.float32)
    expected = depthwise.depthwise_conv2d(x, kernel)
    for convert in (lambda a: a, tf.constant, tf.Variable, lambda a: a.tolist()):
        y = depthwise_conv2d(convert(x), convert(kernel))
        assert isinstance(y, tf.Tensor)
        assert_same_bits(y.numpy(), expected, "y")
