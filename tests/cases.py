"""One call of the op as data, the arrays for it, and the check that every test of results ends in."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

import depthwise
from depthwise import reference
from depthwise.activations import ActivationLike
from depthwise.spec import Spec
from tests import tolerances

Array = NDArray[Any]

DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
LAYOUTS = ("channels_last", "channels_first")

# Of these, the value and the derivative of an integer are integers or quarters.
EXACT_ACTIVATIONS: tuple[ActivationLike, ...] = (None, "relu", "relu6", ("leaky_relu", 0.25))


@dataclass(frozen=True)
class Case:
    """The sizes and options of a call. Pairs are (height, width)."""

    size: tuple[int, int]
    kernel_size: tuple[int, int]
    channels: int = 1
    batch: int = 1
    multiplier: int = 1
    strides: tuple[int, int] = (1, 1)
    padding: Any = "valid"
    dilation_rate: tuple[int, int] = (1, 1)
    data_format: str = "channels_last"
    activation: ActivationLike = None
    bias: bool = True

    @property
    def spec(self) -> Spec:
        return Spec(
            self.kernel_size,
            self.strides,
            self.padding,
            self.multiplier,
            self.data_format,
            self.dilation_rate,
            self.activation,
            self.bias,
        )

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of a call."""
        return {
            "strides": self.strides,
            "padding": self.padding,
            "data_format": self.data_format,
            "dilation_rate": self.dilation_rate,
            "activation": self.activation,
        }

    @property
    def x_shape(self) -> tuple[int, ...]:
        if self.data_format == "channels_last":
            return (self.batch, *self.size, self.channels)
        return (self.batch, self.channels, *self.size)

    @property
    def kernel_shape(self) -> tuple[int, int, int, int]:
        return (*self.kernel_size, self.channels, self.multiplier)

    @property
    def outputs(self) -> int:
        """Output channels."""
        return self.channels * self.multiplier

    @property
    def y_shape(self) -> tuple[int, ...]:
        return self.spec.check_shapes(self.x_shape, self.kernel_shape)

    def integers(self, seed: int = 0, largest: int = 7) -> Arrays:
        """Integers from -largest to largest, in float64: sums of up to 300,000 products are exact in float32."""
        rng = np.random.default_rng(seed)

        def draw(*shape: int) -> Array:
            return rng.integers(-largest, largest, shape, endpoint=True).astype(np.float64)

        return Arrays(
            draw(*self.x_shape),
            draw(*self.kernel_shape),
            draw(self.outputs) if self.bias else None,
            draw(*self.y_shape),
        )

    def reals(self, dtype: str, seed: int = 0) -> Arrays:
        """Normally distributed numbers of a dtype, in float64; dy is zero where a derivative would jump."""
        rng = np.random.default_rng(seed)

        def draw(*shape: int) -> Array:
            return rng.standard_normal(shape).astype(DTYPES[dtype]).astype(np.float64)

        x, kernel = draw(*self.x_shape), draw(*self.kernel_shape)
        bias = draw(self.outputs) if self.bias else None
        z = tolerances.bounded_preactivation(x, kernel, bias, self.spec, dtype)
        dy = tolerances.away_from_corners(draw(*self.y_shape), z, self.spec.activation, dtype)
        return Arrays(x, kernel, bias, dy)


@dataclass(frozen=True)
class Arrays:
    """The arrays of a call."""

    x: Array
    kernel: Array
    bias: Array | None
    dy: Array

    def cast(self, dtype: str) -> Arrays:
        to = DTYPES[dtype]
        bias = None if self.bias is None else self.bias.astype(to)
        return Arrays(self.x.astype(to), self.kernel.astype(to), bias, self.dy.astype(to))


@dataclass(frozen=True)
class Results:
    """What a call and its pullback return."""

    y: Array
    dx: Array
    dkernel: Array
    dbias: Array | None

    def parts(self) -> dict[str, Array]:
        named = {"y": self.y, "dx": self.dx, "dkernel": self.dkernel, "dbias": self.dbias}
        return {name: array for name, array in named.items() if array is not None}


def evaluate(case: Case, arrays: Arrays) -> Results:
    """Both public functions; they must agree on y to the last bit."""
    y = depthwise.depthwise_conv2d(arrays.x, arrays.kernel, arrays.bias, **case.options)
    again, pullback = depthwise.depthwise_conv2d_vjp(arrays.x, arrays.kernel, arrays.bias, **case.options)
    assert_same_bits(again, y, f"y of depthwise_conv2d_vjp, {case}")
    return Results(y, *pullback(arrays.dy))


def evaluate_reference(case: Case, arrays: Arrays) -> Results:
    x, kernel, bias, dy = arrays.x, arrays.kernel, arrays.bias, arrays.dy
    y = reference.depthwise_conv2d(x, kernel, bias, case.spec)
    return Results(y, *reference.depthwise_conv2d_vjp(x, kernel, bias, dy, case.spec))


@functools.lru_cache(maxsize=8192)
def integers_and_results(case: Case) -> tuple[Arrays, Results]:
    arrays = case.integers()
    return arrays, evaluate_reference(case, arrays)


def check_exactly(case: Case, dtype: str) -> None:
    """On integers, results and gradients are the reference's, rounded once."""
    arrays, expected = integers_and_results(case)
    actual = evaluate(case, arrays.cast(dtype)).parts()
    for name, value in expected.parts().items():
        assert_equals_exact(actual.pop(name), value, dtype, f"{name} of {dtype}, {case}")
    assert not actual


def check_within_bounds(case: Case, dtype: str, seed: int = 0) -> None:
    """On real numbers, results and gradients are the reference's within the tolerances."""
    arrays = case.reals(dtype, seed)
    x, kernel, bias, dy = arrays.x, arrays.kernel, arrays.bias, arrays.dy
    actual = evaluate(case, arrays.cast(dtype))
    gradients = tolerances.bounded_gradients(x, kernel, bias, dy, case.spec, dtype)
    expected = dict(zip(("dx", "dkernel", "dbias"), gradients, strict=True))
    expected["y"] = tolerances.bounded_forward(x, kernel, bias, case.spec, dtype)
    for name, value in actual.parts().items():
        bounded = expected[name]
        assert bounded is not None
        tolerances.assert_within(value, bounded, f"{name} of {dtype}, {case}, seed {seed}")


def assert_equals_exact(actual: Array, exact: Array, dtype: str, what: str) -> None:
    """`actual` is `exact`, float64, rounded to the dtype; NaN equals NaN, and 0.0 equals -0.0."""
    assert actual.dtype == DTYPES[dtype], what
    assert actual.shape == exact.shape, what
    with np.errstate(over="ignore"):  # beyond float16's range is infinity
        rounded = exact.astype(DTYPES[dtype]).astype(np.float64)
    wrong = ~((widened := actual.astype(np.float64)) == rounded) & ~(np.isnan(widened) & np.isnan(rounded))
    if wrong.any():
        first = tuple(int(i[0]) for i in np.nonzero(wrong))
        raise AssertionError(
            f"{what}: {wrong.sum()} of {wrong.size} elements are wrong; "
            f"at {first} got {actual[first]}, expected {rounded[first]}"
        )


def assert_same_bits(actual: Array, expected: Array, what: str) -> None:
    assert actual.dtype == expected.dtype, what
    assert actual.shape == expected.shape, what
    unsigned = np.dtype(f"u{actual.dtype.itemsize}")
    different = np.ascontiguousarray(actual).view(unsigned) != np.ascontiguousarray(expected).view(unsigned)
    assert not different.any(), f"{what}: {different.sum()} of {different.size} elements have other bits"
