"""Calls that must fail: with a ValueError or TypeError that names the argument and what was received, before anything
is written.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import depthwise

Array = NDArray[Any]


def zeros(*shape: int, dtype: Any = np.float32) -> Array:
    return np.zeros(shape, dtype)


def valid() -> dict[str, Any]:
    """The arguments of a call that works, to be spoilt in one place: x, kernel, bias and out among them."""
    return {
        "x": np.ones((2, 6, 7, 4), np.float32),
        "kernel": np.ones((3, 2, 4, 2), np.float32),
        "bias": np.ones(8, np.float32),
        "out": np.full((2, 4, 6, 8), 7, np.float32),
    }


def read_only(array: Array) -> Array:
    array.flags.writeable = False
    return array


def misaligned(*shape: int) -> Array:
    return np.zeros(4 * int(np.prod(shape)) + 1, np.uint8)[1:].view(np.float32).reshape(shape)


class Unreadable:
    """Says that it is an array and cannot be made one."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        raise ValueError("closed")


SPOILT: list[tuple[dict[str, Any], type[Exception], list[str]]] = [
    # what is changed, the error, and what its message must say
    ({"x": zeros(6, 7, 4)}, ValueError, ["x", "4", "(6, 7, 4)"]),
    ({"x": zeros(1, 2, 6, 7, 4)}, ValueError, ["x", "(1, 2, 6, 7, 4)"]),
    ({"x": np.float32(3)}, ValueError, ["x", "()"]),
    ({"x": zeros(2, 6, 7, 5)}, ValueError, ["kernel", "(3, 2, 5, 2)", "(3, 2, 4, 2)", "(2, 6, 7, 5)"]),
    ({"x": zeros(2, 2, 7, 4)}, ValueError, ["kernel_size", "height 3", "height 2"]),
    ({"x": zeros(2, 6, 1, 4)}, ValueError, ["kernel_size", "width 2", "width 1"]),
    ({"x": zeros(2, 0, 7, 4)}, ValueError, ["kernel_size", "height 0"]),
    ({"x": zeros(2, 6, 7, 4, dtype=np.float64)}, TypeError, ["kernel", "float64", "float32"]),
    ({"x": zeros(2, 6, 7, 4, dtype=np.int32)}, TypeError, ["x", "int32"]),
    ({"x": zeros(2, 6, 7, 4, dtype=np.uint8)}, TypeError, ["x", "uint8"]),
    ({"x": zeros(2, 6, 7, 4, dtype=bool)}, TypeError, ["x", "bool"]),
    ({"x": zeros(2, 6, 7, 4, dtype=np.complex64)}, TypeError, ["x", "complex64"]),
    ({"x": zeros(2, 6, 7, 4, dtype=np.longdouble)}, TypeError, ["x", "longdouble|float128|float96"]),
    ({"x": zeros(2, 6, 7, 4, dtype="M8[s]")}, TypeError, ["x", "datetime64"]),
    ({"x": np.full((2, 6, 7, 4), "1.0")}, TypeError, ["x", "str96"]),
    ({"x": np.full((2, 6, 7, 4), None)}, TypeError, ["x", "object"]),
    ({"x": zeros(2, 6, 7, 4, dtype=[("a", "f4")])}, TypeError, ["x", "void32"]),
    ({"x": [[1.0, 2.0], [3.0]]}, TypeError, ["x", "list"]),
    ({"x": None}, TypeError, ["x"]),
    ({"x": "image"}, TypeError, ["x"]),
    ({"x": Unreadable()}, TypeError, ["x", "Unreadable", "closed"]),
    ({"kernel": zeros(3, 2, 4)}, ValueError, ["kernel", "(3, 2, 4)"]),
    ({"kernel": zeros(3, 2, 4, 2, 1)}, ValueError, ["kernel", "(3, 2, 4, 2, 1)"]),
    ({"kernel": zeros(3, 2, 3, 2)}, ValueError, ["kernel", "(3, 2, 4, 2)", "(3, 2, 3, 2)"]),
    ({"kernel": zeros(0, 2, 4, 2)}, ValueError, ["kernel", "(0, 2, 4, 2)"]),
    ({"kernel": zeros(3, 0, 4, 2)}, ValueError, ["kernel", "(3, 0, 4, 2)"]),
    ({"kernel": zeros(3, 2, 4, 0)}, ValueError, ["kernel", "(3, 2, 4, 0)"]),
    ({"kernel": zeros(7, 2, 4, 2)}, ValueError, ["kernel_size", "(7, 2)", "height 6"]),
    ({"kernel": zeros(3, 2, 4, 2, dtype=np.float16)}, TypeError, ["kernel", "float16", "float32"]),
    ({"kernel": None}, TypeError, ["kernel"]),
    ({"kernel": [1, [2]]}, TypeError, ["kernel", "list"]),
    ({"bias": zeros(4)}, ValueError, ["bias", "(8,)", "(4,)"]),
    ({"bias": zeros(8, 1)}, ValueError, ["bias", "(8, 1)"]),
    ({"bias": np.float32(1)}, ValueError, ["bias", "()"]),
    ({"bias": zeros(8, dtype=np.float64)}, TypeError, ["bias", "float64", "float32"]),
    ({"bias": True}, TypeError, ["bias", "bool"]),
    ({"bias": "zeros"}, TypeError, ["bias"]),
    ({"strides": 0}, ValueError, ["strides", "0"]),
    ({"strides": -1}, ValueError, ["strides", "-1"]),
    ({"strides": (1, 0)}, ValueError, ["strides", "(1, 0)"]),
    ({"strides": (1,)}, ValueError, ["strides", "(1,)"]),
    ({"strides": (1, 2, 3)}, ValueError, ["strides", "(1, 2, 3)"]),
    ({"strides": ()}, ValueError, ["strides", "()"]),
    ({"strides": 2**31}, ValueError, ["strides", str(2**31)]),
    ({"strides": 2**70}, ValueError, ["strides", str(2**70)]),
    ({"strides": True}, TypeError, ["strides", "True"]),
    ({"strides": 1.0}, TypeError, ["strides", "1.0"]),
    ({"strides": (1.0, 1)}, TypeError, ["strides", "(1.0, 1)"]),
    ({"strides": (1, True)}, TypeError, ["strides", "True"]),
    ({"strides": np.array([1.0, 2.0])}, TypeError, ["strides", "1."]),
    ({"strides": "2"}, TypeError, ["strides", "'2'"]),
    ({"strides": None}, TypeError, ["strides", "None"]),
    ({"strides": {"height": 1, "width": 1}}, TypeError, ["strides", "height"]),
    ({"strides": ((1, 1), (1, 1))}, TypeError, ["strides", "((1, 1), (1, 1))"]),
    ({"dilation_rate": 0}, ValueError, ["dilation_rate", "0"]),
    ({"dilation_rate": (1, -2)}, ValueError, ["dilation_rate", "(1, -2)"]),
    ({"dilation_rate": [1, 2, 3, 4]}, ValueError, ["dilation_rate", "[1, 2, 3, 4]"]),
    ({"dilation_rate": False}, TypeError, ["dilation_rate", "False"]),
    ({"dilation_rate": 2.5}, TypeError, ["dilation_rate", "2.5"]),
    ({"dilation_rate": (3, 1)}, ValueError, ["dilation_rate (3, 1)", "height 7", "height 6"]),
    ({"padding": "causal"}, ValueError, ["padding", "'causal'"]),
    ({"padding": "full"}, ValueError, ["padding", "'full'"]),
    ({"padding": ""}, ValueError, ["padding", "''"]),
    ({"padding": -1}, ValueError, ["padding", "-1"]),
    ({"padding": (0, -1)}, ValueError, ["padding", "(0, -1)"]),
    ({"padding": ((0, 0), (0, -3))}, ValueError, ["padding", "-3"]),
    ({"padding": (1, 2, 3)}, ValueError, ["padding", "(1, 2, 3)"]),
    ({"padding": (1, 2, 3, 4)}, ValueError, ["padding", "(1, 2, 3, 4)"]),
    ({"padding": (1, (2, 3))}, ValueError, ["padding", "(1, (2, 3))"]),
    ({"padding": ((1, 2), (3,))}, ValueError, ["padding", "(3,)"]),
    ({"padding": 2**31}, ValueError, ["padding", str(2**31)]),
    ({"padding": True}, TypeError, ["padding", "True"]),
    ({"padding": 1.5}, TypeError, ["padding", "1.5"]),
    ({"padding": None}, TypeError, ["padding", "None"]),
    ({"padding": b"same"}, TypeError, ["padding", "same"]),
    ({"padding": ("same", "valid")}, TypeError, ["padding", "same"]),
    ({"data_format": "NHWC"}, ValueError, ["data_format", "'NHWC'"]),
    ({"data_format": ""}, ValueError, ["data_format", "''"]),
    ({"data_format": None}, TypeError, ["data_format", "None"]),
    ({"data_format": 1}, TypeError, ["data_format", "1"]),
    ({"data_format": "channels_first"}, ValueError, ["kernel", "(3, 2, 6, 2)", "channels_first"]),
    ({"activation": "relu7"}, ValueError, ["activation", "'relu7'", "relu6"]),
    ({"activation": ("elu", -1.0)}, ValueError, ["activation", "elu", "-1.0"]),
    ({"activation": ("elu", float("nan"))}, ValueError, ["activation", "elu", "nan"]),
    ({"activation": ("leaky_relu", float("inf"))}, ValueError, ["activation", "leaky_relu", "inf"]),
    ({"activation": ("relu", 0.5)}, ValueError, ["activation", "relu", "0.5"]),
    ({"activation": ("elu", 1, 2)}, ValueError, ["activation", "('elu', 1, 2)"]),
    ({"activation": ("elu", "one")}, TypeError, ["activation", "'one'"]),
    ({"activation": ("elu", True)}, TypeError, ["activation", "True"]),
    ({"activation": 1}, TypeError, ["activation", "1"]),
    ({"activation": np.tanh}, TypeError, ["activation", "tanh"]),
    ({"out": zeros(2, 4, 6, 7)}, ValueError, ["out", "(2, 4, 6, 8)", "(2, 4, 6, 7)"]),
    ({"out": zeros(2, 8, 4, 6)}, ValueError, ["out", "(2, 4, 6, 8)", "(2, 8, 4, 6)"]),
    ({"out": zeros(2 * 4 * 6 * 8)}, ValueError, ["out", "(384,)"]),
    ({"out": zeros(2, 4, 6, 8, dtype=np.float64)}, TypeError, ["out", "float64", "float32"]),
    ({"out": zeros(2, 4, 6, 8, dtype=">f4")}, TypeError, ["out", ">f4"]),
    ({"out": zeros(2, 4, 6, 8).tolist()}, TypeError, ["out", "list"]),
    ({"out": zeros(2, 4, 6, 8).data}, TypeError, ["out", "memoryview"]),
    ({"out": read_only(zeros(2, 4, 6, 8))}, ValueError, ["out", "read-only", "(2, 4, 6, 8)"]),
    ({"out": misaligned(2, 4, 6, 8)}, ValueError, ["out", "aligned"]),
    ({"colour": 3}, TypeError, ["colour"]),
]
IDS = [f"{next(iter(changes))}-{number}" for number, (changes, _, _) in enumerate(SPOILT)]
EVERY_SPOILT_CALL = pytest.mark.parametrize(("changes", "error", "says"), SPOILT, ids=IDS)


