"""Activations: which are computed with the convolution, and that every other is applied after it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

import depthwise
from depthwise import Activation
from depthwise.activations import ACTIVATIONS
from depthwise.keras import DepthwiseConv1D, DepthwiseConv2D, SeparableConv2D
from depthwise.keras.fusing import fused_activation
from tests.keras.support import (
    BACKEND,
    Array,
    evaluate_layer,
    needs_training,
    normal,
    precise,
    to_numpy,
    to_tensor,
)

X, KERNEL, BIAS = normal(2, 7, 8, 3, seed=1), normal(3, 3, 3, 2, seed=2), normal(6, seed=3)

FUSED: list[tuple[Any, Activation]] = [
    (None, Activation("linear")),
    *(
        (name, Activation(name))
        for name in (
            "linear",
            "relu",
            "relu6",
            "leaky_relu",
            "elu",
            "silu",
            "swish",
            "hard_silu",
            "hard_swish",
        )
    ),
    *((name, Activation(name)) for name in ("hard_sigmoid", "sigmoid", "tanh", "gelu", "softplus")),
    (keras.activations.gelu, Activation("gelu")),
    (keras.activations.relu6, Activation("relu6")),
]

NOT_FUSED = ["softmax", "selu", "exponential", "mish", "softsign", "log_sigmoid", "celu"]


def fused_layers() -> list[tuple[Any, Activation | None]]:
    """Activation layers; made late, since Keras's session is cleared between tests."""
    layers = keras.layers
    return [
        (layers.ReLU(), Activation("relu")),
        (layers.ReLU(6.0), Activation("relu6")),
        (layers.ReLU(negative_slope=0.25), Activation("leaky_relu", 0.25)),
        (layers.LeakyReLU(0.1), Activation("leaky_relu", 0.1)),
        (layers.ELU(0.5), Activation("elu", 0.5)),
        (layers.Activation("gelu"), Activation("gelu")),
        (layers.Activation(layers.ELU(2.0)), Activation("elu", 2.0)),
        (layers.ReLU(5.0), None),
        (layers.ReLU(6.0, negative_slope=0.1), None),
        (layers.ReLU(threshold=1.0), None),
        (layers.ELU(-1.0), None),
        (layers.ELU(float("inf")), None),
        (layers.Activation("selu"), None),
        (layers.ReLU(activity_regularizer="l2"), None),
        (layers.ReLU(dtype="float16"), None),
        (layers.Softmax(), None),
        (layers.PReLU(), None),
    ]


def convolution(activation: Any = None) -> Array:
    return depthwise.depthwise_conv2d(X, KERNEL, BIAS, padding="same", activation=activation)


def layer_output(activation: Any, **kwargs: Any) -> Array:
    layer = DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation=activation, **kwargs)
    layer.build(X.shape)
    return evaluate_layer(layer, X, [KERNEL, BIAS, *layer.get_weights()[2:]])


@pytest.mark.parametrize(("activation", "expected"), FUSED, ids=str)
def test_known_functions_are_fused(activation: Any, expected: Activation) -> None:
    layer = DepthwiseConv2D(3, activation=activation)
    assert fused_activation(layer.activation, "float32") == expected
    np.testing.assert_array_equal(layer_output(activation), convolution(expected))


def test_every_activation_of_the_table_but_one_has_a_name_in_keras() -> None:
    """gelu_tanh is Keras's gelu with an argument."""
    names = {expected.name for _, expected in FUSED}
    assert names == ACTIVATIONS.keys() - {"gelu_tanh"}


@pytest.mark.parametrize("name", NOT_FUSED)
def test_other_functions_of_keras_run_after_the_convolution(name: str) -> None:
    assert fused_activation(keras.activations.get(name), "float32") is None
    expected = to_numpy(keras.activations.get(name)(keras.ops.convert_to_tensor(convolution())))
    np.testing.assert_allclose(layer_output(name), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("number", range(len(fused_layers())))
def test_activation_layers_are_fused_where_they_are_the_same_function(number: int) -> None:
    layer, expected = fused_layers()[number]
    assert fused_activation(layer, "float32") == expected
    if layer.compute_dtype == "float32" and getattr(layer, "alpha", 0.0) != float("inf"):
        y = to_numpy(layer(keras.ops.convert_to_tensor(convolution())))
        np.testing.assert_allclose(layer_output(layer), y, rtol=2e-6, atol=2e-6)


def test_a_subclass_of_an_activation_layer_is_not_taken_for_it() -> None:
    class Shifted(keras.layers.ReLU):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return super().call(inputs) + 1

    assert fused_activation(Shifted(), "float32") is None
    np.testing.assert_allclose(layer_output(Shifted()), convolution("relu") + 1, rtol=1e-6)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: keras.ops.sin(x) - 1,
        functools.partial(keras.activations.gelu, approximate=True),
        functools.partial(keras.activations.relu, max_value=2.0),
    ],
    ids=["lambda", "gelu", "relu"],
)
def test_callables_run_after_the_convolution(function: Callable[[Any], Any]) -> None:
    assert fused_activation(function, "float32") is None
    expected = to_numpy(function(keras.ops.convert_to_tensor(convolution())))
    np.testing.assert_allclose(layer_output(function), expected, rtol=1e-6, atol=1e-6)


