"""Where the time of a layer goes inside this package: `python -m benchmarks.profiles RESULT.json`.

Samples our process with Linux's `perf` while it runs a layer, and tells by the source lines what each sample was busy
with. For a result of `benchmarks.suite` it takes the layers of its table in both layouts, every layer that misses its
target, and random and large layers of those families of kernels that the table has none of.

Needs `perf`, `addr2line` and a package with line numbers in it:

    pip install . -C install.strip=false -C cmake.define.CMAKE_CXX_FLAGS=-g1
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks import cases, command, data, layer, limits, machine, report, run
from benchmarks.peers import OURS
from benchmarks.readme import table_of
from benchmarks.report import ELSEWHERE, FAMILIES, MEASUREMENTS, PASSES, family, rate_share, verdict
from benchmarks.runtimes import Runtime
from benchmarks.sampling import FREQUENCY, PARTS, profile
from benchmarks.targets import BOUNDS, RANDOM, RATE_SHARE
from benchmarks.turns import ANSWER_TIMEOUT

SECTIONS = ("table", "channels_first", "large", "random", "listed")
"""The sections of a suite's result that have layers with peers."""

WHOLE = ("table", "channels_first")
"""Those of which every layer is taken."""

MOST_OF_A_FAMILY = 16
"""Layers of another section that are taken of a family that the table has none of."""


class Layer(NamedTuple):
    """A layer, which measurements of it are wanted, and the sections of a suite's result that it is from."""

    case: cases.Case
    wanted: tuple[str, ...]
    sections: tuple[str, ...] = ()


def misses(entry: Mapping[str, Any], what: str, section: str) -> bool:
    """Whether a layer of a section misses its target."""
    ratio = verdict(dict(entry), what).ratio
    if ratio is None:
        return False
    if section == "random":
        share = rate_share(dict(entry), what)
        return ratio < RANDOM or (share is not None and share < RATE_SHARE)
    return ratio < (BOUNDS[what].large if section == "large" else BOUNDS[what].lowest)


def chosen_of(result: Mapping[str, Any]) -> list[Layer]:
    """The layers of a suite's result, which `benchmarks.suite` wrote, that are worth a profile."""
    found: dict[cases.Case, dict[tuple[str, str], None]] = {}

    def take(entry: Mapping[str, Any], what: str, section: str) -> None:
        found.setdefault(cases.from_json(entry["case"]), {})[what, section] = None

    sections = {name: result.get(name, {}).get("cases", []) for name in SECTIONS}
    for what in MEASUREMENTS:
        for name in WHOLE:
            for entry in sections[name]:
                take(entry, what, name)
        present = {family(entry[what].get(OURS)) for name in WHOLE for entry in sections[name]}
        for kind in (kind for kind in FAMILIES if kind not in present):
            for name in ELSEWHERE:
                others = (entry for entry in sections[name] if family(entry[what].get(OURS)) == kind)
                for entry in islice(others, MOST_OF_A_FAMILY):
                    take(entry, what, name)
        for name, entries in sections.items():
            for entry in entries:
                if misses(entry, what, name):
                    take(entry, what, name)
    return [
        Layer(
            case,
            tuple(what for what in MEASUREMENTS if any(what == wanted for wanted, _ in reasons)),
            tuple(name for name in SECTIONS if any(name == section for _, section in reasons)),
        )
        for case, reasons in found.items()
    ]


def measure(
    layers: Sequence[Layer], threads: int, seconds: float, console: Console, of: str | None = None
) -> dict[str, Any]:
    """Profiles layers; returns JSON values.

    Args:
        layers: the layers.
        threads: of the profiled calls; beside them each layer is timed on one.
        seconds: that a measurement is sampled for.
        console: is told what is being done.
        of: the result that the layers are from.

    Raises:
        RuntimeError: `perf` or `addr2line` does not work, or the package has no line numbers.
    """
    result: dict[str, Any] = {
        "taken": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "settings": {"threads": threads, "seconds": seconds, "frequency": FREQUENCY, "of": of},
        "machine": machine.describe(),
        "limits": None,
        "versions": {},
        "profiles": [],
    }
    found = limits.measure(threads)
    with contextlib.ExitStack() as stack:
        both = [stack.enter_context(Runtime(OURS, count)) for count in dict.fromkeys((threads, 1))]
        for layer in layers:
            found = found.better(limits.measure(threads))
            console.print(layer.case.name, highlight=False)
            with tempfile.TemporaryDirectory(prefix="depthwise-bench-") as folder:
                data.save(layer.case, 0, Path(folder))
                entry = {
                    what: _measure(both, what, layer.case, Path(folder), seconds) for what in layer.wanted
                }
            cost = layer.case.cost
            result["profiles"].append(
                {
                    "case": layer.case.to_json(),
                    "sections": layer.sections,
                    "flops": cost.flops,
                    "bytes": cost.bytes_read + cost.bytes_written,
                    **entry,
                }
            )
        with both[0].awake():
            result["versions"][OURS] = both[0].ask(ANSWER_TIMEOUT, do="hello")["versions"]
    result["limits"] = found.to_json()
    for entry, layer in zip(result["profiles"], layers, strict=True):
        entry["floor_ms"] = {
            what: limits.floor_ms(layer.case.cost, found, dtype=layer.case.dtype, passes=PASSES[what])
            for what in layer.wanted
        }
    return result


