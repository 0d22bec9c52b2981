"""Few channels side by side have kernels of their own forward (csrc/kernels/pixels_forward.h): vectors run on from
pixel to pixel, and rows of results go 8, 4 or 1 at a time through tiles.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

import depthwise
from depthwise.spec import DataFormat
from tests.cases import DTYPES, Case, assert_same_bits, check_exactly, check_within_bounds
from tests.edges import STEPS, lanes

PIXELS = [
    (channels, multiplier)
    for multiplier in (1, 2, 3, 5)
    for channels in (1, 2, 3, 5, 9)
    if channels * multiplier < 16
]


@pytest.mark.parametrize(("channels", "multiplier"), PIXELS)
def test_every_number_of_columns_around_vectors(dtype: str, channels: int, multiplier: int, isa: str) -> None:
    vector = lanes(isa, dtype)
    for columns in {1, 2, 3, vector - 1, vector, vector + 1, 2 * vector + 3}:
        for stride in (1, 2, 3):
            case = Case((5, columns * stride), (2, 3), channels, multiplier=multiplier, strides=(1, stride))
            check_exactly(replace(case, padding="same", activation="relu"), dtype)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("kernel_height", range(1, 13))
def test_every_height_of_kernel_and_number_of_rows(dtype: str, kernel_height: int) -> None:
    for rows in range(1, 20):
        case = Case((rows + kernel_height - 1, 9), (kernel_height, 2), 3, 2)
        check_exactly(case, dtype)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize(("stride", "dilation"), [*STEPS, (4, 1), (4, 3), (5, 2), (6, 4)])
def test_rows_and_columns_in_every_class(dtype: str, stride: int, dilation: int) -> None:
    for rows, (kernel_height, kernel_width) in itertools.product(
        (1, 3, 4, 7, 8, 11, 26), ((1, 2), (3, 1), (4, 3))
    ):
        for strides, dilations in (((stride, 1), (dilation, 2)), ((2, stride), (1, dilation))):
            case = Case(
                (rows * strides[0], 10 * strides[1]), (kernel_height, kernel_width), 3, strides=strides
            )
            check_exactly(replace(case, dilation_rate=dilations, padding="same", batch=2), dtype)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("padding", ["same", "valid", ((0, 9), (4, 0)), ((7, 0), (0, 30)), 13])
def test_paddings_and_activations(dtype: str, padding: object) -> None:
    for channels, activation in itertools.product((2, 7), (None, "relu6", ("leaky_relu", 0.25))):
        check_exactly(Case((6, 7), (3, 5), channels, 2, padding=padding, activation=activation), dtype)
    check_within_bounds(Case((6, 7), (3, 5), 5, padding=padding, activation="silu", bias=False), dtype)


@pytest.mark.parametrize("apart", range(2, 13))
def test_elements_that_are_picked_from_between_others(dtype: str, apart: int, isa: str) -> None:
    """Gradients go plane by plane there, and each plane's elements are so far apart."""
    vector = lanes(isa, dtype)
    layouts: tuple[DataFormat, ...] = ("channels_last", "channels_first")
    for columns in {1, 2, vector - 1, vector, vector + 1, 2 * vector + 3}:
        case = Case((3, columns * apart), (2, 2), 1, 2, strides=(1, apart), activation="relu")
        for layout in layouts:
            check_exactly(replace(case, data_format=layout, padding="same"), dtype)
        if apart <= 5:
            many = Case((6, columns + 4), (5, 5), apart, 2, padding="same")
            check_exactly(replace(many, activation=("leaky_relu", 0.25)), dtype)
            check_exactly(Case((3, columns + 1), (2, 2), 1, 2, multiplier=apart, activation="relu"), dtype)


