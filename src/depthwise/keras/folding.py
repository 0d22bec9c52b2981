"""Batch normalization and activations after a depthwise layer, folded into it: for inference.

In inference a batch normalization is y = gamma * (x - mean) / sqrt(variance + epsilon) + beta with constants, which a
convolution before it can absorb into its kernel and bias; and the activation after it can be computed with the
convolution. Both hold only if nothing else reads the values between.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, NamedTuple

import keras
import numpy as np

from depthwise.keras import layers
from depthwise.keras.base import DepthwiseConv, GroupedConv, SeparableConv
from depthwise.keras.fusing import fused_activation
from depthwise.replacements import Replacement

__all__ = ["fold"]

# Exact types only: a subclass may compute something else, with its kernel changed on the way for one.
_FOLDABLE: Final = (
    layers.DepthwiseConv2D,
    layers.DepthwiseConv1D,
    layers.GroupedConv2D,
    layers.SeparableConv2D,
    layers.SeparableConv1D,
)


class _Fold(NamedTuple):
    """A convolution and the layers that become part of it."""

    convolution: Any
    normalization: Any | None
    activation: Any | None


def fold(model: Any, replacements: list[Replacement], path: tuple[str, ...] = ()) -> Any:
    """The model with what can be folded folded, on new layers there; every other layer is shared with `model`.

    Args:
        model: a Keras model whose depthwise layers are this package's.
        replacements: what was done is added to it.
        path: names of the models that `model` lies in, and its own if it lies in one.
    """
    if isinstance(model, keras.Function):
        return _fold_functional(model, replacements, path)
    if type(model) is keras.Sequential and model.built:
        return _fold_sequential(model, replacements, path)
    if any(isinstance(layer, (DepthwiseConv, SeparableConv)) for layer in model._flatten_layers()):  # noqa: SLF001
        reason = (
            "nothing folded: no built Sequential or functional model, so what follows its layers is not known"
        )
        replacements.append(Replacement("/".join(path) or model.name, "left", reason))
    return model


def _fold_functional(model: Any, replacements: list[Replacement], path: tuple[str, ...]) -> Any:
    folds = _folds(_successors(model), replacements, path)
    substitutes = {id(f.convolution): _substitute(f) for f in folds}
    gone = {id(layer) for f in folds for layer in (f.normalization, f.activation) if layer is not None}

    def substitute(layer: Any) -> Any:
        if id(layer) not in substitutes:
            inner = isinstance(layer, (keras.Function, keras.Sequential))
            substitutes[id(layer)] = fold(layer, replacements, (*path, layer.name)) if inner else layer
        return substitutes[id(layer)]

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        return args[0] if id(layer) in gone else layer(*args, **kwargs)

    result = keras.models.clone_model(model, clone_function=substitute, call_function=call)
    _fill(folds, substitutes)
    return result


def _fold_sequential(model: Any, replacements: list[Replacement], path: tuple[str, ...]) -> Any:
    layers = list(model.layers)
    folds = _folds(list(zip(layers, [*layers[1:], None], strict=True)), replacements, path)
    substitutes = {id(f.convolution): _substitute(f) for f in folds}
    gone = {id(layer) for f in folds for layer in (f.normalization, f.activation) if layer is not None}
    kept = [keras.Input(batch_shape=model.input_shape, dtype=model.inputs[0].dtype)]
    for layer in layers:
        if id(layer) in substitutes:
            kept.append(substitutes[id(layer)])
        elif isinstance(layer, (keras.Function, keras.Sequential)):
            kept.append(fold(layer, replacements, (*path, layer.name)))
        elif id(layer) not in gone:
            kept.append(layer)
    result = keras.Sequential(kept, name=model.name)
    _fill(folds, substitutes)
    return result


def _successors(model: Any) -> list[tuple[Any, Any | None]]:
    """Each operation of a functional model that runs once, and the one that alone reads its one output, if any."""
    nodes = [node for level in model._nodes_by_depth.values() for node in level]  # noqa: SLF001  # no public form
    uses = Counter(id(node.operation) for node in nodes)
    outputs = {id(tensor) for tensor in model.outputs}
    readers: dict[int, list[Any]] = {}
    for node in nodes:
        for tensor in node.input_tensors:
            readers.setdefault(id(tensor), []).append(node.operation)
    pairs = []
    for node in nodes:
        if uses[id(node.operation)] > 1 or len(node.outputs) != 1:
            continue
        (output,) = node.outputs
        following = readers.get(id(output), [])
        only = len(following) == 1 and id(output) not in outputs and uses[id(following[0])] == 1
        pairs.append((node.operation, following[0] if only else None))
    return pairs


def _folds(
    successors: list[tuple[Any, Any | None]], replacements: list[Replacement], path: tuple[str, ...]
) -> list[_Fold]:
    """What can be folded, given each layer's only reader."""
    next_of = {id(layer): following for layer, following in successors}
    folds = []
    for convolution, following in successors:
        if not isinstance(convolution, (DepthwiseConv, SeparableConv)) or not convolution.built:
            continue
        fused = fused_activation(convolution.activation, convolution.compute_dtype)
        if fused is None or fused.name != "linear":
            continue
        normalization = following if _is_foldable(following, convolution) else None
        after = following if normalization is None else next_of.get(id(normalization))
        activation = after if _is_activation(after, convolution) else None
        if normalization is None and activation is None:
            continue
        if type(convolution) not in _FOLDABLE:
            reason = (
                f"{type(convolution).__name__} is a subclass and may compute something else: nothing folded"
            )
            replacements.append(Replacement("/".join((*path, convolution.name)), "left", reason))
            continue
        folds.append(_Fold(convolution, normalization, activation))
        for layer in (normalization, activation):
            if layer is not None:
                name = "/".join((*path, layer.name))
                replacements.append(Replacement(name, "folded", f"into {convolution.name}"))
    return folds


