"""More than 2**31 elements: counters and offsets that do not fit 32 bits.

Memory that is never written takes none, so most of these arrays are large in address space alone.
"""

from __future__ import annotations

import math
import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import depthwise
from depthwise import native
from tests.cases import DTYPES, Arrays, Case, assert_same_bits, evaluate

Array = NDArray[Any]

LIMIT = 2**31
NORESERVE = 0x4000  # Linux's flag, which Python names since 3.11


def available_bytes() -> float:
    """What this process can still have, by what Linux says; unknown is taken for enough."""
    free = float("inf")
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        fields = dict(line.split(":") for line in meminfo.read_text().splitlines())
        free = 1024.0 * int(fields["MemAvailable"].split()[0])
    group = Path("/sys/fs/cgroup")
    if (group / "memory.max").exists() and (limit := (group / "memory.max").read_text().strip()) != "max":
        free = min(free, float(limit) - float((group / "memory.current").read_text()))
    return free


def needs(gigabytes: float) -> None:
    if available_bytes() < gigabytes * 1e9:
        pytest.skip(f"{gigabytes} GB of free memory are needed, {available_bytes() / 1e9:.1f} GB are there")


def zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Zeros that take memory only where they are written: the system need not have as much as they span."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", NORESERVE)
    try:
        memory = mmap.mmap(-1, math.prod(shape) * dtype.itemsize, flags=flags)
    except (OSError, MemoryError) as error:
        pytest.skip(f"this system gives no address space: {error}")
    return np.frombuffer(memory, dtype).reshape(shape)


def far_apart(shape: tuple[int, ...], dtype: np.dtype[Any], axis: int) -> Array:
    """Zeros whose elements along one axis are so far apart that the last lies beyond 2**31 elements.

    Along odd axes backwards.
    """
    order = (axis, *(other for other in range(4) if other != axis))
    step = LIMIT // ((shape[axis] - 1) * math.prod(shape[other] for other in order[1:])) + 1
    span = zeros((shape[axis] * step, *(shape[other] for other in order[1:])), dtype)
    view: Array = (span[::-step] if axis % 2 else span[::step]).transpose(np.argsort(order))
    assert view.shape == shape
    assert (shape[axis] - 1) * abs(view.strides[axis]) > LIMIT * dtype.itemsize
    return view


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("axis", range(4))
@pytest.mark.parametrize("channels", [3, 40])
def test_offsets_beyond_32_bits(data_format: str, dtype: str, axis: int, channels: int) -> None:
    case = Case((4, 5), (2, 3), channels, batch=3, multiplier=2, padding="same", data_format=data_format)
    arrays = case.integers().cast(dtype)
    expected = evaluate(case, arrays)

    def moved(array: Array) -> Array:
        view = far_apart(array.shape, array.dtype, axis)
        view[...] = array
        return view

    far = Arrays(moved(arrays.x), moved(arrays.kernel), arrays.bias, moved(arrays.dy))
    results = evaluate(case, far)
    for (name, actual), wanted in zip(results.parts().items(), expected.parts().values(), strict=True):
        assert_same_bits(actual, wanted, name)

    out = far_apart(case.y_shape, DTYPES[dtype], axis)
    depthwise.depthwise_conv2d(arrays.x, arrays.kernel, arrays.bias, out=out, **case.options)
    assert_same_bits(out, expected.y, "out")
    dx, dkernel = (far_apart(shape, DTYPES[dtype], axis) for shape in (case.x_shape, case.kernel_shape))
    plan = native.make_plan(case.spec, case.x_shape, dtype)  # type: ignore[arg-type]  # four sizes
    plan.backward(arrays.x, arrays.kernel, arrays.dy, None, dx, dkernel, None)
    assert_same_bits(dx, expected.dx, "dx")
    assert_same_bits(dkernel, expected.dkernel, "dkernel")


