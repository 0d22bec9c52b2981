"""Agreement with `jax.lax.conv_general_dilated`, and with what runs on devices that have no kernels of ours."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from depthwise import reference
from depthwise.activations import ACTIVATIONS
from depthwise.jax import depthwise_conv2d, fallback
from depthwise.jax.primitives import Wanted
from tests import tolerances
from tests.cases import Case
from tests.jax.support import CASES, arguments, assert_close, convolve, with_lax

Array = Any


@pytest.mark.parametrize(
    ("padding", "multiplier"),
    [("valid", 1), ("same", 1), (2, 3), ((1, 0), 1), (((0, 3), (2, 1)), 1), ("same", 3)],
)
def test_a_grid_of_arguments(data_format: str, padding: Any, multiplier: int) -> None:
    for kernel_size, strides, dilation_rate in (
        ((1, 1), (2, 3), (1, 1)),
        ((3, 2), (1, 1), (2, 1)),
        ((4, 5), (2, 3), (2, 1)),
    ):
        case = Case(
            (9, 8),
            kernel_size,
            4,
            batch=2,
            multiplier=multiplier,
            strides=strides,
            padding=padding,
            dilation_rate=dilation_rate,
            data_format=data_format,
        )
        arrays = arguments(case)
        assert_close(convolve(case, *arrays), with_lax(case, *arrays))


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_activations_are_those_of_the_reference(dtype: str, activation: str) -> None:
    case = dataclasses.replace(CASES[0], activation=activation)
    arrays = case.reals(dtype)
    y = convolve(case, *arguments(case, dtype))
    bound = tolerances.bounded_forward(arrays.x, arrays.kernel, arrays.bias, case.spec, dtype)
    tolerances.assert_within(np.asarray(y), bound, f"{activation}, {dtype}")
    assert (
        bound.value.shape == reference.depthwise_conv2d(arrays.x, arrays.kernel, arrays.bias, case.spec).shape
    )


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_other_devices_compute_the_same(data_format: str, activation: str) -> None:
    case = dataclasses.replace(CASES[0], activation=activation, data_format=data_format)
    arrays = arguments(case, seed=3)
    spec = case.spec
    y, z = fallback.forward(*arrays, spec=spec, keep_preactivation=True)
    assert_close(y, convolve(case, *arrays))
    assert_close(z, convolve(dataclasses.replace(case, activation=None), *arrays))
    x, kernel, _ = arrays
    saved = [] if activation == "linear" else [z if spec.activation.info.needs_preactivation else y]
    gradients = fallback.backward(
        jnp.cos(y), kernel, x, *saved, spec=spec, wanted=Wanted(True, True, True), input_size=case.size
    )
    _, pullback = jax.vjp(lambda *a: convolve(case, *a), *arrays)
    assert_close(gradients, pullback(jnp.cos(y)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_other_devices_compute_half_types(dtype: str) -> None:
    case = dataclasses.replace(CASES[1], activation="silu")
    arrays = arguments(case, dtype)
    (y,) = fallback.forward(*arrays, spec=case.spec, keep_preactivation=False)
    assert y.dtype == dtype
    # XLA's convolution rounds before the activation.
    assert_close(y.astype(np.float64), convolve(case, *arrays).astype(np.float64), 0.05)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_programs_for_other_devices_hold_no_custom_call(platform: str) -> None:
    case = dataclasses.replace(CASES[0], activation="silu")
    arrays = arguments(case, "float32")
    step = jax.jit(jax.grad(lambda *a: convolve(case, *a).sum(), (0, 1, 2)))
    program = step.trace(*arrays).lower(lowering_platforms=(platform,)).as_text()
    assert "depthwise_xla" not in program
    assert "stablehlo.convolution" in program
    both = step.trace(*arrays).lower(lowering_platforms=("cpu",)).as_text()
    assert "depthwise_xla_forward" in both
    assert "depthwise_xla_backward" in both


def test_what_is_compiled_calls_no_python() -> None:
    step = jax.jit(jax.grad(lambda *a: convolve(CASES[0], *a).sum(), (0, 1, 2)))
    program = step.lower(*arguments(CASES[0])).compile().as_text()
    assert "depthwise_xla_backward" in program
    assert "callback" not in program


def test_arrays_of_numpy_and_results_of_jax() -> None:
    x, kernel, _ = arguments(CASES[0], "float32")
    y = depthwise_conv2d(x, kernel)
    assert isinstance(y, jax.Array)
    assert y.dtype == np.float32
    assert_close(depthwise_conv2d(jnp.asarray(x), kernel), y, 0)
