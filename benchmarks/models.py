"""Times whole networks, stock and accelerated, on Keras's backends: `python -m benchmarks.models`.

What `keras.applications` builds, as it comes and after `depthwise.accelerate`: Keras's predict function, and a step of
its train function. The method is that of `benchmarks.run`; a stored result prints again with `--show PATH`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import secrets
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks import command, layer, machine, report, run
from benchmarks.frameworks import APPLICATIONS, BACKENDS, VARIANTS, Application
from benchmarks.runtimes import LostError, Runtime

LOAD_TIMEOUT = 600.0

TOLERANCE = {"inference": 1e-3, "training": 5e-2}
"""How far two variants may be apart. Roundings flip a few ReLUs, and with them the gradient behind: half a percent of
the whole gradient in MobileNetV2. A wrong layer changes everything."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    names = ", ".join(application.function for application in APPLICATIONS)
    parsed = argparse.ArgumentParser(
        prog="python -m benchmarks.models", description=(__doc__ or "").splitlines()[0]
    )
    add = parsed.add_argument
    add("--backends", metavar="A,B", help=f"which of {', '.join(BACKENDS)} (default: the installed ones)")
    add("--networks", metavar="A,B", help=f"which of {names} (default: all)")
    add(
        "--rounds",
        type=command.positive,
        metavar="N",
        help="how often stock and accelerated have their turns (default: 12)",
    )
    add("--seconds", type=float, metavar="S", help="time for each measurement in each round (default: 0.8)")
    add("--quick", action="store_true", help="2 rounds of 0.5 s, and no file unless --json names one")
    add("--threads", type=command.positive, metavar="N", help="CPUs for every process (default: all allowed)")
    add("--seed", type=int, help="of weights and images (default: a new one, which is printed)")
    add(
        "--json",
        type=Path,
        metavar="PATH",
        help="where the results go (default: a new file in benchmarks/results)",
    )
    add("--show", type=Path, metavar="PATH", help="prints a stored result and ends")
    return parsed


def choose(option: str, text: str | None, known: Sequence[str]) -> tuple[str, ...]:
    """Which of the known names a comma-separated option has; all of them without one.

    Raises:
        ValueError: one is not known.
    """
    if text is None:
        return tuple(known)
    spelled = {name.lower(): name for name in known}
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name.lower() not in spelled]
    if unknown or not names:
        raise ValueError(
            f"{option}: expected some of {', '.join(known)}, got {', '.join(unknown or [repr(text)])}"
        )
    return tuple(dict.fromkeys(spelled[name.lower()] for name in names))


def load(runtime: Runtime, application: Application, seed: int) -> dict[str, Any]:
    """Has a process build, compile and run a network; returns what it computed, or {"failed": reason}."""
    try:
        with runtime.awake():
            return runtime.ask(LOAD_TIMEOUT, do="load", network=list(application), seed=seed)
    except LostError as error:
        return {"failed": str(error)}


def difference(stock: dict[str, Any], accelerated: dict[str, Any]) -> dict[str, float]:
    """How far what two networks computed is apart: probabilities; loss and update of a training step, relatively."""
    probabilities, updates = (
        [(a, a - b) for a, b in zip(stock[what], accelerated[what], strict=True)]
        for what in ("inference", "update")
    )
    loss = abs(stock["loss"] - accelerated["loss"]) / stock["loss"]
    update = math.hypot(*(apart for _, apart in updates)) / math.hypot(*(change for change, _ in updates))
    return {
        "inference": math.hypot(*(apart for _, apart in probabilities)),
        "training": math.hypot(loss, update),
    }


