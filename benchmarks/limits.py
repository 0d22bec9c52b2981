"""The machine's own limits, measured by `limits.c` in the same run as the layers, and the floor that follows."""

from __future__ import annotations

import functools
import json
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from depthwise.spec import Cost

SOURCE = Path(__file__).with_name("limits.c")
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-pthread")

BYTES_PER_THREAD = tuple(16 * 1024 * 4**step for step in range(8))
"""Working sets from half of an L1 cache to far beyond any last-level cache: 16 KiB to 256 MiB."""

MAX_TOTAL_BYTES = 2**30

SECONDS = 0.01
"""Given to each of the measurements, which `limits.c` repeats and takes the best of."""


Rates = tuple[tuple[int, float], ...]
"""(Bytes of all arrays together, bytes read and written per second), sizes ascending."""


@dataclass(frozen=True)
class Limits:
    """What all threads together can do.

    Attributes:
        vector_bytes: width of the vectors that `peak_flops` was reached with.
        peak_flops: float32 operations per second, a multiply-add being two.
        copy: one array read, another one written.
        gradients: three arrays read in step, a fourth one written past the caches.
    """

    vector_bytes: int
    peak_flops: float
    copy: Rates
    gradients: Rates

    def copy_rate(self, working_set: float) -> float:
        """Bytes read and written per second when copying within so many bytes."""
        return _rate_at(self.copy, working_set)

    def better(self, other: Limits) -> Limits:
        """The best of two measurements of the same machine, size by size."""
        return Limits(
            self.vector_bytes,
            max(self.peak_flops, other.peak_flops),
            _better_rates(self.copy, other.copy),
            _better_rates(self.gradients, other.gradients),
        )

    def to_json(self) -> dict[str, Any]:
        """The limits as JSON values."""
        return {
            "vector_bytes": self.vector_bytes,
            "peak_gflops": self.peak_flops / 1e9,
            "copy": _rates_to_json(self.copy),
            "gradients": _rates_to_json(self.gradients),
        }


def _rate_at(rates: Rates, working_set: float) -> float:
    """Between two measured sizes it runs straight on logarithmic axes; beyond them it is that of the last one."""
    size, rate = rates[0]
    if working_set <= size:
        return rate
    for next_size, next_rate in rates[1:]:
        if working_set <= next_size:
            part = math.log(working_set / size) / math.log(next_size / size)
            return math.exp((1 - part) * math.log(rate) + part * math.log(next_rate))
        size, rate = next_size, next_rate
    return rate


def _better_rates(rates: Rates, others: Rates) -> Rates:
    return tuple((size, max(rate, again)) for (size, rate), (_, again) in zip(rates, others, strict=True))


def _rates_to_json(rates: Rates) -> list[dict[str, float]]:
    return [{"bytes": size, "gb_per_second": rate / 1e9} for size, rate in rates]


def floor_ms(cost: Cost, limits: Limits, *, dtype: str = "float32", passes: int = 1) -> float:
    """The least time, in milliseconds, in which a machine with these limits can do a layer.

    The longer of two: the arithmetic of the taps that meet the image at the peak rate, and moving input, kernel, bias
    and output once at the rate of a copy of that size. A training step is three passes of the same arithmetic and
    traffic: forward, input gradient, kernel gradient. Half types compute in float32; float64 has half its peak.
    """
    peak = limits.peak_flops / (2 if dtype == "float64" else 1)
    moved = cost.bytes_read + cost.bytes_written
    return 1e3 * passes * max(cost.flops / peak, moved / limits.copy_rate(moved))


def moving_ms(cost: Cost, limits: Limits) -> dict[str, float]:
    """The time, in milliseconds, in which a machine with these limits moves a layer's bytes and computes nothing.

    In inference input, kernel, bias and output move once. In a training step the gradients move all of them a second
    time, and as many bytes of their own: of the input, the output and its gradient to the gradient of the input. A
    layer whose own time is hardly longer cannot be made much faster, whatever the floor says, which counts all traffic
    as copies and takes it to go on beside the arithmetic.
    """
    moved = cost.bytes_read + cost.bytes_written
    forward = 1e3 * moved / limits.copy_rate(moved)
    backward = 1e3 * 2 * moved / _rate_at(limits.gradients, 2 * moved)
    return {"inference": forward, "training": forward + backward}


@functools.cache
def _build(compiler: str) -> tempfile.TemporaryDirectory[str]:
    """The folder of the compiled program; it lasts as long as this process."""
    folder = tempfile.TemporaryDirectory(prefix="depthwise-limits-")
    command = [compiler, *FLAGS, str(SOURCE), "-o", str(Path(folder.name) / "limits")]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{built.stderr}")
    return folder


def measure(threads: int, *, seconds: float = SECONDS, compiler: str | None = None) -> Limits:
    """Compiles `limits.c` (once per process) and runs it.

    Args:
        threads: how many threads compute and move bytes at once.
        seconds: given to each single measurement.
        compiler: the C compiler; default $CC, else `cc`.

    Raises:
        RuntimeError: there is no C compiler, or it fails.
    """
    compiler = compiler or os.environ.get("CC", "cc")
    if shutil.which(compiler) is None:
        raise RuntimeError(f"no C compiler {compiler!r} to measure the machine's limits with; set CC")
    sizes = [min(size * threads, MAX_TOTAL_BYTES) for size in BYTES_PER_THREAD]
    program = str(Path(_build(compiler).name) / "limits")
    command = [program, str(threads), str(seconds), *map(str, dict.fromkeys(sizes))]
    return parse(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def parse(output: str) -> Limits:
    """What `limits.c` printed."""
    found = json.loads(output)

    def rates(name: str) -> Rates:
        entries: Sequence[dict[str, float]] = found[name]
        return tuple((int(entry["bytes"]), entry["bytes_per_second"]) for entry in entries)

    return Limits(found["vector_bytes"], found["peak_flops"], rates("copy"), rates("gradients"))
