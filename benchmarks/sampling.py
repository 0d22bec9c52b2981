"""What the processes of this package are busy with: sampled with Linux's `perf`, told apart by source lines."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.runtimes import Runtime
from benchmarks.turns import ANSWER_TIMEOUT

PARTS = {
    "tiles": "multiply-adds in registers, with the loads that they wait for, and activations",
    "staging": "rows and planes brought into the form that tiles read: transposed, repeated, padded, converted",
    "results": "what was made in scratch moved to its place; sums of groups, and of a gradient's parts",
    "set-up": "weights packed; which blocks, rows and tiles come next; rows asked for ahead of their use",
    "threads": "tasks shared out; waiting for another thread, or for the next call",
    "call": "Python, the front-end, the op's checks, the system",
}

FILES = {
    "activation.h": "tiles",
    "channels_sink.h": "tiles",
    "channels_tile.h": "tiles",
    "covering_tile.h": "tiles",
    "elementary.h": "tiles",
    "pixel_tile.h": "tiles",
    "plane_tile.h": "tiles",
    "scale_forward.h": "tiles",
    "strip_tile.h": "tiles",
    "tap_sums.h": "tiles",
    "phases.h": "staging",
    "pixel_gather.h": "staging",
    "pixels.h": "staging",
    "karatsuba.h": "staging",
    "planes.h": "staging",
    "repeated.h": "staging",
    "rows.h": "staging",
    "transposed_rows.h": "staging",
    "ahead.h": "set-up",
    "call_memory.h": "set-up",
    "channels_convolution.h": "set-up",
    "channels_forward.h": "set-up",
    "channels_input_gradient.h": "set-up",
    "channels_kernel_gradient.h": "set-up",
    "channels_row.h": "set-up",
    "choice.h": "set-up",
    "class_plans.h": "set-up",
    "column_blocks.h": "set-up",
    "columns_forward.h": "set-up",
    "strips_forward.h": "set-up",
    "columns_input_gradient.h": "set-up",
    "columns_kernel_gradient.h": "set-up",
    "gradient_columns.h": "set-up",
    "gradient_parts.h": "set-up",
    "karatsuba_block.h": "set-up",
    "karatsuba_convolution.h": "set-up",
    "karatsuba_kernel_gradient.h": "set-up",
    "outgrowing.h": "set-up",
    "packed_kernel.h": "set-up",
    "pixels_forward.h": "set-up",
    "row_sums.h": "set-up",
    "rows_aside.h": "results",
    "table_bfloat16.cc": "set-up",
    "table_float16.cc": "set-up",
    "table_float32.cc": "set-up",
    "table_float64.cc": "set-up",
    "tuning.h": "set-up",
    "turned.h": "set-up",
    "pool.cc": "threads",
    "pool.h": "threads",
    "team.h": "threads",
    "teams.h": "threads",
    "scratch.cc": "threads",
    "op.cc": "call",
}
"""The part that a line of each source file belongs to. What is not named here counts for whoever uses it."""

FUNCTIONS = {
    "Elements": "tiles",
    "add_outputs_alone": "tiles",
    "add_products": "tiles",
    "add_products_exactly": "tiles",
    "add_results": "results",
    "convert_back": "results",
    "convert_back_interleaved": "results",
    "gather_run": "staging",
    "move_row": "results",
    "move_run": "results",
    "move_transposed": "results",
    "split_taps": "set-up",
    "sum_groups": "results",
    "sums_of_groups": "results",
    "write_row": "results",
}
"""Functions of another part than their file."""

LIBRARY = "libdepthwise.so"

FREQUENCY = 4999
"""Samples of each running thread in a second; no multiple of what else happens in rhythm."""


class Frame(NamedTuple):
    """A function and the file that a line of it is from, as `addr2line` tells."""

    function: str
    file: str


def part_of(frames: Sequence[Frame]) -> str:
    """What a sample was busy with.

    Args:
        frames: the function that it was in, and those that this one was inlined into, the innermost first.
    """
    for frame in frames:
        for name, part in FUNCTIONS.items():
            if re.search(rf"\b{name}[<(]", frame.function):
                return part
        if frame.file in FILES:
            return FILES[frame.file]
    return "call"


def read_frames(output: str) -> dict[int, list[Frame]]:
    """What `addr2line -a -f -i -C` printed: for each address the frames, the innermost first."""
    found: dict[int, list[Frame]] = {}
    frames: list[Frame] = []
    lines = iter(output.splitlines())
    for line in lines:
        if line.startswith("0x"):
            frames = found.setdefault(int(line, 16), [])
        else:
            place = next(lines, "??:0")
            frames.append(Frame(line, place.rpartition("/")[2].partition(":")[0]))
    return found


def find_frames(library: str, addresses: Iterable[int]) -> dict[int, list[Frame]]:
    """The frames of addresses in a shared library.

    Raises:
        RuntimeError: there is no `addr2line`, or the library has no line numbers.
    """
    wanted = "\n".join(map(hex, addresses))
    program = ["addr2line", "-e", library, "-a", "-f", "-i", "-C"]
    try:
        printed = subprocess.run(program, input=wanted, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise RuntimeError(f"addr2line does not work: {error}") from None
    found = read_frames(printed)
    if found and all(frame.file == "??" for frames in found.values() for frame in frames):
        advice = "pip install . -C install.strip=false -C cmake.define.CMAKE_CXX_FLAGS=-g1"
        raise RuntimeError(f"{library} has no line numbers; {advice!r} makes one that has")
    return found


def read_samples(output: str, library: str, base: int) -> Counter[int | None]:
    """What `perf script -F ip,dso` printed: samples by their address in the library, None for those elsewhere."""
    found: Counter[int | None] = Counter()
    for line in output.splitlines():
        address, _, place = line.strip().partition(" ")
        if address:
            found[int(address, 16) - base if place.strip(" ()") == library else None] += 1
    return found


def sample(runtime: Runtime, what: str, seconds: float) -> tuple[str, Counter[int | None]]:
    """Samples a measurement that a process has loaded; returns our library's path and the samples.

    Raises:
        RuntimeError: `perf` does not work here.
    """
    with tempfile.TemporaryDirectory(prefix="depthwise-profile-") as folder, runtime.awake():
        mapped = [
            line.split(maxsplit=5) for line in Path(f"/proc/{runtime.pid}/maps").read_text().splitlines()
        ]
        ours = [fields for fields in mapped if len(fields) == 6 and fields[5].endswith(f"/{LIBRARY}")]
        if not ours:
            raise RuntimeError(f"{LIBRARY} is not in the process that was to be sampled")
        library, base = ours[0][5], min(int(fields[0].partition("-")[0], 16) for fields in ours)
        path = str(Path(folder) / "perf.data")
        recorded = ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(FREQUENCY), "-o", path]
        try:
            recorder = subprocess.Popen(
                [*recorded, "-p", str(runtime.pid), "--", "sleep", str(seconds)],
                stderr=subprocess.PIPE,
                text=True,
            )
        except OSError as error:
            raise RuntimeError(f"perf does not work: {error}") from None
        # Longer than is sampled, at both ends.
        runtime.ask(ANSWER_TIMEOUT + seconds, do="time", what=what, seconds=seconds + 0.5)
        _, errors = recorder.communicate()
        if recorder.returncode:
            raise RuntimeError(f"perf record failed: {errors.strip()}")
        script = ["perf", "script", "-i", path, "-F", "ip,dso"]
        printed = subprocess.run(script, capture_output=True, text=True, check=False)
        if printed.returncode:
            raise RuntimeError(f"perf script failed: {printed.stderr.strip()}")
    samples = read_samples(printed.stdout, library, base)
    if not samples:
        raise RuntimeError(f"perf took no sample in {seconds} s")
    return library, samples


def profile(runtime: Runtime, what: str, seconds: float) -> dict[str, Any]:
    """The shares of the parts in the time of all running threads, and the functions that take most of it."""
    library, samples = sample(runtime, what, seconds)
    frames = find_frames(library, [address for address in samples if address is not None])
    total = sum(samples.values())
    parts: dict[str, float] = dict.fromkeys(PARTS, 0.0)
    functions: dict[str, float] = defaultdict(float)
    for address, count in samples.items():
        stack = frames.get(address, []) if address is not None else []
        parts[part_of(stack)] += count / total
        if stack:
            functions[f"{_short(stack[-1].function)} ({part_of(stack)})"] += count / total
    most = sorted(functions.items(), key=lambda item: -item[1])[:5]
    return {
        "samples": total,
        "running": total / (FREQUENCY * seconds),
        "parts": parts,
        "functions": dict(most),
    }


def _short(function: str) -> str:
    """A demangled function's own name, with the numbers among its template's arguments."""
    name = re.sub(r"\(anonymous namespace\)::|depthwise::|\b(avx512|avx2|baseline|neon)::", "", function)
    head = re.match(r"(?:[\w:]+ )?([\w:~]+)(?:<([^>]*)>)?", name)
    if head is None:
        return name
    numbers = [
        text.strip()
        for text in (head[2] or "").split(",")
        if re.fullmatch(r"\s*(\d+\w*|true|false)\s*", text)
    ]
    return head[1] + (f"<{', '.join(numbers)}>" if numbers else "")