def measure_network(
    backend: str,
    application: Application,
    runtimes: Sequence[Runtime],
    settings: dict[str, Any],
    progress: tuple[Progress, Any],
) -> dict[str, Any]:
    """Everything about one network on one backend: that both variants compute the same, then their times."""
    loaded = {}
    for variant, runtime in zip(VARIANTS, runtimes, strict=True):
        loaded[variant] = load(runtime, application, settings["seed"])
        progress[0].advance(progress[1])
    entry: dict[str, Any] = {
        "backend": backend,
        "network": application.function,
        "size": application.size,
        "batch": application.batch,
    }
    failed = {variant: found for variant, found in loaded.items() if "failed" in found}
    if not failed:
        entry["difference"] = difference(loaded["stock"], loaded["accelerated"])
        # Written so that a difference that is not a number is too large as well.
        wrong = [what for what, value in entry["difference"].items() if not value <= TOLERANCE[what]]
        if wrong:
            reason = ", ".join(f"{what} off by {entry['difference'][what]:.2g}" for what in wrong)
            failed["accelerated"] = {"failed": f"computes something else: {reason}"}
    outcomes: dict[str, dict[str, dict[str, Any]]] = {
        runtime.name: {
            what: dict(failed[variant]) if variant in failed else {"rounds_ms": [], "calls": []}
            for what in report.MEASUREMENTS
        }
        for variant, runtime in zip(VARIANTS, runtimes, strict=True)
    }
    layer.measure(
        runtimes, outcomes, settings["rounds"], settings["seconds"], lambda: progress[0].advance(progress[1])
    )
    for what in report.MEASUREMENTS:
        entry[what] = {
            variant: outcomes[runtime.name][what] for variant, runtime in zip(VARIANTS, runtimes, strict=True)
        }
    return entry


def ratio(entry: dict[str, Any], what: str) -> float | None:
    """The stock network's time over the accelerated one's."""
    stock, accelerated = (entry[what][variant].get("ms") for variant in VARIANTS)
    return stock / accelerated if stock and accelerated else None


