"""Times several builds of this package side by side, such as two with other constants in csrc/kernels/tuning.h.

    git stash && pip install --no-deps --target /tmp/before . && git stash pop
    pip install --no-deps --target /tmp/after .
    python -m benchmarks.builds before=/tmp/before after=/tmp/after --cases 56x56x144-k3-s2 7x7x960-k5-n8

A build is a folder that has the package in it, or one built in place. Each runs in a process of its own; they take
turns, as in `benchmarks.run`, and the calmest turn counts.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from rich.table import Table

from benchmarks import cases, command, data, report
from benchmarks.layer import Settings
from benchmarks.peers import OURS, PEERS
from benchmarks.runtimes import LostError, MissingError, Runtime
from benchmarks.turns import ANSWER_TIMEOUT, Timer, interleave
from benchmarks.turns import ask as time_turn


def build(text: str) -> tuple[str, Path]:
    """A build of the command line: NAME=FOLDER."""
    name, _, folder = text.partition("=")
    path = Path(folder).resolve()
    if not name or not folder or not (path / "depthwise" / "__init__.py").is_file():
        raise argparse.ArgumentTypeError(f"expected NAME=FOLDER, a folder with depthwise in it, got {text!r}")
    return name, path


def case(text: str) -> cases.Case:
    """A case of the command line, by its name."""
    try:
        return cases.from_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parsed = argparse.ArgumentParser(
        prog="python -m benchmarks.builds", description="Times several builds of this package side by side."
    )
    add = parsed.add_argument
    add("builds", nargs="+", type=build, metavar="NAME=FOLDER", help="a folder that has the package in it")
    add("--cases", nargs="+", type=case, required=True, metavar="CASE", help="such as 56x56x144-k3-s2")
    add("--peers", nargs="*", default=[], choices=sorted(set(PEERS) - {OURS}), help="others beside them")
    add("--what", nargs="+", default=["inference"], choices=report.MEASUREMENTS, help="(default: inference)")
    add("--threads", type=command.positive, metavar="N", help="of each (default: all CPUs allowed)")
    add("--rounds", type=command.positive, default=6, metavar="N", help="turns of each (default: 6)")
    add("--seconds", type=float, default=0.06, metavar="S", help="time of each turn (default: 0.06)")
    return parsed


def load(runtime: Runtime, what: str, chosen: cases.Case, folder: Path) -> str | None:
    """Has a process load and check one measurement of a case; returns why it could not, or None."""
    with runtime.awake():
        answer = runtime.ask(ANSWER_TIMEOUT, do="load", what=what, case=chosen.to_json(), folder=str(folder))
    return None if "program" in answer else str(answer.get("unsupported") or answer.get("failed"))


def measure(
    runtimes: Mapping[str, Runtime], what: str, chosen: cases.Case, settings: Settings
) -> dict[str, float | str]:
    """Microseconds of one measurement of a case for each runtime that can do it, the reason for each other."""
    found: dict[str, float | str] = {}
    timers: dict[str, Timer] = {}
    with tempfile.TemporaryDirectory(prefix="depthwise-bench-") as folder:
        data.save(chosen, settings.seed, Path(folder))
        for name, runtime in runtimes.items():
            reason = load(runtime, what, chosen, Path(folder))
            if reason is None:
                timers[name] = partial(time_turn, runtime, what=what)
            else:
                found[name] = reason
        times = interleave(timers, settings.rounds, settings.seconds)
    return found | {name: 1e3 * milliseconds for name, milliseconds in times.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parsed = parser()
    options = parsed.parse_args(argv)
    threads = command.thread_count(parsed, options.threads)
    settings = Settings("builds", 0, options.rounds, options.seconds, threads)
    console = report.make_console()
    reasons = []
    folders: list[Path] = []
    with contextlib.ExitStack() as stack:
        runtimes = {
            name: stack.enter_context(Runtime(OURS, threads, environment={"PYTHONPATH": str(folder)}))
            for name, folder in options.builds
        }
        runtimes |= {name: stack.enter_context(Runtime(name, threads)) for name in options.peers}
        try:
            for runtime in runtimes.values():
                with runtime.awake():
                    answer = runtime.ask(ANSWER_TIMEOUT, do="hello")
                if runtime.name == OURS:
                    folders.append(Path(answer["depthwise"]))
        except (LostError, MissingError) as error:
            parsed.error(str(error))
        for (name, folder), imported in zip(options.builds, folders, strict=True):
            if imported != folder:
                hides = f"{name}: expected depthwise from {folder}, got the one in {imported}"
                parsed.error(f"{hides}: an editable install comes before others")
        table = Table("microseconds", *runtimes, title=f"{threads} threads")
        for chosen in options.cases:
            for what in options.what:
                found = measure(runtimes, what, chosen, settings)
                figures = [found[name] for name in runtimes]
                table.add_row(
                    f"{chosen.name}, {what}",
                    *(f"{figure:.1f}" if isinstance(figure, float) else "-" for figure in figures),
                )
                reasons += [
                    f"{name} on {chosen.name}, {what}: {figure}"
                    for name, figure in found.items()
                    if isinstance(figure, str)
                ]
    console.print(table)
    for reason in reasons:
        console.print(reason, highlight=False, markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
