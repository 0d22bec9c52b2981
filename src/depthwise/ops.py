"""The NumPy front-end.

A call goes: normalise the arguments into a `Spec` and check the arrays (once per combination of arguments,
shapes and dtypes: the result is kept), allocate the output, run the native op.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from depthwise.activations import Activation, ActivationLike
from depthwise.arguments import Padding, PaddingLike, Pair, PairLike
from depthwise.native import Plan, bytes_to_multiple, make_plan
from depthwise.spec import Spec, check_dtypes, hashable_options

__all__ = ["Gradients", "depthwise_conv2d", "depthwise_conv2d_vjp"]

Array: TypeAlias = npt.NDArray[Any]
Dtype: TypeAlias = np.dtype[Any]

# The buffer protocol has no code for bfloat16: those arrays are handed over as the 16-bit integers they are.
_BITS = np.dtype(np.uint16)

_LINE = 64
"""Bytes of a cache line. NumPy's own arrays begin 16 or 32 bytes off one, where full vectors touch two."""

_ALIGNED_BYTES = 64 * 1024
"""Arrays of at least so many bytes begin on a cache line, which takes 1.2 us more than `np.empty`."""


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
    is_bfloat16: bool


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
    x, kernel, bias = _array("x", x), _array("kernel", kernel), _bias(bias)
    call = _prepare(x, kernel, bias, strides, padding, data_format, dilation_rate, activation)
    inputs = (_bits(x), _bits(kernel), _bits(bias)) if call.is_bfloat16 else (x, kernel, bias)
    if out is None:
        out = _new(call.output_shape, call.dtype)
        call.plan.forward(*inputs, _buffer(call, out), None)
        return out
    _check_out(out, call)
    target = _buffer(call, out)
    if not call.plan.forward_apart(*inputs, target):
        _check_overlaps(out, x, kernel, bias)
        call.plan.forward(*inputs, target, None)
    return out


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
) -> tuple[Array, Callable[[npt.ArrayLike], Gradients]]:
    """`depthwise_conv2d` and the function that takes a gradient back through it.

    >>> import numpy as np, depthwise
    >>> x, kernel = np.ones((1, 4, 4, 3), np.float32), np.ones((3, 3, 3, 1), np.float32)
    >>> y, pullback = depthwise.depthwise_conv2d_vjp(x, kernel, padding="same", activation="relu")
    >>> gradients = pullback(np.ones_like(y))
    >>> gradients.x.shape, gradients.kernel.shape, gradients.bias
    ((1, 4, 4, 3), (3, 3, 3, 1), None)

    Args:
        x, kernel, bias, strides, padding, data_format, dilation_rate, activation: as in `depthwise_conv2d`.

    Returns:
        `(y, pullback)`: the result, and a function from `dy`, the gradient of a loss with respect to y (its
        shape and dtype), to `Gradients(x, kernel, bias)`, new arrays of the shapes and dtype of the three
        (bias None without one). It may be called any number of times. It reads `x`, `kernel` and, for most
        activations, `y`: change the first two only when you are done with it; `y` is read-only where it is
        needed.

    Raises:
        TypeError, ValueError, MemoryError: as `depthwise_conv2d`; `pullback` for `dy` likewise.
    """
    x, kernel, bias = _array("x", x), _array("kernel", kernel), _bias(bias)
    call = _prepare(x, kernel, bias, strides, padding, data_format, dilation_rate, activation)
    info = call.spec.activation.info
    y = _new(call.output_shape, call.dtype)
    preactivation = _new(call.output_shape, call.dtype) if info.needs_preactivation else None
    buffers = [_buffer(call, a) for a in (x, kernel, bias, y, preactivation)]
    call.plan.forward(*buffers)
    saved: Array | None = None
    if preactivation is not None:
        saved = preactivation
    elif info.code:  # not linear
        saved = y
        y.flags.writeable = False
    return y, functools.partial(_pullback, call, x, kernel, bias is not None, saved)


