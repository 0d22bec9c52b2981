"""What the commands print: tables for people on stdout, one JSON document for programs, notes on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from depthwise.cli.demo import Measurement
from depthwise.spec import Cost

__all__ = [
    "Steps",
    "cost_rows",
    "demo_tables",
    "plain_text",
    "print_json",
    "print_tables",
    "progress_steps",
    "rows_table",
    "with_unit",
]


def with_unit(number: float, unit: str, base: int = 1000) -> str:
    """A number as people say it.

    >>> with_unit(3612672, "FLOP")
    '3.61 MFLOP'
    >>> with_unit(1536, "B", base=1024)
    '1.5 KiB'
    """
    prefixes = ("", "k", "M", "G", "T", "P") if base == 1000 else ("", "Ki", "Mi", "Gi", "Ti", "Pi")
    value, power = float(number), 0
    while abs(value) >= 0.9995 * base and power < len(prefixes) - 1:  # 999.9 would be printed as 1e+03
        value, power = value / base, power + 1
    text = f"{value:.0f}" if power == 0 or abs(value) >= 999.5 else f"{value:.3g}"
    return f"{text} {prefixes[power]}{unit}".rstrip()


def plain_text(value: object) -> str:
    """Lists as their items, everything else as Python prints it."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain_text, value)) or "none"
    return str(value)


def cost_rows(cost: Cost) -> list[tuple[str, str]]:
    """Name and value of every part of a cost."""
    height, width = cost.receptive_field
    outside = 1 - cost.macs_inside / cost.macs if cost.macs else 0.0
    return [
        ("multiply-accumulates", f"{with_unit(cost.macs, '')} ({cost.macs:,})"),
        ("of these on the image", f"{with_unit(cost.macs_inside, '')} ({outside:.1%} meet padding)"),
        ("arithmetic", with_unit(cost.flops, "FLOP")),
        ("parameters", f"{cost.parameters:,}"),
        ("bytes read", with_unit(cost.bytes_read, "B", base=1024)),
        ("bytes written", with_unit(cost.bytes_written, "B", base=1024)),
        ("arithmetic intensity", f"{cost.arithmetic_intensity:.2f} FLOP/byte"),
        ("receptive field", f"{height} \u00d7 {width} pixels"),
    ]


def rows_table(title: str, rows: Sequence[tuple[str, str]]) -> Table:
    """A table of names and values."""
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, value in rows:
        table.add_row(name, Text(value))
    return table


def demo_tables(measurements: Sequence[Measurement], threads: int) -> list[Table]:
    """The demo's two tables: what each filter is and costs, and how long each route took."""
    costs = Table(title="Shapes and cost of one pass", title_justify="left")
    costs.add_column("filter", style="bold", no_wrap=True)
    for name in ("kernel", "output", "MACs", "moved", "FLOP/byte"):
        costs.add_column(name, justify="right", no_wrap=True)
    times = Table(
        title="Time of the fastest run, and largest difference from our result",
        title_justify="left",
        caption=f"depthwise: {threads} thread{'s' if threads != 1 else ''}; NumPy and SciPy: as they come, 1 thread. "
        "SciPy: ndimage.correlate for 3\u00d73, FFT for larger.",
        caption_justify="left",
    )
    times.add_column("filter", style="bold", no_wrap=True)
    for name in ("depthwise", "NumPy", "SciPy", "max |Δ| NumPy", "max |Δ| SciPy"):
        times.add_column(name, justify="right")
    for entry in measurements:
        cost, ours = entry.cost, entry.milliseconds["depthwise"]
        costs.add_row(
            entry.filter.title,
            "\u00d7".join(str(size) for size in entry.filter.kernel.shape),
            "\u00d7".join(str(size) for size in entry.result.shape),
            with_unit(cost.macs, ""),
            with_unit(cost.bytes_read + cost.bytes_written, "B", base=1024),
            f"{cost.arithmetic_intensity:.1f}",
        )
        others = (entry.milliseconds[name] for name in ("numpy", "scipy"))
        times.add_row(
            entry.filter.title,
            f"{ours:.2f} ms",
            *(f"{theirs:.2f} ms\n{theirs / ours:.1f}\u00d7 ours" for theirs in others),
            *(f"{entry.difference[name]:.1e}" for name in ("numpy", "scipy")),
        )
    return [costs, times]


def print_tables(*tables: Table) -> None:
    """Print to stdout; in a file or a pipe, tables are not squeezed to a terminal's width."""
    console = Console(file=sys.stdout)
    if not console.is_terminal:
        console = Console(file=sys.stdout, width=120)
    for table in tables:
        console.print(table)


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON document to stdout."""
    print(json.dumps(document, indent=2, allow_nan=False))


class Steps:
    """A progress bar over a known number of steps; see `progress_steps`."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=total)

    def begin(self, what: str) -> None:
        """Say what is being done."""
        self._progress.update(self._task, description=what)

    def done(self) -> None:
        """One step further."""
        self._progress.advance(self._task)


@contextmanager
def progress_steps(total: int) -> Iterator[Steps]:
    """A progress bar on stderr that goes when the work is done; nothing where stderr is not a terminal."""
    console = Console(stderr=True)
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with progress:
        yield Steps(progress, total)
