"""PyTorch's own threads, which the op runs on inside of PyTorch."""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path

import torch

from depthwise.native import use_openmp

__all__ = ["share"]


def share() -> None:
    """Has the op run on the threads of PyTorch's operations, where those are OpenMP's, as in its builds for Linux.

    They look for work for milliseconds after each operation, and threads of our own would have to share the CPUs with
    them. Elsewhere the op runs on its own threads.
    """
    library = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    with contextlib.suppress(OSError, AttributeError):  # another system, or a build without OpenMP
        # There may be several OpenMP libraries in the process: here the one that PyTorch is linked to is found.
        use_openmp(ctypes.CDLL(str(library)))