def test_an_unhashable_callable_runs_after_the_convolution() -> None:
    class Twice:
        __hash__ = None  # type: ignore[assignment]

        def __call__(self, x: Any) -> Any:
            return 2 * x

    np.testing.assert_allclose(layer_output(Twice()), 2 * convolution(), rtol=1e-6)


def test_the_activation_may_change_after_the_layer_was_made() -> None:
    layer = DepthwiseConv2D(3, padding="same", depth_multiplier=2)
    evaluate_layer(layer, X, [KERNEL, BIAS])
    layer.activation = keras.activations.tanh
    np.testing.assert_array_equal(to_numpy(layer(X)), convolution("tanh"))


def test_an_activation_layer_of_another_dtype_computes_in_its_own() -> None:
    layer = DepthwiseConv2D(3, activation=keras.layers.ReLU(dtype="float32"), dtype="mixed_float16")
    assert keras.backend.standardize_dtype(layer(X).dtype) == "float32"


def test_losses_of_an_activation_layer_are_kept() -> None:
    layer = DepthwiseConv2D(3, activation=keras.layers.ReLU(activity_regularizer="l2"))
    layer(X)
    assert len(layer.losses) == 1


@needs_training
def test_weights_of_an_activation_layer_are_trained() -> None:
    layer = DepthwiseConv2D(3, activation=keras.layers.PReLU(shared_axes=[1, 2]))
    model = keras.Sequential([keras.Input((7, 8, 3)), layer])
    assert len(model.trainable_weights) == 3
    before = model.get_weights()
    model.compile("sgd", "mse")
    model.fit(X, np.ones((2, 5, 6, 3), np.float32), verbose=0)
    for old, new in zip(before, model.get_weights(), strict=True):
        assert (old != new).any()


@pytest.mark.parametrize("activation", ["silu", "selu"])
def test_the_other_layers_apply_theirs(activation: str) -> None:
    function = keras.activations.get(activation)
    x = X[:, 0]
    line = DepthwiseConv1D(3, activation=activation)
    plain = DepthwiseConv1D(3)
    expected = evaluate_layer(plain, x, [KERNEL[0, :, :, :1], BIAS[:3]])
    y = evaluate_layer(line, x, [KERNEL[0, :, :, :1], BIAS[:3]])
    np.testing.assert_allclose(
        y, to_numpy(function(keras.ops.convert_to_tensor(expected))), rtol=2e-6, atol=2e-6
    )

    weights = [KERNEL, normal(1, 1, 6, 4), normal(4)]
    expected = evaluate_layer(SeparableConv2D(4, 3, depth_multiplier=2), X, weights)
    y = evaluate_layer(SeparableConv2D(4, 3, depth_multiplier=2, activation=activation), X, weights)
    np.testing.assert_allclose(
        y, to_numpy(function(keras.ops.convert_to_tensor(expected))), rtol=2e-6, atol=2e-6
    )


@pytest.mark.skipif(BACKEND == "numpy", reason="Keras's numpy backend has its functions in one precision")
def test_fused_functions_are_kerass_to_rounding_in_every_dtype(dtype: str) -> None:
    with precise(dtype):
        z = np.linspace(-9, 9, 2001, dtype=np.float32).reshape(1, 3, 667, 1).astype(X.dtype)
        one = np.ones((1, 1, 1, 1), np.float32)
        tolerance = {"float64": 1e-6, "float32": 1e-6, "float16": 4e-3, "bfloat16": 4e-2}[dtype]
        for name in ("relu6", "leaky_relu", "elu", "silu", "hard_silu", "hard_sigmoid", "gelu", "softplus"):
            layer = DepthwiseConv2D(1, activation=name, use_bias=False, dtype=dtype)
            layer.build(z.shape)
            layer.set_weights([one])
            x = keras.ops.cast(to_tensor(z), dtype)
            y = to_numpy(layer(x)).astype(np.float64)
            expected = to_numpy(keras.activations.get(name)(x)).astype(np.float64)
            np.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance, err_msg=name)
