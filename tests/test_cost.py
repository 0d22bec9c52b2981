"""What a convolution is said to cost, against counts made by hand and by the reference."""

import math
import re
from typing import Any

import numpy as np
import pytest

from depthwise import reference
from depthwise.spec import Cost, Spec


def test_a_small_case_counted_by_hand() -> None:
    # 4x4 pixels, 3x3 taps, same: along an axis the taps meet 3, 4 and 3 of the 4 outputs, 10 pairs out of 12.
    cost = Spec(3, padding="same", depth_multiplier=2).cost((2, 4, 4, 3))
    assert cost == Cost(
        macs=2 * 16 * 6 * 9,
        macs_inside=2 * 6 * 10 * 10,
        flops=2 * 2 * 6 * 10 * 10,
        parameters=9 * 6 + 6,
        bytes_read=4 * (2 * 16 * 3 + 9 * 6 + 6),
        bytes_written=4 * (2 * 16 * 6),
        arithmetic_intensity=2400 / (624 + 768),
        receptive_field=(3, 3),
    )


def test_the_first_depthwise_layer_of_mobilenet() -> None:
    cost = Spec(3, padding="same", use_bias=False).cost((1, 112, 112, 32))
    assert cost.macs == 3_612_672
    assert cost.macs_inside == 32 * 334**2  # 112 + 2 * 111 pairs along each axis
    assert cost.parameters == 288
    assert cost.bytes_read == 4 * (112 * 112 * 32 + 288)
    assert cost.bytes_written == 4 * 112 * 112 * 32


def test_only_196_of_729_taps_of_a_27_kernel_meet_a_14_image() -> None:
    cost = Spec(27, padding="same").cost((1, 14, 14, 1))
    assert cost.macs == 196 * 729
    assert cost.macs_inside == 196 * 196


def test_without_padding_every_tap_meets_the_image() -> None:
    cost = Spec((3, 2), strides=(2, 1), dilation_rate=(1, 3)).cost((5, 9, 8, 7))
    assert cost.macs == cost.macs_inside == 5 * (4 * 5) * 7 * 6
    assert cost.receptive_field == (3, 4)


@pytest.mark.parametrize("padding", ["valid", "same", 1, (4, 0), ((5, 0), (0, 7)), ((0, 3), (2, 1))], ids=str)
@pytest.mark.parametrize("strides", [1, 2, (3, 1), (1, 5)], ids=str)
@pytest.mark.parametrize("dilation_rate", [1, 2, (1, 4)], ids=str)
@pytest.mark.parametrize("kernel_size", [1, 3, (2, 5)], ids=str)
def test_taps_inside_are_those_the_reference_adds_up(
    padding: Any, strides: Any, dilation_rate: Any, kernel_size: Any
) -> None:
    # With ones everywhere each multiply-accumulate that meets the image adds 1 to the sum of the output.
    spec = Spec(kernel_size, strides, padding, 2, dilation_rate=dilation_rate, use_bias=False)
    shape = (2, 9, 17, 3)
    ones = reference.depthwise_conv2d(np.ones(shape), np.ones(spec.kernel_shape(3)), None, spec)
    cost = spec.cost(shape)
    assert cost.macs_inside == ones.sum()
    assert cost.macs == ones.size * math.prod(spec.kernel_size)


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("float64", 8), ("float16", 2), ("bfloat16", 2)])
def test_bytes_follow_the_dtype(dtype: str, size: int) -> None:
    cost = Spec(3).cost((1, 5, 5, 2), dtype)
    assert (cost.bytes_read, cost.bytes_written) == (size * (50 + 18 + 2), size * 18)
    assert cost.arithmetic_intensity == pytest.approx(2 * 162 / (size * 88))


def test_both_data_formats_cost_the_same() -> None:
    last = Spec((3, 2), 2, "same", 3).cost((2, 9, 7, 5))
    first = Spec((3, 2), 2, "same", 3, "channels_first").cost((2, 5, 9, 7))
    assert last == first


def test_nothing_costs_nothing() -> None:
    cost = Spec(3).cost((4, 5, 5, 0))
    assert (cost.macs, cost.flops, cost.parameters, cost.bytes_read, cost.bytes_written) == (0, 0, 0, 0, 0)
    assert cost.arithmetic_intensity == 0.0
    assert Spec(3).cost((0, 5, 5, 2)).macs == 0


def test_a_cost_is_made_of_plain_numbers() -> None:
    cost = Spec(np.int64(3)).cost(np.zeros((1, 5, 5, 2)).shape)
    assert type(cost.macs) is int
    assert type(cost.arithmetic_intensity) is float


@pytest.mark.parametrize(
    ("shape", "dtype", "error", "message"),
    [
        (
            (None, 5, 5, 2),
            "float32",
            TypeError,
            "input_shape: expected known sizes (batch, height, width, channels), ",
        ),
        (
            (1, 2, 5, 2),
            "float32",
            ValueError,
            "kernel_size: expected a dilated kernel no larger than the padded input",
        ),
        (
            (5, 5, 2),
            "float32",
            ValueError,
            "input_shape: expected 4 sizes (batch, height, width, channels), got 3",
        ),
        (
            (1, 5, 5, 2),
            "int8",
            TypeError,
            "dtype: expected one of the dtypes float32, float64, float16, bfloat16, ",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_costed_is_refused(
    shape: Any, dtype: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        Spec(3).cost(shape, dtype)
