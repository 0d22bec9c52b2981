"""Which family of kernels runs a layer: the rules of csrc/kernels, for pictures that are drawn family by family."""

from __future__ import annotations

import math

from benchmarks.cases import Case

FAMILIES = ("channels", "columns", "pixels", "scale")

VECTOR_BYTES = {"baseline": 16, "neon": 16, "avx2": 32, "avx512": 64}
"""Bytes of a vector of each instruction set (csrc/kernels/vec.h)."""

PROPORTION = 16
"""Taps may reach over so many times the image and the kernel in the columns family (csrc/kernels/choice.h)."""


def family(case: Case, isa: str, what: str) -> str:
    """The family whose kernels run a layer, one of `FAMILIES`.

    Inference goes to the first of these that takes it, training to one of the last two (its forward pass goes where
    inference does):

    - scale: one tap without padding, but for channels-last images with channels for a vector, a stride along columns
      and no multiplier;
    - channels: a channels-last image with a stride and channels for more than a quarter of a vector, but not for one,
      without a multiplier, and few taps (`takes_few` in csrc/kernels/channels_forward.h);
    - pixels: a channels-last image with output channels for half of a vector, or with unit steps for five eighths;
    - channels: a channels-last image with output channels for a third of a vector, or a channels-first one whose
      planes are transposed (csrc/kernels/choice.h);
    - columns: for inference, before channels, a channels-first image of a kernel of few taps in a row, whose planes are
      read where they are, or of many adjacent ones; and the rest, but for dilations out of all proportion to the image,
      which go to channels after all.

    (Images of which not even a few rows of a few columns fit the second-level cache do not go to pixels. That is
    not looked at here.)

    Args:
        case: the layer.
        isa: the instruction set in use, as `depthwise.info` names it.
        what: "inference" or "training".
    """
    compute_bytes = 8 if case.dtype == "float64" else 4  # half types compute in float32
    lanes = VECTOR_BYTES[isa] // compute_bytes
    last, outputs = case.data_format == "channels_last", case.channels * case.multiplier
    if what == "inference":
        if _is_scale(case, lanes):
            return "scale"
        if _is_few(case, isa, lanes):
            return "channels"
        if last and 8 * outputs <= (5 if case.strides[1] == 1 else 4) * lanes:
            return "pixels"
        if _is_in_place(case, lanes) or _is_adjacent(case, lanes):
            return "columns"
    if last and 3 * outputs >= lanes:
        return "channels"
    if not last and _is_transposed(case, lanes):
        return "channels"
    axes = zip((case.height, case.width), case.kernel, case.dilation, strict=True)
    in_proportion = all((kernel - 1) * rate <= PROPORTION * (size + kernel) for size, kernel, rate in axes)
    return "columns" if in_proportion else "channels"


def _is_few(case: Case, isa: str, lanes: int) -> bool:
    strides, taps = math.prod(case.strides), math.prod(case.kernel)
    permutes = isa in ("avx2", "avx512") and case.dtype == "float32"
    fits = case.data_format == "channels_last" and lanes < 4 * case.channels < 4 * lanes
    if not permutes or not fits or case.multiplier > 1 or strides == 1 or taps == 1:
        return False
    width = case.output_size[1]
    vectors = math.ceil(width * case.channels / lanes)
    return 3 * width * taps < 2 * (5 * width * strides + vectors * taps)


def _is_in_place(case: Case, lanes: int) -> bool:
    """Whether planes are read and written where they are (csrc/kernels/strips_forward.h)."""
    (high, wide), (down, across), rate = case.kernel, case.strides, case.dilation
    vector_bytes = lanes * (8 if case.dtype == "float64" else 4)
    shares_loads = vector_bytes == 64
    down //= math.gcd(down, rate[0])
    widest = 3 if not shares_loads or high > 3 else 7 if high == 1 else 5
    has_tiles = (
        ((wide <= widest and high <= 7) or (shares_loads and high == wide <= 5))
        and (not shares_loads or ((wide - 1) * rate[1] <= lanes if across == 1 else rate[1] == 1))
        and across <= (3 if shares_loads else 2)
        and (down == across or down >= high)
    )
    height, width = case.output_size
    by_columns, by_channels = _vectors(case, lanes)
    return (
        case.dtype in ("float32", "float64")
        and vector_bytes > 16
        and case.data_format == "channels_first"
        and has_tiles
        and width >= lanes
        and 4 * by_columns * (height + 3)
        <= (5 if across == 3 else 8 if wide <= 3 else 6) * by_channels * height
    )


def _is_adjacent(case: Case, lanes: int) -> bool:
    """Whether planes are staged for many adjacent taps (csrc/kernels/choice.h)."""
    (high, wide), width = case.kernel, case.output_size[1]
    by_columns, by_channels = _vectors(case, lanes)
    return (
        case.data_format == "channels_first"
        and case.multiplier == 1
        and case.strides == case.dilation == (1, 1)
        and width >= lanes
        and high > 1
        and high * wide >= 36
        and 20 * by_columns <= 21 * by_channels
    )


def _vectors(case: Case, lanes: int) -> tuple[int, int]:
    """Vectors that a row of results of every channel takes, along its columns and along channels."""
    width, channels = case.output_size[1], case.channels
    return channels * math.ceil(width / lanes), width * math.ceil(channels / lanes)


def _is_transposed(case: Case, lanes: int) -> bool:
    """Whether channels-first images are transposed, for vectors along channels (csrc/kernels/choice.h)."""
    along = 0 if _is_turned(case, lanes) else 1
    size, stride, channels = case.output_size[along], case.strides[along], case.channels
    wide, multiplied = 2 * size > 3 * lanes, case.multiplier > 1
    # With one instruction, which neither baseline nor NEON have, elements are repeated as they are loaded.
    repeats = case.dtype != "float64" and lanes > 4 and case.multiplier < lanes
    if multiplied and wide and (channels < lanes or not repeats):
        return False
    narrow = 3 * size < 2 * lanes * math.ceil(size / lanes) or stride >= 3
    many_taps = math.prod(case.kernel) >= 64
    if channels >= lanes:
        by_columns, by_channels = channels * math.ceil(size / lanes), size * math.ceil(channels / lanes)
        tenths = 11 if multiplied and math.prod(case.kernel) < 16 else 9
        fuller = 10 * (1 if multiplied else stride) * by_columns <= tenths * by_channels
        return (multiplied and not wide) or narrow or many_taps or not fuller
    return (narrow and not multiplied and 2 * channels >= lanes) or (
        (narrow or many_taps) and 4 * channels >= 3 * lanes
    )


def _is_turned(case: Case, lanes: int) -> bool:
    """Whether the columns family works with rows and columns exchanged (csrc/kernels/turned.h)."""
    size = case.output_size
    axes = zip(case.kernel, case.dilation, case.strides, strict=True)
    reach = [(kernel - 1) * rate // stride for kernel, rate, stride in axes]

    def vectors(along: int) -> int:
        rows, columns = size[1 - along], size[along]
        by_row = rows * math.ceil(columns / lanes)
        if columns >= lanes:
            return by_row
        return min(by_row, math.ceil(rows * (columns + reach[along]) / lanes))

    return size[1] < lanes and 3 * vectors(0) <= 2 * vectors(1)


def _is_scale(case: Case, lanes: int) -> bool:
    padded = case.padding not in ("same", "valid") and any(map(any, case.padding))
    if case.kernel != (1, 1) or padded:
        return False
    unit, last = case.strides[1] == 1, case.data_format == "channels_last"
    return unit or not last or case.multiplier > 1 or case.channels < lanes
