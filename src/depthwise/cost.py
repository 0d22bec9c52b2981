"""What one application of a depthwise convolution costs, counted from the shapes alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from depthwise.spec import Spec

__all__ = ["Cost", "count"]


@dataclass(frozen=True, slots=True)
class Cost:
    """The work and the memory traffic of one forward pass.

    Attributes:
        macs: multiply-accumulates as papers count them: every output element times every tap of the kernel,
            the taps that fall on padding included.
        macs_inside: multiply-accumulates that meet the image; the rest multiply zeros and need not be done.
        flops: floating-point operations that must be done, 2 * `macs_inside`; bias and activation are not
            counted.
        parameters: trainable numbers: kernel and, with `use_bias`, bias.
        bytes_read: bytes of the input, the kernel and the bias, each read once.
        bytes_written: bytes of the output, written once.
        arithmetic_intensity: `flops` per byte read or written; 0.0 when there is nothing to read or write.
        receptive_field: (height, width), in pixels, of the window of the input that one output element sees.
    """

    macs: int
    macs_inside: int
    flops: int
    parameters: int
    bytes_read: int
    bytes_written: int
    arithmetic_intensity: float
    receptive_field: tuple[int, int]


def count(spec: Spec, batch: int, input_size: tuple[int, int], channels: int, bytes_per_element: int) -> Cost:
    """The cost of `spec` on an input of known size. `Spec.cost` is the public way here, and validates."""
    padding = spec.padding_amounts(input_size)
    output_size = spec.output_size(input_size)
    output_channels = channels * spec.depth_multiplier
    outputs = batch * math.prod(output_size) * output_channels

    # A tap meets the image when its row and its column do, so the two axes multiply.
    taps_inside = math.prod(
        _pairs_inside(input_size[axis], output_size[axis], padding[axis][0], spec, axis) for axis in (0, 1)
    )
    macs_inside = batch * output_channels * taps_inside

    parameters = math.prod(spec.kernel_shape(channels)) + (output_channels if spec.use_bias else 0)
    bytes_read = (batch * math.prod(input_size) * channels + parameters) * bytes_per_element
    bytes_written = outputs * bytes_per_element
    bytes_moved = bytes_read + bytes_written
    return Cost(
        macs=outputs * math.prod(spec.kernel_size),
        macs_inside=macs_inside,
        flops=2 * macs_inside,
        parameters=parameters,
        bytes_read=bytes_read,
        bytes_written=bytes_written,
        arithmetic_intensity=2 * macs_inside / bytes_moved if bytes_moved else 0.0,
        receptive_field=spec.window_size,
    )


def _pairs_inside(size: int, output_size: int, padding_before: int, spec: Spec, axis: int) -> int:
    """How many pairs (output position, tap) along one axis read a pixel of the image rather than padding."""
    stride, dilation = spec.strides[axis], spec.dilation_rate[axis]
    pairs = 0
    for tap in range(spec.kernel_size[axis]):
        offset = tap * dilation - padding_before  # output position o reads input position o * stride + offset
        first = max(0, -(offset // stride))  # the smallest o with o * stride + offset >= 0
        last = min(output_size - 1, (size - 1 - offset) // stride)
        pairs += max(0, last - first + 1)
    return pairs
