"""Channels-first images go plane by plane or are transposed for vectors along channels (csrc/kernels/choice.h): on both
sides of every bound, in every direction.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools

import numpy as np
import pytest

import depthwise
from depthwise import native, reference
from tests.cases import DTYPES, Case, check_exactly, check_within_bounds
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
@pytest.mark.parametrize("activation", [None, "relu", "relu6", "silu", "gelu"])
def test_activations_of_planes_with_a_multiplier(dtype: str, activation: str | None) -> None:
    """Both directions: those of silu and gelu have the forward pass keep what they are taken of."""
    for multiplier, channels in ((1, 19), (1, 64), (2, 19), (3, 33), (9, 64)):
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


@pytest.mark.parametrize("kernel_height", range(1, 9))
def test_planes_in_place(dtype: str, kernel_height: int, isa: str) -> None:
    """Kernels of up to 7 by 3, 3 by 5 and 1 by 7 taps, rows of a vector and more (csrc/kernels/strips_forward.h)."""
    n = lanes(isa, dtype)
    kernel_widths = (1, 2, 3, 4) if kernel_height > 3 else range(1, 9)
    for kernel_width, width in itertools.product(
        kernel_widths, (n, n + 1, 2 * n - 1, 2 * n, 2 * n + 1, 3 * n + 2)
    ):
        for height in (1, 3, 4, 6, 9):
            case = Case(
                (height, width),
                (kernel_height, kernel_width),
                2,
                padding="same",
                data_format="channels_first",
            )
            check_exactly(case, dtype)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(
    "kernel", [(1, 4), (1, 7), (1, 8), (2, 5), (2, 6), (3, 3), (3, 4), (3, 5), (5, 5), (7, 3)]
)
def test_bits_are_the_same_wherever_columns_lie(
    dtype: str, kernel: tuple[int, int], stride: int, isa: str
) -> None:
    """Planes whose columns are not adjacent are not read in place."""
    numbers = np.random.default_rng(0)
    channels, width = 3 * lanes(isa, dtype), 3 * stride * lanes(isa, dtype) + 1
    shape = (2, channels, 9, width)
    image = numbers.standard_normal(shape).astype(DTYPES[dtype])
    weights = numbers.standard_normal((*kernel, channels, 1)).astype(image.dtype)
    apart = np.zeros((*shape[:3], 2 * width), image.dtype)[..., ::2]
    apart[...] = image
    for dilation in ((1, 1), (2, 1), (1, 2))[: 1 if stride > 1 else None]:
        convolve = functools.partial(
            depthwise.depthwise_conv2d,
            kernel=weights,
            strides=stride,
            padding="same",
            dilation_rate=dilation,
            data_format="channels_first",
        )
        np.testing.assert_array_equal(convolve(apart), convolve(image))


@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (1, 2), (2, 1), (3, 1), (3, 2), (7, 2), (3, 3)])
def test_strides_of_planes_in_place(dtype: str, strides: tuple[int, int], isa: str) -> None:
    n = lanes(isa, dtype)
    kernels = ((1, 1), (1, 3), (1, 4), (2, 2), (3, 3), (4, 4), (5, 5), (5, 3), (3, 5))
    for kernel, columns, multiplier in itertools.product(kernels, (n, n + 3, 2 * n, 3 * n - 1), (1, 2)):
        for height in (2, 7, 12):
            case = Case(
                (height, columns * strides[1] - 1),
                kernel,
                1 + multiplier,
                2,
                multiplier,
                strides,
                "same",
                data_format="channels_first",
            )
            check_exactly(case, dtype)


@pytest.mark.parametrize("dilation", [(2, 1), (1, 2), (2, 2), (4, 1), (3, 1)])
def test_strides_and_dilations_of_planes_in_place(dtype: str, dilation: tuple[int, int], isa: str) -> None:
    n = lanes(isa, dtype)
    for stride, size in itertools.product((1, 2, 3), (2, 3, 5)):
        case = Case(
            (23, 2 * stride * n + 9),
            (size, size),
            3,
            strides=(stride, stride),
            padding=((3, 8), (1, 4)),
            data_format="channels_first",
            dilation_rate=dilation,
        )
        check_exactly(case, dtype)


@pytest.mark.parametrize("dilation", [(1, 2), (2, 1), (3, 5), (7, 40)])
@pytest.mark.parametrize(
    "padding", ["valid", "same", ((9, 0), (0, 21)), ((0, 3), (19, 2)), ((5, 9), (40, 33))]
)
def test_dilations_and_padding_of_planes_in_place(
    dtype: str, dilation: tuple[int, int], padding: object, isa: str
) -> None:
    n = lanes(isa, dtype)
    for multiplier, activation in ((1, "silu"), (3, "relu6")):
        case = Case(
            (17, 2 * n + 85),
            (3, 3),
            3,
            2,
            multiplier,
            padding=padding,
            data_format="channels_first",
            dilation_rate=dilation,
            activation=activation,
        )
        check_within_bounds(case, dtype)


@pytest.mark.parametrize("special", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["x", "kernel"])
def test_what_is_not_finite_does_not_meet_the_zeros_around_a_plane(
    dtype: str, where: str, special: float, isa: str
) -> None:
    n = lanes(isa, dtype)
    for kernel, steps in itertools.product(
        ((3, 3), (5, 5), (2, 3), (1, 4), (7, 6)), ((1, 1), (2, 1), (1, 2))
    ):
        case = Case(
            (9, 2 * n + 3),
            kernel,
            3,
            2,
            strides=(steps[0], steps[0]),
            padding="same",
            data_format="channels_first",
            dilation_rate=(steps[1], steps[1]),
        )
        arrays = case.integers(seed=1)
        target = {"x": arrays.x, "kernel": arrays.kernel}[where]
        target.flat[0] = special
        with np.errstate(invalid="ignore"):
            expected = reference.depthwise_conv2d(arrays.x, arrays.kernel, arrays.bias, case.spec)
        cast = arrays.cast(dtype)
        actual = depthwise.depthwise_conv2d(cast.x, cast.kernel, cast.bias, **case.options)
        np.testing.assert_array_equal(
            np.isfinite(actual.astype(np.float64)), np.isfinite(expected), str(case)
        )


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("across", ["same", "valid", (1, 0), (0, 1), (2, 2), (5, 3)])
def test_rows_of_a_plane_do_not_meet(dtype: str, stride: int, across: object, isa: str) -> None:
    """Lanes beside a row are those of the rows around it, and may be loaded (Border in csrc/kernels/strip_tile.h)."""
    n = lanes(isa, dtype)
    padding = across if isinstance(across, str) else ((1, 1), across)
    for size, dilation, columns in itertools.product((2, 3, 4, 5), (1, 2), (n, 2 * n - 2, 2 * n, 4 * n)):
        case = Case(
            (11, stride * columns + (size - 1) * dilation),
            (size, size),
            3,
            2,
            strides=(stride, stride),
            padding=padding,
            data_format="channels_first",
            dilation_rate=(1, dilation),
        )
        arrays = case.integers(seed=2)
        arrays.x[:, :, 1::4, 0] = np.nan
        arrays.x[:, :, 3::4, -1] = np.inf
        arrays.kernel[arrays.kernel == 0] = 1
        with np.errstate(invalid="ignore"):
            expected = reference.depthwise_conv2d(arrays.x, arrays.kernel, arrays.bias, case.spec)
        cast = arrays.cast(dtype)
        actual = depthwise.depthwise_conv2d(cast.x, cast.kernel, cast.bias, **case.options)
        rounded = expected.astype(actual.dtype).astype(np.float64)
        np.testing.assert_array_equal(actual.astype(np.float64), rounded, str(case))


@pytest.mark.parametrize("rows", range(1, 14))
def test_many_adjacent_taps_of_planes(dtype: str, rows: int, isa: str) -> None:
    """Tiles of four rows and two vectors, and what is left of either (csrc/kernels/plane_tile.h)."""
    n = lanes(isa, dtype)
    for kernel, columns in itertools.product(
        ((7, 7), (5, 8), (2, 18), (3, 3), (5, 5)), (n, n + 1, 2 * n, 3 * n - 1, 4 * n)
    ):
        for channels in (2, n):
            case = Case((rows, columns), kernel, channels, padding="same", data_format="channels_first")
            check_exactly(case, dtype)
            check_exactly(dataclasses.replace(case, activation="relu", bias=False), dtype)


@pytest.mark.parametrize("rows", [20, 22, 25])
def test_many_adjacent_taps_go_plane_by_plane(dtype: str, rows: int, isa: str) -> None:
    n = lanes(isa, dtype)
    for columns, channels in ((2 * n, n), (4 * n, n), (4 * n, 2 * n - 1)):
        case = Case((rows, columns), (7, 6), channels, padding="same", data_format="channels_first")
        plan = native.make_plan(case.spec, (1, channels, rows, columns), dtype)
        assert plan.kernel_name(backward=False) == f"columns_forward_{dtype}_adjacent"
        check_exactly(case, dtype)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("activation", [None, "relu", "silu"])
def test_planes_of_whole_pages(dtype: str, activation: str | None) -> None:
    """A row of each falls into the same sets of a cache, so a few lines of each are read at a time."""
    elements = 4096 // DTYPES[dtype].itemsize
    for columns, channels in itertools.product((4, 8, 20, 72), (17, 40)):
        rows = elements // (columns & -columns)  # columns * rows is an odd number of pages
        case = Case((rows, columns), (2, 3), channels, strides=(3, 2), data_format="channels_first")
        check = check_within_bounds if activation == "silu" else check_exactly
        check(dataclasses.replace(case, activation=activation, padding="same"), dtype)
