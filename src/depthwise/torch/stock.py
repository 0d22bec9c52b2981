"""The same convolution in PyTorch's own functions: for tensors that are not on the CPU, and for ONNX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from torch.nn import functional

from depthwise.torch.kernels import Options, Tensor

__all__ = ["activate", "convolve"]


def convolve(input: Tensor, weight: Tensor, bias: Tensor | None, options: Options) -> Tensor:  # noqa: A002
    """What the op computes, to rounding.

    Args:
        input: (batch, channels, height, width).
        weight: (channels * depth multiplier, 1, kernel height, kernel width).
        bias: (channels * depth multiplier,), or None.
        options: what to compute.
    """
    (top, bottom), (left, right) = options.padding_amounts(input.shape[2:], weight.shape[2:])
    padding = (top, left)
    if (top, left) != (bottom, right):  # which the convolution does not know
        input = functional.pad(input, (left, right, top, bottom))  # noqa: A001
        padding = (0, 0)
    z = functional.conv2d(
        input, weight, bias, options.strides, padding, options.dilation_rate, groups=input.shape[1]
    )
    return activate(z, options)


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
    "hard_sigmoid": lambda z, _: functional.hardsigmoid(z),
    "sigmoid": lambda z, _: z.sigmoid(),
    "tanh": lambda z, _: z.tanh(),
    "gelu": lambda z, _: functional.gelu(z),
    "gelu_tanh": lambda z, _: functional.gelu(z, approximate="tanh"),
    "softplus": lambda z, _: functional.softplus(z),
}
