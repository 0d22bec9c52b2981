"""The arguments of a depthwise convolution, one by one: as data, and as the checks that `Spec` runs on them.

`ARGUMENTS` is what command lines, forms and reference pages are made from. The checks below it take whatever
a caller passed and return the one normal form, or raise.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, NoReturn, SupportsIndex, TypeAlias, cast

from depthwise.activations import ACTIVATIONS

__all__ = ["ARGUMENTS", "Argument", "DataFormat", "Padding", "PaddingLike", "Pair", "PairLike"]

Pair: TypeAlias = tuple[int, int]  # always (height, width)
DataFormat: TypeAlias = Literal["channels_last", "channels_first"]
Padding: TypeAlias = Literal["valid", "same"] | tuple[Pair, Pair]  # ((top, bottom), (left, right))

PairLike: TypeAlias = SupportsIndex | Sequence[SupportsIndex]
PaddingLike: TypeAlias = str | SupportsIndex | Sequence[SupportsIndex] | Sequence[Sequence[SupportsIndex]]

# Up to here every product of two sizes stays inside the 64-bit integers of the compiled core.
_LARGEST: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a depthwise convolution, described for programs and people.

    Attributes:
        name: as in the signature of `Spec`.
        type: what may be passed, in words.
        help: what it does, in one or two sentences.
        required: whether it has to be given.
        default: what it is when it is not given, in plain numbers, strings, bools and tuples; None when it is
            required.
        minimum: the smallest integer allowed, where integers are.
        maximum: the largest integer allowed, where integers are.
        choices: the strings allowed, where strings are; other spellings may be accepted as well.
    """

    name: str
    type: str
    help: str
    required: bool = False
    default: object = None
    minimum: int | None = None
    maximum: int | None = None
    choices: tuple[str, ...] = ()


ARGUMENTS: Final[tuple[Argument, ...]] = (
    Argument(
        "kernel_size",
        "integer or pair of integers (height, width)",
        "Height and width of the window that slides over the image, in taps.",
        required=True,
        minimum=1,
        maximum=_LARGEST,
    ),
    Argument(
        "strides",
        "integer or pair of integers (height, width)",
        "How many pixels the window moves between neighbouring outputs, along height and width.",
        default=(1, 1),
        minimum=1,
        maximum=_LARGEST,
    ),
    Argument(
        "padding",
        "string, integer, pair of integers (height, width) or ((top, bottom), (left, right))",
        "Zeros around the image. 'valid' adds none; 'same' adds what it takes for an output of the size of "
        "the input divided by the stride and rounded up, an odd one below or to the right; integers say how "
        "many.",
        default="valid",
        minimum=0,
        maximum=_LARGEST,
        choices=("valid", "same"),
    ),
    Argument(
        "depth_multiplier",
        "integer",
        "How many filters each input channel has. The output has channels * depth_multiplier channels.",
        default=1,
        minimum=1,
        maximum=_LARGEST,
    ),
    Argument(
        "data_format",
        "string",
        "Order of the dimensions of input and output: 'channels_last' is (batch, height, width, channels), "
        "'channels_first' is (batch, channels, height, width).",
        default="channels_last",
        choices=("channels_last", "channels_first"),
    ),
    Argument(
        "dilation_rate",
        "integer or pair of integers (height, width)",
        "Distance in pixels between neighbouring taps of the window, along height and width; 1 is no gap.",
        default=(1, 1),
        minimum=1,
        maximum=_LARGEST,
    ),
    Argument(
        "activation",
        "None, string or pair (name, alpha)",
        "Function applied to every element of the output, after the bias.",
        default="linear",
        choices=tuple(ACTIVATIONS),
    ),
    Argument(
        "use_bias",
        "bool",
        "Whether one trainable number per output channel is added before the activation.",
        default=True,
    ),
)

_BY_NAME: Final[Mapping[str, Argument]] = MappingProxyType(
    {argument.name: argument for argument in ARGUMENTS}
)


def pair_argument(name: str, value: PairLike) -> Pair:
    """One integer, meant for both axes, or a pair (height, width), as a pair."""
    expected = f"a {_integers(name)} or a pair (height, width) of them"
    items = _items(value)
    if items is None:
        size = _integer_argument(name, value, value, expected)
        return size, size
    if len(items) != 2:
        raise _value_error(name, expected, value)
    height, width = (_integer_argument(name, item, value, expected) for item in items)
    return height, width


def integer_argument(name: str, value: SupportsIndex) -> int:
    """One integer within the range of the argument."""
    return _integer_argument(name, value, value, f"a {_integers(name)}")


