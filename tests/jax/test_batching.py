"""`jax.vmap` over any of the arguments, along any axis, with and without derivatives."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.cases import LAYOUTS, Case, assert_same_bits
from tests.jax.support import assert_close, convolve, with_lax

Array = Any

CASE = Case((4, 5), (2, 3), 3, batch=2, multiplier=2, strides=(2, 1), padding="same", activation="tanh")
COUNT = 4

# Of x, kernel and bias.
IN_AXES: list[tuple[int | None, ...]] = [
    (0, None, None),
    (None, 0, None),
    (-1, None, None),
    (None, None, 0),
    (-1, 2, None),
    (1, None, 1),
    (None, -1, 0),
    (0, 0, 0),
    (2, -1, 1),
]


def mapped_arguments(case: Case, in_axes: tuple[int | None, ...]) -> list[Array]:
    rng = np.random.default_rng(0)
    arrays = []
    for shape, axis in zip((case.x_shape, case.kernel_shape, (case.outputs,)), in_axes, strict=True):
        array = rng.standard_normal(shape if axis is None else (COUNT, *shape))
        arrays.append(array if axis is None else np.moveaxis(array, 0, axis))
    return arrays


@pytest.mark.parametrize("number", range(len(IN_AXES)))
def test_results_and_derivatives(number: int) -> None:
    in_axes = IN_AXES[number]
    case = dataclasses.replace(CASE, data_format=LAYOUTS[number // 2 % 2])
    arrays = mapped_arguments(case, in_axes)

    def everything(*arrays: Array) -> dict[str, Any]:
        results = {}
        for name, function in (("ours", convolve), ("lax", with_lax)):
            call = functools.partial(function, case)
            every = jax.vmap(call, in_axes, out_axes=1)
            gradients = jax.grad(lambda *a, every=every: jnp.sum(jnp.sin(every(*a))), (0, 1, 2))
            each_gradient = jax.grad(lambda *a, call=call: jnp.sum(jnp.sin(call(*a))), (0, 1, 2))
            results[name] = {
                "result": every(*arrays),
                "gradient of map": gradients(*arrays),
                "map of gradient": jax.vmap(each_gradient, in_axes)(*arrays),
                "jvp of map": jax.jvp(every, arrays, arrays)[1],
                "map of jvp": jax.vmap(lambda *a, call=call: jax.jvp(call, a, a)[1], in_axes, -1)(*arrays),
            }
        return results

    results = jax.jit(everything)(*arrays)
    for name, value in results["ours"].items():
        assert_close(value, results["lax"][name], 1e-8, name)


@pytest.mark.parametrize("activation", [None, "gelu"])
def test_maps_of_hessian_vector_products(data_format: str, activation: str | None) -> None:
    case = dataclasses.replace(CASE, data_format=data_format, activation=activation, strides=(1, 1))
    arrays = mapped_arguments(case, (0, 0, 0))

    def product(*a: Array) -> Any:
        gradient = jax.grad(lambda *b: jnp.sum(jnp.sin(convolve(case, *b))), (0, 1, 2))
        return jax.jvp(gradient, a, a)[1]

    each = [jax.jit(product)(*(array[i] for array in arrays)) for i in range(COUNT)]
    expected = jax.tree.map(lambda *parts: jnp.stack(parts), *each)
    assert_close(jax.jit(jax.vmap(product))(*arrays), expected, 1e-8)


def test_nested_maps() -> None:
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((2, *CASE.x_shape, 3)), rng.standard_normal((*CASE.kernel_shape, 3))
    bias = rng.standard_normal((2, CASE.outputs))

    def nested(function: Any) -> Any:
        inner = jax.vmap(functools.partial(function, CASE), in_axes=(-1, -1, None))
        return jax.vmap(inner, in_axes=(0, None, 0), out_axes=2)

    assert_close(nested(convolve)(x, kernel, bias), nested(with_lax)(x, kernel, bias))


def calls(function: Any, *arrays: Array) -> list[str]:
    equations = jax.make_jaxpr(function)(*arrays).jaxpr.eqns
    names = [equation.primitive.name for equation in equations]
    assert not {"scan", "while"} & set(names)
    return [name for name in names if name.startswith("depthwise")]


@pytest.mark.parametrize("in_axes", IN_AXES, ids=str)
def test_a_map_is_one_call(in_axes: tuple[int | None, ...]) -> None:
    mapped = jax.vmap(functools.partial(convolve, CASE), in_axes)
    assert calls(mapped, *mapped_arguments(CASE, in_axes)) == ["depthwise_conv2d"]


def test_a_map_over_images_has_the_bits_of_the_batch(data_format: str) -> None:
    case = dataclasses.replace(CASE, data_format=data_format)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((COUNT, *case.x_shape)).astype(np.float32)
    kernel = rng.standard_normal(case.kernel_shape).astype(np.float32)
    mapped = jax.vmap(lambda a: convolve(case, a, kernel))(x)
    whole = convolve(case, x.reshape(-1, *x.shape[2:]), kernel)
    assert_same_bits(np.asarray(mapped), np.asarray(whole).reshape(mapped.shape), "vmap over x")


def test_a_map_over_nothing() -> None:
    x, kernel = jnp.zeros((0, *CASE.x_shape)), jnp.zeros(CASE.kernel_shape)
    assert jax.vmap(lambda a: convolve(CASE, a, kernel))(x).shape == (0, *CASE.y_shape)
