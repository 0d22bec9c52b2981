"""Layers inside wrappers and models of every kind, under dtype policies, with their convolution overridden."""

from __future__ import annotations

import copy
import threading
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

import depthwise
from depthwise.keras import DepthwiseConv1D, DepthwiseConv2D, SeparableConv1D, SeparableConv2D
from tests.cases import assert_same_bits
from tests.keras.support import (
    BACKEND,
    differentiate,
    evaluate_layer,
    needs_gradients,
    needs_training,
    normal,
    only_on,
    precise,
    to_numpy,
    to_tensor,
)

ALL = [
    (DepthwiseConv2D, {"kernel_size": 3}, (8, 9, 4)),
    (SeparableConv2D, {"kernel_size": 3, "filters": 5}, (8, 9, 4)),
    (DepthwiseConv1D, {"kernel_size": 3}, (12, 4)),
    (SeparableConv1D, {"kernel_size": 3, "filters": 5}, (12, 4)),
]


class BothWays(keras.layers.Wrapper):  # type: ignore[misc]
    """Reads an image from both sides. Its two layers are copies of the one given, as Bidirectional makes them."""

    def __init__(self, layer: Any, **kwargs: Any) -> None:
        super().__init__(layer, **kwargs)
        config = keras.saving.serialize_keras_object(layer)
        config["config"]["name"] = "forward_" + layer.name
        self.forward_layer = keras.saving.deserialize_keras_object(config)
        config = copy.deepcopy(layer.get_config())
        config["name"] = "backward_" + layer.name
        self.backward_layer = layer.__class__.from_config(config)

    def build(self, input_shape: Any) -> None:
        self.forward_layer.build(input_shape)
        self.backward_layer.build(input_shape)
        self.layer.build(input_shape)

    def call(self, inputs: Any) -> Any:
        backward = self.backward_layer(ops.flip(inputs, axis=2))
        return ops.concatenate([self.forward_layer(inputs), ops.flip(backward, axis=2)], axis=-1)


def test_a_wrapper_that_copies_the_layer_through_its_config() -> None:
    options: dict[str, Any] = {
        "padding": ((1, 2), (0, 1)),
        "activation": keras.layers.LeakyReLU(0.1),
        "name": "deep",
    }
    wrapper = BothWays(DepthwiseConv2D(3, 2, dilation_rate=2, strided_dilation=True, **options))
    x = normal(2, 12, 13, 3)
    y = to_numpy(wrapper(x))
    weights = [to_numpy(weight) for weight in wrapper.forward_layer.weights]
    assert [layer.name for layer in (wrapper.forward_layer, wrapper.backward_layer)] == [
        "forward_deep",
        "backward_deep",
    ]
    expected = depthwise.depthwise_conv2d(
        x,
        *weights,
        strides=2,
        dilation_rate=2,
        padding=((1, 2), (0, 1)),
        activation=("leaky_relu", 0.1),
    )
    np.testing.assert_array_equal(y[..., :3], expected)
    assert y.shape == (*expected.shape[:3], 6)


@pytest.mark.parametrize(("layer", "arguments", "shape"), ALL)
def test_time_distributed(layer: type, arguments: dict[str, Any], shape: tuple[int, ...]) -> None:
    inner = layer(padding="same", activation="relu", **arguments)
    wrapper = keras.layers.TimeDistributed(inner)
    x = normal(2, 5, *shape)
    inputs = keras.Input((5, *shape))
    model = keras.Model(inputs, wrapper(inputs))
    assert model.output_shape == (None, 5, *inner.compute_output_shape((None, *shape))[1:])
    y = model.predict(x, verbose=0)
    for step in range(5):
        np.testing.assert_allclose(y[:, step], to_numpy(inner(x[:, step])), rtol=1e-6, atol=1e-6)


@needs_training
def test_time_distributed_trains() -> None:
    model = keras.Sequential([keras.Input((3, 8, 9, 4)), keras.layers.TimeDistributed(DepthwiseConv2D(3))])
    before = model.get_weights()[0]
    model.compile("sgd", "mse")
    model.fit(normal(4, 3, 8, 9, 4), np.ones((4, 3, 6, 7, 4), np.float32), verbose=0)
    assert (model.get_weights()[0] != before).all()


