"""Forward and reverse mode of the primitives, to any order.

The first order is `tangent_p` and, as its transpose, one fused call of `backward_p`. What is derived from those goes
through the same operations without the activation, which are bilinear, and through the activation's derivative in
operations of JAX.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import ad

from depthwise.derivatives import Functions, scale_by_derivative
from depthwise.jax.primitives import (
    Array,
    Size,
    Wanted,
    backward,
    backward_p,
    forward,
    forward_p,
    is_linear,
    linear,
    needs_preactivation,
    split_backward,
    split_tangent,
    tangent,
    tangent_p,
)
from depthwise.jax.shapes import channel_axis, spatial_axes
from depthwise.spec import Spec

__all__ = ["scale", "tangent_in_parts"]

_FUNCTIONS = Functions(
    where=jnp.where, exp=jnp.exp, tanh=jnp.tanh, erf=jax.lax.erf, zeros_like=jnp.zeros_like
)
_HALF_TYPES = ("float16", "bfloat16")


def scale(spec: Spec, dy: Array, saved: Array | None) -> Array:
    """`dy` times the derivative of the activation; computed in float32 for half types, as the kernels do."""
    if is_linear(spec):
        return dy
    assert saved is not None
    if dy.dtype.name not in _HALF_TYPES:
        return scale_by_derivative(spec.activation, dy, saved, _FUNCTIONS)
    widened = (dy.astype(jnp.float32), saved.astype(jnp.float32))
    return scale_by_derivative(spec.activation, *widened, _FUNCTIONS).astype(dy.dtype)


def tangent_in_parts(*operands: Array, spec: Spec, wanted: Wanted) -> list[Array]:
    """What `tangent_p` computes, in calls of `forward_p` without an activation."""
    (x_dot, kernel_dot, bias_dot), kernel, x, saved = split_tangent(spec, wanted, operands)
    convolution = linear(spec)
    terms = []
    if x_dot is not None:
        terms += forward(convolution, x_dot, kernel, bias_dot)
    if kernel_dot is not None:
        terms += forward(convolution, x, kernel_dot, None if terms else bias_dot)
    if not terms:
        assert bias_dot is not None
        (aval,) = _results_of(tangent_p, operands, spec=spec, wanted=wanted)
        terms.append(_along_channels(spec, bias_dot, aval.shape))
    return [scale(spec, functools.reduce(jnp.add, terms), saved)]


def _along_channels(spec: Spec, bias: Array, shape: Sequence[Any]) -> Array:
    """An output that is `bias` in every pixel."""
    return jax.lax.broadcast_in_dim(bias, tuple(shape), (channel_axis(spec),))


def _results_of(primitive: Any, operands: Sequence[Array], **parameters: Any) -> Any:
    return jax.eval_shape(functools.partial(primitive.bind, **parameters), *operands)


def _is_zero(tangent: Any) -> bool:
    return isinstance(tangent, ad.Zero)


def _or_none(tangent: Any) -> Array | None:
    return None if _is_zero(tangent) else tangent


def _derivative(
    function: Callable[..., Sequence[Array]], primals: Sequence[Array], tangents: Sequence[Any]
) -> Sequence[Array]:
    """The derivative of `function` along those tangents that are not zero."""
    active = [i for i, t in enumerate(tangents) if not _is_zero(t)]

    def of_active(*arguments: Array) -> Sequence[Array]:
        everything = list(primals)
        for i, argument in zip(active, arguments, strict=True):
            everything[i] = argument
        return function(*everything)

    _, result = jax.jvp(of_active, [primals[i] for i in active], [tangents[i] for i in active])
    return result  # type: ignore[no-any-return]


# --- forward_p -----------------------------------------------------------------------------------


def _forward_jvp(
    primals: Sequence[Array], tangents: Sequence[Any], *, spec: Spec, keep_preactivation: bool
) -> tuple[list[Array], list[Array]]:
    x, kernel = primals[:2]
    dots = [*map(_or_none, tangents), *[None] * (3 - len(tangents))]
    keep = keep_preactivation or needs_preactivation(spec)
    results = forward(spec, *primals, keep_preactivation=keep)
    saved = None if is_linear(spec) else results[1] if needs_preactivation(spec) else results[0]
    if not keep_preactivation:
        return results[:1], [tangent(spec, dots, kernel, x, saved)]
    z_dot = tangent(linear(spec), dots, kernel, x, None)
    return results, [scale(spec, z_dot, saved), z_dot]


def _forward_transpose(
    cotangents: Sequence[Any], *operands: Any, spec: Spec, keep_preactivation: bool
) -> list[Any]:
    """The op is linear in x, in the kernel or in the bias if it has no activation: `jax.linear_transpose`."""
    if keep_preactivation or not is_linear(spec):
        raise NotImplementedError("depthwise_conv2d: only the op without an activation can be transposed")
    wanted = Wanted(*(ad.is_undefined_primal(o) for o in operands), *[False] * (3 - len(operands)))
    x, kernel = operands[:2]
    gradients = _gradients(spec, wanted, cotangents[0], kernel, x, None, operands)
    return list(gradients[: len(operands)])


# --- tangent_p -----------------------------------------------------------------------------------


def _tangent_jvp(
    primals: Sequence[Array], tangents: Sequence[Any], *, spec: Spec, wanted: Wanted
) -> tuple[list[Array], Sequence[Array]]:
    results = tangent_p.bind(*primals, spec=spec, wanted=wanted)
    (_, kernel, x, saved), split = (split_tangent(spec, wanted, arrays) for arrays in (primals, tangents))
    dots, *others = split
    if all(other is None or _is_zero(other) for other in others):
        dots = [None if dot is None else _or_none(dot) for dot in dots]
        return results, [tangent(spec, dots, kernel, x, saved)]
    parts = functools.partial(tangent_in_parts, spec=spec, wanted=wanted)
    return results, _derivative(parts, primals, tangents)


def _tangent_transpose(cotangents: Sequence[Any], *operands: Any, spec: Spec, wanted: Wanted) -> list[Any]:
    dots, kernel, x, saved = split_tangent(spec, wanted, operands)
    undefined = Wanted(*(dot is not None and ad.is_undefined_primal(dot) for dot in dots))
    gradients = _gradients(spec, undefined, cotangents[0], kernel, x, saved, dots)
    present = [gradient for gradient, is_there in zip(gradients, wanted, strict=True) if is_there]
    return [*present, *[None] * (len(operands) - len(present))]


def _gradients(
    spec: Spec,
    wanted: Wanted,
    dy: Any,
    kernel: Array | None,
    x: Array | None,
    saved: Array | None,
    undefined: Sequence[Any],
) -> list[Any]:
    """Cotangents of x, kernel and bias from that of y, in the type that each of `undefined` asks for."""
    if _is_zero(dy):
        return [
            ad.Zero(u.aval) if is_wanted else None for u, is_wanted in zip(undefined, wanted, strict=False)
        ]
    size = None
    if wanted.x:
        height, width = spatial_axes(spec)
        size = (undefined[0].aval.shape[height], undefined[0].aval.shape[width])
    gradients = backward(spec, wanted, dy, kernel, x, saved, size)
    undefined = [*undefined, *[None] * (3 - len(undefined))]
    return [
        None if gradient is None else _like(u.aval, gradient)
        for u, gradient in zip(undefined, gradients, strict=True)
    ]


def _like(aval: Any, gradient: Array) -> Array:
    """The gradient, with explicit shardings in that of the array that it is the gradient of."""
    sharding = aval.sharding
    if sharding.mesh.empty or jax.typeof(gradient).sharding.spec == sharding.spec:
        return gradient
    if not any(kind == jax.sharding.AxisType.Explicit for kind in sharding.mesh.axis_types):
        return gradient
    return jax.sharding.reshard(gradient, sharding)


# --- backward_p ----------------------------------------------------------------------------------


def _backward_jvp(
    primals: Sequence[Array],
    tangents: Sequence[Any],
    *,
    spec: Spec,
    wanted: Wanted,
    input_size: Size | None,
) -> tuple[list[Array], Sequence[Any]]:
    parameters = {"spec": spec, "wanted": wanted, "input_size": input_size}
    results = backward_p.bind(*primals, **parameters)
    if all(map(_is_zero, tangents[1:])):
        return results, backward_p.bind(tangents[0], *primals[1:], **parameters)
    if is_linear(spec):
        return results, _bilinear_jvp(primals, tangents, spec, wanted, input_size, results)
    convolution = linear(spec)

    def in_parts(dy: Array, *others: Array) -> list[Array]:
        *arrays, saved = others
        scaled = scale(spec, dy, saved)
        gradients: list[Array] = backward_p.bind(
            scaled, *arrays, spec=convolution, wanted=wanted, input_size=input_size
        )
        return gradients

    return results, _derivative(in_parts, primals, tangents)


def _bilinear_jvp(
    primals: Sequence[Array],
    tangents: Sequence[Any],
    spec: Spec,
    wanted: Wanted,
    input_size: Size | None,
    results: Sequence[Array],
) -> list[Any]:
    dy, _, _, _ = split_backward(spec, wanted, primals)
    dy_dot, kernel_dot, x_dot, _ = split_backward(spec, wanted, tangents)
    _, kernel, x, _ = split_backward(spec, wanted, primals)
    sums: list[Array | None] = [None, None, None]
    if not _is_zero(dy_dot):
        sums = list(backward(spec, wanted, dy_dot, kernel, x, None, input_size))
    if kernel_dot is not None and not _is_zero(kernel_dot):
        dx, _, _ = backward(spec, Wanted(True, False, False), dy, kernel_dot, None, None, input_size)
        sums[0] = dx if sums[0] is None else sums[0] + dx
    if x_dot is not None and not _is_zero(x_dot):
        _, dkernel, _ = backward(spec, Wanted(False, True, False), dy, None, x_dot, None, None)
        sums[1] = dkernel if sums[1] is None else sums[1] + dkernel
    present = [total for total, is_wanted in zip(sums, wanted, strict=True) if is_wanted]
    return [
        ad.Zero.from_primal_value(result) if total is None else total
        for total, result in zip(present, results, strict=True)
    ]


def _backward_transpose(
    cotangents: Sequence[Any], *operands: Any, spec: Spec, wanted: Wanted, input_size: Size | None
) -> list[Any]:
    """It is linear in dy, and dx in the kernel and dkernel in x for themselves."""
    del input_size
    dy, kernel, x, saved = split_backward(spec, wanted, operands)
    given = iter(cotangents)
    ct_dx, ct_dkernel, ct_dbias = (_or_none(next(given)) if is_wanted else None for is_wanted in wanted)
    if ad.is_undefined_primal(dy):
        ct_dy = _transpose_dy(spec, dy.aval, (ct_dx, ct_dkernel, ct_dbias), kernel, x, saved)
        return [ct_dy, *[None] * (len(operands) - 1)]
    found: list[Any] = [None] * len(operands)
    if kernel is not None and ad.is_undefined_primal(kernel):
        undefined = (None, kernel, None)
        position = 1
        if ct_dx is None:
            found[position] = ad.Zero(kernel.aval)
        else:
            wanted_kernel = Wanted(False, True, False)
            found[position] = _gradients(spec, wanted_kernel, dy, None, ct_dx, saved, undefined)[1]
    if x is not None and ad.is_undefined_primal(x):
        position = 2 if wanted.x else 1
        if ct_dkernel is None:
            found[position] = ad.Zero(x.aval)
        else:
            wanted_x = Wanted(True, False, False)
            found[position] = _gradients(spec, wanted_x, dy, ct_dkernel, None, saved, (x, None, None))[0]
    return found


def _transpose_dy(
    spec: Spec,
    aval: Any,
    cotangents: Sequence[Array | None],
    kernel: Array | None,
    x: Array | None,
    saved: Array | None,
) -> Any:
    ct_dx, ct_dkernel, ct_dbias = cotangents
    if ct_dx is None and ct_dkernel is None:
        if ct_dbias is None:
            return ad.Zero(aval)
        return scale(spec, _along_channels(spec, ct_dbias, aval.shape), saved)
    return tangent(spec, cotangents, kernel, x, saved)


ad.primitive_jvps[forward_p] = _forward_jvp
ad.primitive_jvps[tangent_p] = _tangent_jvp
ad.primitive_jvps[backward_p] = _backward_jvp
ad.primitive_transposes[forward_p] = _forward_transpose
ad.primitive_transposes[tangent_p] = _tangent_transpose
ad.primitive_transposes[backward_p] = _backward_transpose
