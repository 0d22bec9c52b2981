"""Runs everything that this package's speed is held against: `python -m benchmarks.suite`; `--help` lists the options.

Section by section, each of which stands in the one result file as soon as it is there: an interrupted run keeps what it
has, and `--show PATH` prints a stored one again. Ends with a line for each target. What the sections and targets are
stands in `README.md` beside this file.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from benchmarks import alone, command, layer, machine, memory, report, run, separable, targets
from benchmarks import cases as case_lists
from benchmarks.cases import Case
from benchmarks.models import choose
from benchmarks.peers import OURS, OURS_JAX
from benchmarks.targets import Target


class Section(NamedTuple):
    """One part of the suite.

    Attributes:
        title: what it is, in print.
        targets: what its result is held against.
        rounds: how often each runtime has its turn; 0 where the section settles that itself.
        seconds: for each measurement in each round.
        limits_every: before every how many cases the machine's limits are measured.
        bounds: of each measurement: the best peer's time over ours that each layer has to reach, if any.
    """

    title: str
    targets: Callable[[dict[str, Any]], list[Target]]
    rounds: int
    seconds: float
    limits_every: int = 1
    bounds: Mapping[str, float] | None = None


def _layers(result: dict[str, Any]) -> list[Target]:
    return [*targets.against_peers(result), *targets.against_floor(result)]


def _table(result: dict[str, Any]) -> list[Target]:
    return [*_layers(result), *targets.against_jax(result)]


_LOWEST = {what: bounds.lowest for what, bounds in targets.BOUNDS.items()}
_LARGE = {what: bounds.large for what, bounds in targets.BOUNDS.items()}
_RANDOM = dict.fromkeys(targets.BOUNDS, targets.RANDOM)

SECTIONS = {
    "table": Section("the table", _table, 5, 0.2, bounds=_LOWEST),
    "channels_first": Section("the table in channels_first", targets.against_peers, 3, 0.2, bounds=_LOWEST),
    "large": Section("RepLKNet's largest kernels", targets.large_kernels, 3, 0.2, bounds=_LARGE),
    # There is no target on the floor here, and there are many small cases.
    "random": Section("random layers", targets.random_layers, 2, 0.05, limits_every=10, bounds=_RANDOM),
    "memory": Section("memory of a training step", memory.targets, 0, 0.0),
    "alone": Section("dtypes, threads, and tiny calls", alone.targets, 0, 0.1),
    "separable": Section("with a pointwise convolution after it", separable.targets, 0, 0.1),
    # The last one: with `--listed` it takes hours.
    "listed": Section("listed layers beyond the table", _layers, 3, 0.1, bounds=_LOWEST),
}
"""Every section by the name that `--only` takes, in the order of the run. Rounds and seconds are meant to keep all
of it, but for `--listed`, within an hour on two CPUs."""

COUNT, SAMPLE = 200, 40
"""How many random layers are timed, and how many of the listed ones without `--listed`."""

QUICK_ROUNDS, QUICK_SECONDS, QUICK_COUNT, QUICK_SAMPLE = 2, 0.02, 5, 3

LONG, WORST = 60, 10
"""A result with more cases than this is printed as the worst so many of them."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    about = (__doc__ or "").splitlines()[0]
    parsed = argparse.ArgumentParser(prog="python -m benchmarks.suite", description=about)
    patterns = "only cases whose name, a word of it, or network matches, e.g. 'k7,MobileNet*'"
    numbers = "of the random layers, the sample of listed ones and all numbers (default: a new one, printed)"
    add = parsed.add_argument
    add("--only", metavar="A,B", help=f"which sections of {', '.join(SECTIONS)} (default: all)")
    add("--listed", action="store_true", help="all listed layers rather than a sample: hours")
    add("--cases", metavar="PATTERN", help=patterns)
    add("--count", type=command.positive, metavar="N", help=f"how many random layers (default: {COUNT})")
    add("--seed", type=int, help=numbers)
    add(
        "--peers",
        metavar="A,B",
        help="which libraries, but for alone and separable (default: the installed ones)",
    )
    add(
        "--rounds",
        type=command.positive,
        metavar="N",
        help="of sections of layers (default: each has its own)",
    )
    add("--seconds", type=float, metavar="S", help="of every section (default: each has its own)")
    add(
        "--quick",
        action="store_true",
        help="a few cases and short rounds, and no file unless --json names one",
    )
    add("--threads", type=command.positive, metavar="N", help="for every library (default: all CPUs allowed)")
    add("--json", type=Path, metavar="PATH", help="where the results go (default: in benchmarks/results)")
    add("--show", type=Path, metavar="PATH", help="prints a stored result and ends")
    return parsed


