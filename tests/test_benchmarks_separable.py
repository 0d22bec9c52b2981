"""The benchmark of depthwise and pointwise convolutions in one, on made-up figures; nothing here times anything."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

pytest.importorskip("rich")

from rich.console import Console

from benchmarks import separable, separable_worker
from benchmarks.runtimes import Runtime
from benchmarks.separable_worker import Layer
from depthwise import reference

SMALL = [Layer(7, 1, 5, 3), Layer(8, 2, 4, 6), Layer(9, 2, 3, 2), Layer(2, 1, 1, 1), Layer(1, 1, 2, 3)]

MS = {
    "numpy depthwise": 1.0,
    "numpy pointwise": 4.0,
    "numpy pair": 6.5,
    "numpy rows 2": 7.0,
    "numpy rows 4": 5.0,
    "numpy rows 8": 5.5,
}


class TestBlocks:
    @pytest.mark.parametrize("layer", SMALL)
    @pytest.mark.parametrize("height", [1, 2, 3, 100])
    def test_every_row_of_the_output_is_in_one_block(self, layer: Layer, height: int) -> None:
        found = separable_worker.blocks(layer, height)
        rows = [row for block in found for row in range(block.outputs.start, block.outputs.stop)]
        assert rows == list(range(layer.rows))
        assert all(block.outputs.stop - block.outputs.start == height for block in found[:-1])

    def test_a_block_has_the_rows_around_it_and_zeros_at_the_image_s_edge_alone(self) -> None:
        first, middle, last = separable_worker.blocks(Layer(7, 1, 5, 3), 3)
        assert first == (slice(0, 3), slice(0, 4), (1, 0))
        assert middle == (slice(3, 6), slice(2, 7), (0, 0))
        assert last == (slice(6, 7), slice(5, 7), (0, 1))

    @pytest.mark.parametrize("layer", SMALL)
    def test_in_blocks_comes_out_what_two_calls_compute(self, layer: Layer) -> None:
        arrays = separable_worker.draw(layer)
        made = reference.depthwise_conv2d(arrays["x"], arrays["kernel"], arrays["bias"], layer.spec)
        expected = made.reshape(-1, layer.channels) @ arrays["matrix"].astype(np.float64)
        separable_worker.separate(layer, arrays)["pair"]()
        np.testing.assert_allclose(arrays["y"], expected, rtol=1e-4, atol=1e-5)
        for height in range(1, layer.rows + 1):
            arrays["y"].fill(np.nan)
            separable_worker.in_blocks(layer, arrays, height)()
            np.testing.assert_allclose(arrays["y"], expected, rtol=1e-4, atol=1e-5)

    def test_a_wrong_block_is_not_timed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(separable_worker, "in_blocks", lambda *_: lambda: None)
        with pytest.raises(AssertionError):
            separable_worker.numpy_programs(SMALL[0], [2])

    def test_the_worker_has_all_programs_of_its_library(self) -> None:
        worker = separable_worker.Worker.__new__(separable_worker.Worker)
        worker.name, worker.programs, worker.versions = "numpy", {}, {"numpy": "1"}
        assert worker.answer({"do": "hello"}) == {"versions": {"numpy": "1"}}
        loaded = worker.answer({"do": "load", "layer": list(SMALL[0]), "rows": [2, 4]})
        assert loaded == {"programs": ["depthwise", "pointwise", "pair", "rows 2", "rows 4"]}


class TestLayers:
    def test_they_are_mobilenet_s_and_follow_each_other(self) -> None:
        layers = separable.LAYERS
        assert [layer.name for layer in layers[:2]] == ["112x112x32-64", "112x112x64-s2-128"]
        for layer, following in itertools.pairwise(layers):
            assert (layer.rows, layer.outputs) == (following.size, following.channels)

    def test_blocks_fit_the_cache(self) -> None:
        layer = Layer(56, 1, 128, 128)
        rows = 56 * 128 * 4
        # Four rows of the output are made of six of the image; two are kept beside them.
        assert separable.heights(layer, (6 + 4 + 4) * rows) == [2, 4]
        assert separable.heights(layer, (6 + 4 + 4) * rows - 1) == [2]

    def test_there_is_a_block_though_none_fits_and_none_is_the_whole_image(self) -> None:
        assert separable.heights(Layer(56, 1, 128, 128), 1) == [2]
        assert separable.heights(Layer(7, 1, 1024, 1024), float("inf")) == [2, 4]
        for layer in separable.LAYERS:
            assert all(0 < height < layer.rows for height in separable.heights(layer, float("inf")))


class TestJudge:
    def test_the_best_height_and_the_bound_of_each_library(self) -> None:
        ms = MS | {"torch pointwise mm": 3.0, "torch pointwise oneDNN": 2.0}
        found = separable.judge(SMALL[0], ms)
        assert (found["rows"], found["blocks_ms"], found["gain"]) == (4, 5.0, 1.3)
        assert found["pointwise_ms"] == {"numpy": 4.0, "torch": 2.0}
        assert found["bound"] == {"numpy": 1.25, "torch": 1.5}

    def test_without_pytorch_there_is_one_bound(self) -> None:
        assert separable.judge(SMALL[0], MS)["bound"] == {"numpy": 1.25}


def result_of(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "settings": {"threads": 2, "seconds": 0.1, "rounds": 3},
        "versions": {"numpy": {"numpy": "2.0", "BLAS": "some 1.0"}},
        "missing": {"torch": "No module named 'torch'"},
        "layers": list(entries),
    }


class TestTargets:
    def test_a_layer_on_the_bound_passes_and_one_below_misses(self) -> None:
        met = separable.judge(SMALL[0], MS)
        missed = separable.judge(SMALL[1], MS | {"numpy pair": 6.49})
        first, second = separable.targets(result_of([met, missed]))
        assert first.about.startswith("7x7x5-3,")
        assert (first.passed, second.passed) == (True, False)
        assert first.found == "1.30 (4 rows; if the depthwise part took no time: 1.25 with NumPy)"

    def test_the_report_has_all_of_it(self) -> None:
        console = Console(file=io.StringIO(), width=160)
        separable.show(json.loads(json.dumps(result_of([separable.judge(SMALL[0], MS)]))), console)
        assert isinstance(console.file, io.StringIO)
        text = " ".join(console.file.getvalue().split())
        for expected in ("BLAS some 1.0", "PyTorch: not installed (No module", "pass 7x7x5-3", "1.25 -"):
            assert expected in text


class FakeRuntime:
    """Answers what a process would, with a time of its own for each program."""

    def __init__(self, name: str, ms: dict[str, float]) -> None:
        self.name = name
        self.ms = ms

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        yield

    def ask(self, timeout: float, **request: Any) -> dict[str, Any]:
        del timeout
        if request["do"] == "load":
            assert request["rows"] == [2, 4, 8]
            return {"programs": list(self.ms)}
        return {"ms": self.ms[request["what"]], "calls": 3}


class TestMeasure:
    def test_a_layer_is_timed_in_every_library(self) -> None:
        numpy = FakeRuntime("numpy", {name.removeprefix("numpy "): ms for name, ms in MS.items()})
        torch = FakeRuntime("torch", {"pointwise mm": 2.0})
        runtimes = [cast("Runtime", runtime) for runtime in (numpy, torch)]
        found = separable.measure_layer(Layer(20, 1, 2, 2), [2, 4, 8], runtimes, 2, 0.1)
        assert found["programs_ms"] == MS | {"torch pointwise mm": 2.0}
        assert found["bound"] == {"numpy": 1.25, "torch": 1.5}

    def test_a_stored_result_prints_again(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        stored = tmp_path / "separable.json"
        stored.write_text(json.dumps(result_of([separable.judge(SMALL[0], MS)])))
        assert separable.main(["--show", str(stored)]) == 0
        assert "7x7x5-3" in capsys.readouterr().out
