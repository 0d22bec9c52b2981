"""Kernels of one tap have kernels of their own forward (csrc/kernels/scale_forward.h): runs of weights that repeat."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import depthwise
from tests.cases import DTYPES, LAYOUTS, Case, assert_same_bits, check_exactly, check_within_bounds
from tests.edges import around_vectors, lanes

ONE = (1, 1)


@pytest.mark.parametrize("data_format", LAYOUTS)
def test_every_number_of_channels_and_columns_around_vectors(dtype: str, data_format: str, isa: str) -> None:
    for channels in around_vectors(lanes(isa, dtype)):
        for width in (1, 2, 7, 33):
            check_exactly(
                Case((3, width), ONE, channels, 2, data_format=data_format, activation="relu"), dtype
            )


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("data_format", LAYOUTS)
@pytest.mark.parametrize(
    ("channels", "size"), [(1, (71, 67)), (3, (67, 71)), (48, (23, 11)), (131, (9, 8)), (1031, (3, 5))]
)
def test_planes_of_several_pieces_and_several_planes(
    dtype: str, data_format: str, channels: int, size: tuple[int, int]
) -> None:
    for activation, bias in (("relu6", True), (None, False), (("leaky_relu", 0.25), True)):
        case = Case(size, ONE, channels, 2, data_format=data_format)
        check_exactly(replace(case, activation=activation, bias=bias), dtype)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("data_format", LAYOUTS)
def test_strides_padding_and_multipliers(dtype: str, data_format: str) -> None:
    options: list[dict[str, Any]] = [
        {"strides": strides, "padding": padding, "multiplier": multiplier}
        for strides, padding, multiplier in itertools.product(
            ((1, 1), (2, 1), (1, 2), (3, 3)), ("valid", ((0, 1), (0, 0)), ((0, 0), (2, 3))), (1, 2)
        )
    ]
    for option in options:
        check_exactly(Case((5, 19), ONE, 21, 2, data_format=data_format, **option), dtype)


# Rows that are gathered go several to a run, or in parts where one of them is long.
@pytest.mark.parametrize("data_format", LAYOUTS)
@pytest.mark.parametrize(("stride", "multiplier"), [(1, 2), (1, 3), (1, 5), (2, 1), (3, 1), (4, 1), (3, 2)])
def test_gathered_rows_and_parts_of_rows(
    dtype: str, data_format: str, stride: int, multiplier: int, isa: str
) -> None:
    vector = lanes(isa, dtype)
    for columns in (1, 2, vector - 1, vector, vector + 1, 2 * vector + 3):
        for channels in (1, 5, 2 * vector + 1):
            size = (67, (columns - 1) * stride + 1)
            case = Case(size, ONE, channels, strides=(1, stride), multiplier=multiplier)
            check_exactly(replace(case, data_format=data_format, activation="relu"), dtype)
    for channels, width in ((3, 4999), (2111, 3)):
        case = Case((2, width), ONE, channels, strides=(1, stride), multiplier=multiplier)
        check_exactly(replace(case, data_format=data_format), dtype)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("data_format", LAYOUTS)
@pytest.mark.parametrize("activation", ["silu", "gelu", "tanh"])
def test_activations_that_are_no_clamp(dtype: str, data_format: str, activation: str) -> None:
    for channels in (2, 37):
        check_within_bounds(
            Case((6, 11), ONE, channels, 2, data_format=data_format, activation=activation), dtype
        )


# From 8 MiB on results go past the caches, in whole aligned lines: what lies before and after these is stored as usual.
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("data_format", LAYOUTS)
@pytest.mark.parametrize("offset", [0, 1, 7])
def test_large_images_have_the_bits_of_small_ones(dtype: str, data_format: str, offset: int) -> None:
    rng = np.random.default_rng(0)
    of = DTYPES[dtype]
    shape = (5, 599, 1031, 3) if data_format == "channels_last" else (5, 3, 599, 1031)
    x = rng.standard_normal(shape, np.float32).astype(of)
    kernel, bias = rng.standard_normal((1, 1, 3, 1)).astype(of), rng.standard_normal(3).astype(of)
    options: dict[str, Any] = {"data_format": data_format, "activation": "relu"}
    memory = np.zeros(x.size + 128, of)
    start = -memory.ctypes.data % 64 // memory.itemsize + offset
    out = memory[start:][: x.size].reshape(shape)
    depthwise.depthwise_conv2d(x, kernel, bias, **options, out=out)
    assert not memory[:start].any()
    assert not memory[start + x.size :].any()
    for image in range(len(x)):
        one = slice(image, image + 1)
        assert_same_bits(
            out[one], depthwise.depthwise_conv2d(x[one], kernel, bias, **options), f"image {image}"
        )


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("data_format", LAYOUTS)
def test_a_weight_that_is_not_finite_stays_in_its_channel(data_format: str) -> None:
    axis = 3 if data_format == "channels_last" else 1
    x = np.random.default_rng(0).standard_normal((2, 18, 18, 18), np.float32)
    kernel = np.ones((1, 1, 18, 1), np.float32)
    kernel[0, 0, 5] = np.nan
    y = depthwise.depthwise_conv2d(x, kernel, data_format=data_format)
    assert np.isnan(y).any(axis=tuple({0, 1, 2, 3} - {axis})).nonzero()[0].tolist() == [5]
    np.testing.assert_array_equal(np.delete(y, 5, axis), np.delete(x, 5, axis))


# Other kernels would add the bias in another order.
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("data_format", LAYOUTS)
@pytest.mark.parametrize(("stride", "multiplier"), [(1, 1), (1, 3), (2, 1), (3, 2)])
@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_results_that_are_no_runs_have_the_bits_of_those_that_are(
    dtype: str, data_format: str, stride: int, multiplier: int, activation: str
) -> None:
    for channels in (3, 40):
        case = Case((5, 41), ONE, channels, 2, multiplier, (1, stride), data_format=data_format)
        arrays = case.reals(dtype).cast(dtype)
        options = replace(case, activation=activation).options
        dense = depthwise.depthwise_conv2d(arrays.x, arrays.kernel, arrays.bias, **options)
        for axis in range(1, 4):
            memory = np.zeros(
                [size * (2 if i == axis else 1) for i, size in enumerate(dense.shape)], dense.dtype
            )
            apart = memory[tuple(slice(None, None, 2 if i == axis else 1) for i in range(4))]
            depthwise.depthwise_conv2d(arrays.x, arrays.kernel, arrays.bias, **options, out=apart)
            assert_same_bits(np.ascontiguousarray(apart), dense, f"steps of 2 along axis {axis}")
            assert np.count_nonzero(memory) == np.count_nonzero(apart)
