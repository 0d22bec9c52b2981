"""The NumPy front-end.

A call goes: normalise the arguments into a `Spec` and check the arrays (once per combination of arguments,
shapes and dtypes: the result is kept), allocate the output, run the native op. Calls into an array that is given
are recognised when they come again, before anything else is done.
"""

from __future__ import annotations

import functools
from typing import NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt

from depthwise import arrays
from depthwise.activations import Activation, ActivationLike
from depthwise.arguments import Padding, PaddingLike, Pair, PairLike
from depthwise.arrays import Array, Dtype
from depthwise.native import Plan, Recent, make_plan
from depthwise.spec import Spec, check_dtypes, hashable_options

__all__ = ["Gradients", "depthwise_conv2d", "depthwise_conv2d_vjp"]

_recent, _recent_with_gradients = Recent(), Recent()


class Gradients(NamedTuple):
    """Gradients of a loss: with respect to `x`, to `kernel` and, if there is one, to `bias`."""

    x: Array
    kernel: Array
    bias: Array | None


class _Call(NamedTuple):
    """Everything about a call that its arrays' contents do not change."""

    spec: Spec
    plan: Plan
    output_shape: tuple[int, int, int, int]
    dtype: Dtype
    saves_output: bool  # the activation's derivative is taken from it


def depthwise_conv2d(
    x: npt.ArrayLike,
    kernel: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    *,
    strides: PairLike = 1,
    padding: PaddingLike = "valid",
    data_format: str = "channels_last",
    dilation_rate: PairLike = 1,
    activation: ActivationLike = None,
    out: Array | None = None,
) -> Array:
    """Convolve each channel of an image with kernels of its own; add a bias, apply an activation.

    >>> import numpy as np, depthwise
    >>> x = np.arange(1, 13, dtype=np.float32).reshape(1, 2, 3, 2)
    >>> kernel = np.arange(1, 17, dtype=np.float32).reshape(2, 2, 2, 2)
    >>> depthwise.depthwise_conv2d(x, kernel).ravel()
    array([196., 216., 272., 296., 252., 280., 344., 376.], dtype=float32)

    With y the result before the activation, and taps that fall on the padding left out::

        y[n, oh, ow, c*M + m] = bias[c*M + m]
            + sum over i, j of x[n, oh*sh - top + i*dh, ow*sw - left + j*dw, c] * kernel[i, j, c, m]

    which is the rule of Keras and TensorFlow (a correlation: the kernel is not flipped). Half types are
    accumulated in float32 and rounded once. The result has the same bits for any number of threads, and for
    any strides of the arrays.

    Args:
        x: image, (batch, height, width, channels), or (batch, channels, height, width) with
            `data_format="channels_first"`. float32, float64, float16 or ml_dtypes.bfloat16. Of any strides;
            copied only where it is misaligned or not in native byte order. The batch and the channels may
            be 0.
        kernel: (kernel height, kernel width, channels, M), of the dtype of `x`.
        bias: (channels * M,), of the dtype of `x`; None for none.
        strides: step along height and width, in pixels.
        padding: "valid", "same" (TensorFlow's rule), an integer, a pair (height, width), or
            ((top, bottom), (left, right)), in pixels.
        data_format: "channels_last" or "channels_first".
        dilation_rate: distance between taps along height and width, in pixels; may go with any strides.
        activation: None, a name from `depthwise.activations.ACTIVATIONS`, (name, alpha) or an `Activation`.
        out: array for the result, of its shape and dtype, of any strides; must not overlap an input.

    Returns:
        `out`, or a new array: (batch, out height, out width, channels * M) or, with channels_first,
        (batch, channels * M, out height, out width), of the dtype of `x`.

    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: an argument has a value or a shape that does not fit. `out` is then as it was.
        MemoryError: there is not enough memory; only then may `out` hold part of a result.
    """
    if out is not None and _recent.forward(
        x, kernel, bias, strides, padding, data_format, dilation_rate, activation, out
    ):
        return out
    x, kernel, bias = arrays.readable("x", x), arrays.readable("kernel", kernel), arrays.readable_bias(bias)
    call = _prepare(x, kernel, bias, strides, padding, data_format, dilation_rate, activation)
    y = _forward(call, x, kernel, bias, out, None)
    if out is not None:
        _recent.remember(
            call, call.plan, x, kernel, bias, strides, padding, data_format, dilation_rate, activation, out
        )
    return y