@pytest.mark.parametrize("channels", [1, 64])
def test_an_image_of_more_than_2_to_the_31_elements(data_format: str, channels: int) -> None:
    """Four windows far from each other, one in each corner, hold all that is not zero."""
    height, width = 3 * 2**14, 2**16 // channels * 3 // 2
    case = Case(
        (height, width),
        (3, 2),
        channels,
        strides=(height - 3, width - 2),
        data_format=data_format,
        bias=False,
    )
    x = zeros(case.x_shape, DTYPES["float16"])
    assert x.size > LIMIT
    small = Case((6, 4), (3, 2), channels, strides=(3, 2), data_format=data_format, bias=False)
    arrays = small.integers().cast("float16")
    axes = (1, 2) if data_format == "channels_last" else (2, 3)
    for rows in (slice(0, 3), slice(-3, None)):
        for columns in (slice(0, 2), slice(-2, None)):
            corner: list[slice] = [slice(None)] * 4
            corner[axes[0]], corner[axes[1]] = rows, columns
            x[tuple(corner)] = arrays.x[tuple(corner)]
    actual = depthwise.depthwise_conv2d(x, arrays.kernel, **case.options)
    expected = depthwise.depthwise_conv2d(arrays.x, arrays.kernel, **small.options)
    assert actual.any()
    assert_same_bits(actual, expected, "y")


def assert_all_are(array: Array, value: float) -> None:
    """Every element, compared in pieces: a mask of all of them would be as large again as half of them."""
    flat = array.reshape(-1).view(np.uint16)
    bits = np.array(value, array.dtype).view(np.uint16)
    for start in range(0, flat.size, 2**20):
        assert (flat[start : start + 2**20] == bits).all(), f"from {start} on"


@pytest.mark.parametrize(("data_format", "channels"), [("channels_last", 64), ("channels_first", 1)])
def test_results_of_more_than_2_to_the_31_elements(data_format: str, channels: int) -> None:
    """The output and the gradient of the input, both of which have to be written in full."""
    needs(6)
    height, width = 2**15 + 1, 2**16 // channels
    case = Case((height, width), (1, 1), channels, data_format=data_format, bias=False)
    image = np.broadcast_to(np.float16(3), case.x_shape)
    assert image.size > LIMIT
    plan = native.make_plan(case.spec, case.x_shape, "float16")  # type: ignore[arg-type]  # four sizes
    kernel, result = np.full(case.kernel_shape, 5, np.float16), zeros(case.x_shape, DTYPES["float16"])
    plan.forward(image, kernel, None, result, None)
    assert_all_are(result, 15)
    plan.backward(image, kernel * np.float16(2), image, None, result, None, None)
    assert_all_are(result, 30)


@pytest.mark.parametrize("channels", [1, 64])
def test_gradients_that_sum_more_than_2_to_the_31_elements(data_format: str, channels: int) -> None:
    """One channel: so many products in one sum. As doubles, they are counted exactly."""
    size = (2**15 + 1, 2**16 // channels)
    case = Case(size, (1, 1), channels, data_format=data_format)
    ones = np.broadcast_to(np.float64(1), case.x_shape)
    assert ones.size > LIMIT
    plan = native.make_plan(case.spec, case.x_shape, "float64")  # type: ignore[arg-type]  # four sizes
    dkernel, dbias = np.zeros(case.kernel_shape), np.zeros(channels)
    plan.backward(ones, np.ones(case.kernel_shape), ones, None, None, dkernel, dbias)
    assert (dkernel == size[0] * size[1]).all()
    assert (dbias == size[0] * size[1]).all()


def test_sizes_whose_product_does_not_fit_64_bits_are_refused() -> None:
    """With strides of 0 such an image takes four bytes; nothing may be computed from a product that wrapped."""
    x = np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), (2**20, 2**20, 2**20, 1), (0, 0, 0, 0))
    with pytest.raises((ValueError, MemoryError)):
        depthwise.depthwise_conv2d(x, np.zeros((1, 1, 1, 16), np.float32))
