"""Arguments of the layers: what is taken, what is refused and in which words, and the shapes that follow."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import depthwise
from depthwise.keras import DepthwiseConv1D, DepthwiseConv2D, SeparableConv1D, SeparableConv2D
from depthwise.spec import Spec
from tests.keras.support import evaluate_layer, normal, to_numpy

LAYERS_2D = [DepthwiseConv2D, SeparableConv2D]
LAYERS_1D = [DepthwiseConv1D, SeparableConv1D]


def make(layer: type, **arguments: Any) -> Any:
    """A layer of any class: 3 taps wide, and with filters if it needs them."""
    filters = {"filters": 5} if layer in {SeparableConv1D, SeparableConv2D} else {}
    return layer(**{"kernel_size": 3, **filters, **arguments})


REFUSED_2D: list[tuple[dict[str, Any], type[Exception]]] = [
    ({"kernel_size": 0}, ValueError),
    ({"kernel_size": (3, -1)}, ValueError),
    ({"kernel_size": (3, 3, 3)}, ValueError),
    ({"kernel_size": 3.0}, TypeError),
    ({"kernel_size": "3"}, TypeError),
    ({"kernel_size": None}, TypeError),
    ({"strides": 0}, ValueError),
    ({"strides": (1, 2, 3)}, ValueError),
    ({"strides": True}, TypeError),
    ({"padding": "causal"}, ValueError),
    ({"padding": "full"}, ValueError),
    ({"padding": -1}, ValueError),
    ({"padding": ((1, 2), (3,))}, ValueError),
    ({"padding": None}, TypeError),
    ({"padding": 1.5}, TypeError),
    ({"depth_multiplier": 0}, ValueError),
    ({"depth_multiplier": -2}, ValueError),
    ({"depth_multiplier": 1.5}, TypeError),
    ({"depth_multiplier": None}, TypeError),
    ({"data_format": "NHWC"}, ValueError),
    ({"data_format": 1}, TypeError),
    ({"dilation_rate": 0}, ValueError),
    ({"dilation_rate": (1, 2, 3)}, ValueError),
    ({"dilation_rate": 2.5}, TypeError),
]


@pytest.mark.parametrize("layer", LAYERS_2D)
@pytest.mark.parametrize(("arguments", "error"), REFUSED_2D, ids=str)
def test_bad_arguments_are_refused_in_the_words_of_the_spec(
    layer: type, arguments: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error) as expected:
        Spec(**{"kernel_size": 3, **arguments})
    with pytest.raises(error, match=f"^{re.escape(str(expected.value))}$"):
        make(layer, **arguments)


@pytest.mark.parametrize("layer", LAYERS_1D)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kernel_size": 0}, ValueError, "kernel_size: .*0"),
        ({"kernel_size": (3, 3)}, TypeError, r"kernel_size: .*\(3, 3\)"),
        ({"strides": 0}, ValueError, "strides: .*0"),
        ({"strides": "2"}, TypeError, "strides: .*'2'"),
        ({"padding": "causal"}, ValueError, "padding: .*'causal'"),
        ({"padding": -1}, ValueError, "padding: .*-1"),
        ({"padding": (1, 2, 3)}, ValueError, r"padding: .*\(1, 2, 3\)"),
        ({"dilation_rate": 0}, ValueError, "dilation_rate: .*0"),
        ({"depth_multiplier": 0}, ValueError, "depth_multiplier: .*0"),
        ({"data_format": "NWC"}, ValueError, "data_format: .*'NWC'"),
    ],
    ids=str,
)
def test_bad_arguments_of_layers_over_lines_are_refused(
    layer: type, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^{message}"):
        make(layer, **arguments)


@pytest.mark.parametrize("layer", [*LAYERS_1D, *LAYERS_2D])
def test_strides_with_dilation_are_refused_as_documented_unless_allowed(layer: type) -> None:
    with pytest.raises(ValueError, match=r"^strides: .*strided_dilation=True.*strides=2 and dilation_rate=3"):
        make(layer, strides=2, dilation_rate=3)
    assert make(layer, strides=2, dilation_rate=3, strided_dilation=True).strides[0] == 2
    with pytest.raises(TypeError, match=r"^strided_dilation: expected True or False, got 1"):
        make(layer, strided_dilation=1)


@pytest.mark.parametrize("layer", [*LAYERS_1D, *LAYERS_2D])
def test_unknown_arguments_and_activations_are_refused(layer: type) -> None:
    with pytest.raises((TypeError, ValueError), match="kernel_sise"):
        make(layer, kernel_sise=3)
    with pytest.raises(ValueError, match="relu7"):
        make(layer, activation="relu7")
    with pytest.raises(ValueError, match=r"groups: expected 1, .* got 2"):
        make(layer, groups=2)


@pytest.mark.parametrize("layer", [SeparableConv1D, SeparableConv2D])
def test_filters_are_checked(layer: type) -> None:
    for filters, error in (
        (0, ValueError),
        (-3, ValueError),
        ("5", TypeError),
        (5.0, TypeError),
        (True, TypeError),
    ):
        with pytest.raises(error, match=f"^filters: expected a positive integer, got {filters!r}"):
            layer(filters, 3)
    assert layer(np.int64(5), 3).filters == 5


@pytest.mark.parametrize("layer", [*LAYERS_1D, *LAYERS_2D])
def test_use_bias_is_checked(layer: type) -> None:
    with pytest.raises(TypeError, match=r"^use_bias: expected True or False, got 'no' of type str"):
        make(layer, use_bias="no")


def test_an_image_smaller_than_the_window_is_refused_when_the_layer_is_built() -> None:
    ways: list[Callable[[Any], Any]] = [
        lambda layer: layer.build((None, 2, 9, 3)),
        lambda layer: layer(np.zeros((1, 2, 9, 3), np.float32)),
        lambda layer: layer(keras.Input((2, 9, 3))),
        lambda layer: layer.compute_output_shape((None, 2, 9, 3)),
    ]
    for build in ways:
        with pytest.raises(ValueError, match=r"kernel_size: .*of height 3, for an input of height 2"):
            build(DepthwiseConv2D(3))


@pytest.mark.parametrize("layer", [*LAYERS_1D, *LAYERS_2D])
def test_unknown_channels_are_refused_when_the_layer_is_built(layer: type) -> None:
    shape = (None,) * 3 if layer in LAYERS_1D else (None,) * 4
    with pytest.raises(ValueError, match=r"^input_shape: expected known channels on axis -?\d"):
        make(layer).build(shape)


def test_inputs_of_other_ranks_and_channels_are_refused() -> None:
    layer = DepthwiseConv2D(3)
    with pytest.raises(ValueError, match=r"^input_shape: expected 4 sizes .* got 5"):
        DepthwiseConv2D(3)(np.zeros((1, 2, 8, 8, 3), np.float32))
    with pytest.raises(ValueError, match="expected min_ndim=4, found ndim=3"):
        DepthwiseConv2D(3)(np.zeros((8, 8, 3), np.float32))
    layer(np.zeros((1, 8, 8, 3), np.float32))
    with pytest.raises(ValueError, match=r"expected axis -?[13] of input shape to have value 3"):
        layer(np.zeros((1, 8, 8, 4), np.float32))


def test_defaults_are_those_of_the_documentation() -> None:
    layer = DepthwiseConv2D(3)
    assert (layer.kernel_size, layer.strides, layer.padding) == ((3, 3), (1, 1), "valid")
    assert (layer.depth_multiplier, layer.data_format, layer.dilation_rate) == (1, "channels_last", (1, 1))
    assert (layer.activation, layer.use_bias) == (keras.activations.linear, True)
    assert isinstance(layer.depthwise_initializer, keras.initializers.GlorotUniform)
    assert isinstance(layer.bias_initializer, keras.initializers.Zeros)
    regularizers = (layer.depthwise_regularizer, layer.bias_regularizer, layer.activity_regularizer)
    constraints = (layer.depthwise_constraint, layer.bias_constraint)
    assert set(regularizers + constraints) == {None}
    assert layer.trainable


def test_initializers_of_none_are_the_defaults() -> None:
    """So the documentation says; Keras 3 makes it glorot_uniform for the bias as well."""
    keras.utils.set_random_seed(1)
    default = DepthwiseConv2D(3, depth_multiplier=2)
    default.build((None, 8, 8, 4))
    keras.utils.set_random_seed(1)
    layer = DepthwiseConv2D(3, depth_multiplier=2, depthwise_initializer=None, bias_initializer=None)
    layer.build((None, 8, 8, 4))
    np.testing.assert_array_equal(to_numpy(layer.kernel), to_numpy(default.kernel))
    np.testing.assert_array_equal(to_numpy(layer.bias), np.zeros(8))


def test_arguments_may_be_given_by_position_as_documented() -> None:
    layer = DepthwiseConv2D((3, 2), (1, 2), "SAME", 2, "channels_first", (1, 1), "relu", False, "ones")
    y = evaluate_layer(layer, x := normal(1, 3, 8, 9), [kernel := np.ones((3, 2, 3, 2), np.float32)])
    expected = depthwise.depthwise_conv2d(
        x, kernel, strides=(1, 2), padding="same", data_format="channels_first", activation="relu"
    )
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("layer", LAYERS_2D)
def test_lists_and_integers_of_numpy_are_taken(layer: type) -> None:
    """As interfaces to other languages pass them."""
    given = make(
        layer, kernel_size=[3, 2], strides=np.int64(2), padding=[[1, 0], [2, 3]], dilation_rate=[1, 1]
    )
    assert (given.kernel_size, given.strides, given.padding) == ((3, 2), (2, 2), ((1, 0), (2, 3)))
    assert keras.saving.serialize_keras_object(given)  # in plain numbers


def test_the_data_format_defaults_to_that_of_kerass_configuration() -> None:
    keras.config.set_image_data_format("channels_first")
    layer = DepthwiseConv2D(3, depth_multiplier=2)
    assert layer.data_format == "channels_first"
    assert layer(np.zeros((2, 3, 8, 9), np.float32)).shape == (2, 6, 6, 7)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("layer", [*LAYERS_1D, *LAYERS_2D])
@pytest.mark.parametrize(
    "options",
    [
        {"padding": "valid"},
        {"padding": "same"},
        {"padding": "same", "strides": 2},
        {"padding": "valid", "strides": 3, "depth_multiplier": 2},
        {"padding": "same", "dilation_rate": 3},
        {"padding": "valid", "dilation_rate": 2},
    ],
    ids=str,
)
def test_output_shapes_are_kerass_with_any_size_unknown(
    layer: type, options: dict[str, Any], data_format: str
) -> None:
    stock = getattr(keras.layers, layer.__name__)
    ours = make(layer, data_format=data_format, **options)
    filters = {"filters": 5} if hasattr(ours, "filters") else {}
    theirs = stock(kernel_size=3, data_format=data_format, **filters, **options)
    sizes: list[tuple[int | None, ...]] = [(12,), (None,)]
    if layer in LAYERS_2D:
        sizes = [(12, 13), (None, 13), (12, None), (None, None)]
    for batch in (None, 2):
        for size in sizes:
            shape = (batch, *size, 4) if data_format == "channels_last" else (batch, 4, *size)
            assert ours.compute_output_shape(shape) == theirs.compute_output_shape(shape), shape
            assert ours(keras.KerasTensor(shape)).shape == theirs.compute_output_shape(shape), shape


def test_output_shapes_of_what_keras_lacks() -> None:
    layer = DepthwiseConv2D(3, (2, 3), ((1, 2), (0, 4)), dilation_rate=2, strided_dilation=True)
    assert layer.compute_output_shape((None, 20, None, 6)) == (None, 10, None, 6)
    assert layer(np.zeros((1, 20, 21, 6), np.float32)).shape == (1, 10, 7, 6)
    line = DepthwiseConv1D(
        3, 2, (0, 3), 2, dilation_rate=2, strided_dilation=True, data_format="channels_first"
    )
    assert line.compute_output_shape((None, 6, 20)) == (None, 12, 10)
    assert line(np.zeros((1, 6, 20), np.float32)).shape == (1, 12, 10)
    with pytest.raises(ValueError, match="input_shape: expected 3 sizes, got 4"):
        line.compute_output_shape((None, 6, 20, 1))
    with pytest.raises(ValueError, match=r"input_shape: expected 4 sizes .* got 3"):
        layer.compute_output_shape((None, 6, 20))
