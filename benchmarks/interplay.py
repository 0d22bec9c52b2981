"""Times the layer alone and between a framework's own operations: `python -m benchmarks.interplay`.

A layer in a network finds a machine that another library has just used: its threads are still awake, perhaps spinning,
its arrays are in the caches. Two chains, of as many images, tell what that costs:

    alone   d d d d d d d ... d d    the layer, time after time
    network b d b d b d b ... d b    a bottleneck of two pointwise convolutions before and after each call

The layer's time is what passes inside the native op (`calls.c`), so that the framework's own operations,
whose times vary by more than the layer takes, are not in it; training is the forward pass and both gradients.
In the network it should take at most 1.3 times as long as alone. Linux only, with a C compiler. A stored
result prints again with `--show PATH`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks import calls, command, machine, report, run
from benchmarks.frameworks import BACKENDS, CHAINS, Chain
from benchmarks.models import LOAD_TIMEOUT, choose
from benchmarks.runtimes import LostError, Runtime
from benchmarks.turns import ANSWER_TIMEOUT

LAYERS = 8
"""Layers in the network."""

FEW = 16
"""Channels that a bottleneck leaves, as few as MobileNetV2's: it takes the framework's threads for about as
long as the layer takes ours."""

PIECES = {
    "alone": "d" * (2 * LAYERS + 1),
    "network": "p" + "dp" * LAYERS,
}
"""Chains of as many links, hence images: a shorter one would find its own in the caches, the other not."""

TARGET = 1.3


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parsed = argparse.ArgumentParser(
        prog="python -m benchmarks.interplay", description=(__doc__ or "").splitlines()[0]
    )
    add = parsed.add_argument
    add("--frameworks", metavar="A,B", help=f"which of {', '.join(BACKENDS)} (default: the installed ones)")
    add(
        "--rounds", type=command.positive, metavar="N", help="how often each chain has its turn (default: 10)"
    )
    add("--seconds", type=float, metavar="S", help="time for each measurement in each round (default: 0.2)")
    add("--quick", action="store_true", help="3 rounds of 0.05 s, and no file unless --json names one")
    add("--threads", type=command.positive, metavar="N", help="CPUs for every process (default: all allowed)")
    add(
        "--json",
        type=Path,
        metavar="PATH",
        help="where the results go (default: a new file in benchmarks/results)",
    )
    add("--show", type=Path, metavar="PATH", help="prints a stored result and ends")
    return parsed


def measure_layer(
    framework: str, layer: Chain, runtime: Runtime, rounds: int, seconds: float
) -> dict[str, Any]:
    """Both chains of one layer in one framework, taking turns, each round beginning with the other one."""
    times: dict[str, dict[str, list[float]]] = {
        what: {piece: [] for piece in PIECES} for what in report.MEASUREMENTS
    }
    entry: dict[str, Any] = {"framework": framework, "layer": layer.name}
    try:
        with runtime.awake():
            runtime.ask(LOAD_TIMEOUT, do="load", layer=list(layer), few=FEW, pieces=PIECES)
            for turn in range(rounds):
                shift = turn % len(PIECES)
                for piece in (*list(PIECES)[shift:], *list(PIECES)[:shift]):
                    for what in report.MEASUREMENTS:
                        answer = runtime.ask(
                            ANSWER_TIMEOUT, do="time", what=what, piece=piece, seconds=seconds
                        )
                        times[what][piece].append(answer["ms"])
    except LostError as error:
        return entry | {"failed": str(error)}
    return entry | {what: judge(found) for what, found in times.items()}


def judge(rounds_ms: dict[str, list[float]]) -> dict[str, Any]:
    """The layer's time alone and in the network, in milliseconds, from each chain's calmest round."""
    alone, inside = min(rounds_ms["alone"]), min(rounds_ms["network"])
    return {"rounds_ms": rounds_ms, "alone_ms": alone, "network_ms": inside, "ratio": inside / alone}


def highest(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The highest ratio of each measurement, and where it is."""
    found = {}
    for what in report.MEASUREMENTS:
        ratios = [
            (entry[what]["ratio"], f"{entry['layer']} in {BACKENDS[entry['framework']]}")
            for entry in entries
            if what in entry
        ]
        ratio, where = max(ratios, default=(None, None))
        found[what] = {"compared": len(ratios), "highest_ratio": ratio, "highest_ratio_layer": where}
    return found