# More than a block holds: the bits are those of a cut of the image.
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize(
    ("size", "strides"), [((31, 9001), (1, 1)), ((40, 8000), (3, 2)), ((3000, 37), (1, 1))]
)
def test_blocks_of_large_images(dtype: str, size: tuple[int, int], strides: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    of = DTYPES[dtype]
    x = rng.standard_normal((1, *size, 2), np.float32).astype(of)
    kernel = rng.standard_normal((9, 5, 2, 1)).astype(of)
    y = depthwise.depthwise_conv2d(x, kernel, strides=strides)
    for row, column in ((0, 0), (y.shape[1] - 1, y.shape[2] // 2), (y.shape[1] // 2, y.shape[2] - 7)):
        h, w = row * strides[0], column * strides[1]
        part = depthwise.depthwise_conv2d(x[:, h:, w:][:, :60, :60], kernel, strides=strides)
        assert_same_bits(
            y[:, row:, column:][:, : part.shape[1], : part.shape[2]], part, f"at {row}, {column}"
        )


@pytest.mark.usefixtures("isa")
def test_results_that_are_no_run(dtype: str) -> None:
    of = DTYPES[dtype]
    for multiplier, strides in itertools.product((1, 2), ((1, 1), (2, 3))):
        case = Case((21, 10), (4, 3), 3, 2, multiplier, strides, padding="same", activation="relu")
        arrays = case.reals(dtype).cast(dtype)
        y = depthwise.depthwise_conv2d(arrays.x, arrays.kernel, arrays.bias, **case.options)
        for out in (
            np.zeros((*y.shape[:3], 20), of)[..., 3 : 3 + y.shape[3]],
            np.zeros((*y.shape[:3], 3 * y.shape[3]), of)[..., ::3],
            np.zeros(y.shape[::-1], of).T,
        ):
            depthwise.depthwise_conv2d(arrays.x, arrays.kernel, arrays.bias, out=out, **case.options)
            assert_same_bits(out, y, "out")
            if out.base is not None and out.base.shape[-1] == 20:
                assert not out.base[..., :3].any()
                assert not out.base[..., 3 + y.shape[3] :].any()


@pytest.mark.usefixtures("isa")
def test_images_that_are_no_run(dtype: str) -> None:
    case = Case((21, 10), (4, 3), 3, 2, strides=(1, 2), padding="same")
    arrays = case.reals(dtype).cast(dtype)
    y = depthwise.depthwise_conv2d(arrays.x, arrays.kernel, arrays.bias, **case.options)
    wide = np.full((2, 21, 10, 20), np.nan, DTYPES[dtype])
    for x in (wide[..., 4:7], wide[..., :9:3], np.ascontiguousarray(arrays.x[:, :, ::-1])[:, :, ::-1]):
        x[...] = arrays.x
        assert_same_bits(depthwise.depthwise_conv2d(x, arrays.kernel, arrays.bias, **case.options), y, "y")
    row = arrays.x[:, :, :1]
    expected = depthwise.depthwise_conv2d(
        np.repeat(row, 10, axis=2), arrays.kernel, arrays.bias, **case.options
    )
    repeated = np.broadcast_to(row, arrays.x.shape)
    assert_same_bits(
        depthwise.depthwise_conv2d(repeated, arrays.kernel, arrays.bias, **case.options), expected, "y"
    )


# A weight times the zeros around the image would make NaN of what never met it.
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_meets_no_padding(value: float) -> None:
    x = np.ones((1, 6, 6, 3), np.float32)
    kernel = np.ones((3, 3, 3, 1), np.float32)
    kernel[0, 0, 1] = value
    y = depthwise.depthwise_conv2d(x, kernel, padding="same")
    touched = np.zeros(y.shape, bool)
    touched[:, 1:, 1:, 1] = True
    assert (np.isfinite(y) == ~touched).all()


# Five and more channels at a stride are read in place, if taps are few (csrc/kernels/channels_forward.h), most lanes of
# a vector being empty.
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("channels", [2, 3, 5, 7, 8, 12, 15])
@pytest.mark.parametrize("strides", [(2, 2), (3, 3), (1, 3), (3, 1), (5, 4)])
def test_channels_that_fill_no_vector_at_a_stride(
    dtype: str, channels: int, strides: tuple[int, int]
) -> None:
    for size, kernel in itertools.product(((7, 30), (19, 5), (3, 1)), ((3, 3), (2, 2), (1, 4), (5, 1))):
        for padding, activation in (("same", "relu"), ("valid", None), (((2, 0), (0, 5)), "relu6")):
            if padding == "valid" and (size[0] < kernel[0] or size[1] < kernel[1]):
                continue
            case = Case(size, kernel, channels, strides=strides, padding=padding, activation=activation)
            check_exactly(replace(case, batch=2), dtype)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("channels", [5, 12])
def test_channels_apart_in_memory_at_a_stride_give_the_same_bits(channels: int) -> None:
    rng = np.random.default_rng(channels)
    x = rng.standard_normal((2, 11, 23, channels)).astype(np.float32)
    kernel = rng.standard_normal((3, 3, channels, 1)).astype(np.float32)
    y = depthwise.depthwise_conv2d(x, kernel, strides=2, padding="same")
    apart = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, -1, 0)), 0, -1)
    assert_same_bits(depthwise.depthwise_conv2d(apart, kernel, strides=2, padding="same"), y, "y")


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_weights_that_are_not_finite_do_not_meet_padding_at_a_stride(value: float) -> None:
    x = np.ones((1, 5, 9, 6), np.float32)
    kernel = np.ones((3, 3, 6, 1), np.float32)
    kernel[0, 0, 2] = value
    y = depthwise.depthwise_conv2d(x, kernel, strides=2, padding=1)
    assert np.isfinite(y[0, 0]).all()
    assert np.isfinite(y[0, :, 0]).all()
    assert not np.isfinite(y[0, 1:, 1:, 2]).any()
    assert np.isfinite(np.delete(y, 2, axis=-1)).all()


# A block has a tile of each class of rows, and fewer columns where so many rows are staged.
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dilation", [(2, 1), (3, 3)])
def test_blocks_of_dilated_rows(dtype: str, dilation: tuple[int, int]) -> None:
    for channels, kernel in ((2, (9, 4)), (5, (8, 3)), (10, (8, 8))):
        case = Case((43, 121), kernel, channels, dilation_rate=dilation, padding="same")
        check_exactly(replace(case, activation="relu"), dtype)


# The input's gradient of up to three channels is summed element by element (csrc/kernels/tuning.h).
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("multiplier", [2, 3, 4, 5, 8, 17])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_gradients_of_few_channels_with_a_multiplier(
    dtype: str, multiplier: int, data_format: DataFormat
) -> None:
    for channels, strides in itertools.product(range(1, 5), ((1, 1), (2, 3))):
        case = Case((9, 14), (3, 4), channels, multiplier=multiplier, strides=strides)
        check_exactly(replace(case, data_format=data_format, padding="same", activation="relu"), dtype)
