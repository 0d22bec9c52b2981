"""Variants that are timed in turns, here or in other processes, so that a slow minute of the machine hits them all."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks.runtimes import LostError, Runtime

ANSWER_TIMEOUT = 120.0
"""Seconds that a process has for a turn."""

Timer = Callable[[float], float]
"""Times something for about so many seconds; returns the median of its calls in milliseconds."""


def interleave(timers: Mapping[str, Timer], rounds: int, seconds: float) -> dict[str, float]:
    """The median of each timer's calmest round, in milliseconds; infinite where a round was lost.

    Args:
        timers: what takes turns, by name.
        rounds: how often each has its turn. Each round begins with another one.
        seconds: the time of a turn.
    """
    names = list(timers)
    found: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        shift = turn % max(1, len(names))
        for name in (*names[shift:], *names[:shift]):
            found[name].append(timers[name](seconds))
    return {name: math.inf if math.inf in times else min(times) for name, times in found.items()}


def ask(runtime: Runtime, seconds: float, **request: Any) -> float:
    """The timer of what a process has loaded; infinite when the process is lost.

    Args:
        runtime: the process.
        seconds: the time of a turn.
        request: what to time, in the words of the module that the process runs.
    """
    try:
        with runtime.awake():
            return float(runtime.ask(ANSWER_TIMEOUT, do="time", seconds=seconds, **request)["ms"])
    except LostError:
        return math.inf


def cache_bytes(size: str) -> int | None:
    """A cache's size as `machine.describe` gives it, e.g. "32768K", in bytes; None where it says nothing."""
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    if not size:
        return None
    return int(size[:-1]) * units[size[-1]] if size[-1] in units else int(size)
