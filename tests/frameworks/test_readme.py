"""What the README shows of each framework runs as it stands there."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
BLOCKS = [
    block
    for block in re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
    if not block.startswith(">>>")
]
MODEL = """
import keras
model = keras.applications.MobileNet(weights=None, alpha=0.25, input_shape=(32, 32, 3))
"""


def framework(block: str) -> str:
    found = re.search(r"depthwise\.(\w+)", block)
    assert found
    return found[1]


@pytest.mark.parametrize("block", BLOCKS, ids=[framework(block) for block in BLOCKS])
def test_runs(block: str, python: Callable[..., str]) -> None:
    statements = [line for line in block.splitlines() if line]
    assert len(statements) <= 6
    python(textwrap.dedent(MODEL if "accelerate" in block else "") + block)


def test_shows_every_framework() -> None:
    assert [framework(block) for block in BLOCKS] == ["accelerate", "keras", "tensorflow", "jax", "torch"]
