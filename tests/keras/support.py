"""Layers on arrays: results and gradients in NumPy, whatever the backend."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from depthwise.keras import DepthwiseConv2D
from tests.cases import DTYPES, Arrays, Case, Results

Array = NDArray[Any]
Tensor = Any  # of the backend

BACKEND: str = keras.backend.backend()
LAYOUTS = ("channels_last", "channels_first")

needs_gradients = pytest.mark.skipif(BACKEND == "numpy", reason="Keras has no gradients on NumPy")
needs_training = pytest.mark.skipif(BACKEND == "numpy", reason="Keras does not train on NumPy")


def only_on(*backends: str, reason: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(BACKEND not in backends, reason=f"{BACKEND}: {reason}")


def normal(*shape: int, dtype: str = "float32", seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(DTYPES[dtype])


def to_tensor(array: Array) -> Tensor:
    """In the array's own dtype, which Keras would not keep for float64."""
    return keras.ops.convert_to_tensor(array, dtype=array.dtype.name)


def to_numpy(value: Tensor) -> Array:
    array: Array = keras.ops.convert_to_numpy(value)
    return array


@contextlib.contextmanager
def precise(dtype: str) -> Iterator[None]:
    """JAX computes in float64 only where it is told to."""
    if BACKEND == "jax" and dtype == "float64":
        import jax
        from jax import experimental

        enable = (
            jax.enable_x64 if hasattr(jax, "enable_x64") else experimental.enable_x64
        )  # where it was before
        with enable(True):
            yield
    else:
        yield


def layer_of(case: Case, **kwargs: Any) -> DepthwiseConv2D:
    """The layer that computes a case whose activation has no parameter."""
    return DepthwiseConv2D(
        case.kernel_size,
        case.strides,
        case.padding,
        case.multiplier,
        case.data_format,
        case.dilation_rate,
        case.activation,
        case.bias,
        depthwise_initializer="zeros",  # JAX would compile a random one for every shape
        strided_dilation=True,
        **kwargs,
    )


def evaluate_layer(layer: Any, x: Array, weights: Sequence[Array | None]) -> Array:
    """The layer's output with these weights; None for one that it does not have."""
    if not layer.built:
        layer.build(x.shape)
    layer.set_weights([weight for weight in weights if weight is not None])
    return to_numpy(layer(to_tensor(x)))


def differentiate(layer: Any, x: Array, dy: Array) -> tuple[Array, Array, list[Array]]:
    """A built layer's output, and the gradients of sum(output * dy) to its input and its trainable weights."""
    y, dx, *dweights = _BACKENDS[BACKEND](layer, to_tensor(x), to_tensor(dy))
    return to_numpy(y), to_numpy(dx), [to_numpy(gradient) for gradient in dweights]


def results(layer: Any, arrays: Arrays) -> Results:
    """A depthwise layer's output and gradients for a case's arrays."""
    layer.build(arrays.x.shape)
    layer.set_weights([arrays.kernel] if arrays.bias is None else [arrays.kernel, arrays.bias])
    y, dx, dweights = differentiate(layer, arrays.x, arrays.dy)
    return Results(y, dx, dweights[0], None if arrays.bias is None else dweights[1])


def _tensorflow(layer: Any, x: Tensor, dy: Tensor) -> list[Tensor]:
    import tensorflow as tf

    variables = [variable.value for variable in layer.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    return [y, *tape.gradient(y, [x, *variables], output_gradients=dy)]


def _jax(layer: Any, x: Tensor, dy: Tensor) -> list[Tensor]:
    import jax

    trainable = [variable.value for variable in layer.trainable_variables]
    others = [variable.value for variable in layer.non_trainable_variables]

    def function(trainable: list[Tensor], x: Tensor) -> Tensor:
        y, _ = layer.stateless_call(trainable, others, x)
        return y

    def differentiate(trainable: list[Tensor], x: Tensor, dy: Tensor) -> list[Tensor]:
        y, pullback = jax.vjp(function, trainable, x)
        dweights, dx = pullback(dy)
        return [y, dx, *dweights]

    result: list[Tensor] = jax.jit(differentiate)(trainable, x, dy)
    return result


def _torch(layer: Any, x: Tensor, dy: Tensor) -> list[Tensor]:
    import torch

    x = x.detach().requires_grad_()
    y = layer(x)
    variables = [variable.value for variable in layer.trainable_variables]
    return [y.detach(), *torch.autograd.grad(y, [x, *variables], dy)]


_BACKENDS: dict[str, Callable[[Any, Tensor, Tensor], list[Tensor]]] = {
    "tensorflow": _tensorflow,
    "jax": _jax,
    "torch": _torch,
}
