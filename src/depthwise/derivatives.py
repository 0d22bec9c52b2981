"""The derivatives of the fused activations, for frameworks that differentiate a gradient again.

The first derivative is computed by the kernels, from what the forward pass saved: the output y, or the value z
before the activation for those activations that `activations.py` marks. Where a framework takes the derivative of
a gradient, it needs that step as operations that it can differentiate itself. They are written here once, over
the few functions in which frameworks differ; no array library is imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from depthwise.activations import Activation

__all__ = ["Functions", "scale_by_derivative"]


@dataclass(frozen=True)
class Functions:
    """A framework's elementwise functions of the usual names; its arrays have Python's operators."""

    where: Callable[..., Any]
    exp: Callable[[Any], Any]
    tanh: Callable[[Any], Any]
    erf: Callable[[Any], Any]
    zeros_like: Callable[[Any], Any]


def scale_by_derivative(activation: Activation, dy: Any, saved: Any, functions: Functions) -> Any:
    """`dy` times the derivative of the activation, elementwise, in the dtype of `dy`.

    Args:
        activation: which one.
        dy: gradient with respect to the output, an array of the framework.
        saved: what the forward pass saved, of the shape and dtype of `dy`: z where
            `activation.info.needs_preactivation`, else y. Not read for "linear".
        functions: the framework's.
    """
    if activation.name == "linear":
        return dy
    return _DERIVATIVES[activation.name](dy, saved, activation.alpha, functions)


def _relu(dy: Any, y: Any, _alpha: float, f: Functions) -> Any:
    return f.where(y <= 0, f.zeros_like(dy), dy)


def _relu6(dy: Any, y: Any, _alpha: float, f: Functions) -> Any:
    return f.where((y <= 0) | (y >= 6), f.zeros_like(dy), dy)


def _leaky_relu(dy: Any, y: Any, alpha: float, f: Functions) -> Any:
    return f.where(y <= 0, dy * alpha, dy)


def _elu(dy: Any, y: Any, alpha: float, f: Functions) -> Any:
    return f.where(y <= 0, dy * (y + alpha), dy)


def _silu(dy: Any, z: Any, _alpha: float, f: Functions) -> Any:
    sigmoid = 0.5 + 0.5 * f.tanh(0.5 * z)  # exp(-z) would overflow
    return dy * (sigmoid * (1.0 + z * (1.0 - sigmoid)))


def _hard_swish(dy: Any, z: Any, _alpha: float, f: Functions) -> Any:
    return f.where(z <= -3, f.zeros_like(dy), f.where(z >= 3, dy, dy * (z * (1 / 3) + 0.5)))


def _hard_sigmoid(dy: Any, y: Any, _alpha: float, f: Functions) -> Any:
    return f.where((y <= 0) | (y >= 1), f.zeros_like(dy), dy * (1 / 6))


def _sigmoid(dy: Any, y: Any, _alpha: float, _f: Functions) -> Any:
    return dy * (y * (1.0 - y))


def _tanh(dy: Any, y: Any, _alpha: float, _f: Functions) -> Any:
    return dy * (1.0 - y * y)


def _gelu(dy: Any, z: Any, _alpha: float, f: Functions) -> Any:
    density = math.sqrt(0.5 / math.pi) * f.exp(-0.5 * z * z)
    return dy * (0.5 + 0.5 * f.erf(math.sqrt(0.5) * z) + z * density)


def _gelu_tanh(dy: Any, z: Any, _alpha: float, f: Functions) -> Any:
    scale = math.sqrt(2.0 / math.pi)
    tanh = f.tanh(scale * (z + 0.044715 * z * z * z))
    slope = scale * (1.0 + 3.0 * 0.044715 * z * z)
    return dy * (0.5 + 0.5 * tanh + 0.5 * z * (1.0 - tanh * tanh) * slope)


def _softplus(dy: Any, y: Any, _alpha: float, f: Functions) -> Any:
    return dy * (1.0 - f.exp(-y))


_DERIVATIVES: Final[dict[str, Callable[[Any, Any, float, Functions], Any]]] = {
    "relu": _relu,
    "relu6": _relu6,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "silu": _silu,
    "hard_swish": _hard_swish,
    "hard_sigmoid": _hard_sigmoid,
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "softplus": _softplus,
}
