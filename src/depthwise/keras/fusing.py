"""Which of Keras's activations the op can apply by itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras

from depthwise.activations import Activation

__all__ = ["fused_activation"]

# Keras's functions that compute, called with the output alone, what the table of activations says.
_FUNCTIONS: dict[Callable[..., Any], Activation] = {
    getattr(keras.activations, name): Activation(name)
    for name in (
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
}


def fused_activation(activation: Any, dtype: str) -> Activation | None:
    """The fused activation that is the same function as Keras's `activation`; None if none is.

    Args:
        activation: None, a function, or one of Keras's activation layers.
        dtype: of what it is applied to: a layer that would compute in another is not fused.
    """
    if activation is None:
        return Activation("linear")
    if isinstance(activation, keras.layers.Layer):
        if activation.activity_regularizer is not None or activation.compute_dtype != dtype:
            return None
        return _of_layer(activation, dtype)
    try:
        return _FUNCTIONS.get(activation)
    except TypeError:  # an object that cannot be hashed
        return None


def _of_layer(layer: Any, dtype: str) -> Activation | None:
    """That of an activation layer. Exact types only: a subclass may compute something else."""
    kind = type(layer)
    if kind is keras.layers.Activation:
        return fused_activation(layer.activation, dtype)
    if kind is keras.layers.ReLU and not layer.threshold:
        slope = float(layer.negative_slope or 0.0)
        if layer.max_value is None:
            return _with_alpha("leaky_relu", slope) if slope else Activation("relu")
        return Activation("relu6") if layer.max_value == 6 and not slope else None
    if kind is keras.layers.LeakyReLU:
        return _with_alpha("leaky_relu", float(layer.negative_slope))
    if kind is keras.layers.ELU:
        return _with_alpha("elu", float(layer.alpha))
    return None


def _with_alpha(name: str, alpha: float) -> Activation | None:
    """None for an alpha that the op does not take, such as a negative one of ELU."""
    return Activation(name, alpha) if 0.0 <= alpha < math.inf else None
