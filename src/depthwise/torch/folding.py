"""Batch normalization and activations after a depthwise layer, folded into it: for inference.

In inference a batch normalization is y = gamma * (x - mean) / sqrt(variance + epsilon) + beta with constants, which a
convolution before it can absorb into its weight and bias; and the activation after it can be computed with the
convolution. Both hold only if nothing else reads the values between, which is found out by tracing the model, or those
parts of it that can be traced.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

import torch
from torch import fx, nn

from depthwise.activations import Activation
from depthwise.replacements import Replacement
from depthwise.torch.layers import DepthwiseConv2d

__all__ = ["fold"]

Module = Any


def fold(model: Module, replacements: list[Replacement]) -> None:
    """Fold what can be folded, in place; what is folded away becomes `nn.Identity`.

    Args:
        model: in evaluation mode.
        replacements: what was done is added to it.
    """
    places = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    for name, following in list(_chains(model, "")):
        layer = model.get_submodule(name)
        if places[id(layer)] > 1 or not _can_absorb(layer):
            continue
        for before, next_name in zip([name, *following], following, strict=False):
            module = model.get_submodule(next_name)
            if _is_watched_between(model, before, next_name):
                break
            if type(module) is nn.Identity and not _has_hooks(module):
                continue
            if places[id(module)] > 1:
                break
            if _is_normalization(module) and layer.activation.name == "linear":
                reason = _obstacle(layer, module)
                if reason is not None:
                    replacements.append(Replacement(next_name, "left", reason))
                    break
                _absorb_normalization(layer, module)
                rest = _rest(module)
            else:
                rest = module
            activation = None if layer.activation.name != "linear" else _activation(rest)
            if activation is not None:
                layer.activation = activation
                rest = nn.Identity()
            if rest is module:
                break
            _replace(model, next_name, rest)
            replacements.append(Replacement(next_name, "folded", f"into {name}"))
            if type(rest) is not nn.Identity or layer.activation.name != "linear":
                break


# --- what follows what ----------------------------------------------------------------------------


class _Tracer(fx.Tracer):  # type: ignore[misc]  # PyTorch's types are not looked at
    """Sees convolutions and normalizations of every class as one node each."""

    def is_leaf_module(self, m: Module, module_qualified_name: str) -> bool:
        return isinstance(m, (nn.Conv2d, nn.BatchNorm2d)) or super().is_leaf_module(m, module_qualified_name)


def _chains(model: Module, prefix: str) -> Iterator[tuple[str, list[str]]]:
    """For each depthwise layer that runs once: its name, and those of the modules that run on its output alone."""
    graph = _traced(model)
    if graph is not None:
        yield from _chains_of_graph(model, graph, prefix)
        return
    children = list(model.named_children())
    if isinstance(model, nn.Sequential) and type(model).forward is nn.Sequential.forward:
        for i, (name, child) in enumerate(children):
            if isinstance(child, DepthwiseConv2d):
                yield prefix + name, [prefix + following for following, _ in children[i + 1 :]]
    for name, child in children:
        if not isinstance(child, nn.Conv2d):
            yield from _chains(child, f"{prefix}{name}.")


def _traced(model: Module) -> Any | None:
    """What the model's forward method does, or None where that depends on the values.

    A copy is traced, so that nothing of it stays in the model; of parameters, which are large and which nothing but
    training changes, there is no second one. It has no hooks: they are not to be called with symbols, and who has some
    is not folded anyway.
    """
    try:
        memo = {id(parameter): parameter for parameter in model.parameters()}
        model = copy.deepcopy(model, memo)
        for module in model.modules():
            for kind in _HOOKS:
                getattr(module, kind).clear()
        return _Tracer().trace(model)
    except Exception:  # whatever the model raises when it is given symbols
        return None


def _chains_of_graph(model: Module, graph: Any, prefix: str) -> Iterator[tuple[str, list[str]]]:
    calls = Counter(id(_called(model, node)) for node in graph.nodes if node.op == "call_module")
    attributes = [node.target for node in graph.nodes if node.op == "get_attr"]

    def runs_once(node: Any) -> bool:
        read = any(attribute.startswith(f"{node.target}.") for attribute in attributes)
        return calls[id(_called(model, node))] == 1 and not read

    for node in graph.nodes:
        if (
            node.op != "call_module"
            or not isinstance(_called(model, node), DepthwiseConv2d)
            or not runs_once(node)
        ):
            continue
        following, last = [], node
        while len(last.users) == 1:
            (user,) = last.users
            if user.op != "call_module" or user.args != (last,) or user.kwargs or not runs_once(user):
                break
            following.append(f"{prefix}{user.target}")
            last = user
        yield f"{prefix}{node.target}", following


def _called(model: Module, node: Any) -> Module:
    return model.get_submodule(node.target)


def _replace(model: Module, name: str, module: Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


# --- what can be folded ---------------------------------------------------------------------------


_HOOKS: Final = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _has_hooks(module: Module) -> bool:
    """Whether somebody looks at what goes into the module or comes out of it."""
    return any(getattr(module, kind, None) for kind in _HOOKS)


def _is_watched_between(model: Module, name: str, next_name: str) -> bool:
    """Whether a module has hooks that what the one puts out leaves, or enters, on its way to the other."""
    crossed = set(_containers(name)) ^ set(_containers(next_name))
    return any(_has_hooks(model.get_submodule(container)) for container in crossed)


def _containers(name: str) -> Iterator[str]:
    """The names of the modules around a module, but for the model itself."""
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def _can_absorb(layer: Module) -> bool:
    return type(layer) is DepthwiseConv2d and layer.activation.name == "linear" and not _has_hooks(layer)


def _is_normalization(module: Module) -> bool:
    return type(module) in (nn.BatchNorm2d, nn.SyncBatchNorm) or _is_timms_normalization(module)


def _is_timms_normalization(module: Module) -> bool:
    """Whether it is timm's batch normalization with an activation in one module."""
    kind = type(module)
    return isinstance(module, nn.BatchNorm2d) and (kind.__module__, kind.__name__) == (
        "timm.layers.norm_act",
        "BatchNormAct2d",
    )