def _measure(
    both: Sequence[Runtime], what: str, case: cases.Case, folder: Path, seconds: float
) -> dict[str, Any]:
    times = []
    for runtime in both:
        outcome = layer.load(runtime, what, case, folder)
        if "program" not in outcome:
            raise RuntimeError(f"{case.name}, {what}: {outcome}")
        with runtime.awake():
            times.append(
                min(
                    runtime.ask(ANSWER_TIMEOUT, do="time", what=what, seconds=seconds / 4)["ms"]
                    for _ in range(2)
                )
            )
    return {
        "kernel": outcome["kernel"],
        "ms": times[0],
        "one_thread_ms": times[-1],
        **profile(both[0], what, seconds),
    }


def tiles_rate(entry: Mapping[str, Any], what: str, peak: float, threads: int) -> float:
    """The rate of the multiply-adds while threads are in tiles, as a share of the peak.

    Args:
        entry: of a layer, in the result.
        what: "inference" or "training".
        peak: of all threads, in GFLOP/s.
        threads: how many.
    """
    found = entry[what]
    busy = found["ms"] * found["running"] * found["parts"]["tiles"]  # of one thread
    least = PASSES[what] * entry["flops"] / (peak / threads) / 1e6
    return float(least / busy) if busy else 0.0


def show(result: Mapping[str, Any], console: Console) -> None:
    """Prints a result: a table for each measurement."""
    threads, peak = result["settings"]["threads"], result["limits"]["peak_gflops"]
    for what in MEASUREMENTS:
        drawn = Table(title=f"{what}: what the threads' time goes into", title_justify="left", box=SIMPLE)
        drawn.add_column("case", no_wrap=True)
        for heading in ("us", "on one\nthread", "floor\n/ ours", *PARTS, "threads\nrunning", "tiles\n/ peak"):
            drawn.add_column(heading, justify="right", no_wrap=True)
        for entry in result["profiles"]:
            if what not in entry:
                continue
            found = entry[what]
            drawn.add_row(
                cases.from_json(entry["case"]).name,
                f"{1e3 * found['ms']:.1f}",
                f"{1e3 * found['one_thread_ms']:.1f}",
                f"{entry['floor_ms'][what] / found['ms']:.0%}",
                *(f"{found['parts'][part]:.0%}" for part in PARTS),
                f"{found['running']:.2f}",
                f"{tiles_rate(entry, what, peak, threads):.0%}",
            )
        console.print(drawn)
    for part, meaning in PARTS.items():
        console.print(f"{part}: {meaning}", highlight=False)
    console.print("tiles / peak: multiply-adds in the tiles' time, at the machine's peak", highlight=False)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parsed = argparse.ArgumentParser(
        prog="python -m benchmarks.profiles", description=(__doc__ or "").splitlines()[0]
    )
    add = parsed.add_argument
    add("result", type=Path, nargs="?", help="a result of benchmarks.suite, whose layers are taken")
    add("--cases", nargs="+", default=[], metavar="CASE", help="layers by name, such as 56x56x144-k3-s2")
    add("--threads", type=command.positive, metavar="N", help="of each call (default: all CPUs allowed)")
    add("--seconds", type=float, default=0.6, metavar="S", help="that are sampled (default: %(default)s)")
    add("--json", type=Path, metavar="PATH", help="where the results go (default: in benchmarks/results)")
    add("--show", type=Path, metavar="PATH", help="prints a stored result and ends")
    return parsed


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parsed = parser()
    options = parsed.parse_args(argv)
    console = report.make_console()
    if options.show:
        show(json.loads(options.show.read_text()), console)
        return 0
    if options.result is None and not options.cases:
        parsed.error("expected a result of benchmarks.suite, or --cases")
    threads = command.thread_count(parsed, options.threads)
    try:
        layers = [Layer(cases.from_name(name), MEASUREMENTS) for name in options.cases]
        if options.result is not None:
            stored = json.loads(options.result.read_text())
            table_of(stored)  # raises where there is none
            layers += chosen_of(stored)
        of = options.result.name if options.result is not None else None
        result = measure(layers, threads, options.seconds, console, of)
    except (OSError, ValueError, RuntimeError) as error:
        parsed.error(str(error))
    taken = datetime.fromisoformat(result["taken"])
    target = options.json or run.RESULTS / f"{taken:%Y%m%d-%H%M%S}-profiles.json"
    command.write(result, target)
    show(result, console)
    console.print(f"written to {target}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
