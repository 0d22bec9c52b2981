"""Dense tiles: every width of tile and piece of a row of taps, classes of columns, pairs of rows, clipped tiles.

On integers, on every instruction set; dtypes and layouts take turns.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import depthwise
from depthwise import Spec
from depthwise import reference as truth
from tests import tolerances
from tests.cases import (
    Arrays,
    Case,
    Results,
    assert_equals_exact,
    check_exactly,
    check_within_bounds,
    evaluate,
    evaluate_reference,
)
from tests.edges import (
    STEPS,
    around_pairs,
    around_tiles,
    classes_of_inputs,
    classes_of_outputs,
    lanes,
)

CHANNELS = 17  # whole vectors of every instruction set, and one that overlaps the vector before it

KERNEL_WIDTHS = [*range(1, 17), 27]  # up to three pieces of every length, and six


# Without a dilation test_ops_forward.py tries them.
DILATED = [(stride, dilation) for stride, dilation in STEPS if dilation > 1]

# Channels-first images go through the same tiles, transposed on the way.
TURNS = (
    ("float32", "channels_last"),
    ("float64", "channels_last"),
    ("float16", "channels_last"),
    ("float32", "channels_first"),
    ("bfloat16", "channels_last"),
)


def check_in_turns(cases: Iterator[Case], first: int) -> None:
    """Each case in one of the dtypes and layouts."""
    turns = itertools.islice(itertools.cycle(TURNS), first, None)
    for (dtype, data_format), case in zip(turns, cases, strict=False):
        check_exactly(dataclasses.replace(case, data_format=data_format), dtype)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("kernel_width", KERNEL_WIDTHS)
def test_every_number_of_columns_in_every_class_of_outputs(kernel_width: int) -> None:
    def cases() -> Iterator[Case]:
        for stride, dilation in DILATED:
            for columns in around_tiles(classes_of_outputs(stride, dilation)):
                width = (columns - 1) * stride + (kernel_width - 1) * dilation + 1
                yield Case(
                    (3, width), (2, kernel_width), CHANNELS, strides=(1, stride), dilation_rate=(1, dilation)
                )

    check_in_turns(cases(), kernel_width)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("kernel_width", [1, 2, 3, 4, 5, 6, 7, 10, 11, 13, 16, 27])
def test_every_number_of_columns_in_every_class_of_inputs(kernel_width: int) -> None:
    def cases() -> Iterator[Case]:
        for stride, dilation in STEPS:
            for width in around_tiles(classes_of_inputs(stride, dilation)):
                yield Case(
                    (3, width),
                    (2, kernel_width),
                    CHANNELS,
                    strides=(1, stride),
                    padding="same",
                    dilation_rate=(1, dilation),
                )

    check_in_turns(cases(), kernel_width)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("columns", range(3, 18))
def test_kernels_that_reach_over_the_whole_row_from_every_column(columns: int) -> None:
    def cases() -> Iterator[Case]:
        for width in (2 * columns - 3, 2 * columns - 1, 2 * columns + 2):
            for height, kernel_height in ((1, 3), (2, 1), (3, 3), (5, 9)):
                yield Case((height, columns), (kernel_height, width), CHANNELS, padding="same")
        yield Case((3, columns), (3, columns + 1), CHANNELS, padding="same", dilation_rate=(1, 2))
        yield Case((2, columns), (2, 2 * columns), 7, multiplier=3, padding="same")

    check_in_turns(cases(), columns)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_kernels_whose_weights_lie_a_power_of_two_apart(dtype: str) -> None:
    check_exactly(Case((6, 7), (13, 13), 256, padding="same"), dtype)
    check_exactly(Case((9, 11), (12, 12), 128, multiplier=2, padding="same"), dtype)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("kernel_height", [1, 2, 6])
@pytest.mark.parametrize("column", [(1, 1, 9), (1, 3, 13), (2, 2, 10), (2, 1, 9)], ids=str)
def test_every_number_of_rows_in_pairs_and_alone(kernel_height: int, column: tuple[int, int, int]) -> None:
    stride_width, dilation_width, width = column

    def cases() -> Iterator[Case]:
        for stride, dilation in [*STEPS, (1, 4), (2, 4)]:
            reach = (kernel_height - 1) * dilation
            for distance, gradient in (
                (classes_of_outputs(stride, dilation), False),
                (classes_of_inputs(stride, dilation), True),
            ):
                for rows in around_pairs(distance):
                    height = rows if gradient else (rows - 1) * stride + reach + 1
                    yield Case(
                        (height, width),
                        (kernel_height, 2),
                        CHANNELS,
                        strides=(stride, stride_width),
                        padding=((reach if gradient else 0, 0), (1, 1)),
                        dilation_rate=(dilation, dilation_width),
                    )

    check_in_turns(cases(), kernel_height)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("kernel_height", [1, 2, 3, 5])
def test_pairs_of_rows_of_which_one_or_both_meet_nothing(kernel_height: int) -> None:
    def cases() -> Iterator[Case]:
        for stride, dilation in STEPS:
            reach = (kernel_height - 1) * dilation
            for top, bottom in itertools.product((0, reach, reach + 1, reach + 2 * dilation + 1), repeat=2):
                for height in (1, 4):
                    if height + top + bottom > reach:
                        yield Case(
                            (height, 9),
                            (kernel_height, 3),
                            CHANNELS,
                            strides=(stride, 1),
                            padding=((top, bottom), (1, 1)),
                            dilation_rate=(dilation, 1),
                        )

    check_in_turns(cases(), kernel_height)


def clipped(kernel_width: int) -> Iterator[Case]:
    """Tiles with columns on the padding: some of them, all of them; images narrower than a tile, and a tap wide."""
    for stride, dilation in STEPS:
        reach = (kernel_width - 1) * dilation
        for left, right in ((reach, 0), (0, reach), (1, 2), (reach + 1, reach + 9), (reach + 20, 1)):
            for width in (1, 6, 19):
                if width + left + right >= reach + 1 + 3 * stride:
                    yield Case(
                        (3, width),
                        (2, kernel_width),
                        CHANNELS,
                        strides=(1, stride),
                        padding=((1, 0), (left, right)),
                        dilation_rate=(1, dilation),
                    )


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("kernel_width", [1, 2, 3, 5, 6, 11, 27])
def test_tiles_that_lie_partly_or_wholly_on_the_padding(kernel_width: int) -> None:
    check_in_turns(clipped(kernel_width), kernel_width)


@pytest.mark.usefixtures("isa")
def test_tiles_of_several_blocks_and_threads(dtype: str) -> None:
    for case in (
        Case((37, 29), (3, 3), 100, padding="same", dilation_rate=(3, 2)),
        Case((25, 31), (3, 7), 70, batch=2, strides=(2, 3), padding="same", dilation_rate=(2, 3)),
        Case((23, 26), (5, 6), 41, padding=((11, 0), (0, 17)), multiplier=2, dilation_rate=(2, 1)),
    ):
        check_exactly(case, dtype)


@pytest.mark.usefixtures("isa")
def test_real_numbers_in_tiles_with_dilations_and_padding(dtype: str) -> None:
    for case in (
        Case((11, 26), (3, 7), 33, padding="same", dilation_rate=(2, 3), activation="silu"),
        Case((9, 13), (4, 11), 17, strides=(1, 2), padding=((6, 2), (12, 3)), activation="relu"),
        Case((5, 69), (3, 3), 33, padding="same", activation="silu"),  # tiles of one width in one call
    ):
        check_within_bounds(case, dtype)


# Taps that are no further apart than results: many channels of a few columns at a time.
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("channels", [63, 64, 65, 131])
@pytest.mark.parametrize("padding", ["valid", "same", ((1, 0), (3, 5))], ids=str)
def test_columns_that_have_no_elements_in_common(dtype: str, channels: int, padding: Any) -> None:
    for kernel_width, stride in ((1, 1), (1, 3), (2, 2), (2, 3), (3, 3)):
        for width in (kernel_width, 4 * stride + kernel_width, 13 * stride):
            for height, stride_height in ((1, 1), (2, 2), (3, 1)):
                case = Case((7, width), (height, kernel_width), channels, strides=(stride_height, stride))
                check_exactly(dataclasses.replace(case, padding=padding, activation="relu"), dtype)


# A clipped tile multiplies zeros where an element lies on the padding, which a weight that is not finite would spoil.
SPECIALS = (np.inf, np.nan, -np.inf)

CLIPPED = [
    Case((4, 9), (3, 3), 40, padding="same"),
    Case((4, 9), (3, 3), 5, padding="same", multiplier=3),
    Case((5, 21), (2, 7), CHANNELS, padding="same"),
    Case((3, 6), (3, 13), CHANNELS, padding="same"),
    Case((7, 26), (2, 4), CHANNELS, padding="same", dilation_rate=(2, 3)),
    Case((6, 25), (3, 5), CHANNELS, strides=(2, 3), padding="same", dilation_rate=(2, 3)),
    Case((5, 11), (3, 6), CHANNELS, strides=(1, 2), padding=((5, 4), (20, 3))),
    Case((1, 1), (3, 5), CHANNELS, padding=((4, 3), (9, 8))),
]
EVERY_CLIPPED = pytest.mark.parametrize("case", CLIPPED, ids=range(len(CLIPPED)))


@functools.cache
def spoilt(case: Case, where: str, index: int, special: float) -> tuple[Arrays, Results]:
    """Integers but for one element; what the reference makes of them."""
    arrays = case.integers(seed=index)
    array = {"x": arrays.x, "kernel": arrays.kernel, "dy": arrays.dy}[where]
    array.flat[index * 7919 % array.size] = special
    with np.errstate(invalid="ignore"):
        return arrays, evaluate_reference(case, arrays)


@pytest.mark.usefixtures("isa")
@EVERY_CLIPPED
@pytest.mark.parametrize("where", ["x", "kernel", "dy"])
def test_one_element_that_is_not_finite_does_not_leak_from_the_padding(
    dtype: str, case: Case, where: str
) -> None:
    for index, special in enumerate(SPECIALS * 2):
        arrays, expected = spoilt(case, where, index, special)
        what = f"with {special} in {where}, {dtype}, {case}"
        for name, actual in evaluate(case, arrays.cast(dtype)).parts().items():
            assert_equals_exact(actual, expected.parts()[name], dtype, f"{name} {what}")


@pytest.mark.usefixtures("isa")
@EVERY_CLIPPED
def test_a_weight_that_is_not_finite_leaves_other_channels_as_accurate_as_they_were(
    dtype: str, case: Case
) -> None:
    arrays = case.reals(dtype, seed=2)
    y = tolerances.bounded_forward(arrays.x, arrays.kernel, arrays.bias, case.spec, dtype)
    dx = tolerances.bounded_gradients(arrays.x, arrays.kernel, arrays.bias, arrays.dy, case.spec, dtype)[0]
    channel = case.channels // 2
    arrays.kernel[-1, case.kernel_size[1] // 2, channel, 0] = np.inf
    with np.errstate(invalid="ignore"):
        expected = evaluate_reference(case, arrays)
    actual = evaluate(case, arrays.cast(dtype))
    for name, value, bounded, reference in (
        ("y", actual.y, y, expected.y),
        ("dx", actual.dx, dx, expected.dx),
    ):
        finite = np.isfinite(reference)
        assert not finite.all(), name
        assert finite[
            ..., np.arange(finite.shape[-1]) // (finite.shape[-1] // case.channels) != channel
        ].all()
        assert (np.isfinite(value.astype(np.float64)) == finite).all(), name
        within = tolerances.Bounded(bounded.value[finite], bounded.bound[finite])
        tolerances.assert_within(value[finite], within, f"{name} of {dtype}, {case}")


# Kernels up to, and beyond, those whose tiles are clipped (csrc/kernels/tuning.h: 8192 elements in all rows of taps).
VAST = [
    Case((3, 2727), (2, 2723), 16, padding=((0, 0), (1, 2)), bias=False),  # 8190, then 8193
    Case((3, 2727), (2, 2724), 16, padding=((0, 0), (1, 2)), bias=False),
    Case((96, 100), (90, 90), 16, padding=((1, 0), (0, 2))),
]


@functools.cache
def vast(number: int, weight: float | None) -> tuple[Arrays, Results]:
    case = VAST[number]
    arrays = case.integers(largest=3)
    if weight is not None:
        arrays.kernel[1, 0, 7, 0] = weight
    with np.errstate(invalid="ignore"):
        return arrays, evaluate_reference(case, arrays)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("number", range(len(VAST)), ids=lambda number: str(VAST[number].kernel_size))
@pytest.mark.parametrize("weight", [None, np.nan], ids=["finite", "nan"])
def test_kernels_too_large_for_clipped_tiles(number: int, weight: Any) -> None:
    arrays, expected = vast(number, weight)
    for dtype in ("float32", "bfloat16"):
        for name, actual in evaluate(VAST[number], arrays.cast(dtype)).parts().items():
            what = f"{name} of {dtype}, kernel of {VAST[number].kernel_size}"
            assert_equals_exact(actual, expected.parts()[name], dtype, what)


@pytest.mark.parametrize(
    ("kernel", "strides"), [((2, 2), (2, 2)), ((3, 3), (3, 3)), ((1, 3), (1, 3)), ((5, 2), (2, 3))]
)
def test_columns_that_share_no_element(
    dtype: str, kernel: tuple[int, int], strides: tuple[int, int], isa: str
) -> None:
    """By four or by two, as their pixels are many or lie some KiB apart; what is left of either, and at the edges."""
    n = lanes(isa, dtype)
    for channels, columns in itertools.product((4 * n, 4 * n + 3, 7 * n - 1, 16 * n), range(1, 8)):
        size = 2 * strides[0] + 1, columns * strides[1]
        for padding in ("valid", ((0, 1), (1, 2))):
            check_exactly(Case(size, kernel, channels, 1, 1, strides, padding), dtype)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("stride", [1, 2])
def test_results_a_little_after_their_input_in_a_page(dtype: str, stride: int) -> None:
    """Where columns are a multiple of 512 bytes apart, tiles begin with the last of the channels then."""
    page, line, apart = 4096, 64, 512
    rng = np.random.default_rng(0)
    itemsize = np.dtype(dtype).itemsize
    kernel_size, size = (3, 5), (6, 19)  # clipped tiles at both ends

    def allocate(width: int, after: int) -> Any:
        columns = np.empty(page + size[0] * width * 2 * apart + after, np.uint8)
        columns = columns[-columns.ctypes.data % page + after :][: size[0] * width * 2 * apart]
        return columns.view(dtype).reshape(1, size[0], width, 2 * apart // itemsize)

    # All of a column's, and some of which the last vector overlaps the one before it.
    for channels in (2 * apart // itemsize, apart // itemsize - 3):
        x = allocate(size[1], 0)[..., :channels]
        x[...] = rng.integers(-4, 5, x.shape)
        kernel = rng.integers(-4, 5, (*kernel_size, channels, 1)).astype(dtype)
        options: dict[str, Any] = {"strides": stride, "padding": "same", "activation": "relu"}
        expected = truth.depthwise_conv2d(x, kernel, None, Spec(kernel_size, **options, use_bias=False))
        for after in (0, itemsize, line, 2 * line, 3 * line, apart - line):
            out = allocate(expected.shape[2], after)[:, : expected.shape[1], :, :channels]
            depthwise.depthwise_conv2d(x, kernel, **options, out=out)
            np.testing.assert_array_equal(out, expected, f"{channels} channels, results {after} bytes after")
