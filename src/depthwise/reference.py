"""The truth: the depthwise convolution and its gradients in plain NumPy and float64, written to be read.

Everything faster is tested against this file. It loops over the taps of the kernel; for each tap it takes
the pixels that the tap meets as a strided slice of the image. A tap that falls on padding contributes nothing,
not even when its weight is infinite or NaN.

Shapes are given for `channels_last`: N images of H x W pixels and C channels, a kernel of kh x kw taps with M
filters per channel, N images of P x Q outputs. Output channel c * M + m is filter m of input channel c.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from depthwise.activations import normalise
from depthwise.spec import Spec

__all__ = ["activate", "activate_derivative", "depthwise_conv2d", "depthwise_conv2d_vjp", "preactivation"]

Array = NDArray[np.float64]


def depthwise_conv2d(x: ArrayLike, kernel: ArrayLike, bias: ArrayLike | None, spec: Spec) -> Array:
    """`activation(convolution(x, kernel) + bias)`, in float64.

    Args:
        x: (N, H, W, C), or (N, C, H, W) when `spec.data_format` is `channels_first`; any real dtype.
        kernel: (kh, kw, C, M).
        bias: (C * M,), or None for none.
        spec: the arguments of the convolution.

    Returns:
        (N, P, Q, C * M), or (N, C * M, P, Q).

    Raises:
        ValueError: the shapes do not fit each other or the spec.
    """
    z = preactivation(x, kernel, bias, spec)
    return activate(spec.activation.name, spec.activation.alpha, z)


def preactivation(x: ArrayLike, kernel: ArrayLike, bias: ArrayLike | None, spec: Spec) -> Array:
    """`convolution(x, kernel) + bias`, before the activation. Shapes and errors as in `depthwise_conv2d`."""
    x, kernel, bias = _as_float64(x, kernel, bias, spec)
    image = _to_channels_last(x, spec)
    batch, height, width, channels = image.shape
    output_size = spec.output_size((height, width))

    per_filter = np.zeros((batch, *output_size, channels, spec.depth_multiplier))
    for row, column, outputs, pixels in _taps(spec, (height, width)):
        per_filter[outputs] += image[pixels][..., np.newaxis] * kernel[row, column]

    z: Array = per_filter.reshape(batch, *output_size, channels * spec.depth_multiplier)
    if bias is not None:
        z = z + bias
    return _from_channels_last(z, spec)


def depthwise_conv2d_vjp(
    x: ArrayLike, kernel: ArrayLike, bias: ArrayLike | None, dy: ArrayLike, spec: Spec
) -> tuple[Array, Array, Array | None]:
    """Gradients of `sum(dy * depthwise_conv2d(x, kernel, bias, spec))`, in float64.

    Args:
        x, kernel, bias, spec: as in `depthwise_conv2d`.
        dy: the gradient with respect to the output, of the output's shape.

    Returns:
        The gradients with respect to `x`, `kernel` and `bias`, each of its shape; None for a bias of None.

    Raises:
        ValueError: the shapes do not fit each other or the spec.
    """
    z = preactivation(x, kernel, bias, spec)
    x, kernel, bias = _as_float64(x, kernel, bias, spec)
    dy = np.asarray(dy, dtype=np.float64)
    spec.check_cotangent(dy.shape, z.shape)

    # y = activation(z), so dz = dy * activation'(z), and 0 where the derivative is, even of an infinite dy, as in the
    # frameworks. The rest is the loop of `preactivation`, transposed.
    derivative = activate_derivative(spec.activation.name, spec.activation.alpha, z)
    with np.errstate(invalid="ignore"):
        dz = _to_channels_last(np.where(derivative == 0, 0.0, dy * derivative), spec)
    dbias = None if bias is None else dz.sum(axis=(0, 1, 2))
    image = _to_channels_last(x, spec)
    dz = dz.reshape(*dz.shape[:3], image.shape[3], spec.depth_multiplier)

    dimage, dkernel = np.zeros_like(image), np.zeros_like(kernel)
    for row, column, outputs, pixels in _taps(spec, (image.shape[1], image.shape[2])):
        dimage[pixels] += (dz[outputs] * kernel[row, column]).sum(axis=-1)
        dkernel[row, column] = (dz[outputs] * image[pixels][..., np.newaxis]).sum(axis=(0, 1, 2))
    return _from_channels_last(dimage, spec), dkernel, dbias


def activate(name: str, alpha: float, z: ArrayLike) -> Array:
    """The activation `name` of every element of `z`, in float64. NaN stays NaN.

    Args:
        name: a name or alias from `depthwise.activations.ACTIVATIONS`.
        alpha: its parameter; 0.0 for an activation that has none.
        z: any shape, any real dtype.

    Raises:
        ValueError: there is no such activation, or its `alpha` is not allowed.
    """
    activation = normalise((name, alpha))
    alpha = activation.alpha
    z = np.asarray(z, dtype=np.float64)
    y: Array
    with np.errstate(over="ignore", invalid="ignore"):  # exp of a large z; 0 * inf, which is NaN
        match activation.name:
            case "linear":
                y = z.copy()
            case "relu":
                y = np.maximum(z, 0.0)
            case "relu6":
                y = np.clip(z, 0.0, 6.0)
            case "leaky_relu":
                y = np.where(z > 0, z, alpha * z)
            case "elu":
                y = np.where(z > 0, z, alpha * np.expm1(z))
            case "silu":
                y = z * _sigmoid(z)
            case "hard_swish":
                y = z * np.clip(z + 3.0, 0.0, 6.0) / 6.0
            case "hard_sigmoid":
                y = np.clip(z + 3.0, 0.0, 6.0) / 6.0
            case "sigmoid":
                y = _sigmoid(z)
            case "tanh":
                y = np.tanh(z)
            case "gelu":
                y = z * _normal_cdf(z)
            case "gelu_tanh":
                y = z * _gelu_tanh_gate(z)
            case "softplus":
                y = np.logaddexp(0.0, z)
            case missing:
                raise NotImplementedError(f"activation: the reference has no {missing}")
    return y


def activate_derivative(name: str, alpha: float, z: ArrayLike) -> Array:
    """The derivative of the activation `name` at every element of `z`, in float64.

    Where there is none it is the one-sided derivative that the frameworks agree on: that from below for relu,
    leaky_relu and elu, and 0 at both ends of relu6 and hard_sigmoid; 0 at -3 and 1 at 3 for hard_swish.

    Args and errors as in `activate`.
    """
    activation = normalise((name, alpha))
    alpha = activation.alpha
    z = np.asarray(z, dtype=np.float64)
    slope: Array
    with np.errstate(over="ignore", invalid="ignore"):
        match activation.name:
            case "linear":
                slope = np.ones_like(z)
            case "relu":
                slope = np.where(z > 0, 1.0, 0.0)
            case "relu6":
                slope = np.where((z > 0) & (z < 6), 1.0, 0.0)
            case "leaky_relu":
                slope = np.where(z > 0, 1.0, alpha)
            case "elu":
                slope = np.where(z > 0, 1.0, alpha * np.exp(z))
            case "silu":
                slope = _sigmoid(z) * (1.0 + z * _sigmoid(-z))
            case "hard_swish":
                slope = np.where(z <= -3, 0.0, np.where(z >= 3, 1.0, (2.0 * z + 3.0) / 6.0))
            case "hard_sigmoid":
                slope = np.where((z > -3) & (z < 3), 1.0 / 6.0, 0.0)
            case "sigmoid":
                slope = _sigmoid(z) * _sigmoid(-z)
            case "tanh":
                slope = 1.0 - np.tanh(z) ** 2
            case "gelu":
                slope = _normal_cdf(z) + z * np.exp(-(z**2) / 2.0) / math.sqrt(2.0 * math.pi)
            case "gelu_tanh":
                inner_slope = _GELU_SLOPE * (1.0 + 3.0 * _GELU_CUBIC * z**2)
                slope = _gelu_tanh_gate(z) * (1.0 + 2.0 * z * _gelu_tanh_gate(-z) * inner_slope)
            case "softplus":
                slope = _sigmoid(z)
            case missing:
                raise NotImplementedError(f"activation: the reference has no derivative of {missing}")
    return slope


_GELU_SLOPE = math.sqrt(2.0 / math.pi)
_GELU_CUBIC = 0.044715

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _sigmoid(z: Array) -> Array:
    return np.exp(-np.logaddexp(0.0, -z))


def _normal_cdf(z: Array) -> Array:
    """The share of a standard normal distribution below z. Far below 0, 1 + erf would lose the digits."""
    cdf: Array = _erfc(-z / math.sqrt(2.0)) / 2.0
    return cdf


def _gelu_tanh_gate(z: Array) -> Array:
    """(1 + tanh(u)) / 2 for the u of gelu_tanh, as the sigmoid of 2u: it keeps its digits far below 0."""
    return _sigmoid(2.0 * _GELU_SLOPE * (z + _GELU_CUBIC * z**3))


Window = tuple[slice, slice, slice]  # all images, some rows, some columns


def _taps(spec: Spec, input_size: tuple[int, int]) -> Iterator[tuple[int, int, Window, Window]]:
    """Each tap (row, column) of the kernel, with the outputs it feeds and the pixels it feeds them from."""
    output_size = spec.output_size(input_size)
    padding = spec.padding_amounts(input_size)

    def meets(axis: int, tap: int) -> tuple[slice, slice]:
        """Along one axis, the outputs whose `tap` is on the image, and the pixels that it is on."""
        stride = spec.strides[axis]
        offset = tap * spec.dilation_rate[axis] - padding[axis][0]
        outputs = [o for o in range(output_size[axis]) if 0 <= o * stride + offset < input_size[axis]]
        if not outputs:
            return slice(0, 0), slice(0, 0)
        first, last = outputs[0], outputs[-1]
        return slice(first, last + 1), slice(first * stride + offset, last * stride + offset + 1, stride)

    rows = [meets(0, tap) for tap in range(spec.kernel_size[0])]
    columns = [meets(1, tap) for tap in range(spec.kernel_size[1])]
    images = slice(None)
    for row, (output_rows, pixel_rows) in enumerate(rows):
        for column, (output_columns, pixel_columns) in enumerate(columns):
            yield row, column, (images, output_rows, output_columns), (images, pixel_rows, pixel_columns)


def _as_float64(
    x: ArrayLike, kernel: ArrayLike, bias: ArrayLike | None, spec: Spec
) -> tuple[Array, Array, Array | None]:
    """The arrays in float64, once their shapes are known to fit."""
    x, kernel = np.asarray(x, dtype=np.float64), np.asarray(kernel, dtype=np.float64)
    bias = None if bias is None else np.asarray(bias, dtype=np.float64)
    spec.check_shapes(x.shape, kernel.shape, None if bias is None else bias.shape)
    return x, kernel, bias


def _to_channels_last(array: Array, spec: Spec) -> Array:
    return array if spec.data_format == "channels_last" else array.transpose(0, 2, 3, 1)


def _from_channels_last(array: Array, spec: Spec) -> Array:
    return array if spec.data_format == "channels_last" else array.transpose(0, 3, 1, 2)
