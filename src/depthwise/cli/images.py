"""Image files -> arrays for the op, and the op's results -> image files."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from depthwise.cli.errors import CliError
from depthwise.cli.kernels import Kernel

__all__ = ["Photo", "Shades", "choose_shades", "read_image", "render", "written_atomically"]

# What each of Pillow's modes is converted to before it becomes an array. Colour spaces other than RGB are only ways
# to store a picture, and a palette's indices are not brightnesses, so both become what is seen.
_READ_AS = {
    "1": "L",
    "L": "L",
    "La": "LA",
    "LA": "LA",
    "RGB": "RGB",
    "RGBA": "RGBA",
    "RGBa": "RGBA",
    "PA": "RGBA",
}
_GREY_16 = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})

# Share of the values of a signed result that its shades leave out at both ends: some pixels on a hard edge are so much
# stronger than the rest that the picture would else be flat grey.
_CLIPPED_SHARE = 0.005


@dataclass(frozen=True)
class Photo:
    """A picture as the op takes it.

    Attributes:
        pixels: float32 of shape (1, height, width, channels), black 0 and white 1. Channels are L, LA, RGB or RGBA.
        bits: per sample in the file: 8, 16, or 32 for files of integers or floats without a fixed white, whose largest
            absolute value becomes 1.
    """

    pixels: NDArray[np.float32]
    bits: int

    @property
    def channels(self) -> int:
        """How many there are: 1 to 4."""
        return int(self.pixels.shape[3])


@dataclass(frozen=True)
class Shades:
    """Which value of a result is painted black and which white; what lies outside is clipped.

    Attributes:
        black, white: the two values.
        natural: whether they are 0 and 1, the input's own, so that the result is a picture like the input.
    """

    black: float
    white: float
    natural: bool


def read_image(path: Path) -> Photo:
    """Read any file that Pillow reads; of several frames the first. The camera's orientation is applied.

    Raises:
        CliError: there is no such file, or it is not an image that Pillow can read.
    """
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            image.load()
    except UnidentifiedImageError:
        raise CliError(f"cannot read {path}: not an image file that Pillow knows") from None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise CliError(f"cannot read {path}: {reason}") from error
    samples, bits = _samples(image)
    if samples.ndim == 2:
        samples = samples[:, :, None]
    return Photo(np.ascontiguousarray(samples[None]), bits)


def _samples(image: Image.Image) -> tuple[NDArray[np.float32], int]:
    if image.mode in _GREY_16:
        return np.asarray(image).astype(np.float32) / np.float32(65535), 16
    if image.mode in ("I", "F"):
        values = np.asarray(image).astype(np.float32)
        peak = float(np.max(np.abs(values), initial=0.0, where=np.isfinite(values)))
        return values / np.float32(peak or 1.0), 32
    mode = _READ_AS.get(image.mode, "RGBA" if image.has_transparency_data else "RGB")
    return np.asarray(image.convert(mode)).astype(np.float32) / np.float32(255), 8


def choose_shades(result: NDArray[np.float32], kernel: Kernel) -> Shades:
    """Which values to paint black and white.

    Filters that sum to 1 keep flat areas as they are, so their result is shown as the input was. Others are shown
    from 0 up or, when they go below, with 0 as mid-grey.

    Args:
        result: of any shape.
        kernel: (kh, kw, C, M), the one that gave the result.
    """
    if np.allclose(kernel.sum(axis=(0, 1)), 1.0, atol=1e-3):
        return Shades(0.0, 1.0, natural=True)
    finite = result[np.isfinite(result)]
    if finite.size == 0:
        return Shades(0.0, 1.0, natural=True)
    magnitude = np.abs(finite)
    peak = float(np.quantile(magnitude, 1 - _CLIPPED_SHARE)) or float(magnitude.max()) or 1.0
    return Shades(-peak if finite.min() < 0 else 0.0, peak, natural=False)


def render(result: NDArray[np.float32], channels: int, shades: Shades, bits: int) -> Image.Image:
    """Paint a result: the M pictures of a depth multiplier M side by side in a grid, row by row.

    Args:
        result: (height, width, C * M), output channel `c * M + m`.
        channels: C: 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA). Alpha is painted only with natural shades: the
            edges of an alpha channel say nothing about how opaque a picture is.
        shades: see `choose_shades`.
        bits: 16 paints one channel in 16 bits; everything else is painted in 8.
    """
    height, width, total = result.shape
    multiplier = total // channels
    pictures = result.reshape(height, width, channels, multiplier)
    if channels in (2, 4) and not shades.natural:
        pictures = pictures[:, :, : channels - 1]
    deep = bits == 16 and pictures.shape[2] == 1
    levels = 65535 if deep else 255
    scaled = (np.nan_to_num(pictures) - shades.black) / (shades.white - shades.black)
    painted = np.round(np.clip(scaled, 0.0, 1.0) * levels).astype(np.uint16 if deep else np.uint8)

    columns = math.ceil(math.sqrt(multiplier))
    rows = math.ceil(multiplier / columns)
    gap = max(2, width // 100)
    shape = (rows * (height + gap) - gap, columns * (width + gap) - gap, painted.shape[2])
    canvas = np.zeros(shape, painted.dtype)
    for m in range(multiplier):
        top, left = (m // columns) * (height + gap), (m % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = painted[:, :, :, m]
    return Image.fromarray(canvas[:, :, 0] if canvas.shape[2] == 1 else canvas)


@contextmanager
def written_atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which appears as `path` once it is complete and never if anything fails on the way.

    Raises:
        CliError: the file cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("xb") as file:
            yield file
        partial.replace(path)
    except OSError as error:
        raise CliError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
