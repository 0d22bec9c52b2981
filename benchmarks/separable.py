"""Times a depthwise convolution and the pointwise one after it: `python -m benchmarks.separable`.

Is it worth computing the two in one pass, so that what the first makes never leaves the caches? For every separable
layer of MobileNetV1 on one image of 224x224, forward, in float32:

    depthwise   ours alone, with bias and ReLU, into an output that is given
    pointwise   the matrix multiplication alone, on what the depthwise part has made: by NumPy, and as a second opinion
                by PyTorch (`mm`, or oneDNN on weights in its own order, the faster)
    pair        ours, then NumPy's, on the whole image
    in blocks   ours, then NumPy's, on a few rows of the output at a time, which stay in the second-level caches; the
                best of some heights

What fusing could win has a bound: however it is done, the multiplication remains. If the depthwise part took no time
at all, the two calls would take (depthwise + pointwise) / pointwise times as long as the fused one. Where this bound is
below the target, no fusing of these two parts can meet it. The faster the multiplication, the higher the bound: a miss
by NumPy's bound and not by PyTorch's says that a faster multiplication comes first, and what it wins is not fusing's.

NumPy's threads and ours do not know of each other: where the pair takes longer than its parts, the one's are still up
while the other's work, and blocks change hands more often. `--threads 1` is the control: what blocks win there, the
caches win. NumPy and PyTorch have a process each, and all that is timed takes turns, each round beginning with another
one; the calmest round's median counts. A stored result prints again with `--show PATH`.
"""

from __future__ import annotations

import contextlib
import functools
import math
import sys
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from benchmarks import command, machine, report, run
from benchmarks import targets as target_lines
from benchmarks.runtimes import Runtime
from benchmarks.separable_worker import KERNEL, Layer
from benchmarks.targets import Target, figure
from benchmarks.turns import ANSWER_TIMEOUT, Timer, ask, cache_bytes, interleave

ROUNDS = 5

LAYERS = (
    Layer(112, 1, 32, 64),
    Layer(112, 2, 64, 128),
    Layer(56, 1, 128, 128),
    Layer(56, 2, 128, 256),
    Layer(28, 1, 256, 256),
    Layer(28, 2, 256, 512),
    Layer(14, 1, 512, 512),
    Layer(14, 2, 512, 1024),
    Layer(7, 1, 1024, 1024),
)
"""Every distinct separable layer of MobileNetV1."""

HEIGHTS = (2, 4, 8, 16, 32)
"""Rows of the output that a block may have."""

LIBRARIES = ("numpy", "torch")

WANTED = 1.3
"""Times the speed of two separate calls."""


def heights(layer: Layer, cache: float) -> list[int]:
    """Those of `HEIGHTS` that cut a layer at all, and whose blocks fit a cache of so many bytes; at least one.

    A block is its rows of the image, of what the depthwise part makes of them, and of the output.
    """
    cutting = [height for height in HEIGHTS if height < layer.rows]

    def block_bytes(height: int) -> int:
        inputs = ((height - 1) * layer.stride + KERNEL) * layer.size * layer.channels
        return 4 * (inputs + height * layer.rows * (layer.channels + layer.outputs))

    return [height for height in cutting if block_bytes(height) <= cache] or cutting[:1]


def measure(
    threads: int, seconds: float, *, rounds: int = ROUNDS, layers: Sequence[Layer] = LAYERS
) -> dict[str, Any]:
    """Everything in this module.

    Args:
        threads: of every library.
        seconds: the time of each turn in each round.
        rounds: how many there are.
        layers: which ones.

    Returns:
        JSON values; what the targets and the table are made of.

    Raises:
        RuntimeError: the process with NumPy does not start.
    """
    # Before they are imported: how many threads a BLAS has is settled then.
    environment = {name: str(threads) for name in ("OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")}
    caches = machine.describe()["caches"]
    cache = threads * (cache_bytes(caches.get("L2", "")) or math.inf)
    result: dict[str, Any] = {
        "settings": {"threads": threads, "seconds": seconds, "rounds": rounds},
        "layers": [],
    }
    with contextlib.ExitStack() as stack:
        runtimes, result["versions"], result["missing"] = run.start(
            LIBRARIES, threads, stack, "benchmarks.separable_worker", environment
        )
        if "numpy" in result["missing"]:
            raise RuntimeError(result["missing"]["numpy"])
        for layer in layers:
            result["layers"].append(measure_layer(layer, heights(layer, cache), runtimes, rounds, seconds))
    return result


