"""`depthwise demo`: its picture, its tables, and the routes it compares."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from PIL import Image

from depthwise.cli import demo

Run: TypeAlias = Callable[..., str]


def test_picture_and_document_are_those_of_the_bank(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_RUNS", 1)
    out = tmp_path / "demo.png"
    document = json.loads(run("demo", "--out", out, "--json"))

    assert document["input_shape"] == [1, 400, 600, 3]
    assert [entry["name"] for entry in document["filters"]] == [entry.title for entry in demo.bank()]
    for entry, bank in zip(document["filters"], demo.bank(), strict=True):
        assert entry["output_shape"] == [1, 400, 600, 3 * bank.kernel.shape[3]]
        assert entry["cost"]["macs"] == math.prod(entry["output_shape"]) * math.prod(bank.kernel.shape[:2])
        assert entry["milliseconds"].keys() == {"depthwise", "numpy", "scipy"}
        assert all(0 <= difference < 1e-5 for difference in entry["max_abs_difference"].values())

    painted = Image.open(out)
    assert painted.format == "PNG"
    assert list(painted.size) == document["picture_size"]
    samples = np.asarray(painted.convert("RGB")).astype(int)
    assert (samples[:20] == 255).all()  # a clean margin: nothing runs out of the picture
    assert (samples[-20:] == 255).all()
    assert (samples[:, :20] == 255).all()
    assert (samples[:, -20:] == 255).all()
    assert len(np.unique(samples.reshape(-1, 3), axis=0)) > 150
    assert out.stat().st_size < 600_000
    assert list(tmp_path.iterdir()) == [out]


def test_tables_name_every_filter(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_RUNS", 1)
    monkeypatch.setattr(demo, "bank", lambda bank=demo.bank: bank()[:3])
    printed = run("demo", "--out", tmp_path / "demo.png")
    for title in ("Sobel edges", "Gaussian blur", "Sharpen"):
        assert printed.count(title) == 2
    assert f"wrote {tmp_path / 'demo.png'}" in printed.replace("\n", "")


def test_the_output_must_be_a_png(fail: Run, tmp_path: Path) -> None:
    assert "--out: expected a file name that ends in .png" in fail("demo", "--out", tmp_path / "demo.jpg")


@pytest.mark.parametrize("shape", [(3, 3, 3, 2), (1, 5, 3, 1), (7, 3, 3, 1)])
def test_the_stand_ins_compute_the_same_as_the_library(shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(11)
    x = generator.random((1, 24, 31, 3), np.float32)
    kernel = generator.standard_normal(shape, np.float32)
    ours = demo.ROUTES["depthwise"](x, kernel)
    for name in ("numpy", "scipy"):
        np.testing.assert_allclose(demo.ROUTES[name](x, kernel), ours, atol=1e-5)
