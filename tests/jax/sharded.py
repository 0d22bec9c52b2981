"""Runs in a process of its own, with several devices: checks results, shardings and what is sent between devices."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import depthwise
from depthwise.jax.shapes import image_shape
from tests.cases import LAYOUTS, Case
from tests.jax.support import arguments, convolve

Array = Any

CASE = Case((9, 10), (3, 3), 8, batch=8, padding="same", strides=(2, 1), activation="silu")
COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")


def collectives(compiled: Any) -> set[str]:
    program = compiled.as_text()
    return {name for name in COLLECTIVES if re.search(rf"\b{name}(-start)?\(", program)}


def meshes() -> Iterator[Any]:
    count = len(jax.devices())
    for axis_type, sizes in (
        (AxisType.Auto, (2, count // 2)),
        (AxisType.Auto, (1, count)),
        (AxisType.Explicit, (count // 2, 2)),
    ):
        yield jax.make_mesh(sizes, ("data", "model"), axis_types=(axis_type,) * 2)


def put(mesh: Any, case: Case, arrays: tuple[Array, ...], batch: Any, channels: Any) -> list[Array]:
    """x, kernel, bias and perhaps dy, split over these mesh axes."""
    image = PartitionSpec(*image_shape(case.spec, batch, (None, None), channels))
    splits = [image, PartitionSpec(None, None, channels), PartitionSpec(channels), image]
    return [
        jax.device_put(array, NamedSharding(mesh, split))
        for array, split in zip(arrays, splits, strict=False)
    ]


def same_split(actual: Array, like: Array) -> bool:
    return bool(actual.sharding.is_equivalent_to(like.sharding, actual.ndim))


def check_layouts_and_multipliers(mesh: Any) -> None:
    for data_format in LAYOUTS:
        for multiplier in (1, 2):
            case = dataclasses.replace(CASE, data_format=data_format, multiplier=multiplier)
            inputs = arguments(case, "float32")
            y, pullback = depthwise.depthwise_conv2d_vjp(*inputs, **case.options)
            dy = np.cos(y)
            *shards, dy_shards = put(mesh, case, (*inputs, dy), "data", "model")

            forward = jax.jit(functools.partial(convolve, case))
            assert collectives(forward.lower(*shards).compile()) == set(), "forward"
            result = forward(*shards)
            assert same_split(result, dy_shards), result.sharding
            # What a device computes does not depend on the others.
            np.testing.assert_allclose(result, y, rtol=1e-5, atol=1e-5)

            def backward(dy: Array, *arrays: Array, case: Case = case) -> Any:
                return jax.vjp(functools.partial(convolve, case), *arrays)[1](dy)

            step = jax.jit(backward)
            parts = mesh.shape["data"]
            used = collectives(step.lower(dy_shards, *shards).compile())
            assert used == ({"all-reduce"} if parts > 1 else set()), used
            gradients: Any = pullback(dy)
            for actual, expected, like in zip(step(dy_shards, *shards), gradients, shards, strict=True):
                assert same_split(actual, like), (actual.sharding, like.sharding)
                np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def check_data_parallel_training(mesh: Any) -> None:
    """Images split, parameters on every device: the usual case."""
    inputs = arguments(CASE, "float32")
    x, *_ = put(mesh, CASE, inputs, ("data", "model"), None)
    _, *parameters = put(mesh, CASE, inputs, None, None)

    def loss(parameters: list[Array], x: Array) -> Array:
        return jnp.mean(jnp.sin(convolve(CASE, x, *parameters)))

    step = jax.jit(jax.value_and_grad(loss))
    assert collectives(step.lower(parameters, x).compile()) == {"all-reduce"}
    expected = jax.value_and_grad(loss)([jnp.asarray(p) for p in inputs[1:]], jnp.asarray(inputs[0]))
    for actual, value in zip(jax.tree.leaves(step(parameters, x)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(actual, value, rtol=1e-4, atol=1e-5)


def check_shard_map(mesh: Any) -> None:
    inputs = arguments(CASE, "float32")

    def loss(*arrays: Array) -> Array:
        return jnp.sum(jnp.sin(convolve(CASE, *arrays)))

    expected = jax.grad(loss, (0, 1, 2))(*inputs)
    for axes in (("data", "model"), ("data",)):
        channels = "model" if "model" in axes else None
        splits = (
            PartitionSpec("data", None, None, channels),
            PartitionSpec(None, None, channels),
            PartitionSpec(channels),
        )

        def local(*arrays: Array, axes: tuple[str, ...] = axes) -> Array:
            return jax.lax.psum(loss(*arrays), axes)

        for check_vma in (True, False):
            mapped = jax.shard_map(
                local,
                mesh=mesh,
                in_specs=splits,
                out_specs=PartitionSpec(),
                axis_names=set(axes),
                check_vma=check_vma,
            )
            with jax.set_mesh(mesh):
                actual = jax.jit(jax.grad(mapped, (0, 1, 2)))(*inputs)
            for a, b in zip(actual, expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def check_maps_and_higher_orders(mesh: Any) -> None:
    inputs = arguments(CASE, "float32")
    shards = put(mesh, CASE, inputs, "data", "model")

    def product(*arrays: Array) -> Any:
        gradient = jax.grad(lambda *a: jnp.sum(jnp.sin(convolve(CASE, *a))), (0, 1, 2))
        return jax.jvp(gradient, arrays, arrays)[1]

    step = jax.jit(product)
    assert "all-gather" not in collectives(step.lower(*shards).compile())
    for actual, expected in zip(step(*shards), product(*inputs), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-3)

    stacked = jax.device_put(
        np.stack([inputs[0]] * 3, 1), NamedSharding(mesh, PartitionSpec("data", None, None, None, "model"))
    )
    mapped = jax.jit(jax.vmap(lambda x, *rest: convolve(CASE, x, *rest), (1, None, None), 1))
    result = mapped(stacked, *shards[1:])
    np.testing.assert_allclose(result[:, 1], convolve(CASE, *inputs), rtol=1e-5, atol=1e-5)


def check_what_cannot_be_split_evenly() -> None:
    """Channels that the devices do not divide, with and without a multiplier: slower, but right."""
    count = len(jax.devices())
    mesh = jax.make_mesh((1, count), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    split = NamedSharding(mesh, PartitionSpec(None, None, None, "model"))
    for channels, multiplier in ((3, 1), (3, 8), (6, 2), (1, 8)):
        case = dataclasses.replace(CASE, channels=channels, multiplier=multiplier)
        inputs = arguments(case, "float32")
        expected = jax.grad(lambda *a, case=case: jnp.sum(jnp.sin(convolve(case, *a))), (0, 1, 2))(*inputs)

        def loss(*arrays: Array, case: Case = case) -> Array:
            x, *rest = arrays
            y = convolve(case, jax.lax.with_sharding_constraint(x, split), *rest)
            return jnp.sum(jnp.sin(jax.lax.with_sharding_constraint(y, split)))

        for actual, value in zip(jax.jit(jax.grad(loss, (0, 1, 2)))(*inputs), expected, strict=True):
            np.testing.assert_allclose(actual, value, rtol=1e-4, atol=1e-4)


def main() -> None:
    """Every check; prints how many devices there were."""
    auto, *others = meshes()
    check_layouts_and_multipliers(auto)  # without a mesh in the context
    for mesh in (auto, *others):
        with jax.set_mesh(mesh):
            check_data_parallel_training(mesh)
    for mesh in others:
        with jax.set_mesh(mesh):
            check_layouts_and_multipliers(mesh)
    check_shard_map(auto)
    check_maps_and_higher_orders(auto)
    check_what_cannot_be_split_evenly()
    print(len(jax.devices()), "devices")
