"""Draws a stored result: `python -m benchmarks.pictures benchmarks/results/NAME.json [--out docs/images]`.

    speed.png               each layer's time in every library, beside the floor
    roofline-channels.png   what the layers of each family of kernels reach, below what the machine allows them
    roofline-columns.png
    roofline-pixels.png
    roofline-scale.png

The result is one of `benchmarks.run`, or a file with such a one under "table"; then the rooflines also have the layers
under "channels_first", and for families that none of these falls to those under "random". A family without any layer
has no picture. Needs matplotlib. `docs/speed.md` says how to read them.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from PIL import Image

from benchmarks.peers import FRONT_ENDS, OURS, PEERS
from benchmarks.readme import table_of
from benchmarks.report import FAMILIES, MEASUREMENTS, PASSES, family, verdict

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


class Point(NamedTuple):
    """One measurement of one case in a roofline.

    Attributes:
        name: of the case.
        intensity: operations for each byte that must move.
        ours: our GFLOP/s.
        peer: the best peer, or None.
        best: its GFLOP/s.
        roof: GFLOP/s that the machine's limits allow on this case, or None where they are not known.
    """

    name: str
    intensity: float
    ours: float
    peer: str | None
    best: float
    roof: float | None


def points(result: dict[str, Any], kind: str, what: str) -> list[Point]:
    """The cases of a family that we ran, by intensity.

    Args:
        result: what `run.py` wrote.
        kind: the family.
        what: "inference" or "training".
    """
    found = []
    for entry in result["cases"]:
        judged = verdict(entry, what)
        if judged.ours_ms is None or family(entry[what][OURS]) != kind:
            continue
        cost = entry["cost"]
        megaflops = PASSES[what] * cost["flops"] / 1e6
        floor = (entry["floor_ms"] or {}).get(what)
        found.append(
            Point(
                entry["case"]["name"],
                cost["flops"] / (cost["bytes_read"] + cost["bytes_written"]),
                megaflops / judged.ours_ms,
                judged.best_peer,
                megaflops / judged.best_ms if judged.best_ms is not None else math.nan,
                megaflops / floor if floor else None,
            )
        )
    return sorted(found, key=lambda point: point.intensity)


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


def speed(result: dict[str, Any]) -> Figure:
    """A row per case: a bar from the floor to our time, a mark for each peer's; inference beside training."""
    entries = result["cases"]
    left, right, below, above, between = 2.1, 0.12, 0.4, 0.9, 0.2
    height = above + 0.37 * len(entries) + below
    width = (WIDTH - left - right - between) / len(MEASUREMENTS)
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor=PAPER)
    for column, what in enumerate(MEASUREMENTS):
        begin = left + column * (width + between)
        box = (begin / WIDTH, below / height, width / WIDTH, 1 - (below + above) / height)
        axes = figure.add_axes(box)
        _speed_panel(axes, entries, what, width)
        names = [entry["case"]["name"] if column == 0 else "" for entry in entries]
        axes.set_yticks(range(len(entries)), names)
    names = [name for entry in entries for what in MEASUREMENTS for name in _times(entry, what)]
    _legend(figure, names, Patch(color=OURS_COLOUR, label="depthwise, from the floor on"), "floor", "|")
    return figure


def _legend(figure: Figure, names: Iterable[str], ours: Artist, limit: str, shape: str) -> None:
    """Ours, the limit, and a mark for each peer among some names."""
    marks = [ours, Line2D([], [], color=INK, marker=shape, ms=11, mew=2.2, lw=0, label=limit)]
    present = set(names)
    for name in (name for name in PEERS if name in present and name != OURS):
        marker, colour = STYLES[name]
        marks.append(Line2D([], [], marker=marker, color=colour, label=PEERS[name].title, ms=8, **EDGED))
    style: dict[str, Any] = {"frameon": False, "fontsize": 9.5, "columnspacing": 1.6, "handletextpad": 0.5}
    figure.legend(handles=marks, loc="upper center", ncols=5, **style)


