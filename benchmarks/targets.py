"""What a benchmark's result is held against: a line per target, passed or missed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from rich.console import Console


class Target(NamedTuple):
    """One target and what a run made of it.

    Attributes:
        about: what is measured, in a few words.
        wanted: the bound, as text, e.g. "at least 1.5".
        found: the figure, as text, with the case it comes from where it is one case's.
        passed: whether the bound holds; None where it could not be measured, which `found` explains.
    """

    about: str
    wanted: str
    found: str
    passed: bool | None


def show(targets: Iterable[Target], console: Console) -> None:
    """Prints a line per target: pass, miss, or not measured."""
    words = {True: "[green]pass[/green]", False: "[red]miss[/red]", None: "[yellow]none[/yellow]"}
    for target in targets:
        console.print(
            f"{words[target.passed]}  {target.about}: {target.found} (wanted: {target.wanted})",
            highlight=False,
        )
