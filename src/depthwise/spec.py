"""The arguments of a depthwise convolution: validated once, described once.

Every front-end turns what its caller passed into a `Spec` and asks it for shapes, padding and cost, so that
all of them accept the same things and fail with the same words. Every message names the argument, says what
was expected and what was received; a wrong type is a TypeError, a wrong value a ValueError. No array library
is needed here.

The rules are those of Keras and TensorFlow: layouts NHWC (`channels_last`) and NCHW (`channels_first`),
kernels of shape (kernel height, kernel width, channels, depth multiplier), and output channel
`c * depth_multiplier + m` for filter m of input channel c.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, SupportsIndex, TypeAlias, TypeGuard, cast

from depthwise import arguments
from depthwise import cost as _cost
from depthwise.activations import Activation, ActivationLike, normalise
from depthwise.arguments import ARGUMENTS, Argument, DataFormat, Padding, PaddingLike, Pair, PairLike
from depthwise.cost import Cost

__all__ = [
    "ARGUMENTS",
    "DTYPES",
    "Argument",
    "Cost",
    "DataFormat",
    "Options",
    "Padding",
    "Spec",
    "check_dtypes",
    "hashable_options",
]

Shape: TypeAlias = tuple[int, int, int, int]
Options: TypeAlias = "tuple[int | Pair, str | int | Padding, str, int | Pair, str | Activation | None]"
PartialShape: TypeAlias = tuple[int | None, int | None, int | None, int | None]  # None: not known yet

DTYPES: Final[Mapping[str, int]] = MappingProxyType({"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2})
"""The supported dtypes by name, with their bytes per element."""

# A float64 array of so many elements has 2**63 - 1 bytes, as many as an address can tell apart.
_MOST_ELEMENTS: Final = (2**63 - 1) // 8

_DIMENSIONS: Final[Mapping[DataFormat, tuple[str, ...]]] = MappingProxyType(
    {
        "channels_last": ("batch", "height", "width", "channels"),
        "channels_first": ("batch", "channels", "height", "width"),
    }
)
_KERNEL_DIMENSIONS: Final = ("kernel height", "kernel width", "channels", "depth multiplier")
_IMAGE_DIMENSIONS: Final = ("height", "width")


@dataclass(frozen=True, slots=True, init=False)
class Spec:
    """The arguments of one depthwise convolution, normalised. Immutable, hashable, comparable.

    >>> spec = Spec(3, strides=2, padding="SAME", activation="swish")
    >>> spec.strides, spec.padding, spec.activation.name
    ((2, 2), 'same', 'silu')
    >>> spec.output_shape((None, 224, 224, 32))
    (None, 112, 112, 32)

    A pair is always (height, width). Wherever a pair is expected one integer stands for both.

    Args:
        kernel_size: height and width of the window, in taps; at least 1.
        strides: step of the window along height and width, in pixels; at least 1.
        padding: zeros around the image: "valid" (none), "same" (TensorFlow's rule: as many as it takes for an
            output of ceil(input / stride), an odd one below or to the right), an integer or a pair for as
            many on both sides, or ((top, bottom), (left, right)). Strings in any case.
        depth_multiplier: output channels per input channel; at least 1.
        data_format: "channels_last" (batch, height, width, channels) or "channels_first"
            (batch, channels, height, width), in any case.
        dilation_rate: distance between neighbouring taps along height and width, in pixels; at least 1. May
            be combined with any strides.
        activation: what is applied to the output: None, a name, a pair (name, alpha) or an `Activation`.
        use_bias: whether a bias of one number per output channel is added before the activation.

    Raises:
        TypeError: an argument is of the wrong type; bools and floats are not taken for integers.
        ValueError: an argument has a value that is not allowed.
    """

    kernel_size: Pair
    strides: Pair
    padding: Padding
    depth_multiplier: int
    data_format: DataFormat
    dilation_rate: Pair
    activation: Activation
    use_bias: bool

    def __init__(
        self,
        kernel_size: PairLike,
        strides: PairLike = (1, 1),
        padding: PaddingLike = "valid",
        depth_multiplier: SupportsIndex = 1,
        data_format: str = "channels_last",
        dilation_rate: PairLike = (1, 1),
        activation: ActivationLike = None,
        use_bias: bool = True,
    ) -> None:
        normalised = {
            "kernel_size": arguments.pair_argument("kernel_size", kernel_size),
            "strides": arguments.pair_argument("strides", strides),
            "padding": arguments.padding_argument(padding),
            "depth_multiplier": arguments.integer_argument("depth_multiplier", depth_multiplier),
            "data_format": arguments.data_format_argument(data_format),
            "dilation_rate": arguments.pair_argument("dilation_rate", dilation_rate),
            "activation": normalise(activation),
            "use_bias": arguments.bool_argument("use_bias", use_bias),
        }
        for name, value in normalised.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_kernel(
        cls,
        kernel_shape: Sequence[SupportsIndex],
        *,
        strides: PairLike = 1,
        padding: PaddingLike = "valid",
        data_format: str = "channels_last",
        dilation_rate: PairLike = 1,
        activation: ActivationLike = None,
        use_bias: bool = True,
    ) -> Spec:
        """The spec of a convolution with a kernel that is already there.

        >>> Spec.from_kernel((3, 5, 32, 2)).depth_multiplier
        2

        Args:
            kernel_shape: (kernel height, kernel width, channels, depth multiplier), all but the channels at
                least 1.
            strides, padding, data_format, dilation_rate, activation, use_bias: as in `Spec`.

        Raises:
            TypeError, ValueError: as `Spec` does; what is wrong with the shape is said of `kernel`.
        """
        height, width, _, multiplier = shape = arguments.sizes("kernel", kernel_shape, _KERNEL_DIMENSIONS)
        if min(height, width, multiplier) < 1:
            raise ValueError(
                f"kernel: expected shape ({', '.join(_KERNEL_DIMENSIONS)}) with kernel height, kernel width "
                f"and depth multiplier of at least 1, got shape {shape}"
            )
        return cls(
            (height, width), strides, padding, multiplier, data_format, dilation_rate, activation, use_bias
        )

    @property
    def window_size(self) -> Pair:
        """(height, width), in pixels, of the window of the input that one output element sees."""
        (kh, kw), (dh, dw) = self.kernel_size, self.dilation_rate
        return (kh - 1) * dh + 1, (kw - 1) * dw + 1

    def padding_amounts(self, input_size: Sequence[SupportsIndex]) -> tuple[Pair, Pair]:
        """How many zeros surround an input: ((top, bottom), (left, right)), in pixels.

        >>> Spec(3, strides=2, padding="same").padding_amounts((224, 225))
        ((0, 1), (1, 1))

        Args:
            input_size: (height, width), in pixels.
        """
        height, width = arguments.sizes("input_size", input_size, _IMAGE_DIMENSIONS)
        return self._axis_padding(0, height), self._axis_padding(1, width)

    def output_size(self, input_size: Sequence[SupportsIndex]) -> Pair:
        """(height, width) of the output for an input of `input_size` (height, width), in pixels.

        >>> Spec((5, 3), strides=(2, 1)).output_size((224, 224))
        (110, 222)

        Raises:
            ValueError: the dilated kernel does not fit in the padded input.
        """
        height, width = arguments.sizes("input_size", input_size, _IMAGE_DIMENSIONS)
        return self._axis_output(0, height), self._axis_output(1, width)

    def output_shape(self, input_shape: Sequence[SupportsIndex | None]) -> PartialShape:
        """Shape of the output for an input of `input_shape`, both in the order of `data_format`.

        >>> Spec(3, depth_multiplier=2, data_format="channels_first").output_shape((None, 3, 32, None))
        (None, 6, 30, None)

        Args:
            input_shape: four sizes; None where a size is not known, which leaves None in the output.

        Raises:
            TypeError: a size is neither an integer nor None.
            ValueError: not four sizes, a negative size, or the dilated kernel does not fit in the padded
                input.
        """
        return self._output_shape("input_shape", input_shape)

    def kernel_shape(self, channels: SupportsIndex) -> Shape:
        """(kernel height, kernel width, channels, depth multiplier) for an input of `channels` channels."""
        (known_channels,) = arguments.sizes("channels", (channels,), ("channels",))
        return (*self.kernel_size, known_channels, self.depth_multiplier)

    def check_shapes(
        self,
        input_shape: Sequence[SupportsIndex],
        kernel_shape: Sequence[SupportsIndex],
        bias_shape: Sequence[SupportsIndex] | None = None,
    ) -> Shape:
        """Check that arrays of these shapes can be convolved, and return the shape of the output.

        Args:
            input_shape: shape of `x`, in the order of `data_format`. The batch and the channels may be 0.
            kernel_shape: shape of `kernel`: (kernel height, kernel width, channels, depth multiplier).
            bias_shape: shape of `bias`: (channels * depth multiplier,); None when there is none.

        Raises:
            ValueError: a shape does not fit this spec or the other shapes.
        """
        x = arguments.sizes("x", input_shape, _DIMENSIONS[self.data_format])
        kernel = arguments.sizes("kernel", kernel_shape, _KERNEL_DIMENSIONS)
        expected = self.kernel_shape(x[self._channel_axis])
        if kernel != expected:
            raise ValueError(
                f"kernel: expected shape {expected}, which is ({', '.join(_KERNEL_DIMENSIONS)}), "
                f"for x of shape {x} with data_format '{self.data_format}', got shape {kernel}"
            )
        if bias_shape is not None:
            bias = arguments.sizes("bias", bias_shape, ("output channels",))
            output_channels = expected[2] * expected[3]
            if not self.use_bias:
                raise ValueError(f"bias: expected None, since use_bias is False, got shape {bias}")
            if bias != (output_channels,):
                raise ValueError(
                    f"bias: expected shape ({output_channels},), one number per output channel, "
                    f"for kernel of shape {kernel}, got shape {bias}"
                )
        output = cast(Shape, self._output_shape("x", x))
        if math.prod(output) > _MOST_ELEMENTS:
            raise ValueError(
                f"padding: expected an output of at most {_MOST_ELEMENTS} elements, got {self.padding!r}, "
                f"which makes it of shape {output} for x of shape {x}"
            )
        return output

    @staticmethod
    def check_cotangent(dy_shape: Sequence[int], expected: Sequence[int]) -> None:
        """Check that `dy`, the gradient with respect to the output, has the shape of the output.

        Args:
            dy_shape: shape of `dy`.
            expected: shape of the output, as `check_shapes` returned it.

        Raises:
            ValueError: the shapes differ.
        """
        if tuple(dy_shape) != tuple(expected):
            raise ValueError(
                f"dy: expected shape {tuple(expected)}, that of the output, got shape {tuple(dy_shape)}"
            )

    def cost(self, input_shape: Sequence[SupportsIndex], dtype: str = "float32") -> Cost:
        """What one forward pass over an input of `input_shape` costs.

        >>> cost = Spec(3, padding="same").cost((1, 112, 112, 32))
        >>> cost.macs, cost.parameters
        (3612672, 320)

        Args:
            input_shape: four known sizes, in the order of `data_format`.
            dtype: name of the dtype of all arrays, a key of `DTYPES`.

        Raises:
            TypeError: a size is not an integer (None included), or the dtype is not supported.
            ValueError: the input cannot be convolved; see `output_shape`.
        """
        shape = arguments.sizes("input_shape", input_shape, _DIMENSIONS[self.data_format])
        bytes_per_element = DTYPES[check_dtypes(dtype=dtype)]
        self._output_shape("input_shape", shape)
        vertical, horizontal = self._spatial_axes
        input_size = (shape[vertical], shape[horizontal])
        return _cost.count(self, shape[0], input_size, shape[self._channel_axis], bytes_per_element)

    @property
    def _channel_axis(self) -> int:
        return 3 if self.data_format == "channels_last" else 1

    @property
    def _spatial_axes(self) -> Pair:
        return (1, 2) if self.data_format == "channels_last" else (2, 3)

    def _axis_padding(self, axis: int, size: int) -> Pair:
        if self.padding == "valid":
            return 0, 0
        if self.padding == "same":
            stride, window = self.strides[axis], self.window_size[axis]
            total = max((-(-size // stride) - 1) * stride + window - size, 0)
            return total // 2, total - total // 2
        return self.padding[axis]

    def _axis_output(self, axis: int, size: int) -> int:
        before, after = self._axis_padding(axis, size)
        padded, window = before + size + after, self.window_size[axis]
        if window > padded:
            name = ("height", "width")[axis]
            raise ValueError(
                "kernel_size: expected a dilated kernel no larger than the padded input, "
                f"got {self.kernel_size} with dilation_rate {self.dilation_rate}, of {name} {window}, "
                f"for an input of {name} {size}, which is {padded} with padding {self.padding!r}"
            )
        return (padded - window) // self.strides[axis] + 1

    def _output_shape(self, name: str, input_shape: Sequence[SupportsIndex | None]) -> PartialShape:
        shape = arguments.partial_sizes(name, input_shape, _DIMENSIONS[self.data_format])
        channels = shape[self._channel_axis]
        output_channels = None if channels is None else channels * self.depth_multiplier
        height, width = (
            None if size is None else self._axis_output(axis, size)
            for axis, size in enumerate(shape[axis] for axis in self._spatial_axes)
        )
        if self.data_format == "channels_last":
            return shape[0], height, width, output_channels
        return shape[0], output_channels, height, width


def check_dtypes(**names: str | None) -> str:
    """Check that arrays have one and the same supported dtype, and return its name.

    >>> check_dtypes(x="float32", kernel="float32", bias=None)
    'float32'

    Args:
        **names: for each array, by the name of the argument, the name of its dtype; None for an array that is
            not there. The first array sets what the others must have.

    Raises:
        TypeError: a dtype is not in `DTYPES`, or differs from the first.
    """
    present = {argument: name for argument, name in names.items() if name is not None}
    if not present:
        raise TypeError("check_dtypes: expected the dtype of at least one array, got none")
    first, dtype = next(iter(present.items()))
    if dtype not in DTYPES:
        raise TypeError(f"{first}: expected one of the dtypes {', '.join(DTYPES)}, got {dtype}")
    for argument, name in present.items():
        if name != dtype:
            raise TypeError(f"{argument}: expected dtype {dtype}, that of {first}, got {name}")
    return dtype


def hashable_options(
    strides: PairLike,
    padding: PaddingLike,
    data_format: str,
    dilation_rate: PairLike,
    activation: ActivationLike,
) -> Options:
    """The options of a call in the same order, as the key of a cache that tells types apart (`typed=True`).

    Equal keys must mean equal arguments, but True == 1 == 1.0: what is neither a string, None nor made of plain
    integers is normalised, and thus checked.

    Raises:
        TypeError, ValueError: as `Spec`.
    """
    if type(strides) is not int and not _is_plain_pair(strides):
        strides = arguments.pair_argument("strides", strides)
    if type(dilation_rate) is not int and not _is_plain_pair(dilation_rate):
        dilation_rate = arguments.pair_argument("dilation_rate", dilation_rate)
    if type(padding) is not str and type(padding) is not int and not _is_plain_padding(padding):
        padding = arguments.padding_argument(padding)
    if activation is not None and type(activation) is not str:
        activation = normalise(activation)
    if type(data_format) is not str:
        data_format = arguments.data_format_argument(data_format)
    return strides, padding, data_format, dilation_rate, activation


def _is_plain_pair(value: object) -> TypeGuard[Pair]:
    return type(value) is tuple and len(value) == 2 and type(value[0]) is int and type(value[1]) is int


def _is_plain_padding(value: object) -> TypeGuard[tuple[Pair, Pair]]:
    return type(value) is tuple and len(value) == 2 and _is_plain_pair(value[0]) and _is_plain_pair(value[1])
