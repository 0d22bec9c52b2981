"""Writes the README's speed table from a stored result: `python -m benchmarks.readme benchmarks/results/NAME.json`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.peers import PEERS
from benchmarks.report import MEASUREMENTS, milliseconds, summary, verdict

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- speed:begin -->", "<!-- speed:end -->"


def block(result: dict[str, Any], source: str) -> str:
    """The table in Markdown: for each case our time, the best peer's, and what share of the floor ours reaches.

    Args:
        result: what `run.py` wrote.
        source: where it is stored, for the reader who wants all of it.
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
    text = (
        f"Milliseconds on {machine['cpu']} ({threads} threads), float32. *inference* is the "
        "forward pass with bias and ReLU, *training* that and the gradients of input, kernel and bias. *best peer* "
        "is the fastest of PyTorch (both layouts), TensorFlow, JAX, ONNX Runtime, OpenVINO and LiteRT on that "
        "layer; *ratio* is its time over ours; *floor* is what the machine's arithmetic and memory allow, over "
        f"ours. `make bench` makes this table; [the whole result]({source}), [how it is measured]"
        "(benchmarks/README.md) and [pictures](docs/speed.md)."
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
    """Replaces the block between the README's markers."""
    (name,) = arguments
    path = Path(name).resolve()
    text = README.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    source = path.relative_to(README.parent).as_posix()
    README.write_text(before + block(table_of(json.loads(path.read_text())), source) + after)


if __name__ == "__main__":
    main(sys.argv[1:])
