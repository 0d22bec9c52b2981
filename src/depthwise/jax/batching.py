"""`jax.vmap` of the primitives: the mapped axis is folded into the batch or into the channels, which leaves one call.

Into the batch where neither a kernel nor a bias is mapped, or asked for; else into the channels, where each of the
mapped kernels gets channels of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.interpreters import batching

from depthwise.jax.primitives import (
    Array,
    Kind,
    Size,
    Wanted,
    backward_operands,
    backward_p,
    backward_results,
    forward_operands,
    forward_p,
    forward_results,
    tangent_operands,
    tangent_p,
)
from depthwise.jax.shapes import channel_axis
from depthwise.spec import Spec

__all__: list[str] = []

Axis: TypeAlias = int | None  # the mapped axis of an array; None if it is not mapped
_IMAGES = (Kind.INPUT, Kind.OUTPUT)


def _fold(array: Array, mapped: Axis, count: int, axis: int) -> Array:
    """The mapped axis of an array, or copies if it has none, in front of `axis` and merged with it."""
    if mapped is None:
        expanded = jnp.expand_dims(array, axis)
        shape = (*array.shape[:axis], count, *array.shape[axis:])
        array = jnp.broadcast_to(expanded, shape)
    else:
        array = jnp.moveaxis(array, mapped, axis)
    shape = array.shape
    return array.reshape((*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :]))


def _unfold(array: Array, count: int, axis: int) -> Array:
    shape = array.shape
    return array.reshape((*shape[:axis], count, shape[axis] // count, *shape[axis + 1 :]))


def _batch(
    primitive: Any,
    spec: Spec,
    operand_kinds: Sequence[Kind],
    result_kinds: Sequence[Kind],
    operands: Sequence[Array],
    mapped: Sequence[Axis],
    parameters: dict[str, Any],
) -> tuple[list[Array], list[int]]:
    count = next(array.shape[axis] for array, axis in zip(operands, mapped, strict=True) if axis is not None)
    if count == 0:
        return _nothing(primitive, spec, operands, mapped, parameters)
    pairs = list(zip(operand_kinds, mapped, strict=True))
    into_batch = all(kind in _IMAGES for kind in result_kinds) and all(
        axis is None for kind, axis in pairs if kind not in _IMAGES
    )
    if into_batch:
        axes = dict.fromkeys(_IMAGES, 0)
    else:
        channel = channel_axis(spec)
        axes = {Kind.INPUT: channel, Kind.OUTPUT: channel, Kind.KERNEL: 2, Kind.BIAS: 0}
    folded = [
        _fold(array, axis, count, axes[kind]) if kind in axes else array
        for array, (kind, axis) in zip(operands, pairs, strict=True)
    ]
    results = primitive.bind(*folded, spec=spec, **parameters)
    at = [axes[kind] for kind in result_kinds]
    return [_unfold(result, count, axis) for result, axis in zip(results, at, strict=True)], at


def _nothing(
    primitive: Any, spec: Spec, operands: Sequence[Array], mapped: Sequence[Axis], parameters: dict[str, Any]
) -> tuple[list[Array], list[int]]:
    """The results of no calls at all."""
    single = [
        jax.ShapeDtypeStruct(tuple(size for i, size in enumerate(array.shape) if i != axis), array.dtype)
        for array, axis in zip(operands, mapped, strict=True)
    ]
    results = jax.eval_shape(functools.partial(primitive.bind, spec=spec, **parameters), *single)
    return [jnp.zeros((0, *result.shape), result.dtype) for result in results], [0] * len(results)


def _forward(
    operands: Sequence[Array], mapped: Sequence[Axis], *, spec: Spec, keep_preactivation: bool
) -> tuple[list[Array], list[int]]:
    kinds = forward_operands(len(operands) == 3), forward_results(keep_preactivation)
    parameters = {"keep_preactivation": keep_preactivation}
    return _batch(forward_p, spec, *kinds, operands, mapped, parameters)


def _tangent(
    operands: Sequence[Array], mapped: Sequence[Axis], *, spec: Spec, wanted: Wanted
) -> tuple[list[Array], list[int]]:
    kinds = tangent_operands(spec, wanted), (Kind.OUTPUT,)
    return _batch(tangent_p, spec, *kinds, operands, mapped, {"wanted": wanted})


def _backward(
    operands: Sequence[Array],
    mapped: Sequence[Axis],
    *,
    spec: Spec,
    wanted: Wanted,
    input_size: Size | None,
) -> tuple[list[Array], list[int]]:
    kinds = backward_operands(spec, wanted), backward_results(wanted)
    parameters = {"wanted": wanted, "input_size": input_size}
    return _batch(backward_p, spec, *kinds, operands, mapped, parameters)


batching.primitive_batchers[forward_p] = _forward
batching.primitive_batchers[tangent_p] = _tangent
batching.primitive_batchers[backward_p] = _backward
