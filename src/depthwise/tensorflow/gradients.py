"""The gradients of the ops, as TensorFlow asks for them: functions from a node to the gradients of its inputs.

The first derivative is one native op for all gradients that are wanted, with the activation's derivative fused into it.
Where it is not known which are wanted it is one op per gradient, and the graph will leave out what nobody reads. It is
bilinear in what it is given but for the activation; so a derivative of it is made of the same ops without an
activation, and of the activation's derivative in TensorFlow's own functions. Both can be differentiated again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from depthwise.activations import ACTIVATIONS, Activation
from depthwise.derivatives import Functions, scale_by_derivative
from depthwise.tensorflow.library import (
    LINEAR,
    Attributes,
    convolve,
    gradients,
    input_gradient,
    kernel_gradient,
)

__all__: list[str] = []

_FUNCTIONS = Functions(where=tf.where, exp=tf.exp, tanh=tf.tanh, erf=tf.math.erf, zeros_like=tf.zeros_like)
_HALF_TYPES = (tf.float16, tf.bfloat16)
_NAMES = {info.code: name for name, info in ACTIVATIONS.items()}
_ATTRIBUTES = (
    "strides",
    "dilation_rate",
    "padding",
    "explicit_padding",
    "data_format",
    "activation",
    "alpha",
)


@tf.RegisterGradient("Depthwise>Conv2d")  # type: ignore[untyped-decorator]
def _convolution(op: Any, dy: Any, _: Any) -> list[Any]:
    x, kernel, *biases = op.inputs
    bias = biases[0] if biases else None
    attributes = _attributes(op)
    activation = _activation(attributes)
    saved = None
    if activation.info.needs_preactivation:
        saved = op.outputs[1]
        _keep_preactivation(saved)
    elif activation.name != "linear":
        saved = op.outputs[0]
    unwanted = _unwanted(op)
    of_input = unwanted is None or 0 not in unwanted
    of_kernel = unwanted is None or 1 not in unwanted or (biases and 2 not in unwanted)
    dx = dkernel = dbias = None
    if unwanted is not None and of_input and of_kernel:
        dx, dkernel, dbias = gradients(x, kernel, bias, dy, saved, attributes)
        return [dx, dkernel, dbias][: 2 + len(biases)]
    if of_input:
        dx = input_gradient(x, kernel, bias, dy, saved, attributes)
    if of_kernel:
        dkernel, dbias = kernel_gradient(x, kernel, bias, dy, saved, attributes)
    return [dx, dkernel, dbias][: 2 + len(biases)]


@dataclass(frozen=True)
class _First:
    """The node of a first derivative, taken apart."""

    x: Any
    kernel: Any
    bias: Any | None
    dy: Any
    saved: Any | None
    activation: Activation
    linear: Attributes  # those of the convolution without its activation

    @classmethod
    def of(cls, op: Any) -> _First:
        x, kernel, *rest = op.inputs
        attributes = _attributes(op)
        activation = _activation(attributes)
        saved = None if activation.name == "linear" else rest.pop()
        dy = rest.pop()
        bias = rest.pop() if rest else None
        return cls(x, kernel, bias, dy, saved, activation, {**attributes, **LINEAR})


@tf.RegisterGradient("Depthwise>Conv2dInputGradient")  # type: ignore[untyped-decorator]
def _of_input_gradient(op: Any, ddx: Any) -> list[Any]:
    return _second(op, ddx, None, None)


@tf.RegisterGradient("Depthwise>Conv2dKernelGradient")  # type: ignore[untyped-decorator]
def _of_kernel_gradient(op: Any, ddkernel: Any, ddbias: Any) -> list[Any]:
    return _second(op, None, ddkernel, ddbias)


@tf.RegisterGradient("Depthwise>Conv2dGradients")  # type: ignore[untyped-decorator]
def _of_gradients(op: Any, ddx: Any, ddkernel: Any, ddbias: Any) -> list[Any]:
    return _second(op, ddx, ddkernel, ddbias)


def _second(op: Any, ddx: Any | None, ddkernel: Any | None, ddbias: Any | None) -> list[Any]:
    """The gradients with respect to the inputs of a first derivative, from those with respect to what it gave."""
    first = _First.of(op)
    ddz = None
    if ddx is not None:
        ddz, _ = convolve(ddx, first.kernel, None, first.linear)
    if ddkernel is not None:
        from_kernel, _ = convolve(first.x, ddkernel, None if first.bias is None else ddbias, first.linear)
        ddz = _sum(ddz, from_kernel)
    dx, dkernel, dbias, ddy, dsaved, dz = _through_activation(first, ddz)
    if ddx is not None:
        through_x, _ = kernel_gradient(ddx, first.kernel, None, dz, None, first.linear)
        dkernel = _sum(dkernel, through_x)
    if ddkernel is not None:
        dx = _sum(dx, input_gradient(first.x, ddkernel, None, dz, None, first.linear))
    return _inputs(first, dx, dkernel, dbias, ddy, dsaved)


def _through_activation(first: _First, ddz: Any) -> tuple[Any, Any, Any, Any, Any, Any]:
    """What the gradient `ddz` with respect to dz = dy * activation'(z) makes of what dz was made from.

    Returns:
        The gradients with respect to x, kernel, bias, dy and saved, None where there is none, and dz.
    """
    if first.saved is None:
        return None, None, None, ddz, None, first.dy
    if not first.activation.info.needs_preactivation:
        # y is an output of the convolution: its own gradient takes the rest of the way.
        dz, ddy, dy_saved = _scaled(first, first.saved, ddz)
        return None, None, None, ddy, dy_saved, dz
    # z may not have been kept, and is no output that a gradient comes back to: computed anew it is one.
    z, _ = convolve(first.x, first.kernel, first.bias, first.linear)
    dz, ddy, dz_saved = _scaled(first, z, ddz)
    dx = input_gradient(first.x, first.kernel, None, dz_saved, None, first.linear)
    dkernel, dbias = kernel_gradient(first.x, first.kernel, first.bias, dz_saved, None, first.linear)
    return dx, dkernel, dbias, ddy, None, dz


def _scaled(first: _First, saved: Any, ddz: Any) -> tuple[Any, Any, Any]:
    """dz, and the gradients with respect to dy and saved for a gradient `ddz` with respect to it."""
    with tf.GradientTape() as tape:
        tape.watch(saved)
        dz = _scale(first.activation, first.dy, saved)
    dsaved = tape.gradient(dz, saved, output_gradients=ddz)
    return dz, _scale(first.activation, ddz, saved), dsaved


def _scale(activation: Activation, dy: Any, saved: Any) -> Any:
    """`dy` times the derivative of the activation; computed in float32 for half types, as the kernels do."""
    if dy.dtype not in _HALF_TYPES:
        return scale_by_derivative(activation, dy, saved, _FUNCTIONS)
    widened = (tf.cast(dy, tf.float32), tf.cast(saved, tf.float32))
    return tf.cast(scale_by_derivative(activation, *widened, _FUNCTIONS), dy.dtype)


def _inputs(first: _First, dx: Any, dkernel: Any, dbias: Any, ddy: Any, dsaved: Any) -> list[Any]:
    """The gradients in the order of the node's inputs."""
    biases = [] if first.bias is None else [dbias]
    saves = [] if first.saved is None else [dsaved]
    return [dx, dkernel, *biases, ddy, *saves]


def _sum(a: Any | None, b: Any) -> Any:
    return b if a is None else a + b


def _attributes(op: Any) -> Attributes:
    return {name: op.get_attr(name) for name in _ATTRIBUTES}


def _activation(attributes: Attributes) -> Activation:
    name = _NAMES[attributes["activation"]]
    return Activation(name, float(attributes["alpha"]))


def _unwanted(op: Any) -> Collection[int] | None:
    """Which inputs need no gradient, as a tape knows; None where it is not known, as for the node of a graph."""
    return (op.skip_input_indices or ()) if hasattr(op, "skip_input_indices") else None


def _keep_preactivation(z: Any) -> None:
    """Let the node of a graph that z comes from keep it, now that a gradient needs it.

    Without that z would be computed again: correct, but slower. It is why inference does not pay for z.
    """
    node: Any = getattr(z, "op", None)  # a tensor that was computed eagerly has none
    if getattr(node, "type", None) == "Depthwise>Conv2d" and hasattr(node, "_set_attr"):
        keep = tf.compat.v1.AttrValue(b=True)
        node._set_attr("keep_preactivation", keep)  # noqa: SLF001  # as TensorFlow's own gradients of loops do
