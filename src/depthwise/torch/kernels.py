"""Tensors to the native op: what PyTorch's dispatcher runs on the CPU, and what it is told of the results' shapes.

Images are (batch, channels, height, width) for PyTorch whatever their strides; `channels_last` says which axis is
innermost in what is returned, and so which of the two families of kernels runs. Inputs are read where they are.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import torch

from depthwise.activations import Activation, ActivationInfo
from depthwise.arguments import Padding, Pair
from depthwise.native import Plan, make_plan
from depthwise.spec import Spec, check_dtypes
from depthwise.torch.internals import require

__all__ = ["Arguments", "Options", "activation_info", "backward", "fake_backward", "fake_forward", "forward"]

Tensor: TypeAlias = Any  # PyTorch's types are not looked at by the type checker
Shape: TypeAlias = tuple[int, int, int, int]
Arguments: TypeAlias = Sequence[Any]  # strides, padding, amounts, dilation, activation, alpha, channels_last
Address: TypeAlias = tuple[int, int, int, int, int]

NOTHING: Address = (0, 0, 0, 0, 0)  # an array that is not there


class Options(NamedTuple):
    """What a convolution does, in the normal form of `Spec`, and the layout of its output."""

    strides: Pair
    padding: Padding
    dilation_rate: Pair
    activation: Activation
    channels_last: bool

    def arguments(self) -> Arguments:
        """As the arguments of an op, which are not nested."""
        strides, padding, dilation_rate, activation, channels_last = self
        rule, amounts = (
            (padding, ()) if isinstance(padding, str) else ("explicit", (*padding[0], *padding[1]))
        )
        return strides, rule, amounts, dilation_rate, activation.name, activation.alpha, channels_last

    @classmethod
    def from_arguments(cls, arguments: Arguments) -> Options:
        """The inverse of `arguments`."""
        strides, rule, amounts, dilation_rate, activation, alpha, channels_last = arguments
        padding: Any = rule
        if rule == "explicit":
            padding = (tuple(amounts[:2]), tuple(amounts[2:]))
        strides, dilation_rate = cast(Pair, tuple(strides)), cast(Pair, tuple(dilation_rate))
        return cls(strides, padding, dilation_rate, Activation(activation, alpha), channels_last)

    def spec(self, weight_shape: Sequence[int], channels: int) -> Spec:
        """The spec of a call with a weight of this shape, which fits the channels."""
        outputs, _, height, width = weight_shape
        return Spec.from_kernel(
            (height, width, channels, outputs // channels if channels else 1),
            strides=self.strides,
            padding=self.padding,
            data_format="channels_last" if self.channels_last else "channels_first",
            dilation_rate=self.dilation_rate,
            activation=self.activation,
        )

    def padding_amounts(self, size: Sequence[int], kernel_size: Sequence[int]) -> tuple[Pair, Pair]:
        """The rule of `Spec.padding_amounts`, for sizes (height, width) that may be symbols."""
        if self.padding == "valid":
            return (0, 0), (0, 0)
        if self.padding != "same":
            return self.padding
        vertical, horizontal = (
            _same_padding(
                size[axis], self.strides[axis], (kernel_size[axis] - 1) * self.dilation_rate[axis] + 1
            )
            for axis in (0, 1)
        )
        return vertical, horizontal

    @property
    def linear(self) -> Options:
        """The same without the activation."""
        return self._replace(activation=Activation("linear"))


@functools.cache
def _activation_info(name: str) -> ActivationInfo:
    return Activation(name).info


def activation_info(arguments: Sequence[Any]) -> ActivationInfo:
    """What is known about the activation of a call."""
    return _activation_info(arguments[4])


class _Call(NamedTuple):
    """Everything about a call that its tensors' contents and strides do not change."""

    plan: Plan
    multiplier: int
    x_strides: Shape  # those of the gradient; x itself may have any
    y_shape: Shape
    y_strides: Shape


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, *arguments: Any, keep: bool
) -> tuple[Tensor, Tensor | None]:
    """The output, and with `keep` the value before the activation."""
    call = _prepare(x, weight, bias, arguments)
    y = torch.empty_strided(call.y_shape, call.y_strides, dtype=x.dtype)
    preactivation = torch.empty_strided(call.y_shape, call.y_strides, dtype=x.dtype) if keep else None
    if bias is not None:
        bias = bias.contiguous()
    call.plan.forward_at(
        _image(x),
        _filters(weight, call.multiplier),
        0 if bias is None else bias.data_ptr(),
        _image(y),
        NOTHING if preactivation is None else _image(preactivation),
    )
    return y, preactivation


