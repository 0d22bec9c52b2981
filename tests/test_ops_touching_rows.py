"""Channels-first planes of short rows with nothing between them are transposed at once (csrc/kernels/rows.h,
`stage_planes`, and channels_forward.h, `make_planes`); those with gaps go row by row, and must give the same bits.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import depthwise
from depthwise import native
from tests.cases import DTYPES, Case, assert_same_bits, check_exactly
from tests.edges import STEPS, lanes

Array = NDArray[Any]

KERNELS = ((1, 3), (3, 3), (4, 2), (5, 5), (7, 1))


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 7, 9, 14, 17, 27, 28])
def test_rows_of_every_kind(dtype: str, width: int, isa: str) -> None:
    n = lanes(isa, dtype)
    for height, channels in itertools.product((1, 4, 9), (n // 2, n, 2 * n + 1, 7 * n + 3)):
        for kernel in KERNELS:
            case = Case(
                (height, width),
                kernel,
                channels,
                2,
                padding="same",
                data_format="channels_first",
                activation="relu",
            )
            check_exactly(case, dtype)


@pytest.mark.parametrize(("stride", "dilation"), STEPS)
@pytest.mark.parametrize("padding", ["valid", "same", ((5, 0), (0, 4)), ((0, 9), (7, 1))])
def test_steps(dtype: str, stride: int, dilation: int, padding: Any, isa: str) -> None:
    """With a dilation, the first row of results need not be the one that reads the first row of the plane."""
    channels = lanes(isa, dtype) + 3
    for strides, rates in itertools.product(
        {(stride, stride), (1, stride)}, {(dilation, dilation), (dilation, 1)}
    ):
        for size, kernel in itertools.product(((13, 9), (10, 13)), ((2, 2), (3, 3), (4, 2))):
            case = Case(
                size,
                kernel,
                channels,
                2,
                strides=strides,
                padding=padding,
                data_format="channels_first",
                dilation_rate=rates,
            )
            check_exactly(case, dtype)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("shape", [(1, 7, 70, 300), (3, 14, 14, 130), (1, 20, 20, 33), (2, 60, 3, 40)])
def test_any_number_of_threads_and_any_memory_give_the_same_bits(dtype: str, shape: tuple[int, ...]) -> None:
    batch, height, width, channels = shape
    rng = np.random.default_rng(3)
    x = rng.standard_normal((batch, channels, height, width)).astype(DTYPES[dtype])
    kernel = rng.standard_normal((3, 3, channels, 1)).astype(x.dtype)

    def with_gaps(array: Array) -> Array:
        wide = np.full((*array.shape[:3], width + 1), np.nan, array.dtype)
        wide[..., :-1] = array
        return wide[..., :-1]

    options: dict[str, Any] = {"padding": "same", "data_format": "channels_first", "activation": "relu"}
    before = native.get_num_threads()
    results = []
    try:
        for threads, image in itertools.product((1, 2, 3, 7), (x, with_gaps(x))):
            native.set_num_threads(threads)
            for out in (np.full_like(x, np.nan), with_gaps(x)):
                results += [depthwise.depthwise_conv2d(image, kernel, **options, out=out)]
    finally:
        native.set_num_threads(before)
    for result in results:
        assert_same_bits(result, results[0], str(shape))


def test_planes_too_large_to_be_staged_at_once(dtype: str, isa: str) -> None:
    """Narrow but tall, and small ones with far more results than elements."""
    n = lanes(isa, dtype)
    tall = Case((900, 5), (3, 3), n + 1, padding="same", data_format="channels_first")
    check_exactly(tall, dtype)
    grown = Case((3, 4), (2, 2), n + 1, padding=((40, 50), (60, 30)), data_format="channels_first")
    check_exactly(grown, dtype)
    check_exactly(dataclasses.replace(grown, multiplier=5), dtype)
