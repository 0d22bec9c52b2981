"""The machine that a result was taken on, as far as it matters for comparing results."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any


def available_cpus() -> int:
    """How many CPUs this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe() -> dict[str, Any]:
    """CPU model, vector extensions, caches, memory and system, as JSON values; nothing that names the machine."""
    flags = set(_cpuinfo("flags").split()) | set(_cpuinfo("Features").split())
    vectors = ("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "asimd", "sve")
    return {
        "cpu": _cpu_model(),
        "cpus": available_cpus(),
        "architecture": platform.machine(),
        "vector_extensions": [name for name in vectors if name in flags],
        "caches": _caches(),
        "memory_gib": round(memory_bytes() / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _cpuinfo(key: str) -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return ""


def _cpu_model() -> str:
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    model = _cpuinfo("model name") or platform.processor() or platform.machine()
    family, number = _cpuinfo("cpu family"), _cpuinfo("model")
    # Virtual machines often hide the model's name, but not these.
    return f"{model} (family {family}, model {number})" if family else model


def _caches() -> dict[str, str]:
    caches = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (_read(folder / name) for name in ("level", "type", "size"))
        if kind != "Instruction":
            caches[f"L{level}"] = size
    return caches


def _read(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


def memory_bytes() -> int:
    """The machine's memory in bytes; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return 0
