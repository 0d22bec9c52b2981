"""Commands run inside this process, and a picture for them to read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from depthwise.cli.app import app


@pytest.fixture
def run() -> Callable[..., str]:
    """Runs a command that must succeed with nothing to complain about; returns its stdout."""

    def run(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout

    return run


@pytest.fixture
def fail() -> Callable[..., str]:
    """Runs a command that must fail with exit code 2 and one line on stderr; returns that line."""

    def fail(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.count("\n") == 1
        assert result.stderr.startswith("depthwise: error: ")
        return result.stderr

    return fail


@pytest.fixture
def values_of(run: Callable[..., str]) -> Callable[..., Any]:
    """Applies a kernel to an image file; returns the values, float32 of shape (H', W', C * M)."""

    def values_of(image: Path, *arguments: object) -> Any:
        out = image.with_name("values.npy")
        run("apply", image, "--out", out, *arguments)
        return np.load(out)

    return values_of


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    """(24, 31, 3), random."""
    return np.random.default_rng(7).integers(0, 256, (24, 31, 3), np.uint8)


@pytest.fixture
def picture(tmp_path: Path, pixels: NDArray[np.uint8]) -> Path:
    """A PNG file of `pixels`."""
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    return path
