"""The layer."""

from __future__ import annotations

from typing import Any

import torch

from depthwise import arguments
from depthwise.activations import Activation, ActivationLike
from depthwise.arguments import PaddingLike, PairLike
from depthwise.spec import Spec
from depthwise.torch.kernels import Tensor
from depthwise.torch.ops import convolve_padded, in_torch_words

__all__ = ["DepthwiseConv2d"]


class DepthwiseConv2d(torch.nn.Conv2d):  # type: ignore[misc]  # PyTorch's types are not looked at
    """A layer of `depthwise_conv2d`, initialised as `torch.nn.Conv2d` is.

    It is a `torch.nn.Conv2d` with `groups` equal to `in_channels`, and its `state_dict` is that one's.

    >>> import torch
    >>> from depthwise.torch import DepthwiseConv2d
    >>> layer = DepthwiseConv2d(8, 3, stride=2, padding="same", depth_multiplier=2, activation="silu")
    >>> layer(torch.zeros(4, 8, 32, 32)).shape
    torch.Size([4, 16, 16, 16])
    >>> stock = torch.nn.Conv2d(8, 16, 3, groups=8)
    >>> stock.load_state_dict(layer.state_dict())
    <All keys matched successfully>

    Args:
        in_channels: channels of the input; at least 1.
        kernel_size: height and width of the window, in taps; an int or a pair.
        stride: step of the window along height and width, in pixels; an int or a pair.
        padding: pixels around the image: an int, a pair (height, width), ((top, bottom), (left, right)),
            "valid" or "same"; see `depthwise_conv2d`. Unlike `torch.nn.Conv2d`, "same" may go with any stride.
        dilation: distance between taps along height and width, in pixels; an int or a pair.
        depth_multiplier: output channels per input channel.
        bias: whether a bias of one number per output channel is added.
        padding_mode: what the padding is: "zeros", "reflect", "replicate" or "circular".
        activation: what is applied to the output: None, a name from `depthwise.activations.ACTIVATIONS`,
            (name, alpha) or an `Activation`.
        device, dtype: of the parameters, as in `torch.nn.Conv2d`.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument has a value that is not allowed.
    """

    def __init__(
        self,
        in_channels: int,
        kernel_size: PairLike,
        stride: PairLike = 1,
        padding: PaddingLike = 0,
        dilation: PairLike = 1,
        depth_multiplier: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        activation: ActivationLike = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        channels = _channels(in_channels)
        _check_padding_mode(padding_mode)
        try:
            spec = Spec(
                kernel_size,
                stride,
                padding,
                depth_multiplier,
                dilation_rate=dilation,
                activation=activation,
                use_bias=arguments.bool_argument("bias", bias),
            )
        except (TypeError, ValueError) as error:
            raise in_torch_words(error) from None
        super().__init__(
            channels,
            channels * spec.depth_multiplier,
            spec.kernel_size,
            spec.strides,
            dilation=spec.dilation_rate,
            groups=channels,
            bias=spec.use_bias,
            padding_mode=padding_mode,
            device=device,
            dtype=dtype,
        )
        self.padding = _stock_padding(spec)
        self.depth_multiplier = spec.depth_multiplier
        self.activation = spec.activation

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002
        """What `forward` of `torch.nn.Conv2d` calls."""
        return convolve_padded(
            input, weight, bias, self.stride, self.padding, self.dilation, self.activation, self.padding_mode
        )

    def extra_repr(self) -> str:
        """The arguments that are not the default's, in the words of the constructor."""
        parts = [f"{self.in_channels}, kernel_size={self.kernel_size}"]
        if self.stride != (1, 1):
            parts.append(f"stride={self.stride}")
        if self.padding != (0, 0):
            parts.append(f"padding={self.padding!r}")
        if self.dilation != (1, 1):
            parts.append(f"dilation={self.dilation}")
        if self.depth_multiplier != 1:
            parts.append(f"depth_multiplier={self.depth_multiplier}")
        if self.bias is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode!r}")
        if self.activation != Activation("linear"):
            default = Activation(self.activation.name)
            shown = (self.activation.name, self.activation.alpha)
            parts.append(f"activation={self.activation.name if self.activation == default else shown!r}")
        return ", ".join(parts)


def _channels(in_channels: Any) -> int:
    (channels,) = arguments.sizes("in_channels", (in_channels,), ("channels",))
    if channels < 1:
        raise ValueError(f"in_channels: expected a positive integer, got {in_channels!r}")
    return channels


def _check_padding_mode(padding_mode: Any) -> None:
    modes = ("zeros", "reflect", "replicate", "circular")
    if not isinstance(padding_mode, str):
        raise TypeError(f"padding_mode: expected one of {', '.join(modes)}, got {padding_mode!r}")
    if padding_mode not in modes:
        raise ValueError(f"padding_mode: expected one of {', '.join(modes)}, got {padding_mode!r}")


def _stock_padding(spec: Spec) -> Any:
    """As `torch.nn.Conv2d` writes it, where it can: a pair, or the name of a rule."""
    if isinstance(spec.padding, str):
        return spec.padding
    (top, bottom), (left, right) = spec.padding
    return (top, left) if (top, left) == (bottom, right) else spec.padding