def lanes(positions: Sequence[float], gap: float, count: int) -> list[int]:
    """A lane for each of some ascending positions, so that those of one lane are `gap` apart where that is possible."""
    last = [-math.inf] * count
    found = []
    for position in positions:
        free = [lane for lane in range(count) if position - last[lane] >= gap]
        lane = free[0] if free else min(range(count), key=last.__getitem__)
        last[lane] = position
        found.append(lane)
    return found


def _speed_panel(axes: Axes, entries: Sequence[dict[str, Any]], what: str, width: float) -> None:
    times = [time for entry in entries for time in _times(entry, what).values()]
    if not times:  # nobody was asked for it
        axes.set_axis_off()
        return
    floors = [entry["floor_ms"][what] for entry in entries if entry["floor_ms"]]
    lowest, highest = min([*times, *floors]) / 1.6, max(times) * 1.6
    axes.set(xscale="log", xlim=(lowest, highest), ylim=(len(entries) - 0.5, -0.5), facecolor=PAPER)
    for row, entry in enumerate(entries):
        if row % 2:
            axes.axhspan(row - 0.5, row + 0.5, color=BAND, lw=0, zorder=0)
        found = _times(entry, what)
        ours, floor = found.pop(OURS, None), (entry["floor_ms"] or {}).get(what)
        if ours is not None:
            begin = min(floor or lowest, ours)
            axes.barh(row, ours - begin, left=begin, height=0.52, color=OURS_COLOUR, zorder=2)
        if floor is not None:
            axes.plot([floor, floor], [row - 0.38, row + 0.38], color=INK, lw=2, zorder=3)
        names = sorted(found, key=found.__getitem__)
        gap = 0.11 * math.log10(highest / lowest) / width  # a mark's width in inches, as the axis has it
        for name, lane in zip(names, lanes([math.log10(found[name]) for name in names], gap, 3), strict=True):
            marker, colour = STYLES[name]
            axes.plot(
                found[name], row + (0, -0.27, 0.27)[lane], marker, color=colour, ms=7, zorder=4, **EDGED
            )
    axes.set_title(f"{WORK[what]}, ms", fontsize=10, color=INK, loc="left")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", which="major", color="#cccccc", lw=0.8)
    axes.set_axisbelow(True)
    _plain(axes)
    axes.tick_params(axis="y", length=0)


def _times(entry: dict[str, Any], what: str) -> dict[str, float]:
    found = entry[what].items()
    return {name: outcome["ms"] for name, outcome in found if "ms" in outcome and name not in FRONT_ENDS}


def _plain(axes: Axes) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=9.5)


PANEL, NAME = 4.2, 0.068
"""Inches: the height of a roofline, and that of a slanted name above it for each of its letters."""

BESIDE, NAME_GAP = 0.1, 0.19
"""Inches between cases of one intensity, and between names."""

RATE = 1.1
"""Inches that a rate of copying takes along its line."""

FEW = 4
"""So many cases need half a picture's width."""

MANY = 28
"""The names of so many are pushed over the right edge."""


