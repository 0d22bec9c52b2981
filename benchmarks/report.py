"""What the results say: best peers, ratios, shares of the floor, geometric means; and how they are printed.

Works on the dictionaries that `run.py` writes as JSON, so that a stored result prints as it did when it was taken:
`python -m benchmarks.report benchmarks/results/NAME.json`.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks.peers import FRONT_ENDS, OURS, PEERS

MEASUREMENTS = ("inference", "training")

PASSES = {"inference": 1, "training": 3}
"""Passes of the layer's arithmetic and traffic: forward; forward, input gradient and kernel gradient."""

FAMILIES = ("channels", "columns", "karatsuba", "pixels", "scale")
"""Families of our kernels (csrc/kernels/table.h), of which the last two have forward passes only."""

ELSEWHERE = ("random", "large")
"""The sections of a suite's result that have layers of the families that its table has none of."""


class Verdict(NamedTuple):
    """How one measurement of one case came out for us.

    Attributes:
        ours_ms: our time, or None.
        best_peer: the fastest of the others, or None.
        best_ms: its time.
        ratio: its time over ours, or None.
        gflops: our rate, counting only taps that meet the image.
        floor_share: the floor's time over ours, or None; at most about 1 where every tap is multiplied.
        moving_share: that of moving the layer's bytes and nothing else, at the rate of the moment, or None.
    """

    ours_ms: float | None
    best_peer: str | None
    best_ms: float | None
    ratio: float | None
    gflops: float | None
    floor_share: float | None
    moving_share: float | None


_ABSENT: dict[str, Any] = {"unsupported": "not installed"}


def family(outcome: Mapping[str, Any] | None) -> str | None:
    """The family of the kernel that ran a measurement of ours, of its outcome there; None where none did.

    In training it is that of the gradients: the forward pass goes where inference does.
    """
    kernel = (outcome or {}).get("kernel")
    return None if kernel is None else kernel.partition("_")[0]


def geometric_mean(values: Iterable[float]) -> float | None:
    """The geometric mean of positive numbers; None of none."""
    logarithms = [math.log(value) for value in values]
    return math.exp(math.fsum(logarithms) / len(logarithms)) if logarithms else None


def compared_times(entry: dict[str, Any], what: str) -> dict[str, float]:
    """Milliseconds of ours and of the others that it is compared with; our front-ends are neither.

    On channels-first images the others are those that were given them so.
    """
    channels_first = entry["case"]["data_format"] == "channels_first"
    return {
        name: outcome["ms"]
        for name, outcome in entry[what].items()
        if "ms" in outcome
        and name not in FRONT_ENDS
        and (name == OURS or not channels_first or PEERS[name].channels_first)
    }


def verdict(entry: dict[str, Any], what: str) -> Verdict:
    """Compares ours with the others on one case of a result."""
    times = compared_times(entry, what)
    ours = times.pop(OURS, None)
    best = min(times, key=times.__getitem__) if times else None
    best_ms = times[best] if best is not None else None
    floor, moving = ((entry.get(name) or {}).get(what) for name in ("floor_ms", "moving_ms"))
    if ours is None:
        return Verdict(None, best, best_ms, None, None, None, None)
    return Verdict(
        ours_ms=ours,
        best_peer=best,
        best_ms=best_ms,
        ratio=best_ms / ours if best_ms is not None else None,
        gflops=PASSES[what] * entry["cost"]["flops"] / ours / 1e6,
        floor_share=floor / ours if floor is not None else None,
        moving_share=moving / ours if moving is not None else None,
    )