def check_message(error: BaseException, says: list[str]) -> None:
    message = str(error)
    for part in says:
        choices = [re.escape(choice) for choice in part.split("|")]
        # As a whole: not "x" inside of "expected".
        assert re.search(rf"(?<!\w)({'|'.join(choices)})(?!\w)", message), f"{part!r} is not in {message!r}"


@EVERY_SPOILT_CALL
def test_what_is_wrong_with_a_call(changes: dict[str, Any], error: type[Exception], says: list[str]) -> None:
    arguments = valid() | changes
    out = arguments["out"]
    before = np.array(out, copy=True)
    with pytest.raises(error) as caught:
        depthwise.depthwise_conv2d(**arguments)
    assert type(caught.value) is error
    check_message(caught.value, says)
    assert np.array_equal(np.array(out), before)


@EVERY_SPOILT_CALL
def test_what_is_wrong_with_a_call_for_gradients(
    changes: dict[str, Any], error: type[Exception], says: list[str]
) -> None:
    arguments = valid() | changes
    with pytest.raises(error) as caught:
        depthwise.depthwise_conv2d_vjp(**arguments)
    check_message(caught.value, says)
    if "out" not in changes:
        assert (arguments["out"] == 7).all()


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [spoilt for spoilt in SPOILT if not spoilt[0].keys() & {"x", "kernel", "out"}],
    ids=[name for name in IDS if not name.startswith(("x-", "kernel-", "out-"))],
)
def test_calls_that_worked_before_do_not_hide_what_is_wrong(
    changes: dict[str, Any], error: type[Exception], says: list[str]
) -> None:
    """What a call works out is kept; True == 1 == 1.0 must not find it."""
    arguments = valid()
    for _ in range(2):
        for works in (
            {},
            {"strides": 1},
            {"strides": (1, 1), "dilation_rate": 1},
            {"padding": 0},
            {"padding": (0, 0)},
            {"padding": "valid", "data_format": "channels_last"},
            {"activation": None},
            {"activation": "linear"},
            {"activation": ("elu", 1)},
            {"bias": None},
        ):
            depthwise.depthwise_conv2d(**(arguments | works))
        arguments["out"].fill(7)
        with pytest.raises(error) as caught:
            depthwise.depthwise_conv2d(**(arguments | changes))
        check_message(caught.value, says)
        assert (arguments["out"] == 7).all()


