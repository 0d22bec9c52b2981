"""The parts of PyTorch without a public name that an op with derivatives of its own is made of.

They are what `torch.library.register_autograd`, `register_autocast` and `torch.func` are written with.
"""

# ruff: noqa: SLF001

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd import forward_ad

__all__ = ["apply", "below_autocast", "below_autograd", "constant_shape", "in_forward_mode", "require"]

below_autograd = torch._C._AutoDispatchBelowAutograd
"""Context in which ops run as if nothing required a gradient: that is taken care of."""

_AUTOCAST = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)

_NOTHING = contextlib.nullcontext()

require = torch._check
"""Raises unless the condition holds; on sizes that are symbols, a fact about them from there on."""


def in_forward_mode() -> bool:
    """Whether tensors may carry derivatives forward, as under `torch.func.jvp`."""
    return bool(forward_ad._current_level >= 0)


def below_autocast() -> Any:
    """Context in which ops take their arguments as they are."""
    return torch._C._ExcludeDispatchKeyGuard(_AUTOCAST)


def constant_shape(tensor: Any) -> Any:
    """The shape of a parameter: constants in a trace, in which other shapes are worked out again on each run."""
    state = torch._C._get_tracing_state()
    if state is None:
        return tensor.shape
    torch._C._set_tracing_state(None)
    try:
        return tensor.shape
    finally:
        torch._C._set_tracing_state(state)


def apply(function: Any, *args: Any) -> Any:
    """Run `function.apply` inside of an op; a context to run the rest of the op in is added to its arguments.

    PyTorch's own looks at signatures on every call, and under torch.func makes a transformation of the function, when
    it is the op around it that is transformed. What is below it may then be differentiated, too: by the
    transformations around this one.
    """
    apply = super(torch.autograd.Function, function).apply
    if torch._C._are_functorch_transforms_active():
        with enable_single_level_autograd_function():
            return apply(*args, torch.enable_grad())
    return apply(*args, _NOTHING)
