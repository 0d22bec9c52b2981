"""Keras's own checks of a layer: config and JSON round trips, weights, shapes, a training step, mixed precision."""

from __future__ import annotations

from typing import Any

import keras
import pytest
from keras.src.testing import TestCase  # what Keras tests its layers with; it ships with it

from depthwise.keras import DepthwiseConv1D, DepthwiseConv2D, SeparableConv1D, SeparableConv2D
from depthwise.keras.layers import GroupedConv2D

# Keras's check trains on a generator, and warns of that.
pytestmark = pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")

IMAGE = (2, 9, 8, 4)
LINE = (2, 15, 4)

# The class, its arguments, the shape of the input and of the output.
CHECKS: list[tuple[type, dict[str, Any], tuple[int, ...], tuple[int, ...]]] = [
    (DepthwiseConv2D, {"kernel_size": 3}, IMAGE, (2, 7, 6, 4)),
    (
        DepthwiseConv2D,
        {
            "kernel_size": (3, 2),
            "strides": (2, 1),
            "padding": "same",
            "activation": "relu6",
            "use_bias": False,
        },
        IMAGE,
        (2, 5, 8, 4),
    ),
    (
        DepthwiseConv2D,
        {"kernel_size": 3, "dilation_rate": (2, 3), "depth_multiplier": 2, "padding": ((1, 0), (2, 3))},
        IMAGE,
        (2, 6, 7, 8),
    ),
    (
        DepthwiseConv2D,
        {"kernel_size": 3, "strides": 2, "dilation_rate": 2, "strided_dilation": True, "activation": "gelu"},
        IMAGE,
        (2, 3, 2, 4),
    ),
    (DepthwiseConv2D, {"kernel_size": 3, "data_format": "channels_first"}, (2, 4, 9, 8), (2, 4, 7, 6)),
    (DepthwiseConv1D, {"kernel_size": 5, "strides": 2, "depth_multiplier": 3}, LINE, (2, 6, 12)),
    (DepthwiseConv1D, {"kernel_size": 3, "padding": (4, 0), "activation": "tanh"}, LINE, (2, 17, 4)),
    (
        SeparableConv2D,
        {"filters": 5, "kernel_size": 3, "padding": 1, "activation": "relu"},
        IMAGE,
        (2, 9, 8, 5),
    ),
    (
        SeparableConv2D,
        {
            "filters": 5,
            "kernel_size": 3,
            "strides": (1, 2),
            "depth_multiplier": 2,
            "data_format": "channels_first",
        },
        (2, 4, 9, 8),
        (2, 5, 7, 3),
    ),
    (
        SeparableConv1D,
        {"filters": 5, "kernel_size": 3, "dilation_rate": 2, "padding": "same"},
        LINE,
        (2, 15, 5),
    ),
    (GroupedConv2D, {"filters": 8, "kernel_size": 3, "groups": 4, "padding": "same"}, IMAGE, (2, 9, 8, 8)),
]


@pytest.mark.parametrize(("layer", "arguments", "shape", "expected"), CHECKS, ids=range(len(CHECKS)))
def test_keras_checks(
    layer: type, arguments: dict[str, Any], shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    separable = issubclass(layer, (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D))
    TestCase().run_layer_test(
        layer,
        arguments,
        input_shape=shape,
        expected_output_shape=expected,
        expected_output_dtype="float32",
        expected_num_trainable_weights=1 + separable + arguments.get("use_bias", True),
        expected_num_non_trainable_weights=0,
        expected_num_seed_generators=0,
        expected_num_losses=0,
        supports_masking=False,
    )


@pytest.mark.parametrize("layer", [DepthwiseConv1D, DepthwiseConv2D, SeparableConv1D, SeparableConv2D])
def test_keras_checks_with_regularizers_and_constraints(layer: type) -> None:
    line = issubclass(layer, (keras.layers.DepthwiseConv1D, keras.layers.SeparableConv1D))
    separable = issubclass(layer, (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D))
    arguments: dict[str, Any] = {
        "kernel_size": 3,
        "depthwise_initializer": keras.initializers.HeNormal(seed=1),
        "depthwise_regularizer": keras.regularizers.L1L2(0.1, 0.2),
        "bias_regularizer": "l2",
        "activity_regularizer": "l1",
        "depthwise_constraint": keras.constraints.MaxNorm(2.0),
        "bias_constraint": "non_neg",
        "dtype": "float32",
        "trainable": True,
        "name": "layer",
    }
    if separable:
        arguments |= {"filters": 5, "pointwise_regularizer": "l2", "pointwise_constraint": "unit_norm"}
    TestCase().run_layer_test(
        layer,
        arguments,
        input_shape=LINE if line else IMAGE,
        expected_num_losses=4 if separable else 3,
        expected_num_trainable_weights=3 if separable else 2,
    )
