"""Forward and reverse mode, and their combinations, against numerical derivatives and `jax.lax`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from depthwise.derivatives import _DERIVATIVES
from tests.cases import Case
from tests.jax.support import CASES, arguments, assert_close, convolve, with_lax

Array = Any
Function = Callable[..., Array]

SMOOTH = ("silu", "sigmoid", "tanh", "gelu", "gelu_tanh", "softplus")


def loss(function: Function, case: Case) -> Function:
    """A number that depends on every output, with derivatives of every order."""

    def of_arrays(*arrays: Array) -> Array:
        y = function(case, *arrays)
        return jnp.sum(jnp.sin(y) * jnp.linspace(-1.0, 1.0, y.size).reshape(y.shape))

    return of_arrays


@pytest.mark.parametrize("activation", [None, *SMOOTH])
def test_numerical_derivatives_to_order_two_in_both_modes(activation: str | None) -> None:
    case = dataclasses.replace(CASES[0], activation=activation)
    check_grads(lambda *a: convolve(case, *a), arguments(case), order=2, modes=("fwd", "rev"))


@pytest.mark.parametrize("case", CASES[1:])
def test_numerical_derivatives_with_other_options(case: Case) -> None:
    check_grads(lambda *a: convolve(case, *a), arguments(case), order=2, modes=("fwd", "rev"))


@pytest.mark.parametrize("activation", ["relu", "relu6", "leaky_relu", "elu", "hard_swish", "hard_sigmoid"])
def test_numerical_derivatives_off_the_corners(activation: str) -> None:
    case = dataclasses.replace(CASES[0], activation=activation)
    # Far smaller steps than the distance of any of these values to a corner.
    check_grads(
        lambda *a: convolve(case, *a), arguments(case, seed=3), order=2, eps=1e-6, atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("activation", "argument"), [(None, 0), (None, 1), ("tanh", 1), ("silu", 0), ("silu", 2)]
)
def test_orders_and_modes_agree_with_lax(activation: str | None, argument: int) -> None:
    case = dataclasses.replace(CASES[0], activation=activation)
    arrays = arguments(case)
    direction = arguments(case, seed=1)

    def derivatives(function: Function) -> dict[str, Any]:
        of_all = loss(function, case)
        gradient = jax.grad(of_all, argument)

        def along(*at: Array) -> Array:
            return jax.jvp(of_all, at, direction)[1]

        return {
            "jvp": along(*arrays),
            "vjp": gradient(*arrays),
            "jvp of vjp": jax.jvp(gradient, arrays, direction)[1],
            "vjp of vjp": jax.grad(lambda *a: jnp.vdot(gradient(*a), direction[argument]), (0, 1, 2))(
                *arrays
            ),
            "vjp of jvp": jax.grad(along, argument)(*arrays),
            "jvp of jvp": jax.jvp(along, arrays, direction)[1],
            "vjp of jvp of vjp": jax.grad(
                lambda *a: jnp.vdot(jax.jvp(gradient, a, direction)[1], direction[argument]), (0, 1, 2)
            )(*arrays),
        }

    expected = derivatives(with_lax)
    for name, value in jax.jit(lambda: derivatives(convolve))().items():
        assert_close(value, expected[name], 1e-8, name)


def test_hessians_agree_with_lax() -> None:
    case = dataclasses.replace(CASES[2], activation="tanh")
    arrays = arguments(case)

    def hessian(function: Function) -> Any:
        return jax.jit(jax.hessian(loss(function, case), (1, 2)))(*arrays)

    assert_close(hessian(convolve), hessian(with_lax), 1e-8)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("activation", ["silu", "softplus"])
def test_half_types_in_forward_mode_and_second_order(dtype: str, activation: str) -> None:
    case = dataclasses.replace(CASES[0], activation=activation)

    def hessian_vector(*arrays: Array) -> tuple[Array, ...]:
        directions = arrays
        _, result = jax.jvp(jax.grad(loss(convolve, case), (0, 1, 2)), arrays, directions)
        return result  # type: ignore[no-any-return]

    half = arguments(case, dtype)
    exact = hessian_vector(*(array.astype(np.float64) for array in half))
    roundoff = 2.0**-11 if dtype == "float16" else 2.0**-8
    for actual, value in zip(hessian_vector(*half), exact, strict=True):
        assert actual.dtype == dtype
        error = np.abs(np.asarray(actual, np.float64) - value)
        assert error.max() < 16 * roundoff * (1 + np.abs(value).max())


def test_the_op_without_activation_can_be_transposed() -> None:
    case = CASES[0]
    x, kernel, bias = arguments(case)
    y = convolve(case, x, kernel)
    for function, linear in (
        (lambda a: convolve(case, a, kernel), x),
        (lambda a: convolve(case, x, a), kernel),
        (lambda a, b: convolve(case, a, kernel, b), (x, bias)),
    ):
        inputs = linear if isinstance(linear, tuple) else (linear,)
        transposed = jax.linear_transpose(function, *inputs)(y)
        assert_close(transposed, jax.vjp(function, *inputs)[1](y), 0)


def primitives(function: Function, *arrays: Array) -> list[tuple[str, dict[str, Any]]]:
    equations = jax.make_jaxpr(function)(*arrays).jaxpr.eqns
    return [(e.primitive.name, e.params) for e in equations if e.primitive.name.startswith("depthwise")]


def test_only_gradients_that_are_wanted_are_computed_and_in_one_call() -> None:
    case = dataclasses.replace(CASES[0], activation="relu")
    arrays = arguments(case)
    for positions in ((0,), (1,), (2,), (0, 1), (0, 1, 2)):
        calls = primitives(jax.grad(loss(convolve, case), positions), *arrays)
        assert [name for name, _ in calls] == ["depthwise_conv2d", "depthwise_conv2d_backward"]
        assert tuple(calls[1][1]["wanted"]) == tuple(i in positions for i in range(3))


def test_nothing_is_kept_for_a_gradient_that_is_not_wanted() -> None:
    case = dataclasses.replace(CASES[0], activation="silu")
    x, kernel, bias = arguments(case)
    (call,) = primitives(lambda *a: convolve(case, *a), x, kernel, bias)
    assert call[1]["keep_preactivation"] is False
    _, pullback = jax.vjp(lambda k: convolve(case, x, k, bias), kernel)
    kept = {array.shape for array in jax.tree.leaves(pullback) if hasattr(array, "shape")}
    assert kept == {x.shape, case.y_shape}  # not the kernel
    _, pullback = jax.vjp(lambda a: convolve(case, a, kernel, bias), x)
    kept = {array.shape for array in jax.tree.leaves(pullback) if hasattr(array, "shape")}
    assert kept == {kernel.shape, case.y_shape}


def test_every_activation_has_a_derivative_of_higher_order() -> None:
    from depthwise.activations import ACTIVATIONS

    assert set(_DERIVATIVES) == set(ACTIVATIONS) - {"linear"}
