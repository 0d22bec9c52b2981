"""The process that one training step's memory is measured in: `python -m benchmarks.memory_worker NAME THREADS`.

Requests and answers are JSON, one a line, as those of `benchmarks.worker`:

    {"do": "hello"}                                                        -> {"versions": {...}}
    {"do": "step", "case": {...}, "folder": "...", "warm": {"case": {...}, "folder": "..."}, "program": 0}
        -> {"program": "autograd", "programs": 2, "error": 0.0, "before": 1.2e8, "peak": 2.3e8, "exact": true}

`before` and `peak` are bytes of resident memory: when inputs and program are there, and the most during one step. A
process measures one step only: what an earlier one has freed may still be resident, and be used again unseen.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import re
from pathlib import Path
from typing import Any

from benchmarks import cases, data
from benchmarks.peers import PEERS
from benchmarks.peers.base import Peer, Problem, UnsupportedError
from benchmarks.worker import serve

STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")

RESET_PEAK = "5"
"""What makes Linux set a process's peak to what it has resident, when written to `clear_refs`."""


def resident(status: str) -> tuple[int, int]:
    """Resident memory and its peak so far, in bytes, from the text of `/proc/PID/status`."""
    now, peak = (
        int(found[1]) * 1024 if (found := re.search(rf"^{key}:\s+(\d+) kB$", status, re.MULTILINE)) else None
        for key in ("VmRSS", "VmHWM")
    )
    if now is None or peak is None:
        raise ValueError(f"expected VmRSS and VmHWM in kB in {STATUS}")
    return now, peak


def reset_peak() -> bool:
    """Makes the peak begin anew; returns whether the system has done so."""
    try:
        CLEAR_REFS.write_text(RESET_PEAK)
    except OSError:
        return False
    now, peak = resident(STATUS.read_text())
    # A system may take the write and do nothing; a page or two come with looking.
    return peak - now < 2**20


def trim() -> None:
    """Has the C library give back what has been freed, so that no later allocation is served from it unseen."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # only the GNU C library has it
        ctypes.CDLL(None).malloc_trim(0)


class Worker:
    """One library, and one training step."""

    def __init__(self, name: str, threads: int) -> None:
        entry = PEERS[name]
        module = importlib.import_module(f"benchmarks.peers.{entry.module}")
        self.peer: Peer = module.Adapter(dict(entry.options), threads)
        self.threads = threads

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Does what a request asks for, and returns what is to be sent back."""
        match request["do"]:
            case "hello":
                return {"versions": self.peer.versions}
            case "step":
                try:
                    return self.step(request)
                except UnsupportedError as reason:
                    return {"unsupported": str(reason)}
                except Exception as error:  # whatever a library raises is its answer
                    lines = str(error).strip().splitlines() or [""]
                    return {"failed": f"{type(error).__name__}: {lines[0]}"[:300]}
            case unknown:
                raise ValueError(f"do: unknown request {unknown!r}")

    def step(self, request: dict[str, Any]) -> dict[str, Any]:
        """Warms up on a small layer, then measures one step on the large one, and checks what it computed."""
        # The first call of any library starts threads and loads code, which is not the layer's.
        _, problem = self._problem(request["warm"])
        for program in self.peer.training(problem):
            program.run()
        del problem, program
        folder, problem = self._problem(request)
        programs = self.peer.training(problem)
        program = programs[request["program"]]
        trim()
        exact = reset_peak()
        before, _ = resident(STATUS.read_text())
        output = program.run()
        _, peak = resident(STATUS.read_text())
        error = data.check(problem.case, folder, program.results(output))
        return {
            "program": program.name,
            "programs": len(programs),
            "error": error,
            "before": before,
            "peak": peak,
            "exact": exact,
        }

    def _problem(self, request: dict[str, Any]) -> tuple[Path, Problem]:
        case, folder = cases.from_json(request["case"]), Path(request["folder"])
        return folder, Problem(case, **data.load(case, folder), threads=self.threads)


if __name__ == "__main__":
    serve(Worker)
