"""Builds side by side: this one beside itself, on layers that take no time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("rich")

import depthwise
from benchmarks import builds

HERE = Path(depthwise.__file__).resolve().parent.parent


def test_every_case_and_measurement_has_a_line_with_a_figure_of_each_build(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--cases", "5x5x3-k3", "4x4x2-k2-m2-nchw", "--what", "inference", "training"]
    turns = ["--rounds", "1", "--seconds", "0.001", "--threads", "1"]
    assert builds.main([f"one={HERE}", f"other={HERE}", *options, *turns]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if re.search("inference|training", line)]
    assert len(lines) == 4
    for line in lines:
        assert len(re.findall(r"\d+\.\d\b", line)) == 2, line


@pytest.mark.parametrize(
    ("argument", "message"),
    [("nameless", "NAME=FOLDER"), ("empty={tmp}", "a folder with depthwise in it"), ("=", "NAME=FOLDER")],
)
def test_a_build_that_is_none_is_refused(
    argument: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        builds.main([argument.format(tmp=tmp_path), "--cases", "5x5x3-k3"])
    assert message in capsys.readouterr().err


def test_a_case_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        builds.main([f"one={HERE}", "--cases", "5x5"])
    assert "expected a name such as" in capsys.readouterr().err
