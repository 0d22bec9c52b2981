"""The time that a process spends inside the native op, counted by `calls.c`, which is preloaded into it.

The parent compiles it, and starts the process in the `environment()` that has the dynamic linker preload it
(Linux); the process asks with `take()`.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks.runtimes import ROOT

SOURCE = Path(__file__).with_name("calls.c")
FLAGS = ("-O2", "-shared", "-fPIC", "-pthread", "-I", str(ROOT / "csrc"))
LIBRARIES = ("-ldl",)


class Counts(NamedTuple):
    """Native calls, and the milliseconds inside them."""

    forward_calls: int
    forward_ms: float
    backward_calls: int
    backward_ms: float


@functools.cache
def _build(compiler: str) -> tempfile.TemporaryDirectory[str]:
    """The folder of the compiled library; it lasts as long as this process."""
    folder = tempfile.TemporaryDirectory(prefix="depthwise-calls-")
    command = [compiler, *FLAGS, str(SOURCE), "-o", str(Path(folder.name) / "calls.so"), *LIBRARIES]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode:
        folder.cleanup()
        raise RuntimeError(f"{' '.join(command)} failed:\n{built.stderr}")
    return folder


def environment(compiler: str | None = None) -> dict[str, str]:
    """Compiles `calls.c` (once per process); the variables that have a process preload it.

    Args:
        compiler: the C compiler; default $CC, else `cc`.

    Raises:
        RuntimeError: this is not Linux, there is no C compiler, or it fails.
    """
    if not sys.platform.startswith("linux"):
        raise RuntimeError(f"counting a process's native calls works on Linux only, not on {sys.platform}")
    compiler = compiler or os.environ.get("CC", "cc")
    if shutil.which(compiler) is None:
        raise RuntimeError(f"no C compiler {compiler!r} to count native calls with; set CC")
    library = str(Path(_build(compiler).name) / "calls.so")
    others = os.environ.get("LD_PRELOAD")
    return {"LD_PRELOAD": f"{library}:{others}" if others else library}


class _Counts(ctypes.Structure):
    """As in `calls.c`."""

    _fields_ = (
        ("forward_calls", ctypes.c_uint64),
        ("forward_ns", ctypes.c_uint64),
        ("backward_calls", ctypes.c_uint64),
        ("backward_ns", ctypes.c_uint64),
    )


def take() -> Counts:
    """What this process has counted since the last time.

    Raises:
        RuntimeError: it was not started in the `environment()`.
    """
    found = _Counts()
    try:
        ctypes.CDLL(None).depthwise_calls_take(ctypes.byref(found))
    except AttributeError:
        raise RuntimeError(f"{SOURCE.name} is not preloaded into this process") from None
    return Counts(found.forward_calls, found.forward_ns / 1e6, found.backward_calls, found.backward_ns / 1e6)
