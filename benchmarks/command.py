"""What the benchmarks' command lines have in common."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import machine, report


def positive(text: str) -> int:
    """A number of the command line that has to be at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {text}")
    return value


def thread_count(parsed: argparse.ArgumentParser, given: int | None) -> int:
    """The threads that `--threads` asks for, or all CPUs; more than these end the program with an error."""
    cpus = machine.available_cpus()
    threads = given or cpus
    if threads > cpus:
        parsed.error(
            f"--threads: expected at most the {cpus} CPUs that this process may run on, got {threads}"
        )
    return threads


def write(result: dict[str, Any], target: Path) -> None:
    """Writes a result as JSON, after every case: an interrupted run keeps what it has."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    part.write_text(json.dumps(result, indent=1) + "\n")
    part.replace(target)


def run_alone(
    name: str,
    summary: str,
    rounds: int,
    measure: Callable[[int, float, int], dict[str, Any]],
    show: Callable[[dict[str, Any], Console], None],
    argv: Sequence[str] | None,
) -> int:
    """The command line of one of the suite's benchmarks by itself; returns the exit status.

    Args:
        name: the module, e.g. "alone".
        summary: what it does, in a line.
        rounds: turns of each variant unless others are asked for.
        measure: takes threads, seconds of a turn and rounds; returns the result.
        show: prints a result.
        argv: the arguments; None for those of the process.
    """
    parsed = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=summary)
    add = parsed.add_argument
    add(
        "--threads",
        type=positive,
        metavar="N",
        help="threads for every library (default: all CPUs allowed)",
    )
    add("--seconds", type=float, default=0.2, metavar="S", help="time of each turn (default: %(default)s)")
    add(
        "--rounds",
        type=positive,
        default=rounds,
        metavar="N",
        help="turns of each variant (default: %(default)s)",
    )
    add("--json", type=Path, metavar="PATH", help="where the results go (default: nowhere)")
    add("--show", type=Path, metavar="PATH", help="prints a stored result and ends")
    options = parsed.parse_args(argv)
    console = report.make_console()
    if options.show:
        show(json.loads(options.show.read_text()), console)
        return 0
    result = measure(thread_count(parsed, options.threads), options.seconds, options.rounds)
    if options.json:
        write(result, options.json)
    show(result, console)
    return 0
