"""The functions: arguments as PyTorch's users pass them, to the op."""

from __future__ import annotations

import functools
import re
from typing import Any, cast

import torch
from torch.nn import functional
from torch.overrides import handle_torch_function, has_torch_function

from depthwise import arguments
from depthwise.activations import Activation, ActivationLike, normalise
from depthwise.arguments import Padding, PaddingLike, Pair, PairLike
from depthwise.torch import autograd, library, stock, transforms  # noqa: F401  # two of them complete the ops
from depthwise.torch.kernels import Options, Tensor

__all__ = ["convolve", "convolve_padded", "depthwise_conv2d", "in_torch_words", "is_channels_last"]

_OP_DEVICES = ("cpu", "meta")


def depthwise_conv2d(
    input: Tensor,  # noqa: A002  # its name in torch.nn.functional
    weight: Tensor,
    bias: Tensor | None = None,
    stride: PairLike = 1,
    padding: PaddingLike = 0,
    dilation: PairLike = 1,
    activation: ActivationLike = None,
) -> Tensor:
    """Convolve each channel of an image with kernels of its own; add a bias, apply an activation.

    `torch.nn.functional.conv2d` with `groups` equal to the channels, on kernels of its own on the CPU.

    >>> import torch
    >>> from depthwise.torch import depthwise_conv2d
    >>> x, weight = torch.ones(1, 2, 3, 3), torch.ones(4, 1, 2, 2)
    >>> depthwise_conv2d(x, weight, torch.zeros(4), activation="relu").shape
    torch.Size([1, 4, 2, 2])

    The output has the layout of the input, `torch.channels_last` or contiguous, and on the CPU the same bits for
    any number of threads, and any strides of the tensors. Differentiable to any order. On other devices, and in
    an export to ONNX, it is PyTorch's own convolution and activation.

    Args:
        input: (batch, channels, height, width), or (channels, height, width). float32, float64, float16 or
            bfloat16; half types are accumulated in float32. The batch may be 0.
        weight: (channels * M, 1, kernel height, kernel width), of the dtype of `input`. Output channel
            c * M + m is the m-th of input channel c.
        bias: (channels * M,), of the dtype of `input`; None for none.
        stride: step along height and width, in pixels; an int or a pair.
        padding: zeros around the image, in pixels: an int, a pair (height, width), ((top, bottom), (left, right)),
            "valid" for none, or "same" for an output of the size of the input divided by the stride and rounded
            up. For a stride of 1 that is PyTorch's rule, for others, which PyTorch refuses, TensorFlow's.
        dilation: distance between taps along height and width, in pixels; an int or a pair.
        activation: None, a name from `depthwise.activations.ACTIVATIONS`, (name, alpha) or an `Activation`.

    Returns:
        (batch, channels * M, out height, out width), or without the batch if `input` has none, of the dtype of
        `input`. Under `torch.autocast`, of its dtype.

    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: an argument has a value or a shape that does not fit.
    """
    if has_torch_function((input, weight, bias)):
        tensors = (input, weight, bias)
        return handle_torch_function(
            depthwise_conv2d, tensors, input, weight, bias, stride, padding, dilation, activation
        )
    return _convolve(input, weight, bias, stride, padding, dilation, activation, "zeros")


def convolve_padded(
    input: Tensor,  # noqa: A002
    weight: Tensor,
    bias: Tensor | None,
    stride: PairLike,
    padding: PaddingLike,
    dilation: PairLike,
    activation: ActivationLike,
    padding_mode: str,
) -> Tensor:
    """`depthwise_conv2d` on an image continued as `torch.nn.functional.pad` does in one of its modes."""
    if has_torch_function((input, weight, bias)):
        tensors = (input, weight, bias)
        return handle_torch_function(
            convolve_padded, tensors, input, weight, bias, stride, padding, dilation, activation, padding_mode
        )
    return _convolve(input, weight, bias, stride, padding, dilation, activation, padding_mode)


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
    return _run(x, weight, bias, Options(strides, padding, dilation_rate, activation, channels_last))


