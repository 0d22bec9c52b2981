"""Measures how much memory a large training step takes: `python -m benchmarks.memory`. Linux only.

Each library that trains does one step in a process of its own, after a step on a small layer of the same kind. Counted
is the most that was resident during the step beyond what was before it, when the inputs were there already: outputs,
intermediate results, scratch.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks import command, data, report
from benchmarks import targets as target_lines
from benchmarks.cases import LANES, Case
from benchmarks.peers import OURS, PEERS
from benchmarks.runtimes import LostError, MissingError, Runtime
from benchmarks.targets import Target, figure

CASE = Case(112, 112, 32, (3, 3), batch=32)
WARM = Case(16, 16, 32, (3, 3), batch=2)
"""The step before it: the same kind of layer, with arrays of 64 KiB."""

LIBRARIES = (OURS, "torch", "torch-nhwc", "tensorflow", "jax")

TIMEOUT = 600.0

SCRATCH = 2 * 2**20
"""Bytes that each thread may take beyond the outputs: what fits a second-level cache, and the thread's own."""


def output_bytes(case: Case) -> int:
    """Bytes of what a training step in float32 returns: y, dx, dkernel and dbias."""
    outputs = case.channels * case.multiplier
    y = case.batch * math.prod(case.output_size) * outputs
    return 4 * (y + math.prod(case.input_shape) + math.prod(case.kernel) * outputs + outputs)


def allowed_bytes(case: Case, threads: int) -> int:
    """The bound: outputs, `SCRATCH` for each thread, and the kernel once more with its channels in whole vectors."""
    channels = math.ceil(case.channels * case.multiplier / LANES) * LANES
    return output_bytes(case) + threads * SCRATCH + 4 * math.prod(case.kernel) * channels


def measure(
    threads: int,
    *,
    libraries: Sequence[str] = LIBRARIES,
    case: Case = CASE,
    start: Callable[[str, int], Runtime] | None = None,
) -> dict[str, Any]:
    """One training step of each library.

    Args:
        threads: of every library.
        libraries: which; those that are not installed are left out, which the result says.
        case: the layer.
        start: makes the process of a library, given its name and the threads.

    Returns:
        JSON values: {"libraries": {name: {"program", "bytes", "exact", ...} or {"failed"}, ...}, "missing": {...},
        ...}; "unsupported" with the reason in place of all figures elsewhere than on Linux.
    """
    result: dict[str, Any] = {
        "settings": {"threads": threads},
        "case": case.to_json(),
        "output_bytes": output_bytes(case),
        "allowed_bytes": allowed_bytes(case, threads),
        "libraries": {},
        "missing": {},
    }
    if sys.platform != "linux" and start is None:
        return result | {"unsupported": "peak memory is read from /proc, which only Linux has"}
    start = start or (lambda name, count: Runtime(name, count, "benchmarks.memory_worker"))
    with (
        tempfile.TemporaryDirectory(prefix="depthwise-bench-") as folder,
        tempfile.TemporaryDirectory(prefix="depthwise-bench-") as warm_folder,
    ):
        data.save(case, 0, Path(folder))
        data.save(WARM, 0, Path(warm_folder))
        request = {
            "case": case.to_json(),
            "folder": folder,
            "warm": {"case": WARM.to_json(), "folder": warm_folder},
        }
        for name in libraries:
            found = least(name, threads, request, start)
            if "missing" in found:
                result["missing"][name] = found["missing"]
            else:
                result["libraries"][name] = found
    return result


def least(
    name: str, threads: int, request: dict[str, Any], start: Callable[[str, int], Runtime]
) -> dict[str, Any]:
    """What the thriftiest of a library's programs takes, each of which runs in a process of its own."""
    steps: list[dict[str, Any]] = []
    count = 1
    while len(steps) < count:
        try:
            with start(name, threads) as runtime, runtime.awake():
                step = runtime.ask(TIMEOUT, do="step", program=len(steps), **request)
        except MissingError as error:
            return {"missing": str(error)}
        except LostError as error:
            step = {"failed": str(error)}
        if "peak" not in step:
            return step
        count = step["programs"]
        steps.append(step | {"bytes": step["peak"] - step["before"]})
    return min(steps, key=lambda step: int(step["bytes"]))


def targets(result: dict[str, Any]) -> list[Target]:
    """What a result is held against: nothing of the size of the input beside the outputs."""
    allowed = result["allowed_bytes"]
    about = "memory of a training step beyond its inputs"
    wanted = f"at most {allowed / 2**20:.1f} MiB: outputs, {SCRATCH >> 20} MiB a thread, a padded kernel"
    ours = result["libraries"].get(OURS)
    if ours is None:
        why = result.get("unsupported") or result["missing"].get(OURS, "ours was not run")
        return [Target(about, wanted, f"not measured: {why}", None)]
    if "bytes" not in ours:
        return [Target(about, wanted, ours.get("failed") or ours["unsupported"], False)]
    found = f"{figure(ours['bytes'] / 2**20, allowed / 2**20, 1, at_most=True)} MiB"
    passed: bool | None = ours["bytes"] <= allowed
    if not passed and not ours["exact"]:
        passed, found = None, f"{found} at most, for this system does not let the peak begin anew"
    return [Target(about, wanted, found, passed)]


def table(result: dict[str, Any]) -> Table:
    """A line for each library."""
    outputs = result["output_bytes"] / 2**20
    drawn = Table(
        title=f"one training step of {result['case']['name']}: peak memory beyond the inputs; its outputs take "
        f"{outputs:.1f} MiB",
        title_justify="left",
        box=SIMPLE,
        padding=(0, 1, 0, 0),
    )
    drawn.add_column("library", no_wrap=True)
    drawn.add_column("program", no_wrap=True)
    drawn.add_column("MiB", justify="right", no_wrap=True)
    drawn.add_column("beyond outputs", justify="right", no_wrap=True)
    for name, found in result["libraries"].items():
        if "bytes" in found:
            size = found["bytes"] / 2**20
            cells = [
                found["program"],
                f"{'' if found['exact'] else '<= '}{size:.1f}",
                f"{size - outputs:.1f}",
            ]
        else:
            cells = ["", "-" if "unsupported" in found else "failed", ""]
        drawn.add_row(PEERS[name].title, *cells)
    return drawn


def show(result: dict[str, Any], console: Console) -> None:
    """Prints a result: the table, what is missing from it and why."""
    if result["libraries"]:
        console.print(table(result))
    reasons = [(name, f"not installed ({why})") for name, why in result["missing"].items()]
    for name, found in result["libraries"].items():
        reasons += [(name, found[key]) for key in ("unsupported", "failed") if key in found]
    for name, reason in reasons:
        console.print(f"  {PEERS[name].title}: {reason}", highlight=False, markup=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark with these command line arguments (default: those of the process); returns the exit status."""
    about = (__doc__ or "").splitlines()[0]
    parsed = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=about)
    add = parsed.add_argument
    add("--threads", type=command.positive, metavar="N", help="threads for every library (default: all CPUs)")
    add("--json", type=Path, metavar="PATH", help="where the results go (default: nowhere)")
    add("--show", type=Path, metavar="PATH", help="prints a stored result and ends")
    options = parsed.parse_args(argv)
    console = report.make_console()
    if options.show:
        result = json.loads(options.show.read_text())
    else:
        threads = command.thread_count(parsed, options.threads)
        result = measure(threads)
        if options.json:
            command.write(result, options.json)
    show(result, console)
    target_lines.show(targets(result), console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
