"""Times this package and its peers side by side: `python -m benchmarks.run`; `--help` lists the options.

The method, and why it is what it is, stands in `README.md` beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks import cases as case_lists
from benchmarks import command, layer, limits, machine, report
from benchmarks.cases import Case
from benchmarks.layer import Settings
from benchmarks.peers import FRONT_ENDS, OURS, PEERS
from benchmarks.runtimes import LostError, MissingError, Runtime
from depthwise.spec import DTYPES

RESULTS = Path(__file__).with_name("results")

START_TIMEOUT = 180.0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    about = (__doc__ or "").splitlines()[0]
    parsed = argparse.ArgumentParser(prog="python -m benchmarks.run", description=about)
    peers = ", ".join(name for name in PEERS if name != OURS)
    patterns = "only cases whose name, a word of it, or network matches, e.g. 'k7,MobileNet*'"
    sets, layouts = ("table", "listed", "random"), ("channels_last", "channels_first")
    add = parsed.add_argument
    add("--set", choices=sets, default="table", help="which cases (default: %(default)s)")
    add("--cases", metavar="PATTERN", help=patterns)
    add(
        "--count",
        type=command.positive,
        default=30,
        metavar="N",
        help="how many random cases (default: %(default)s)",
    )
    add(
        "--seed",
        type=int,
        help="of the random cases and of all numbers (default: a new one, which is printed)",
    )
    add("--peers", metavar="A,B", help=f"which of {peers} (default: the libraries that are installed)")
    add(
        "--rounds",
        type=command.positive,
        metavar="N",
        help="how often each runtime has its turn (default: 5)",
    )
    add("--seconds", type=float, metavar="S", help="time for each measurement in each round (default: 0.2)")
    add("--quick", action="store_true", help="2 rounds of 0.05 s, and no file unless --json names one")
    add("--layout", choices=layouts, help="puts every case into this layout")
    add("--dtype", choices=tuple(DTYPES), help="puts every case into this dtype (default: float32)")
    add(
        "--threads",
        type=command.positive,
        metavar="N",
        help="threads for every runtime (default: all CPUs allowed)",
    )
    add("--json", type=Path, metavar="PATH", help="where the results go (default: in benchmarks/results)")
    add("--list", action="store_true", help="prints the cases and ends")
    return parsed


def choose_cases(options: argparse.Namespace, seed: int) -> tuple[Case, ...]:
    """The cases that the options ask for."""
    match options.set:
        case "random":
            chosen = case_lists.random_cases(options.count, seed)
        case "listed":
            chosen = case_lists.listed()
        case _:
            chosen = case_lists.TABLE
    if options.layout:
        chosen = tuple(replace(case, data_format=options.layout) for case in chosen)
    if options.dtype:
        chosen = tuple(replace(case, dtype=options.dtype) for case in chosen)
    return case_lists.select(dict.fromkeys(chosen), options.cases)


def choose_peers(text: str | None) -> tuple[str, ...]:
    """Ours, then what `--peers` names; without it all peers, and no other front-end of ours.

    Raises:
        ValueError: there is no such peer.
    """
    if text is None:
        return tuple(name for name in PEERS if name not in FRONT_ENDS)
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise ValueError(f"--peers: expected some of {', '.join(PEERS)}, got {', '.join(unknown)}")
    return tuple(dict.fromkeys((OURS, *names)))


def start(
    names: Sequence[str],
    threads: int,
    stack: contextlib.ExitStack,
    module: str = "benchmarks.worker",
    environment: Mapping[str, str] | None = None,
) -> tuple[list[Runtime], dict[str, Any], dict[str, str]]:
    """Starts the runtimes; returns those that run, their versions, and why the others do not."""
    runtimes: list[Runtime] = []
    versions: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name in names:
        runtime = stack.enter_context(Runtime(name, threads, module, environment))
        try:
            with runtime.awake():
                versions[name] = runtime.ask(START_TIMEOUT, do="hello")["versions"]
            runtimes.append(runtime)
        except (MissingError, LostError) as error:
            missing[name] = str(error)
    return runtimes, versions, missing


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark with these command line arguments (default: those of the process); returns the exit status."""
    parsed = parser()
    options = parsed.parse_args(argv)
    console = report.make_console()
    seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    try:
        names = choose_peers(options.peers)
        chosen = choose_cases(options, seed)
    except ValueError as error:
        parsed.error(str(error))
    if not chosen:
        parsed.error(f"--cases: no case of the set {options.set!r} matches {options.cases!r}")
    if options.list:
        for case in chosen:
            console.print(case.name, *case.origins, highlight=False)
        return 0

    threads = command.thread_count(parsed, options.threads)
    settings = Settings(
        set=options.set,
        seed=seed,
        rounds=options.rounds or (2 if options.quick else 5),
        seconds=options.seconds or (0.05 if options.quick else 0.2),
        threads=threads,
    )
    taken = datetime.now(timezone.utc)
    target: Path | None = options.json
    if target is None and not options.quick:
        target = RESULTS / f"{taken:%Y%m%d-%H%M%S}-{options.set}.json"

    def keep(result: dict[str, Any]) -> None:
        if target is not None:
            command.write(result, target)

    try:
        result = run_cases(
            chosen, names, settings, console, keep, demanded=names if options.peers else (OURS,)
        )
    except MissingError as error:
        console.print(f"cannot run {error}", style="red", markup=False)
        return 1
    report.show(result, console)
    if target is not None:
        console.print(f"written to {target}", highlight=False)
    return 0


