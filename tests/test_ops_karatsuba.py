"""Large kernels take places and taps two at a time, forward and back to input and kernel, with three products instead
of four (csrc/kernels/karatsuba.h): odd and even sizes, blocks of channels and rows, and what sums of differences must
not do.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import depthwise
from depthwise import native, reference
from tests.cases import (
    DTYPES,
    Arrays,
    Case,
    assert_equals_exact,
    assert_same_bits,
    check_exactly,
    check_within_bounds,
)
from tests.edges import lanes
from tests.tolerances import assert_within, bounded_forward, bounded_gradients

SQUARE = Case((32, 33), (21, 20), padding="same")


def takes_karatsuba(case: Case, dtype: str, *, backward: bool = False) -> bool:
    plan = native.make_plan(case.spec, case.x_shape, dtype)  # type: ignore[arg-type]  # four sizes
    direction = "input_gradient" if backward else "forward"
    return plan.kernel_name(backward=backward) == f"karatsuba_{direction}_{dtype}"


def run(case: Case, arrays: Arrays) -> np.ndarray:
    return depthwise.depthwise_conv2d(arrays.x, arrays.kernel, arrays.bias, **case.options)


def gradients(case: Case, arrays: Arrays) -> depthwise.Gradients:
    _, pullback = depthwise.depthwise_conv2d_vjp(arrays.x, arrays.kernel, arrays.bias, **case.options)
    return pullback(arrays.dy)


def test_large_kernels_and_no_others_go_that_way(dtype: str, data_format: str, isa: str) -> None:
    case = replace(SQUARE, channels=2 * lanes(isa, dtype), data_format=data_format)
    assert takes_karatsuba(case, dtype)
    assert takes_karatsuba(case, dtype, backward=True)
    assert f"karatsuba_kernel_gradient_{dtype}" in depthwise.info().kernels
    assert takes_karatsuba(replace(case, multiplier=2), dtype)
    assert not takes_karatsuba(replace(case, multiplier=2), dtype, backward=True)
    for other in (
        replace(case, kernel_size=(11, 11)),
        replace(case, kernel_size=(1, 500), padding=(0, 250)),
        replace(case, size=(9, 9)),
        replace(case, strides=(2, 1)),
        replace(case, strides=(1, 3)),
        replace(case, dilation_rate=(1, 2)),
        replace(case, multiplier=3),
        replace(case, channels=lanes(isa, dtype) - 1),
    ):
        assert not takes_karatsuba(other, dtype), other
        assert not takes_karatsuba(other, dtype, backward=True), other


@pytest.mark.parametrize("height", range(30, 34))
def test_every_parity_of_rows_and_columns(dtype: str, data_format: str, height: int, isa: str) -> None:
    channels = lanes(isa, dtype)
    for width, kernel_height, kernel_width in itertools.product((30, 33), (18, 19), (22, 23)):
        case = Case((height, width), (kernel_height, kernel_width), channels, data_format=data_format)
        for padding in ("same", ((9, 8), (5, 15)), ((5, 14), (12, 8))):
            assert takes_karatsuba(replace(case, padding=padding), dtype)
            if padding == "same":
                assert takes_karatsuba(replace(case, padding=padding), dtype, backward=True)
            check_exactly(replace(case, padding=padding, activation="relu"), dtype)


def test_channels_that_are_no_whole_blocks(dtype: str, data_format: str, isa: str) -> None:
    n = lanes(isa, dtype)
    for channels in (n, n + n // 2 + 1, 2 * n - 1, 3 * n, 17 * n, 33 * n - 1):
        case = replace(
            SQUARE, size=(24, 25), kernel_size=(17, 19), channels=channels, data_format=data_format
        )
        check_exactly(replace(case, activation=("leaky_relu", 0.25)), dtype)
    for multiplier in (2, 4):
        for channels in (n, n + 1, 5 * n // 2):
            check_exactly(
                replace(SQUARE, channels=channels, multiplier=multiplier, data_format=data_format), dtype
            )


@pytest.mark.usefixtures("isa")
def test_images_of_more_rows_than_a_block_has(dtype: str) -> None:
    """And of several images; then of rows so long that no block of them fits, which go another way."""
    for size in ((150, 31), (64, 160), (90, 90)):
        case = Case(size, (18, 17), 16, 2, padding="same")
        assert takes_karatsuba(case, dtype)
        check_exactly(case, dtype)
    wide = Case((20, 6000), (17, 17), 16, padding="same")
    assert not takes_karatsuba(wide, dtype)
    check_exactly(replace(wide, size=(18, 1200)), dtype)


@pytest.mark.usefixtures("isa")
def test_kernels_that_cover_the_image_from_every_column(dtype: str) -> None:
    """Where rows are cut to the elements that there are, and where they are not."""
    for width, kernel in itertools.product((20, 24, 25, 28, 32), (39, 48, 63)):
        check_exactly(Case((60, width), (21, kernel), 16, padding="same"), dtype)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("activation", [None, "relu6", "silu", "gelu", "tanh"])
def test_reals_and_what_is_kept_for_the_derivative(
    dtype: str, data_format: str, activation: str | None
) -> None:
    for size, kernel in (((28, 30), (29, 27)), ((40, 37), (13, 31))):
        case = Case(size, kernel, 19, padding="same", data_format=data_format, activation=activation)
        check_within_bounds(case, dtype)


def test_the_bits_do_not_depend_on_threads_memory_or_the_batch(
    dtype: str, isa: str, threads: Callable[[int], None]
) -> None:
    case = replace(SQUARE, channels=9 * lanes(isa, dtype) + 1, batch=3, activation="silu")
    arrays = case.reals(dtype).cast(dtype)
    arrays.x[1, 7, 8, 2] = np.nan  # one block of it is made another way
    threads(1)
    expected = run(case, arrays)
    assert np.isnan(expected[1]).any()
    for count in (2, 3, 5):
        threads(count)
        assert_same_bits(run(case, arrays), expected, f"{count} threads")
    for image in range(3):
        alone = replace(arrays, x=arrays.x[image : image + 1])
        assert_same_bits(run(case, alone), expected[image : image + 1], f"image {image}")
    apart = np.zeros((*arrays.x.shape[:3], 2 * case.channels), DTYPES[dtype])[..., ::2]
    apart[...] = arrays.x
    assert_same_bits(run(case, replace(arrays, x=apart)), expected, "channels that are apart")


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("where", ["x", "kernel", "bias"])
def test_what_is_not_finite_reaches_the_outputs_that_it_meets_and_no_others(
    dtype: str, data_format: str, special: float, where: str
) -> None:
    """An element meets products that its tap has no part in, and zeros beside the image."""
    for padding in ("same", "valid"):
        case = replace(SQUARE, channels=17, padding=padding, data_format=data_format)
        arrays = case.integers(seed=1)
        assert arrays.bias is not None
        target = {"x": arrays.x, "kernel": arrays.kernel, "bias": arrays.bias}[where]
        target.flat[target.size // 3] = special
        with np.errstate(invalid="ignore"):
            expected = reference.depthwise_conv2d(arrays.x, arrays.kernel, arrays.bias, case.spec)
        assert not np.isfinite(expected).all()
        actual = run(case, arrays.cast(dtype))
        assert_equals_exact(actual, expected, dtype, f"{special} in {where}, {dtype}, {case}")


def test_the_bits_of_gradients_do_not_depend_on_threads_or_memory(
    dtype: str, isa: str, threads: Callable[[int], None]
) -> None:
    case = replace(SQUARE, channels=5 * lanes(isa, dtype) + 1, batch=2, activation="silu")
    arrays = case.reals(dtype).cast(dtype)
    threads(1)
    expected = gradients(case, arrays)
    apart = np.zeros((*arrays.x.shape[:3], 2 * case.channels), DTYPES[dtype])[..., ::2]
    apart[...] = arrays.x
    for what, count, x in (("2 threads", 2, arrays.x), ("5 threads", 5, arrays.x), ("apart", 1, apart)):
        threads(count)
        actual = gradients(case, replace(arrays, x=x))
        for name in ("x", "kernel", "bias"):
            assert_same_bits(getattr(actual, name), getattr(expected, name), f"d{name}, {what}")


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("special", [np.nan, np.inf], ids=str)
@pytest.mark.parametrize("where", ["x", "dy", "kernel"])
def test_what_is_not_finite_reaches_the_gradients_that_it_meets_and_no_others(
    dtype: str, data_format: str, special: float, where: str
) -> None:
    case = replace(SQUARE, channels=17, data_format=data_format)
    arrays = case.integers(seed=2)
    target = {"x": arrays.x, "dy": arrays.dy, "kernel": arrays.kernel}[where]
    target.flat[target.size // 3] = special
    with np.errstate(invalid="ignore"):
        expected = reference.depthwise_conv2d_vjp(arrays.x, arrays.kernel, arrays.bias, arrays.dy, case.spec)
    actual = gradients(case, arrays.cast(dtype))
    reached = {"x": ("kernel",), "dy": ("x", "kernel", "bias"), "kernel": ("x",)}[where]
    for name, exact in zip(("x", "kernel", "bias"), expected, strict=True):
        assert exact is not None
        assert np.isfinite(exact).all() == (name not in reached)
        assert_equals_exact(getattr(actual, name), exact, dtype, f"{special} in {where}, d{name}, {case}")


@pytest.mark.usefixtures("isa")
def test_elements_whose_differences_overflow(data_format: str) -> None:
    """Nearly the largest float32 and its negative side by side: sums of their products are far smaller."""
    case = replace(SQUARE, channels=16, data_format=data_format, bias=False)
    arrays = case.reals("float32")
    rows = np.arange(case.size[0]) % 2 * 2.0 - 1.0
    columns = np.arange(case.size[1]) % 2 * 2.0 - 1.0
    signs = np.outer(rows, columns) * 3e38
    x = np.empty(case.x_shape)
    x[...] = signs[None, :, :, None] if data_format == "channels_last" else signs
    cast = replace(arrays, x=x, kernel=arrays.kernel / 1e4, dy=arrays.dy / 1e4).cast("float32")
    exact = [a.astype(float) for a in (cast.x, cast.kernel, cast.dy)]
    expected = bounded_forward(exact[0], exact[1], None, case.spec, "float32")
    assert_within(run(case, cast), expected, "y")
    dkernel = bounded_gradients(exact[0], exact[1], None, exact[2], case.spec, "float32")[1]
    assert_within(gradients(case, cast).kernel, dkernel, "dkernel")
