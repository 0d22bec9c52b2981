"""No byte outside of the arrays is read or written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from depthwise import native
from tests.cases import DTYPES

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pages are protected with mprotect")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", native.supported_isas())
def test_calls_flush_against_unreadable_pages(isa: str, dtype: str) -> None:
    process = run("-m", "tests.guarded", isa, dtype)
    lines = process.stdout.splitlines() or ["nothing"]
    assert process.returncode == 0, f"exit status {process.returncode} in\n{lines[-1]}\n{process.stderr}"
    calls, *_ = lines[-1].split()
    assert int(calls) > 1000


@pytest.mark.parametrize("offset", [-1, "region.capacity"])
def test_the_pages_are_unreadable(offset: object) -> None:
    """What the test above relies on: a read outside of a region ends the process."""
    program = f"""
import numpy as np
from tests.guarded import CONTIGUOUS, Region
region = Region(100)
array = region.allocate((1, 2, 3, 4), np.dtype("u4"), CONTIGUOUS, True)
print(array.sum() > 0, flush=True)
outside = np.lib.stride_tricks.as_strided(region.bytes[:1], (1,))
print(np.ctypeslib.ctypes.c_char.from_address(region.bytes.ctypes.data + {offset}))
"""
    process = run("-c", program)
    assert process.returncode < 0
    assert process.stdout == "True\n"
