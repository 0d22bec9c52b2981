"""The layers. Each is Keras's own of the same name, with another computation (base.py) and checked arguments."""

from __future__ import annotations

from typing import Any, ClassVar

import keras

from depthwise.arguments import PaddingLike, PairLike
from depthwise.keras.arguments import count_argument
from depthwise.keras.base import DepthwiseConv, GroupedConv, SeparableConv, split

__all__ = ["DepthwiseConv1D", "DepthwiseConv2D", "GroupedConv2D", "SeparableConv1D", "SeparableConv2D"]


@keras.saving.register_keras_serializable(package="depthwise")
class DepthwiseConv2D(DepthwiseConv, keras.layers.DepthwiseConv2D):  # type: ignore[misc]
    """2-D depthwise convolution: `keras.layers.DepthwiseConv2D` on kernels of its own.

    >>> from depthwise.keras import DepthwiseConv2D
    >>> layer = DepthwiseConv2D(3, strides=2, padding="same", depth_multiplier=2, activation="relu")
    >>> layer.compute_output_shape((None, 224, None, 32))
    (None, 112, None, 64)

    Each channel of the input is convolved with `depth_multiplier` kernels of its own; output channel
    `c * depth_multiplier + m` is filter m of input channel c. The arguments are those of
    [Keras](https://keras.io/api/layers/convolution_layers/depthwise_convolution2d/); all of them work on every
    backend, in both data formats and in float32, float64, float16 and bfloat16.

    Args:
        kernel_size: height and width of the window, in taps: an integer or a pair.
        strides: step of the window along height and width, in pixels: an integer or a pair.
        padding: "valid" for none or "same" for an output of the size of the input divided by the stride and
            rounded up, in any case; or zeros in numbers: an integer, a pair (height, width), or
            ((top, bottom), (left, right)).
        depth_multiplier: output channels per input channel.
        data_format: "channels_last" (batch, height, width, channels) or "channels_first" (batch, channels, height,
            width); None for `keras.config.image_data_format()`.
        dilation_rate: distance between neighbouring taps, in pixels: an integer or a pair. Above 1 it excludes
            strides above 1, unless the keyword `strided_dilation=True` is given.
        activation: what is applied to the output: None, a name or a callable. Those in the package's table are
            computed with the convolution, any other after it.
        use_bias: whether to add a bias.
        depthwise_initializer, bias_initializer: of the weights `kernel` and `bias`.
        depthwise_regularizer, bias_regularizer, activity_regularizer: of the weights and the output.
        depthwise_constraint, bias_constraint: projections of the weights after an update.
        **kwargs: those of `keras.layers.Layer` (name, dtype, trainable, ...), and `strided_dilation`.

    Raises:
        TypeError: an argument is of a wrong type.
        ValueError: an argument has a value that is not allowed, such as padding="causal".
    """

    rank: ClassVar[int] = 2

    def __init__(
        self,
        kernel_size: PairLike,
        strides: PairLike = (1, 1),
        padding: PaddingLike = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: PairLike = (1, 1),
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        options, others = split(locals(), kwargs)
        self._construct(2, options, others)


@keras.saving.register_keras_serializable(package="depthwise")
class DepthwiseConv1D(DepthwiseConv, keras.layers.DepthwiseConv1D):  # type: ignore[misc]
    """1-D depthwise convolution: `keras.layers.DepthwiseConv1D` on kernels of its own.

    >>> from depthwise.keras import DepthwiseConv1D
    >>> DepthwiseConv1D(7, padding="same").compute_output_shape((None, 1000, 8))
    (None, 1000, 8)

    Args:
        kernel_size, strides, dilation_rate: integers, as in `DepthwiseConv2D`.
        padding: "valid", "same", an integer or a pair (before, after).
        data_format: "channels_last" (batch, steps, channels) or "channels_first" (batch, channels, steps).
        depth_multiplier, activation, use_bias, depthwise_initializer, bias_initializer, depthwise_regularizer,
            bias_regularizer, activity_regularizer, depthwise_constraint, bias_constraint, **kwargs: as in
            `DepthwiseConv2D`.

    Raises:
        TypeError, ValueError: as `DepthwiseConv2D`.
    """

    rank: ClassVar[int] = 1

    def __init__(
        self,
        kernel_size: Any,
        strides: Any = 1,
        padding: PaddingLike = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: Any = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        options, others = split(locals(), kwargs)
        self._construct(1, options, others)


@keras.saving.register_keras_serializable(package="depthwise")
class SeparableConv2D(SeparableConv, keras.layers.SeparableConv2D):  # type: ignore[misc]
    """2-D separable convolution: `keras.layers.SeparableConv2D`, its depthwise half on kernels of its own.

    >>> from depthwise.keras import SeparableConv2D
    >>> SeparableConv2D(16, 3, strides=2, padding="same").compute_output_shape((None, 32, 32, 8))
    (None, 16, 16, 16)

    A depthwise convolution, then a convolution of 1 x 1 that mixes the channels, the bias and the activation.

    Args:
        filters: output channels.
        kernel_size, strides, padding, data_format, dilation_rate, depth_multiplier: of the depthwise convolution,
            as in `DepthwiseConv2D`.
        activation, use_bias: after the second convolution.
        depthwise_initializer, pointwise_initializer, bias_initializer, depthwise_regularizer,
            pointwise_regularizer, bias_regularizer, activity_regularizer, depthwise_constraint,
            pointwise_constraint, bias_constraint: of the weights `depthwise_kernel`, `pointwise_kernel` and
            `bias`, and of the output.
        **kwargs: as in `DepthwiseConv2D`.

    Raises:
        TypeError, ValueError: as `DepthwiseConv2D`.
    """

    rank: ClassVar[int] = 2

    def __init__(
        self,
        filters: int,
        kernel_size: PairLike,
        strides: PairLike = (1, 1),
        padding: PaddingLike = "valid",
        data_format: str | None = None,
        dilation_rate: PairLike = (1, 1),
        depth_multiplier: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        pointwise_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        filters = count_argument("filters", filters)
        options, others = split(locals(), kwargs)
        self._construct(2, options, others)


@keras.saving.register_keras_serializable(package="depthwise")
class SeparableConv1D(SeparableConv, keras.layers.SeparableConv1D):  # type: ignore[misc]
    """1-D separable convolution: `keras.layers.SeparableConv1D`, its depthwise half on kernels of its own.

    >>> from depthwise.keras import SeparableConv1D
    >>> SeparableConv1D(16, 5).compute_output_shape((None, 100, 8))
    (None, 96, 16)

    Args:
        filters: output channels.
        kernel_size, strides, dilation_rate: integers.
        padding: "valid", "same", an integer or a pair (before, after).
        others: as in `SeparableConv2D`.

    Raises:
        TypeError, ValueError: as `DepthwiseConv2D`.
    """

    rank: ClassVar[int] = 1

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: PaddingLike = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        depth_multiplier: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        pointwise_constraint: Any = None,
        bias_constraint: Any = None,
        **kwargs: Any,
    ) -> None:
        filters = count_argument("filters", filters)
        options, others = split(locals(), kwargs)
        self._construct(1, options, others)


@keras.saving.register_keras_serializable(package="depthwise")
class GroupedConv2D(GroupedConv, keras.layers.Conv2D):  # type: ignore[misc]
    """`keras.layers.Conv2D` with as many groups as channels, which is a depthwise convolution, on its kernels.

    `depthwise.accelerate` puts it where a model (ConvNeXt, for one) has such a layer: the arguments and the weights are
    those of Conv2D, with a kernel of shape (kernel height, kernel width, 1, filters). New models are better off with
    `DepthwiseConv2D`.

    >>> from depthwise.keras.layers import GroupedConv2D
    >>> GroupedConv2D(64, 7, padding="same", groups=32).compute_output_shape((None, 56, 56, 32))
    (None, 56, 56, 64)

    Args:
        filters: output channels, a multiple of `groups`.
        kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias: as in `DepthwiseConv2D`.
        groups: the number of input channels.
        kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer,
            kernel_constraint, bias_constraint, **kwargs: as in `keras.layers.Conv2D`.

    Raises:
        TypeError, ValueError: as `DepthwiseConv2D`; when it is built, for an input of another number of channels.
    """

    rank: ClassVar[int] = 2

    def __init__(
        self,
        filters: int,
        kernel_size: PairLike,
        strides: PairLike = (1, 1),
        padding: PaddingLike = "valid",
        data_format: str | None = None,
        dilation_rate: PairLike = (1, 1),
        groups: int = 1,
        **kwargs: Any,
    ) -> None:
        filters, groups = count_argument("filters", filters), count_argument("groups", groups)
        if filters % groups:
            raise ValueError(f"filters: expected a multiple of groups={groups}, got {filters}")
        given = {"depth_multiplier": filters // groups, **locals()}
        options, others = split(given, kwargs)
        self._construct(2, options, others)
