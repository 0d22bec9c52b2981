"""The process that one framework runs in: `python -m benchmarks.interplay_worker FRAMEWORK THREADS`.

It has to be started in `calls.environment()`. Requests and answers are JSON, one a line, as those of
`benchmarks.worker`:

    {"do": "hello"}                                                             -> {"versions": {...}}
    {"do": "load", "layer": [...], "few": 16, "pieces": {"alone": "dd", ...}}   -> {}
    {"do": "time", "what": "training", "piece": "alone", "seconds": 0.2}        -> {"ms": 0.031, "calls": 310}

The time is that of one layer, inside the native op: the median over so many calls of the whole chain.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np

import depthwise
from benchmarks import calls
from benchmarks.frameworks import Chain
from benchmarks.worker import median_ms, serve


class Worker:
    """One framework, and the chains that are loaded."""

    def __init__(self, name: str, threads: int) -> None:
        del threads  # the libraries see as many CPUs as they may use, and no more
        keep_memory()
        self.name = name
        self.framework: Any = importlib.import_module(f"benchmarks.frameworks.{name}")
        self.pieces: dict[str, str] = {}
        self.programs: dict[str, dict[str, Callable[[], Any]]] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Does what a request asks for, and returns what is to be sent back."""
        match request["do"]:
            case "hello":
                information = depthwise.info()
                own = {"depthwise": information.version, "isa": information.isa}
                return {"versions": {self.name: self.framework.VERSION} | own}
            case "load":
                return self.load(Chain(*request["layer"]), request["few"], request["pieces"])
            case "time":
                return self.time(request["what"], request["piece"], request["seconds"])
            case unknown:
                raise ValueError(f"do: unknown request {unknown!r}")

    def load(self, layer: Chain, few: int, pieces: dict[str, str]) -> dict[str, Any]:
        """Builds the chains in place of those before, and runs each once."""
        self.programs.clear()
        gc.collect()
        self.pieces = pieces
        arrays = draw(layer, few)
        self.programs = {piece: self.framework.chain(arrays, links) for piece, links in pieces.items()}
        for programs in self.programs.values():
            for run in programs.values():
                run()
        return {}

    def time(self, what: str, piece: str, seconds: float) -> dict[str, Any]:
        """Calls a chain for so long, and returns a layer's time: the median over these calls."""
        run, layers = self.programs[piece][what], self.pieces[piece].count("d")
        counted: list[calls.Counts] = []

        def run_and_count() -> None:
            run()
            counted.append(calls.take())

        calls.take()
        _, timed = median_ms(run_and_count, seconds)
        # Those before were to warm up.
        return {
            "ms": statistics.median(layer_ms(counts, what, layers) for counts in counted[-timed:]),
            "calls": timed,
        }


def layer_ms(counts: calls.Counts, what: str, layers: int) -> float:
    """A layer's time inside the native op, from what was counted during one call of a chain.

    Raises:
        RuntimeError: nothing was counted, so the op was called in a way that is not counted, or not at all.
    """
    if not counts.forward_calls or (what == "training" and not counts.backward_calls):
        raise RuntimeError(f"no native call was counted during {what}: {counts}")
    # A compiler may leave out a forward pass that nobody reads, the last of a training step, but no gradient:
    # each is a result, or leads to one. Those of a layer are one call, or two.
    forward = counts.forward_ms / counts.forward_calls
    return forward + counts.backward_ms / layers


def keep_memory() -> None:
    """Has the C library keep freed memory instead of giving it back to the system, where it can be told so.

    Otherwise it gives large arrays back, and 32 MiB at a time get new pages at each call: a matter of the sum of a
    program's arrays, so that one chain may pay several times its arithmetic for it, and another nothing.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        trim_threshold, mmap_max = -1, -4  # of malloc.h
        library.mallopt(mmap_max, 0)
        library.mallopt(trim_threshold, 2**31 - 1)


def draw(layer: Chain, few: int) -> dict[str, Any]:
    """An image and weights that keep its numbers at their size from link to link: neither overflow nor denormals."""
    random = np.random.default_rng(0)
    shapes = {
        "x": ((layer.batch, layer.size, layer.size, layer.channels), 1),
        "depthwise": ((layer.kernel, layer.kernel, layer.channels, 1), layer.kernel**2),
        "project": ((layer.channels, few), layer.channels),
        "expand": ((few, layer.channels), few),
    }
    return {
        name: random.normal(0, inputs**-0.5, shape).astype(np.float32)
        for name, (shape, inputs) in shapes.items()
    }


if __name__ == "__main__":
    serve(Worker)
