"""`depthwise.accelerate` for Keras models: stock layers are given the classes of this package.

An instance of a stock layer that becomes one of ours keeps everything it has: its variables, its name, its place in
the graphs of functional models and in the attributes of subclassed ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import keras

from depthwise.keras import layers
from depthwise.keras.backend import check_backend, compiles_whole_models
from depthwise.keras.folding import fold
from depthwise.replacements import Replacement

__all__ = ["accelerate_model"]

_REPLACEMENTS: Final = {
    keras.layers.DepthwiseConv2D: layers.DepthwiseConv2D,
    keras.layers.DepthwiseConv1D: layers.DepthwiseConv1D,
    keras.layers.SeparableConv2D: layers.SeparableConv2D,
    keras.layers.SeparableConv1D: layers.SeparableConv1D,
    keras.layers.Conv2D: layers.GroupedConv2D,
}
_OURS: Final = tuple(_REPLACEMENTS.values())


def accelerate_model(model: Any, inference: bool, replacements: list[Replacement]) -> Any:
    """Replace what can be replaced in a model or a layer; adds to `replacements` what was done."""
    check_backend()  # before anything is changed
    changed = False
    for name, layer in _layers(model):
        reason = _reason_to_leave(layer)
        if reason is None:
            _replace(layer)
            changed = True
            replacements.append(Replacement(name, "replaced"))
        elif reason:
            replacements.append(Replacement(name, "left", reason))
    if changed:
        _forget_compiled_functions(model)
    return fold(model, replacements) if inference else model


def _layers(
    layer: Any, path: tuple[str, ...] = (), seen: set[int] | None = None
) -> Iterator[tuple[str, Any]]:
    """All layers in a model or layer, itself included, each once, by the names on the way to it."""
    seen = set() if seen is None else seen
    if id(layer) in seen:
        return
    seen.add(id(layer))
    yield "/".join(path) or layer.name, layer
    for child in layer._flatten_layers(include_self=False, recursive=False):  # noqa: SLF001  # no public way
        yield from _layers(child, (*path, child.name), seen)


def _reason_to_leave(layer: Any) -> str | None:
    """None for a layer to replace, "" for one that is no affair of ours, else why it stays."""
    if isinstance(layer, _OURS):
        return ""
    kind = next((stock for stock in _REPLACEMENTS if isinstance(layer, stock)), None)
    if kind is None or (kind is keras.layers.Conv2D and layer.groups == 1):
        return ""
    if type(layer) is not kind:
        return f"{type(layer).__name__} is a subclass of {kind.__name__} and may compute something else"
    if kind is keras.layers.Conv2D:
        if not layer.built:
            return "not built, so that its channels are not known"
        if layer.kernel.shape[2] != 1:
            return f"{layer.groups} groups of {layer.kernel.shape[2]} channels, not one each"
    if getattr(layer, "quantization_mode", None) is not None or getattr(layer, "lora_enabled", False):
        return "quantized, or with LoRA weights"
    return None


def _replace(layer: Any) -> None:
    object.__setattr__(layer, "__class__", _REPLACEMENTS[type(layer)])
    if max(layer.strides) > 1 and max(layer.dilation_rate) > 1:
        layer.strided_dilation = True
    layer.supports_jit = compiles_whole_models()


def _forget_compiled_functions(model: Any) -> None:
    """What Keras compiled of the model, and of models in it, was compiled of the stock layers."""
    for layer in model._flatten_layers():  # noqa: SLF001
        if isinstance(layer, keras.Model):
            layer.train_function = layer.test_function = layer.predict_function = None
            if not compiles_whole_models():
                layer.jit_compile = False