class Subclassed(keras.Model):  # type: ignore[misc]
    """A model in the subclassing style, that uses one layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = DepthwiseConv2D(3, padding="same", activation="silu")
        self.head = keras.layers.Dense(2)

    def call(self, inputs: Any) -> Any:
        x = self.depthwise(self.depthwise(inputs))
        return self.head(ops.mean(x, axis=(1, 2)))


@needs_training
def test_a_subclassed_model_trains() -> None:
    model = Subclassed()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x, y = normal(8, 9, 9, 3), normal(8, 2, seed=1)
    losses = model.fit(x, y, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert len(model.trainable_weights) == 4


def test_a_functional_model_shares_a_layer_and_takes_images_of_any_size() -> None:
    layer = DepthwiseConv2D(3, strides=2, padding="same", activation="relu")
    image, other = keras.Input((None, None, 3)), keras.Input((None, None, 3))
    model = keras.Model([image, other], ops.subtract(layer(image), layer(other)))
    assert model.output_shape == (None, None, None, 3)
    for height, width in ((8, 9), (15, 6)):
        a, b = normal(2, height, width, 3, seed=1), normal(2, height, width, 3, seed=2)
        expected = to_numpy(layer(a)) - to_numpy(layer(b))
        np.testing.assert_allclose(model.predict([a, b], verbose=0), expected, rtol=1e-6, atol=1e-6)


POLICIES = {
    "float16": ("float16", "float16"),
    "bfloat16": ("bfloat16", "bfloat16"),
    "float64": ("float64", "float64"),
    "mixed_float16": ("float32", "float16"),
    "mixed_bfloat16": ("float32", "bfloat16"),
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("layer", "arguments", "shape"), ALL)
def test_dtype_policies(layer: Any, arguments: dict[str, Any], shape: tuple[int, ...], policy: str) -> None:
    if BACKEND == "numpy" and policy == "float64":
        pytest.skip("Keras makes the initial weights float32 on NumPy")
    variables, outputs = POLICIES[policy]
    with precise(variables):
        made = layer(dtype=policy, activation="relu", **arguments)
        y = made(to_tensor(normal(2, *shape, dtype="float32" if variables != "float64" else "float64")))
        assert {keras.backend.standardize_dtype(weight.dtype) for weight in made.weights} == {variables}
        assert keras.backend.standardize_dtype(y.dtype) == outputs
        assert layer.from_config(made.get_config()).dtype_policy.name == policy


def test_mixed_precision_computes_with_rounded_weights() -> None:
    x, kernel, bias = normal(1, 8, 9, 4), normal(3, 3, 4, 1, seed=1), normal(4, seed=2)
    layer = DepthwiseConv2D(3, activation="silu", dtype="mixed_float16")
    y = evaluate_layer(layer, x, [kernel, bias])
    half = [array.astype(np.float16) for array in (x, kernel, bias)]
    assert_same_bits(y, depthwise.depthwise_conv2d(*half, activation="silu"), "y")


@needs_training
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_trains(policy: str) -> None:
    keras.config.set_dtype_policy(policy)
    model = keras.Sequential(
        [
            keras.Input((10, 10, 3)),
            DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="relu6"),
            SeparableConv2D(4, 3, strides=2),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(1, dtype="float32"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.01), "mse")
    x = normal(8, 10, 10, 3)
    losses = model.fit(x, np.ones((8, 1), np.float32), epochs=4, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]


def test_integers_are_computed_in_the_dtype_of_the_weights() -> None:
    image = np.random.default_rng(0).integers(0, 255, (1, 8, 9, 4), np.uint8)
    layer = DepthwiseConv2D(3)
    y = evaluate_layer(layer, image, [kernel := normal(3, 3, 4, 1), np.zeros(4, np.float32)])
    np.testing.assert_array_equal(y, depthwise.depthwise_conv2d(image.astype(np.float32), kernel))


class Standardised(DepthwiseConv2D):
    """Weight standardisation: the kernel of each channel with mean 0 and variance 1."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        mean = ops.mean(kernel, axis=(0, 1), keepdims=True)
        deviation = ops.std(kernel, axis=(0, 1), keepdims=True)
        return super().convolution_op(inputs, (kernel - mean) / (deviation + 1e-5))


