"""Sizes and calls at the edges of what the kernels are made of.

Where vectors run along channels (csrc/kernels/channels_tile.h), a row of results is divided evenly into dense tiles of
4 to 8 columns, of that row alone or of two at once (with a stride, where the kernel is higher than it), and a row of
taps into pieces of up to 5; with a dilation there are classes of columns, and of rows, that are divided each by itself.
Where a row is no work for these, a tile is 8, 4, 2 or 1 columns by 1, 2 or 4 vectors of channels. Where vectors run
along columns (planes.h), it is 8, 4, 2 or 1 vectors, taken down the rows or along a run over all of them. So each size
is tried below, at and above a whole number of tiles, with every remainder.
"""

from __future__ import annotations

import math

from tests.cases import Case

VECTOR_BYTES = {"baseline": 16, "avx2": 32, "avx512": 64, "neon": 16}


def lanes(isa: str, dtype: str) -> int:
    """Elements of a vector: half types are computed in float32."""
    return VECTOR_BYTES[isa] // (8 if dtype == "float64" else 4)


def around_vectors(v: int) -> list[int]:
    """Sizes below, at and above a whole number of vectors, and of tiles of vectors."""
    sizes = {1, 2, 3, v // 2 - 1, v // 2, v // 2 + 1, v - 1, v, v + 1, 2 * v, 2 * v + 3, 3 * v + 1}
    sizes |= {4 * v - 1, 4 * v, 4 * v + 1, 5 * v, 7 * v + v // 2, 8 * v, 8 * v + 1}
    return sorted(size for size in sizes if size > 0)


STEPS = [(stride, dilation) for stride in (1, 2, 3) for dilation in (1, 2, 3)]
"""Strides and dilations of an axis whose results share elements of the image in every way."""


def around_tiles(classes: int) -> list[int]:
    """Numbers of columns that come to less than a tile, to one, two and three of them in each of so many classes."""
    if classes == 1:
        return list(range(1, 27))
    return sorted({most * classes + more for most in (4, 8, 16) for more in (-1, 0, 1)} | {2 * classes, 26})


def around_pairs(distance: int) -> list[int]:
    """Numbers of rows around whole groups of pairs of rows that are `distance` apart."""
    return sorted({rows for k in (1, 2, 4) for rows in range(k * distance - 1, k * distance + 2) if rows > 0})


def classes_of_outputs(stride: int, dilation: int) -> int:
    """So many results apart, two of them are a whole number of taps apart (csrc/kernels/geometry.h)."""
    return dilation // math.gcd(stride, dilation)


def classes_of_inputs(stride: int, dilation: int) -> int:
    """The same for the gradient of the input."""
    return stride * classes_of_outputs(stride, dilation)


OPTIONS = [
    Case((1, 1), (1, 1), 5),
    Case((1, 1), (3, 3), 5, padding="same"),
    Case((1, 23), (1, 4), 9, padding=((0, 0), (3, 1))),
    Case((23, 1), (4, 1), 9, padding=((3, 1), (0, 0))),
    Case((1, 30), (9, 2), 3, padding=4),
    Case((12, 13), (9, 1), 7, strides=(2, 3), padding=((5, 3), (0, 2))),
    Case((11, 17), (2, 9), 4, strides=(3, 2), padding="same", multiplier=3),
    Case((9, 14), (3, 3), 6, padding=((7, 0), (0, 9))),  # more padding than kernel: rows of bias alone
    Case((5, 6), (2, 3), 6, padding=11),
    Case((5, 6), (2, 3), 6, padding=(0, 13), strides=(1, 5)),
    Case((13, 15), (3, 3), 8, dilation_rate=(2, 3)),
    Case((13, 15), (3, 3), 8, dilation_rate=(2, 3), strides=(3, 2), padding="same"),
    Case((13, 15), (4, 5), 8, dilation_rate=(3, 1), strides=(2, 2), padding=((2, 6), (1, 4))),
    Case((20, 20), (5, 3), 5, dilation_rate=(2, 4), strides=(2, 2), padding="same", multiplier=2),
    Case((20, 20), (3, 5), 5, dilation_rate=(3, 3), strides=(3, 3), padding="same"),
    Case((20, 20), (2, 2), 5, dilation_rate=(15, 16), padding=2),
    Case((6, 6), (3, 3), 5, dilation_rate=(6, 6), padding=6),
    Case((16, 16), (1, 1), 17, strides=(7, 5)),
    Case((16, 16), (2, 2), 17, strides=(7, 16), padding="same"),
    Case((30, 30), (3, 3), 3, strides=(1000, 1000)),
    Case((9, 9), (3, 3), 256, padding="same"),  # columns a multiple of 1 KiB apart
    Case((7, 7), (7, 7), 33, multiplier=4),  # one output pixel
    Case((4, 5), (3, 2), 1, batch=7, multiplier=5),
    Case((13, 26), (3, 4), 17, padding="same", dilation_rate=(2, 3)),  # classes of columns, pairs of rows
    Case((9, 12), (5, 6), 33, padding=((8, 0), (0, 13))),  # tiles, and rows of a pair, on padding alone
    Case((14, 27), (2, 7), 34, strides=(2, 3), padding=((3, 9), (20, 1)), dilation_rate=(2, 3)),
]


LARGE = [
    Case((14, 14), (27, 27), 20, padding="same"),
    Case((10, 33), (31, 5), 6, padding="same", strides=(2, 1)),
    Case((7, 9), (63, 63), 3, padding="same"),
    Case((32, 32), (31, 31), 5, multiplier=2),
    Case((9, 64), (7, 7), 293),  # several blocks of channels
    Case((300, 50), (3, 3), 20, batch=2, padding="same"),  # several blocks of rows
    Case((70, 4600), (63, 3), 1),  # several blocks of columns
    Case((9, 30000), (9, 9), 1, strides=(3, 3)),
    Case((2, 60000), (2, 2), 2, strides=(1, 2), padding="same"),
    Case((40, 41), (4, 4), 5, batch=9, strides=(2, 1), padding="same"),
]

FAR = 2**31 - 1  # the largest that any argument may be

# Out of all proportion to the image, which must cost neither time nor memory.
EXTREMES = [
    Case((5, 6), (2, 2), 3, strides=(FAR, FAR)),
    Case((5, 6), (1, 2), 20, strides=(FAR, 1), multiplier=2),
    Case((5, 6), (3, 3), 3, strides=(1, 10**9), padding="same"),
    Case((5, 6), (2, 2), 3, dilation_rate=(FAR, FAR), padding=((FAR, 0), (0, FAR))),
    Case((5, 6), (2, 3), 20, dilation_rate=(10**6, 2), padding=((10**6, 0), (2, 2))),
    Case((5, 6), (3, 3), 3, dilation_rate=(100, 1000), padding="same", strides=(2, 3)),
    Case((5, 6), (1, 1), 3, strides=(FAR, FAR), padding=FAR),
    Case((5, 6), (2, 2), 3, strides=(FAR, FAR), dilation_rate=(FAR, FAR), padding=((FAR, 3), (FAR, 0))),
    Case((1, 1), (9, 9), 3, dilation_rate=(10**7, 10**8), padding="same"),
    # Steps without a common divisor, whose product is near 2**62: twice as far, or four times, there is no number.
    Case((5, 16), (2, 3), 32, strides=(FAR, 1), dilation_rate=(FAR - 1, 1), padding=((FAR, 0), (1, 1))),
    Case(
        (5, 16),
        (2, 3),
        32,
        strides=(1519111591, 1),
        dilation_rate=(1517889155, 1),
        padding=((1519111591, 0), (1, 1)),
    ),
]