def roofline(result: dict[str, Any], kind: str, beside: Sequence[str]) -> Figure | None:
    """GFLOP/s against intensity for one family, inference and training; None if no case is the family's.

    Cases of one intensity stand side by side, so that each is a column: its name, its roof, and two rates below. The
    axes are the same for all families that are drawn `beside` each other.
    """
    panels = {what: found for what in MEASUREMENTS if (found := points(result, kind, what))}
    shown = [point for found in panels.values() for point in found]
    if not shown:
        return None
    every = [point for other in beside for what in MEASUREMENTS for point in points(result, other, what)]
    intensities = [point.intensity for point in every]
    rates = [
        rate for p in every for rate in (p.ours, p.best, p.roof) if rate is not None and not math.isnan(rate)
    ]
    # On the left there is room for the rates of copying, on the right for slanted names where they are crowded.
    beyond = (
        1.6
        if max(len(points(result, other, what)) for other in beside for what in MEASUREMENTS) < MANY
        else 3.5
    )
    x_limits = (min(intensities) / 2, max(intensities) * beyond)
    y_limits = (min(rates) / 1.4, max(rates) * 1.4)

    left, right, above, below = 0.75, 0.15, 0.7, 0.6
    names = 0.35 + NAME * max(len(point.name) for point in shown)
    across = len(panels) if max(len(found) for found in panels.values()) <= FEW else 1
    width, height = WIDTH / across, names + PANEL + below
    total = above + height * (len(panels) // across)
    figure = Figure(figsize=(WIDTH, total), dpi=DPI, facecolor=PAPER)
    for index, (what, found) in enumerate(panels.items()):
        row, column = divmod(index, across)
        top, begin = total - above - row * height, column * width
        inside = width - left - right
        box = ((begin + left) / WIDTH, (top - names - PANEL) / total, inside / WIDTH, PANEL / total)
        axes = figure.add_axes(box)
        axes.set(xscale="log", yscale="log", xlim=x_limits, ylim=y_limits, facecolor=PAPER)
        _roofline_axes(axes)
        text: dict[str, Any] = {"fontsize": 10.5, "weight": "bold", "color": INK, "va": "top"}
        figure.text((begin + 0.15) / WIDTH, top / total, WORK[what], **text)
        if result["limits"] is not None:
            _roofs(axes, result, inside)
        _columns(axes, found, inside)
    ours = Line2D([], [], marker="o", color=OURS_COLOUR, label="depthwise", ms=11, **EDGED)
    _legend(figure, [point.peer for point in shown if point.peer is not None], ours, "roof of the case", "_")
    return figure


def _roofline_axes(axes: Axes) -> None:
    _plain(axes)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())
    axes.grid(color="#e4e4e4", lw=0.8)
    axes.set_axisbelow(True)
    axes.set_ylabel("GFLOP/s", fontsize=10, color=INK)
    axes.set_xlabel("operations for each byte that must move", fontsize=10, color=INK)


def _roofs(axes: Axes, result: dict[str, Any], width: float) -> None:
    """The peak of arithmetic, and the rates of copying within the sizes that the cases of the result have."""
    (x_low, x_high), (y_low, y_high) = axes.get_xlim(), axes.get_ylim()
    angle = math.atan(PANEL / math.log10(y_high / y_low) / (width / math.log10(x_high / x_low)))
    peak, copy = result["limits"]["peak_gflops"], result["limits"]["copy"]
    moved = [entry["cost"]["bytes_read"] + entry["cost"]["bytes_written"] for entry in result["cases"]]
    line: dict[str, Any] = {"color": FAINT, "lw": 0.9, "ls": (0, (4, 3)), "zorder": 1}
    text: dict[str, Any] = {"fontsize": 8, "color": "#555555", "rotation_mode": "anchor"}
    drawn: list[float] = []
    for step, found in enumerate(copy):
        rate = found["gb_per_second"]
        before, after = (copy[min(max(step + way, 0), len(copy) - 1)]["bytes"] for way in (-1, 1))
        beside_all = after < min(moved) or before > max(moved)
        begin = max(x_low, y_low / rate) * 1.04
        end = begin * 10 ** (RATE * math.cos(angle) * math.log10(x_high / x_low) / width)
        # Lines that would lie on each other are one, and those with no room for their rate below the peak are none.
        if beside_all or end * rate > peak or any(abs(math.log(rate / other)) < 0.4 for other in drawn):
            continue
        drawn.append(rate)
        axes.plot([x_low, peak / rate], [x_low * rate, peak], **line)
        axes.annotate(
            f"{_size(found['bytes'])}: {rate:.0f} GB/s",
            (begin, begin * rate),
            (-4 * math.sin(angle), 4 * math.cos(angle)),
            textcoords="offset points",
            rotation=math.degrees(angle),
            **text,
        )
    axes.plot([x_low, x_high], [peak, peak], **line)
    axes.text(x_high, peak * 1.03, f"{peak:.0f} GFLOP/s", ha="right", va="bottom", **text)