def _obstacle(layer: Module, normalization: Module) -> str | None:
    if _has_hooks(normalization):
        return "not folded: it has hooks"
    if normalization.running_mean is None or normalization.running_var is None:
        return "not folded: it takes its statistics from each batch"
    if normalization.num_features != layer.out_channels:
        return f"not folded: it is for {normalization.num_features} channels"
    dtypes = {layer.weight.dtype, normalization.running_mean.dtype}
    if normalization.affine:
        dtypes.add(normalization.weight.dtype)
    if len(dtypes) > 1:
        return "not folded: its dtype is another than the convolution's"
    return None


@torch.no_grad()  # type: ignore[untyped-decorator]
def _absorb_normalization(layer: Module, normalization: Module) -> None:
    """In float64, rounded once. The parameters are new ones: others may share those that were there."""

    def exact(tensor: Any) -> Any:
        return tensor.to("cpu", torch.float64)

    scale = (exact(normalization.running_var) + normalization.eps).rsqrt()
    if normalization.affine:
        scale = scale * exact(normalization.weight)
    shift = -exact(normalization.running_mean) * scale
    if normalization.affine:
        shift = shift + exact(normalization.bias)
    if layer.bias is not None:
        shift = shift + exact(layer.bias) * scale
    weight = layer.weight
    scaled = exact(weight) * scale.reshape(-1, 1, 1, 1)
    layer.weight = nn.Parameter(scaled.to(weight), weight.requires_grad)
    layer.bias = nn.Parameter(shift.to(weight), weight.requires_grad)


def _rest(normalization: Module) -> Module:
    """What a normalization does after normalizing."""
    if not _is_timms_normalization(normalization):
        return nn.Identity()
    if type(normalization.drop) is nn.Identity:
        return normalization.act
    return nn.Sequential(normalization.drop, normalization.act)


_ACTIVATIONS: Final[dict[type, Callable[[Module], Activation | None]]] = {
    nn.ReLU: lambda _: Activation("relu"),
    nn.ReLU6: lambda _: Activation("relu6"),
    nn.LeakyReLU: lambda m: Activation("leaky_relu", m.negative_slope) if m.negative_slope >= 0 else None,
    nn.ELU: lambda m: Activation("elu", m.alpha) if m.alpha >= 0 else None,
    nn.SiLU: lambda _: Activation("silu"),
    nn.Hardswish: lambda _: Activation("hard_swish"),
    nn.Hardsigmoid: lambda _: Activation("hard_sigmoid"),
    nn.Sigmoid: lambda _: Activation("sigmoid"),
    nn.Tanh: lambda _: Activation("tanh"),
    nn.GELU: lambda m: Activation("gelu_tanh" if m.approximate == "tanh" else "gelu"),
    # Beyond its threshold PyTorch's is linear: from 20 on the difference is below 2.1e-9.
    nn.Softplus: lambda m: Activation("softplus") if m.beta == 1 and m.threshold >= 20 else None,
}


def _activation(module: Module) -> Activation | None:
    """The activation that a module computes, or None if it is not one of ours."""
    find = _ACTIVATIONS.get(type(module))
    return None if find is None or _has_hooks(module) else find(module)
