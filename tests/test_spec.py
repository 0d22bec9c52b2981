"""What a spec says of padding, sizes, shapes and dtypes."""

import copy
import dataclasses
import doctest
import math
import pickle
import re
from typing import Any

import numpy as np
import pytest

import depthwise.activations
import depthwise.spec
from depthwise.activations import Activation
from depthwise.spec import DTYPES, Spec, check_dtypes


def make(**arguments: Any) -> Spec:
    return Spec(**({"kernel_size": 3} | arguments))


# Identity


def test_strides_and_dilation_may_be_combined() -> None:
    assert Spec(3, strides=(2, 3), dilation_rate=(4, 5)).output_size((20, 30)) == (6, 7)


def test_specs_that_mean_the_same_are_equal_and_hash_equal() -> None:
    short = Spec(3, 2, "SAME", activation="swish")
    long = Spec([3, 3], (2, 2), "same", 1, "channels_last", (1, 1), Activation("silu"), True)
    assert short == long
    assert len({short, long}) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"kernel_size": (3, 2)},
        {"strides": (1, 2)},
        {"padding": "same"},
        {"depth_multiplier": 2},
        {"data_format": "channels_first"},
        {"dilation_rate": (2, 1)},
        {"activation": "relu"},
        {"use_bias": False},
    ],
    ids=str,
)
def test_every_argument_makes_a_difference(change: dict[str, Any]) -> None:
    changed = dataclasses.replace(Spec(3), **change)
    assert changed != Spec(3)
    assert changed == make(**change)


def test_a_spec_survives_pickling_and_copying_and_cannot_be_changed() -> None:
    spec = Spec((3, 5), padding=((1, 2), (3, 4)), activation=("elu", 0.5))
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert copy.deepcopy(spec) == spec
    with pytest.raises(AttributeError):
        spec.strides = (2, 2)  # type: ignore[misc]


def test_from_kernel_reads_size_and_multiplier_off_the_kernel() -> None:
    assert Spec.from_kernel((3, 5, 7, 2)) == Spec((3, 5), depth_multiplier=2)
    assert Spec.from_kernel(
        np.zeros((2, 3, 0, 1)).shape,
        strides=2,
        padding="same",
        data_format="channels_first",
        dilation_rate=(2, 3),
        activation="relu",
        use_bias=False,
    ) == Spec((2, 3), 2, "same", 1, "channels_first", (2, 3), "relu", False)