def test_out_may_not_overlap_an_input() -> None:
    memory = np.zeros(2000, np.float32)
    x = memory[:384].reshape(2, 6, 8, 4)
    kernel = memory[1000:1004].reshape(1, 1, 4, 1)
    bias = memory[1100:1104]
    for name, start in (("x", 0), ("x", 100), ("x", 383), ("kernel", 1003), ("bias", 1103), ("bias", 1000)):
        out = memory[start : start + 384].reshape(2, 6, 8, 4)
        with pytest.raises(ValueError, match=rf"out: .* overlaps (kernel|{name})"):
            depthwise.depthwise_conv2d(x, kernel, bias, out=out)
        assert not memory.any()
    backwards = memory[383::-1].reshape(2, 6, 8, 4)
    with pytest.raises(ValueError, match=r"out: .* overlaps x"):
        depthwise.depthwise_conv2d(x, kernel, bias, out=backwards)
    depthwise.depthwise_conv2d(x, kernel, bias, out=memory[384:768].reshape(2, 6, 8, 4))


def gradients_to_fill() -> depthwise.Gradients:
    """What a pullback of `valid()` can write to."""
    arrays = (np.full(shape, 7, np.float32) for shape in ((2, 6, 7, 4), (3, 2, 4, 2), (8,)))
    return depthwise.Gradients(*arrays)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"x": None}, TypeError, ["out.x", "array", "NoneType"]),
        ({"x": zeros(2, 6, 7, 5)}, ValueError, ["out.x", "(2, 6, 7, 4)", "(2, 6, 7, 5)"]),
        ({"x": zeros(2, 6, 7, 4, dtype=np.float64)}, TypeError, ["out.x", "float32", "float64"]),
        ({"x": read_only(zeros(2, 6, 7, 4))}, ValueError, ["out.x", "read-only"]),
        ({"kernel": zeros(3, 2, 4)}, ValueError, ["out.kernel", "(3, 2, 4, 2)", "(3, 2, 4)"]),
        ({"kernel": misaligned(3, 2, 4, 2)}, ValueError, ["out.kernel", "aligned"]),
        ({"bias": None}, ValueError, ["out.bias", "an array", "NoneType"]),
        ({"bias": zeros(4)}, ValueError, ["out.bias", "(8,)", "(4,)"]),
        ({"bias": zeros(16)[::2]}, ValueError, ["out.bias", "contiguous", "(8,)"]),
    ],
    ids=str,
)
def test_what_is_wrong_with_arrays_for_gradients(
    changes: dict[str, Any], error: type[Exception], says: list[str]
) -> None:
    y, pullback = depthwise.depthwise_conv2d_vjp(**valid())
    out = gradients_to_fill()._replace(**changes)
    with pytest.raises(error) as caught:
        pullback(y, out=out)
    check_message(caught.value, says)
    for name, array in out._asdict().items():
        assert name in changes or (array == 7).all(), name