def _pullback(
    call: _Call, x: Array, kernel: Array, has_bias: bool, saved: Array | None, dy: npt.ArrayLike
) -> Gradients:
    """Gradients from `dy`, the gradient of a loss with respect to the output.

    Raises:
        TypeError: `dy` has another dtype than the output.
        ValueError: it has another shape.
    """
    gradient = _array("dy", dy)
    if gradient.dtype != call.dtype:
        check_dtypes(y=call.dtype.name, dy=gradient.dtype.name)
    if gradient.shape != call.output_shape:
        call.spec.check_cotangent(gradient.shape, call.output_shape)
    dx, dkernel = _new(x.shape, call.dtype), np.empty(kernel.shape, call.dtype)
    outputs = kernel.shape[2] * kernel.shape[3]
    dbias = np.empty(outputs, call.dtype) if has_bias else None
    buffers = [_buffer(call, a) for a in (x, kernel, gradient, saved, dx, dkernel, dbias)]
    call.plan.backward(*buffers)
    return Gradients(dx, dkernel, dbias)


def _new(shape: tuple[int, ...], dtype: Dtype) -> Array:
    """A new array; one whose time matters begins on a cache line, where every full vector is one line's."""
    size = math.prod(shape) * dtype.itemsize
    if size < _ALIGNED_BYTES:
        return np.empty(shape, dtype)
    memory = np.empty(size + _LINE, np.uint8)
    array: Array = np.ndarray(shape, dtype, memory, bytes_to_multiple(memory, _LINE))
    return array


def _array(name: str, value: npt.ArrayLike) -> Array:
    """`value` as an array that the native op can read: aligned, in native byte order."""
    if type(value) is np.ndarray:
        array: Array = value
    else:
        try:
            array = np.asarray(value)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name}: expected an array, got {type(value).__name__} ({error})") from None
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if not array.flags.aligned:
        array = array.copy()
    return array


def _bias(bias: npt.ArrayLike | None) -> Array | None:
    """The bias as a contiguous array; it is too small for a copy to matter."""
    return None if bias is None else np.asarray(_array("bias", bias), order="C")


def _bits(array: Array | None) -> Array | None:
    return None if array is None else array.view(_BITS)


def _buffer(call: _Call, array: Array | None) -> Array | None:
    return _bits(array) if call.is_bfloat16 else array


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
    return _Call(spec, plan, output_shape, x_dtype, dtype == "bfloat16")


def _check_out(out: Array, call: _Call) -> None:
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out: expected a NumPy array, got {type(out).__name__}")
    if out.dtype != call.dtype:
        raise TypeError(f"out: expected dtype {call.dtype}, that of x, got {out.dtype}")
    if out.shape != call.output_shape:
        call.spec.check_out(out.shape, call.output_shape)
    flags = out.flags
    if not flags.writeable:
        raise ValueError(
            f"out: expected an array that can be written, got a read-only one of shape {out.shape}"
        )
    if not flags.aligned or not out.dtype.isnative:
        raise ValueError("out: expected an aligned array in native byte order, got one that is not")
    if not flags.c_contiguous and _overlaps_itself(out):
        raise ValueError(f"out: expected an array whose elements do not overlap, got strides {out.strides}")


def _check_overlaps(out: Array, x: Array, kernel: Array, bias: Array | None) -> None:
    for name, array in (("x", x), ("kernel", kernel), ("bias", bias)):
        if array is not None and _shares_memory(out, array):
            raise ValueError(f"out: expected memory of its own, got an array that overlaps {name}")


def _overlaps_itself(array: Array) -> bool:
    """Whether two elements may lie at one address: no axis, sorted by stride, steps over the ones before it."""
    if array.size == 0:
        return False
    extent = array.itemsize
    for stride, size in sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1):
        if stride < extent:
            return True
        extent += stride * (size - 1)
    return False


def _shares_memory(a: Array, b: Array) -> bool:
    """Exact where that is cheap to find out; else on the safe side."""
    shares_memory: Any = np.shares_memory  # whose stub knows only the two special values of max_work
    try:
        return bool(shares_memory(a, b, max_work=100_000))
    except Exception:  # NumPy's TooHardError, which has no one place in all its versions
        return True
