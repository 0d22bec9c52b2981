"""Draws a stored result: `python -m benchmarks.pictures benchmarks/results/NAME.json [--out docs/images]`.

    speed.png               each layer's time in every library, beside the floor
    roofline-channels.png   what the layers of each family of kernels reach, below what the machine allows them
    roofline-columns.png
    roofline-karatsuba.png
    roofline-pixels.png
    roofline-scale.png

The result is one of `benchmarks.run`, or a file with such a one under "table"; then the rooflines also have the layers
under "channels_first", and for families that none of these falls to those under "random" and "large". A family without
any layer has no picture. Needs matplotlib. `docs/speed.md` says how to read them.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.drawing import (
    BAND,
    DPI,
    EDGED,
    INK,
    OURS_COLOUR,
    PAPER,
    STYLES,
    WIDTH,
    WORK,
    legend,
    plain,
    run,
    write,
)
from benchmarks.peers import FRONT_ENDS, OURS
from benchmarks.readme import table_of
from benchmarks.report import ELSEWHERE, FAMILIES, MEASUREMENTS
from benchmarks.roofline import points, roofline


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
    legend(figure, names, Patch(color=OURS_COLOUR, label="depthwise, from the floor on"), "floor", "|")
    return figure


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
    plain(axes)
    axes.tick_params(axis="y", length=0)


def _times(entry: dict[str, Any], what: str) -> dict[str, float]:
    found = entry[what].items()
    return {name: outcome["ms"] for name, outcome in found if "ms" in outcome and name not in FRONT_ENDS}


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
    others = [entry for name in ELSEWHERE if name in result for entry in result[name]["cases"]]
    elsewhere = {**table, "cases": others}
    other = [kind for kind in FAMILIES if kind not in common] if others else []
    for source, kinds in ((both, common), (elsewhere, other)):
        for kind in kinds:
            figures[f"roofline-{kind}"] = roofline(source, kind, kinds)
    return write(figures, out)


def main(argv: Sequence[str] | None = None) -> int:
    """Draws the result that the command line names; returns the exit status."""
    return run("pictures", (__doc__ or "").splitlines()[0], draw, argv)


if __name__ == "__main__":
    sys.exit(main())
