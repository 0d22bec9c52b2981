"""Agreement with Keras's own layers wherever they take the arguments, and with the reference everywhere."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest

import depthwise
from depthwise import reference
from depthwise.keras import DepthwiseConv1D, DepthwiseConv2D, SeparableConv1D, SeparableConv2D
from tests.cases import LAYOUTS, Case
from tests.keras.support import BACKEND, evaluate_layer, layer_of, needs_training, normal, only_on

# Which of these Keras's own layer takes depends on the backend; integers keep every sum exact.
CASES = [
    Case(
        (9, 10),
        kernel_size,
        4,
        batch=2,
        multiplier=multiplier,
        strides=strides,
        padding=padding,
        dilation_rate=dilation,
    )
    for kernel_size, multiplier, strides, padding, dilation in [
        ((1, 1), 1, (1, 1), "valid", (1, 1)),
        ((3, 3), 1, (1, 1), "same", (1, 1)),
        ((2, 5), 1, (1, 1), "same", (1, 1)),
        ((4, 3), 3, (2, 2), "same", (1, 1)),
        ((3, 3), 2, (3, 3), "valid", (1, 1)),
        ((3, 2), 2, (2, 1), "same", (1, 1)),
        ((3, 2), 1, (1, 3), "valid", (1, 1)),
        ((3, 3), 1, (1, 1), "same", (2, 2)),
        ((2, 3), 2, (1, 1), "valid", (3, 1)),
        ((3, 3), 1, (2, 2), "same", (2, 2)),
        ((2, 3), 1, (2, 3), "valid", (2, 3)),
        ((9, 9), 1, (1, 1), "same", (1, 1)),
        ((3, 3), 1, (2, 2), ((1, 0), (2, 3)), (1, 1)),
        ((3, 3), 2, (1, 1), 2, (2, 1)),
    ]
]


def stock_output(case: Case, weights: list[Any], x: Any) -> Any:
    """What Keras's own layer makes of a case; None where it does not take it."""
    if not isinstance(case.padding, str):
        return None
    if BACKEND == "tensorflow" and case.bias and x.shape[1] == 4 and case.y_shape[3] == case.outputs:
        return None  # it adds the bias along the width
    try:
        layer = keras.layers.DepthwiseConv2D(
            case.kernel_size,
            case.strides,
            case.padding,
            case.multiplier,
            case.data_format,
            case.dilation_rate,
            use_bias=case.bias,
            depthwise_initializer="zeros",
        )
        return evaluate_layer(layer, x, weights)
    except Exception:  # each backend has errors of its own
        return None


@pytest.mark.parametrize("data_format", LAYOUTS)
def test_a_grid_of_arguments(data_format: str) -> None:
    taken = 0
    for plain in CASES:
        for bias in (False, True) if plain.strides == (1, 1) else (True,):
            case = dataclasses.replace(plain, data_format=data_format, bias=bias)
            arrays = case.integers().cast("float32")
            weights = [arrays.kernel] if arrays.bias is None else [arrays.kernel, arrays.bias]
            y = evaluate_layer(layer_of(case), arrays.x, weights)
            expected = reference.depthwise_conv2d(arrays.x, arrays.kernel, arrays.bias, case.spec)
            np.testing.assert_array_equal(y, expected, err_msg=str(case))
            theirs = stock_output(case, weights, arrays.x)
            if theirs is not None:
                taken += 1
                np.testing.assert_allclose(y, theirs, rtol=1e-5, atol=1e-3, err_msg=str(case))
    assert taken >= 8, f"Keras's own layer took {taken} cases"