def summary(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Geometric mean and lowest of the ratios, for each measurement."""
    found: dict[str, Any] = {}
    for what in report.MEASUREMENTS:
        ratios = [
            (known, f"{entry['network']} on {BACKENDS[entry['backend']]}")
            for entry in entries
            if (known := ratio(entry, what)) is not None
        ]
        lowest = min(ratios, default=(None, None))
        found[what] = {
            "compared": len(ratios),
            "ratio": report.geometric_mean(known for known, _ in ratios),
            "lowest_ratio": lowest[0],
            "lowest_ratio_network": lowest[1],
        }
    return found


def table(result: dict[str, Any]) -> Table:
    """A line for each network on each backend."""
    drawn = Table(
        title="one batch through the network, in milliseconds",
        title_justify="left",
        box=SIMPLE,
        padding=(0, 1, 0, 0),
    )
    drawn.add_column("network", no_wrap=True)
    drawn.add_column("backend", no_wrap=True)
    for what in report.MEASUREMENTS:
        for heading in (f"{what}\n{VARIANTS[0]}", f"\n{VARIANTS[1]}", "\nratio"):
            drawn.add_column(heading, justify="right", no_wrap=True)
    for entry in result["networks"]:
        cells = []
        for what in report.MEASUREMENTS:
            cells += [
                report.milliseconds(outcome["ms"]) if "ms" in outcome else "[red]failed[/red]"
                for outcome in (entry[what][variant] for variant in VARIANTS)
            ]
            known = ratio(entry, what)
            text = "" if known is None else f"{known:.2f}"
            cells.append(f"[red]{text}[/red]" if known is not None and known < 1 else text)
        name = f"{entry['network']} {entry['size']}x{entry['size']}, batch {entry['batch']}"
        drawn.add_row(name, BACKENDS[entry["backend"]], *cells)
    return drawn


def show(result: dict[str, Any], console: Console) -> None:
    """Prints a result: machine, versions, the table, what failed, the summary."""
    described = result["machine"]
    console.print(f"{described['cpu']}, {result['settings']['threads']} threads", highlight=False)
    for backend, versions in result["versions"].items():
        numbers = ", ".join(f"{name} {number}" for name, number in versions.items())
        console.print(f"{BACKENDS[backend]}: {numbers}", highlight=False)
    console.print(table(result))
    for backend, reason in result["missing"].items():
        console.print(f"  {BACKENDS[backend]}: not installed ({reason})", highlight=False, markup=False)
    for line in dict.fromkeys(failures(result)):
        console.print(f"  {line}", highlight=False, markup=False)
    for what, means in summary(result["networks"]).items():
        if means["ratio"] is not None:
            console.print(
                f"{what}: {means['ratio']:.2f} times stock as a geometric mean of {means['compared']}, lowest "
                f"{means['lowest_ratio']:.2f} with {means['lowest_ratio_network']}",
                highlight=False,
            )


def failures(result: dict[str, Any]) -> Iterable[str]:
    """What has no figure and why, a line each."""
    for entry in result["networks"]:
        for what in report.MEASUREMENTS:
            for variant, outcome in entry[what].items():
                if "failed" in outcome:
                    yield f"{entry['network']} on {BACKENDS[entry['backend']]}, {variant}: {outcome['failed']}"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark with these command line arguments (default: those of the process); returns the exit status."""
    parsed = parser()
    options = parsed.parse_args(argv)
    console = report.make_console()
    if options.show:
        show(json.loads(options.show.read_text()), console)
        return 0
    try:
        backends = choose("--backends", options.backends, tuple(BACKENDS))
        names = choose("--networks", options.networks, [found.function for found in APPLICATIONS])
    except ValueError as error:
        parsed.error(str(error))
    threads = command.thread_count(parsed, options.threads)
    settings: dict[str, Any] = {
        "seed": secrets.randbelow(2**31) if options.seed is None else options.seed,
        "rounds": options.rounds or (2 if options.quick else 12),
        "seconds": options.seconds or (0.5 if options.quick else 0.8),
        "threads": threads,
    }
    taken = datetime.now(timezone.utc)
    result: dict[str, Any] = {
        "taken": taken.isoformat(timespec="seconds"),
        "settings": settings,
        "machine": machine.describe(),
        "versions": {},
        "missing": {},
        "networks": [],
    }
    target: Path | None = options.json
    if target is None and not options.quick:
        target = run.RESULTS / f"{taken:%Y%m%d-%H%M%S}-models.json"
    networks = [application for application in APPLICATIONS if application.function in names]
    status = measure_backends(
        backends, networks, result, target, console, demanded=options.backends is not None
    )
    show(result, console)
    if target is not None:
        console.print(f"written to {target}", highlight=False)
    return status


def measure_backends(
    backends: Sequence[str],
    networks: Sequence[Application],
    result: dict[str, Any],
    target: Path | None,
    console: Console,
    *,
    demanded: bool,
) -> int:
    """Runs all networks on all backends, one backend after the other, into `result`; returns the exit status."""
    settings, status = result["settings"], 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, refresh_per_second=1) as progress:
        turns = len(VARIANTS) * (settings["rounds"] + 1)
        task = progress.add_task("starting", total=len(backends) * len(networks) * turns)
        for backend in backends:
            with contextlib.ExitStack() as stack:
                names = [f"{backend}/{variant}" for variant in VARIANTS]
                runtimes, versions, missing = run.start(
                    names, settings["threads"], stack, "benchmarks.models_worker"
                )
                if missing:
                    result["missing"][backend] = next(iter(missing.values()))
                    status = 1 if demanded else status
                    progress.advance(task, len(networks) * turns)
                    continue
                result["versions"][backend] = versions[names[0]]
                for application in networks:
                    progress.update(task, description=f"{application.function} on {BACKENDS[backend]}")
                    entry = measure_network(backend, application, runtimes, settings, (progress, task))
                    result["networks"].append(entry)
                    result["summary"] = summary(result["networks"])
                    if target is not None:
                        command.write(result, target)
    return status


if __name__ == "__main__":
    sys.exit(main())
