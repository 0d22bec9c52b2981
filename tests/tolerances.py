"""How far a result may be from the float64 reference: one table, and the bounds that follow from it.

A result of n products, x[i] * w[i], is off by the rounding of its sum, of its activation and of its storage.

- The sum: each product and each addition is off by at most `compute`, the unit roundoff of the type the sum is
  made in, relative to a partial sum, which is at most sum |x[i] * w[i]|. Whatever the order, n such errors add up
  to at most n times that; they are as good as independent, so the bound that holds in practice grows with the
  square root of n (Higham and Mary, 2019). With it a kernel of 63 x 63 is held to 1.6e-5 of the sum of magnitudes,
  where leaving out one tap makes 2.5e-4.
- The activation: a few units in the last place of its own, and it passes an error of its argument on times its
  slope, at most 1.5 (hard_swish).
- The storage: `storage`, half a unit in the last place of the stored type, and `floor` where that is subnormal.

Gradients are sums of the same kind over dz = dy * activation'(z), which comes with errors of its own: those of z,
those of the formula, and for half types the rounding of what was saved for it (z or y).

Data drawn as small integers need none of this: every sum is exact in every type, and so must the results be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from depthwise import reference
from depthwise.activations import Activation
from depthwise.spec import Spec

Array = NDArray[Any]


@dataclass(frozen=True)
class Precision:
    """Errors of one dtype.

    Attributes:
        compute: unit roundoff of the type that sums are made in; twice that where the reference, made in the same
            type, is off by as much.
        storage: unit roundoff of the type that results are stored in.
        floor: absolute error from values too small for either, with room for functions that flush them to zero.
    """

    compute: float
    storage: float
    floor: float


PRECISIONS = {
    "float32": Precision(compute=2.0**-24, storage=2.0**-24, floor=2.0**-118),
    "float64": Precision(compute=2.0**-52, storage=2.0**-53, floor=2.0**-1012),
    "float16": Precision(compute=2.0**-24, storage=2.0**-11, floor=2.0**-24),
    "bfloat16": Precision(compute=2.0**-24, storage=2.0**-8, floor=2.0**-118),
}

# Roundoffs that an activation or its derivative may be off by, and the most that either passes on of an error of its
# argument.
ACTIVATION_ROUNDOFFS = 8
STEEPEST = 1.5

# Where the derivative jumps. There the last bit of z decides, so nothing can be compared.
CORNERS = {
    "relu": (0.0,),
    "relu6": (0.0, 6.0),
    "leaky_relu": (0.0,),
    "elu": (0.0,),
    "hard_swish": (-3.0, 3.0),
    "hard_sigmoid": (-3.0, 3.0),
}


@dataclass(frozen=True)
class Bounded:
    """What a result must be, in float64, and how far from it each element may lie."""

    value: Array
    bound: Array


def rounding(terms: int) -> float:
    """Roundoffs that a sum of this many products may lose, relative to the sum of magnitudes."""
    return math.sqrt(terms) + 2.0


def bounded_preactivation(x: Array, kernel: Array, bias: Array | None, spec: Spec, dtype: str) -> Bounded:
    """The value before the activation, not yet stored."""
    precision = PRECISIONS[dtype]
    magnitude = reference.preactivation(abs(x), abs(kernel), None if bias is None else abs(bias), spec)
    terms = spec.kernel_size[0] * spec.kernel_size[1] + 1
    bound = rounding(terms) * precision.compute * magnitude + precision.floor
    return Bounded(reference.preactivation(x, kernel, bias, spec), bound)


def bounded_forward(x: Array, kernel: Array, bias: Array | None, spec: Spec, dtype: str) -> Bounded:
    precision = PRECISIONS[dtype]
    z = bounded_preactivation(x, kernel, bias, spec, dtype)
    y = reference.activate(spec.activation.name, spec.activation.alpha, z.value)
    bound = z.bound
    if spec.activation.name != "linear":
        steepest = max(STEEPEST, spec.activation.alpha)
        bound = steepest * bound + ACTIVATION_ROUNDOFFS * precision.compute * (abs(y) + 1.0)
    return Bounded(y, bound + precision.storage * (abs(y) + bound) + precision.floor)


def away_from_corners(dy: Array, z: Bounded, activation: Activation, dtype: str) -> Array:
    """`dy` with zeros where the derivative may be that of either side of a corner."""
    width = z.bound + 16 * PRECISIONS[dtype].storage
    for corner in CORNERS.get(activation.name, ()):
        dy = np.where(abs(z.value - corner) < width, 0.0, dy)
    return dy


def bounded_gradients(
    x: Array, kernel: Array, bias: Array | None, dy: Array, spec: Spec, dtype: str
) -> tuple[Bounded, Bounded, Bounded | None]:
    """Gradients for a `dy` that is `away_from_corners`."""
    precision = PRECISIONS[dtype]
    activation, alpha = spec.activation.name, spec.activation.alpha
    z = bounded_preactivation(x, kernel, bias, spec, dtype)
    dz = dy * reference.activate_derivative(activation, alpha, z.value)
    error = precision.compute * abs(dz)
    if activation != "linear":
        formula = ACTIVATION_ROUNDOFFS * precision.compute + STEEPEST * z.bound
        saved = 2.5 * precision.storage if precision.storage > precision.compute else 0.0
        error = error + abs(dy) * max(1.0, alpha) * (formula + saved)

    linear = Spec(
        spec.kernel_size,
        spec.strides,
        spec.padding,
        spec.depth_multiplier,
        spec.data_format,
        spec.dilation_rate,
        use_bias=spec.use_bias,
    )
    exact = reference.depthwise_conv2d_vjp(x, kernel, bias, dy, spec)
    magnitudes = reference.depthwise_conv2d_vjp(abs(x), abs(kernel), bias, abs(dz), linear)
    errors = reference.depthwise_conv2d_vjp(abs(x), abs(kernel), bias, error, linear)
    taps = spec.kernel_size[0] * spec.kernel_size[1]
    outputs = dy.size // max(1, kernel.shape[2] * kernel.shape[3])
    bounds: list[Bounded | None] = []
    for value, magnitude, passed_on, terms in zip(
        exact, magnitudes, errors, (taps * spec.depth_multiplier, outputs, outputs), strict=True
    ):
        if value is None or magnitude is None or passed_on is None:
            bounds.append(None)
            continue
        bound = passed_on + rounding(terms) * precision.compute * magnitude
        bounds.append(Bounded(value, bound + precision.storage * (abs(value) + bound) + precision.floor))
    dx, dkernel, dbias = bounds
    assert dx is not None
    assert dkernel is not None
    return dx, dkernel, dbias


def assert_within(actual: Array, expected: Bounded, what: str) -> None:
    """Every element lies within its bound; a NaN or an infinity is within none."""
    assert actual.shape == expected.value.shape, what
    error = abs(actual.astype(np.float64) - expected.value)
    outside = ~(error <= expected.bound)
    if outside.any():
        worst = np.unravel_index(np.argmax(np.where(outside, error / expected.bound, 0.0)), error.shape)
        raise AssertionError(
            f"{what}: {outside.sum()} of {outside.size} elements are out of bounds; at {tuple(map(int, worst))} "
            f"got {actual[worst]}, expected {expected.value[worst]} +- {expected.bound[worst]:.3g}"
        )
