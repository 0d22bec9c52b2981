"""Texts of the command line -> arguments of the library.

Only the notation is checked here. What the values mean, and which of them are allowed, is the library's to say.
"""

from __future__ import annotations

from depthwise.arguments import PaddingLike
from depthwise.cli.errors import CliError

__all__ = ["parse_activation", "parse_padding", "parse_pair", "parse_shape"]


def parse_pair(option: str, text: str) -> tuple[int, int]:
    """Read `"2"` or `"2,1"` (height, width).

    Args:
        option: the option's name, for the error.
        text: what the user wrote.

    Raises:
        CliError: it is not one or two integers.
    """
    numbers = _integers(text)
    if numbers is None or len(numbers) not in (1, 2):
        raise CliError(f"{option}: expected an integer or a pair HEIGHT,WIDTH such as 2 or 2,1, got {text!r}")
    return (numbers[0], numbers[-1])


def parse_shape(option: str, text: str) -> tuple[int, int, int, int]:
    """Read the four sizes of an input, `"1,224,224,32"`.

    Raises:
        CliError: it is not four integers.
    """
    numbers = _integers(text)
    if numbers is None or len(numbers) != 4:
        raise CliError(f"{option}: expected four integers such as 1,224,224,32, got {text!r}")
    return (numbers[0], numbers[1], numbers[2], numbers[3])


def parse_padding(text: str) -> PaddingLike:
    """Read `valid`, `same`, `N`, `H,W` or `TOP,BOTTOM,LEFT,RIGHT`.

    A word is passed on as it is: the library knows which ones exist, and what to say about the others.

    Raises:
        CliError: it is neither a word nor one, two or four integers.
    """
    numbers = _integers(text)
    if numbers is None:
        if text.strip().isalpha():
            return text.strip()
        numbers = ()
    if len(numbers) == 1:
        return numbers[0]
    if len(numbers) == 2:
        return (numbers[0], numbers[1])
    if len(numbers) == 4:
        top, bottom, left, right = numbers
        return ((top, bottom), (left, right))
    raise CliError(
        f"--padding: expected valid, same, an integer, HEIGHT,WIDTH or TOP,BOTTOM,LEFT,RIGHT, got {text!r}"
    )


def parse_activation(text: str | None) -> str | tuple[str, float] | None:
    """Read `relu`, or `leaky_relu:0.1` for the activations that have a parameter.

    Raises:
        CliError: what follows the colon is not a number.
    """
    if text is None:
        return None
    name, colon, alpha = text.partition(":")
    if not colon:
        return name
    try:
        return (name, float(alpha))
    except ValueError:
        raise CliError(
            f"--activation: expected NAME or NAME:ALPHA such as leaky_relu:0.1, got {text!r}"
        ) from None


def _integers(text: str) -> tuple[int, ...] | None:
    """The comma-separated integers of `text`, or None when it is anything else."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        return None
