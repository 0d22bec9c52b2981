"""What `accelerate` reports of a model's layers, whichever framework they are of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Replacement", "print_report"]


class Replacement(NamedTuple):
    """What `accelerate` did about one layer.

    Attributes:
        name: of the layer, with those of the models that it lies in: "backbone/block1_dwconv".
        action: "replaced", "folded" (batch normalization or activation, into the convolution before it) or "left".
        reason: why it was left, or what it was folded into; empty for what was replaced.
    """

    name: str
    action: str
    reason: str = ""


def print_report(replacements: Sequence[Replacement]) -> None:
    """Print what was done, and for every layer that was left, why."""
    counts = [
        f"{sum(r.action == action for r in replacements)} {action}"
        for action in ("replaced", "folded", "left")
        if action == "replaced" or any(r.action == action for r in replacements)
    ]
    print(f"depthwise.accelerate: {', '.join(counts)}")
    for name, action, reason in replacements:
        print(f"  {action:8}  {name}{': ' + reason if reason else ''}")
