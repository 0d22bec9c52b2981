"""Channels-first images go plane by plane or are transposed for vectors along channels (csrc/kernels/table.cc): on both
sides of every bound, in every direction.
"""

from __future__ import annotations

import itertools

import pytest

from tests.cases import Case, check_exactly, check_within_bounds
from tests.edges import STEPS, lanes


@pytest.mark.parametrize("multiplier", [1, 2, 3, 4, 5, 17])
def test_every_multiplier_in_rows_of_up_to_two_vectors(dtype: str, multiplier: int, isa: str) -> None:
    n = lanes(isa, dtype)
    widths = sorted({1, 2, n - 1, n + 1, 3 * n // 2, 3 * n // 2 + 1})
    for channels, width in itertools.product((3 * n // 4, n, n + 1, 2 * n + 3), widths):
        case = Case((5, width), (3, 2), channels, 2, multiplier, padding="same", data_format="channels_first")
        check_exactly(case, dtype)


@pytest.mark.parametrize(("stride", "dilation"), STEPS)
def test_steps_of_planes_with_a_multiplier(dtype: str, stride: int, dilation: int, isa: str) -> None:
    channels = lanes(isa, dtype) + 3
    for multiplier, size in itertools.product((2, 3), ((5, 5), (13, 11), (4, 40))):
        case = Case(
            size,
            (3, 3),
            channels,
            2,
            multiplier,
            (stride, stride),
            ((1, 2), (2, 1)),
            data_format="channels_first",
            dilation_rate=(dilation, dilation),
        )
        check_exactly(case, dtype)


def test_vectors_that_are_fuller_along_columns_and_along_channels(dtype: str, isa: str) -> None:
    n = lanes(isa, dtype)
    for channels, width, stride in itertools.product(
        (n, n + 1, 2 * n - 1, 2 * n), (2 * n, 2 * n + 1), (1, 2)
    ):
        strides = (1, stride)
        case = Case((7, width), (3, 3), channels, 1, 1, strides, "same", data_format="channels_first")
        check_exactly(case, dtype)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_activations_of_planes_with_a_multiplier(dtype: str, activation: str) -> None:
    for multiplier, channels in ((2, 19), (3, 33)):
        case = Case(
            (6, 9),
            (3, 3),
            channels,
            2,
            multiplier,
            padding="same",
            data_format="channels_first",
            activation=activation,
        )
        check_within_bounds(case, dtype)
