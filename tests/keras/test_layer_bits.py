"""The bits of a layer, forward and backward, are those of the NumPy functions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
import pytest

import depthwise
from depthwise.keras import DepthwiseConv1D, DepthwiseConv2D, SeparableConv2D
from tests.cases import DTYPES, Case, assert_same_bits, evaluate
from tests.keras.support import (
    BACKEND,
    Array,
    differentiate,
    evaluate_layer,
    layer_of,
    needs_gradients,
    normal,
    precise,
    results,
    to_numpy,
)

# The names under which Keras has them; each is fused.
ACTIVATIONS = (
    None,
    "linear",
    "relu",
    "relu6",
    "leaky_relu",
    "elu",
    "silu",
    "hard_silu",
    "hard_sigmoid",
    "sigmoid",
    "tanh",
    "gelu",
    "softplus",
)

CASES = [
    Case((9, 11), (3, 3), 19, batch=2, padding="same", activation="relu6"),
    Case((10, 8), (5, 4), 6, strides=(2, 2), padding="same", multiplier=2, activation="silu"),
    Case((13, 12), (2, 3), 8, strides=(1, 3), padding=((2, 0), (1, 4)), bias=False),
    Case(
        (12, 12), (3, 2), 5, strides=(2, 3), dilation_rate=(2, 1), padding=2, multiplier=3, activation="tanh"
    ),
    Case((14, 14), (9, 9), 20, padding="same", activation="gelu"),
    Case((6, 7), (1, 1), 33),
]


def check(case: Case, dtype: str) -> None:
    """Output and gradients; the output alone where there are no gradients."""
    arrays = case.reals(dtype).cast(dtype)
    expected = evaluate(case, arrays).parts()
    with precise(dtype):
        if BACKEND == "numpy":
            actual = {
                "y": evaluate_layer(layer_of(case, dtype=dtype), arrays.x, [arrays.kernel, arrays.bias])
            }
        else:
            actual = results(layer_of(case, dtype=dtype), arrays).parts()
            assert actual.keys() == expected.keys()
    for name, array in actual.items():
        assert_same_bits(array, expected[name], f"{name} of {dtype}, {case}")


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_outputs_and_gradients_for_any_arguments(dtype: str, data_format: str, case: Case) -> None:
    check(dataclasses.replace(case, data_format=data_format), dtype)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_outputs_and_gradients_for_every_fused_activation(dtype: str, activation: str) -> None:
    check(Case((6, 5), (3, 3), 7, padding="same", activation=activation), dtype)


def test_a_compiled_model_has_the_same_bits(data_format: str) -> None:
    case = Case(
        (9, 10),
        (3, 3),
        12,
        batch=3,
        strides=(2, 2),
        padding="same",
        activation="silu",
        data_format=data_format,
    )
    arrays = case.reals("float32").cast("float32")
    layer = layer_of(case)
    model = keras.Sequential([keras.Input(case.x_shape[1:]), layer])
    expected = evaluate(case, arrays).y
    assert_same_bits(evaluate_layer(layer, arrays.x, [arrays.kernel, arrays.bias]), expected, "layer")
    assert_same_bits(model.predict(arrays.x, verbose=0), expected, "predict")
    assert_same_bits(to_numpy(model(arrays.x)), expected, "call")


def test_bits_do_not_depend_on_the_number_of_threads(
    threads: Callable[[int], None], data_format: str
) -> None:
    case = Case((60, 60), (3, 3), 37, batch=2, padding="same", activation="silu", data_format=data_format)
    arrays = case.reals("float32").cast("float32")
    found = []
    for count in (1, 2, 7):
        threads(count)
        if BACKEND == "numpy":
            y = evaluate_layer(layer_of(case), arrays.x, [arrays.kernel, arrays.bias])
            found.append({"y": y})
        else:
            found.append(results(layer_of(case), arrays).parts())
    for other in found[1:]:
        for name, array in other.items():
            assert_same_bits(array, found[0][name], name)


@pytest.mark.parametrize("padding", ["valid", "same", (3, 1)])
def test_a_line_has_the_bits_of_an_image_of_one_row(data_format: str, padding: str | tuple[int, int]) -> None:
    """DepthwiseConv1D computes what the 2-D function does on an image of height 1."""
    x, kernel, bias = normal(2, 30, 6), normal(5, 6, 2), normal(12)
    expected = depthwise.depthwise_conv2d(
        x[:, None] if data_format == "channels_last" else x.transpose(0, 2, 1)[:, :, None],
        kernel[None],
        bias,
        strides=(1, 2),
        padding=padding if isinstance(padding, str) else ((0, 0), padding),
        data_format=data_format,
        activation="relu",
    )
    layer = DepthwiseConv1D(5, 2, padding, 2, data_format, activation="relu")
    y = evaluate_layer(layer, _line(x, data_format), [kernel, bias])
    axis = 1 if data_format == "channels_last" else 2
    assert_same_bits(y, expected.squeeze(axis), f"{padding}")


def test_a_separable_layer_has_the_bits_of_its_parts_before_the_pointwise_one() -> None:
    """With an identity as its 1 x 1 kernel, a SeparableConv2D returns the depthwise convolution's sums."""
    x, kernel = normal(2, 8, 9, 4), normal(3, 3, 4, 2)
    identity = np.eye(8, dtype=np.float32)[None, None]
    layer = SeparableConv2D(8, 3, padding="same", depth_multiplier=2, use_bias=False)
    y = evaluate_layer(layer, x, [kernel, identity])
    np.testing.assert_array_equal(y, depthwise.depthwise_conv2d(x, kernel, padding="same"))


@needs_gradients
def test_a_frozen_layer_has_the_same_gradient_of_its_input(data_format: str) -> None:
    case = Case((7, 8), (3, 3), 5, padding="same", activation="relu", data_format=data_format)
    arrays = case.reals("float32").cast("float32")
    layer = layer_of(case, trainable=False)
    evaluate_layer(layer, arrays.x, [arrays.kernel, arrays.bias])
    y, dx, dweights = differentiate(layer, arrays.x, arrays.dy)
    expected = evaluate(case, arrays)
    assert dweights == []
    assert_same_bits(y, expected.y, "y")
    assert_same_bits(dx, expected.dx, "dx")


@pytest.mark.parametrize("sizes", [(0, 5, 6, 3), (2, 5, 6, 0)], ids=["batch", "channels"])
def test_nothing_in_nothing_out(sizes: tuple[int, ...]) -> None:
    layer = DepthwiseConv2D(
        3, padding="same", depth_multiplier=2, depthwise_initializer="ones", activation="relu"
    )
    y = to_numpy(layer(np.zeros(sizes, np.float32)))
    assert y.shape == (*sizes[:3], sizes[3] * 2)
    assert y.dtype == DTYPES["float32"]


def _line(x: Array, data_format: str) -> Array:
    return x if data_format == "channels_last" else np.ascontiguousarray(x.transpose(0, 2, 1))