def _size(size: int) -> str:
    return f"{size / 2**20:.0f} MiB" if size >= 2**20 else f"{size / 2**10:.0f} KiB"


def _columns(axes: Axes, found: Sequence[Point], width: float) -> None:
    """Names above, joined to their cases' roofs; our rate and the best peer's on a line."""
    (x_low, x_high), (_, y_high) = axes.get_xlim(), axes.get_ylim()
    inches = width / math.log10(x_high / x_low)
    logarithms = [math.log10(point.intensity) for point in found]
    columns = [10**x for x in spread(logarithms, BESIDE / inches)]
    names = [10**x for x in spread(logarithms, NAME_GAP / inches)]
    for point, x, name_x in zip(found, columns, names, strict=True):
        rates = [rate for rate in (point.ours, point.best) if not math.isnan(rate)]
        top = max([*rates, *([point.roof] if point.roof is not None else [])])
        axes.plot([name_x, x, x], [y_high, top, min(rates)], color="#bdbdbd", lw=0.8, zorder=2, clip_on=False)
        axes.plot([x, x], [min(rates), max(rates)], color=INK, lw=1.1, zorder=3)
        if point.roof is not None:
            half = 10 ** (0.4 * BESIDE / inches)
            axes.plot(
                [x / half, x * half], [point.roof] * 2, color=INK, lw=2.4, zorder=3, solid_capstyle="butt"
            )
        # The smaller mark lies on the larger one where the two rates are alike.
        axes.plot(x, point.ours, "o", color=OURS_COLOUR, ms=11, zorder=4, **EDGED)
        if point.peer is not None:
            marker, colour = STYLES[point.peer]
            axes.plot(x, point.best, marker, color=colour, ms=6.5, zorder=5, **EDGED)
        axes.text(
            name_x, y_high * 1.02, point.name, fontsize=9, color=INK, rotation=60, rotation_mode="anchor"
        )


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as a PNG of few colours, a fraction of the size of one of all."""
    canvas: Any = FigureCanvasAgg(figure)  # its drawing methods are not typed
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3].copy())
    picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        path, format="PNG", optimize=True
    )


def draw(result: dict[str, Any], out: Path) -> list[Path]:
    """Writes every picture that a result has something for; returns where.

    Args:
        result: what `run.py` wrote, or a dictionary that has it under "table".
        out: the folder, which is made if need be.

    Raises:
        ValueError: there is no such result in it, or no time in that.
    """
    table = table_of(result)
    if not any(_times(entry, what) for entry in table["cases"] for what in MEASUREMENTS):
        raise ValueError("expected a result with times in it, got none")
    # Some layers are in both.
    layers = {entry["case"]["name"]: entry for entry in result.get("channels_first", {}).get("cases", [])}
    layers |= {entry["case"]["name"]: entry for entry in table["cases"]}
    both = {**table, "cases": list(layers.values())}
    figures: dict[str, Figure | None] = {"speed": speed(table)}
    common = [kind for kind in FAMILIES if any(points(both, kind, what) for what in MEASUREMENTS)]
    other = [kind for kind in FAMILIES if kind not in common] if "random" in result else []
    for source, kinds in ((both, common), (result.get("random", {}), other)):
        for kind in kinds:
            figures[f"roofline-{kind}"] = roofline(source, kind, kinds)
    return write(figures, out)


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


def main(argv: Sequence[str] | None = None) -> int:
    """Draws the result that the command line names; returns the exit status."""
    return run("pictures", (__doc__ or "").splitlines()[0], draw, argv)


if __name__ == "__main__":
    sys.exit(main())