def test_gradients_go_into_what_a_pullback_returns_and_nothing_else() -> None:
    y, pullback = depthwise.depthwise_conv2d_vjp(**valid())
    with pytest.raises(TypeError, match=r"out: expected depthwise\.Gradients, got tuple"):
        pullback(y, out=tuple(gradients_to_fill()))  # type: ignore[arg-type]
    y, pullback = depthwise.depthwise_conv2d_vjp(**(valid() | {"bias": None}))
    with pytest.raises(ValueError, match=r"out\.bias: expected None, since there is no bias, got ndarray"):
        pullback(y, out=gradients_to_fill())


def test_arrays_for_gradients_may_not_overlap_anything() -> None:
    arguments = valid()
    y, pullback = depthwise.depthwise_conv2d_vjp(**arguments, activation="relu")
    out = gradients_to_fill()
    dy = np.full(y.shape, 7, np.float32)
    flat = dy.ravel()
    for name, gradients, other in [
        ("x", out._replace(x=arguments["x"]), "x"),
        ("kernel", out._replace(kernel=arguments["kernel"]), "kernel"),
        ("x", out._replace(x=flat[3:339].reshape(2, 6, 7, 4)), "dy"),
        ("bias", out._replace(bias=y.ravel()[-8:]), "y"),
        ("bias", out._replace(bias=out.x.ravel()[20:28]), r"out\.x"),
        ("kernel", out._replace(kernel=out.x.ravel()[:48].reshape(3, 2, 4, 2)), r"out\.x"),
    ]:
        with pytest.raises(ValueError, match=rf"out\.{name}: .* overlaps {other}$"):
            pullback(dy, out=gradients)
    assert (flat == 7).all()
    for array in out:
        assert array is not None
        assert (array == 7).all()


