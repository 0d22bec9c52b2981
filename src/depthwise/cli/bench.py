"""`depthwise bench`: the benchmark lives beside the package in a source checkout, not inside it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from depthwise.cli.errors import CliError

__all__ = ["find_checkout", "run"]


def find_checkout(start: Path) -> Path | None:
    """The source checkout that `start` lies in, or None."""
    for folder in (start, *start.parents):
        project = folder / "pyproject.toml"
        if (folder / "benchmarks" / "run.py").is_file() and project.is_file():
            return folder if 'name = "depthwise"' in project.read_text(encoding="utf-8") else None
    return None


def run(arguments: Sequence[str]) -> int:
    """Run `benchmarks.run.main` of the checkout that holds this file or else the current folder.

    Args:
        arguments: passed on as they are.

    Returns:
        The benchmark's exit code.

    Raises:
        CliError: neither lies in a checkout.
    """
    checkout = find_checkout(Path(__file__).resolve().parent) or find_checkout(Path.cwd())
    if checkout is None:
        raise CliError("bench: the benchmark is part of the source checkout: run this inside one")
    sys.path.insert(0, str(checkout))
    benchmark: Any = importlib.import_module("benchmarks.run")
    return int(benchmark.main(list(arguments)) or 0)
