"""Results against the reference, on every instruction set, dtype and layout.

Every check takes the gradients along: they run on the same tiles, the other way round.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

import depthwise
from depthwise import reference
from depthwise.activations import ACTIVATIONS
from depthwise.spec import Spec
from tests import tolerances
from tests.cases import (
    DTYPES,
    EXACT_ACTIVATIONS,
    Case,
    assert_equals_exact,
    check_exactly,
    check_within_bounds,
)
from tests.edges import EXTREMES, LARGE, OPTIONS, around_vectors, lanes


def test_the_case_worked_out_by_hand(isa: str, dtype: str) -> None:
    x = np.arange(1, 13).reshape(1, 2, 3, 2).astype(DTYPES[dtype])
    kernel = np.arange(1, 17).reshape(2, 2, 2, 2).astype(DTYPES[dtype])
    expected = np.array([196, 216, 272, 296, 252, 280, 344, 376.0]).reshape(1, 1, 2, 4)
    what = f"{isa}, {dtype}"
    assert_equals_exact(depthwise.depthwise_conv2d(x, kernel), expected, dtype, what)
    y = depthwise.depthwise_conv2d(x.transpose(0, 3, 1, 2), kernel, data_format="channels_first")
    assert_equals_exact(y, expected.transpose(0, 3, 1, 2), dtype, what)


@pytest.mark.parametrize("kernel_width", [*range(1, 10), 11, 12, 13, 16])
def test_every_number_of_columns(isa: str, dtype: str, data_format: str, kernel_width: int) -> None:
    v = lanes(isa, dtype)
    for columns in (*range(1, 21), *around_vectors(v)):
        for stride in (1, 2, 3):
            width = (columns - 1) * stride + kernel_width
            check_exactly(
                Case((3, width), (2, kernel_width), v + 1, strides=(1, stride), data_format=data_format),
                dtype,
            )
            same = Case(
                (2, columns * stride),
                (3, kernel_width),
                v,
                strides=(1, stride),
                padding="same",
                data_format=data_format,
            )
            check_exactly(same, dtype)


@pytest.mark.parametrize("kernel_height", [1, 2, 3, 4, 5, 7, 9])
def test_every_number_of_rows(isa: str, dtype: str, data_format: str, kernel_height: int) -> None:
    v = lanes(isa, dtype)
    for rows in (*range(1, 12), 15, 16, 17, 33):
        for stride in (1, 2, 3):
            for columns in (v - 1, v + 1):
                height = (rows - 1) * stride + kernel_height
                case = Case(
                    (height, columns + 1),
                    (kernel_height, 2),
                    channels=v // 2 + 1,
                    strides=(stride, 1),
                    data_format=data_format,
                )
                check_exactly(case, dtype)


@pytest.mark.parametrize("multiplier", range(1, 10))
def test_every_number_of_channels(isa: str, dtype: str, data_format: str, multiplier: int) -> None:
    for channels in around_vectors(lanes(isa, dtype)):
        for columns, kernel_size, activation in (
            (1, (1, 1), None),
            (4, (3, 3), "relu"),
            (9, (3, 3), None),
            (10, (2, 6), "relu6"),
            (7, (1, 7), ("leaky_relu", 0.25)),
        ):
            case = Case(
                (kernel_size[0] + 1, columns),
                kernel_size,
                channels,
                batch=2,
                multiplier=multiplier,
                padding="same",
                data_format=data_format,
                activation=activation,
                bias=columns % 2 == 0,
            )
            check_exactly(case, dtype)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("activation", EXACT_ACTIVATIONS, ids=str)
def test_options_in_unusual_combinations(dtype: str, data_format: str, activation: Any) -> None:
    for case in OPTIONS:
        check_exactly(dataclasses.replace(case, data_format=data_format, activation=activation), dtype)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("case", EXTREMES, ids=range(len(EXTREMES)))
def test_strides_dilations_and_padding_out_of_proportion(dtype: str, data_format: str, case: Case) -> None:
    check_exactly(dataclasses.replace(case, data_format=data_format), dtype)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("case", LARGE, ids=lambda case: f"{case.size}-{case.kernel_size}")
def test_kernels_and_images_of_more_than_one_block(dtype: str, data_format: str, case: Case) -> None:
    check_exactly(dataclasses.replace(case, data_format=data_format), dtype)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_real_numbers_with_every_activation(dtype: str, data_format: str, activation: str) -> None:
    for case in (
        Case((9, 21), (3, 3), 19, batch=2, padding="same", bias=False),
        Case((6, 9), (5, 2), 5, multiplier=3, strides=(2, 1), padding=(1, 2)),
        Case((8, 20), (2, 7), 33, padding="same"),
    ):
        check_within_bounds(dataclasses.replace(case, data_format=data_format, activation=activation), dtype)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("case", LARGE[:3], ids=lambda case: f"{case.kernel_size}")
def test_real_numbers_and_large_kernels(dtype: str, data_format: str, case: Case) -> None:
    check_within_bounds(dataclasses.replace(case, data_format=data_format), dtype)


def every_value(dtype: str) -> Any:
    """Every finite value of a half type; of the others, values of every magnitude."""
    if DTYPES[dtype].itemsize == 2:
        values = np.arange(2**16, dtype=np.uint16).view(DTYPES[dtype])
        return values[np.isfinite(values.astype(np.float32))]
    steps = np.linspace(-12.0, 12.0, 20_001)
    magnitudes = np.logspace(-44, 3, 5000)
    return np.concatenate([steps, magnitudes, -magnitudes]).astype(DTYPES[dtype])


def pointwise(x: Any, data_format: str, weight: float = 1.0, **options: Any) -> Any:
    """The op on a flat array, with a kernel of one tap."""
    kernel = np.full((1, 1, 1, 1), weight, x.dtype)
    shape = (1, 1, -1, 1) if data_format == "channels_last" else (1, 1, 1, -1)
    return depthwise.depthwise_conv2d(x.reshape(shape), kernel, data_format=data_format, **options).ravel()


def argument_of_exp(activation: str, x: Any) -> Any:
    """What the activation takes the exponential of, in magnitude. Its roundoff is the result's, that many times."""
    match activation:
        case "gelu":
            return x**2 / 2
        case "gelu_tanh":
            return 1.6 * abs(x) * (1 + 0.044715 * x**2)
        case "linear" | "relu" | "relu6" | "leaky_relu" | "hard_sigmoid" | "hard_swish":
            return np.zeros_like(x)
        case _:
            return abs(x)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_activations_are_accurate_over_the_whole_range(dtype: str, data_format: str, activation: str) -> None:
    x = every_value(dtype)
    alpha = ACTIVATIONS[activation].default_alpha or 0.0
    y = reference.activate(activation, alpha, x)
    precision = tolerances.PRECISIONS[dtype]
    roundoffs = tolerances.ACTIVATION_ROUNDOFFS * (1.0 + argument_of_exp(activation, x.astype(np.float64)))
    bound = (roundoffs * precision.compute + precision.storage) * abs(y) + precision.floor
    actual = pointwise(x, data_format, activation=activation)
    finite = abs(y) <= float(np.finfo(np.float16).max if dtype == "float16" else np.finfo(np.float32).max)
    tolerances.assert_within(
        actual[finite], tolerances.Bounded(y[finite], bound[finite]), f"{activation}, {dtype}"
    )


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("weight", [1.0, 1.5, -0.75, 1.0 / 512, 384.0])
def test_half_types_are_widened_exactly_and_rounded_to_nearest_even(
    dtype: str, data_format: str, weight: float
) -> None:
    x = np.arange(2**16, dtype=np.uint16).view(DTYPES[dtype])  # every value, infinities and NaNs too
    # The products are exact in float32 and float64, so they are rounded once, ties included.
    with np.errstate(invalid="ignore"):
        expected = x.astype(np.float64) * weight
    assert_equals_exact(pointwise(x, data_format, weight), expected, dtype, f"{dtype} times {weight}")


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("channels", [1, 40])
def test_half_types_are_summed_in_float32(dtype: str, data_format: str, channels: int) -> None:
    big = 4096.0  # in either type, big + 1 is big again
    case = Case((1, 129), (1, 129), channels, data_format=data_format, bias=False)
    x, kernel = np.ones(case.x_shape), np.ones(case.kernel_shape)
    kernel[0, 0] = big
    to = DTYPES[dtype]
    y, pullback = depthwise.depthwise_conv2d_vjp(x.astype(to), kernel.astype(to), data_format=data_format)
    assert_equals_exact(y, np.full(case.y_shape, big + 128.0), dtype, dtype)

    # The gradient of the kernel adds up 129 products, of 4096 and of ones.
    x.fill(1.0)
    x[0, 0 if data_format == "channels_last" else slice(None), 0] = big
    case = dataclasses.replace(case, kernel_size=(1, 1))
    tap = np.ones(case.kernel_shape).astype(to)
    y, pullback = depthwise.depthwise_conv2d_vjp(x.astype(to), tap, data_format=data_format)
    dkernel = pullback(np.ones(y.shape, to)).kernel
    assert_equals_exact(
        dkernel,
        x.sum(axis=(1, 2) if data_format == "channels_last" else (2, 3)).reshape(case.kernel_shape),
        dtype,
        dtype,
    )


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("where", ["x", "kernel", "bias"])
@pytest.mark.parametrize("channels", [1, 5, 40])
def test_nan_and_infinity_reach_the_outputs_that_the_reference_says_and_no_others(
    dtype: str, data_format: str, special: float, where: str, channels: int
) -> None:
    for activation in (None, "relu", "relu6", "silu", "gelu_tanh", "softplus", "hard_swish"):
        case = Case(
            (5, 11),
            (3, 2),
            channels,
            strides=(1, 2),
            padding="same",
            data_format=data_format,
            activation=activation,
        )
        arrays = case.integers(seed=1)
        assert arrays.bias is not None
        target = {"x": arrays.x, "kernel": arrays.kernel, "bias": arrays.bias}[where]
        target.flat[target.size // 2] = special
        with np.errstate(invalid="ignore"):
            expected = reference.depthwise_conv2d(arrays.x, arrays.kernel, arrays.bias, case.spec)
        cast = arrays.cast(dtype)
        actual = depthwise.depthwise_conv2d(cast.x, cast.kernel, cast.bias, **case.options).astype(np.float64)
        what = f"{special} in {where}, {dtype}, {case}"
        assert (np.isnan(actual) == np.isnan(expected)).all(), what
        assert (np.isposinf(actual) == np.isposinf(expected)).all(), what
        assert (np.isneginf(actual) == np.isneginf(expected)).all(), what


@pytest.mark.usefixtures("isa")
def test_what_does_not_fit_float16_becomes_infinity(data_format: str) -> None:
    x = np.array([60000.0, -60000.0, 32752.0, 32760.0, -32760.0], np.float16)
    expected = np.array([np.inf, -np.inf, 65504.0, np.inf, -np.inf])
    assert_equals_exact(pointwise(x, data_format, 2.0), expected, "float16", "float16")


def test_options_have_defaults_and_any_case() -> None:
    case = Case((6, 7), (3, 3), 4)
    arrays = case.integers().cast("float32")
    plain = depthwise.depthwise_conv2d(arrays.x, arrays.kernel, arrays.bias)
    named = depthwise.depthwise_conv2d(
        arrays.x,
        arrays.kernel,
        arrays.bias,
        strides=np.int64(1),
        padding="VALID",
        data_format="Channels_Last",
        dilation_rate=[1, np.uint8(1)],
        activation="Linear",
    )
    assert np.array_equal(plain, named)
    assert np.array_equal(plain, depthwise.depthwise_conv2d(arrays.x, arrays.kernel, arrays.bias, padding=0))


def test_the_result_is_new_and_contiguous() -> None:
    x, kernel = np.ones((1, 3, 3, 2), np.float32), np.ones((1, 1, 2, 1), np.float32)
    y = depthwise.depthwise_conv2d(x, kernel)
    assert y.flags.c_contiguous
    assert y.flags.owndata
    assert y.flags.writeable
    assert not np.shares_memory(x, y)


def test_shapes_are_those_that_the_spec_foretells() -> None:
    x, kernel = np.zeros((2, 11, 12, 3), np.float32), np.zeros((3, 4, 3, 2), np.float32)
    spec = Spec.from_kernel(kernel.shape, strides=(2, 3), padding="same", dilation_rate=(1, 2))
    y = depthwise.depthwise_conv2d(x, kernel, strides=(2, 3), padding="same", dilation_rate=(1, 2))
    assert y.shape == spec.output_shape(x.shape) == (2, 6, 4, 6)