@pytest.mark.parametrize(
    ("shape", "error", "message"),
    [
        (
            (3, 3, 8),
            ValueError,
            "expected 4 sizes (kernel height, kernel width, channels, depth multiplier), got 3: (3, 3, 8)",
        ),
        (
            (0, 3, 8, 1),
            ValueError,
            "with kernel height, kernel width and depth multiplier of at least 1, got shape",
        ),
        ((3, 0, 8, 1), ValueError, "depth multiplier of at least 1, got shape (3, 0, 8, 1)"),
        ((3, 3, 8, 0), ValueError, "multiplier of at least 1, got shape (3, 3, 8, 0)"),
        ((3, 3, -1, 1), ValueError, "of at least 0, got (3, 3, -1, 1)"),
        (
            (3, 3, None, 1),
            TypeError,
            "expected known sizes (kernel height, kernel width, channels, depth multiplier)",
        ),
        (
            3,
            TypeError,
            "expected 4 sizes (kernel height, kernel width, channels, depth multiplier), got 3 of type int",
        ),
    ],
    ids=str,
)
def test_from_kernel_refuses_what_is_no_kernel(shape: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^kernel: .*{re.escape(message)}"):
        Spec.from_kernel(shape)


# Padding and output sizes

# Worked out by hand from TensorFlow's rule, one axis each:
# (input, kernel, stride, dilation) -> (output, zeros before, zeros after).
SAME = {
    (5, 3, 1, 1): (5, 1, 1),
    (5, 2, 1, 1): (5, 0, 1),  # an even kernel pads more after than before
    (5, 4, 1, 1): (5, 1, 2),
    (6, 3, 2, 1): (3, 0, 1),  # even input at stride 2: nothing before, unlike PyTorch's padding=1
    (7, 3, 2, 1): (4, 1, 1),
    (224, 3, 2, 1): (112, 0, 1),
    (224, 7, 2, 1): (112, 2, 3),
    (225, 7, 2, 1): (113, 3, 3),
    (10, 3, 3, 1): (4, 1, 1),
    (9, 3, 3, 1): (3, 0, 0),
    (8, 1, 1, 1): (8, 0, 0),
    (8, 1, 3, 1): (3, 0, 0),  # 7 of the 8 pixels are used: no zeros, never a negative number of them
    (5, 2, 4, 1): (2, 0, 1),
    (6, 2, 5, 1): (2, 0, 1),
    (7, 3, 1, 2): (7, 2, 2),
    (7, 2, 1, 3): (7, 1, 2),
    (9, 3, 2, 2): (5, 2, 2),
    (10, 3, 2, 2): (5, 1, 2),
    (10, 5, 3, 4): (4, 8, 8),
    (1, 5, 1, 1): (1, 2, 2),
    (2, 27, 1, 1): (2, 13, 13),
    (1, 4, 7, 2): (1, 3, 3),
}


@pytest.mark.parametrize(("case", "expected"), SAME.items(), ids=str)
def test_same_is_the_rule_of_tensorflow(
    case: tuple[int, int, int, int], expected: tuple[int, int, int]
) -> None:
    size, kernel, stride, dilation = case
    output, before, after = expected
    # Each axis must follow its own numbers: the other one gets those of a convolution that pads nothing.
    vertical = Spec((kernel, 1), (stride, 1), "same", dilation_rate=(dilation, 1))
    assert vertical.padding_amounts((size, 6)) == ((before, after), (0, 0))
    assert vertical.output_size((size, 6)) == (output, 6)
    horizontal = Spec((1, kernel), (1, stride), "same", dilation_rate=(1, dilation))
    assert horizontal.padding_amounts((6, size)) == ((0, 0), (before, after))
    assert horizontal.output_size((6, size)) == (6, output)


@pytest.mark.parametrize("stride", [1, 2, 3, 7])
@pytest.mark.parametrize("kernel", [1, 2, 3, 8])
@pytest.mark.parametrize("dilation", [1, 2, 5])
def test_same_gives_the_input_divided_by_the_stride_rounded_up(
    stride: int, kernel: int, dilation: int
) -> None:
    spec = Spec(kernel, stride, "same", dilation_rate=dilation)
    for size in range(1, 30):
        assert spec.output_size((size, 3 * size)) == (math.ceil(size / stride), math.ceil(3 * size / stride))


@pytest.mark.parametrize(
    ("arguments", "input_size", "output_size"),
    [
        ({}, (5, 7), (3, 5)),
        ({}, (3, 3), (1, 1)),
        ({"strides": 2}, (5, 6), (2, 2)),
        ({"strides": (3, 1)}, (10, 10), (3, 8)),
        ({"dilation_rate": (2, 3)}, (5, 7), (1, 1)),
        ({"dilation_rate": 2, "strides": 2}, (9, 10), (3, 3)),
        ({"padding": 1}, (5, 7), (5, 7)),
        ({"padding": (0, 2)}, (5, 7), (3, 9)),
        ({"padding": ((0, 1), (2, 3))}, (5, 7), (4, 10)),
        ({"padding": ((3, 0), (0, 0)), "strides": 2}, (5, 7), (3, 3)),
        ({"padding": 2}, (0, 1), (2, 3)),  # an image of no pixels between enough zeros
        ({"kernel_size": (1, 4)}, (2, 6), (2, 3)),
    ],
    ids=str,
)
def test_output_size(arguments: Any, input_size: tuple[int, int], output_size: tuple[int, int]) -> None:
    assert make(**arguments).output_size(input_size) == output_size


def test_padding_amounts_of_the_other_rules() -> None:
    assert Spec(3).padding_amounts((5, 6)) == ((0, 0), (0, 0))
    assert Spec(3, padding=((1, 2), (3, 4))).padding_amounts((5, 6)) == ((1, 2), (3, 4))


def test_window_size_counts_the_gaps_between_the_taps() -> None:
    assert Spec((3, 5), dilation_rate=(4, 2)).window_size == (9, 9)
    assert Spec(1, dilation_rate=9).window_size == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "input_size", "message"),
    [
        (
            {"kernel_size": (3, 5)},
            (3, 4),
            "got (3, 5) with dilation_rate (1, 1), of width 5, "
            "for an input of width 4, which is 4 with padding 'valid'",
        ),
        (
            {"dilation_rate": (2, 1), "padding": ((1, 0), (1, 0))},
            (3, 4),
            "got (3, 3) with dilation_rate (2, 1), of height 5, "
            "for an input of height 3, which is 4 with padding ((1, 0), (1, 0))",
        ),
        (
            {"padding": "same"},
            (0, 4),
            "got (3, 3) with dilation_rate (1, 1), of height 3, "
            "for an input of height 0, which is 2 with padding 'same'",
        ),
    ],
    ids=str,
)
def test_a_kernel_that_does_not_fit_is_refused(arguments: Any, input_size: Any, message: str) -> None:
    start = "kernel_size: expected a dilated kernel no larger than the padded input, "
    with pytest.raises(ValueError, match=f"^{re.escape(start + message)}$"):
        make(**arguments).output_size(input_size)


