"""Outputs too large for the caches go past them (csrc/kernels/tuning.h): with the same bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import depthwise
from depthwise import native
from tests.cases import assert_same_bits

STREAMING = [isa for isa in native.supported_isas() if isa != "baseline"] or ["baseline"]
"""Those of this machine that write past the caches, if any does."""


# Large outputs are written past the caches, which takes whole lines: aligned, and of whole vectors.
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("isa", STREAMING, indirect=True)
@pytest.mark.parametrize("channels", [64, 72, 3])
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
def test_large_images_have_the_bits_of_small_ones(
    channels: int, offset: int, strides: int, dtype: type[np.floating[Any]]
) -> None:
    rng = np.random.default_rng(0)
    batch, size = 6, 2 * -(-11 * 2**20 // (6 * 72 * channels * np.dtype(dtype).itemsize))
    memory = rng.standard_normal(batch * size * 72 * channels + 128).astype(dtype)
    start = -memory.ctypes.data % 64 // memory.itemsize + offset
    x = memory[start:][: batch * size * 72 * channels].reshape(batch, size, 72, channels)
    kernel = rng.standard_normal((3, 3, channels, 1)).astype(dtype)
    options: dict[str, Any] = {"strides": strides, "padding": "same", "activation": "relu"}
    y, pullback = depthwise.depthwise_conv2d_vjp(x, kernel, **options)
    out = np.empty(y.size + 64, dtype)
    aligned = out[-out.ctypes.data % 64 // out.itemsize + offset :][: y.size].reshape(y.shape)
    depthwise.depthwise_conv2d(x, kernel, **options, out=aligned)
    assert_same_bits(aligned, y, "y, with and without out")
    dx = pullback(y).x
    for image in range(batch):
        one = slice(image, image + 1)
        small, small_pullback = depthwise.depthwise_conv2d_vjp(x[one], kernel, **options)
        assert_same_bits(y[one], small, f"y of image {image}")
        assert_same_bits(dx[one], small_pullback(small).x, f"dx of image {image}")


# So do smaller ones that would evict the input. The rows of one are asked for ahead whether columns are gone over in
# dense tiles or, where they are some KiB apart, a few at a time.
@pytest.mark.parametrize(("channels", "stride"), [(64, 3), (72, 3), (119, 2), (256, 2), (256, 3)])
def test_small_results_of_a_large_image_have_the_bits_of_small_ones(channels: int, stride: int) -> None:
    rng = np.random.default_rng(2)
    height = -(-20 * 2**20 // (6 * 133 * 4 * channels))
    x = rng.standard_normal((6, height, 133, channels)).astype(np.float32)
    kernel = rng.standard_normal((stride, stride, channels, 1)).astype(np.float32)
    options: dict[str, Any] = {"strides": stride, "activation": "relu"}
    y, pullback = depthwise.depthwise_conv2d_vjp(x, kernel, **options)
    assert y.nbytes < 8 * 2**20 < 20 * 2**20 < x.nbytes + y.nbytes
    dx = pullback(y).x
    for image in range(6):
        one = slice(image, image + 1)
        small, small_pullback = depthwise.depthwise_conv2d_vjp(x[one], kernel, **options)
        assert_same_bits(y[one], small, f"y of image {image}")
        assert_same_bits(dx[one], small_pullback(small).x, f"dx of image {image}")


# Rows so long that a few of them fill the second-level cache are cut into blocks of columns (channels_forward.h), here
# of 400 columns, 200 and 133.
@pytest.mark.parametrize(
    ("strides", "dilation", "kernel_size"), [(1, 1, (3, 3)), (2, 1, (3, 5)), (1, 3, (2, 4)), (3, 1, (4, 3))]
)
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_wide_images_have_the_bits_of_strips_of_them(
    strides: int, dilation: int, kernel_size: tuple[int, int], activation: str
) -> None:
    rng = np.random.default_rng(3)
    height = 60 * strides
    x = rng.standard_normal((1, height, 901, 64)).astype(np.float32)
    kernel = rng.standard_normal((*kernel_size, 64, 1)).astype(np.float32)
    bias = rng.standard_normal(64).astype(np.float32)
    options: dict[str, Any] = {"strides": strides, "dilation_rate": dilation, "activation": activation}
    y, pullback = depthwise.depthwise_conv2d_vjp(x, kernel, bias, **options)
    assert x.nbytes + y.nbytes >= 20 * 2**20
    reach = (kernel_size[0] - 1) * dilation + 1
    dbias = np.zeros(64)  # of what the derivative is taken from, too, which was written with y
    for row in range(y.shape[1]):
        strip = x[:, row * strides : row * strides + reach]
        small, small_pullback = depthwise.depthwise_conv2d_vjp(strip, kernel, bias, **options)
        assert_same_bits(y[:, row : row + 1], small, f"row {row}")
        gradient = small_pullback(np.ones_like(small)).bias
        assert gradient is not None
        dbias += gradient
    whole = pullback(np.ones_like(y)).bias
    assert whole is not None
    np.testing.assert_allclose(whole, dbias, rtol=1e-4, atol=1e-2)


# Columns that are no whole lines are made aside first, some of a row or two at a time (csrc/kernels/rows_aside.h): all
# of them, a third, a tile.
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("isa", STREAMING, indirect=True)
@pytest.mark.parametrize("channels", [72, 80, 40, 17, 200])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_large_results_between_others_leave_these_alone(
    channels: int, activation: str, dtype: type[np.floating[Any]]
) -> None:
    rng = np.random.default_rng(1)
    height = -(-10 * 2**20 // (48 * channels * np.dtype(dtype).itemsize))
    x = rng.standard_normal((1, height, 48, channels)).astype(dtype)
    kernel = rng.standard_normal((3, 3, channels, 1)).astype(dtype)
    options: dict[str, Any] = {"padding": "same", "activation": activation}
    y, pullback = depthwise.depthwise_conv2d_vjp(x, kernel, **options)
    dx = pullback(y).x
    for before, after in ((0, 0), (1, 2), (16, 0)):
        memory = np.full((1, height + 2, 48, before + channels + after), -7, dtype)
        out = memory[:, 1:-1, :, before : before + channels]
        depthwise.depthwise_conv2d(x, kernel, **options, out=out)
        assert_same_bits(out, y, "y")
        out[...] = -7
        pullback(y, out=depthwise.Gradients(out, np.empty_like(kernel), None))
        assert_same_bits(out, dx, "dx")
        out[...] = -7
        assert (memory == -7).all(), (before, after)
    upside_down = np.empty_like(y)
    depthwise.depthwise_conv2d(x, kernel, **options, out=upside_down[:, ::-1])
    assert_same_bits(upside_down[:, ::-1], y, "y from the last row on")


@pytest.mark.parametrize(("dilation", "sums"), [(1, "6.0 3.0"), (2**30, "2.0 3.0")])
def test_a_stride_out_of_proportion_costs_no_time_on_a_large_image_either(
    dilation: int, sums: str, python: Callable[..., str]
) -> None:
    """Rows of such images are asked for ahead: only those that there are, of each of many images."""
    program = f"""
import numpy as np, depthwise
x = np.ones((60, 5, 2_000, 16), np.float32)
kernel = np.ones((3, 3, 16, 1), np.float32)
y, pullback = depthwise.depthwise_conv2d_vjp(
    x, kernel, strides=(2**31 - 1, 1), padding="same", dilation_rate=({dilation}, 1)
)
print(y.min(), pullback(np.ones_like(y)).x[:, 2].max())
both = dict(strides=2**31 - 1, dilation_rate=2**30)
y = depthwise.depthwise_conv2d(x, np.ones((3, 3, 16, 1), np.float32), padding="same", **both)
print(y.shape, y.min(), y.max())
"""
    assert python(program, timeout=20) == f"{sums}\n(60, 1, 1, 16) 1.0 1.0\n"
