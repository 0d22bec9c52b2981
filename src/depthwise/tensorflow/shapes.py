"""Static shapes: what is known of them when a graph is made, checked as far as it goes.

`Spec` checks shapes of which every size is known. Here a size that is not known yet is given a value that fits, so
that the same checks find what is wrong with the others; in what an error says it is None again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from depthwise.spec import Spec

__all__ = ["StaticShape", "make_spec", "output_shape"]

StaticShape: TypeAlias = "tuple[int | None, ...] | None"  # None: not known, a size or the rank

_UNKNOWN = (None, None, None, None)


def make_spec(kernel_shape: StaticShape, **options: Any) -> Spec:
    """The spec of a call. A size of the kernel that is not known is 1 in it.

    Raises:
        TypeError, ValueError: as `Spec.from_kernel`.
    """
    kernel = _UNKNOWN if kernel_shape is None else kernel_shape
    filled = _filled(kernel, ())
    with _errors_that_say({filled: kernel}):
        return Spec.from_kernel(filled, **options)


def output_shape(
    spec: Spec, x_shape: StaticShape, kernel_shape: StaticShape, *bias_shapes: StaticShape
) -> tuple[int | None, ...]:
    """Check that tensors of these shapes can be convolved, and say what is known of the shape of the output.

    Args:
        spec: that of `make_spec` for the kernel.
        x_shape: shape of x.
        kernel_shape: shape of the kernel, which `make_spec` has accepted.
        *bias_shapes: shape of the bias, if there is one.

    Raises:
        ValueError: what is known of the shapes does not fit the spec or each other.
    """
    x = _UNKNOWN if x_shape is None else x_shape
    kernel = _UNKNOWN if kernel_shape is None else kernel_shape
    biases = [(None,) if shape is None else shape for shape in bias_shapes]
    if None not in x and None not in kernel and not any(None in bias for bias in biases):
        return spec.check_shapes(x, kernel, *biases)  # type: ignore[arg-type]

    vertical, horizontal, channel = (1, 2, 3) if spec.data_format == "channels_last" else (2, 3, 1)
    kernel_height, kernel_width, kernel_channels, multiplier = kernel
    channels = x[channel] if len(x) == 4 and x[channel] is not None else kernel_channels
    fitting = [0, 1, 1, 1]  # a batch of none is never too large
    fitting[vertical], fitting[horizontal] = spec.window_size
    fitting[channel] = 1 if channels is None else channels
    filled_x = _filled(x, fitting)
    expected = spec.kernel_shape(fitting[channel])
    filled_kernel = _filled(kernel, expected)
    outputs = expected[2] * expected[3]
    known_outputs = channels is not None and multiplier is not None
    filled_biases = [
        _filled(bias if known_outputs or len(bias) != 1 else (None,), (outputs,) * len(bias))
        for bias in biases
    ]
    partial = {
        filled_x: x,
        filled_kernel: kernel,
        expected: (kernel_height, kernel_width, channels, multiplier),
        **{filled: bias for filled, bias in zip(filled_biases, biases, strict=True) if len(bias) > 1},
    }
    with _errors_that_say(partial):
        shape: list[int | None] = list(spec.check_shapes(filled_x, filled_kernel, *filled_biases))
    unknown = {
        0: x[0] is None,
        vertical: x[vertical] is None or kernel_height is None,
        horizontal: x[horizontal] is None or kernel_width is None,
        channel: not known_outputs,
    }
    return tuple(None if unknown[axis] else size for axis, size in enumerate(shape))


def _filled(shape: tuple[int | None, ...], values: Sequence[int]) -> tuple[int, ...]:
    """The shape with values in place of sizes that are not known; one of another rank is wrong in any case."""
    values = [*values, *[1] * len(shape)]
    return tuple(value if size is None else size for size, value in zip(shape, values, strict=False))


@contextmanager
def _errors_that_say(shapes: dict[tuple[int, ...], tuple[int | None, ...]]) -> Iterator[None]:
    """Put the shapes that the caller knows in the place of those that were made of them."""
    try:
        yield
    except ValueError as error:
        text = str(error)
        for filled, partial in shapes.items():
            text = text.replace(str(filled), str(partial))
        raise ValueError(text) from None
