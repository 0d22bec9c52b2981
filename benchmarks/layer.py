"""One layer on every runtime: loaded, checked, then timed in turns."""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import data, machine, report
from benchmarks.cases import Case
from benchmarks.peers import OURS
from benchmarks.runtimes import LostError, Runtime
from benchmarks.turns import ANSWER_TIMEOUT


@dataclass(frozen=True)
class Settings:
    """How cases are timed.

    Attributes:
        set: what the cases are called together.
        seed: of all numbers.
        rounds: how often each runtime has its turn.
        seconds: for each measurement in each round.
        threads: of every runtime.
    """

    set: str
    seed: int
    rounds: int
    seconds: float
    threads: int


def prepare(runtime: Runtime, case: Case, folder: Path) -> dict[str, dict[str, Any]]:
    """Has a runtime load and check a case; returns its outcome so far for each measurement."""
    outcomes: dict[str, dict[str, Any]] = {}
    for what in report.MEASUREMENTS:
        outcomes[what] = load(runtime, what, case, folder)
        if outcomes[what].get("lost"):
            # What had been loaded before went with the process.
            for earlier in [name for name, outcome in outcomes.items() if "program" in outcome]:
                outcomes[earlier] = load(runtime, earlier, case, folder)
    return outcomes


def load(runtime: Runtime, what: str, case: Case, folder: Path) -> dict[str, Any]:
    """Has a runtime load and check one measurement of a case; returns its outcome, with no times yet."""
    try:
        with runtime.awake():
            outcome = runtime.ask(
                ANSWER_TIMEOUT, do="load", what=what, case=case.to_json(), folder=str(folder)
            )
    except LostError as error:
        return {"failed": str(error), "lost": True}
    slow_ms = outcome.pop("slow_ms", None)
    if slow_ms is not None:
        return outcome | {"slow": True, "ms": slow_ms, "rounds_ms": [slow_ms], "calls": [1]}
    return outcome | {"rounds_ms": [], "calls": []} if "program" in outcome else outcome


def measure(
    runtimes: Sequence[Runtime],
    outcomes: dict[str, dict[str, dict[str, Any]]],
    rounds: int,
    seconds: float,
    advance: Callable[[], None],
    measurements: Sequence[str] = report.MEASUREMENTS,
) -> None:
    """Times what `prepare` found ready, round by round, and writes into `outcomes`.

    Within a round the runtimes take turns, and each round starts with another one: a slow minute of the machine hits
    all of them, and nobody always follows the same neighbour.
    """
    for turn in range(rounds):
        shift = turn % max(1, len(runtimes))
        for runtime in (*runtimes[shift:], *runtimes[:shift]):
            for what in measurements:
                outcome = outcomes[runtime.name][what]
                if "rounds_ms" not in outcome or "slow" in outcome:
                    continue
                try:
                    with runtime.awake():
                        answer = runtime.ask(ANSWER_TIMEOUT, do="time", what=what, seconds=seconds)
                except LostError as error:
                    for lost in outcomes[runtime.name].values():
                        if "rounds_ms" in lost and "slow" not in lost:
                            lost.clear()
                            lost["failed"] = str(error)
                    break
                outcome["rounds_ms"].append(answer["ms"])
                outcome["calls"].append(answer["calls"])
                outcome["ms"] = min(outcome["rounds_ms"])
            advance()


CLOSE, CLOSE_ROUNDS = 1.4, 4
"""A ratio of the best peer's time to ours within this factor of its bound, on either side, is a close call: those that
decide it have so many times as many rounds more."""


def measure_close(
    runtimes: Sequence[Runtime], entry: dict[str, Any], settings: Settings, bounds: Mapping[str, float]
) -> None:
    """Times once more what is a close call in an entry that has its times.

    Ours and every peer that takes no longer than `CLOSE` times the best one have the same rounds, whichever of them is
    ahead: those of a short section can all fall into a slow phase of the machine. A peer that is lost on the way keeps
    the times that it had.
    """
    for what, bound in bounds.items():
        judged = report.verdict(entry, what)
        if judged.ratio is None or judged.best_ms is None:
            continue
        if not bound / CLOSE <= judged.ratio <= bound * CLOSE:
            continue
        times = report.compared_times(entry, what)
        deciding = [
            runtime
            for runtime in runtimes
            if runtime.name == OURS or times.get(runtime.name, math.inf) <= CLOSE * judged.best_ms
        ]
        outcomes = {
            runtime.name: {other: copy.deepcopy(entry[other][runtime.name]) for other in report.MEASUREMENTS}
            for runtime in deciding
        }
        measure(deciding, outcomes, CLOSE_ROUNDS * settings.rounds, settings.seconds, lambda: None, [what])
        for name, found in outcomes.items():
            for other, outcome in found.items():
                if name == OURS or "failed" not in outcome:
                    entry[other][name] = outcome


COPIES = 5
"""How many arrays of the size of a case's input, and as many of its output's, a process holds at most: what was drawn,
its own of either for each measurement, and what it computes."""


def too_large(case: Case, processes: int, memory: int) -> bool:
    """Whether so many processes with a case loaded would take more than three quarters of this memory, in bytes."""
    held = COPIES * (case.cost.bytes_read + case.cost.bytes_written)
    return 0 < 0.75 * memory < processes * held


def measure_case(
    case: Case,
    runtimes: Sequence[Runtime],
    settings: Settings,
    advance: Callable[[], None],
    bounds: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Everything about one case: checks, then times, of every runtime.

    A case that does not fit into memory in all processes at once has one process after the other, which ends before the
    next one starts: its rounds are not interleaved, and its entry says so with "apart".

    Args:
        case: the layer.
        runtimes: what runs it.
        settings: how.
        advance: is called after each turn of a runtime.
        bounds: for each measurement, what the best peer's time over ours is held against; see `measure_close`.
    """
    apart = too_large(case, len(runtimes), machine.memory_bytes())
    entry: dict[str, Any] = {"case": case.to_json(), "cost": asdict(case.cost), "floor_ms": None}
    outcomes: dict[str, dict[str, dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="depthwise-bench-") as folder:
        data.save(case, settings.seed, Path(folder))
        for group in [[runtime] for runtime in runtimes] if apart else [runtimes]:
            if apart:
                for runtime in runtimes:
                    runtime.stop()
            for runtime in group:
                outcomes[runtime.name] = prepare(runtime, case, Path(folder))
                advance()
            measure(group, outcomes, settings.rounds, settings.seconds, advance)
        for what in report.MEASUREMENTS:
            entry[what] = {name: found[what] for name, found in outcomes.items()}
        if apart:
            entry["apart"] = True
        else:
            measure_close(runtimes, entry, settings, bounds or {})
    return entry
