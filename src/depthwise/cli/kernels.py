"""The kernels that the command line knows by name, and those it reads from a file.

All are correlation kernels, as everywhere in deep learning: tap (0, 0) meets the top-left pixel of the window, and
nothing is flipped. Every named kernel is a family: with a depth multiplier M it gives M related filters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from depthwise.cli.errors import CliError

__all__ = ["BUILTIN", "Kernel", "gabor", "load_kernel"]

Kernel = NDArray[np.float32]

_SOBEL_X = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float64)


def sobel(multiplier: int) -> Kernel:
    """Edges, shape (3, 3, M): the derivative along M directions, evenly spaced from 0 (to the right) to 180 degrees.

    M = 1 is Sobel's x kernel, M = 2 his x and y, M = 4 adds the diagonals.
    """
    directions = [_direction(math.pi * m / multiplier) for m in range(multiplier)]
    return _stack([x * _SOBEL_X + y * _SOBEL_X.T for x, y in directions])


def blur(multiplier: int) -> Kernel:
    """Gaussians of standard deviation 1, 2 ... M pixels, cut at 3 M and summing to 1: shape (6M+1, 6M+1, M)."""
    offsets = np.arange(-3 * multiplier, 3 * multiplier + 1)
    profiles = [np.exp(-0.5 * (offsets / sigma) ** 2) for sigma in range(1, multiplier + 1)]
    return _stack([np.outer(p, p) / p.sum() ** 2 for p in profiles])


def sharpen(multiplier: int) -> Kernel:
    """The image less 1, 2 ... M times its Laplacian: shape (3, 3, M), each filter summing to 1."""
    laplacian = np.array([[0, 1, 0], [1, -4, 1], [0, 1, 0]], np.float64)
    identity = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]], np.float64)
    return _stack([identity - amount * laplacian for amount in range(1, multiplier + 1)])


def emboss(multiplier: int) -> Kernel:
    """The image as a relief, lit from M directions evenly round the compass, the first from the top left: (3, 3, M)."""
    offsets = np.arange(-1, 2)
    filters = []
    for m in range(multiplier):
        x, y = _direction(math.pi / 4 + 2 * math.pi * m / multiplier)
        relief = math.sqrt(2) * (y * offsets[:, None] + x * offsets[None, :])
        relief[1, 1] = 1
        filters.append(relief)
    return _stack(filters)


def gabor(multiplier: int, wavelength: float = 8.0, size: int = 15) -> Kernel:
    """Oriented waves under a Gaussian, much like the first layer of a trained network: shape (size, size, M).

    Args:
        multiplier: M, the number of orientations, evenly spaced over 180 degrees.
        wavelength: of the wave, in pixels.
        size: height and width of the kernels.

    Returns:
        Filters that sum to 0 (they are blind to flat areas) and whose absolute values sum to 1 (with an input in
        [0, 1] they give values in [-0.5, 0.5]).
    """
    offsets = np.arange(size) - (size - 1) / 2
    envelope = np.exp(-0.5 * (offsets[:, None] ** 2 + offsets[None, :] ** 2) / (0.4 * wavelength) ** 2)
    filters = []
    for m in range(multiplier):
        x, y = _direction(math.pi * m / multiplier)
        along = x * offsets[None, :] + y * offsets[:, None]
        wave = envelope * np.cos(2 * math.pi / wavelength * along)
        wave -= envelope * (wave.sum() / envelope.sum())
        filters.append(wave / np.abs(wave).sum())
    return _stack(filters)


BUILTIN: Mapping[str, Callable[[int], Kernel]] = MappingProxyType(
    {"sobel": sobel, "blur": blur, "sharpen": sharpen, "emboss": emboss, "gabor": gabor}
)


def load_kernel(name: str, channels: int, multiplier: int | None) -> Kernel:
    """The kernel that `--kernel` names, for an image of `channels` channels.

    Args:
        name: a key of `BUILTIN`, or the path of a .npy file of shape (kh, kw), (kh, kw, M) or (kh, kw, C, M). The
            first two are repeated over the channels.
        channels: C, of the image.
        multiplier: M. None takes the file's, or 1. A kernel of shape (kh, kw) is repeated M times.

    Returns:
        A float32 array of shape (kh, kw, C, M).

    Raises:
        CliError: the name is unknown, the file cannot be read, or its shape does not fit.
    """
    if multiplier is not None and multiplier < 1:
        raise CliError(f"--multiplier: expected an integer of at least 1, got {multiplier}")
    if name in BUILTIN:
        return _over_channels(BUILTIN[name](multiplier or 1), channels)
    if not name.lower().endswith(".npy"):
        raise CliError(f"--kernel: expected one of {', '.join(BUILTIN)} or a .npy file, got {name!r}")
    kernel = _read_npy(Path(name))
    if kernel.ndim == 2:
        kernel = np.repeat(kernel[:, :, None], multiplier or 1, axis=2)
    if kernel.ndim == 3:
        kernel = _over_channels(kernel, channels)
    if kernel.ndim != 4:
        raise CliError(
            f"--kernel: expected {name} to hold shape (kh, kw), (kh, kw, M) or (kh, kw, C, M), got {kernel.shape}"
        )
    if kernel.shape[2] != channels:
        raise CliError(
            f"--kernel: {name} has shape {kernel.shape}, for {kernel.shape[2]} channels; the image has {channels}"
        )
    if multiplier is not None and kernel.shape[3] != multiplier:
        raise CliError(
            f"--multiplier: {name} has shape {kernel.shape}, M = {kernel.shape[3]}; got {multiplier}"
        )
    return kernel


def _read_npy(path: Path) -> Kernel:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CliError(f"--kernel: cannot read {path}: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        kind = array.dtype if isinstance(array, np.ndarray) else "an archive"
        raise CliError(f"--kernel: expected {path} to hold an array of real numbers, got {kind}")
    return array.astype(np.float32)


def _over_channels(kernel: Kernel, channels: int) -> Kernel:
    """(kh, kw, M) -> (kh, kw, channels, M), the same filters for every channel."""
    return np.repeat(kernel[:, :, None, :], channels, axis=2)


def _direction(angle: float) -> tuple[float, float]:
    """(x, y) of the unit vector at `angle` radians from x towards y, exactly 0 and 1 along the axes."""
    return round(math.cos(angle), 15), round(math.sin(angle), 15)


def _stack(filters: list[NDArray[np.float64]]) -> Kernel:
    return np.stack(filters, axis=-1).astype(np.float32)