def table(result: dict[str, Any]) -> Table:
    """A line for each layer in each framework."""
    drawn = Table(
        title="one layer alone and between a framework's operations, in milliseconds",
        title_justify="left",
        box=SIMPLE,
        padding=(0, 1, 0, 0),
    )
    drawn.add_column("framework", no_wrap=True)
    drawn.add_column("layer", no_wrap=True)
    for what in report.MEASUREMENTS:
        for heading in (f"{what}\nalone", "\nin network", "\nratio"):
            drawn.add_column(heading, justify="right", no_wrap=True)
    for entry in result["layers"]:
        cells = []
        for what in report.MEASUREMENTS:
            if what not in entry:
                cells += ["[red]failed[/red]", "", ""]
                continue
            judged = entry[what]
            text = f"{judged['ratio']:.2f}"
            cells += [
                report.milliseconds(judged["alone_ms"]),
                report.milliseconds(judged["network_ms"]),
                f"[red]{text}[/red]" if judged["ratio"] > TARGET else text,
            ]
        drawn.add_row(BACKENDS[entry["framework"]], entry["layer"], *cells)
    return drawn


def show(result: dict[str, Any], console: Console) -> None:
    """Prints a result: machine, versions, the table, what failed, the highest ratios."""
    described = result["machine"]
    console.print(f"{described['cpu']}, {result['settings']['threads']} threads", highlight=False)
    versions = {name: number for found in result["versions"].values() for name, number in found.items()}
    console.print(", ".join(f"{name} {number}" for name, number in versions.items()), highlight=False)
    console.print(table(result))
    for framework, reason in result["missing"].items():
        console.print(f"  {BACKENDS[framework]}: not installed ({reason})", highlight=False, markup=False)
    for entry in result["layers"]:
        if "failed" in entry:
            name = f"{entry['layer']} in {BACKENDS[entry['framework']]}"
            console.print(f"  {name}: {entry['failed']}", highlight=False, markup=False)
    for what, found in highest(result["layers"]).items():
        if found["highest_ratio"] is not None:
            console.print(
                f"{what}: in a network at most {found['highest_ratio']:.2f} times as long as alone "
                f"({found['highest_ratio_layer']}; target {TARGET})",
                highlight=False,
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark with these command line arguments (default: those of the process); returns the exit status."""
    parsed = parser()
    options = parsed.parse_args(argv)
    console = report.make_console()
    if options.show:
        show(json.loads(options.show.read_text()), console)
        return 0
    try:
        frameworks = choose("--frameworks", options.frameworks, tuple(BACKENDS))
    except ValueError as error:
        parsed.error(str(error))
    threads = command.thread_count(parsed, options.threads)
    try:
        counting = calls.environment()
    except RuntimeError as error:
        console.print(str(error), style="red", markup=False, highlight=False)
        return 1
    settings: dict[str, Any] = {
        "rounds": options.rounds or (3 if options.quick else 10),
        "seconds": options.seconds or (0.05 if options.quick else 0.2),
        "threads": threads,
    }
    taken = datetime.now(timezone.utc)
    result: dict[str, Any] = {
        "taken": taken.isoformat(timespec="seconds"),
        "settings": settings,
        "machine": machine.describe(),
        "versions": {},
        "missing": {},
        "layers": [],
    }
    target: Path | None = options.json
    if target is None and not options.quick:
        target = run.RESULTS / f"{taken:%Y%m%d-%H%M%S}-interplay.json"
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, refresh_per_second=1) as progress:
        task = progress.add_task("starting", total=len(frameworks) * len(CHAINS))
        for framework in frameworks:
            with contextlib.ExitStack() as stack:
                runtimes, versions, missing = run.start(
                    [framework], settings["threads"], stack, "benchmarks.interplay_worker", counting
                )
                result["versions"] |= versions
                result["missing"] |= missing
                for runtime in runtimes:
                    for layer in CHAINS:
                        progress.update(task, description=f"{layer.name} in {BACKENDS[framework]}")
                        entry = measure_layer(
                            framework, layer, runtime, settings["rounds"], settings["seconds"]
                        )
                        result["layers"].append(entry)
                        result["summary"] = highest(result["layers"])
                        progress.advance(task)
                        if target is not None:
                            command.write(result, target)
    show(result, console)
    if target is not None:
        console.print(f"written to {target}", highlight=False)
    return 1 if options.frameworks and result["missing"] else 0


if __name__ == "__main__":
    sys.exit(main())
