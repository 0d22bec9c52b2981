"""The public function: from a caller's arguments to a node.

What is known when a call is made is checked by `Spec`, once per combination of arguments, static shapes and dtypes;
what is known only when a graph runs is checked by the op.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import tensorflow as tf

from depthwise.activations import Activation, ActivationLike
from depthwise.arguments import Padding, PaddingLike, Pair, PairLike
from depthwise.spec import check_dtypes, hashable_options
from depthwise.tensorflow.library import Attributes, attributes_of, convolve
from depthwise.tensorflow.shapes import StaticShape, make_spec, output_shape

try:  # whether a tape records what is done with these tensors
    from tensorflow.python.eager.record import should_record_backprop as _is_recorded
except ImportError:  # it is no public function, and may move: keeping z for nobody costs memory, no more

    def _is_recorded(_tensors: list[Any]) -> bool:
        return True


__all__ = ["depthwise_conv2d"]


class _Call(NamedTuple):
    """Everything about a call that its tensors' contents do not change."""

    attributes: Attributes
    needs_preactivation: bool
    output_shape: tuple[int | None, ...]


def depthwise_conv2d(
    x: Any,
    kernel: Any,
    bias: Any | None = None,
    *,
    strides: PairLike = 1,
    padding: PaddingLike = "valid",
    data_format: str = "channels_last",
    dilation_rate: PairLike = 1,
    activation: ActivationLike = None,
) -> Any:
    """Convolve each channel of an image with kernels of its own; add a bias, apply an activation.

    >>> import tensorflow as tf
    >>> from depthwise.tensorflow import depthwise_conv2d
    >>> x = tf.reshape(tf.range(1.0, 13.0), (1, 2, 3, 2))
    >>> kernel = tf.reshape(tf.range(1.0, 17.0), (2, 2, 2, 2))
    >>> tf.reshape(depthwise_conv2d(x, kernel), [-1]).numpy()
    array([196., 216., 272., 296., 252., 280., 344., 376.], dtype=float32)

    It computes what `depthwise.depthwise_conv2d` computes, to the last bit, eagerly and in graphs, and so do its
    gradients. It can be differentiated any number of times. It runs on the CPU.

    Args:
        x: image, (batch, height, width, channels), or (batch, channels, height, width) with
            `data_format="channels_first"`. float32, float64, float16 or bfloat16: a tensor, or anything that
            `tf.convert_to_tensor` takes. In a graph every size, and the rank, may be unknown.
        kernel: (kernel height, kernel width, channels, M), of the dtype of `x`.
        bias: (channels * M,), of the dtype of `x`; None for none.
        strides: step along height and width, in pixels.
        padding: "valid", "same" (TensorFlow's rule), an integer, a pair (height, width), or
            ((top, bottom), (left, right)), in pixels.
        data_format: "channels_last" or "channels_first"; both work on every CPU.
        dilation_rate: distance between taps along height and width, in pixels; may go with any strides.
        activation: None, a name from `depthwise.activations.ACTIVATIONS`, (name, alpha) or an `Activation`.

    Returns:
        A tensor (batch, out height, out width, channels * M) or, with channels_first, (batch, channels * M,
        out height, out width), of the dtype of `x`.

    Raises:
        TypeError: an argument has the wrong type or dtype.
        ValueError: an argument has a value or a shape that does not fit.
        tf.errors.InvalidArgumentError: likewise, of a size that became known only when the graph ran.
        tf.errors.ResourceExhaustedError: there is not enough memory.
    """
    x, kernel = _tensor("x", x), _tensor("kernel", kernel)
    bias = None if bias is None else _tensor("bias", bias)
    call = _prepare(x, kernel, bias, strides, padding, data_format, dilation_rate, activation)
    if not tf.executing_eagerly():
        y, _ = convolve(x, kernel, bias, call.attributes)
        y.set_shape(call.output_shape)
        return y
    keep = call.needs_preactivation and _is_recorded([x, kernel] if bias is None else [x, kernel, bias])
    return convolve(x, kernel, bias, call.attributes, keep_preactivation=keep)[0]


def _tensor(name: str, value: Any) -> Any:
    if isinstance(value, tf.Tensor):
        return value
    try:
        return tf.convert_to_tensor(value)
    except (TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0]  # the rest may be the whole value
        raise TypeError(f"{name}: expected a tensor, got {type(value).__name__} ({reason})") from None


def _prepare(
    x: Any,
    kernel: Any,
    bias: Any | None,
    strides: PairLike,
    padding: PaddingLike,
    data_format: str,
    dilation_rate: PairLike,
    activation: ActivationLike,
) -> _Call:
    """The call for these arguments, from the cache if they have been seen."""
    options = hashable_options(strides, padding, data_format, dilation_rate, activation)
    return _call(
        _shape(x),
        _shape(kernel),
        () if bias is None else (_shape(bias),),
        x.dtype,
        kernel.dtype,
        None if bias is None else bias.dtype,
        *options,
    )


def _shape(tensor: Any) -> StaticShape:
    shape = tensor.shape
    return None if shape.rank is None else tuple(shape.as_list())


@functools.lru_cache(maxsize=1024, typed=True)
def _call(
    x_shape: StaticShape,
    kernel_shape: StaticShape,
    bias_shapes: tuple[StaticShape, ...],
    x_dtype: Any,
    kernel_dtype: Any,
    bias_dtype: Any | None,
    strides: int | Pair,
    padding: str | int | Padding,
    data_format: str,
    dilation_rate: int | Pair,
    activation: str | Activation | None,
) -> _Call:
    check_dtypes(x=x_dtype.name, kernel=kernel_dtype.name, bias=bias_dtype and bias_dtype.name)
    spec = make_spec(
        kernel_shape,
        strides=strides,
        padding=padding,
        data_format=data_format,
        dilation_rate=dilation_rate,
        activation=activation,
        use_bias=bool(bias_shapes),
    )
    shape = output_shape(spec, x_shape, kernel_shape, *bias_shapes)
    return _Call(attributes_of(spec), spec.activation.info.needs_preactivation, shape)
