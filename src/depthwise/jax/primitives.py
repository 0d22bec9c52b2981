"""The three primitives: what they take, what they return, and of which shapes.

    forward   (x, kernel[, bias]) -> (y[, z])
    tangent   ([x'][, kernel'][, bias'][, kernel][, x][, saved]) -> (y')
    backward  (dy[, kernel][, x][, saved]) -> ([dx][, dkernel][, dbias])

`forward` is the fused op. `tangent` is its derivative, linear in x', kernel' and bias' together, and `backward` is the
transpose of that: one native call for all gradients that are wanted. An operand is there only if it is needed, so that
nothing is kept in memory for a gradient that nobody asked for: kernel for x' and dx, x for kernel' and dkernel, saved
(what the forward pass saved for the derivative) unless the activation is linear.

Arrays are one of three kinds, which is all that the rules for batching and sharding need to know.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from jax.extend.core import Primitive

from depthwise.spec import Spec

__all__ = [
    "PRIMITIVES",
    "Array",
    "Kind",
    "Size",
    "Wanted",
    "backward",
    "backward_operands",
    "backward_p",
    "backward_results",
    "forward",
    "forward_operands",
    "forward_p",
    "forward_results",
    "is_linear",
    "linear",
    "needs_preactivation",
    "split_backward",
    "split_tangent",
    "tangent",
    "tangent_operands",
    "tangent_p",
]

Array: TypeAlias = Any
Size: TypeAlias = tuple[Any, Any]  # height, width; a size is an integer or symbolic

forward_p = Primitive("depthwise_conv2d")
tangent_p = Primitive("depthwise_conv2d_tangent")
backward_p = Primitive("depthwise_conv2d_backward")
PRIMITIVES = (forward_p, tangent_p, backward_p)
for _primitive in PRIMITIVES:
    _primitive.multiple_results = True


class Kind(enum.Enum):
    """What an array is: an image in the data format, a kernel (kh, kw, C, M), or a number per output channel."""

    INPUT = enum.auto()  # an image with the channels of x
    OUTPUT = enum.auto()  # an image with the channels of y
    KERNEL = enum.auto()
    BIAS = enum.auto()


class Wanted(NamedTuple):
    """With respect to which arguments a derivative is taken."""

    x: bool
    kernel: bool
    bias: bool


def forward_operands(has_bias: bool) -> tuple[Kind, ...]:
    """Kinds of the operands of `forward_p`."""
    return (Kind.INPUT, Kind.KERNEL, *[Kind.BIAS] * has_bias)


def forward_results(keep_preactivation: bool) -> tuple[Kind, ...]:
    """Kinds of the results of `forward_p`."""
    return (Kind.OUTPUT, *[Kind.OUTPUT] * keep_preactivation)


def backward_operands(spec: Spec, wanted: Wanted) -> tuple[Kind, ...]:
    """Kinds of the operands of `backward_p`."""
    kernel, x = [Kind.KERNEL] * wanted.x, [Kind.INPUT] * wanted.kernel
    return (Kind.OUTPUT, *kernel, *x, *[Kind.OUTPUT] * (not is_linear(spec)))


def backward_results(wanted: Wanted) -> tuple[Kind, ...]:
    """Kinds of the results of `backward_p`, and of the linear operands of `tangent_p`."""
    kinds = (Kind.INPUT, Kind.KERNEL, Kind.BIAS)
    return tuple(kind for kind, is_wanted in zip(kinds, wanted, strict=True) if is_wanted)


def tangent_operands(spec: Spec, wanted: Wanted) -> tuple[Kind, ...]:
    """Kinds of the operands of `tangent_p`."""
    only_shape = [Kind.INPUT] * needs_input_for_shape(spec, wanted)
    return (*backward_results(wanted), *backward_operands(spec, wanted)[1:], *only_shape)


def needs_input_for_shape(spec: Spec, wanted: Wanted) -> bool:
    """Whether `tangent_p` takes x only because nothing else tells the shape of its result."""
    return is_linear(spec) and wanted == (False, False, True)


def is_linear(spec: Spec) -> bool:
    """Whether the op has no activation, so that its derivative needs nothing saved."""
    return spec.activation.name == "linear"


def needs_preactivation(spec: Spec) -> bool:
    """Whether the derivative is taken from the value before the activation."""
    return spec.activation.info.needs_preactivation


@functools.lru_cache(maxsize=1024)
def linear(spec: Spec) -> Spec:
    """The same convolution without its activation."""
    return Spec(
        spec.kernel_size,
        spec.strides,
        spec.padding,
        spec.depth_multiplier,
        spec.data_format,
        spec.dilation_rate,
        None,
        spec.use_bias,
    )


def forward(
    spec: Spec, x: Array, kernel: Array, bias: Array | None = None, *, keep_preactivation: bool = False
) -> list[Array]:
    """[y], or [y, z] with `keep_preactivation`."""
    operands = [x, kernel] if bias is None else [x, kernel, bias]
    results: list[Array] = forward_p.bind(*operands, spec=spec, keep_preactivation=keep_preactivation)
    return results


def tangent(
    spec: Spec,
    tangents: Sequence[Array | None],
    kernel: Array | None,
    x: Array | None,
    saved: Array | None,
) -> Array:
    """The derivative of y along the tangents of x, kernel and bias, at least one of them not None."""
    wanted = Wanted(*(t is not None for t in tangents))
    operands = [
        *(t for t in tangents if t is not None),
        *_needed(spec, wanted, kernel, x, saved),
    ]
    if needs_input_for_shape(spec, wanted):
        operands.append(x)
    return tangent_p.bind(*operands, spec=spec, wanted=wanted)[0]


def backward(
    spec: Spec,
    wanted: Wanted,
    dy: Array,
    kernel: Array | None,
    x: Array | None,
    saved: Array | None,
    input_size: Size | None,
) -> tuple[Array | None, Array | None, Array | None]:
    """Gradients with respect to x, kernel and bias; None for those that are not wanted.

    Args:
        spec: of the convolution.
        wanted: which gradients.
        dy: gradient with respect to y.
        kernel, x, saved: read where they are needed.
        input_size: (height, width) of x, read where its gradient is wanted.
    """
    results: Iterator[Array] = iter(
        backward_p.bind(
            dy,
            *_needed(spec, wanted, kernel, x, saved),
            spec=spec,
            wanted=wanted,
            input_size=input_size if wanted.x else None,
        )
    )
    dx, dkernel, dbias = (next(results) if is_wanted else None for is_wanted in wanted)
    return dx, dkernel, dbias


def _needed(
    spec: Spec, wanted: Wanted, kernel: Array | None, x: Array | None, saved: Array | None
) -> list[Array]:
    return [
        *[kernel] * wanted.x,
        *[x] * wanted.kernel,
        *[saved] * (not is_linear(spec)),
    ]


def split_tangent(
    spec: Spec, wanted: Wanted, operands: Sequence[Array]
) -> tuple[list[Array | None], Array | None, Array | None, Array | None]:
    """The operands of `tangent_p` as (tangents, kernel, x, saved), None for what is not there."""
    rest = iter(operands)
    tangents = [next(rest) if is_wanted else None for is_wanted in wanted]
    kernel = next(rest) if wanted.x else None
    x = next(rest) if wanted.kernel else None
    saved = None if is_linear(spec) else next(rest)
    return tangents, kernel, next(rest, x), saved


def split_backward(
    spec: Spec, wanted: Wanted, operands: Sequence[Array]
) -> tuple[Array, Array | None, Array | None, Array | None]:
    """The operands of `backward_p` as (dy, kernel, x, saved), None for what is not there."""
    dy, *others = operands
    rest = iter(others)
    kernel = next(rest) if wanted.x else None
    x = next(rest) if wanted.kernel else None
    return dy, kernel, x, None if is_linear(spec) else next(rest)
