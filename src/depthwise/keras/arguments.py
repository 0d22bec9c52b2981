"""The arguments of Keras's layers in the normal form of `Spec`, and what Keras 2 wrote about them."""

from __future__ import annotations

import functools
import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras

from depthwise import arguments
from depthwise.activations import Activation
from depthwise.arguments import Padding, Pair
from depthwise.spec import Spec

__all__ = ["Options", "count_argument", "layer_spec", "modern_arguments", "modern_config", "normalise"]


class Options(NamedTuple):
    """What is common to all depthwise layers, normalised: tuples have one entry per axis of the image."""

    kernel_size: tuple[int, ...]
    strides: tuple[int, ...]
    padding: str | tuple[Any, ...]
    depth_multiplier: int
    data_format: str
    dilation_rate: tuple[int, ...]


def normalise(
    rank: int,
    kernel_size: Any,
    strides: Any,
    padding: Any,
    depth_multiplier: Any,
    data_format: str | None,
    dilation_rate: Any,
    strided_dilation: Any,
) -> Options:
    """Check a layer's arguments.

    Raises:
        TypeError, ValueError: as `Spec` does; and for strides together with dilation, which Keras's documentation
            excludes, unless `strided_dilation` is True.
    """
    options = Options(
        _sizes("kernel_size", kernel_size, rank),
        _sizes("strides", strides, rank),
        _padding(padding, rank),
        arguments.integer_argument("depth_multiplier", depth_multiplier),
        arguments.data_format_argument(
            keras.config.image_data_format() if data_format is None else data_format
        ),
        _sizes("dilation_rate", dilation_rate, rank),
    )
    arguments.bool_argument("strided_dilation", strided_dilation)
    if max(options.strides) > 1 and max(options.dilation_rate) > 1 and not strided_dilation:
        raise ValueError(
            "strides: expected 1 together with a dilation_rate above 1, unless strided_dilation=True is given, "
            f"got strides={strides!r} and dilation_rate={dilation_rate!r}"
        )
    return options


def count_argument(name: str, value: Any) -> int:
    """A positive integer that is no argument of `Spec`, such as the filters of a pointwise convolution.

    Raises:
        TypeError, ValueError: in the words of `Spec`.
    """
    expected = f"{name}: expected a positive integer, got {value!r}"
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{expected} of type {type(value).__name__}")
    if (number := operator.index(value)) < 1:
        raise ValueError(expected)
    return number


@functools.lru_cache(maxsize=1024)
def layer_spec(options: Options, activation: Activation, use_bias: bool) -> Spec:
    """The 2-D convolution that a layer computes; one over a line is one over an image of height 1."""
    padding: Any = options.padding
    if len(options.kernel_size) == 2:
        return Spec(
            options.kernel_size,
            options.strides,
            padding,
            options.depth_multiplier,
            options.data_format,
            options.dilation_rate,
            activation,
            use_bias,
        )
    return Spec(
        (1, *options.kernel_size),
        (1, *options.strides),
        padding if isinstance(padding, str) else ((0, 0), padding),
        options.depth_multiplier,
        options.data_format,
        (1, *options.dilation_rate),
        activation,
        use_bias,
    )


def modern_arguments(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """A constructor's extra keyword arguments, without those that only a config of Keras 2 has.

    Raises:
        ValueError: as `modern_config`; or one of them is set, which would be ignored.
    """
    for key, unset in (
        ("kernel_initializer", (None, "glorot_uniform", "GlorotUniform")),
        ("kernel_regularizer", (None,)),
        ("kernel_constraint", (None,)),
    ):
        value = keywords.get(key)
        if (value.get("class_name") if isinstance(value, Mapping) else value) not in unset:
            own = key.replace("kernel", "depthwise")
            raise ValueError(f"{key}: expected none for a depthwise layer, which has {own}, got {value!r}")
    return modern_config(keywords)


def modern_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A layer's config without what only Keras 2 wrote.

    Its depthwise layers inherited keys of the ordinary convolution: they mean nothing, or must say that nothing
    is meant.

    Raises:
        ValueError: one of them asks for something else than a depthwise convolution.
    """
    result = dict(config)
    groups = result.pop("groups", 1)
    if groups not in {1, None}:
        raise ValueError(f"groups: expected 1, as Keras 2 writes it for a depthwise layer, got {groups!r}")
    for key in ("kernel_initializer", "kernel_regularizer", "kernel_constraint"):
        result.pop(key, None)
    dtype = result.get("dtype")
    if isinstance(dtype, Mapping) and dtype.get("class_name") in {"Policy", "PolicyV1"}:
        result["dtype"] = dtype["config"]["name"]
    return result


def _sizes(name: str, value: Any, rank: int) -> tuple[int, ...]:
    if rank == 2:
        return arguments.pair_argument(name, value)
    if isinstance(value, (list, tuple)) and len(value) == 1:
        (value,) = value
    return (arguments.integer_argument(name, value),)


def _padding(value: Any, rank: int) -> Padding | Pair:
    if rank == 2:
        return arguments.padding_argument(value)
    if isinstance(value, str):
        return arguments.padding_argument(value)
    before, after = arguments.pair_argument("padding", value)
    return before, after
