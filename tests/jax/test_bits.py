"""The bits of the NumPy functions: forward, and the gradients of the first order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

import depthwise
from depthwise.activations import ACTIVATIONS
from depthwise.jax import depthwise_conv2d
from tests.cases import Case, assert_same_bits
from tests.edges import OPTIONS
from tests.jax.support import convolve

Array = Any


def draw(case: Case, dtype: str) -> tuple[list[Array], Array]:
    """(x, kernel and bias if there is one), dy."""
    arrays = case.integers(largest=3).cast(dtype)
    rng = np.random.default_rng(1)
    noise = [
        rng.standard_normal(a.shape)
        for a in (arrays.x, arrays.kernel, arrays.bias, arrays.dy)
        if a is not None
    ]
    *inputs, dy = (array.astype(arrays.x.dtype) for array in noise)
    return inputs, dy


def expected(case: Case, inputs: list[Array], dy: Array) -> list[Array]:
    y, pullback = depthwise.depthwise_conv2d_vjp(*inputs, **case.options)
    return [y, *(gradient for gradient in pullback(dy) if gradient is not None)]


def run(case: Case, dy: Array, *inputs: Array) -> list[Array]:
    y, pullback = jax.vjp(lambda *arrays: convolve(case, *arrays), *inputs)
    return [y, *pullback(dy)]


def check(case: Case, dtype: str, transform: Callable[..., Any]) -> None:
    inputs, dy = draw(case, dtype)
    results = transform(lambda dy, *arrays: run(case, dy, *arrays))(dy, *inputs)
    for actual, value in zip(results, expected(case, inputs, dy), strict=True):
        assert_same_bits(np.asarray(actual), value, f"{dtype}, {case}")


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_every_activation_dtype_and_layout(dtype: str, data_format: str, activation: str) -> None:
    case = Case((9, 19), (3, 3), 21, batch=2, padding="same", data_format=data_format, activation=activation)
    check(case, dtype, jax.jit)
    inputs, _ = draw(case, dtype)
    y = depthwise.depthwise_conv2d(*inputs, **case.options)
    assert_same_bits(np.asarray(convolve(case, *inputs)), y, f"{dtype}, without jit")


@pytest.mark.parametrize("case", OPTIONS[::2], ids=range(len(OPTIONS[::2])))
def test_options_in_unusual_combinations(data_format: str, case: Case) -> None:
    check(dataclasses.replace(case, data_format=data_format, activation="silu"), "float32", jax.jit)


@pytest.mark.parametrize("activation", [None, "relu", "gelu"])
def test_without_jit_and_without_bias(data_format: str, activation: str | None) -> None:
    case = Case(
        (9, 8), (3, 2), 7, multiplier=2, strides=(2, 1), data_format=data_format, activation=activation
    )
    check(case, "float32", lambda function: function)
    check(dataclasses.replace(case, bias=False), "float32", lambda function: function)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_number_of_threads_on_every_instruction_set(threads: Callable[[int], None], count: int) -> None:
    threads(count)
    case = Case((40, 41), (5, 5), 48, batch=3, padding="same", activation="relu")
    check(case, "float32", jax.jit)


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2), (1, 2), (0, 1)])
@pytest.mark.parametrize("activation", [None, "relu6", "silu"])
def test_a_gradient_has_the_same_bits_when_it_is_not_the_only_one(
    data_format: str, activation: str | None, wanted: tuple[int, ...]
) -> None:
    case = Case(
        (12, 13),
        (3, 4),
        18,
        batch=2,
        multiplier=2,
        strides=(2, 1),
        data_format=data_format,
        activation=activation,
    )
    inputs, dy = draw(case, "float32")

    def of_some(*some: Array) -> Array:
        everything = list(inputs)
        for position, array in zip(wanted, some, strict=True):
            everything[position] = array
        return convolve(case, *everything)

    _, pullback = jax.vjp(of_some, *(inputs[position] for position in wanted))
    _, *gradients = expected(case, inputs, dy)
    for position, gradient in zip(wanted, pullback(dy), strict=True):
        assert_same_bits(
            np.asarray(gradient), gradients[position], f"gradient {position} of {wanted}, {case}"
        )


def test_empty_batches_and_channels() -> None:
    for case in (Case((5, 5), (3, 3), 4, batch=0), Case((5, 5), (3, 3), 0, multiplier=2)):
        check(dataclasses.replace(case, activation="gelu"), "float32", jax.jit)


def test_subnormal_numbers_stay_what_they_are(data_format: str) -> None:
    """XLA's threads flush them to zero."""
    shape = (1, 4, 5, 3) if data_format == "channels_last" else (1, 3, 4, 5)
    x = np.full(shape, 1e-40, np.float32)
    kernel = np.ones((1, 1, 3, 1), np.float32)
    y = jax.jit(lambda a: depthwise_conv2d(a, kernel, data_format=data_format))(x)
    assert_same_bits(np.asarray(y), x, "1e-40")
