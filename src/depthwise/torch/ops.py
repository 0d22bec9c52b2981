"""The functions: arguments as PyTorch's users pass them, to the op."""

from __future__ import annotations

import re
from typing import Any

import torch

from depthwise import arguments
from depthwise.activations import Activation, ActivationLike, normalise
from depthwise.arguments import Padding, PaddingLike, Pair, PairLike
from depthwise.torch import autograd, library, transforms  # noqa: F401  # the last two complete the ops
from depthwise.torch.kernels import Options, Tensor

__all__ = ["convolve", "depthwise_conv2d"]


def depthwise_conv2d(
    input: Tensor,  # noqa: A002  # its name in torch.nn.functional
    weight: Tensor,
    bias: Tensor | None = None,
    stride: PairLike = 1,
    padding: PaddingLike = 0,
    dilation: PairLike = 1,
    activation: ActivationLike = None,
) -> Tensor:
    strides = arguments.pair_argument("strides", stride)
    amounts = arguments.padding_argument(padding)
    dilation_rate = arguments.pair_argument("dilation_rate", dilation)
    options = Options(strides, amounts, dilation_rate, normalise(activation), is_channels_last(input))
    return library.conv2d(input, weight, bias, *options.arguments())


def convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    strides: Pair,
    padding: Padding,
    dilation_rate: Pair,
    activation: Activation,
    channels_last: bool,
) -> Tensor:
    """The convolution, from arguments in the normal form of `Spec`.

    Args:
        x: (batch, channels, height, width) of any strides, on any device.
        weight: (channels * depth multiplier, 1, kernel height, kernel width) of any strides.
        bias: (channels * depth multiplier,), or None.
        strides, padding, dilation_rate, activation: as the attributes of `Spec`.
        channels_last: which memory format the output has, and which order its sums are made in.

    Raises:
        TypeError, ValueError: as `Spec.check_shapes` and `check_dtypes` do.
    """
    return library.conv2d(
        x, weight, bias, *Options(strides, padding, dilation_rate, activation, channels_last).arguments()
    )


def is_channels_last(x: Tensor) -> bool:
    """Whether PyTorch's own convolution would return channels_last for an input of these strides and sizes.

    The rule is that of c10/core/MemoryFormat.h, `is_channels_last_strides_2d`: sizes of 1 leave it to the strides.
    """
    sizes, strides = x.shape, x.stride()
    if len(sizes) != 4 or strides[1] == 0:
        return False
    least = 0
    for axis in (1, 3, 2, 0):
        if sizes[axis] == 0 or strides[axis] < least:
            return False
        if axis == 0 and least == strides[1]:
            return False
        least = strides[axis]
        if sizes[axis] > 1:
            least *= sizes[axis]
    return True