def measure_layer(
    layer: Layer, rows: Sequence[int], runtimes: Sequence[Runtime], rounds: int, seconds: float
) -> dict[str, Any]:
    """One layer in every library.

    Args:
        layer: which one.
        rows: heights of blocks.
        runtimes: the processes.
        rounds, seconds: as for `interleave`.

    Raises:
        LostError: a process computes something wrong, or dies of the layer.
    """
    timers: dict[str, Timer] = {}
    for runtime in runtimes:
        with runtime.awake():
            loaded = runtime.ask(ANSWER_TIMEOUT, do="load", layer=list(layer), rows=list(rows))
        for program in loaded["programs"]:
            timers[f"{runtime.name} {program}"] = functools.partial(ask, runtime, what=program)
    return judge(layer, interleave(timers, rounds, seconds))


def judge(layer: Layer, ms: dict[str, float]) -> dict[str, Any]:
    """What the times of a layer's programs say.

    Args:
        layer: which one.
        ms: milliseconds by library and program, e.g. "numpy rows 4".
    """
    first, pair = ms["numpy depthwise"], ms["numpy pair"]
    in_blocks = {name.split()[-1]: time for name, time in ms.items() if name.startswith("numpy rows ")}
    best = min(in_blocks, key=in_blocks.__getitem__)
    pointwise = {"numpy": ms["numpy pointwise"]}
    others = [time for name, time in ms.items() if name.startswith("torch pointwise")]
    if others:
        pointwise["torch"] = min(others)
    return {
        "layer": layer.name,
        "programs_ms": ms,
        "depthwise_ms": first,
        "pointwise_ms": pointwise,
        "pair_ms": pair,
        "rows": int(best),
        "blocks_ms": in_blocks[best],
        "gain": pair / in_blocks[best],
        "bound": {name: (first + second) / second for name, second in pointwise.items()},
    }


def targets(result: dict[str, Any]) -> list[Target]:
    """A line per layer: what blocks win over two calls, and what fusing could win at all."""
    found = []
    for entry in result["layers"]:
        bounds = ", ".join(f"{bound:.2f} with {_TITLES[name]}" for name, bound in entry["bound"].items())
        found.append(
            Target(
                f"{entry['layer']}, both convolutions in blocks of rows",
                f"at least {WANTED} times as fast as in two calls",
                f"{figure(entry['gain'], WANTED)} ({entry['rows']} rows; if the depthwise part took no time: {bounds})",
                entry["gain"] >= WANTED,
            )
        )
    return found


_TITLES = {"numpy": "NumPy", "torch": "PyTorch"}


def table(result: dict[str, Any]) -> Table:
    """A line per layer."""
    drawn = Table(
        title="a depthwise and a pointwise convolution, forward, in milliseconds",
        title_justify="left",
        box=SIMPLE,
        padding=(0, 1, 0, 0),
    )
    drawn.add_column("layer", no_wrap=True)
    headings = [
        "depthwise",
        "NumPy\npointwise",
        "PyTorch\npointwise",
        "pair",
        "in\nblocks",
        "rows",
        "pair\n/ blocks",
    ]
    for heading in (*headings, "bound\nNumPy", "bound\nPyTorch"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for entry in result["layers"]:
        gain = f"{entry['gain']:.2f}"
        second, bound = entry["pointwise_ms"], entry["bound"]
        drawn.add_row(
            entry["layer"],
            report.milliseconds(entry["depthwise_ms"]),
            *(report.milliseconds(second.get(name)) for name in LIBRARIES),
            report.milliseconds(entry["pair_ms"]),
            report.milliseconds(entry["blocks_ms"]),
            str(entry["rows"]),
            gain if entry["gain"] >= WANTED else f"[red]{gain}[/red]",
            *(f"{bound[name]:.2f}" if name in bound else "-" for name in LIBRARIES),
        )
    return drawn


def show(result: dict[str, Any], console: Console) -> None:
    """Prints a result: versions, the table, what is missing, the targets."""
    versions = {name: number for found in result["versions"].values() for name, number in found.items()}
    console.print(", ".join(f"{name} {number}" for name, number in versions.items()), highlight=False)
    console.print(table(result))
    for name, reason in result["missing"].items():
        console.print(f"  {_TITLES[name]}: not installed ({reason})", highlight=False, markup=False)
    target_lines.show(targets(result), console)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the benchmark with these command line arguments (default: those of the process); returns the exit status."""
    summary = (__doc__ or "").splitlines()[0]
    return command.run_alone(
        "separable",
        summary,
        ROUNDS,
        lambda threads, seconds, rounds: measure(threads, seconds, rounds=rounds),
        show,
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
