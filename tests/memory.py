"""Arrays that lie in memory in unusual ways: strided, reversed, permuted, with gaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Memory:
    """How a 4-D array lies in memory.

    Attributes:
        order: the axes, from the one with the largest stride to the one with the smallest.
        steps: for each axis, every how many elements of the buffer belong to the array.
        backwards: for each axis, whether its stride is negative.
    """

    order: tuple[int, ...] = (0, 1, 2, 3)
    steps: tuple[int, ...] = (1, 1, 1, 1)
    backwards: tuple[bool, ...] = (False, False, False, False)

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, Array]:
        """A buffer, filled with NaN, and the view of it that has this shape."""
        buffer = np.full([shape[axis] * self.steps[axis] for axis in self.order], np.nan, dtype)
        view = buffer.transpose(np.argsort(self.order))
        view = view[
            tuple(
                slice(None, None, -step if back else step)
                for step, back in zip(self.steps, self.backwards, strict=True)
            )
        ]
        assert view.shape == shape
        return buffer, view

    def place(self, array: Array) -> Array:
        """The array's values in this memory; what lies between them is NaN."""
        _, view = self.allocate(array.shape, array.dtype)
        view[...] = array
        return view


CONTIGUOUS = Memory()
FORTRAN = Memory(order=(3, 2, 1, 0))
REVERSED = Memory(backwards=(True, True, True, True))
SPREAD = Memory(steps=(2, 3, 2, 3))
CHANNELS_SWAPPED = Memory(order=(0, 3, 1, 2))
EVERYTHING = Memory(order=(2, 0, 3, 1), steps=(1, 2, 3, 2), backwards=(False, True, False, True))

MEMORIES = {
    "contiguous": CONTIGUOUS,
    "fortran": FORTRAN,
    "reversed": REVERSED,
    "spread": SPREAD,
    "channels swapped": CHANNELS_SWAPPED,
    "everything": EVERYTHING,
}
