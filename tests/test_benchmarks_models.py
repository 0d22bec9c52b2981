"""The benchmarks of whole networks and of interplay, on canned answers; nothing here times anything."""

from __future__ import annotations

import contextlib
import io
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

pytest.importorskip("rich")

from rich.console import Console
from rich.progress import Progress

from benchmarks import interplay, interplay_worker, models, report
from benchmarks.frameworks import APPLICATIONS, BACKENDS, CHAINS, Chain
from benchmarks.runtimes import LostError, Runtime

MACHINE = {"cpu": "Imaginary CPU", "vector_extensions": ["avx2"], "caches": {"L1": "32K"}}
COMPUTED = {"inference": [0.25, 0.75], "loss": 2.0, "update": [3.0, -4.0]}


class FakeRuntime:
    """Answers from a dictionary instead of from a process; keeps what it was asked."""

    def __init__(self, name: str, loaded: dict[str, Any], ms: dict[str, list[float]]) -> None:
        self.name = name
        self.loaded = loaded
        self.times = {what: iter(found) for what, found in ms.items()}
        self.log: list[str] = []

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        yield

    def ask(self, timeout: float, **request: Any) -> dict[str, Any]:
        del timeout
        what = "/".join(request[key] for key in ("what", "piece") if key in request)
        self.log.append(f"{request['do']} {what}".strip())
        if request["do"] == "load":
            if "lost" in self.loaded:
                raise LostError(self.loaded["lost"])
            return self.loaded
        return {"ms": next(self.times[what]), "calls": 3}


def printed(show: Any, result: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=160)
    show(result, console)
    assert isinstance(console.file, io.StringIO)
    return " ".join(console.file.getvalue().split())


class TestChoose:
    KNOWN = ("MobileNetV2", "EfficientNetB0")

    def test_without_the_option_everything_is_chosen(self) -> None:
        assert models.choose("--networks", None, self.KNOWN) == self.KNOWN

    def test_names_are_found_in_any_case_and_each_once(self) -> None:
        assert models.choose("--networks", "efficientnetb0, EfficientNetB0", self.KNOWN) == (
            "EfficientNetB0",
        )

    @pytest.mark.parametrize(
        ("text", "received"), [("VGG16,MobileNetV2", "got VGG16$"), ("", "got ''"), (",", "got ','")]
    )
    def test_an_unknown_name_or_none_is_refused(self, text: str, received: str) -> None:
        with pytest.raises(
            ValueError, match=rf"--networks: expected some of MobileNetV2, EfficientNetB0, {received}"
        ):
            models.choose("--networks", text, self.KNOWN)

    @pytest.mark.parametrize("benchmark", [models, interplay])
    @pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--threads", "100000"], ["--unknown"]])
    def test_arguments_that_make_no_sense_end_with_status_2(
        self, benchmark: Any, arguments: list[str]
    ) -> None:
        with pytest.raises(SystemExit) as ended:
            benchmark.main(arguments)
        assert ended.value.code == 2

    def test_unknown_backends_and_frameworks_end_with_status_2(self) -> None:
        for main, option in ((models.main, "--backends"), (interplay.main, "--frameworks")):
            with pytest.raises(SystemExit) as ended:
                main([option, "theano"])
            assert ended.value.code == 2


class TestDifference:
    def test_the_same_has_no_difference(self) -> None:
        assert models.difference(COMPUTED, COMPUTED) == {"inference": 0.0, "training": 0.0}

    def test_an_update_is_compared_by_its_length(self) -> None:
        other = COMPUTED | {"update": [3.0, 1.0]}
        assert models.difference(COMPUTED, other)["training"] == pytest.approx(1.0)

    def test_a_loss_is_compared_by_its_size(self) -> None:
        assert models.difference(COMPUTED, COMPUTED | {"loss": 1.0})["training"] == pytest.approx(0.5)

    @pytest.mark.parametrize(
        ("spoilt", "what"),
        [
            ({"inference": [math.nan, 1.0]}, "inference"),
            ({"loss": math.nan}, "training"),
            ({"update": [math.nan, 0.0]}, "training"),
        ],
    )
    def test_what_is_not_a_number_is_not_within_any_tolerance(
        self, spoilt: dict[str, Any], what: str
    ) -> None:
        assert not models.difference(COMPUTED, COMPUTED | spoilt)[what] <= models.TOLERANCE[what]