def test_call_uses_an_overridden_convolution_op() -> None:
    x, kernel, bias = normal(2, 8, 9, 4), normal(3, 3, 4, 2, seed=1) + 3, normal(8, seed=2)
    layer = Standardised(3, padding="same", depth_multiplier=2, activation="relu")
    y = evaluate_layer(layer, x, [kernel, bias])
    standard = (kernel - kernel.mean((0, 1))) / (kernel.std((0, 1)) + np.float32(1e-5))
    expected = depthwise.depthwise_conv2d(x, standard, bias, padding="same", activation="relu")
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@needs_gradients
def test_gradients_go_through_an_overridden_convolution_op() -> None:
    x = normal(1, 8, 9, 4)
    layer = Standardised(3, use_bias=False)
    evaluate_layer(layer, x, [normal(3, 3, 4, 1, seed=1)])
    _, _, (gradient,) = differentiate(layer, x, normal(1, 6, 7, 4, seed=2))
    np.testing.assert_allclose(
        gradient.sum((0, 1)), 0, atol=1e-3
    )  # standardisation takes no notice of a shift


def test_convolution_op_is_the_convolution_alone() -> None:
    x, kernel = normal(2, 8, 9, 4), normal(3, 3, 4, 1)
    layer = DepthwiseConv2D(3, strides=2, activation="relu")
    evaluate_layer(layer, x, [kernel, np.ones(4, np.float32)])
    expected = depthwise.depthwise_conv2d(x, kernel, strides=2)
    np.testing.assert_array_equal(to_numpy(layer.convolution_op(x, kernel)), expected)
    np.testing.assert_array_equal(to_numpy(layer.convolution_op(to_tensor(x), layer.kernel)), expected)
    assert layer.depthwise_kernel is layer.kernel


@pytest.mark.parametrize(("layer", "arguments", "shape"), ALL)
def test_layers_are_kerass_own_to_isinstance(
    layer: type, arguments: dict[str, Any], shape: tuple[int, ...]
) -> None:
    del shape
    assert isinstance(layer(**arguments), getattr(keras.layers, layer.__name__))


def test_trainable_may_change() -> None:
    layer = DepthwiseConv2D(3, trainable=False)
    layer.build((None, 8, 8, 3))
    assert (len(layer.trainable_weights), len(layer.non_trainable_weights)) == (0, 2)
    assert layer.get_config()["trainable"] is False
    layer.trainable = True
    assert (len(layer.trainable_weights), len(layer.non_trainable_weights)) == (2, 0)


def test_two_threads_run_two_models_at_once() -> None:
    """Each gets its own results, time after time."""
    models, images, expected = [], [], []
    for number in range(2):
        model = keras.Sequential(
            [
                keras.Input((24, 24, 16)),
                DepthwiseConv2D(3 + 2 * number, padding="same", activation="silu", bias_initializer="ones"),
                DepthwiseConv2D(3, strides=1 + number, activation="relu"),
            ]
        )
        models.append(model)
        images.append(normal(2, 24, 24, 16, seed=number))
        expected.append(model.predict(images[-1], verbose=0))
    wrong: list[str] = []

    def work(number: int) -> None:
        for _ in range(10):
            found = [
                models[number].predict(images[number], verbose=0),
                to_numpy(models[number](images[number])),
            ]
            wrong.extend(f"model {number}" for y in found if not np.array_equal(y, expected[number]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    assert not wrong


@only_on("tensorflow", "jax", reason="Keras has another compiler")
@pytest.mark.parametrize("jit_compile", [False, "auto", True])
@pytest.mark.filterwarnings("ignore:Model doesn't support `jit_compile=True`:UserWarning")
def test_models_train_with_and_without_xla(jit_compile: Any) -> None:
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.Sequential([DepthwiseConv2D(3)])])
    model.compile("sgd", "mse", jit_compile=jit_compile)
    model.fit(normal(2, 8, 8, 3), normal(2, 6, 6, 3), verbose=0)
    assert model.jit_compile is (BACKEND == "jax" and jit_compile is not False)


@only_on("torch", reason="the compiler is PyTorch's")
@pytest.mark.parametrize(("layer", "arguments", "shape"), ALL)
def test_pytorchs_compiler_sees_one_graph(
    layer: Any, arguments: dict[str, Any], shape: tuple[int, ...]
) -> None:
    import torch

    made = layer(padding="same", activation="silu", **arguments)
    x = to_tensor(normal(2, *shape))
    expected = to_numpy(made(x))
    compiled = torch.compile(made, fullgraph=True, backend="eager")
    np.testing.assert_array_equal(to_numpy(compiled(x)), expected)