def choose_cases(name: str, options: argparse.Namespace, seed: int) -> tuple[Case, ...]:
    """The cases of a section."""
    match name:
        case "table":
            chosen = case_lists.TABLE
        case "channels_first":
            # Of what the table has in both layouts, one is left.
            first = (replace(case, data_format="channels_first") for case in case_lists.TABLE)
            chosen = tuple(dict.fromkeys(first))
        case "large":
            chosen = case_lists.LARGE
        case "random":
            chosen = case_lists.random_cases(options.count or (QUICK_COUNT if options.quick else COUNT), seed)
        case "listed" if options.listed:
            chosen = case_lists.listed()
        case "listed":
            chosen = case_lists.sample(QUICK_SAMPLE if options.quick else SAMPLE, seed)
        case _:
            return ()
    return case_lists.select(chosen, options.cases)


def has_work(name: str, options: argparse.Namespace, seed: int) -> bool:
    """Whether a section is to run: with cases if it has any, without them unless `--cases` alone says what to run."""
    if SECTIONS[name].rounds:
        return bool(choose_cases(name, options, seed))
    return options.cases is None or options.only is not None


def choose_runtimes(name: str, peers: str | None) -> tuple[str, ...]:
    """The runtimes of a section: what `--peers` names; without it all peers.

    Through JAX this package is timed on the table only, and so is JAX: it is never the best peer, and some of the other
    sections' layers would take it minutes.

    Raises:
        ValueError: there is no such peer.
    """
    names = run.choose_peers(peers)
    if peers is not None:
        return names
    return (*names, OURS_JAX) if name == "table" else tuple(other for other in names if other != "jax")


