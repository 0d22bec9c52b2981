"""What a benchmark's result is held against: a line per target, passed or missed.

The functions take what `run.run_cases` returns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from rich.console import Console

from benchmarks.peers import FRONT_ENDS, OURS, OURS_JAX, PEERS
from benchmarks.report import MEASUREMENTS, rate_share, summary, verdict


class Target(NamedTuple):
    """One target and what a run made of it.

    Attributes:
        about: what is measured, in a few words.
        wanted: the bound, as text, e.g. "at least 1.5".
        found: the figure, as text, with the case it comes from where it is one case's.
        passed: whether the bound holds; None where it could not be measured, which `found` explains.
    """

    about: str
    wanted: str
    found: str
    passed: bool | None


class Bounds(NamedTuple):
    """What one measurement of a set of layers has to reach.

    Attributes:
        mean: geometric mean of the best peer's time over ours.
        lowest: the same on every single layer.
        floor: geometric mean of the floor's time over ours.
        large: the best peer's time over ours on each of the largest kernels.
    """

    mean: float
    lowest: float
    floor: float
    large: float


BOUNDS = {
    "inference": Bounds(mean=1.5, lowest=1.0, floor=0.5, large=2.0),
    "training": Bounds(mean=5.0, lowest=2.5, floor=0.45, large=5.0),
}

JAX, JAX_FLOPS = 20.0, 1_000_000
"""Stock JAX's time over ours through JAX, on each layer whose forward pass has more operations than this."""

RANDOM, RATE_SHARE = 1.0, 0.25
"""On each random layer: the best peer's time over ours; our GFLOP/s over those on its well-shaped neighbour."""


def show(targets: Iterable[Target], console: Console) -> None:
    """Prints a line per target: pass, miss, or not measured."""
    words = {True: "[green]pass[/green]", False: "[red]miss[/red]", None: "[yellow]none[/yellow]"}
    for target in targets:
        console.print(words[target.passed], end="  ")
        console.print(
            f"{target.about}: {target.found} (wanted: {target.wanted})", highlight=False, markup=False
        )


def figure(value: float, bound: float, digits: int = 2, *, at_most: bool = False) -> str:
    """A figure in print, with as many more digits as it takes not to read as the bound that it misses.

    Args:
        value: the figure.
        bound: what it should be at least, or at most.
        digits: behind the point, if these are enough.
        at_most: which of the two.
    """

    def misses(number: float) -> bool:
        return number > bound if at_most else number < bound

    while misses(value) and not misses(round(value, digits)):
        digits += 1
    return f"{value:.{digits}f}"


def against_peers(result: dict[str, Any]) -> list[Target]:
    """Geometric mean and lowest of the best peer's time over ours, for each measurement."""
    found = []
    means = summary(result["cases"])
    for what in MEASUREMENTS:
        bounds, mean = BOUNDS[what], means[what]["ratio"]
        about, wanted = f"{what}, geometric mean against the best peer", f"at least {bounds.mean:g}"
        lost = _lost(result, what)
        if mean is None or lost:
            found.append(_no_figure(about, wanted, lost))
        else:
            text = f"{figure(mean, bounds.mean)} over {means[what]['compared']} layers{_absent_peers(result, what)}"
            found.append(Target(about, wanted, text, mean >= bounds.mean))
        about = f"{what}, each layer against the best peer"
        found.append(_each_against_peers(about, bounds.lowest, result, what))
    return found


def against_floor(result: dict[str, Any]) -> list[Target]:
    """Geometric mean of the share of the floor that ours reaches, for each measurement."""
    found = []
    means = summary(result["cases"])
    for what in MEASUREMENTS:
        bound, share = BOUNDS[what].floor, means[what]["floor_share"]
        about, wanted = f"{what}, geometric mean of the share of the floor", f"at least {bound:.0%}"
        lost = _lost(result, what)
        if share is None or lost:
            why = (
                "the machine's limits were not measured" if result["limits"] is None else "nothing was timed"
            )
            found.append(_no_figure(about, wanted, lost, why))
        else:
            found.append(Target(about, wanted, f"{figure(100 * share, 100 * bound, 1)}%", share >= bound))
    return found


