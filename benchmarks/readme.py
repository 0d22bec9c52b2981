"""Writes a speed table from a stored result into a page, the README unless another is named.

python -m benchmarks.readme benchmarks/results/NAME.json [docs/speed.md]
"""

from __future__ import annotations

import json
import os.path
import sys
from pathlib import Path
from typing import Any

from benchmarks.peers import FRONT_ENDS, OURS, PEERS
from benchmarks.report import MEASUREMENTS, milliseconds, summary, verdict

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- speed:begin -->", "<!-- speed:end -->"


def block(result: dict[str, Any], source: Path, page: Path) -> str:
    """The table in Markdown: for each case our time, the best peer's, and what share of the floor ours reaches.

    Args:
        result: what `run.py` wrote.
        source: where it is stored, for the reader who wants all of it.
        page: where the table is to stand; what it refers to is named from there.
    """
    machine, threads = result["machine"], result["settings"]["threads"]
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
    links = {
        "the whole result": source,
        "how it is measured": ROOT / "benchmarks" / "README.md",
        "pictures": ROOT / "docs" / "speed.md",
    }
    shown = [
        f"[{text}]({os.path.relpath(target, page.parent)})"
        for text, target in links.items()
        if target != page
    ]
    text = (
        f"Milliseconds on {machine['cpu']} ({threads} threads), float32. *inference* is the "
        "forward pass with bias and ReLU, *training* that and the gradients of input, kernel and bias. *best peer* "
        f"is the fastest of {peers_of(result)} on that layer; *ratio* is its time over ours; *floor* is what the "
        f"machine's arithmetic and memory allow, over ours. `make bench` makes this table; {', '.join(shown[:-1])} "
        f"and {shown[-1]}."
    )
    return "\n".join([BEGIN, "", *lines, "", text, "", END])


def peers_of(result: dict[str, Any]) -> str:
    """The libraries that were timed, as a list in words: those that have a figure in any case."""
    layouts = {"torch", "torch-nhwc"}
    timed = {name for entry in result["cases"] for what in MEASUREMENTS for name in entry[what]}
    titles = ["PyTorch (both layouts)"] if layouts <= timed else []
    done = layouts if titles else set()
    titles += [PEERS[name].title for name in PEERS if name in timed - done - {OURS, *FRONT_ENDS}]
    return " and ".join(filter(None, [", ".join(titles[:-1]), titles[-1]]))


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
    source, *pages = map(Path.resolve, map(Path, arguments))
    page = pages[0] if pages else ROOT / "README.md"
    before, rest = page.read_text().split(BEGIN)
    _, after = rest.split(END)
    page.write_text(before + block(table_of(json.loads(source.read_text())), source, page) + after)


if __name__ == "__main__":
    main(sys.argv[1:])