def measured(
    stock: dict[str, Any], accelerated: dict[str, Any], rounds: int = 2
) -> tuple[dict[str, Any], list[FakeRuntime]]:
    runtimes = [
        FakeRuntime("jax/stock", stock, {"inference": [8.0, 9.0], "training": [50.0, 40.0]}),
        FakeRuntime("jax/accelerated", accelerated, {"inference": [5.0, 4.0], "training": [10.0, 20.0]}),
    ]
    settings = {"seed": 1, "rounds": rounds, "seconds": 0.1, "threads": 1}
    with Progress(disable=True) as progress:
        task = progress.add_task("")
        entry = models.measure_network(
            "jax", APPLICATIONS[0], cast("list[Runtime]", runtimes), settings, (progress, task)
        )
    return entry, runtimes


class TestMeasureNetwork:
    def test_the_calmest_round_counts_for_both_variants(self) -> None:
        entry, _ = measured(COMPUTED, COMPUTED)
        assert entry["inference"]["stock"]["ms"] == 8.0
        assert entry["inference"]["accelerated"]["ms"] == 4.0
        assert entry["training"]["stock"]["rounds_ms"] == [50.0, 40.0]
        assert models.ratio(entry, "inference") == pytest.approx(2.0)
        assert models.ratio(entry, "training") == pytest.approx(4.0)

    def test_a_network_that_computes_something_else_is_not_timed(self) -> None:
        entry, runtimes = measured(COMPUTED, COMPUTED | {"update": [-3.0, 4.0]})
        for what in report.MEASUREMENTS:
            assert entry[what]["accelerated"]["failed"] == "computes something else: training off by 2"
            assert models.ratio(entry, what) is None
        assert runtimes[1].log == ["load"]
        assert entry["training"]["stock"]["ms"] == 40.0

    def test_a_process_that_dies_while_loading_has_no_figures(self) -> None:
        entry, _ = measured(COMPUTED, {"lost": "exit status -9: killed"})
        assert entry["training"]["accelerated"] == {"failed": "exit status -9: killed"}
        assert "difference" not in entry


def models_result() -> dict[str, Any]:
    """MobileNetV2 on JAX: 2 and 4 times; on TensorFlow: 0.5 times in inference, failed in training."""
    good, _ = measured(COMPUTED, COMPUTED)
    slow = good | {
        "backend": "tensorflow",
        "inference": {"stock": {"ms": 3.0}, "accelerated": {"ms": 6.0}},
        "training": {"stock": {"ms": 3.0}, "accelerated": {"failed": "exit status -11: no message"}},
    }
    return {
        "machine": MACHINE,
        "settings": {"threads": 2},
        "versions": {"jax": {"keras": "3.1.4", "jax": "0.1.5"}},
        "missing": {"torch": "No module named 'torch'"},
        "networks": [good, slow],
    }


