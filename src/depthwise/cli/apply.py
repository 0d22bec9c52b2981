"""`depthwise apply`: one kernel, one image file, one result."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import depthwise
from depthwise.activations import ActivationLike
from depthwise.arguments import PaddingLike, Pair
from depthwise.cli.errors import CliError, library_errors
from depthwise.cli.images import Shades, choose_shades, read_image, render, written_atomically
from depthwise.cli.kernels import load_kernel

__all__ = ["Applied", "apply_to_file", "default_output"]


@dataclass(frozen=True)
class Applied:
    """What was done, for the summary and for `--json`.

    Attributes:
        image, out: the files read and written.
        input_shape, kernel_shape, output_shape: (1, H, W, C), (kh, kw, C, M) and (1, H', W', C * M).
        minimum, maximum: of the result; None when it is not finite.
        milliseconds: that the op took, once, in wall-clock time.
        shades: how values became pixels; None for a .npy file, which holds the values themselves.
    """

    image: str
    out: str
    input_shape: tuple[int, ...]
    kernel_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    minimum: float | None
    maximum: float | None
    milliseconds: float
    shades: Shades | None


def default_output(image: Path, kernel: str) -> Path:
    """Where the result goes when the user does not say: into the current folder, named after image and kernel."""
    return Path(f"{image.stem}-{Path(kernel).stem}.png")


def apply_to_file(
    image: Path,
    kernel: str,
    out: Path,
    *,
    strides: Pair,
    dilation_rate: Pair,
    padding: PaddingLike,
    multiplier: int | None,
    activation: ActivationLike,
    begin: Callable[[str], None],
    done: Callable[[], None],
) -> Applied:
    """Read `image`, convolve it and write `out`.

    Args:
        image: any file that Pillow reads.
        kernel: a name or a file; see `load_kernel`.
        out: a .png file for a picture or a .npy file for the float32 array (H', W', C * M). Replaced if it exists.
        strides, dilation_rate, padding, activation: as `depthwise.depthwise_conv2d` takes them.
        multiplier: M; None takes the kernel's own.
        begin: told what is being done, as it begins.
        done: called as it ends, three times in all.

    Raises:
        CliError: anything is wrong with any of it. Nothing is written then.
    """
    suffix = out.suffix.lower()
    if suffix not in (".png", ".npy"):
        raise CliError(f"--out: expected a file name that ends in .png or .npy, got {str(out)!r}")
    if out.exists() and image.exists() and out.samefile(image):
        raise CliError(f"--out: {out} is the image itself, which would be overwritten")

    begin("reading")
    photo = read_image(image)
    weights = load_kernel(kernel, photo.channels, multiplier)
    done()

    begin("convolving")
    with library_errors():
        start = time.perf_counter()
        result = depthwise.depthwise_conv2d(
            photo.pixels,
            weights,
            strides=strides,
            dilation_rate=dilation_rate,
            padding=padding,
            activation=activation,
        )
        milliseconds = (time.perf_counter() - start) * 1e3
    done()

    begin("writing")
    shades = choose_shades(result, weights) if suffix == ".png" else None
    with written_atomically(out) as file:
        if shades is None:
            np.save(file, result[0])
        else:
            render(result[0], photo.channels, shades, photo.bits).save(file, format="PNG", optimize=True)
    done()
    return Applied(
        image=str(image),
        out=str(out),
        input_shape=photo.pixels.shape,
        kernel_shape=weights.shape,
        output_shape=result.shape,
        minimum=_finite(result.min()),
        maximum=_finite(result.max()),
        milliseconds=milliseconds,
        shades=shades,
    )


def _finite(value: np.float32) -> float | None:
    """JSON has no word for NaN and infinity."""
    return float(value) if np.isfinite(value) else None
