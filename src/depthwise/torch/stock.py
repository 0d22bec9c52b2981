"""The same convolution in PyTorch's own functions: for tensors that are not on the CPU, and for ONNX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch.nn import functional

from depthwise.arguments import Pair
from depthwise.torch.internals import constant_shape
from depthwise.torch.kernels import Options, Tensor

__all__ = ["activate", "convolve", "gradients"]


def convolve(input: Tensor, weight: Tensor, bias: Tensor | None, options: Options) -> Tensor:  # noqa: A002
    """What the op computes, to rounding.

    Args:
        input: (batch, channels, height, width).
        weight: (channels * depth multiplier, 1, kernel height, kernel width).
        bias: (channels * depth multiplier,), or None.
        options: what to compute.
    """
    input, padding = _padded(input, weight, options)  # noqa: A001
    z = functional.conv2d(
        input, weight, bias, options.strides, padding, options.dilation_rate, groups=input.shape[1]
    )
    return activate(z, options)


def gradients(
    dz: Tensor, x: Tensor, weight: Tensor, options: Options, mask: Sequence[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients that the mask asks for, from that of the value before the activation; empty for the others."""
    padded, padding = _padded(x, weight, options)
    outputs, channels = weight.shape[0], x.shape[1]
    dx, dweight, dbias = torch.ops.aten.convolution_backward(
        dz,
        padded,
        weight,
        [outputs],
        options.strides,
        padding,
        options.dilation_rate,
        False,
        [0, 0],
        channels,
        mask,
    )
    if mask[0] and padded is not x:
        (top, _), (left, _) = options.padding_amounts(x.shape[2:], weight.shape[2:])
        dx = dx[:, :, top : top + x.shape[2], left : left + x.shape[3]]
    dx, dweight, dbias = (
        gradient if wanted else x.new_empty(0)
        for gradient, wanted in zip((dx, dweight, dbias), mask, strict=True)
    )
    return dx, dweight, dbias


def _padded(image: Tensor, weight: Tensor, options: Options) -> tuple[Tensor, Pair]:
    """An image with the padding that PyTorch's convolution does not know, and the padding left for it to add."""
    (top, bottom), (left, right) = amounts = options.padding_amounts(
        image.shape[2:], constant_shape(weight)[2:]
    )
    known = all(isinstance(amount, int) for pair in amounts for amount in pair)
    if known and (top, left) == (bottom, right):
        return image, (top, left)
    return functional.pad(image, (left, right, top, bottom)), (0, 0)


def activate(z: Tensor, options: Options) -> Tensor:
    """The activation alone."""
    return _ACTIVATIONS[options.activation.name](z, options.activation.alpha)


_ACTIVATIONS: Final[dict[str, Callable[[Tensor, float], Tensor]]] = {
    "linear": lambda z, _: z,
    "relu": lambda z, _: functional.relu(z),
    "relu6": lambda z, _: functional.relu6(z),
    "leaky_relu": functional.leaky_relu,
    "elu": functional.elu,
    "silu": lambda z, _: functional.silu(z),
    "hard_swish": lambda z, _: functional.hardswish(z),
    "hard_sigmoid": lambda z, _: functional.relu6(z + 3) / 6,  # hardsigmoid is differentiable only once
    "sigmoid": lambda z, _: z.sigmoid(),
    "tanh": lambda z, _: z.tanh(),
    "gelu": lambda z, _: functional.gelu(z),
    "gelu_tanh": lambda z, _: functional.gelu(z, approximate="tanh"),
    "softplus": lambda z, _: functional.softplus(z),
}