class TestModelsReport:
    def test_the_summary_takes_geometric_means_and_the_lowest_ratio(self) -> None:
        means = models.summary(models_result()["networks"])
        assert means["inference"] == {
            "compared": 2,
            "ratio": pytest.approx(1.0),
            "lowest_ratio": pytest.approx(0.5),
            "lowest_ratio_network": "MobileNetV2 on TensorFlow",
        }
        assert means["training"]["ratio"] == pytest.approx(4.0)

    def test_the_printed_report_says_what_was_measured_and_what_was_not(self) -> None:
        text = printed(models.show, models_result())
        for expected in (
            "Imaginary CPU, 2 threads",
            "JAX: keras 3.1.4, jax 0.1.5",
            "MobileNetV2 96x96, batch 16 JAX 8.000 4.000 2.00 40.0 10.0 4.00",
            "MobileNetV2 96x96, batch 16 TensorFlow 3.000 6.000 0.50 3.000 failed",
            "PyTorch: not installed (No module named 'torch')",
            "MobileNetV2 on TensorFlow, accelerated: exit status -11: no message",
            "inference: 1.00 times stock as a geometric mean of 2, lowest 0.50 with MobileNetV2 on TensorFlow",
        ):
            assert expected in text

    def test_a_stored_result_prints_again(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "result.json"
        path.write_text(json.dumps(models_result()))
        assert models.main(["--show", str(path)]) == 0
        assert "training: 4.00 times stock" in capsys.readouterr().out


class TestApplications:
    def test_the_networks_are_those_the_project_states_its_speed_by(self) -> None:
        assert [(found.function, found.size, found.batch) for found in APPLICATIONS] == [
            ("MobileNetV2", 96, 16),
            ("EfficientNetB0", 96, 8),
        ]

    def test_the_frameworks_have_a_module_each(self) -> None:
        folder = Path(models.__file__).with_name("frameworks")
        modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
        assert modules == {"keras", *BACKENDS}


class TestInterplay:
    def test_every_call_in_the_network_has_a_bottleneck_before_and_after_it(self) -> None:
        network = interplay.PIECES["network"]
        assert network.count("d") == interplay.LAYERS
        assert "dd" not in network
        assert "pp" not in network
        assert network[0] == network[-1] == "p"

    def test_the_layer_alone_goes_through_as_many_images_as_the_network(self) -> None:
        assert interplay.PIECES["alone"] == "d" * len(interplay.PIECES["network"])

    def test_the_calmest_round_counts_for_both_chains(self) -> None:
        rounds = {"alone": [0.9, 0.8], "network": [1.0, 3.0]}
        assert interplay.judge(rounds) == {
            "rounds_ms": rounds,
            "alone_ms": 0.8,
            "network_ms": 1.0,
            "ratio": pytest.approx(1.25),
        }

    def test_chains_take_turns_and_each_round_begins_with_another(self) -> None:
        ms = {f"{what}/{piece}": [1.0, 2.0] for what in report.MEASUREMENTS for piece in interplay.PIECES}
        runtime = FakeRuntime("jax", {}, ms)
        interplay.measure_layer("jax", CHAINS[0], cast("Runtime", runtime), 2, 0.1)
        first = [entry.partition("/")[2] for entry in runtime.log[1:] if "inference" in entry]
        assert first == ["alone", "network", "network", "alone"]

    def test_a_process_that_dies_says_so(self) -> None:
        runtime = FakeRuntime("jax", {"lost": "no answer within 600 s"}, {})
        entry = interplay.measure_layer("jax", CHAINS[0], cast("Runtime", runtime), 2, 0.1)
        assert entry == {"framework": "jax", "layer": CHAINS[0].name, "failed": "no answer within 600 s"}

    def test_the_printed_report_says_what_was_measured_and_what_was_not(self) -> None:
        judged = {"rounds_ms": {}, "alone_ms": 0.2, "network_ms": 0.3, "ratio": 1.5}
        layers = [
            {
                "framework": "jax",
                "layer": "14x14x512-k3",
                "inference": judged,
                "training": judged | {"ratio": 1.1},
            },
            {"framework": "torch", "layer": "14x14x512-k3", "failed": "exit status -9: killed"},
        ]
        result = {
            "machine": MACHINE,
            "settings": {"threads": 2},
            "versions": {"jax": {"jax": "0.1.5"}},
            "missing": {"tensorflow": "No module named 'tensorflow'"},
            "layers": layers,
        }
        text = printed(interplay.show, result)
        for expected in (
            "JAX 14x14x512-k3 0.200 0.300 1.50 0.200 0.300 1.10",
            "14x14x512-k3 in PyTorch: exit status -9: killed",
            "TensorFlow: not installed (No module named 'tensorflow')",
            "inference: in a network at most 1.50 times as long as alone (14x14x512-k3 in JAX; target 1.3)",
        ):
            assert expected in text

    def test_numbers_keep_their_size_along_a_chain(self) -> None:
        layer = Chain(5, 64, 3)
        arrays = interplay_worker.draw(layer, few=16)
        assert {name: array.shape for name, array in arrays.items()} == {
            "x": (1, 5, 5, 64),
            "depthwise": (3, 3, 64, 1),
            "project": (64, 16),
            "expand": (16, 64),
        }
        after = arrays["x"] @ arrays["project"] @ arrays["expand"]
        assert 0.2 <= np.std(after) / np.std(arrays["x"]) <= 5

    def test_without_a_c_compiler_it_says_so(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setenv("CC", "no-such-compiler")
        assert interplay.main(["--quick"]) == 1
        assert capsys.readouterr().out == (
            "no C compiler 'no-such-compiler' to count native calls with; set CC\n"
        )

    def test_layers_are_named_as_in_the_table(self) -> None:
        assert [layer.name for layer in (Chain(56, 128, 3), Chain(28, 192, 3, 16))] == [
            "56x56x128-k3",
            "28x28x192-k3-n16",
        ]
