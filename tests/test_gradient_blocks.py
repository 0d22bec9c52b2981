"""Gradients of images from memory: blocks of columns and of channels (csrc/kernels/gradient_columns.h)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import depthwise
from tests.backward import Backward, apart, assert_same
from tests.cases import Case, assert_same_bits, check_exactly
from tests.memory import CONTIGUOUS, EVERYTHING, SPREAD

# Images and results of 8 MiB and more, in float32.
WIDE = [
    Case((42, 401), (3, 3), 64, padding="same", activation="relu"),  # four blocks of columns
    Case((40, 520), (3, 5), 72, padding="same", strides=(1, 2), activation="silu"),
    Case((50, 300), (2, 4), 100, dilation_rate=(1, 3), activation="relu"),
    Case((33, 300), (3, 3), 80, batch=2, padding="same", dilation_rate=(2, 2)),
    Case((90, 480), (4, 3), 48, strides=(3, 3), multiplier=2, activation="relu"),
    Case((30, 300), (3, 3), 128, padding=((1, 1), (2, 5))),  # results on padding alone, at the end
    Case((30, 300), (3, 3), 128, padding=((1, 1), (9, 3))),  # and at the beginning: columns are not cut
    Case((40, 380), (9, 5), 70, padding="same"),  # each gradient by itself
    Case((20, 900), (1, 7), 96, padding="same", strides=(1, 3)),
]
EVERY_WIDE_CASE = pytest.mark.parametrize("case", WIDE, ids=range(len(WIDE)))


@EVERY_WIDE_CASE
def test_gradients_of_wide_images_have_the_bits_of_each_alone(
    threads: Callable[[int], None], isa: str, case: Case
) -> None:
    number = WIDE.index(case)
    dtype = ("float32", "float64")[number % 2]
    backward = Backward(case, dtype)
    threads(1)
    expected = apart(backward)
    threads(2)
    what = f"{isa}, {dtype}, {case}"
    assert_same(backward("dx", "dkernel", "dbias"), expected, what)
    inputs, outputs = ((EVERYTHING, CONTIGUOUS), (CONTIGUOUS, SPREAD))[number // 2 % 2]
    strided = backward("dx", "dkernel", "dbias", inputs=inputs, outputs=outputs)
    assert_same(strided, expected, f"{inputs} to {outputs}, {what}")


@EVERY_WIDE_CASE
def test_gradients_of_wide_images_are_those_of_the_reference(case: Case) -> None:
    if case.activation != "silu":
        check_exactly(case, "float32")


# So many channels that these are cut, with a stride or without: where a line begins, wherever the array does.
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [1, 4, 15])
def test_gradients_have_the_same_bits_wherever_an_array_begins(
    isa: str, strides: int, dtype: type[np.floating[Any]], offset: int
) -> None:
    rng = np.random.default_rng(5)
    x = rng.standard_normal((4, 24, 24, 768)).astype(dtype)
    kernel = rng.standard_normal((3, 3, 768, 1)).astype(dtype)
    y, pullback = depthwise.depthwise_conv2d_vjp(
        x, kernel, strides=strides, padding="same", activation="relu"
    )
    dy = rng.standard_normal(y.shape).astype(dtype)

    def gradients(beyond: int) -> depthwise.Gradients:
        memory = np.full(x.size + 128, -7, dtype)
        start = -memory.ctypes.data % 64 // memory.itemsize + beyond
        out = depthwise.Gradients(memory[start:][: x.size].reshape(x.shape), np.empty_like(kernel), None)
        pullback(dy, out=out)
        assert (memory[:start] == -7).all(), isa
        assert (memory[start + x.size :] == -7).all(), isa
        return out

    expected, actual = gradients(0), gradients(offset)
    assert_same_bits(actual.x, expected.x, f"dx, {isa}")
    assert_same_bits(actual.kernel, expected.kernel, f"dkernel, {isa}")


# Planes from memory whose channels are staged in copies: a vector of channels at a time.
def test_copies_of_planes_from_memory_are_those_of_the_reference() -> None:
    case = Case((98, 98), (11, 10), 221, strides=(3, 3), multiplier=3, data_format="channels_first")
    check_exactly(case, "float32")
