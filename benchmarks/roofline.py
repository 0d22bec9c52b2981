"""The rooflines of a result: a family's rates against how many operations there are for each byte."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from benchmarks.drawing import (
    DPI,
    EDGED,
    FAINT,
    INK,
    OURS_COLOUR,
    PAPER,
    STYLES,
    WIDTH,
    WORK,
    legend,
    plain,
    spread,
)
from benchmarks.peers import OURS
from benchmarks.report import MEASUREMENTS, PASSES, family, verdict

PANEL, NAME = 4.2, 0.068
"""Inches: the height of a roofline, and that of a slanted name above it for each of its letters."""

SLANT = 60
"""Degrees that a name rises by."""

BESIDE, NAME_GAP = 0.1, 0.19
"""Inches between cases of one intensity, and between names."""

RATE = 1.1
"""Inches that a rate of copying takes along its line."""

FEW = 4
"""So many cases need half a picture's width."""

BEYOND = (1.6, 2.5, 3.5, 5.0, 7.0, 10.0)
"""How far beyond the largest intensity the axis may end, as a factor: the first one that all slanted names fit."""


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


def roofline(result: dict[str, Any], kind: str, beside: Sequence[str]) -> Figure | None:
    """GFLOP/s against intensity for one family, inference and training; None if no case is the family's.

    Cases of one intensity stand side by side, so that each is a column: its name, its roof, and two rates below. The
    axes are the same for all families that are drawn `beside` each other.
    """
    families = {
        other: {what: found for what in MEASUREMENTS if (found := points(result, other, what))}
        for other in {kind, *beside}
    }
    panels = families[kind]
    shown = [point for found in panels.values() for point in found]
    if not shown:
        return None
    every = [point for other in families.values() for found in other.values() for point in found]
    rates = [
        rate for p in every for rate in (p.ours, p.best, p.roof) if rate is not None and not math.isnan(rate)
    ]
    y_limits = (min(rates) / 1.4, max(rates) * 1.4)

    left, right, above, below = 0.75, 0.15, 0.7, 0.6
    names = 0.35 + NAME * max(len(point.name) for point in shown)
    across = _across(panels)
    width, height = WIDTH / across, names + PANEL + below
    inside = width - left - right
    x_limits = _x_limits(
        [
            (found, WIDTH / _across(other) - left - right)
            for other in families.values()
            for found in other.values()
        ]
    )
    total = above + height * (len(panels) // across)
    figure = Figure(figsize=(WIDTH, total), dpi=DPI, facecolor=PAPER)
    for index, (what, found) in enumerate(panels.items()):
        row, column = divmod(index, across)
        top, begin = total - above - row * height, column * width
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
    legend(figure, [point.peer for point in shown if point.peer is not None], ours, "roof of the case", "_")
    return figure


def _across(panels: Mapping[str, Sequence[Point]]) -> int:
    """How many of a family's panels stand side by side."""
    return len(panels) if max(map(len, panels.values()), default=0) <= FEW else 1


def _x_limits(panels: Sequence[tuple[Sequence[Point], float]]) -> tuple[float, float]:
    """The axis of panels, each of so many inches: room for rates of copying on the left, for names on the right."""
    intensities = [point.intensity for found, _ in panels for point in found]
    low, most = min(intensities) / 2, max(intensities)
    fitting = (
        factor
        for factor in BEYOND
        if all(_names_fit(found, (low, most * factor), width) for found, width in panels)
    )
    return low, most * next(fitting, BEYOND[-1])


def _names_fit(found: Sequence[Point], x_limits: tuple[float, float], width: float) -> bool:
    """Whether the slanted names of these cases end within an axis of so many inches."""
    return _beyond(found, _name_places(found, x_limits, width), width) <= 0


def _name_places(found: Sequence[Point], x_limits: tuple[float, float], width: float) -> list[float]:
    """Where names begin, about their cases, in inches from the left end of the axis."""
    low, high = map(math.log10, x_limits)
    inches = width / (high - low)
    return spread([(math.log10(point.intensity) - low) * inches for point in found], NAME_GAP)


def _beyond(found: Sequence[Point], places: Sequence[float], width: float) -> float:
    """How many inches names reach beyond the right end of the axis."""
    per_letter = NAME / math.tan(math.radians(SLANT))
    return max(
        place + per_letter * len(point.name) - width for point, place in zip(found, places, strict=True)
    )


def _roofline_axes(axes: Axes) -> None:
    plain(axes)
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
    """Names above, joined to their cases' roofs; our rate and the best peer's on a line.

    Where they would not all end within the axis, which has its limits, names are moved to the left.
    """
    (x_low, x_high), (_, y_high) = axes.get_xlim(), axes.get_ylim()
    inches = width / math.log10(x_high / x_low)
    logarithms = [math.log10(point.intensity) for point in found]
    columns = [10**x for x in spread(logarithms, BESIDE / inches)]
    places = _name_places(found, (x_low, x_high), width)
    left = max(0.0, _beyond(found, places, width))
    names = [x_low * 10 ** ((place - left) / inches) for place in places]
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
            name_x, y_high * 1.02, point.name, fontsize=9, color=INK, rotation=SLANT, rotation_mode="anchor"
        )
