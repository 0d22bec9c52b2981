"""The demo's picture: the photograph, the kernels, and what each kernel makes of each channel.

A matrix: one column per filter, one row per channel. No cell depends on another row: that is what "depthwise" means.
Everything is placed in pixels, measured from the top left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from depthwise.cli.demo import CREDIT, Measurement

__all__ = ["draw"]

_DPI = 100
_MARGIN = 44
_CELL_WIDTH, _CELL_HEIGHT = 192, 128  # 3 : 2, as the photograph
_GAP, _GROUP_GAP = 8, 32
_ROW_LABELS = 34  # left of the input's channels

_TITLE_TOP = 40
_HEADINGS_TOP = 150
_KERNELS_TOP = 248
_ROWS_TOP = _KERNELS_TOP + _CELL_HEIGHT + 52
_SCALES_TOP = _ROWS_TOP + 3 * _CELL_HEIGHT + 2 * _GAP + 18
_CAPTION_TOP = _SCALES_TOP + 58
_HEIGHT = _CAPTION_TOP + 84

_INK, _FAINT, _LINE = "#1b1f24", "#5b646e", "#c9ced4"
_CHANNELS = (("R", "#b3261e"), ("G", "#1e7b34"), ("B", "#1a56a8"))
_DIVERGING = LinearSegmentedColormap.from_list(
    "depthwise", ["#08306b", "#2b78b8", "#a8cfe6", "#ffffff", "#f6b89a", "#cf4a3c", "#67000d"]
)

# Signed results are shown up to this quantile of their absolute values; the few pixels on the hardest edges saturate.
_SATURATION = 0.985


def draw(photo: NDArray[np.float32], measurements: Sequence[Measurement], file: BinaryIO) -> tuple[int, int]:
    """Draw the picture and write it as a PNG.

    Args:
        photo: float32 of shape (1, H, W, 3) in [0, 1].
        measurements: of the filters, in the order of the columns.
        file: to write to.

    Returns:
        (width, height) of the picture, in pixels.
    """
    return _Picture(photo, measurements).save(photo, file)


class _Picture:
    def __init__(self, photo: NDArray[np.float32], measurements: Sequence[Measurement]) -> None:
        columns = sum(len(m.filter.labels) for m in measurements)
        self.width = (
            2 * _MARGIN
            + _ROW_LABELS
            + (columns + 1) * _CELL_WIDTH
            + (columns - len(measurements)) * _GAP
            + len(measurements) * _GROUP_GAP
        )
        self.figure = Figure(figsize=(self.width / _DPI, _HEIGHT / _DPI), dpi=_DPI, facecolor="white")
        self._text(_MARGIN, _TITLE_TOP, "Depthwise convolution of a photograph", size=36, weight="bold")
        self._text(
            _MARGIN,
            _TITLE_TOP + 52,
            "Every channel meets filters of its own, and no channel sees another: "
            "C channels \u00d7 M filters each give C \u00d7 M output channels.",
            size=22,
            color=_FAINT,
        )
        left = self._input(photo)
        for measurement in measurements:
            left = self._group(left + _GROUP_GAP, measurement)
        self._caption()

    def save(self, photo: NDArray[np.float32], file: BinaryIO) -> tuple[int, int]:
        canvas: Any = FigureCanvasAgg(self.figure)  # its drawing methods are not typed
        canvas.draw()
        drawn = np.asarray(canvas.buffer_rgba())[:, :, :3]
        picture = _with_palette(drawn, _palette(photo))
        picture.save(file, format="PNG", optimize=True)
        return picture.size

    def _input(self, photo: NDArray[np.float32]) -> int:
        """The first column: the photograph above its three channels. Returns where the column ends."""
        left = _MARGIN + _ROW_LABELS
        self._heading(left, "Input", "400 \u00d7 600 pixels", _shape_text(photo.shape))
        self._image(left, _KERNELS_TOP, photo[0])
        self._label(left, "\u2193 its channels")
        for row, (name, color) in enumerate(_CHANNELS):
            top = _row_top(row)
            self._text(
                _MARGIN + 6, top + _CELL_HEIGHT // 2, name, size=26, weight="bold", color=color, va="center"
            )
            self._image(left, top, photo[0, :, :, row], "gray", 0.0, 1.0)
        self._scale(left, "gray", "0 to 1")
        return left + _CELL_WIDTH

    def _group(self, left: int, measurement: Measurement) -> int:
        """The columns of one kernel. Returns where they end."""
        entry, result = measurement.filter, measurement.result[0]
        kernel_height, kernel_width, _, multiplier = entry.kernel.shape
        size = f"{kernel_height}\u00d7{kernel_width} kernel, M = {multiplier}"
        shape = _shape_text(measurement.result.shape)
        self._heading(left, entry.title, f"{size}, {entry.note}" if entry.note else size, f"\u2192 {shape}")
        colors: str | LinearSegmentedColormap = "gray"
        low, high = 0.0, 1.0
        if entry.signed:
            high = float(np.quantile(np.abs(result), _SATURATION))
            low, colors = -high, _DIVERGING
        self._scale(left, colors, f"{low:.2g} to {high:.2g}".replace("-", "\u2212"))
        for m, label in enumerate(entry.labels):
            x = left + m * (_CELL_WIDTH + _GAP)
            self._kernel(x, entry.kernel[:, :, :, m])
            self._label(x, label)
            for row in range(3):
                self._image(x, _row_top(row), result[:, :, row * multiplier + m], colors, low, high)
        return left + len(entry.labels) * (_CELL_WIDTH + _GAP) - _GAP

    def _kernel(self, left: int, kernel: NDArray[np.float32]) -> None:
        """One heatmap for (kh, kw, 3) when the channels share a kernel, one for each channel when they do not."""
        peak = float(np.abs(kernel).max())
        if (kernel == kernel[:, :, :1]).all():
            x = left + (_CELL_WIDTH - _CELL_HEIGHT) // 2
            axes = self._image(x, _KERNELS_TOP, kernel[:, :, 0], _DIVERGING, -peak, peak, _CELL_HEIGHT)
            if kernel.shape[0] <= 3:
                for (i, j), value in np.ndenumerate(kernel[:, :, 0]):
                    color = "white" if abs(value) > 0.6 * peak else _INK
                    text = f"{value:.3g}".replace("-", "\u2212")
                    axes.text(j, i, text, size=_points(20), color=color, ha="center", va="center_baseline")
            return
        side = (_CELL_WIDTH - 2 * 6) // 3
        for c, (name, color) in enumerate(_CHANNELS):
            x = left + c * (side + 6)
            top = _KERNELS_TOP + (_CELL_HEIGHT - side) // 2
            self._text(x + side / 2, top - 28, name, size=20, weight="bold", color=color, ha="center")
            peak = float(np.abs(kernel[:, :, c]).max())
            self._image(x, top, kernel[:, :, c], _DIVERGING, -peak, peak, side, side)

    def _label(self, left: int, label: str) -> None:
        self._text(
            left + _CELL_WIDTH / 2,
            _KERNELS_TOP + _CELL_HEIGHT + 10,
            label,
            size=20,
            color=_FAINT,
            ha="center",
        )

    def _heading(self, left: int, title: str, first: str, second: str) -> None:
        self._text(left, _HEADINGS_TOP, title, size=24, weight="bold")
        self._text(left, _HEADINGS_TOP + 34, first, size=19, color=_FAINT)
        self._text(left, _HEADINGS_TOP + 60, second, size=19, color=_FAINT)

    def _scale(self, left: int, colors: str | LinearSegmentedColormap, values: str) -> None:
        """The colours of the cells above, from the lowest to the highest of the values that they stand for."""
        ramp = np.linspace(0.0, 1.0, 256)[None]
        self._image(left, _SCALES_TOP, ramp, colors, 0.0, 1.0, 84, 14)
        self._text(left + 94, _SCALES_TOP + 7, values, size=18, color=_FAINT, va="center_baseline")

    def _caption(self) -> None:
        lines = (
            "Shapes are (batch, height, width, channels). Column m of row c is output channel c \u00d7 M + m: "
            "channel c, filtered by its kernel m. Stride 1, padding \u201csame\u201d.",
            f"Edges and Gabor responses are signed: blue below 0, white at 0, red above. {CREDIT}",
        )
        for number, line in enumerate(lines):
            self._text(_MARGIN, _CAPTION_TOP + 30 * number, line, size=19, color=_FAINT)

    def _image(
        self,
        left: float,
        top: float,
        pixels: NDArray[np.floating],
        colors: str | LinearSegmentedColormap | None = None,
        low: float | None = None,
        high: float | None = None,
        width: float = _CELL_WIDTH,
        height: float = _CELL_HEIGHT,
    ) -> Axes:
        total = _HEIGHT
        axes = self.figure.add_axes(
            (left / self.width, 1 - (top + height) / total, width / self.width, height / total)
        )
        shrinks = pixels.shape[0] > height
        axes.imshow(
            pixels,
            cmap=colors,
            vmin=low,
            vmax=high,
            aspect="auto",
            interpolation="antialiased" if shrinks else "nearest",
        )
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set(color=_LINE, linewidth=_points(1))
        return axes

    def _text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float,
        color: str = _INK,
        weight: str = "normal",
        ha: str = "left",
        va: str = "top",
    ) -> None:
        self.figure.text(
            x / self.width,
            1 - y / _HEIGHT,
            text,
            size=_points(size),
            color=color,
            weight=weight,
            ha=ha,
            va=va,
            family="DejaVu Sans",
        )


def _palette(photo: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The 256 colours to draw with, shape (256, 3): the text's, the two scales', and the rest for the photograph.

    Colours from a palette make the file a third of the size, and a palette that Pillow picks would lose those that
    cover little.
    """
    text = [to_rgb(color) for color in (_INK, _FAINT, _LINE, *(color for _, color in _CHANNELS))]
    greys = [(level, level, level) for level in np.linspace(0.0, 1.0, 64)]
    signed = [_DIVERGING(position)[:3] for position in np.linspace(0.0, 1.0, 75)]
    own = np.round(np.array([*text, *greys, *signed]) * 255).astype(np.uint8)
    rest = 256 - len(own)
    seen = Image.fromarray(np.round(photo[0] * 255).astype(np.uint8)).quantize(rest).getpalette() or []
    photographic = np.array(seen[: 3 * rest], np.uint8).reshape(-1, 3)
    return np.concatenate([own, photographic, np.zeros((rest - len(photographic), 3), np.uint8)])


