"""Derivatives of the ops, to any order.

The first is one native call. For the next ones that call is differentiated: with dz = dy * activation'(z), the
gradients I(dz, weight), K(x, dz) and sum(dz) are linear in dz and in weight or x, so what is left is made of the ops
again; and dz, where it depends on what the forward pass saved, is differentiated as PyTorch's own functions.

Forward mode (`torch.func.jvp`) is left to PyTorch's own convolution, whose ops know it.
"""

from __future__ import annotations

from typing import Any

import torch

from depthwise.derivatives import Functions, scale_by_derivative
from depthwise.torch import internals, library, stock
from depthwise.torch.kernels import Options, Tensor, activation_info

__all__: list[str] = []

_FUNCTIONS = Functions(torch.where, torch.exp, torch.tanh, torch.erf, torch.zeros_like)


class _Convolution(torch.autograd.Function):  # type: ignore[misc]  # PyTorch's types are not looked at
    """conv2d; the value before the activation is an output too where the backward pass reads it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *arguments: Any) -> Any:
        ctx.set_materialize_grads(False)
        *ctx.arguments, modes = arguments
        info = activation_info(ctx.arguments)
        with internals.below_autograd(), modes:
            if info.needs_preactivation:
                outputs = library.conv2d_with_preactivation(x, weight, bias, *ctx.arguments)
                saved = outputs[1]
            else:
                outputs = library.conv2d(x, weight, bias, *ctx.arguments)
                saved = outputs if info.code else None
        ctx.save_for_backward(x, weight, saved)
        return outputs

    @staticmethod
    def backward(ctx: Any, dy: Tensor | None, dz: Tensor | None = None) -> Any:
        x, weight, saved = ctx.saved_tensors
        mask = ctx.needs_input_grad[:3]
        gradients: list[Tensor | None] = [None, None, None]
        if dy is not None:
            gradients = _backward(dy, x, weight, saved, ctx.arguments, mask)
        if dz is not None:  # only where a first derivative is differentiated
            linear = Options.from_arguments(ctx.arguments).linear.arguments()
            more = _backward(dz, x, weight, None, linear, mask)
            gradients = [_sum(a, b) for a, b in zip(gradients, more, strict=True)]
        return *gradients, *[None] * (len(ctx.arguments) + 1)


class _Gradients(torch.autograd.Function):  # type: ignore[misc]
    """conv2d_backward."""

    @staticmethod
    def forward(
        ctx: Any, dy: Tensor, x: Tensor, weight: Tensor, saved: Tensor | None, *arguments: Any
    ) -> Any:
        ctx.set_materialize_grads(False)
        *ctx.arguments, modes = arguments
        ctx.save_for_backward(dy, x, weight, saved)
        with internals.below_autograd(), modes:
            gradients = library.conv2d_backward(dy, x, weight, saved, *ctx.arguments)
        mask = ctx.arguments[-1]
        ctx.mark_non_differentiable(*(g for g, wanted in zip(gradients, mask, strict=True) if not wanted))
        return gradients

    @staticmethod
    def backward(ctx: Any, ddx: Tensor | None, ddweight: Tensor | None, ddbias: Tensor | None) -> Any:
        dy, x, weight, saved = ctx.saved_tensors
        options = Options.from_arguments(ctx.arguments[:-1])
        linear = options.linear.arguments()
        needs = ctx.needs_input_grad
        # The gradient with respect to dz, in which all three are linear.
        slope = None
        if ddx is not None:
            slope = library.conv2d(ddx, weight, ddbias, *linear)
        elif ddbias is not None:
            slope = ddbias.reshape(1, -1, 1, 1).expand_as(dy)
        if ddweight is not None:
            slope = _sum(slope, library.conv2d(x, ddweight, None, *linear))
        if slope is None:
            return (None,) * len(needs)
        dz = _scale(options, dy, saved)
        mask = (needs[1] and ddweight is not None, needs[2] and ddx is not None, False)
        dx, dweight, _ = _backward(
            dz, x if ddx is None else ddx, weight if ddweight is None else ddweight, None, linear, mask
        )
        ddy = _scale(options, slope, saved) if needs[0] else None
        dsaved = None
        if needs[3] and saved is not None:
            dsaved = torch.func.vjp(lambda saved: _scale(options, dy, saved), saved)[1](slope)[0]
        return ddy, dx, dweight, dsaved, *[None] * (len(ctx.arguments) + 1)


def _backward(dy: Tensor, x: Tensor, weight: Tensor, saved: Tensor | None, arguments: Any, mask: Any) -> Any:
    """conv2d_backward, with None for the gradients that are not wanted."""
    if not any(mask):
        return [None, None, None]
    gradients = library.conv2d_backward(dy, x, weight, saved, *arguments, mask)
    return [gradient if wanted else None for gradient, wanted in zip(gradients, mask, strict=True)]


def _scale(options: Options, dy: Tensor, saved: Tensor | None) -> Tensor:
    """`dy` times the slope of the activation, in float32 for half types as the kernels do it."""
    if not options.activation.info.code:
        return dy
    assert saved is not None
    if dy.dtype in (torch.float16, torch.bfloat16):
        return scale_by_derivative(options.activation, dy.float(), saved.float(), _FUNCTIONS).to(dy.dtype)
    return scale_by_derivative(options.activation, dy, saved, _FUNCTIONS)


def _sum(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def _is_differentiated(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


def _conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, *arguments: Any) -> Tensor:
    if internals.in_forward_mode():
        return stock.convolve(x, weight, bias, Options.from_arguments(arguments))
    if _is_differentiated(x, weight, bias):
        outputs = internals.apply(_Convolution, x, weight, bias, *arguments)
        return outputs[0] if isinstance(outputs, tuple) else outputs
    with internals.below_autograd():
        return library.conv2d(x, weight, bias, *arguments)


def _conv2d_with_preactivation(x: Tensor, weight: Tensor, bias: Tensor | None, *arguments: Any) -> Any:
    if internals.in_forward_mode():
        options = Options.from_arguments(arguments)
        z = stock.convolve(x, weight, bias, options.linear)
        return stock.activate(z, options), z
    if _is_differentiated(x, weight, bias):
        return internals.apply(_Convolution, x, weight, bias, *arguments)
    with internals.below_autograd():
        return library.conv2d_with_preactivation(x, weight, bias, *arguments)


def _conv2d_backward(dy: Tensor, x: Tensor, weight: Tensor, saved: Tensor | None, *arguments: Any) -> Any:
    if internals.in_forward_mode():
        *plain, mask = arguments
        options = Options.from_arguments(plain)
        return stock.gradients(_scale(options, dy, saved), x, weight, options, mask)
    if _is_differentiated(dy, x, weight, saved):
        return internals.apply(_Gradients, dy, x, weight, saved, *arguments)
    with internals.below_autograd():
        return library.conv2d_backward(dy, x, weight, saved, *arguments)


library.LIBRARY.impl("conv2d", _conv2d, "Autograd")
library.LIBRARY.impl("conv2d_with_preactivation", _conv2d_with_preactivation, "Autograd")
library.LIBRARY.impl("conv2d_backward", _conv2d_backward, "Autograd")