def is_channels_last(x: Tensor) -> Any:
    """Whether PyTorch's own convolution would return channels_last for an image of these strides and sizes.

    The rule is that of c10/core/MemoryFormat.h, `is_channels_last_strides_2d`: sizes of 1 leave it to the strides.
    """
    if torch.jit.is_tracing():  # where sizes are tensors, and to compare them is to be warned
        return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    sizes, strides = x.shape, x.stride()
    if len(sizes) != 4 or strides[1] == 0:
        return False
    least = 0
    for axis in (1, 3, 2, 0):
        if sizes[axis] == 0 or strides[axis] < least or (axis == 0 and least == strides[1]):
            return False
        least = strides[axis]
        if sizes[axis] > 1:
            least *= sizes[axis]
    return True


def in_torch_words(error: Exception) -> Exception:
    """The error of `Spec`, with the names that the arguments have in PyTorch."""
    text = str(error)
    for pattern, name in _TORCH_WORDS:
        text = pattern.sub(name, text)
    return type(error)(text)


# Names stand in front of the colon, and inside after "of", "for" or "with"; what was received is never touched.
_TORCH_WORDS = tuple(
    (re.compile(rf"(^|\b(?:of|for|with) ){ours}(?=\b(?!'))"), rf"\g<1>{theirs}")
    for ours, theirs in (
        ("strides", "stride"),
        ("dilation_rate", "dilation"),
        ("x", "input"),
        ("kernel(?=:|, got)", "weight"),
    )
)


def _convolve(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: PairLike,
    padding: PaddingLike,
    dilation: PairLike,
    activation: ActivationLike,
    padding_mode: str,
) -> Tensor:
    try:
        _check_tensors(image, weight, bias)
        without_batch = image.dim() == 3
        if without_batch:
            image = image.unsqueeze(0)
        normalised = _normalised(stride, padding, dilation, activation)
        options = Options(*normalised, is_channels_last(image))
        if padding_mode != "zeros":
            (top, bottom), (left, right) = options.padding_amounts(image.shape[2:], weight.shape[2:])
            image = functional.pad(image, (left, right, top, bottom), padding_mode)
            options = options._replace(padding="valid")
        y = _run(image, weight, bias, options)
    except (TypeError, ValueError) as error:
        raise in_torch_words(error) from None
    return y.squeeze(0) if without_batch else y


def _run(x: Tensor, weight: Tensor, bias: Tensor | None, options: Options) -> Tensor:
    if x.device.type in _OP_DEVICES and not torch.onnx.is_in_onnx_export():
        return library.conv2d(x, weight, bias, *options.arguments())
    return stock.convolve(x, weight, bias, options)


def _check_tensors(image: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    for name, tensor in (("input", image), ("weight", weight), ("bias", bias)):
        if not isinstance(tensor, torch.Tensor) and not (tensor is None and name == "bias"):
            raise TypeError(f"{name}: expected a torch.Tensor, got {type(tensor).__name__}")


def _normalised(
    stride: PairLike, padding: PaddingLike, dilation: PairLike, activation: ActivationLike
) -> tuple[Pair, Padding, Pair, Activation]:
    """The arguments in the normal form of `Spec`, from the cache if they have been seen.

    Equal keys must mean equal arguments, but True == 1 == 1.0: only plain integers, pairs of them, strings and None
    are looked up as they are.
    """
    if torch.compiler.is_compiling():  # which looks through functions, but not through caches
        return _normalise(stride, padding, dilation, activation)
    if not _is_plain(stride):
        stride = arguments.pair_argument("strides", stride)
    if not _is_plain(padding):
        padding = arguments.padding_argument(padding)
    if not _is_plain(dilation):
        dilation = arguments.pair_argument("dilation_rate", dilation)
    if activation is not None and type(activation) is not str:
        activation = normalise(activation)
    return cast(tuple[Pair, Padding, Pair, Activation], _cached(stride, padding, dilation, activation))


def _normalise(
    stride: PairLike, padding: PaddingLike, dilation: PairLike, activation: ActivationLike
) -> tuple[Pair, Padding, Pair, Activation]:
    return (
        arguments.pair_argument("strides", stride),
        arguments.padding_argument(padding),
        arguments.pair_argument("dilation_rate", dilation),
        normalise(activation),
    )


_cached: Any = functools.lru_cache(maxsize=1024)(_normalise)


def _is_plain(value: object) -> bool:
    if type(value) is tuple:
        return all(type(item) is int for item in value)
    return type(value) is int or type(value) is str
