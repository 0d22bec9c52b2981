"""Instruction sets to run, Hypothesis profiles, and a header that says which of both."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import depthwise
from depthwise import native
from tests.cases import DTYPES, LAYOUTS

# Everything that has a name, on any CPU.
ISAS = ("baseline", "avx2", "avx512", "neon")

# "ci" draws the same examples every time. "thorough" draws twenty times as many, others each time; what fails there
# is printed with the decorator that repeats it.
COMMON = {"deadline": None, "print_blob": True, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("ci", max_examples=600, derandomize=True, database=None, **COMMON)  # type: ignore[arg-type]
settings.register_profile("thorough", max_examples=12_000, **COMMON)  # type: ignore[arg-type]
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_report_header() -> list[str]:
    compiled, supported = native.compiled_isas(), native.supported_isas()
    missing = [isa for isa in compiled if isa not in supported]
    foreign = [isa for isa in ISAS if isa not in compiled]
    return [
        f"depthwise: {depthwise.__version__} from {Path(depthwise.__file__).parent}, "
        f"{depthwise.get_num_threads()} threads",
        f"instruction sets: tests run on {', '.join(supported)}; "
        f"compiled, but this CPU lacks them: {', '.join(missing) or 'none'}; "
        f"for other CPUs: {', '.join(foreign) or 'none'}",
    ]


@pytest.fixture(params=native.supported_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set of this machine in turn, in use during the test."""
    previous = native.force_isa(request.param)
    yield request.param
    native.force_isa(previous)


@pytest.fixture(params=list(DTYPES))
def dtype(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=LAYOUTS)
def data_format(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Sets the number of threads; puts the number back that it was."""
    before = depthwise.get_num_threads()
    yield depthwise.set_num_threads
    depthwise.set_num_threads(before)


@pytest.fixture
def python() -> Callable[..., str]:
    """Runs a program in another process, from this folder's parent; returns what it printed.

    It must exit with `status` and before `timeout` seconds have passed.
    """

    def run(program: str, *, status: int = 0, timeout: float = 120, env: dict[str, str] | None = None) -> str:
        with subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parent.parent,
            env={**os.environ, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            finally:  # its children, too: one that hangs would keep the pipes open
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode == status, f"exit status {process.returncode}\n{out}{err}"
        return out if status == 0 else err

    return run
