"""The public function: arguments into a `Spec`, once per combination of them, and on to the primitive."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from depthwise.activations import Activation, ActivationLike
from depthwise.arguments import Padding, PaddingLike, Pair, PairLike
from depthwise.jax import batching, differentiation, lowering, shapes  # noqa: F401  # they register the rules
from depthwise.jax.primitives import forward
from depthwise.spec import DTYPES, Spec, check_dtypes, hashable_options

__all__ = ["depthwise_conv2d"]

ArrayLike: TypeAlias = Any


class _Call(NamedTuple):
    spec: Spec
    compiled: Callable[..., jax.Array]  # for calls outside of a compiled function


def depthwise_conv2d(
    x: ArrayLike,
    kernel: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    strides: PairLike = 1,
    padding: PaddingLike = "valid",
    data_format: str = "channels_last",
    dilation_rate: PairLike = 1,
    activation: ActivationLike = None,
) -> jax.Array:
    """Convolve every channel of a batch of images with its own kernels.

    >>> import jax, jax.numpy as jnp
    >>> from depthwise.jax import depthwise_conv2d
    >>> x, kernel = jnp.ones((8, 32, 32, 16)), jnp.ones((3, 3, 16, 1))
    >>> def loss(kernel):
    ...     return depthwise_conv2d(x, kernel, strides=2, padding="same", activation="relu").sum()
    >>> jax.jit(jax.grad(loss))(kernel).shape
    (3, 3, 16, 1)

    It works under `jax.jit`, `grad`, `jvp`, `vmap`, `checkpoint`, `shard_map` and their combinations, to any order of
    derivative, and on arrays that are sharded over batch and channels. On CPUs the results have the bits of
    `depthwise.depthwise_conv2d`, and first-order gradients those of `depthwise.depthwise_conv2d_vjp`. On other devices
    it is computed by `jax.lax.conv_general_dilated`.

    Args:
        x: (batch, height, width, channels) or, with channels_first, (batch, channels, height, width), of dtype
            float32, float64 (where JAX has it enabled), float16 or bfloat16.
        kernel: (kernel height, kernel width, channels, M), of the dtype of `x`.
        bias: (channels * M,), of the dtype of `x`; None for none.
        strides: step along height and width, in pixels.
        padding: "valid", "same" (TensorFlow's rule), an integer, a pair (height, width), or
            ((top, bottom), (left, right)), in pixels.
        data_format: "channels_last" or "channels_first".
        dilation_rate: distance between taps along height and width, in pixels; may go with any strides.
        activation: None, a name from `depthwise.activations.ACTIVATIONS`, (name, alpha) or an `Activation`.

    Returns:
        (batch, out height, out width, channels * M) or, with channels_first, (batch, channels * M, out height,
        out width), of the dtype of `x`.

    Raises:
        TypeError: an argument has the wrong type or dtype. Like the next, it is raised while tracing.
        ValueError: an argument has a value or a shape that does not fit.
    """
    x, kernel = _array("x", x), _array("kernel", kernel)
    arrays = (x, kernel) if bias is None else (x, kernel, _array("bias", bias))
    call = _prepare(arrays, strides, padding, data_format, dilation_rate, activation)
    if any(isinstance(array, jax.core.Tracer) for array in arrays):
        return _convolve(*arrays, spec=call.spec)
    return call.compiled(*arrays)


def _convolve(*arrays: jax.Array, spec: Spec) -> jax.Array:
    y: jax.Array = forward(spec, *_alike(arrays))[0]
    return y


def _alike(arrays: tuple[jax.Array, ...]) -> list[jax.Array]:
    """The arrays as ones that vary over the same manual mesh axes, which `jax.shard_map` keeps account of."""
    varying = [_varying_axes(array) for array in arrays]
    everything: frozenset[str] = frozenset().union(*varying)
    return [
        array if axes == everything else _vary(array, tuple(sorted(everything - axes)))
        for array, axes in zip(arrays, varying, strict=True)
    ]


def _vary(array: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    result: jax.Array
    if hasattr(jax.lax, "pcast"):
        result = jax.lax.pcast(array, axes, to="varying")
    else:  # before JAX 0.8
        result = jax.lax.pvary(array, axes)
    return result


def _varying_axes(array: jax.Array) -> frozenset[str]:
    aval = jax.typeof(array)
    axis_type = getattr(aval, "manual_axis_type", None)
    axes: frozenset[str] = getattr(aval, "vma", frozenset()) if axis_type is None else axis_type.varying
    return axes


def _array(name: str, value: ArrayLike) -> Any:
    """`value` as an array of JAX; one of a dtype that is not supported as it is, for `check_dtypes` to say so."""
    if isinstance(value, jax.Array):
        return value
    if not hasattr(value, "__array__") and not hasattr(value, "__jax_array__"):
        raise TypeError(f"{name}: expected an array, got {type(value).__name__}")
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.name not in DTYPES:
        return value
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name}: expected an array, got {type(value).__name__} ({error})") from None


def _prepare(
    arrays: tuple[jax.Array, ...],
    strides: PairLike,
    padding: PaddingLike,
    data_format: str,
    dilation_rate: PairLike,
    activation: ActivationLike,
) -> _Call:
    """The call for these arguments, from the cache if they have been seen."""
    options = hashable_options(strides, padding, data_format, dilation_rate, activation)
    array_shapes = tuple(array.shape for array in arrays)
    dtypes = tuple(array.dtype for array in arrays)
    known = all(shapes.is_known(size) for shape in array_shapes for size in shape)
    prepare = _call if known else _call.__wrapped__  # symbolic sizes are not to be compared
    return prepare(array_shapes, dtypes, *options)


@functools.lru_cache(maxsize=1024, typed=True)
def _call(
    array_shapes: tuple[tuple[Any, ...], ...],
    dtypes: tuple[Any, ...],
    strides: int | Pair,
    padding: str | int | Padding,
    data_format: str,
    dilation_rate: int | Pair,
    activation: str | Activation | None,
) -> _Call:
    check_dtypes(**dict(zip(("x", "kernel", "bias"), (dtype.name for dtype in dtypes), strict=False)))
    x_shape, kernel_shape, *bias_shape = array_shapes
    spec = Spec.from_kernel(
        kernel_shape,
        strides=strides,
        padding=padding,
        data_format=data_format,
        dilation_rate=dilation_rate,
        activation=activation,
        use_bias=bool(bias_shape),
    )
    spec.check_shapes(_known_shape(spec, x_shape), kernel_shape, *bias_shape)
    return _Call(spec, _compiled(spec))


def _known_shape(spec: Spec, shape: tuple[Any, ...]) -> tuple[int, ...]:
    """The shape of x with a size that fits for each that is symbolic, for the checks of the others."""
    if len(shape) != 4:
        return shape
    fitting = shapes.image_shape(spec, 1, spec.window_size, 1)
    return tuple(
        size if shapes.is_known(size) else stand_in for size, stand_in in zip(shape, fitting, strict=True)
    )


@functools.lru_cache(maxsize=1024)
def _compiled(spec: Spec) -> Callable[..., jax.Array]:
    compiled: Callable[..., jax.Array] = jax.jit(functools.partial(_convolve, spec=spec))
    return compiled
