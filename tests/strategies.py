"""Hypothesis strategies over the whole space of arguments: every call drawn is a valid one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from depthwise import native
from depthwise.activations import ACTIVATIONS, ActivationLike
from tests.cases import DTYPES, EXACT_ACTIVATIONS, LAYOUTS, Case
from tests.memory import Memory

isas = st.sampled_from(native.supported_isas())
dtypes = st.sampled_from(list(DTYPES))
thread_counts = st.sampled_from([1, 2, 3, 5])

# Small numbers shrink well and are where most edges are; larger ones lie around whole vectors of any instruction set.
# Repetition makes a number likelier.
channel_counts = st.sampled_from(
    [*range(1, 10), 0, *[12, 15, 16, 17, 20, 31, 32, 33, 35, 47, 63, 64, 65, 67, 128, 130, 256] * 2]
)
batches = st.sampled_from([1, 1, 1, 2, 2, 3, 0])
tap_counts = st.sampled_from([*[1, 2, 3, 4, 5, 6, 7, 8, 9] * 4, 11, 13, 27, 31])
extra_pixels = st.sampled_from([*range(13), *range(13), 15, 16, 17, 24, 33, 40, 66])
pad_amounts = st.sampled_from([0, 1, 2, 3, 4, 7, 12])
stride_steps = st.sampled_from([1, 1, 2, 2, 3, 4])
dilations = st.sampled_from([1, 1, 2, 3])

alphas = st.floats(0.0, 3.0, width=16)
activations: st.SearchStrategy[ActivationLike] = (
    st.none()
    | st.sampled_from(sorted(ACTIVATIONS))
    | st.tuples(st.sampled_from(["leaky_relu", "elu"]), alphas)
)
exact_activations = st.sampled_from(EXACT_ACTIVATIONS)


def paddings() -> st.SearchStrategy[Any]:
    sides = st.tuples(pad_amounts, pad_amounts)
    return st.sampled_from(["valid", "same"]) | pad_amounts | sides | st.tuples(sides, sides)


@st.composite
def cases(draw: st.DrawFn, activations: st.SearchStrategy[ActivationLike] = exact_activations) -> Case:
    """Any call, of up to some hundred thousand multiplications."""
    kernel_size = draw(tap_counts), draw(tap_counts)
    strides = draw(stride_steps), draw(stride_steps)
    dilation_rate: Sequence[int] = (draw(dilations), draw(dilations))
    padding = draw(paddings())
    if padding == "same" and draw(st.sampled_from([False, False, False, True])):
        dilation_rate = draw(st.permutations([dilation_rate[0], 97]))  # most taps lie far outside

    def size(axis: int) -> int:
        """The dilated kernel must fit in the padded image."""
        window = (kernel_size[axis] - 1) * dilation_rate[axis] + 1
        extra: int = draw(extra_pixels)
        if padding == "same":
            return 1 + extra
        if padding == "valid":
            return window + extra
        amount = padding if isinstance(padding, int) else padding[axis]
        total = 2 * amount if isinstance(amount, int) else sum(amount)
        return max(0, window - total) + extra

    height, width = size(0), size(1)
    taps = kernel_size[0] * kernel_size[1]
    multiplier = draw(st.integers(1, 5))
    affordable = max(2, 4_000_000 // (taps * multiplier * (height + 8) * (width + 8)))
    return Case(
        (height, width),
        kernel_size,
        channels=min(affordable, draw(channel_counts)),
        batch=draw(batches),
        multiplier=multiplier,
        strides=strides,
        padding=padding,
        dilation_rate=(dilation_rate[0], dilation_rate[1]),
        data_format=draw(st.sampled_from(LAYOUTS)),
        activation=draw(activations),
        bias=draw(st.booleans()),
    )


@st.composite
def memories(draw: st.DrawFn) -> Memory:
    """Any way for a 4-D array to lie in memory."""
    return Memory(
        order=tuple(draw(st.permutations(range(4)))),
        steps=draw(st.tuples(*[st.sampled_from([1, 1, 1, 2, 3])] * 4)),
        backwards=draw(st.tuples(*[st.booleans()] * 4)),
    )