class Pullback(Protocol):
    """From the gradient of a loss with respect to the output to those with respect to the inputs."""

    def __call__(self, dy: npt.ArrayLike, *, out: Gradients | None = None) -> Gradients:
        """The gradients; in `out`'s arrays, if it is given."""


def depthwise_conv2d_vjp(
    x: npt.ArrayLike,
    kernel: npt.ArrayLike,
    bias: npt.ArrayLike | None = None,
    *,
    strides: PairLike = 1,
    padding: PaddingLike = "valid",
    data_format: str = "channels_last",
    dilation_rate: PairLike = 1,
    activation: ActivationLike = None,
    out: Array | None = None,
) -> tuple[Array, Pullback]:
    """`depthwise_conv2d` and the function that takes a gradient back through it.

    >>> import numpy as np, depthwise
    >>> x, kernel = np.ones((1, 4, 4, 3), np.float32), np.ones((3, 3, 3, 1), np.float32)
    >>> y, pullback = depthwise.depthwise_conv2d_vjp(x, kernel, padding="same", activation="relu")
    >>> gradients = pullback(np.ones_like(y))
    >>> gradients.x.shape, gradients.kernel.shape, gradients.bias
    ((1, 4, 4, 3), (3, 3, 3, 1), None)

    New memory costs a large image more than its arithmetic. A loop uses its own again::

        y, gradients = np.empty_like(x), None
        for x, dy in batches:
            y, pullback = depthwise_conv2d_vjp(x, kernel, padding="same", out=y)
            gradients = pullback(dy, out=gradients)

    Args:
        x, kernel, bias, strides, padding, data_format, dilation_rate, activation, out: as in `depthwise_conv2d`.

    Returns:
        `(y, pullback)`: the result, and a function `pullback(dy, *, out=None)` from `dy`, the gradient of a loss with
        respect to y (its shape and dtype), to `Gradients(x, kernel, bias)` of the shapes and dtype of the three (bias
        None without one): new arrays, or those of its `out`, which must not overlap each other or what is read. It may
        be called any number of times. It reads `x`, `kernel` and, for most activations, `y`: change these only when
        you are done with it; a y that is not `out` is read-only where it is needed.

    Raises:
        TypeError, ValueError, MemoryError: as `depthwise_conv2d`; `pullback` for `dy` and its `out` likewise.
    """
    if out is not None:
        known = _recent_with_gradients.forward(
            x, kernel, bias, strides, padding, data_format, dilation_rate, activation, out
        )
        if known is not None:
            saved = out if known.saves_output else None
            return out, functools.partial(
                _pullback, known, cast("Array", x), cast("Array", kernel), bias is not None, saved
            )
    x, kernel, bias = arrays.readable("x", x), arrays.readable("kernel", kernel), arrays.readable_bias(bias)
    call = _prepare(x, kernel, bias, strides, padding, data_format, dilation_rate, activation)
    needs_preactivation = call.spec.activation.info.needs_preactivation
    saved = arrays.new(call.output_shape, call.dtype) if needs_preactivation else None
    y = _forward(call, x, kernel, bias, out, saved)
    if call.saves_output:
        saved = y
        if out is None:
            y.flags.writeable = False
    if out is not None and not needs_preactivation:
        _recent_with_gradients.remember(
            call, call.plan, x, kernel, bias, strides, padding, data_format, dilation_rate, activation, out
        )
    return y, functools.partial(_pullback, call, x, kernel, bias is not None, saved)


def _forward(
    call: _Call, x: Array, kernel: Array, bias: Array | None, out: Array | None, preactivation: Array | None
) -> Array:
    """The result, in `out` if it is given; with `preactivation`, what the activation is taken of goes there."""
    y = arrays.new(call.output_shape, call.dtype) if out is None else out
    if out is not None:
        arrays.check_writable("out", out, call.output_shape, call.dtype)
    if out is not None and preactivation is None and call.plan.forward_apart(x, kernel, bias, y):
        return y
    arrays.check_overlaps({"out": out}, {"x": x, "kernel": kernel, "bias": bias})
    call.plan.forward(x, kernel, bias, y, preactivation)
    return y