# Shapes


def test_output_shape_follows_the_data_format() -> None:
    spec = Spec((3, 2), strides=(1, 2), depth_multiplier=4)
    assert spec.output_shape((2, 5, 8, 3)) == (2, 3, 4, 12)
    first = dataclasses.replace(spec, data_format="channels_first")
    assert first.output_shape((2, 3, 5, 8)) == (2, 12, 3, 4)


@pytest.mark.parametrize(
    ("input_shape", "output_shape"),
    [
        ((None, 5, 8, 3), (None, 3, 6, 6)),
        ((2, None, 8, 3), (2, None, 6, 6)),
        ((2, 5, None, 3), (2, 3, None, 6)),
        ((2, 5, 8, None), (2, 3, 6, None)),
        ((None, None, None, None), (None, None, None, None)),
        ((0, 5, 8, 0), (0, 3, 6, 0)),
        ([np.int64(2), 5, 8, 3], (2, 3, 6, 6)),
    ],
    ids=str,
)
def test_unknown_sizes_stay_unknown(input_shape: Any, output_shape: object) -> None:
    assert Spec(3, depth_multiplier=2).output_shape(input_shape) == output_shape
    first = Spec(3, depth_multiplier=2, data_format="channels_first")
    n, h, w, c = input_shape
    oh, ow = Spec(3).output_shape((n, h, w, c))[1:3]
    assert first.output_shape((n, c, h, w)) == (n, c if c is None else 2 * c, oh, ow)


@pytest.mark.parametrize(
    ("shape", "error", "message"),
    [
        ((5, 5, 3), ValueError, "expected 4 sizes (batch, height, width, channels), got 3: (5, 5, 3)"),
        (
            (1, 1, 5, 5, 3),
            ValueError,
            "expected 4 sizes (batch, height, width, channels), got 5: (1, 1, 5, 5, 3)",
        ),
        (
            (1, -5, 5, 3),
            ValueError,
            "expected 4 sizes (batch, height, width, channels) of at least 0, got (1, -5,",
        ),
        ((1, 5.0, 5, 3), TypeError, "expected 4 sizes (batch, height, width, channels), got (1, 5.0, 5, 3)"),
        (
            (1, True, 5, 3),
            TypeError,
            "expected 4 sizes (batch, height, width, channels), got (1, True, 5, 3)",
        ),
        (5, TypeError, "expected 4 sizes (batch, height, width, channels), got 5 of type int"),
        ("NHWC", TypeError, "expected 4 sizes (batch, height, width, channels), got 'NHWC' of type str"),
    ],
    ids=str,
)
def test_what_is_no_input_shape_is_refused(shape: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(f'input_shape: {message}')}"):
        Spec(3).output_shape(shape)


def test_the_dimensions_are_named_in_the_order_of_the_data_format() -> None:
    with pytest.raises(
        ValueError, match=r"^x: expected 4 sizes \(batch, channels, height, width\), got 2: \(5, 5\)$"
    ):
        Spec(3, data_format="channels_first").check_shapes((5, 5), (3, 3, 1, 1))


def test_input_size_must_be_two_known_sizes() -> None:
    with pytest.raises(
        ValueError, match=r"^input_size: expected 2 sizes \(height, width\), got 3: \(5, 5, 3\)$"
    ):
        Spec(3).output_size((5, 5, 3))
    with pytest.raises(
        TypeError, match=r"^input_size: expected known sizes \(height, width\), got \(None, 5\)$"
    ):
        Spec(3).padding_amounts((None, 5))  # type: ignore[arg-type]


def test_kernel_shape_has_channels_before_the_multiplier() -> None:
    assert Spec((3, 5), depth_multiplier=2).kernel_shape(7) == (3, 5, 7, 2)
    with pytest.raises(ValueError, match=r"^channels: .* of at least 0, got \(-1,\)$"):
        Spec(3).kernel_shape(-1)


