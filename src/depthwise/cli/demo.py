"""`depthwise demo`: depthwise kernels on a photograph, checked and timed against NumPy and SciPy.

The two stand-ins are what one would write without this package: a loop over the taps of the kernel in NumPy, and
SciPy's correlation for every channel and filter. Both are written to be as fast as NumPy and SciPy let them be.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import depthwise
from depthwise.cli import kernels
from depthwise.cli.kernels import Kernel
from depthwise.spec import Cost, Spec

__all__ = [
    "CREDIT",
    "ROUTES",
    "Filter",
    "Measurement",
    "bank",
    "load_photo",
    "measure",
    "numpy_route",
    "scipy_route",
]

Array = NDArray[np.float32]

CREDIT = "Photograph: Rachel Michetti, Pikolo Espresso Bar; CC0, from scikit-image."

# A method runs until it has had this long, or this many runs, and the fastest run counts: on a machine with other
# work to do, the fastest is the one that was disturbed least. The slowest method runs twice, once to warm up.
_SECONDS = 0.6
_RUNS = 20

# Where scipy.signal's FFT overtakes scipy.ndimage's direct sums: on the 400 x 600 photograph, 3 x 3 took them 7.5 and
# 4.8 ms, 13 x 13 took them 8.4 and 92 ms (2 cores of an AVX-512 machine, SciPy 1.17).
_FFT_FROM_TAPS = 16


@dataclass(frozen=True)
class Filter:
    """One entry of the demo's bank of kernels.

    Attributes:
        title: what it is called in tables and in the picture.
        kernel: float32 of shape (kh, kw, 3, M).
        labels: M short names, one per filter.
        signed: whether the filters sum to 0, so that results lie around 0.
        note: what else there is to say about the kernel.
    """

    title: str
    kernel: Kernel
    labels: tuple[str, ...]
    signed: bool
    note: str = ""

    @property
    def spec(self) -> Spec:
        """Stride 1 and "same" padding: results are as large as the photograph."""
        return Spec.from_kernel(self.kernel.shape, padding="same", use_bias=False)


@dataclass(frozen=True)
class Measurement:
    """What one filter did on the photograph, by three routes.

    Attributes:
        filter: the bank's entry.
        result: float32 of shape (1, H, W, 3 * M), by this package.
        cost: counted from the shapes.
        milliseconds: of the fastest run, by route: "depthwise", "numpy", "scipy".
        difference: largest absolute difference of `result` from the result of "numpy" and of "scipy".
    """

    filter: Filter
    result: Array
    cost: Cost
    milliseconds: dict[str, float]
    difference: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """All of it but the pixels, in types that JSON has."""
        return {
            "name": self.filter.title,
            "kernel_shape": self.filter.kernel.shape,
            "output_shape": self.result.shape,
            "cost": asdict(self.cost),
            "milliseconds": self.milliseconds,
            "max_abs_difference": self.difference,
        }


def load_photo() -> Array:
    """The demo's photograph, float32 of shape (1, 400, 600, 3) in [0, 1]. It is a file inside scikit-image's wheel."""
    data: Any = importlib.import_module("skimage.data")
    photo: Array = np.ascontiguousarray(data.coffee()[None], np.float32) / np.float32(255)
    return photo


def bank() -> tuple[Filter, ...]:
    """The demo's kernels: three classical ones that are the same for every channel, one with a kernel per channel."""
    return (
        Filter("Sobel edges", _on_rgb(kernels.sobel(2)), ("along x", "along y"), signed=True),
        Filter("Gaussian blur", _on_rgb(kernels.blur(2)[:, :, 1:]), ("\u03c3 = 2 px",), signed=False),
        Filter("Sharpen", _on_rgb(kernels.sharpen(1)), ("1 \u2212 Laplacian",), signed=False),
        Filter(
            "Gabor waves",
            np.stack([kernels.gabor(4, wavelength) for wavelength in (7.0, 9.0, 12.0)], axis=2),
            ("0\u00b0", "45\u00b0", "90\u00b0", "135\u00b0"),
            signed=True,
            note="wavelengths of 7, 9 and 12 pixels in R, G and B",
        ),
    )