def summary(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Geometric means over the cases of a result, and the case with the lowest ratio, for each measurement."""
    found: dict[str, Any] = {}
    for what in MEASUREMENTS:
        verdicts = [(entry["case"]["name"], verdict(entry, what)) for entry in entries]
        ratios = [(judged.ratio, name) for name, judged in verdicts if judged.ratio is not None]
        lowest = min(ratios, default=(None, None))
        shares = [judged.floor_share for _, judged in verdicts if judged.floor_share is not None]
        rates = [judged.gflops for _, judged in verdicts if judged.gflops is not None]
        found[what] = {
            "cases": len(rates),
            "gflops": geometric_mean(rates),
            "floor_share": geometric_mean(shares),
            "compared": len(ratios),
            "ratio": geometric_mean(ratio for ratio, _ in ratios),
            "lowest_ratio": lowest[0],
            "lowest_ratio_case": lowest[1],
        }
    return found


def rate_share(entry: dict[str, Any], what: str) -> float | None:
    """Our GFLOP/s on a case over those on its well-shaped neighbour; None unless both were timed."""
    beside = entry.get("neighbour")
    if beside is None:
        return None
    rate, well_shaped = (verdict(found, what).gflops for found in (entry, beside))
    return rate / well_shaped if rate is not None and well_shaped is not None else None


def milliseconds(value: float | None) -> str:
    """A duration to three digits."""
    if value is None:
        return "-"
    return f"{value:.4f}" if value < 0.1 else f"{value:.3f}" if value < 10 else f"{value:.1f}"


def _cell(outcome: dict[str, Any], best: bool) -> str:
    if "ms" in outcome:
        text = milliseconds(outcome["ms"]) + ("*" if outcome.get("slow") else "")
        return f"[bold]{text}[/bold]" if best else text
    return "-" if "unsupported" in outcome else "[red]failed[/red]"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _ratio(value: float | None) -> str:
    text = _number(value, ".2f")
    return f"[red]{text}[/red]" if value is not None and value < 1 else text


def table(result: dict[str, Any], what: str, *, every_peer: bool = True) -> Table:
    """One measurement of a result as a rich table, a line per case.

    Args:
        result: what `run.py` wrote.
        what: "inference" or "training".
        every_peer: whether each peer has a column, or only the best one of each case is named: half as wide.
    """
    entries = result["cases"]
    names = [
        name
        for name in PEERS
        if any("unsupported" not in entry[what].get(name, _ABSENT) for entry in entries)
    ]
    work = (
        "forward with bias and ReLU"
        if what == "inference"
        else "forward and the gradients of x, kernel and bias"
    )
    drawn = Table(
        title=f"{what}: {work}, in milliseconds", title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0)
    )
    drawn.add_column("case", no_wrap=True)
    columns = [name for name in names if every_peer or PEERS[name].ours]
    headings = [PEERS[name].title.replace(" ", "\n") for name in columns]
    if not every_peer:
        headings += ["best\npeer", ""]
    for heading in (*headings, "best peer\n/ ours", "ours\nGFLOP/s", "floor\n/ ours"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for entry in entries:
        judged = verdict(entry, what)
        cells = [_cell(entry[what].get(name, _ABSENT), name == judged.best_peer) for name in columns]
        if not every_peer:
            cells += [milliseconds(judged.best_ms), judged.best_peer or ""]
        rate, share = _number(judged.gflops, ".1f"), _number(judged.floor_share, ".0%")
        drawn.add_row(entry["case"]["name"], *cells, _ratio(judged.ratio), rate, share)
    means = summary(entries)[what]
    drawn.add_section()
    rate, share = _number(means["gflops"], ".1f"), _number(means["floor_share"], ".0%")
    drawn.add_row("geometric mean", *[""] * len(headings), _ratio(means["ratio"]), rate, share, style="bold")
    return drawn


def lowest(result: dict[str, Any], what: str, count: int, *, beside_neighbour: bool = False) -> Table:
    """The cases of a result on which we come out worst, as a rich table.

    Args:
        result: what `run.run_cases` returned.
        what: "inference" or "training".
        count: how many lines it has at most.
        beside_neighbour: whether worst is the lowest rate beside the well-shaped neighbour's, or beside the best peer.
    """
    ranked = []
    for index, entry in enumerate(result["cases"]):
        judged, share = verdict(entry, what), rate_share(entry, what)
        rank = share if beside_neighbour else judged.ratio
        if rank is not None:
            ranked.append((rank, index, judged, share, entry))
    measure = "GFLOP/s, ours over the well-shaped neighbour's" if beside_neighbour else "best peer over ours"
    drawn = Table(
        title=f"{what}: the lowest {min(count, len(ranked))} of {len(ranked)} by {measure}",
        title_justify="left",
        box=SIMPLE,
        padding=(0, 1, 0, 0),
    )
    drawn.add_column("case", no_wrap=True)
    headings = (
        "ours\nms",
        "best peer\nms",
        "",
        "best peer\n/ ours",
        "ours\nGFLOP/s",
        "floor\n/ ours",
        "moving\n/ ours",
    )
    for heading in headings:
        drawn.add_column(heading, justify="right", no_wrap=True)
    with_neighbours = any("neighbour" in entry for entry in result["cases"])
    if with_neighbours:
        drawn.add_column("neighbour", no_wrap=True)
        for heading in ("its\nGFLOP/s", "ours\n/ its"):
            drawn.add_column(heading, justify="right", no_wrap=True)
    for _, _, judged, share, entry in sorted(ranked, key=lambda row: row[:2])[:count]:
        cells = [milliseconds(judged.ours_ms), milliseconds(judged.best_ms)]
        cells += [PEERS[judged.best_peer].title if judged.best_peer else "", _ratio(judged.ratio)]
        cells.append(_number(judged.gflops, ".2f"))
        cells += [_number(share, ".0%") for share in (judged.floor_share, judged.moving_share)]
        if with_neighbours and "neighbour" in entry:
            beside = entry["neighbour"]
            cells += [beside["case"]["name"], _number(verdict(beside, what).gflops, ".2f")]
            cells.append(_number(share, ".2f"))
        drawn.add_row(entry["case"]["name"], *cells)
    return drawn


def show(result: dict[str, Any], console: Console) -> None:
    """Prints a result: machine, limits, both tables, what was left out and why, the summary."""
    show_machine(result, console)
    show_tables(result, console)
    show_summary(result, console)


def show_machine(result: dict[str, Any], console: Console) -> None:
    """Prints what a result was taken on and with: machine, limits, versions."""
    machine = result["machine"]
    console.print(
        f"{machine['cpu']}, {result['settings']['threads']} threads, {' '.join(machine['vector_extensions'])}, "
        f"caches {', '.join(f'{level} {size}' for level, size in machine['caches'].items())}",
        highlight=False,
    )
    limits = result["limits"]
    if limits is not None:
        copies = ", ".join(
            f"{_size(entry['bytes'])} {entry['gb_per_second']:.0f}" for entry in limits["copy"]
        )
        console.print(
            f"limits: {limits['peak_gflops']:.0f} GFLOP/s in float32; copying, GB/s read and written: {copies}",
            highlight=False,
        )
    versions = {name: number for found in result["versions"].values() for name, number in found.items()}
    console.print(", ".join(f"{name} {number}" for name, number in versions.items()), highlight=False)


def show_tables(result: dict[str, Any], console: Console) -> None:
    """Prints a line for each case of a result, in a table for each measurement."""
    for what in MEASUREMENTS:
        drawn = table(result, what)
        unlimited = console.options.update(width=10_000, max_width=10_000)
        if console.measure(drawn, options=unlimited).maximum > console.width:
            drawn = table(result, what, every_peer=False)
        console.print(drawn)
    console.print(
        "bold: best peer   -: cannot do it   *: so slow that it was called twice only   failed: see below"
    )


def show_summary(result: dict[str, Any], console: Console) -> None:
    """Prints what was left out of a result and why, and the geometric means."""
    measured = len(result["cases"])
    if measured < result.get("planned", measured):
        console.print(f"  interrupted after {measured} of {result['planned']} cases", highlight=False)
    for line in dict.fromkeys(remarks(result)):
        console.print(f"  {line}", highlight=False, markup=False)
    for what, means in summary(result["cases"]).items():
        if means["ratio"] is not None:
            console.print(
                f"{what}: {means['ratio']:.2f} times the best peer as a geometric mean over {means['compared']} cases, "
                f"lowest {means['lowest_ratio']:.2f} on {means['lowest_ratio_case']}",
                highlight=False,
            )


def remarks(result: dict[str, Any]) -> Iterable[str]:
    """What is missing from the tables and why, a line each, in no more words than needed."""
    for name, reason in result["missing"].items():
        yield f"{PEERS[name].title}: not installed ({reason})"
    if result["limits"] is None:
        yield "no floor: the machine's limits could not be measured"
    for what in MEASUREMENTS:
        for entry in result["cases"]:
            for name, outcome in entry[what].items():
                title, case = PEERS[name].title, entry["case"]["name"]
                if "unsupported" in outcome:
                    yield f"{title}: {outcome['unsupported']}"
                elif "failed" in outcome:
                    yield f"{title}, {what}, {case}: failed: {outcome['failed']}"


def _size(size: int) -> str:
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= scale:
            return f"{size / scale:.0f} {unit}"
    return f"{size} B"


def make_console() -> Console:
    """The terminal as it is; a file or pipe wide enough for the tables."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def main(paths: Sequence[str]) -> None:
    """Prints stored results."""
    console = make_console()
    for path in paths:
        result = json.loads(Path(path).read_text())
        if "cases" not in result:
            raise SystemExit(f"{path}: no result of benchmarks.run; for the suite's, benchmarks.suite --show")
        show(result, console)


if __name__ == "__main__":
    main(sys.argv[1:])
