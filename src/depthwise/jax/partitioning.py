"""How a call is split over devices: batch and channels are free, height, width and taps are whole on each of them.

XLA does not look into a custom call; without these rules it would gather all of its operands on every device. The
gradients of kernel and bias are sums over the batch, so where that is split the parts are added up.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax._src import dispatch
from jax.experimental.custom_partitioning import (
    ArrayMapping,
    CompoundFactor,
    SdyShardingRule,
    custom_partitioning,
)
from jax.sharding import NamedSharding

from depthwise.jax.primitives import (
    PRIMITIVES,
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
)
from depthwise.jax.shapes import channel_axis, image_shape, specs, split_axes
from depthwise.spec import Spec

__all__ = ["backward", "forward"]


@functools.lru_cache(maxsize=1024)
def forward(spec: Spec, has_bias: bool, keep_preactivation: bool) -> Callable[..., Sequence[Array]]:
    """`forward_p` as a function that XLA can split."""
    return _partitioned(
        functools.partial(forward_p.bind, spec=spec, keep_preactivation=keep_preactivation),
        spec,
        forward_operands(has_bias),
        forward_results(keep_preactivation),
    )


@functools.lru_cache(maxsize=1024)
def backward(spec: Spec, wanted: Wanted, input_size: Size | None) -> Callable[..., Sequence[Array]]:
    """`backward_p` as a function that XLA can split."""
    return _partitioned(
        functools.partial(backward_p.bind, spec=spec, wanted=wanted, input_size=input_size),
        spec,
        backward_operands(spec, wanted),
        backward_results(wanted),
    )


def _partitioned(
    call: Callable[..., Sequence[Array]],
    spec: Spec,
    operand_kinds: Sequence[Kind],
    result_kinds: Sequence[Kind],
) -> Callable[..., Sequence[Array]]:
    """`call`, whose operands and results are of these kinds, with the rules for splitting it."""

    def partition(
        mesh: Any, operands: Sequence[Any], results: Sequence[Any]
    ) -> tuple[Any, Callable[..., Sequence[Array]], Any, Any]:
        arrays, kinds = [*operands, *results], [*operand_kinds, *result_kinds]
        batch, channels = _agreed_axes(spec, mesh, arrays, kinds)

        def of_a_part(*parts: Array) -> Sequence[Array]:
            values = call(*parts)
            if batch is None:
                return tuple(values)
            return tuple(
                jax.lax.psum(value, batch) if kind in (Kind.KERNEL, Kind.BIAS) else value
                for value, kind in zip(values, result_kinds, strict=True)
            )

        def shardings(kinds: Sequence[Kind]) -> tuple[NamedSharding, ...]:
            return tuple(NamedSharding(mesh, entry) for entry in specs(spec, kinds, batch, channels))

        return mesh, of_a_part, shardings(result_kinds), shardings(operand_kinds)

    def infer(mesh: Any, operands: Sequence[Any], _results: Any) -> tuple[NamedSharding, ...]:
        batch, channels = _agreed_axes(spec, mesh, operands, operand_kinds)
        return tuple(NamedSharding(mesh, entry) for entry in specs(spec, result_kinds, batch, channels))

    def rule(mesh: Any, operand_types: Sequence[Any], _result_types: Sequence[Any]) -> SdyShardingRule:
        channels = operand_types[0].shape[channel_axis(spec)]  # the first operand is an image
        if operand_kinds[0] == Kind.OUTPUT:
            channels //= spec.depth_multiplier
        return _shardy_rule(spec, mesh, operand_kinds, result_kinds, channels)

    def whole(*operands: Array) -> tuple[Array, ...]:
        return tuple(call(*operands))

    function = custom_partitioning(whole)
    function.def_partition(partition, infer_sharding_from_operands=infer, sharding_rule=rule)
    return function  # type: ignore[no-any-return]


def _agreed_axes(spec: Spec, mesh: Any, arrays: Sequence[Any], kinds: Sequence[Kind]) -> tuple[Any, Any]:
    """The mesh axes that all arrays' batch and channels are to be split over; None for neither."""
    entries = [_entries(array) for array in arrays]
    sizes = [array.shape for array in arrays]
    batch_entries, channel_entries = split_axes(spec, kinds, entries)
    batch_sizes, channel_sizes = split_axes(spec, kinds, sizes)
    inputs = [
        size // (spec.depth_multiplier if kind in (Kind.OUTPUT, Kind.BIAS) else 1)
        for size, kind in zip(channel_sizes, kinds, strict=True)
    ]
    batch = _first_that_divides(mesh, batch_entries, batch_sizes, set())
    channels = _first_that_divides(mesh, channel_entries, inputs, set(_axes(batch)))
    return batch, channels


def _entries(array: Any) -> tuple[Any, ...]:
    """What each dimension is split over. XLA may not know, or not say it in terms of the mesh: then over nothing."""
    known = tuple(getattr(array.sharding, "spec", ()))
    return (*known, *[None] * (len(array.shape) - len(known)))


def _first_that_divides(mesh: Any, entries: Sequence[Any], sizes: Sequence[int], taken: set[str]) -> Any:
    """Splits into unequal parts would be padded with what is no zero."""
    for entry, size in zip(entries, sizes, strict=True):
        axes = _axes(entry)
        parts = math.prod(mesh.shape[axis] for axis in axes)
        if axes and size % parts == 0 and taken.isdisjoint(axes):
            return entry
    return None


def _axes(entry: Any) -> tuple[str, ...]:
    if entry is None:
        return ()
    return entry if isinstance(entry, tuple) else (entry,)


def _shardy_rule(
    spec: Spec, mesh: Any, operand_kinds: Sequence[Kind], result_kinds: Sequence[Kind], channels: int
) -> SdyShardingRule:
    """The same for Shardy: which dimensions are one another's.

    It would split a mesh axis that does not divide the channels between them and the multiplier, which JAX cannot
    express: it is not told then that the channels of x and y have to do with one another.
    """
    multiplier = spec.depth_multiplier
    splits_axes = any(1 < math.gcd(size, channels) < size for size in mesh.shape.values())
    outputs: Any = CompoundFactor("c", "m")
    if multiplier == 1:
        outputs = "c"
    elif channels == 1 or splits_axes:
        outputs = "o"
    dimensions = {
        Kind.INPUT: ArrayMapping(*image_shape(spec, "n", ("h", "w"), "c")),
        Kind.OUTPUT: ArrayMapping(*image_shape(spec, "n", ("i", "j"), outputs)),
        Kind.KERNEL: ArrayMapping("p", "q", "c", "m"),
        Kind.BIAS: ArrayMapping(outputs),
    }
    operands = tuple(dimensions[kind] for kind in operand_kinds)
    results = tuple(dimensions[kind] for kind in result_kinds)
    entries = [entry for array in (*operands, *results) for entry in array]
    factors = dict.fromkeys(factor for entry in entries for factor in entry)  # in the order of appearance
    sizes = {"c": channels, "m": multiplier}
    return SdyShardingRule(
        operands,
        results,
        need_replication_factors=tuple(factor for factor in factors if factor not in ("n", "c")),
        **{factor: sizes[factor] for factor in factors if factor not in entries},
    )


# XLA's partitioner is told about devices when a program is lowered, and JAX passes them on only to programs with
# primitives that are registered for it; there is no public function to do so.
dispatch.prim_requires_devices_during_lowering.update(PRIMITIVES)
