"""What the pictures of results have in common: colours, marks, a legend, and how they are written."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from benchmarks.peers import OURS, PEERS

OUT = Path(__file__).resolve().parent.parent / "docs" / "images"

WIDTH = 11.0
"""Inches; with `DPI` about twice a page's width in pixels, so that dense screens show sharp lines."""

DPI, COLOURS = 160, 256

INK, FAINT, BAND, PAPER = "#222222", "#8c8c8c", "#f3f3f3", "#ffffff"
"""Text; lines behind; every other row; a ground of the pictures' own, so that a dark page shows them as a light one."""

OURS_COLOUR = "#d55e00"

STYLES = {
    "torch": ("o", "#0072b2"),
    "torch-nhwc": ("s", "#56b4e9"),
    "tensorflow": ("^", "#e69f00"),
    "jax": ("X", "#555555"),
    "onnxruntime": ("D", "#009e73"),
    "openvino": ("P", "#cc79a7"),
    "litert": ("v", "#f0e442"),
}
"""Marker and colour of each peer: Okabe and Ito's colours, which the colour-blind tell apart, and shapes besides."""

EDGED: dict[str, Any] = {"mec": INK, "mew": 0.7, "lw": 0}
"""A mark's edge, which tells it from the bar behind it."""

WORK = {
    "inference": "Inference: forward with bias and ReLU",
    "training": "Training: forward and the gradients of x, kernel and bias",
}


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """Ascending positions moved as little as may be for neighbours to be `gap` apart, each crowd about its middle."""
    crowds: list[list[float]] = []
    for position in positions:
        crowd = [position]
        while crowds and _begin(crowd, gap) < _begin(crowds[-1], gap) + len(crowds[-1]) * gap:
            crowd = crowds.pop() + crowd
        crowds.append(crowd)
    return [_begin(crowd, gap) + index * gap for crowd in crowds for index in range(len(crowd))]


def _begin(crowd: Sequence[float], gap: float) -> float:
    return sum(crowd) / len(crowd) - (len(crowd) - 1) * gap / 2


def legend(figure: Figure, names: Iterable[str], ours: Artist, limit: str, shape: str) -> None:
    """Ours, the limit, and a mark for each peer among some names."""
    marks = [ours, Line2D([], [], color=INK, marker=shape, ms=11, mew=2.2, lw=0, label=limit)]
    present = set(names)
    for name in (name for name in PEERS if name in present and name != OURS):
        marker, colour = STYLES[name]
        marks.append(Line2D([], [], marker=marker, color=colour, label=PEERS[name].title, ms=8, **EDGED))
    style: dict[str, Any] = {"frameon": False, "fontsize": 9.5, "columnspacing": 1.6, "handletextpad": 0.5}
    figure.legend(handles=marks, loc="upper center", ncols=5, **style)


def plain(axes: Axes) -> None:
    """Takes away what frames a plot, but for the axis below it."""
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=9.5)


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as a PNG of few colours, a fraction of the size of one of all."""
    canvas: Any = FigureCanvasAgg(figure)  # its drawing methods are not typed
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3].copy())
    picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        path, format="PNG", optimize=True
    )


def write(figures: Mapping[str, Figure | None], out: Path) -> list[Path]:
    """Writes the figures that there are, each under its name; returns where. The folder is made if need be."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, figure in figures.items():
        if figure is not None:
            save(figure, out / f"{name}.png")
            written.append(out / f"{name}.png")
    return written


def run(
    name: str, summary: str, draws: Callable[[dict[str, Any], Path], list[Path]], argv: Sequence[str] | None
) -> int:
    """The command line of a program that draws a stored result; returns the exit status.

    Args:
        name: the module, e.g. "pictures".
        summary: what it does, in a line.
        draws: takes the result and the folder, returns what it wrote.
        argv: the arguments; None for those of the process.
    """
    parsed = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=summary)
    parsed.add_argument("result", type=Path, help="a file of benchmarks/results")
    parsed.add_argument("--out", type=Path, default=OUT, help="the pictures' folder (default: docs/images)")
    options = parsed.parse_args(argv)
    try:
        written = draws(json.loads(options.result.read_text()), options.out)
    except (OSError, ValueError) as error:
        parsed.error(str(error))
    for path in written:
        print(path)
    return 0
