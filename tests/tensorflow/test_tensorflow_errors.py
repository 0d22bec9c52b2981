"""Bad inputs: the words of the NumPy function, as early as they can be said."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import depthwise
from depthwise.tensorflow import depthwise_conv2d


def ones(*shape: int, dtype: Any = np.float32) -> Any:
    return np.ones(shape, dtype)


def spoilt(**changes: Any) -> dict[str, Any]:
    return {"x": ones(2, 6, 7, 4), "kernel": ones(3, 2, 4, 2), "bias": ones(8), **changes}


SHAPES = [
    {"x": ones(6, 7, 4)},
    {"x": ones()},
    {"x": ones(2, 6, 7, 5)},
    {"x": ones(2, 2, 7, 4)},
    {"x": ones(2, 6, 1, 4)},
    {"kernel": ones(3, 2, 4)},
    {"kernel": ones(0, 2, 4, 2)},
    {"kernel": ones(3, 2, 4, 0)},
    {"kernel": ones(3, 2, 5, 2)},
    {"bias": ones(7)},
    {"bias": ones(1, 8)},
    {"bias": ones()},
    {"data_format": "channels_first"},
    {"dilation_rate": 3},
]
DTYPES = [
    {"x": ones(2, 6, 7, 4, dtype=np.float64)},
    {"x": ones(2, 6, 7, 4, dtype=np.int32)},
    {"kernel": ones(3, 2, 4, 2, dtype=np.float16)},
    {"bias": ones(8, dtype=np.float64)},
    {name: ones(2, dtype=np.complex64) for name in ("x", "kernel", "bias")},
]
OPTIONS: list[dict[str, Any]] = [
    {"strides": 0},
    {"strides": (1, 2, 3)},
    {"strides": 1.5},
    {"strides": True},
    {"padding": "full"},
    {"padding": -1},
    {"padding": None},
    {"padding": ((1, 1), (0, -2))},
    {"data_format": "NHWC"},
    {"data_format": 1},
    {"dilation_rate": (1, 0)},
    {"dilation_rate": "2"},
    {"activation": "mish"},
    {"activation": ("elu", -1)},
    {"activation": 3},
]


def label(changes: dict[str, Any]) -> str:
    return ", ".join(f"{name}={getattr(value, 'shape', value)}" for name, value in changes.items())


def numpy_error(arguments: dict[str, Any]) -> Exception:
    with pytest.raises((TypeError, ValueError)) as caught:
        depthwise.depthwise_conv2d(**arguments)
    return caught.value


@pytest.mark.parametrize("changes", [*SHAPES, *DTYPES, *OPTIONS], ids=label)
def test_eagerly_the_error_is_that_of_numpy(changes: dict[str, Any]) -> None:
    expected = numpy_error(spoilt(**changes))
    with pytest.raises(type(expected)) as caught:
        depthwise_conv2d(**spoilt(**changes))
    assert str(caught.value) == str(expected)


@pytest.mark.parametrize("changes", [*SHAPES, *DTYPES, *OPTIONS], ids=label)
def test_a_graph_is_not_made_of_what_cannot_run(changes: dict[str, Any]) -> None:
    arguments = spoilt(**changes)
    expected = numpy_error(arguments)
    options = {name: arguments.pop(name) for name in list(arguments) if name not in ("x", "kernel", "bias")}
    function = tf.function(lambda **tensors: depthwise_conv2d(**tensors, **options), autograph=False)
    specs = {name: tf.TensorSpec(value.shape, value.dtype) for name, value in arguments.items()}
    with pytest.raises(type(expected), match=re.escape(str(expected))):
        function.get_concrete_function(**specs)


@pytest.mark.parametrize("changes", SHAPES, ids=label)
def test_what_is_known_only_when_a_graph_runs_is_an_invalid_argument(changes: dict[str, Any]) -> None:
    arguments = spoilt(**changes)
    options = {name: arguments.pop(name) for name in list(arguments) if name not in ("x", "kernel", "bias")}
    expected = str(numpy_error(spoilt(**changes)))

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32)] * 3)  # type: ignore[untyped-decorator]
    def function(x: Any, kernel: Any, bias: Any) -> Any:
        return depthwise_conv2d(x, kernel, bias, **options)

    with pytest.raises(tf.errors.InvalidArgumentError, match=re.escape(expected)):
        function(*(tf.constant(arguments[name]) for name in ("x", "kernel", "bias")))


PARTIAL: list[tuple[Any, Any, Any, list[str]]] = [
    # the shapes of x, kernel and bias, and what the message must say
    ((None, None, None, 4), (3, 3, 5, 1), (5,), ["kernel: ", "(3, 3, 4, 1)", "(None, None, None, 4)"]),
    (
        (None, 6, 7, 4),
        (None, None, 5, None),
        (None,),
        ["kernel: ", "(None, None, 4, None)", "(None, None, 5"],
    ),
    ((None, 2, None, 4), (3, 3, 4, 1), (4,), ["kernel_size: ", "height 3", "height 2"]),
    ((None, 6, 7, 4), (3, None, 4, 1), (5,), ["bias: ", "(4,)", "(3, None, 4, 1)", "(5,)"]),
    ((None, None, None, None), (3, 3, 4, 2), (4,), ["bias: ", "(8,)", "(4,)"]),
    ((None, 7, 4), (3, 3, 4, 1), (4,), ["x: ", "(None, 7, 4)"]),
    (None, (None, 3, 4), (4,), ["kernel: ", "(None, 3, 4)"]),
    (None, (3, None, 4, 0), (4,), ["kernel: ", "(3, None, 4, 0)"]),
    (None, None, (None, 4), ["bias: ", "(None, 4)"]),
]


@pytest.mark.parametrize(("x", "kernel", "bias", "words"), PARTIAL)
def test_what_is_known_of_a_shape_is_checked(x: Any, kernel: Any, bias: Any, words: list[str]) -> None:
    function = tf.function(depthwise_conv2d, autograph=False)
    with pytest.raises(ValueError, match=f"(?s){'.*'.join(map(re.escape, words))}"):
        function.get_concrete_function(*(tf.TensorSpec(shape, tf.float32) for shape in (x, kernel, bias)))


@pytest.mark.parametrize("name", ["x", "kernel", "bias"])
@pytest.mark.parametrize(
    "value",
    [
        tf.ragged.constant([[1.0], [2.0, 3.0]]),
        tf.sparse.from_dense(np.eye(3, dtype=np.float32)),
        [[1.0], [2.0, 3.0]],
        {"a": 1.0},
        object(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_dense_tensor_is_a_type_error(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=rf"{name}: expected a tensor, got {type(value).__name__}") as caught:
        depthwise_conv2d(**spoilt(**{name: value}))
    assert len(str(caught.value).splitlines()) == 1


def test_an_output_that_no_machine_can_hold() -> None:
    x, kernel = ones(1, 2, 2, 1), ones(1, 1, 1, 1)
    with pytest.raises(ValueError, match="padding: expected an output of at most"):
        depthwise_conv2d(x, kernel, padding=2**31 - 1)
    function = tf.function(lambda x: depthwise_conv2d(x, kernel, padding=2**31 - 1), reduce_retracing=True)
    function = function.get_concrete_function(tf.TensorSpec(None, tf.float32))
    with pytest.raises(tf.errors.InvalidArgumentError, match="padding: expected an output of at most"):
        function(tf.constant(x))


def test_a_graph_from_elsewhere_with_attributes_that_make_no_sense() -> None:
    from depthwise.tensorflow.library import _library

    x, kernel = ones(1, 4, 4, 1), ones(2, 2, 1, 1)
    for attributes in (
        {"strides": [0, 1]},
        {"strides": [1]},
        {"dilation_rate": [1, 2, 3]},
        {"explicit_padding": [0, 0, -1, 0]},
        {"activation": 99},
        {"activation": -1},
        {"alpha": "0,2"},
        {"alpha": ""},
        {"alpha": "-1.0", "activation": 4},
    ):
        with pytest.raises((tf.errors.InvalidArgumentError, tf.errors.InternalError)):
            _library.depthwise_conv2d(x, kernel, [], **attributes)
    y = ones(1, 3, 3, 1)
    for dy, saved in ((ones(1, 3, 2, 1), y), (ones(3), y), (y, ones(3, 3)), (y, ones(0))):
        for op in (_library.depthwise_conv2d_input_gradient, _library.depthwise_conv2d_kernel_gradient):
            with pytest.raises(tf.errors.InvalidArgumentError, match="that of the output"):
                op(x, kernel, [], dy, [saved], activation=1)
