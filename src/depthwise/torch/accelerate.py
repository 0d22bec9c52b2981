"""`depthwise.accelerate` for PyTorch: the modules that are depthwise convolutions become this package's layer.

They become it where they are: PyTorch's own way to give a module other behaviour (torch.nn.utils.parametrize) is to
change its class, and so parameters, hooks, names, sharing, and whatever else refers to the module stay as they are.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from depthwise.activations import Activation
from depthwise.replacements import Replacement
from depthwise.spec import DTYPES
from depthwise.torch.folding import fold
from depthwise.torch.layers import DepthwiseConv2d

__all__ = ["accelerate_module"]

Module = Any


def accelerate_module(model: Module, inference: bool, replacements: list[Replacement]) -> Module:
    """Turn each depthwise convolution in a module, itself included, into a `DepthwiseConv2d`.

    Args:
        model: changed in place.
        inference: whether to fold batch normalizations and activations that follow, too; see `folding.py`. Puts the
            model into evaluation mode.
        replacements: what was done is added to it.

    Returns:
        `model`.
    """
    if isinstance(model, torch.jit.ScriptModule):
        replacements.append(Replacement(type(model).__name__, "left", "it is compiled to TorchScript"))
        return model
    kind = type(model).__name__  # what the model itself is called, which has no name
    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d) or isinstance(module, DepthwiseConv2d):
            continue
        if isinstance(module, nn.modules.lazy.LazyModuleMixin):
            unknown = "its channels are not known yet; run the model once before"
            replacements.append(Replacement(name or kind, "left", unknown))
            continue
        if module.groups == 1 or module.groups != module.in_channels:
            continue  # an ordinary convolution, which nobody expects to be replaced
        reason = _obstacle(module)
        if reason is None:
            _become_depthwise(module)
        replacements.append(Replacement(name or kind, "left" if reason else "replaced", reason or ""))
    if inference:
        model.eval()
        fold(model, replacements)
    return model


def _obstacle(module: Module) -> str | None:
    """Why a depthwise convolution cannot become this package's, or None."""
    kind = _plain_class(module)
    if kind is not nn.Conv2d and not _is_timms_same(kind):
        return (
            f"it is a {kind.__module__}.{kind.__qualname__}, which may compute something else than nn.Conv2d"
        )
    if "forward" in vars(module) or "_conv_forward" in vars(module):
        return "its forward method was replaced"
    dtype = str(module.weight.dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        return f"its dtype is {dtype}"
    return None


def _plain_class(module: Module) -> type:
    """The class, without what a parametrization derived from it."""
    kind = type(module)
    return kind.__bases__[0] if parametrize.is_parametrized(module) else kind


def _is_timms_same(kind: type) -> bool:
    """Whether it is timm's convolution with TensorFlow's padding, which is `padding="same"` here to the pixel."""
    layers = sys.modules.get("timm.layers")
    return layers is not None and kind is getattr(layers, "Conv2dSame", None)


def _become_depthwise(module: Module) -> None:
    if _is_timms_same(_plain_class(module)):
        module.padding = "same"
    module.depth_multiplier = module.out_channels // module.in_channels
    module.activation = Activation("linear")
    if parametrize.is_parametrized(module):
        derived = type(module)
        own = {key: value for key, value in vars(derived).items() if key not in ("__dict__", "__weakref__")}
        module.__class__ = type(f"Parametrized{DepthwiseConv2d.__name__}", (DepthwiseConv2d,), own)
    else:
        module.__class__ = DepthwiseConv2d