def backward(
    dy: Tensor, x: Tensor, weight: Tensor, saved: Tensor | None, arguments: Arguments, mask: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients with respect to x, weight and bias that the mask asks for."""
    call = _prepare(x, weight, None, arguments)
    check_dtypes(y=_name(x.dtype), dy=_name(dy.dtype), saved=saved if saved is None else _name(saved.dtype))
    _check_devices(x, dy=dy, saved=saved)
    Spec.check_cotangent(dy.shape, call.y_shape)
    if saved is not None:
        Spec.check_cotangent(saved.shape, call.y_shape)
    dx = torch.empty_strided(x.shape, call.x_strides, dtype=x.dtype) if mask[0] else None
    dweight = torch.empty_like(weight) if mask[1] else None
    dbias = torch.empty(weight.shape[0], dtype=x.dtype) if mask[2] else None
    call.plan.backward_at(
        _image(x),
        _filters(weight, call.multiplier),
        _image(dy),
        NOTHING if saved is None else _image(saved),
        NOTHING if dx is None else _image(dx),
        NOTHING if dweight is None else _filters(dweight, call.multiplier),
        0 if dbias is None else dbias.data_ptr(),
    )
    return dx, dweight, dbias


def fake_forward(x: Tensor, weight: Tensor, bias: Tensor | None, *arguments: Any) -> Tensor:
    """A tensor like the output, on a device that holds no numbers. The sizes may be symbols."""
    _check_devices(x, weight=weight, bias=bias)
    options = Options.from_arguments(arguments)
    _check_dtypes(x.dtype, weight.dtype, None if bias is None else bias.dtype)
    sizes = (*x.shape, *weight.shape, *(() if bias is None else bias.shape))
    if all(isinstance(size, int) for size in sizes):
        shape = _checked(x.shape, weight.shape, None if bias is None else bias.shape, options)[1]
    else:
        shape = _symbolic_shape(x, weight, options)
    return x.new_empty_strided(shape, dense_strides(shape, options.channels_last))


def fake_backward(
    dy: Tensor, x: Tensor, weight: Tensor, saved: Tensor | None, arguments: Arguments, mask: Sequence[bool]
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Tensors like the gradients."""
    _check_devices(x, dy=dy, weight=weight, saved=saved)
    dx = x.new_empty_strided(x.shape, dense_strides(x.shape, arguments[-1])) if mask[0] else None
    dweight = torch.empty_like(weight) if mask[1] else None
    dbias = weight.new_empty(weight.shape[0]) if mask[2] else None
    return dx, dweight, dbias


def dense_strides(shape: Sequence[int], channels_last: bool) -> Shape:
    """Strides, in elements, of a dense tensor (batch, channels, height, width)."""
    _, channels, height, width = shape
    if channels_last:
        return height * width * channels, 1, width * channels, channels
    return channels * height * width, height * width, width, 1


def _same_padding(size: Any, stride: int, window: int) -> Pair:
    if stride == 1:
        total = window - 1  # whatever the size
    else:
        total = (size - 1) // stride * stride + window - size
        # In a trace of TorchScript sizes are tensors, and to compare one would fix the outcome.
        total = total.clamp(min=0) if isinstance(total, torch.Tensor) else max(total, 0)
    return total // 2, total - total // 2


def _image(tensor: Tensor) -> Address:
    batch, channel, row, column = tensor.stride()
    return tensor.data_ptr(), batch, row, column, channel


def _filters(weight: Tensor, multiplier: int) -> Address:
    output, _, row, column = weight.stride()
    return weight.data_ptr(), row, column, output * multiplier, output


def _prepare(x: Tensor, weight: Tensor, bias: Tensor | None, arguments: Any) -> _Call:
    strides, rule, amounts, dilation, activation, alpha, channels_last = arguments
    _check_devices(x, weight=weight, bias=bias)
    return _call(
        x.shape,
        weight.shape,
        None if bias is None else bias.shape,
        x.dtype,
        weight.dtype,
        None if bias is None else bias.dtype,
        (tuple(strides), rule, tuple(amounts), tuple(dilation), activation, alpha, channels_last),
    )


@functools.lru_cache(maxsize=1024)
def _call(
    x_shape: Sequence[int],
    weight_shape: Sequence[int],
    bias_shape: Sequence[int] | None,
    x_dtype: Any,
    weight_dtype: Any,
    bias_dtype: Any | None,
    arguments: Arguments,
) -> _Call:
    dtype = _check_dtypes(x_dtype, weight_dtype, bias_dtype)
    options = Options.from_arguments(arguments)
    spec, y_shape = _checked(x_shape, weight_shape, bias_shape, options)
    channels_last = options.channels_last
    return _Call(
        make_plan(spec, _in_layout(x_shape, channels_last), dtype),
        spec.depth_multiplier,
        dense_strides(x_shape, channels_last),
        y_shape,
        dense_strides(y_shape, channels_last),
    )


def _checked(
    x_shape: Sequence[int], weight_shape: Sequence[int], bias_shape: Sequence[int] | None, options: Options
) -> tuple[Spec, Shape]:
    """The spec of a call on tensors of these shapes, all of them known, and the shape of its output."""
    # spec.py knows images in the order of their layout, and kernels in TensorFlow's.
    channels = x_shape[1] if len(x_shape) == 4 else 1
    _check_weight(x_shape, weight_shape, channels)
    spec = options.spec(weight_shape, channels)
    x_in_layout = _in_layout(x_shape, options.channels_last) if len(x_shape) == 4 else x_shape
    shape = spec.check_shapes(x_in_layout, spec.kernel_shape(channels), bias_shape)
    if options.channels_last:
        batch, height, width, outputs = shape
        shape = batch, outputs, height, width
    return spec, shape


def _check_weight(x_shape: Sequence[int], weight_shape: Sequence[int], channels: int) -> None:
    shape = tuple(weight_shape)
    is_multiple = shape[:1] != (0,) and shape[0] % channels == 0 if channels else shape[:1] == (0,)
    if len(shape) == 4 and shape[1] == 1 and min(shape[2:]) >= 1 and is_multiple:
        return
    raise ValueError(
        "weight: expected shape (channels * depth multiplier, 1, kernel height, kernel width), with each of them at "
        f"least 1 and for input of shape {tuple(x_shape)} a multiple of {channels} channels, got shape {shape}"
    )


def _symbolic_shape(x: Tensor, weight: Tensor, options: Options) -> Shape:
    """Shape of the output where sizes are symbols: the rules of `Spec`, without making numbers of them."""
    batch, _, *size = x.shape
    outputs, _, *kernel_size = weight.shape
    output = []
    for axis, (before, after) in enumerate(
        ((0, 0), (0, 0)) if isinstance(options.padding, str) else options.padding
    ):
        stride = options.strides[axis]
        if options.padding == "same":
            output.append((size[axis] + stride - 1) // stride)
            continue
        window = (kernel_size[axis] - 1) * options.dilation_rate[axis] + 1
        padded = before + size[axis] + after
        require(
            padded >= window, lambda: "kernel_size: expected a dilated kernel no larger than the padded input"
        )
        output.append((padded - window) // stride + 1)
    return batch, outputs, output[0], output[1]


def _check_dtypes(x: Any, weight: Any, bias: Any | None) -> str:
    return check_dtypes(x=_name(x), kernel=_name(weight), bias=None if bias is None else _name(bias))


@functools.cache
def _name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def _check_devices(x: Tensor, **others: Tensor | None) -> None:
    device = x.device
    for name, tensor in others.items():
        if tensor is not None and tensor.device != device:
            raise ValueError(
                f"{name}: expected a tensor on {device}, where the input is, got one on {tensor.device}"
            )


def _in_layout(shape: Sequence[int], channels_last: bool) -> Shape:
    batch, channels, height, width = shape
    return (batch, height, width, channels) if channels_last else (batch, channels, height, width)