@pytest.mark.parametrize("data_format", LAYOUTS)
@pytest.mark.parametrize(
    "options",
    [
        {"padding": "same"},
        {"padding": "same", "strides": 2, "depth_multiplier": 2, "activation": "silu"},
        {"padding": "valid", "dilation_rate": 2, "use_bias": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("layer", [DepthwiseConv1D, SeparableConv1D, SeparableConv2D])
def test_the_other_layers_agree_with_kerass(layer: type, options: dict[str, Any], data_format: str) -> None:
    if BACKEND == "tensorflow" and data_format == "channels_first" and layer is SeparableConv2D:
        pytest.skip("TensorFlow has Keras's own on some CPUs only")
    separable = {} if layer is DepthwiseConv1D else {"filters": 5}
    stock = getattr(keras.layers, layer.__name__)(
        kernel_size=3, data_format=data_format, **separable, **options
    )
    ours = layer(kernel_size=3, data_format=data_format, **separable, **options)
    sizes = (9, 8) if layer is SeparableConv2D else (14,)
    x = normal(2, *sizes, 4) if data_format == "channels_last" else normal(2, 4, *sizes)
    stock.build(x.shape)
    weights = [normal(*weight.shape, seed=1) for weight in stock.weights]
    np.testing.assert_allclose(
        evaluate_layer(ours, x, weights), evaluate_layer(stock, x, weights), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("override", [False, True])
def test_a_bias_is_added_along_the_channels_of_images_as_wide_as_they_have_channels(override: bool) -> None:
    class Overridden(DepthwiseConv2D):
        def convolution_op(self, inputs: Any, kernel: Any) -> Any:
            return super().convolution_op(inputs, kernel)

    x, kernel, bias = normal(2, 6, 5, 6), normal(3, 3, 6, 1), normal(6)
    layer = (Overridden if override else DepthwiseConv2D)(3, padding="same", data_format="channels_first")
    expected = depthwise.depthwise_conv2d(x, kernel, bias, padding="same", data_format="channels_first")
    np.testing.assert_allclose(evaluate_layer(layer, x, [kernel, bias]), expected, rtol=1e-5, atol=1e-5)
    separable = SeparableConv2D(6, 3, padding="same", data_format="channels_first")
    identity = np.eye(6, dtype=np.float32)[None, None]
    y = evaluate_layer(separable, x, [kernel, identity, bias])
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def models() -> list[Any]:
    """The same model with Keras's layers and with these, on the same weights."""
    made = []
    for depthwise_layer, separable_layer in (
        (keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D),
        (DepthwiseConv2D, SeparableConv2D),
    ):
        options: dict[str, Any] = {"depthwise_regularizer": "l2", "bias_regularizer": "l1"}
        model = keras.Sequential(
            [
                keras.Input((12, 12, 3)),
                depthwise_layer(
                    3,
                    padding="same",
                    depth_multiplier=2,
                    activation="relu",
                    depthwise_constraint=keras.constraints.MaxNorm(0.5),
                    bias_constraint="non_neg",
                    activity_regularizer="l2",
                    **options,
                ),
                separable_layer(
                    4, 3, strides=2, padding="same", activation="silu", pointwise_regularizer="l2"
                ),
                depthwise_layer(3, dilation_rate=2, activation="selu", use_bias=False),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(2),
            ]
        )
        made.append(model)
    made[1].set_weights(made[0].get_weights())
    return made


@needs_training
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_training_goes_the_same_way_as_with_kerass_layers(optimizer: str) -> None:
    """Loss, regularizers, constraints and gradients, through compiled steps."""
    x, y = normal(12, 12, 12, 3, seed=1), normal(12, 2, seed=2)
    histories, outputs = [], []
    for model in models():
        model.compile(
            keras.optimizers.get({"class_name": optimizer, "config": {"learning_rate": 0.01}}), "mse"
        )
        histories.append(model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0).history["loss"])
        outputs.append(model.predict(x, verbose=0))
        kernel = model.layers[0].get_weights()[0]
        assert np.linalg.norm(kernel, axis=0).max() <= 0.5 + 1e-6
        assert model.layers[0].get_weights()[1].min() >= 0
    np.testing.assert_allclose(histories[0], histories[1], rtol=1e-3)
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-2, atol=1e-3)
    assert histories[1][1] < histories[1][0]


@needs_training
def test_losses_and_metrics_of_an_evaluation_are_the_same() -> None:
    x, y = normal(4, 12, 12, 3, seed=1), normal(4, 2, seed=2)
    found = []
    for model in models():
        model.compile(loss="mse", metrics=["mae"])
        found.append(model.evaluate(x, y, verbose=0))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4)


@only_on("tensorflow", "jax", "torch", reason="Keras does not train on NumPy")
def test_frozen_layers_stay_as_they_are() -> None:
    model = models()[1]
    model.layers[0].trainable = False
    before = [layer.get_weights() for layer in model.layers]
    model.compile("sgd", "mse")
    model.fit(normal(4, 12, 12, 3), normal(4, 2), verbose=0)
    after = [layer.get_weights() for layer in model.layers]
    for old, new in zip(before[0], after[0], strict=True):
        np.testing.assert_array_equal(old, new)
    assert (before[1][0] != after[1][0]).any()
    assert model.layers[0].trainable_weights == []
    assert len(model.layers[0].non_trainable_weights) == 2
