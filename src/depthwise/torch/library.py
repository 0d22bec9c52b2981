"""The ops as PyTorch knows them: `torch.ops.depthwise`.

- `conv2d`: the convolution, with bias and activation. Every call goes through it.
- `conv2d_with_preactivation`: the same for training with an activation whose derivative is taken of its argument.
- `conv2d_backward`: the gradients, from that of the output.

They run on the CPU, and on PyTorch's devices without numbers. Derivatives are in `autograd.py`, what the ops do under
torch.vmap and torch.autocast in `transforms.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from depthwise.torch import kernels
from depthwise.torch.kernels import Tensor, activation_info

__all__ = ["LIBRARY", "conv2d", "conv2d_backward", "conv2d_with_preactivation"]

_OPTIONS = (
    "int[2] strides, str padding, int[] amounts, int[2] dilation, str activation, float alpha, "
    "bool channels_last"
)

LIBRARY = torch.library.Library("depthwise", "DEF")
_TAGS = (torch.Tag.pt2_compliant_tag,)
LIBRARY.define(f"conv2d(Tensor x, Tensor weight, Tensor? bias, {_OPTIONS}) -> Tensor", tags=_TAGS)
LIBRARY.define(
    f"conv2d_with_preactivation(Tensor x, Tensor weight, Tensor? bias, {_OPTIONS}) -> (Tensor, Tensor)",
    tags=_TAGS,
)
LIBRARY.define(
    f"conv2d_backward(Tensor dy, Tensor x, Tensor weight, Tensor? saved, {_OPTIONS}, bool[3] mask)"
    " -> (Tensor, Tensor, Tensor)",
    tags=_TAGS,
)

conv2d = torch.ops.depthwise.conv2d.default
conv2d_with_preactivation = torch.ops.depthwise.conv2d_with_preactivation.default
conv2d_backward = torch.ops.depthwise.conv2d_backward.default

# --- on the CPU, and where there are no numbers ---------------------------------------------------


def _conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, *arguments: Any) -> Tensor:
    return kernels.forward(x, weight, bias, *arguments, keep=False)[0]


def _conv2d_with_preactivation(x: Tensor, weight: Tensor, bias: Tensor | None, *arguments: Any) -> Any:
    if not activation_info(arguments).needs_preactivation:
        raise ValueError(
            f"activation: expected one whose derivative is taken of its argument, got {arguments[4]!r}"
        )
    return kernels.forward(x, weight, bias, *arguments, keep=True)


def _conv2d_backward(dy: Tensor, x: Tensor, weight: Tensor, saved: Tensor | None, *arguments: Any) -> Any:
    *options, mask = arguments
    return _tensors(x, kernels.backward(dy, x, weight, saved, options, mask))


def _fake_conv2d_with_preactivation(*args: Any) -> Any:
    return kernels.fake_forward(*args), kernels.fake_forward(*args)


def _fake_conv2d_backward(
    dy: Tensor, x: Tensor, weight: Tensor, saved: Tensor | None, *arguments: Any
) -> Any:
    *options, mask = arguments
    return _tensors(x, kernels.fake_backward(dy, x, weight, saved, options, mask))


def _tensors(like: Tensor, gradients: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
    """An op cannot return None: empty tensors stand for the gradients that nobody asked for."""
    return tuple(like.new_empty(0) if gradient is None else gradient for gradient in gradients)


LIBRARY.impl("conv2d", _conv2d, "CPU")
LIBRARY.impl("conv2d_with_preactivation", _conv2d_with_preactivation, "CPU")
LIBRARY.impl("conv2d_backward", _conv2d_backward, "CPU")
torch.library.register_fake("depthwise::conv2d", kernels.fake_forward, lib=LIBRARY)
torch.library.register_fake(
    "depthwise::conv2d_with_preactivation", _fake_conv2d_with_preactivation, lib=LIBRARY
)
torch.library.register_fake("depthwise::conv2d_backward", _fake_conv2d_backward, lib=LIBRARY)