def against_jax(result: dict[str, Any]) -> list[Target]:
    """Through JAX against stock JAX on every layer with more than a million operations, for each measurement."""
    found = []
    for what in MEASUREMENTS:
        ratios, lost = [], []
        for entry in result["cases"]:
            if entry["cost"]["flops"] <= JAX_FLOPS:
                continue
            ours, stock = (entry[what].get(name, {}) for name in (OURS_JAX, "jax"))
            if "failed" in ours:
                lost.append((entry["case"]["name"], ours["failed"]))
            elif "ms" in ours and "ms" in stock:
                ratios.append((stock["ms"] / ours["ms"], entry["case"]["name"]))
        found.append(each(f"{what}, through JAX against stock JAX, each layer of 1 MFLOP", JAX, ratios, lost))
    return found


def large_kernels(result: dict[str, Any]) -> list[Target]:
    """RepLKNet's largest kernels against the best peer, for each measurement."""
    return [
        _each_against_peers(
            f"{what}, each 27x27 and 31x31 layer of RepLKNet against the best peer",
            BOUNDS[what].large,
            result,
            what,
        )
        for what in MEASUREMENTS
    ]


def random_layers(result: dict[str, Any]) -> list[Target]:
    """Random layers against the best peer that can do them and against their neighbours, for each measurement."""
    found = []
    for what in MEASUREMENTS:
        about = f"{what}, each random layer against the best peer"
        found.append(_each_against_peers(about, RANDOM, result, what))
        shares = [
            (share, f"{entry['case']['name']}, beside {entry['neighbour']['case']['name']}")
            for entry in result["cases"]
            if (share := rate_share(entry, what)) is not None
        ]
        about = f"{what}, GFLOP/s of each random layer over its well-shaped neighbour's"
        found.append(each(about, RATE_SHARE, shares, _lost(result, what)))
    return found


def each(
    about: str,
    bound: float,
    figures: Sequence[tuple[float, str]],
    lost: Sequence[tuple[str, str]] = (),
    note: str = "",
    why: str = "nothing was compared",
) -> Target:
    """The target that every one of some figures is at least a bound; a layer that we fail on misses it.

    Args:
        about: what is measured.
        bound: the least that is allowed.
        figures: (the figure, what it belongs to).
        lost: (layer, what became of it) where there is no figure though there should be.
        note: what else is to be said, as the end of the sentence.
        why: there may be no figures.
    """
    wanted = f"at least {bound:g} on each"
    if lost or not figures:
        return _no_figure(about, wanted, lost, why)
    lowest, where = min(figures)
    reached = sum(found >= bound for found, _ in figures)
    text = f"{reached} of {len(figures)}, lowest {figure(lowest, bound)} ({where}){note}"
    return Target(about, wanted, text, reached == len(figures))


def _each_against_peers(about: str, bound: float, result: dict[str, Any], what: str) -> Target:
    return each(about, bound, _ratios(result, what), _lost(result, what), note=_absent_peers(result, what))


def _no_figure(
    about: str, wanted: str, lost: Sequence[tuple[str, str]], why: str = "nothing was compared"
) -> Target:
    """A target without a figure: missed if layers were lost, else not measured."""
    if lost:
        layer, reason = lost[0]
        return Target(about, wanted, f"{len(lost)} without a figure of ours, as {layer}: {reason}", False)
    return Target(about, wanted, f"not measured: {why}", None)


def _ratios(result: dict[str, Any], what: str) -> list[tuple[float, str]]:
    """(the best peer's time over ours, the layer and that peer) wherever both were timed."""
    judged = [(verdict(entry, what), entry["case"]["name"]) for entry in result["cases"]]
    return [
        (found.ratio, f"{name}, {PEERS[found.best_peer].title}")
        for found, name in judged
        if found.ratio is not None and found.best_peer is not None
    ]


def _lost(result: dict[str, Any], what: str) -> list[tuple[str, str]]:
    """(layer, reason) wherever ours has no figure, on the layer itself or on its neighbour."""
    entries = [found for entry in result["cases"] for found in (entry, entry.get("neighbour")) if found]
    outcomes = [(entry["case"]["name"], entry[what].get(OURS, {})) for entry in entries]
    return [
        (name, outcome.get("failed") or outcome.get("unsupported") or "not timed")
        for name, outcome in outcomes
        if "ms" not in outcome
    ]


def _absent_peers(result: dict[str, Any], what: str) -> str:
    """Which peers a comparison was made without, as the end of a sentence; JAX, never the best, does not count."""
    dispensable = {OURS, "jax", *FRONT_ENDS}
    answered = {
        name
        for entry in result["cases"]
        for name, outcome in entry[what].items()
        if "ms" in outcome or "unsupported" in outcome
    }
    absent = [entry.title for name, entry in PEERS.items() if name not in dispensable | answered]
    return f", without {', '.join(absent)}" if absent else ""
