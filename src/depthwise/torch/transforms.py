"""What the ops do under torch.vmap and torch.autocast.

A dimension that is mapped over becomes part of the batch where only images have it, and part of the channels where
each entry has a weight of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from depthwise.torch import internals, library
from depthwise.torch.kernels import Tensor

__all__: list[str] = []


# --- torch.vmap -----------------------------------------------------------------------------------


def _front(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    """The tensor with the mapped dimension in front, repeated there if it has none."""
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def _into_batch(x: Tensor) -> Tensor:
    return x.flatten(0, 1)


def _out_of_batch(x: Tensor, size: int) -> Tensor:
    return x.unflatten(0, (size, -1)) if x.shape[0] else x.new_empty(size, 0, *x.shape[1:])


def _into_channels(x: Tensor) -> Tensor:
    """(mapped, batch, channels, height, width) -> (batch, mapped * channels, height, width)."""
    return x.movedim(0, 1).flatten(1, 2)


def _out_of_channels(x: Tensor, size: int) -> Tensor:
    """The inverse."""
    return x.unflatten(1, (size, x.shape[1] // size)).movedim(1, 0)


def _forward(op: Any, info: Any, in_dims: Sequence[Any], args: Sequence[Any]) -> Any:
    (x, weight, bias, *arguments), size = args, info.batch_size
    if in_dims[1] is None and (bias is None or in_dims[2] is None):
        outputs = op(_into_batch(_front(x, in_dims[0], size)), weight, bias, *arguments)
        back = _out_of_batch
    else:
        x = _into_channels(_front(x, in_dims[0], size))
        weight = _front(weight, in_dims[1], size).flatten(0, 1)
        bias = None if bias is None else _front(bias, in_dims[2], size).flatten(0, 1)
        outputs = op(x, weight, bias, *arguments)
        back = _out_of_channels
    if isinstance(outputs, tuple):
        return tuple(back(y, size) for y in outputs), (0,) * len(outputs)
    return back(outputs, size), 0


def _vmap_conv2d(info: Any, in_dims: Sequence[Any], *args: Any) -> Any:
    return _forward(library.conv2d, info, in_dims, args)


def _vmap_conv2d_with_preactivation(info: Any, in_dims: Sequence[Any], *args: Any) -> Any:
    return _forward(library.conv2d_with_preactivation, info, in_dims, args)


def _vmap_conv2d_backward(info: Any, in_dims: Sequence[Any], *args: Any) -> Any:
    (dy, x, weight, saved, *options, mask), size = args, info.batch_size
    per_weight = in_dims[2] is not None or mask[1] or mask[2]
    into = _into_channels if per_weight else _into_batch
    dy, x = into(_front(dy, in_dims[0], size)), into(_front(x, in_dims[1], size))
    saved = None if saved is None else into(_front(saved, in_dims[3], size))
    if per_weight:
        weight = _front(weight, in_dims[2], size).flatten(0, 1)
    dx, dweight, dbias = library.conv2d_backward(dy, x, weight, saved, *options, mask)
    if mask[0]:
        dx = _out_of_channels(dx, size) if per_weight else _out_of_batch(dx, size)
    if mask[1]:
        dweight = dweight.unflatten(0, (size, dweight.shape[0] // size))
    if mask[2]:
        dbias = dbias.unflatten(0, (size, dbias.shape[0] // size))
    return (dx, dweight, dbias), tuple(0 if wanted else None for wanted in mask)


_LIB = library.LIBRARY
torch.library.register_vmap("depthwise::conv2d", _vmap_conv2d, lib=_LIB)
torch.library.register_vmap("depthwise::conv2d_with_preactivation", _vmap_conv2d_with_preactivation, lib=_LIB)
torch.library.register_vmap("depthwise::conv2d_backward", _vmap_conv2d_backward, lib=_LIB)


# --- torch.autocast -------------------------------------------------------------------------------


def _autocast(x: Tensor, weight: Tensor, bias: Tensor | None, *arguments: Any) -> Tensor:
    """As PyTorch's own convolutions: in the lower precision, but for float64."""
    dtype = torch.get_autocast_dtype("cpu")
    with internals.below_autocast():
        return library.conv2d(_cast(x, dtype), _cast(weight, dtype), _cast(bias, dtype), *arguments)


def _cast(tensor: Tensor | None, dtype: Any) -> Tensor | None:
    if tensor is None or not tensor.is_floating_point() or tensor.dtype == torch.float64:
        return tensor
    return tensor.to(dtype)


_LIB.impl("conv2d", _autocast, "AutocastCPU")
