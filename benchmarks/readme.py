"""Writes the README's speed table, or another page's, from a stored result: `python -m benchmarks.readme --help`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.peers import OURS, PEERS
from benchmarks.report import MEASUREMENTS, milliseconds, summary, verdict

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BEGIN, END = "<!-- speed:begin -->", "<!-- speed:end -->"


def peers_of(result: dict[str, Any]) -> str:
    """The peers among which the best was sought, as a sentence lists them."""
    names = [PEERS[name].title for name in result["versions"] if not PEERS[name].ours]
    if "PyTorch" in names and "PyTorch channels_last" in names:
        names.remove("PyTorch channels_last")
        names[names.index("PyTorch")] = "PyTorch (both layouts)"
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)


def block(stored: dict[str, Any], source: str, root: str = ".") -> str:
    """The table in Markdown: for each case our time, the best peer's, and what share of the floor ours reaches.

    Args:
        stored: what `run.py` or `suite.py` wrote.
        source: where it is stored, seen from the page, for the reader who wants all of it.
        root: the way from the page to the repository's root.

    Raises:
        ValueError: the suite was run without the table.
    """
    result = table_of(stored)
    machine, threads = result["machine"], result["settings"]["threads"]
    beside = "" if root == "." else f"{root}/"
    maker = "python -m benchmarks.run" if result is stored else "make bench"
    head = "| layer | " + " | ".join(f"{what} | best peer | ratio | floor" for what in MEASUREMENTS) + " |"
    lines = [head, "|---|" + "---:|" * 4 * len(MEASUREMENTS)]
    for entry in result["cases"]:
        cells = [entry["case"]["name"]]
        for what in MEASUREMENTS:
            judged = verdict(entry, what)
            peer = PEERS[judged.best_peer].title if judged.best_peer else "-"
            cells += [
                milliseconds(judged.ours_ms),
                f"{milliseconds(judged.best_ms)} ({peer})",
                "-" if judged.ratio is None else f"{judged.ratio:.2f}",
                "-" if judged.floor_share is None else f"{judged.floor_share:.0%}",
            ]
        lines.append("| " + " | ".join(cells) + " |")
    means, cells = summary(result["cases"]), ["**geometric mean**"]
    for what in MEASUREMENTS:
        ratio, share = means[what]["ratio"], means[what]["floor_share"]
        cells += ["", "", f"**{ratio:.2f}**" if ratio else "-", f"**{share:.0%}**" if share else "-"]
    lines.append("| " + " | ".join(cells) + " |")
    text = (
        f"Milliseconds on {machine['cpu']} ({threads} threads, {result['versions'][OURS]['isa']}), float32. "
        "*inference* is the forward pass with bias and ReLU, *training* that and the gradients of input, kernel and "
        f"bias. *best peer* is the fastest of {peers_of(result)} on that layer; *ratio* is its time over ours; "
        "*floor* is the least time that the machine's arithmetic and memory allow, as a share of ours. Ours writes to "
        "arrays that are given to it (`out=`); PyTorch, TensorFlow and JAX make new ones in every call. "
        f"`{maker}` makes this table; [the whole result]({source}), [how it is measured]"
        f"({beside}benchmarks/README.md) and [pictures]({beside}docs/speed.md)."
    )
    return "\n".join([BEGIN, "", *lines, "", text, "", END])


def table_of(stored: dict[str, Any]) -> dict[str, Any]:
    """The table's result: what `run.py` wrote as it is, or that section of what `suite.py` wrote.

    Raises:
        ValueError: the suite was run without the table.
    """
    found: dict[str, Any] = stored if "cases" in stored else stored.get("table", {})
    if "cases" not in found:
        raise ValueError(
            "expected a result of benchmarks.run, or one of benchmarks.suite with the table in it"
        )
    return found


def main(arguments: list[str]) -> None:
    """Replaces the block between the page's markers."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.readme", description=(__doc__ or "").split(":")[0]
    )
    parser.add_argument("result", type=Path, help="of benchmarks.run or benchmarks.suite")
    parser.add_argument("page", type=Path, nargs="?", default=README, help="default: the README")
    given = parser.parse_args(arguments)
    page = given.page.resolve()
    text = page.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)

    def link(to: Path) -> str:
        return Path(os.path.relpath(to.resolve(), page.parent)).as_posix()

    made = block(json.loads(given.result.read_text()), link(given.result), link(ROOT))
    page.write_text(before + made + after)


if __name__ == "__main__":
    main(sys.argv[1:])
