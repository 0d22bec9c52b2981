"""What the layers have in common: a stock layer of Keras whose call goes to the fused op.

Weights, configs, saving, dtype policies, regularizers and constraints are inherited. What changes is the
computation, and which arguments it takes.
"""

from __future__ import annotations

from typing import Any, ClassVar

import keras
from keras import ops

from depthwise.activations import Activation
from depthwise.arguments import bool_argument
from depthwise.keras.arguments import Options, layer_spec, modern_arguments, modern_config, normalise
from depthwise.keras.backend import compiles_whole_models, convolve, mix_channels, uncached
from depthwise.keras.export import exporting, standard_convolution
from depthwise.keras.fusing import fused_activation

__all__ = ["DepthwiseConv", "GroupedConv", "SeparableConv", "split"]

Tensor = Any  # of Keras's backend

_LINEAR = Activation("linear")


class _DepthwiseLayer(keras.layers.Layer):  # type: ignore[misc]
    """What all layers have in common. The stock layer comes next in their method resolution order.

    An instance of a stock layer may be given one of these classes: everything beyond what it has then is a class
    attribute here, or found out when it is needed.
    """

    rank: ClassVar[int]
    strided_dilation: bool = False

    def _construct(self, rank: int, options: dict[str, Any], kwargs: dict[str, Any]) -> None:
        """Run the stock layer's constructor on checked arguments. Padding in numbers is ours alone."""
        kwargs = self._modern_arguments(kwargs)
        strided_dilation = kwargs.pop("strided_dilation", False)
        checked = normalise(rank, **options, strided_dilation=strided_dilation)
        given = checked._asdict()
        if not isinstance(checked.padding, str):
            given["padding"] = "valid"
        if strided_dilation:
            given["dilation_rate"] = (1,) * rank  # Keras before 3.15 refuses it together with strides
        bool_argument("use_bias", kwargs.get("use_bias", True))
        if kwargs.get("bias_initializer", "zeros") is None:
            kwargs["bias_initializer"] = "zeros"  # as documented; Keras 3 would take glorot_uniform
        super().__init__(**self._stock_arguments(given), **kwargs)
        self.padding = checked.padding
        self.dilation_rate = checked.dilation_rate
        self.strided_dilation = strided_dilation
        self.supports_jit = compiles_whole_models()

    @staticmethod
    def _modern(config: dict[str, Any]) -> dict[str, Any]:
        """A config without what only Keras 2 wrote."""
        return modern_config(config)

    @staticmethod
    def _modern_arguments(keywords: dict[str, Any]) -> dict[str, Any]:
        """A constructor's keyword arguments without what only a config of Keras 2 has."""
        return modern_arguments(keywords)

    def _stock_arguments(self, given: dict[str, Any]) -> dict[str, Any]:
        """The checked arguments as the stock layer's constructor takes them."""
        return given

    def _filters(self, kernel: Tensor) -> Tensor:
        """The kernel as (window, channels, multiplier), with the window's one or two sizes."""
        return kernel

    @property
    def _options(self) -> Options:
        return Options(
            tuple(self.kernel_size),
            tuple(self.strides),
            self.padding if isinstance(self.padding, str) else _as_tuples(self.padding),
            self.depth_multiplier,
            self.data_format,
            tuple(self.dilation_rate),
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights for inputs of this shape, of which the channels must be known."""
        channel_axis = len(input_shape) - 1 if self.data_format == "channels_last" else 1
        if len(input_shape) == self.rank + 2 and input_shape[channel_axis] is None:
            raise ValueError(
                f"input_shape: expected known channels on axis {channel_axis} with data_format "
                f"'{self.data_format}', got {input_shape}"
            )
        self.compute_output_shape(input_shape)  # raises for what cannot be convolved
        super().build(input_shape)
        self.input_spec = keras.InputSpec(ndim=self.rank + 2, axes={channel_axis: input_shape[channel_axis]})
        if isinstance(self.activation, keras.layers.Layer) and not self.activation.built:
            self.activation.build(self.compute_output_shape(input_shape))  # weights of its own, as PReLU has

    def _depthwise(
        self, inputs: Tensor, kernel: Tensor, bias: Tensor | None, activation: Activation
    ) -> Tensor:
        """The depthwise convolution on tensors, of any of the backend's dtypes."""
        spec = uncached(layer_spec)(self._options, activation, bias is not None)
        x, kernel = _tensor(inputs), self._filters(_tensor(kernel))
        bias = None if bias is None else _tensor(bias)
        if keras.backend.standardize_dtype(x.dtype) != keras.backend.standardize_dtype(kernel.dtype):
            dtype = keras.backend.result_type(x.dtype, kernel.dtype)
            x, kernel = ops.cast(x, dtype), ops.cast(kernel, dtype)
            bias = None if bias is None else ops.cast(bias, dtype)
        if self.rank == 1:
            line_axis = 1 if self.data_format == "channels_last" else 2
            x, kernel = ops.expand_dims(x, line_axis), ops.expand_dims(kernel, 0)
            return ops.squeeze(convolve(x, kernel, bias, spec), line_axis)
        return convolve(x, kernel, bias, spec)

    def _standard(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """The depthwise convolution in the framework's own operations."""
        spec = uncached(layer_spec)(self._options, _LINEAR, use_bias=False)
        x, kernel = _tensor(inputs), self._filters(_tensor(kernel))
        if self.rank == 1:
            line_axis = 1 if self.data_format == "channels_last" else 2
            x, kernel = ops.expand_dims(x, line_axis), ops.expand_dims(kernel, 0)
            return ops.squeeze(standard_convolution(x, kernel, spec), line_axis)
        return standard_convolution(x, kernel, spec)

    def _add_bias(self, outputs: Tensor) -> Tensor:
        if not self.use_bias:
            return outputs
        if self.data_format == "channels_last":
            return ops.add(outputs, self.bias)
        # The other way round, Keras's TensorFlow backend adds it along the last axis if that is as long.
        return ops.add(ops.reshape(self.bias, (1, -1) + (1,) * self.rank), outputs)

    def _activate(self, outputs: Tensor) -> Tensor:
        return outputs if self.activation is None else self.activation(outputs)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Shape of the output; None where it depends on a size that is None in `input_shape`."""
        spec = uncached(layer_spec)(self._options, _LINEAR, use_bias=False)
        shape = list(input_shape)
        if self.rank == 2:
            return self._with_filters(list(spec.output_shape(shape)))
        line_axis = 1 if self.data_format == "channels_last" else 2
        if len(shape) != 3:
            raise ValueError(f"input_shape: expected 3 sizes, got {len(shape)}: {tuple(shape)}")
        output = list(spec.output_shape([*shape[:line_axis], 1, *shape[line_axis:]]))
        del output[line_axis]
        return self._with_filters(output)

    def _with_filters(self, shape: list[int | None]) -> tuple[int | None, ...]:
        return tuple(shape)

    def get_config(self) -> dict[str, Any]:
        """The stock layer's config; `strided_dilation` is in it only when it is set."""
        config: dict[str, Any] = super().get_config()
        if self.strided_dilation:
            config["strided_dilation"] = True
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Any:
        """A layer from a config, also from one that Keras 2 wrote."""
        return super().from_config(cls._modern(config))


class DepthwiseConv(_DepthwiseLayer):
    """DepthwiseConv1D and DepthwiseConv2D."""

    def convolution_op(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """The convolution alone, without bias and activation, as tf.keras names it.

        `call` uses it: override it to change the kernel on its way, for one (`super().convolution_op(inputs,
        standardised_kernel)`). The bias and the activation then follow as operations of their own.

        Args:
            inputs: image, in the layer's data format.
            kernel: of the shape of `self.kernel`.
        """
        if exporting(inputs):
            return self._standard(inputs, kernel)
        return self._depthwise(inputs, kernel, None, _LINEAR)

    @property
    def depthwise_kernel(self) -> Any:
        """The kernel, as tf.keras names it."""
        return self.kernel

    def call(self, inputs: Tensor) -> Tensor:
        """The layer on an image, in its data format."""
        fused = fused_activation(self.activation, self.compute_dtype)
        overridden = type(self).convolution_op is not DepthwiseConv.convolution_op
        if overridden or exporting(inputs):
            return self._activate(self._add_bias(self.convolution_op(inputs, self.kernel)))
        bias = self.bias if self.use_bias else None
        outputs = self._depthwise(inputs, self.kernel, bias, _LINEAR if fused is None else fused)
        return outputs if fused is not None else self._activate(outputs)


class GroupedConv(DepthwiseConv):
    """GroupedConv2D: weights and arguments of the ordinary convolution, with one channel in each group."""

    @property
    def depth_multiplier(self) -> int:
        """Filters per input channel."""
        return int(self.filters // self.groups)

    @staticmethod
    def _modern(config: dict[str, Any]) -> dict[str, Any]:
        return config  # the keys that mean nothing for a depthwise layer are its own

    @staticmethod
    def _modern_arguments(keywords: dict[str, Any]) -> dict[str, Any]:
        return keywords

    def _stock_arguments(self, given: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in given.items() if name != "depth_multiplier"}

    def _filters(self, kernel: Tensor) -> Tensor:
        return ops.reshape(kernel, (*self.kernel_size, self.groups, self.depth_multiplier))

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the weights for inputs of this shape, which has as many channels as there are groups."""
        channels = input_shape[-1 if self.data_format == "channels_last" else 1]
        if channels != self.groups:
            raise ValueError(
                f"groups: expected the number of input channels, which is {channels} for input_shape={input_shape} "
                f"with data_format '{self.data_format}', got {self.groups}"
            )
        super().build(input_shape)


class SeparableConv(_DepthwiseLayer):
    """SeparableConv1D and SeparableConv2D: a depthwise convolution, then one of 1 x 1 across the channels."""

    def call(self, inputs: Tensor) -> Tensor:
        """The layer on an image, in its data format."""
        if exporting(inputs):
            outputs = self._standard(inputs, self.depthwise_kernel)
        else:
            outputs = self._depthwise(inputs, self.depthwise_kernel, None, _LINEAR)
        outputs = mix_channels(outputs, self.pointwise_kernel, self.data_format)
        return self._activate(self._add_bias(outputs))

    def _with_filters(self, shape: list[int | None]) -> tuple[int | None, ...]:
        shape[-1 if self.data_format == "channels_last" else 1] = self.filters
        return tuple(shape)


def split(given: dict[str, Any], kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A constructor's arguments: those that `normalise` checks, and those that are Keras's affair."""
    options = {name: given[name] for name in Options._fields}
    own = {*options, "self", "kwargs", "__class__"}
    return options, {**{name: value for name, value in given.items() if name not in own}, **kwargs}


def _tensor(value: Any) -> Tensor:
    """A variable, an array or a tensor as a tensor. On NumPy, Keras would make float32 of float64 ones."""
    return value if keras.ops.is_tensor(value) else ops.convert_to_tensor(value)


def _as_tuples(value: Any) -> tuple[Any, ...]:
    """A nested sequence, whatever Keras made of it, in tuples."""
    return tuple(_as_tuples(item) if isinstance(item, (list, tuple)) else item for item in value)