def _is_foldable(layer: Any, convolution: Any) -> bool:
    """Whether it is a batch normalization over the channels that `convolution` puts out."""
    if type(layer) is not keras.layers.BatchNormalization or not layer.built:
        return False
    if layer.compute_dtype != convolution.compute_dtype or layer.activity_regularizer is not None:
        return False
    channel_axis = convolution.rank + 1 if convolution.data_format == "channels_last" else 1
    return bool(layer.axis % (convolution.rank + 2) == channel_axis)


def _is_activation(layer: Any, convolution: Any) -> bool:
    """Whether it is an activation layer that `convolution` can compute as its own."""
    if not isinstance(convolution, DepthwiseConv) or not isinstance(layer, keras.layers.Layer):
        return False
    fused = fused_activation(layer, convolution.compute_dtype)
    return fused is not None and fused.name != "linear"


def _substitute(fold: _Fold) -> Any:
    """The layer that does the work of all three; its weights are filled in once it is built."""
    config = fold.convolution.get_config()
    config["use_bias"] = fold.convolution.use_bias or fold.normalization is not None
    layer = type(fold.convolution).from_config(config)
    if fold.activation is not None:
        inner = fold.activation
        layer.activation = inner.activation if type(inner) is keras.layers.Activation else inner
    return layer


def _fill(folds: list[_Fold], substitutes: dict[int, Any]) -> None:
    for f in folds:
        layer, old = substitutes[id(f.convolution)], f.convolution
        *kernels, last = [_numbers(weight) for weight in old.weights[: 1 + isinstance(old, SeparableConv)]]
        bias = _numbers(old.bias) if old.use_bias else np.zeros(_outputs(old))
        if f.normalization is not None:
            scale, shift = _affine(f.normalization)
            per_filter = scale if isinstance(old, SeparableConv) else scale.reshape(last.shape[-2:])
            last, bias = last * per_filter, bias * scale + shift
        layer.set_weights([*kernels, last, *([bias] if layer.use_bias else [])])


def _outputs(convolution: Any) -> int:
    if isinstance(convolution, (GroupedConv, SeparableConv)):
        return int(convolution.filters)
    return int(np.prod(convolution.kernel.shape[-2:]))


def _affine(normalization: Any) -> tuple[Any, Any]:
    """What a batch normalization multiplies by and adds in inference, per channel."""
    variance = _numbers(normalization.moving_variance)
    scale = 1.0 / np.sqrt(variance + normalization.epsilon)
    if normalization.scale:
        scale = scale * _numbers(normalization.gamma)
    shift = -_numbers(normalization.moving_mean) * scale
    if normalization.center:
        shift = shift + _numbers(normalization.beta)
    return scale, shift


def _numbers(variable: Any) -> Any:
    return keras.ops.convert_to_numpy(variable).astype(np.float64)
