"""Abstract evaluation: the shapes, and in explicit mode the shardings, of the primitives' results.

Batch, height and width may be symbolic, as in shape-polymorphic export. The results are laid out as the arguments: the
batch and the channels keep the mesh axes they are split over, the other dimensions are whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from jax.sharding import PartitionSpec

from depthwise.jax.primitives import (
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
from depthwise.spec import Spec

__all__ = ["channel_axis", "image_shape", "is_known", "output_size", "spatial_axes", "specs", "split_axes"]

Aval: TypeAlias = Any
Entry: TypeAlias = Any  # of a PartitionSpec: the mesh axes that a dimension is split over


def channel_axis(spec: Spec) -> int:
    """Which axis of an image holds the channels."""
    return 3 if spec.data_format == "channels_last" else 1


def spatial_axes(spec: Spec) -> tuple[int, int]:
    """Which axes of an image are its height and width."""
    return (1, 2) if spec.data_format == "channels_last" else (2, 3)


def is_known(size: Any) -> bool:
    """Whether a size is an integer, not symbolic."""
    return isinstance(size, int)


def output_size(spec: Spec, input_size: Size) -> Size:
    """(height, width) of the output, whose sizes may be symbolic."""
    partial = image_shape(spec, None, tuple(size if is_known(size) else None for size in input_size), None)
    known = spec.output_shape(partial)
    height, width = (
        _symbolic_output(spec, i, input_size[i]) if known[axis] is None else known[axis]
        for i, axis in enumerate(spatial_axes(spec))
    )
    return height, width


def _symbolic_output(spec: Spec, axis: int, size: Any) -> Any:
    stride = spec.strides[axis]
    if spec.padding == "same":
        return -(-size // stride)
    before, after = (0, 0) if spec.padding == "valid" else spec.padding[axis]
    return (before + size + after - spec.window_size[axis]) // stride + 1


def image_shape(spec: Spec, batch: Any, size: tuple[Any, ...], channels: Any) -> tuple[Any, ...]:
    """The sizes of an image, in the order of the data format."""
    return (batch, *size, channels) if spec.data_format == "channels_last" else (batch, channels, *size)


def specs(spec: Spec, kinds: Sequence[Kind], batch: Entry, channels: Entry) -> list[PartitionSpec]:
    """How arrays are split whose batch and channels are split over these mesh axes."""
    image = PartitionSpec(*image_shape(spec, batch, (None, None), channels))
    split = {
        Kind.INPUT: image,
        Kind.OUTPUT: image,
        Kind.KERNEL: PartitionSpec(None, None, channels, None),
        Kind.BIAS: PartitionSpec(channels),
    }
    return [split[kind] for kind in kinds]


def split_axes(
    spec: Spec, kinds: Sequence[Kind], entries: Sequence[Sequence[Entry]]
) -> tuple[list[Entry], list[Entry]]:
    """What `specs` was given, as each array has it: for the batch, for the channels."""
    channel = {Kind.INPUT: channel_axis(spec), Kind.OUTPUT: channel_axis(spec), Kind.KERNEL: 2, Kind.BIAS: 0}
    batches = [e[0] for e, kind in zip(entries, kinds, strict=True) if kind in (Kind.INPUT, Kind.OUTPUT)]
    channels = [e[channel[kind]] for e, kind in zip(entries, kinds, strict=True)]
    return batches, channels


def _forward(*operands: Aval, spec: Spec, keep_preactivation: bool) -> list[Aval]:
    x, kernel = operands[:2]
    height, width = spatial_axes(spec)
    size = output_size(spec, (x.shape[height], x.shape[width]))
    y = image_shape(spec, x.shape[0], size, kernel.shape[2] * kernel.shape[3])
    kinds = forward_results(keep_preactivation)
    return _results(spec, forward_operands(len(operands) == 3), operands, kinds, [y] * len(kinds))


def _tangent(*operands: Aval, spec: Spec, wanted: Wanted) -> list[Aval]:
    kinds = tangent_operands(spec, wanted)
    arrays = dict(zip(kinds, operands, strict=True))  # of each kind one, whichever
    if Kind.OUTPUT in arrays:
        y = arrays[Kind.OUTPUT].shape
    else:
        x = arrays[Kind.INPUT].shape
        height, width = spatial_axes(spec)
        channels = x[channel_axis(spec)] * spec.depth_multiplier
        y = image_shape(spec, x[0], output_size(spec, (x[height], x[width])), channels)
    return _results(spec, kinds, operands, (Kind.OUTPUT,), [y])


def _backward(*operands: Aval, spec: Spec, wanted: Wanted, input_size: Size | None) -> list[Aval]:
    dy = operands[0].shape
    outputs = dy[channel_axis(spec)]
    channels = outputs // spec.depth_multiplier
    shapes: list[tuple[Any, ...]] = []
    if wanted.x:
        assert input_size is not None
        shapes.append(image_shape(spec, dy[0], input_size, channels))
    if wanted.kernel:
        shapes.append((*spec.kernel_size, channels, spec.depth_multiplier))
    if wanted.bias:
        shapes.append((outputs,))
    return _results(spec, backward_operands(spec, wanted), operands, backward_results(wanted), shapes)


def _results(
    spec: Spec,
    operand_kinds: Sequence[Kind],
    operands: Sequence[Aval],
    result_kinds: Sequence[Kind],
    shapes: Sequence[tuple[Any, ...]],
) -> list[Aval]:
    first = operands[0]
    entries = [operand.sharding.spec for operand in operands]
    batches, channels = split_axes(spec, operand_kinds, entries)
    split = specs(spec, result_kinds, _first(batches), _first(channels))
    return [
        first.update(shape=shape, weak_type=False, sharding=first.sharding.update(spec=entry))
        for shape, entry in zip(shapes, split, strict=True)
    ]


def _first(entries: Sequence[Entry]) -> Entry:
    return next((entry for entry in entries if entry is not None), None)


forward_p.def_abstract_eval(_forward)
tangent_p.def_abstract_eval(_tangent)
backward_p.def_abstract_eval(_backward)
