"""Both gradients in one pass: the bits of each asked for alone, on what the pass is cut into and beyond its bounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from depthwise import native
from tests.cases import DTYPES, Arrays, Case, assert_same_bits, check_exactly
from tests.memory import CHANNELS_SWAPPED, CONTIGUOUS, EVERYTHING, REVERSED, SPREAD, Memory

Array = NDArray[Any]

# The pass takes up to 6 rows of halo: (taps - 1) * dilation // stride (csrc/kernels/tuning.h). Its parts, at most 32 of
# them, are of at least 7 rows and 96 outputs: pieces of images, or several images. Those that follow each other are one
# task, of how many depends on the threads. A third of these calls are so large that threads are woken for each one.
CASES = [
    Case((40, 41), (3, 3), 55, batch=2, padding="same", activation="relu"),
    Case((45, 19), (7, 3), 88, padding="same"),  # the largest halo, and the first one beyond it
    Case((45, 19), (8, 3), 48, padding="same"),
    Case((29, 21), (3, 2), 33, padding="same", dilation_rate=(3, 2), activation="silu"),
    Case((29, 21), (3, 2), 33, padding="same", dilation_rate=(4, 2), activation="relu"),
    Case((60, 13), (14, 3), 20, padding="same", strides=(2, 1)),
    Case((60, 13), (15, 3), 20, padding="same", strides=(2, 1), activation="relu"),
    Case((9, 23), (3, 5), 50, batch=5, padding="same", activation="silu"),  # a part for each image
    Case((7, 15), (3, 2), 18, batch=37, activation="relu"),  # parts across the borders of images
    Case((3, 15), (2, 2), 19, batch=11, multiplier=2, activation="relu"),
    Case((300, 11), (5, 3), 60, padding="same", strides=(1, 2)),  # as many parts as there may be
    Case((35, 26), (2, 3), 24, batch=3, padding="same", strides=(3, 2), dilation_rate=(2, 3), multiplier=3),
    Case(
        (63, 20), (2, 3), 40, strides=(5, 1), activation="relu"
    ),  # rows that no output sees, between and after
    Case((20, 21), (3, 3), 34, padding=((9, 0), (0, 11)), dilation_rate=(2, 1)),  # outputs on padding alone
    Case((5, 9), (4, 3), 40, batch=2, padding=((9, 17), (1, 1)), activation="relu"),
    Case((1, 30), (5, 5), 70, batch=20, padding="same"),
    Case((17, 60), (3, 48), 16, padding="same"),  # so many taps that the input is staged
    Case((14, 14), (3, 3), 256, batch=2, padding="same", activation="relu"),  # columns 1 KiB apart
    Case((9, 9), (3, 3), 1100, batch=2, padding="same", multiplier=2),  # blocks of channels
    Case((16, 200), (7, 2), 48, padding="same", activation="relu"),  # the halo is more than a block of rows
    Case((33, 35), (3, 3), 39, batch=2, padding="same", data_format="channels_first", activation="silu"),
    Case((29, 16), (7, 2), 64, padding="same", data_format="channels_first", activation="relu"),
    Case((3, 15), (2, 2), 19, batch=11, data_format="channels_first", strides=(2, 1), padding="same"),
    Case((9, 40), (3, 3), 5, batch=3, padding="same", data_format="channels_first", multiplier=2),
]
EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))

WANTED = ("dx", "dkernel", "dbias")


class Backward:
    """Gradients of a case's real numbers, as the plan gives them."""

    def __init__(self, case: Case, dtype: str) -> None:
        self.case, self.dtype = case, DTYPES[dtype]
        self.bits = np.dtype(f"u{self.dtype.itemsize}")
        self.plan = native.make_plan(case.spec, case.x_shape, dtype)  # type: ignore[arg-type]  # four sizes
        rng = np.random.default_rng(4)
        shapes = (case.x_shape, case.kernel_shape, (case.outputs,), case.y_shape)
        given = (rng.standard_normal(shape).astype(self.dtype) for shape in shapes)
        arrays = Arrays(*given)
        y, z = np.empty(case.y_shape, self.dtype), np.empty(case.y_shape, self.dtype)
        x, kernel, bias = self._given(arrays.x), self._given(arrays.kernel), self._given(arrays.bias)
        self.plan.forward(x, kernel, bias, y.view(self.bits), z.view(self.bits))
        saved = z if case.spec.activation.info.needs_preactivation else y
        self.inputs = (arrays.x, arrays.kernel, arrays.dy, saved if case.spec.activation.info.code else None)
        self.shapes = {"dx": case.x_shape, "dkernel": case.kernel_shape, "dbias": (case.outputs,)}

    def _given(self, array: Array | None, memory: Memory | None = None) -> Array | None:
        if array is None:
            return None
        return (array if memory is None else memory.place(array)).view(self.bits)

    def __call__(
        self, *wanted: str, inputs: Memory = CONTIGUOUS, outputs: Memory = CONTIGUOUS
    ) -> dict[str, Array]:
        """The gradients of these names; nothing but them is written."""
        buffers, results = {}, {}
        for name in wanted:
            shape = self.shapes[name]
            if name == "dbias":
                buffers[name] = results[name] = np.full(shape, np.nan, self.dtype)
            else:
                buffers[name], results[name] = outputs.allocate(shape, self.dtype)
        x, kernel, dy, saved = (self._given(array, inputs) for array in self.inputs)
        dx, dkernel, dbias = (self._given(results.get(name)) for name in WANTED)
        self.plan.backward(x, kernel, dy, saved, dx, dkernel, dbias)
        for name, buffer in buffers.items():
            assert np.isnan(buffer.astype(np.float64)).sum() == buffer.size - results[name].size, name
        return results


def apart(backward: Backward) -> dict[str, Array]:
    return {name: array for wanted in WANTED for name, array in backward(wanted).items()}


def assert_same(actual: dict[str, Array], expected: dict[str, Array], what: str) -> None:
    for name, array in actual.items():
        assert array.any(), f"{name}, {what}"
        assert_same_bits(array, expected[name], f"{name}, {what}")


@EVERY_CASE
def test_both_gradients_have_the_bits_of_each_alone_on_any_number_of_threads(
    threads: Callable[[int], None], isa: str, dtype: str, case: Case
) -> None:
    backward = Backward(case, dtype)
    threads(1)
    expected = apart(backward)
    for count in (1, 2, 3):
        threads(count)
        what = f"{count} threads, {isa}, {dtype}, {case}"
        assert_same(backward("dx", "dkernel", "dbias"), expected, what)
        assert_same(backward("dx", "dkernel"), expected, f"without dbias, {what}")
        assert_same(apart(backward), expected, f"each alone, {what}")


@EVERY_CASE
def test_both_gradients_of_strided_arrays_have_the_bits_of_dense_ones(
    isa: str, dtype: str, case: Case
) -> None:
    backward = Backward(case, dtype)
    expected = apart(backward)
    memories = ((EVERYTHING, CONTIGUOUS), (CONTIGUOUS, SPREAD), (CHANNELS_SWAPPED, REVERSED))
    inputs, outputs = memories[CASES.index(case) % 3]
    what = f"{inputs} to {outputs}, {isa}, {dtype}, {case}"
    assert_same(backward("dx", "dkernel", "dbias", inputs=inputs, outputs=outputs), expected, what)


@pytest.mark.usefixtures("isa")
@EVERY_CASE
def test_both_gradients_are_those_of_the_reference(dtype: str, case: Case) -> None:
    if case.activation != "silu":
        check_exactly(case, dtype)
