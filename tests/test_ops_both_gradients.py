"""Both gradients in one pass: the bits of each asked for alone, on what the pass is cut into and beyond its bounds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.backward import Backward, apart, assert_same
from tests.cases import Case, check_exactly
from tests.memory import CHANNELS_SWAPPED, CONTIGUOUS, EVERYTHING, REVERSED, SPREAD

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
