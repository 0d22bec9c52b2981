"""The op in operations of JAX alone, for devices that have no kernels of ours."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from depthwise.jax.differentiation import scale
from depthwise.jax.primitives import Array, Size, Wanted, split_backward
from depthwise.jax.shapes import channel_axis, image_shape
from depthwise.spec import Spec

__all__ = ["backward", "forward"]

_HALF_TYPES = ("float16", "bfloat16")


def forward(
    x: Array, kernel: Array, bias: Array | None = None, *, spec: Spec, keep_preactivation: bool
) -> list[Array]:
    """What `forward_p` returns."""
    dtype = x.dtype
    z = _convolution(spec, x, kernel)
    if dtype.name in _HALF_TYPES:
        z = z.astype(jnp.float32)
    if bias is not None:
        shape = image_shape(spec, 1, (1, 1), bias.shape[0])
        z = z + bias.astype(z.dtype).reshape(shape)
    y = _activate(spec, z)
    results = [y, z] if keep_preactivation else [y]
    return [result.astype(dtype) for result in results]


def backward(*operands: Array, spec: Spec, wanted: Wanted, input_size: Size | None) -> list[Array]:
    """What `backward_p` returns."""
    dy, kernel, x, saved = split_backward(spec, wanted, operands)
    dz = scale(spec, dy, saved)
    channels = dz.shape[channel_axis(spec)]
    results = []
    if wanted.x:
        assert kernel is not None
        assert input_size is not None
        shape = image_shape(spec, dz.shape[0], input_size, kernel.shape[2])
        results.append(_transpose(lambda a: _convolution(spec, a, kernel), shape, dz))
    if wanted.kernel:
        shape = (*spec.kernel_size, channels // spec.depth_multiplier, spec.depth_multiplier)
        results.append(_transpose(lambda k: _convolution(spec, x, k), shape, dz))
    if wanted.bias:
        axes = tuple(axis for axis in range(4) if axis != channel_axis(spec))
        results.append(jnp.sum(dz, axis=axes, dtype=_sum_type(dz)).astype(dz.dtype))
    return results


def _sum_type(array: Array) -> Any:
    return jnp.float32 if array.dtype.name in _HALF_TYPES else array.dtype


def _transpose(function: Any, shape: tuple[Any, ...], cotangent: Array) -> Array:
    (result,) = jax.linear_transpose(function, jax.ShapeDtypeStruct(shape, cotangent.dtype))(cotangent)
    return result


def _convolution(spec: Spec, x: Array, kernel: Array) -> Array:
    height, width, channels, multiplier = kernel.shape
    layout = "NHWC" if spec.data_format == "channels_last" else "NCHW"
    if isinstance(spec.padding, str):
        padding: Any = spec.padding.upper()
    else:
        padding = spec.padding
    return jax.lax.conv_general_dilated(
        x,
        kernel.reshape(height, width, 1, channels * multiplier),
        window_strides=spec.strides,
        padding=padding,
        rhs_dilation=spec.dilation_rate,
        dimension_numbers=(layout, "HWIO", layout),
        feature_group_count=channels,
    )


def _activate(spec: Spec, z: Array) -> Array:
    """The activation, by the formulas of activations.py."""
    alpha = spec.activation.alpha
    match spec.activation.name:
        case "linear":
            return z
        case "relu":
            return jnp.maximum(z, 0)
        case "relu6":
            return jnp.clip(z, 0, 6)
        case "leaky_relu":
            return jnp.where(z > 0, z, alpha * z)
        case "elu":
            return jnp.where(z > 0, z, alpha * jnp.expm1(jnp.minimum(z, 0)))
        case "silu":
            return z * jax.nn.sigmoid(z)
        case "hard_swish":
            return z * jnp.clip(z + 3, 0, 6) / 6
        case "hard_sigmoid":
            return jnp.clip(z + 3, 0, 6) / 6
        case "sigmoid":
            return jax.nn.sigmoid(z)
        case "tanh":
            return jnp.tanh(z)
        case "gelu":
            return jax.nn.gelu(z, approximate=False)
        case "gelu_tanh":
            return jax.nn.gelu(z, approximate=True)
        case "softplus":
            return jax.nn.softplus(z)
        case missing:
            raise NotImplementedError(f"activation: {missing} is not written for this device")
