"""The same convolution by `jax.lax`, and comparisons."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from depthwise.jax import depthwise_conv2d
from tests.cases import Arrays, Case

Array = Any

CASES = (
    Case((5, 6), (2, 3), 3, batch=2, multiplier=2, strides=(2, 1), padding="same", dilation_rate=(1, 2)),
    Case((6, 5), (3, 2), 4, batch=2, padding=((1, 0), (0, 2))),
    Case((4, 7), (2, 2), 2, padding=1, strides=2, data_format="channels_first"),  # type: ignore[arg-type]
)


def convolve(case: Case, x: Array, kernel: Array, bias: Array | None = None) -> Array:
    """The public function, with the options of a case."""
    return depthwise_conv2d(x, kernel, bias, **case.options)


def with_lax(case: Case, x: Array, kernel: Array, bias: Array | None = None) -> Array:
    """What it must compute, for the activations that are none and tanh."""
    spec = case.spec
    height, width, channels, multiplier = kernel.shape
    layout = "NHWC" if spec.data_format == "channels_last" else "NCHW"
    y = jax.lax.conv_general_dilated(
        x,
        kernel.reshape(height, width, 1, channels * multiplier),
        spec.strides,
        spec.padding.upper() if isinstance(spec.padding, str) else spec.padding,
        rhs_dilation=spec.dilation_rate,
        dimension_numbers=(layout, "HWIO", layout),
        feature_group_count=channels,
    )
    if bias is not None:
        y = y + (bias if layout == "NHWC" else bias[:, None, None])
    return {"linear": lambda z: z, "tanh": jnp.tanh, "silu": jax.nn.silu}[spec.activation.name](y)


def arguments(case: Case, dtype: str = "float64", seed: int = 0) -> tuple[Array, ...]:
    """x, kernel and, if the case has one, bias."""
    arrays: Arrays = case.reals(dtype, seed).cast(dtype)
    return tuple(a for a in (arrays.x, arrays.kernel, arrays.bias) if a is not None)


def assert_close(actual: Any, expected: Any, tolerance: float = 1e-9, what: str = "") -> None:
    """Two trees of arrays are equal up to roundoff."""
    actual, expected = jax.tree.leaves(actual), jax.tree.leaves(expected)
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        assert a.shape == b.shape, what
        assert a.dtype == b.dtype, what
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=what)