def convolve(x: Array, kernel: Kernel) -> Array:
    """The route this package is for. x: (1, H, W, C), kernel: (kh, kw, C, M); "same" padding."""
    return depthwise.depthwise_conv2d(x, kernel, padding="same")


def numpy_route(x: Array, kernel: Kernel) -> Array:
    """The same in NumPy: plane by plane, one multiply-add over the whole plane per tap. Batch 1, odd kernel sizes.

    Long contiguous rows and a working set of two planes make this several times faster than the shorter program that
    broadcasts over the trailing (C, M).
    """
    kernel_height, kernel_width, channels, multiplier = kernel.shape
    _, height, width, _ = x.shape
    above, left = kernel_height // 2, kernel_width // 2
    padded = np.pad(x[0].transpose(2, 0, 1), ((0, 0), (above, above), (left, left)))
    planes = np.zeros((channels, multiplier, height, width), np.float32)
    product = np.empty((height, width), np.float32)
    for c, m, i, j in np.ndindex(channels, multiplier, kernel_height, kernel_width):
        np.multiply(padded[c, i : i + height, j : j + width], kernel[i, j, c, m], out=product)
        planes[c, m] += product
    return np.ascontiguousarray(planes.reshape(channels * multiplier, height, width).transpose(1, 2, 0))[None]


def scipy_route(x: Array, kernel: Kernel) -> Array:
    """The same in SciPy, per channel and filter, by whichever of its ways is the faster. Batch 1, odd kernel sizes."""
    ndimage: Any = importlib.import_module("scipy.ndimage")
    signal: Any = importlib.import_module("scipy.signal")
    channels, multiplier = kernel.shape[2:]
    planes = []
    for c in range(channels):
        plane = np.ascontiguousarray(x[0, :, :, c])
        for m in range(multiplier):
            taps = np.ascontiguousarray(kernel[:, :, c, m])
            if taps.size < _FFT_FROM_TAPS:
                planes.append(ndimage.correlate(plane, taps, mode="constant"))
            else:
                planes.append(signal.correlate(plane, taps, mode="same", method="fft"))
    y: Array = np.stack(planes, axis=-1)[None]
    return y


ROUTES: dict[str, Callable[[Array, Kernel], Array]] = {
    "depthwise": convolve,
    "numpy": numpy_route,
    "scipy": scipy_route,
}


def measure(photo: Array, entry: Filter, step: Callable[[], None] = lambda: None) -> Measurement:
    """Run one filter by every route, check the results against each other and time them.

    Args:
        photo: float32 of shape (1, H, W, 3).
        entry: of the bank.
        step: called after each route, three times in all.
    """
    results, milliseconds = {}, {}
    for name, route in ROUTES.items():
        results[name], milliseconds[name] = _fastest(route, photo, entry.kernel)
        step()
    ours = results.pop("depthwise")
    return Measurement(
        filter=entry,
        result=ours,
        cost=entry.spec.cost(photo.shape),
        milliseconds=milliseconds,
        difference={name: float(np.abs(ours - theirs).max()) for name, theirs in results.items()},
    )


def _fastest(route: Callable[[Array, Kernel], Array], x: Array, kernel: Kernel) -> tuple[Array, float]:
    y = route(x, kernel)  # warms up caches, imports and threads
    best, begin = float("inf"), time.perf_counter()
    for _ in range(_RUNS):
        start = time.perf_counter()
        y = route(x, kernel)
        end = time.perf_counter()
        best = min(best, end - start)
        if end - begin > _SECONDS:
            break
    return y, best * 1e3


def _on_rgb(kernel: Kernel) -> Kernel:
    """(kh, kw, M) -> (kh, kw, 3, M), the same filters for every channel."""
    return np.repeat(kernel[:, :, None, :], 3, axis=2)
