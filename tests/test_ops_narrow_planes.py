"""Planes too narrow for vectors along their columns, and images with rows of results too short for a tile, are worked
on with rows and columns exchanged (csrc/kernels/turned.h), in every direction.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

import depthwise
from tests.cases import LAYOUTS, Case, assert_same_bits, check_exactly, check_within_bounds
from tests.edges import STEPS, lanes


@pytest.mark.parametrize("data_format", LAYOUTS)
@pytest.mark.parametrize("multiplier", [1, 3])
def test_every_width_up_to_a_vector(dtype: str, data_format: str, multiplier: int, isa: str) -> None:
    for width in range(1, lanes(isa, dtype) + 2):
        case = Case((71, width), (3, 2), 2, 2, multiplier, padding="same", data_format=data_format)
        check_exactly(replace(case, activation="relu"), dtype)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize(("stride", "dilation"), STEPS)
def test_steps_and_paddings_of_either_axis(dtype: str, stride: int, dilation: int) -> None:
    for kernel, padding in itertools.product(((5, 1), (1, 3), (9, 4)), ("same", ((7, 0), (1, 9)), (12, 12))):
        for data_format in LAYOUTS:
            case = Case((67, 3), kernel, 2, padding=padding, data_format=data_format)
            for strides, rates in (((stride, 1), (dilation, 1)), ((2, stride), (1, dilation))):
                check_exactly(replace(case, strides=strides, dilation_rate=rates), dtype)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("data_format", LAYOUTS)
def test_activations_and_long_planes(dtype: str, data_format: str) -> None:
    for activation in ("silu", "gelu"):
        case = Case((90, 2), (4, 2), 2, padding="same", data_format=data_format, activation=activation)
        check_within_bounds(case, dtype)
    check_exactly(Case((70_001, 1), (3, 1), 1, 2, padding="same", data_format=data_format), dtype)


@pytest.mark.usefixtures("isa")
def test_a_narrow_plane_and_the_same_one_turned_are_one_plane() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 96, 1), np.float32)
    kernel, bias = rng.standard_normal((5, 2, 3, 2), np.float32), rng.standard_normal(6, np.float32)
    y = depthwise.depthwise_conv2d(
        x, kernel, bias, strides=(2, 1), padding=((4, 1), (0, 1)), data_format="channels_first"
    )
    turned = depthwise.depthwise_conv2d(
        x.swapaxes(2, 3),
        kernel.swapaxes(0, 1),
        bias,
        strides=(1, 2),
        padding=((0, 1), (4, 1)),
        data_format="channels_first",
    )
    assert_same_bits(y, np.ascontiguousarray(turned.swapaxes(2, 3)), "y")


# Zeros are staged around a plane, which a value that is not finite must not meet.
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("special", [np.inf, np.nan])
def test_a_weight_that_is_not_finite_does_not_leak_from_the_padding(special: float) -> None:
    x, kernel = np.ones((1, 1, 80, 2), np.float32), np.ones((3, 3, 1, 1), np.float32)
    kernel[0, 1] = special
    y = depthwise.depthwise_conv2d(x, kernel, padding="same", data_format="channels_first")
    assert np.isfinite(y[0, 0, 0]).all()
    assert not np.isfinite(y[0, 0, 1:]).any()


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("multiplier", [1, 3])
def test_images_with_short_rows_of_results(dtype: str, multiplier: int) -> None:
    for width, height in itertools.product((1, 2, 3, 4), (7, 8, 9, 21)):
        case = Case((height, width), (3, 2), 20, 2, multiplier, padding="same", activation="relu")
        check_exactly(case, dtype)
        wide = replace(
            case, size=(height + 2, 3 * width + 4), kernel_size=(3, 5), strides=(1, 3), padding="valid"
        )
        check_exactly(wide, dtype)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize(("stride", "dilation"), STEPS)
def test_steps_along_short_rows_of_results(dtype: str, stride: int, dilation: int) -> None:
    for kernel, padding in itertools.product(((5, 1), (2, 3)), ("same", ((7, 0), (1, 3)))):
        case = Case((40, 3), kernel, 18, padding=padding)
        check_exactly(replace(case, strides=(stride, 1), dilation_rate=(dilation, 1)), dtype)
        check_exactly(replace(case, strides=(stride, 2), dilation_rate=(dilation, 1)), dtype)