def _with_palette(pixels: NDArray[np.uint8], palette: NDArray[np.uint8]) -> Image.Image:
    """`pixels`, (H, W, 3), in the nearest of the colours of `palette`, (256, 3).

    Pillow's own search looks at six bits of each number, which turns white into something less.
    """
    height, width, _ = pixels.shape
    packed = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    colors, where = np.unique(packed, return_inverse=True)
    rgb = (colors[:, None] >> np.array([16, 8, 0], np.uint32)) & np.uint32(255)
    nearest = np.concatenate([_nearest(part, palette) for part in np.array_split(rgb, len(rgb) // 4096 + 1)])
    picture = Image.frombytes("P", (width, height), nearest[where].tobytes())
    picture.putpalette(palette.tobytes())
    return picture


def _nearest(colors: NDArray[np.uint32], palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The index into `palette`, (256, 3), of the colour next to each of `colors`, (N, 3)."""
    difference = colors[:, None].astype(np.int32) - palette[None].astype(np.int32)
    index: NDArray[np.uint8] = np.argmin((difference**2).sum(axis=2), axis=1).astype(np.uint8)
    return index


def _row_top(row: int) -> int:
    return _ROWS_TOP + row * (_CELL_HEIGHT + _GAP)


def _points(pixels: float) -> float:
    """Matplotlib measures type and lines in points, 72 to the inch."""
    return pixels * 72 / _DPI


def _shape_text(shape: tuple[int, ...]) -> str:
    return f"({', '.join(str(size) for size in shape)})"