def measure(
    name: str,
    options: argparse.Namespace,
    settings: dict[str, Any],
    console: Console,
    keep: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Runs one section; returns its result.

    Args:
        name: of the section.
        options: of the command line.
        settings: of the suite: seed and threads.
        console: for what passes meanwhile.
        keep: is given what there is of the result so far.
    """
    section, threads = SECTIONS[name], settings["threads"]
    seconds = options.seconds or (QUICK_SECONDS if options.quick else section.seconds)
    names = choose_runtimes(name, options.peers)
    match name:
        # These have no bar: whatever draws one would run beside what is timed in this process.
        case "memory":
            libraries = [library for library in memory.LIBRARIES if not options.peers or library in names]
            return memory.measure(threads, libraries=libraries)
        case "alone":
            return alone.measure(threads, seconds)
        case "separable":
            return separable.measure(threads, seconds)
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else section.rounds)
    return run.run_cases(
        choose_cases(name, options, settings["seed"]),
        names,
        layer.Settings(name, settings["seed"], rounds, seconds, threads),
        console,
        keep,
        demanded=names if options.peers else (OURS,),
        neighbour=case_lists.neighbour if name == "random" else None,
        limits_every=section.limits_every,
        bounds=section.bounds,
    )


def targets_of(name: str, section: dict[str, Any]) -> list[Target]:
    """What the result of a section is held against."""
    if "failed" in section:
        return [Target(SECTIONS[name].title, "a result", f"not measured: {section['failed']}", None)]
    return SECTIONS[name].targets(section)


def show_heading(name: str, console: Console) -> None:
    """Prints where a section begins."""
    console.rule(f"{name}: {SECTIONS[name].title}")


def show_section(name: str, section: dict[str, Any], console: Console) -> None:
    """Prints the tables of a section."""
    shows = {"memory": memory.show, "alone": alone.show, "separable": separable.show}
    if "failed" in section:
        console.print(f"cannot run {section['failed']}", style="red", markup=False)
    elif name in shows:
        shows[name](section, console)
    elif len(section["cases"]) <= LONG and name != "random":
        report.show(section, console)
    else:
        report.show_machine(section, console)
        for what in report.MEASUREMENTS:
            console.print(report.lowest(section, what, WORST))
            if name == "random":
                console.print(report.lowest(section, what, WORST, beside_neighbour=True))
        report.show_summary(section, console)


def show_targets(result: dict[str, Any], console: Console) -> None:
    """Prints every target of every section that there is, and how many were reached."""
    console.rule("targets")
    lines = []
    for name in SECTIONS:
        if name in result:
            console.print(f"{name}:", style="bold")
            found = targets_of(name, result[name])
            targets.show(found, console)
            lines += found
    count = [sum(line.passed is verdict for line in lines) for verdict in (True, False, None)]
    console.print(f"{count[0]} passed, {count[1]} missed, {count[2]} not measured", highlight=False)


def show(result: dict[str, Any], console: Console) -> None:
    """Prints a result: every section that there is, then all targets."""
    show_head(result, console)
    for name in SECTIONS:
        if name in result:
            show_heading(name, console)
            show_section(name, result[name], console)
    show_targets(result, console)


def show_head(result: dict[str, Any], console: Console) -> None:
    """Prints when, where and how a result was taken."""
    settings = result["settings"]
    console.print(
        f"{result['taken']}, {result['machine']['cpu']}, {settings['threads']} threads, seed {settings['seed']}",
        highlight=False,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the suite with these command line arguments (default: those of the process); returns the exit status.

    A target that is missed is a figure like any other; the status is 1 when a section could not be run.
    """
    parsed = parser()
    options = parsed.parse_args(argv)
    console = report.make_console()
    if options.show:
        show(json.loads(options.show.read_text()), console)
        return 0
    threads = command.thread_count(parsed, options.threads)
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    try:
        only = choose("--only", options.only, tuple(SECTIONS))
        run.choose_peers(options.peers)
    except ValueError as error:
        parsed.error(str(error))
    wanted = [name for name in only if has_work(name, options, seed)]
    if not wanted:
        parsed.error(f"--cases: no case of {', '.join(only)} matches {options.cases!r}")
    taken = datetime.now(timezone.utc)
    result: dict[str, Any] = {
        "taken": taken.isoformat(timespec="seconds"),
        "settings": {"seed": seed, "threads": threads, "listed": options.listed, "quick": options.quick},
        "machine": machine.describe(),
    }
    path: Path | None = options.json
    if path is None and not options.quick:
        path = run.RESULTS / f"{taken:%Y%m%d-%H%M%S}-suite.json"
    show_head(result, console)
    for name in SECTIONS:
        if name in wanted:
            show_heading(name, console)
            measure_into(result, name, options, path, console)
            show_section(name, result[name], console)
    show_targets(result, console)
    if path is not None:
        console.print(f"written to {path}", highlight=False)
    return 1 if any("failed" in result[name] for name in wanted) else 0


def measure_into(
    result: dict[str, Any], name: str, options: argparse.Namespace, path: Path | None, console: Console
) -> None:
    """Runs a section and writes it into the result, and the result, if it has a path, to that.

    A section that cannot be run has {"failed": reason} for a result: the others are still worth having.
    """

    def keep(section: dict[str, Any]) -> None:
        result[name] = section
        if path is not None:
            command.write(result, path)

    try:
        section = measure(name, options, result["settings"], console, keep)
    except Exception as error:  # whatever a section raises
        section = result.get(name, {}) | {"failed": f"{type(error).__name__}: {error}"}
    keep(section)


if __name__ == "__main__":
    sys.exit(main())
