"""Draws a result of `benchmarks.profiles`: `python -m benchmarks.profile_pictures NAME.json [--out docs/images]`.

    profile-channels.png    what the time of the layers of each family of kernels goes into, inference above training
    profile-columns.png
    profile-karatsuba.png
    profile-pixels.png
    profile-scale.png

The layers are those of the suite's table in both layouts; of a family that has none of these, others. A family
without any layer has no picture. Needs matplotlib. `docs/speed.md` says how to read them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks import cases
from benchmarks.drawing import DPI, INK, OURS_COLOUR, PAPER, WIDTH, WORK, run, write
from benchmarks.profiles import WHOLE, tiles_rate
from benchmarks.report import FAMILIES, MEASUREMENTS, family
from benchmarks.sampling import PARTS

COLOURS = dict(zip(PARTS, (OURS_COLOUR, "#0072b2", "#56b4e9", "#e69f00", "#c9c9c9", "#777777"), strict=True))

NAMES, FIGURES, ROW, ABOVE, BELOW = 2.6, 1.5, 0.26, 0.3, 0.35
"""Inches: for the layers' names, for the figures beside the bars, a row, what a panel has above and below its rows."""

LEGEND = 0.5
"""Inches of the legend on top."""


def layers_of(result: Mapping[str, Any], kind: str, what: str) -> list[dict[str, Any]]:
    """The layers of a family that a picture shows for one measurement.

    Args:
        result: what `profiles.measure` returned.
        kind: the family.
        what: "inference" or "training".
    """
    found = [entry for entry in result["profiles"] if family(entry.get(what)) == kind]
    whole = [entry for entry in found if any(name in WHOLE for name in entry["sections"])]
    return whole or found


def picture(result: Mapping[str, Any], kind: str) -> Figure | None:
    """A row per layer, cut into the parts of the time; None if no layer is the family's."""
    panels = {what: found for what in MEASUREMENTS if (found := layers_of(result, kind, what))}
    if not panels:
        return None
    heights = [ABOVE + ROW * len(found) + BELOW for found in panels.values()]
    total = LEGEND + sum(heights)
    figure = Figure(figsize=(WIDTH, total), dpi=DPI, facecolor=PAPER)
    top = total - LEGEND
    for (what, found), height in zip(panels.items(), heights, strict=True):
        bottom = (top - height + BELOW) / total
        box = (NAMES / WIDTH, bottom, 1 - (NAMES + FIGURES) / WIDTH, ROW * len(found) / total)
        _panel(figure.add_axes(box), result, found, what)
        figure.text(
            0.15 / WIDTH, (top - 0.02) / total, WORK[what], fontsize=10.5, weight="bold", color=INK, va="top"
        )
        top -= height
    patches = [Patch(color=colour, label=part) for part, colour in COLOURS.items()]
    style: dict[str, Any] = {"frameon": False, "fontsize": 9.5, "columnspacing": 1.6, "handletextpad": 0.5}
    figure.legend(handles=patches, loc="upper center", ncols=len(patches), **style)
    return figure


def _panel(axes: Axes, result: Mapping[str, Any], found: Sequence[dict[str, Any]], what: str) -> None:
    peak, threads = result["limits"]["peak_gflops"], result["settings"]["threads"]
    rows = range(len(found))
    begins = [0.0] * len(found)
    for part, colour in COLOURS.items():
        shares = [100 * entry[what]["parts"][part] for entry in found]
        axes.barh(rows, shares, left=begins, height=0.78, color=colour)
        begins = [begin + share for begin, share in zip(begins, shares, strict=True)]
    axes.set(xlim=(0, 100), ylim=(len(found) - 0.5, -0.5), facecolor=PAPER)
    axes.set_yticks(rows, [cases.from_json(entry["case"]).name for entry in found])
    axes.xaxis.set_major_formatter("{x:.0f} %")
    axes.tick_params(colors=INK, labelsize=9)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    text: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "fontsize": 9, "color": INK}
    headings = ((1.09, "us"), (1.19, "tiles"))
    for place, heading in headings:
        axes.text(place, -0.6, heading, ha="right", va="bottom", **text)
    for row, entry in enumerate(found):
        rate = tiles_rate(entry, what, peak, threads)
        figures = (f"{1e3 * entry[what]['ms']:.0f}", f"{rate:.0%}")
        for (place, _), figure in zip(headings, figures, strict=True):
            axes.text(place, row, figure, ha="right", va="center", **text)


def draw(result: Mapping[str, Any], out: Path) -> list[Path]:
    """Writes the picture of every family that has layers in a result; returns where.

    Raises:
        ValueError: it is no result of `benchmarks.profiles`, or an empty one.
    """
    if not result.get("profiles"):
        raise ValueError("expected a result of benchmarks.profiles with layers in it, got none")
    return write({f"profile-{kind}": picture(result, kind) for kind in FAMILIES}, out)


def main(argv: Sequence[str] | None = None) -> int:
    """Draws the result that the command line names; returns the exit status."""
    return run("profile_pictures", (__doc__ or "").splitlines()[0], draw, argv)


if __name__ == "__main__":
    sys.exit(main())