@pytest.mark.parametrize("axis", range(4))
def test_out_may_not_overlap_itself(axis: int) -> None:
    arguments = valid()
    shape = arguments["out"].shape
    one = np.full([1 if i == axis else n for i, n in enumerate(shape)], 7, np.float32)
    repeated = np.lib.stride_tricks.as_strided(
        one, shape, [0 if i == axis else s for i, s in enumerate(one.strides)]
    )
    with pytest.raises(ValueError, match=r"out: .* overlap, got strides \("):
        depthwise.depthwise_conv2d(**(arguments | {"out": repeated}))
    assert (one == 7).all()


def test_out_may_not_be_windows_that_overlap() -> None:
    arguments = valid()
    line = np.full(500, 7, np.float32)
    windows = np.lib.stride_tricks.as_strided(line, (2, 4, 6, 8), (4 * 192, 4 * 48, 4 * 7, 4))
    with pytest.raises(ValueError, match=r"out: .* overlap"):
        depthwise.depthwise_conv2d(**(arguments | {"out": windows}))
    assert (line == 7).all()


GRADIENTS: list[tuple[Any, type[Exception], list[str]]] = [
    (zeros(2, 4, 6, 7), ValueError, ["dy", "(2, 4, 6, 8)", "(2, 4, 6, 7)"]),
    (zeros(2, 8, 4, 6), ValueError, ["dy", "(2, 8, 4, 6)"]),
    (zeros(4, 6, 8), ValueError, ["dy", "(4, 6, 8)"]),
    (np.float32(1), ValueError, ["dy", "()"]),
    (zeros(2, 4, 6, 8, dtype=np.float64), TypeError, ["dy", "float64", "float32"]),
    (zeros(2, 4, 6, 8, dtype=np.int64), TypeError, ["dy", "int64"]),
    (1.0, TypeError, ["dy", "float64"]),
    (None, TypeError, ["dy"]),
    ("ones", TypeError, ["dy"]),
    ([[1.0], [2.0, 3.0]], TypeError, ["dy", "list"]),
]


@pytest.mark.parametrize(("dy", "error", "says"), GRADIENTS, ids=range(len(GRADIENTS)))
@pytest.mark.parametrize("activation", [None, "relu", "silu"])
def test_what_is_wrong_with_a_gradient(
    dy: Any, error: type[Exception], says: list[str], activation: str | None
) -> None:
    arguments = valid()
    del arguments["out"]
    y, pullback = depthwise.depthwise_conv2d_vjp(**arguments, activation=activation)
    expected = pullback(np.ones_like(y)).x
    with pytest.raises(error) as caught:
        pullback(dy)
    check_message(caught.value, says)
    assert np.array_equal(pullback(np.ones_like(y)).x, expected)


def test_a_number_is_no_bias_even_for_one_channel() -> None:
    with pytest.raises(ValueError, match=r"^bias: expected .* got 0: \(\)$"):
        depthwise.depthwise_conv2d(zeros(1, 2, 2, 1), zeros(1, 1, 1, 1), np.float32(1))


def test_arguments_that_must_be_named_are_not_taken_by_position() -> None:
    x, kernel, bias = (valid()[name] for name in ("x", "kernel", "bias"))
    function: Any = depthwise.depthwise_conv2d
    with pytest.raises(TypeError, match="positional"):
        function(x, kernel, bias, 2)
    with pytest.raises(TypeError, match="kernel"):
        function(x)


def test_a_result_that_cannot_be_allocated_is_an_error_of_memory_or_names_the_padding() -> None:
    x, kernel = zeros(1, 4, 4, 1), zeros(1, 1, 1, 1)
    with pytest.raises(MemoryError):
        depthwise.depthwise_conv2d(x, kernel, padding=2**26)
    with pytest.raises(ValueError, match=r"padding.*2147483647"):
        depthwise.depthwise_conv2d(x, kernel, padding=2**31 - 1)