def run_cases(
    chosen: Sequence[Case],
    names: Sequence[str],
    settings: Settings,
    console: Console,
    keep: Callable[[dict[str, Any]], None],
    *,
    demanded: Sequence[str] = (OURS,),
    neighbour: Callable[[Case], Case] | None = None,
    limits_every: int = 1,
    bounds: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Times cases on runtimes that it starts and ends, with a bar on the console meanwhile.

    Args:
        chosen: the cases.
        names: of the runtimes; those that are not installed are left out, which the result says.
        settings: how.
        console: for the bar and for warnings.
        keep: is given the result so far after every case.
        demanded: the runtimes without which there is no point in it.
        neighbour: gives the case that ours is timed on right after a case, if any; the case's entry gets an entry
            "neighbour" for it.
        limits_every: before every how many cases the machine's limits are measured; a few seconds each time.
        bounds: what ratios are held against; close calls have more rounds, see `layer.measure_close`.

    Returns:
        JSON values: when, how and on what machine it was taken, the machine's limits, an entry for each case.

    Raises:
        MissingError: one of `demanded` does not run; the message says why.
    """
    result: dict[str, Any] = {
        "taken": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "settings": asdict(settings),
        "machine": machine.describe(),
        "limits": None,
        "versions": {},
        "missing": {},
        "planned": len(chosen),
        "cases": [],
    }
    console.print(
        f"{len(chosen)} cases, {settings.rounds} rounds of {settings.seconds} s, {settings.threads} threads, "
        f"seed {settings.seed}",
        highlight=False,
    )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(
            Progress(*columns, console=console, transient=True, refresh_per_second=1)
        )
        task = progress.add_task("starting", total=None)
        runtimes, result["versions"], result["missing"] = start(names, settings.threads, stack)
        absent = [name for name in demanded if name in result["missing"]]
        if absent:
            raise MissingError(
                "; ".join(f"{PEERS[name].title}: {result['missing'][name]}" for name in absent)
            )
        ours = [runtime for runtime in runtimes if runtime.name == OURS]
        turns = len(runtimes) + (len(ours) if neighbour is not None else 0)
        progress.update(task, total=len(chosen) * turns * (settings.rounds + 1))
        best_limits = again = None
        for index, case in enumerate(chosen):
            progress.update(task, description=case.name)
            try:
                if index % limits_every == 0:
                    again = limits.measure(settings.threads)
                    best_limits = again if best_limits is None else best_limits.better(again)
            except RuntimeError as error:
                if best_limits is None and index == 0:
                    console.print(str(error), style="yellow", markup=False)
            entry = layer.measure_case(case, runtimes, settings, lambda: progress.advance(task), bounds)
            if neighbour is not None:
                entry["neighbour"] = layer.measure_case(
                    neighbour(case), ours, settings, lambda: progress.advance(task)
                )
            if again is not None:
                entry["moving_ms"] = limits.moving_ms(case.cost, again)
            result["cases"].append(entry)
            finish(result, best_limits)
            keep(result)
    return result


def finish(result: dict[str, Any], best: limits.Limits | None) -> None:
    """Writes limits, floors and summary into a result, by what is known of the machine so far."""
    if best is not None:
        result["limits"] = best.to_json()
        for entry in result["cases"]:
            case = case_lists.from_json(entry["case"])
            entry["floor_ms"] = {
                what: limits.floor_ms(case.cost, best, dtype=case.dtype, passes=passes)
                for what, passes in report.PASSES.items()
            }
    result["summary"] = report.summary(result["cases"])


if __name__ == "__main__":
    sys.exit(main())
