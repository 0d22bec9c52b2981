"""Builds side by side: this one beside itself, on layers that take no time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("rich")

import depthwise
from benchmarks import builds
from benchmarks.runtimes import Runtime

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


def test_a_build_that_another_one_hides_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As an editable install does, whose packages come before those of PYTHONPATH."""
    hidden, names = tmp_path / "hidden", []
    (hidden / "depthwise").mkdir(parents=True)
    (hidden / "depthwise" / "__init__.py").touch()

    def answer(_runtime: Runtime, _timeout: float, **request: object) -> dict[str, str]:
        names.append(request["do"])
        return {"depthwise": str(HERE)}

    monkeypatch.setattr(Runtime, "ask", answer)
    with pytest.raises(SystemExit):
        builds.main([f"one={HERE}", f"other={hidden}", "--cases", "5x5x3-k3"])
    assert names == ["hello", "hello"]
    message = f"other: expected depthwise from {hidden}, got the one in {HERE}"
    assert message in " ".join(capsys.readouterr().err.split())


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
