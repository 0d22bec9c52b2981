"""Times this package against itself: `python -m benchmarks.alone`.

What a peer cannot show, because nobody else's figure is the measure:

    storage   float16 and bfloat16 against float32 on layers whose images do not fit the last-level cache, where the
              bytes that move are the time; float64 against float32 on layers that do fit
    scaling   two threads against one, on layers with enough arithmetic for two whose images fit that cache
    tiny      the cost of a call on a layer that is hardly more than the call

All of it is the NumPy function's forward pass with bias and ReLU into an output that is given, checked against the
float64 reference before it is timed. The variants of one comparison run in this process, in turns, each round beginning
with another one, and count by their calmest round's median. The half types are also held against the peers whose
adapters take them: these run in processes of their own, as in the table of layers, and take their turns in the same
rounds. A stored result prints again with `--show PATH`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

import depthwise
from benchmarks import cases, command, data, layer, machine, report, run
from benchmarks import targets as target_lines
from benchmarks.cases import Case
from benchmarks.peers import OURS, PEERS
from benchmarks.runtimes import Runtime
from benchmarks.targets import Target, figure
from benchmarks.turns import Timer, ask, cache_bytes, interleave
from benchmarks.worker import Worker

ROUNDS = 5
SCALING_ROUNDS = 4
"""Times as many for scaling: on a shared machine two cores are calm at once less often than one."""

HALVES = ("float16", "bfloat16")

HALF_PEERS = ("torch", "torch-nhwc", "tensorflow", "jax")
"""The peers whose adapters take half types; those of the others run float32 only."""

LAYERS = (
    Case(112, 112, 32, (3, 3)),
    Case(112, 112, 64, (3, 3), (2, 2)),
    Case(56, 56, 144, (5, 5)),
    Case(56, 56, 96, (7, 7)),
)
"""Layers of MobileNet, EfficientNet and ConvNeXt; `beyond` chooses the batch."""

TIMES_CACHE = 2
"""Input and output in float32 take at least so many times the last-level cache: in half types still all of it."""

SCALING_FLOPS = 10_000_000
"""A layer has to have more operations than this (of taps that meet the image) to be held to `SCALING`."""

TINY = Case(8, 8, 16, (3, 3))
TINY_CALLS = 1000

HALF, DOUBLE, SCALING, TINY_US = 1.6, 0.5, 1.8, 3.0
"""The targets: times float32's speed for the half types and float64, times one thread's, microseconds a call."""


def last_level_bytes(caches: Mapping[str, str]) -> int | None:
    """Size of the last-level cache; None where the system does not tell.

    Args:
        caches: sizes by level as `machine.describe` gives them, e.g. {"L1": "48K", "L3": "32768K"}.
    """
    return cache_bytes(caches[max(caches)]) if caches else None


def image_bytes(case: Case, bytes_per_element: int = 4) -> int:
    """Bytes of a layer's input and output together."""
    elements = math.prod((case.height, case.width, case.channels))
    elements += math.prod((*case.output_size, case.channels, case.multiplier))
    return case.batch * elements * bytes_per_element


def with_batch(case: Case, batch: int, dtype: str = "float32") -> Case:
    """The layer on so many images of this dtype."""
    return cases.from_json(case.to_json() | {"batch": batch, "dtype": dtype})


