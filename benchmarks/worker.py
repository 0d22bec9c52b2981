"""The process that one library runs in: `python -m benchmarks.worker NAME THREADS`.

Reads one JSON object a line on standard input and answers each with one on standard output:

    {"do": "hello"}                                                     -> {"versions": {...}, "depthwise": FOLDER}
    {"do": "load", "what": "inference", "case": {...}, "folder": "..."} -> LOADED
    {"do": "time", "what": "inference", "seconds": 0.1}                 -> {"ms": 0.31, "calls": 310}

LOADED is {"program": ..., "error": ..., "slow_ms": null}, or {"unsupported": reason}, or {"failed": reason}; a program
of this package tells its "kernel", too; one that loads with a time in slow_ms is too slow to be timed any further. End
of input ends the process. FOLDER is where this package was found.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import math
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import depthwise
from benchmarks import cases, data
from benchmarks.peers import PEERS
from benchmarks.peers.base import Peer, Problem, Program, UnsupportedError

WARM_UP = 0.25
"""Share of the time given to a measurement that goes to untimed calls before it: the process has just been woken, its
threads sleep and its caches hold somebody else's data."""

TRIALS, TRIAL_SECONDS = 3, 0.03
"""What each of several programs for the same thing gets, in turns, to show which one is the fastest."""

PATIENCE_MS = 3000.0
"""A program whose calls take longer is called twice, and the shorter call is its time."""


class Worker:
    """One library, and the case that it has loaded."""

    def __init__(self, name: str, threads: int) -> None:
        entry = PEERS[name]
        module = importlib.import_module(f"benchmarks.peers.{entry.module}")
        self.peer: Peer = module.Adapter(dict(entry.options), threads)
        self.threads = threads
        self.problem: Problem | None = None
        self.folder: Path | None = None
        self.programs: dict[str, Program] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Does what a request asks for, and returns what is to be sent back."""
        match request["do"]:
            case "hello":
                folder = Path(depthwise.__file__).resolve().parent.parent
                return {"versions": self.peer.versions, "depthwise": str(folder)}
            case "load":
                return self.load(request["what"], cases.from_json(request["case"]), Path(request["folder"]))
            case "time":
                run = self.programs[request["what"]].run
                milliseconds, calls = median_ms(run, request["seconds"])
                return {"ms": milliseconds, "calls": calls}
            case unknown:
                raise ValueError(f"do: unknown request {unknown!r}")

    def load(self, what: str, case: cases.Case, folder: Path) -> dict[str, Any]:
        """Prepares and checks one measurement of a case; the programs of the case before are dropped."""
        if self.problem is None or self.folder != folder:
            self.programs.clear()
            self.problem = None
            gc.collect()
            self.problem, self.folder = Problem(case, **data.load(case, folder), threads=self.threads), folder
        prepare = {"inference": self.peer.inference, "training": self.peer.training}[what]
        try:
            return self._prepare(what, prepare, self.problem, folder)
        except UnsupportedError as reason:
            return {"unsupported": str(reason)}
        except Exception as error:  # whatever a library raises is its answer to this case
            lines = str(error).strip().splitlines() or [""]
            return {"failed": f"{type(error).__name__}: {lines[0]}"[:300]}

    def _prepare(
        self, what: str, prepare: Callable[[Problem], list[Program]], problem: Problem, folder: Path
    ) -> dict[str, Any]:
        ready: dict[str, tuple[Program, float, float]] = {}
        for program in prepare(problem):
            output, first_ms = timed(program.run)
            error = data.check(problem.case, folder, program.results(output))
            del output
            if first_ms > PATIENCE_MS:  # perhaps only because it was the first
                first_ms = min(first_ms, timed(program.run)[1])
            ready[program.name] = program, error, first_ms
        if not ready:
            raise UnsupportedError("has no program for this case")
        name = min(ready, key=lambda name: ready[name][2])
        if len(ready) > 1 and ready[name][2] <= PATIENCE_MS:
            trials = dict.fromkeys(ready, math.inf)
            for _ in range(TRIALS):
                for other, (program, _, first_ms) in ready.items():
                    if first_ms <= PATIENCE_MS:
                        trials[other] = min(trials[other], median_ms(program.run, TRIAL_SECONDS)[0])
            name = min(trials, key=trials.__getitem__)
        self.programs[what], error, first_ms = ready[name]
        loaded = {"program": name, "error": error, "slow_ms": first_ms if first_ms > PATIENCE_MS else None}
        kernel = self.programs[what].kernel
        return loaded if kernel is None else loaded | {"kernel": kernel}


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """Calls once; returns what the call returned and its duration in milliseconds."""
    begin = time.perf_counter()
    output = run()
    return output, 1e3 * (time.perf_counter() - begin)


def median_ms(run: Callable[[], Any], seconds: float) -> tuple[float, int]:
    """The median duration of a call in milliseconds, and how many calls it is the median of.

    Calls for about `seconds`, at least 3 times, unless a call takes longer than that: then once. What a call
    returned is kept until the next one has returned, as in a loop that binds it to a name.
    """
    clock = time.perf_counter
    end = clock() + WARM_UP * seconds
    kept = run()
    while clock() < end:
        kept = run()
    times: list[float] = []
    gc.disable()
    try:
        end = clock() + seconds
        while True:
            begin = clock()
            kept = run()  # noqa: F841
            now = clock()
            times.append(now - begin)
            if now >= end and (len(times) >= 3 or times[0] >= seconds):
                break
    finally:
        gc.enable()
    return 1e3 * statistics.median(times), len(times)


class Answerer(Protocol):
    """What can stand behind a process: something that answers requests."""

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Does what a request asks for, and returns what is to be sent back."""


def serve(make: Callable[[str, int], Answerer]) -> None:
    """Answers requests until standard input ends.

    Args:
        make: is given the two arguments of the process, a name and the number of threads, once the process may run
            on that many CPUs only. It imports the library; an ImportError is sent as the answer {"missing": ...}.
    """
    name, threads = sys.argv[1], int(sys.argv[2])
    # The libraries may print; only answers go where the answers are read.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    if sys.platform == "linux":
        # A sleeping process would not notice that its parent is gone: the kernel is to end it then.
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if hasattr(os, "sched_setaffinity"):
        # Every library takes the CPUs that the process may run on for the machine, whatever its own options.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    try:
        worker = make(name, threads)
    except ImportError as error:
        answers.write(json.dumps({"missing": str(error)}) + "\n")
        return
    for line in sys.stdin:
        answers.write(json.dumps(worker.answer(json.loads(line))) + "\n")


if __name__ == "__main__":
    serve(Worker)