def padding_argument(value: PaddingLike) -> Padding:
    """The name of a rule, in lower case, or the zeros on each side: ((top, bottom), (left, right))."""
    expected = (
        f"'valid', 'same', a {_integers('padding')}, a pair (height, width) of them "
        "or ((top, bottom), (left, right))"
    )
    if isinstance(value, str):
        name = value.lower()
        if name not in _BY_NAME["padding"].choices:
            raise _value_error("padding", expected, value)
        return cast(Literal["valid", "same"], name)
    items = _items(value)
    if items is None:
        amount = _integer_argument("padding", value, value, expected)
        return (amount, amount), (amount, amount)
    if len(items) != 2:
        raise _value_error("padding", expected, value)
    sides = [_items(item) for item in items]
    if sides[0] is None and sides[1] is None:
        height, width = (_integer_argument("padding", item, value, expected) for item in items)
        return (height, height), (width, width)
    if any(pair is None or len(pair) != 2 for pair in sides):
        raise _value_error("padding", expected, value)
    (top, bottom), (left, right) = (
        [_integer_argument("padding", side, value, expected) for side in pair or ()] for pair in sides
    )
    return (top, bottom), (left, right)


def data_format_argument(value: str) -> DataFormat:
    """The name of a layout, in lower case."""
    expected = "'channels_last' or 'channels_first'"
    if not isinstance(value, str):
        _raise_type_error("data_format", expected, value)
    if value.lower() not in _BY_NAME["data_format"].choices:
        raise _value_error("data_format", expected, value)
    return cast(DataFormat, value.lower())


def bool_argument(name: str, value: bool) -> bool:
    """True or False; numbers are not taken for them."""
    if not isinstance(value, bool):
        _raise_type_error(name, "True or False", value)
    return value


def sizes(name: str, value: Sequence[SupportsIndex], dimensions: tuple[str, ...]) -> tuple[int, ...]:
    """The sizes of an array with these dimensions, all of them known."""
    known = partial_sizes(name, value, dimensions)
    if None in known:
        raise TypeError(f"{name}: expected known sizes ({', '.join(dimensions)}), got {known}")
    return cast(tuple[int, ...], known)


def partial_sizes(
    name: str, value: Sequence[SupportsIndex | None], dimensions: tuple[str, ...]
) -> tuple[int | None, ...]:
    """The sizes of an array with these dimensions; None stands for a size that is not known."""
    wanted = f"{len(dimensions)} size{'s' if len(dimensions) > 1 else ''} ({', '.join(dimensions)})"
    items = _items(value)
    if items is None:
        _raise_type_error(name, wanted, value)
    try:
        result = tuple(None if item is None else _index(item) for item in items)
    except TypeError:
        raise TypeError(f"{name}: expected {wanted}, got {value!r}") from None
    if len(result) != len(dimensions):
        raise ValueError(f"{name}: expected {wanted}, got {len(result)}: {result}")
    if any(size is not None and size < 0 for size in result):
        raise ValueError(f"{name}: expected {wanted} of at least 0, got {result}")
    return result


def _items(value: object) -> tuple[object, ...] | None:
    """The items of a sequence, arrays and the list types of frameworks included; None for anything else."""
    if isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__getitem__"):
        return None
    try:
        return tuple(value)  # type: ignore[arg-type]  # __getitem__ makes it iterable, or tuple() raises
    except TypeError:  # zero-dimensional arrays, which may still be integers
        return None


def _index(value: object) -> int:
    """`value` as an int if it is an integer of any kind. Bools are integers to Python and a mistake here."""
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)  # type: ignore[arg-type]  # raises the TypeError for the rest


def _integer_argument(name: str, item: object, value: object, expected: str) -> int:
    """`item`, which is `value` or inside it, as an integer within the range of the argument."""
    try:
        number = _index(item)
    except TypeError:
        if item is value:
            _raise_type_error(name, expected, value)
        raise TypeError(
            f"{name}: expected {expected}, got {value!r}, with {item!r} of type {type(item).__name__}"
        ) from None
    argument = _BY_NAME[name]
    if argument.minimum is not None and number < argument.minimum:
        raise _value_error(name, expected, value)
    if argument.maximum is not None and number > argument.maximum:
        raise _value_error(name, f"{expected}, at most {argument.maximum}", value)
    return number


def _integers(name: str) -> str:
    return "positive integer" if _BY_NAME[name].minimum == 1 else "non-negative integer"


def _value_error(name: str, expected: str, value: object) -> ValueError:
    return ValueError(f"{name}: expected {expected}, got {value!r}")


def _raise_type_error(name: str, expected: str, value: object) -> NoReturn:
    raise TypeError(f"{name}: expected {expected}, got {value!r} of type {type(value).__name__}") from None