def beyond(cache_bytes: int) -> tuple[Case, ...]:
    """`LAYERS` with the least batch whose images, in float32, take `TIMES_CACHE` times a cache of this size."""
    wanted = TIMES_CACHE * cache_bytes
    return tuple(with_batch(case, -(-wanted // image_bytes(case))) for case in LAYERS)


def within(cache_bytes: int) -> tuple[Case, ...]:
    """The table's layers on one image that fits a cache of this size even in float64."""
    return tuple(case for case in cases.TABLE if case.batch == 1 and image_bytes(case, 8) <= cache_bytes)


def for_scaling(cache_bytes: int) -> tuple[Case, ...]:
    """The table's layers that are worth a second thread and fit a cache of this size."""
    return tuple(
        case for case in cases.TABLE if case.cost.flops > SCALING_FLOPS and image_bytes(case) <= cache_bytes
    )


def ours(case: Case, folder: Path, threads: int) -> Timer:
    """The timer of our forward pass on so many threads, checked.

    Raises:
        RuntimeError: it computes something wrong.
    """
    worker = Worker(OURS, threads)
    loaded = worker.load("inference", case, folder)
    if "program" not in loaded:
        raise RuntimeError(f"{case.name}: {loaded}")

    def timer(seconds: float) -> float:
        depthwise.set_num_threads(threads)  # it is the process's, and the variants' differ
        return float(worker.answer({"do": "time", "what": "inference", "seconds": seconds})["ms"])

    return timer


@contextlib.contextmanager
def inputs(case: Case) -> Iterator[Path]:
    """A folder with the numbers of a case and the truth about it, while the block runs."""
    with tempfile.TemporaryDirectory(prefix="depthwise-bench-") as folder:
        data.save(case, 0, Path(folder))
        yield Path(folder)


def measure_halves(
    case: Case, peers: Sequence[Runtime], threads: int, rounds: int, seconds: float
) -> Iterator[dict[str, Any]]:
    """One layer in each half type beside float32 and the peers.

    Args:
        case: the layer in float32.
        peers: the processes of other libraries.
        threads: of every library.
        rounds, seconds: as for `interleave`.
    """
    with inputs(case) as folder:
        for dtype in HALVES:
            if dtype == "bfloat16" and importlib.util.find_spec("ml_dtypes") is None:
                continue
            half = with_batch(case, case.batch, dtype)
            # A worker reads its inputs anew when their folder is another one.
            alias = folder / dtype
            alias.symlink_to(folder, target_is_directory=True)
            outcomes = {peer.name: layer.load(peer, "inference", half, alias) for peer in peers}
            timers: dict[str, Timer] = {
                "float32": ours(case, folder, threads),
                OURS: ours(half, alias, threads),
            }
            for peer in peers:
                if "rounds_ms" in outcomes[peer.name] and "ms" not in outcomes[peer.name]:
                    timers[peer.name] = functools.partial(ask, peer, what="inference")
            found = interleave(timers, rounds, seconds)
            yield {
                "case": half.name,
                "megabytes": image_bytes(case) / 1e6,
                "dtype": dtype,
                "float32_ms": found["float32"],
                "ours_ms": found[OURS],
                "peers": {name: peer_outcome(outcome, found.get(name)) for name, outcome in outcomes.items()},
            }


def peer_outcome(loaded: Mapping[str, Any], ms: float | None) -> dict[str, Any]:
    """What became of a peer on a case: {"ms": ...}, or {"unsupported": ...}, or {"failed": ...}.

    Args:
        loaded: what `layer.load` returned; it has a time already where a call takes seconds.
        ms: its calmest round; infinite if the process was lost, None if it was not timed.
    """
    if ms is None:
        return {key: value for key, value in loaded.items() if key in ("ms", "unsupported", "failed")}
    return {"ms": ms} if math.isfinite(ms) else {"failed": "the process was lost"}


def measure_pair(
    first: Case, second: Case, threads: tuple[int, int], rounds: int, seconds: float
) -> list[float]:
    """Our times, in milliseconds, on two cases that differ in dtype at most, on as many threads each."""
    with inputs(first) as folder:
        pairs = zip((first, second), threads, strict=True)
        timers = {str(index): ours(case, folder, count) for index, (case, count) in enumerate(pairs)}
        return list(interleave(timers, rounds, seconds).values())


def measure_tiny(rounds: int) -> float:
    """Microseconds a call of the `TINY` layer takes: the best of ten loops a round over `TINY_CALLS` calls."""
    drawn = {name: data.aligned(array) for name, array in data.draw(TINY, 0).items()}
    x, kernel, bias, y = (drawn[name] for name in data.INPUTS)
    call, clock, best = depthwise.depthwise_conv2d, time.perf_counter, math.inf
    for _ in range(10 * rounds):
        begin = clock()
        for _ in range(TINY_CALLS):
            call(x, kernel, bias, padding="same", activation="relu", out=y)
        best = min(best, clock() - begin)
    return 1e6 * best / TINY_CALLS


def measure(
    threads: int, seconds: float, *, rounds: int = ROUNDS, peers: Sequence[str] = HALF_PEERS
) -> dict[str, Any]:
    """Everything in this module.

    Args:
        threads: of every library; with fewer than 2 scaling is left out.
        seconds: the time of each turn in each round.
        rounds: how many there are; for scaling `SCALING_ROUNDS` times as many.
        peers: libraries that are timed on the half types, where they are installed.

    Returns:
        JSON values; what the targets and the tables are made of.
    """
    before = depthwise.get_num_threads()
    cache = last_level_bytes(machine.describe()["caches"])
    result: dict[str, Any] = {
        "settings": {"threads": threads, "seconds": seconds, "rounds": rounds},
        "last_level_bytes": cache,
        "halves": [],
        "float64": [],
        "scaling": [],
        "missing": {},
    }
    try:
        if cache is not None:
            with contextlib.ExitStack() as stack:
                runtimes, _, result["missing"] = run.start(peers, threads, stack)
                for case in beyond(cache):
                    result["halves"] += measure_halves(case, runtimes, threads, rounds, seconds)
            for case in within(cache):
                double = with_batch(case, 1, "float64")
                single_ms, double_ms = measure_pair(case, double, (threads, threads), rounds, seconds)
                result["float64"].append({"case": case.name, "float32_ms": single_ms, "ours_ms": double_ms})
            for case in for_scaling(cache) if threads >= 2 else ():
                one_ms, two_ms = measure_pair(case, case, (1, 2), SCALING_ROUNDS * rounds, seconds)
                result["scaling"].append({"case": case.name, "one_ms": one_ms, "two_ms": two_ms})
        depthwise.set_num_threads(threads)
        result["tiny_us"] = measure_tiny(rounds)
    finally:
        depthwise.set_num_threads(before)
    return result


def targets(result: dict[str, Any]) -> list[Target]:
    """What a result is held against; each line names its worst case."""
    unknown = result["last_level_bytes"] is None
    why = "the size of the last-level cache is not known" if unknown else "nothing was timed"
    found = []
    for dtype in HALVES:
        entries = [entry for entry in result["halves"] if entry["dtype"] == dtype]
        speeds = [(entry["float32_ms"] / entry["ours_ms"], entry["case"]) for entry in entries]
        about = f"{dtype} against float32, images beyond the last-level cache"
        found.append(at_least(HALF, about, speeds, why))
    for dtype in HALVES:
        entries = [entry for entry in result["halves"] if entry["dtype"] == dtype]
        ratios = [
            (outcome["ms"] / entry["ours_ms"], f"{entry['case']}, {PEERS[name].title}")
            for entry in entries
            for name, outcome in entry["peers"].items()
            if "ms" in outcome
        ]
        lowest = min(ratios, default=None)
        found.append(
            Target(
                f"{dtype} against every peer that takes it",
                "faster",
                "no peer was timed"
                if lowest is None
                else f"{lowest[0]:.2f} times as fast at least ({lowest[1]})",
                None if lowest is None else lowest[0] > 1,
            )
        )
    speeds = [(entry["float32_ms"] / entry["ours_ms"], entry["case"]) for entry in result["float64"]]
    found.append(at_least(DOUBLE, "float64 against float32, images within the last-level cache", speeds, why))
    speeds = [(entry["one_ms"] / entry["two_ms"], entry["case"]) for entry in result["scaling"]]
    if result["settings"]["threads"] < 2:
        why = "it takes two CPUs"
    found.append(at_least(SCALING, "two threads against one", speeds, why))
    microseconds = result["tiny_us"]
    about = f"a call on {TINY.name}"
    found.append(
        Target(
            about,
            f"at most {TINY_US} us",
            f"{figure(microseconds, TINY_US, at_most=True)} us",
            microseconds <= TINY_US,
        )
    )
    return found


def at_least(bound: float, about: str, speeds: Sequence[tuple[float, str]], why: str) -> Target:
    """The target that the lowest of some ratios is held against; `why` says why there may be none."""
    wanted = f"at least {bound} times as fast"
    if not speeds:
        return Target(about, wanted, f"not measured: {why}", None)
    lowest, case = min(speeds)
    return Target(about, wanted, f"{figure(lowest, bound)} at least ({case})", lowest >= bound)


def tables(result: dict[str, Any]) -> Iterator[Table]:
    """A table for the half types, one for float64 and one for scaling."""
    style: dict[str, Any] = {"title_justify": "left", "box": SIMPLE, "padding": (0, 1, 0, 0)}
    drawn = Table(title="half types, forward, in milliseconds", **style)
    peers = list(dict.fromkeys(name for entry in result["halves"] for name in entry["peers"]))
    titles = [PEERS[name].title.replace(" ", "\n") for name in peers]
    _columns(drawn, "case", "MB in\nfloat32", "float32", "ours", "float32\n/ ours", *titles)
    for entry in result["halves"]:
        others = [entry["peers"].get(name, {}) for name in peers]
        drawn.add_row(
            entry["case"],
            f"{entry['megabytes']:.0f}",
            *_compared(entry["float32_ms"], entry["ours_ms"], HALF),
            *(
                report.milliseconds(other.get("ms")) if "failed" not in other else "failed"
                for other in others
            ),
        )
    yield drawn
    drawn = Table(title="float64, forward, in milliseconds", **style)
    _columns(drawn, "case", "float32", "float64", "float32\n/ float64")
    for entry in result["float64"]:
        drawn.add_row(entry["case"], *_compared(entry["float32_ms"], entry["ours_ms"], DOUBLE))
    yield drawn
    drawn = Table(title="threads, forward, in milliseconds", **style)
    _columns(drawn, "case", "one", "two", "one\n/ two")
    for entry in result["scaling"]:
        drawn.add_row(entry["case"], *_compared(entry["one_ms"], entry["two_ms"], SCALING))
    yield drawn


def _columns(table: Table, *headings: str) -> None:
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if index else "left", no_wrap=True)


def _compared(base_ms: float, ms: float, bound: float) -> tuple[str, str, str]:
    ratio = f"{base_ms / ms:.2f}"
    marked = ratio if base_ms / ms >= bound else f"[red]{ratio}[/red]"
    return report.milliseconds(base_ms), report.milliseconds(ms), marked


def show(result: dict[str, Any], console: Console) -> None:
    """Prints a result: the tables, what a peer could not do and why, the targets."""
    for table in tables(result):
        if table.row_count:
            console.print(table)
    remarks = [f"{PEERS[name].title}: not installed ({why})" for name, why in result["missing"].items()]
    remarks += [
        f"{PEERS[name].title}, {entry['case']}: {outcome[key]}"
        for entry in result["halves"]
        for name, outcome in entry["peers"].items()
        for key in ("unsupported", "failed")
        if key in outcome
    ]
    for line in dict.fromkeys(remarks):
        console.print(f"  {line}", highlight=False, markup=False)
    target_lines.show(targets(result), console)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark with these command line arguments (default: those of the process); returns the exit status."""
    summary = (__doc__ or "").splitlines()[0]
    return command.run_alone(
        "alone",
        summary,
        ROUNDS,
        lambda threads, seconds, rounds: measure(threads, seconds, rounds=rounds),
        show,
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