@pytest.mark.parametrize("bias_shape", [None, (6,)])
def test_check_shapes_returns_the_shape_of_the_output(bias_shape: tuple[int] | None) -> None:
    spec = Spec((3, 2), depth_multiplier=2)
    assert spec.check_shapes((4, 5, 6, 3), (3, 2, 3, 2), bias_shape) == (4, 3, 5, 6)
    first = dataclasses.replace(spec, data_format="channels_first")
    assert first.check_shapes((4, 3, 5, 6), (3, 2, 3, 2), bias_shape) == (4, 6, 3, 5)


def test_empty_batches_and_no_channels_are_allowed() -> None:
    assert Spec(3).check_shapes((0, 5, 5, 2), (3, 3, 2, 1), (2,)) == (0, 3, 3, 2)
    assert Spec(3).check_shapes((2, 5, 5, 0), (3, 3, 0, 1), (0,)) == (2, 3, 3, 0)


@pytest.mark.parametrize(
    ("x", "kernel", "bias", "message"),
    [
        (
            (1, 5, 5, 4),
            (3, 3, 3, 2),
            None,
            "kernel: expected shape (3, 3, 4, 2), which is (kernel height, kernel width, channels, depth multiplier), "
            "for x of shape (1, 5, 5, 4) with data_format 'channels_last', got shape (3, 3, 3, 2)",
        ),
        ((1, 5, 5, 3), (3, 3, 3, 1), None, "kernel: expected shape (3, 3, 3, 2), "),
        ((1, 5, 5, 3), (3, 2, 3, 2), None, "kernel: expected shape (3, 3, 3, 2), "),
        ((1, 5, 5, 3), (3, 3, 6), None, "kernel: expected 4 sizes "),
        (
            (1, 5, 3),
            (3, 3, 3, 2),
            None,
            "x: expected 4 sizes (batch, height, width, channels), got 3: (1, 5, 3)",
        ),
        (
            (1, 5, 5, 3),
            (3, 3, 3, 2),
            (3,),
            "bias: expected shape (6,), one number per output channel, "
            "for kernel of shape (3, 3, 3, 2), got shape (3,)",
        ),
        ((1, 5, 5, 3), (3, 3, 3, 2), (1, 6), "bias: expected 1 size (output channels), got 2: (1, 6)"),
        (
            (1, 2, 5, 3),
            (3, 3, 3, 2),
            None,
            "kernel_size: expected a dilated kernel no larger than the padded input",
        ),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit_are_refused(x: Any, kernel: Any, bias: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        Spec(3, depth_multiplier=2).check_shapes(x, kernel, bias)


def test_a_bias_without_use_bias_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^bias: expected None, since use_bias is False, got shape \(3,\)$"):
        Spec(3, use_bias=False).check_shapes((1, 5, 5, 3), (3, 3, 3, 1), (3,))


def test_dy_must_have_the_shape_of_the_output() -> None:
    Spec.check_cotangent((1, 2, 3, 4), (1, 2, 3, 4))
    with pytest.raises(
        ValueError, match=r"^dy: expected shape \(1, 2, 3, 4\), that of the output, got shape \(2, 3, 4\)$"
    ):
        Spec.check_cotangent((2, 3, 4), (1, 2, 3, 4))


# Dtypes


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("float64", 8), ("float16", 2), ("bfloat16", 2)])
def test_supported_dtypes(dtype: str, size: int) -> None:
    assert DTYPES[dtype] == size
    assert check_dtypes(x=dtype, kernel=dtype, bias=None, out=dtype) == dtype
    assert len(DTYPES) == 4


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            {"x": "int64", "kernel": "int64"},
            "x: expected one of the dtypes float32, float64, float16, bfloat16, got int64",
        ),
        ({"x": "float32", "kernel": "float64"}, "kernel: expected dtype float32, that of x, got float64"),
        ({"x": "float32", "kernel": "int8"}, "kernel: expected dtype float32, that of x, got int8"),
        (
            {"x": "float16", "kernel": "float16", "bias": None, "dy": "bfloat16"},
            "dy: expected dtype float16, that of x, got bfloat16",
        ),
        ({"x": None}, "check_dtypes: expected the dtype of at least one array, got none"),
    ],
    ids=str,
)
def test_other_dtypes_and_mixtures_are_refused(names: Any, message: str) -> None:
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        check_dtypes(**names)


@pytest.mark.parametrize(
    "module", [depthwise.spec, depthwise.activations], ids=lambda module: module.__name__
)
def test_the_examples_in_the_docstrings_hold(module: Any) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