def _pullback(
    call: _Call,
    x: Array,
    kernel: Array,
    has_bias: bool,
    saved: Array | None,
    dy: npt.ArrayLike,
    *,
    out: Gradients | None = None,
) -> Gradients:
    """Gradients from `dy`, the gradient of a loss with respect to the output, in the arrays of `out` if it is given.

    Raises:
        TypeError: `dy` has another dtype than the output, or `out` is not what a pullback returns.
        ValueError: it has another shape, or `out` cannot take the gradients.
    """
    if (
        type(out) is Gradients
        and has_bias == (out.bias is not None)
        and call.plan.backward_plain(x, kernel, dy, saved, *out)
    ):
        return out
    gradient = arrays.readable("dy", dy)
    if gradient.dtype != call.dtype:
        check_dtypes(y=call.dtype.name, dy=gradient.dtype.name)
    if gradient.shape != call.output_shape:
        call.spec.check_cotangent(gradient.shape, call.output_shape)
    read = x, kernel, gradient, saved
    if out is None:
        dbias = np.empty(kernel.shape[2] * kernel.shape[3], call.dtype) if has_bias else None
        out = Gradients(arrays.new(x.shape, call.dtype), np.empty(kernel.shape, call.dtype), dbias)
    else:
        _check_gradients(out, call, x, kernel, has_bias)
        inputs = dict(zip(("x", "kernel", "dy", "y"), read, strict=True))
        arrays.check_overlaps({f"out.{k}": a for k, a in out._asdict().items()}, inputs)
    call.plan.backward(*read, *out)
    return out


def _check_gradients(out: Gradients, call: _Call, x: Array, kernel: Array, has_bias: bool) -> None:
    if not isinstance(out, Gradients):
        raise TypeError(f"out: expected depthwise.Gradients, got {type(out).__name__}")
    if has_bias != (out.bias is not None):
        expected = "an array" if has_bias else "None, since there is no bias"
        raise ValueError(f"out.bias: expected {expected}, got {type(out.bias).__name__}")
    arrays.check_writable("out.x", out.x, x.shape, call.dtype)
    arrays.check_writable("out.kernel", out.kernel, kernel.shape, call.dtype)
    if out.bias is not None:
        arrays.check_writable("out.bias", out.bias, (kernel.shape[2] * kernel.shape[3],), call.dtype)
        if not out.bias.flags.c_contiguous:
            raise ValueError(f"out.bias: expected a contiguous array, got strides {out.bias.strides}")


def _prepare(
    x: Array,
    kernel: Array,
    bias: Array | None,
    strides: PairLike,
    padding: PaddingLike,
    data_format: str,
    dilation_rate: PairLike,
    activation: ActivationLike,
) -> _Call:
    """The call for these arguments, from the cache if they have been seen."""
    options = hashable_options(strides, padding, data_format, dilation_rate, activation)
    return _call(
        x.shape,
        kernel.shape,
        None if bias is None else bias.shape,
        x.dtype,
        kernel.dtype,
        None if bias is None else bias.dtype,
        *options,
    )


@functools.lru_cache(maxsize=1024, typed=True)
def _call(
    x_shape: tuple[int, ...],
    kernel_shape: tuple[int, ...],
    bias_shape: tuple[int, ...] | None,
    x_dtype: Dtype,
    kernel_dtype: Dtype,
    bias_dtype: Dtype | None,
    strides: int | Pair,
    padding: str | int | Padding,
    data_format: str,
    dilation_rate: int | Pair,
    activation: str | Activation | None,
) -> _Call:
    dtype = check_dtypes(x=x_dtype.name, kernel=kernel_dtype.name, bias=bias_dtype and bias_dtype.name)
    spec = Spec.from_kernel(
        kernel_shape,
        strides=strides,
        padding=padding,
        data_format=data_format,
        dilation_rate=dilation_rate,
        activation=activation,
        use_bias=bias_shape is not None,
    )
    output_shape = spec.check_shapes(x_shape, kernel_shape, bias_shape)
    batch, height, width, channels = x_shape
    plan = make_plan(spec, (batch, height, width, channels), dtype)
    info = spec.activation.info
    saves_output = info.code != 0 and not info.needs_preactivation
    return _Call(spec, plan, output_shape, x_dtype, saves_output)
