"""The benchmark's runs and reports, on canned answers and on the package alone; nothing here times anything."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import math
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import pytest

pytest.importorskip("rich")

from rich.console import Console

from benchmarks import cases, command, data, layer, limits, report, run, worker
from benchmarks.cases import Case
from benchmarks.peers import OURS, OURS_JAX, PEERS
from benchmarks.peers.base import Peer, Problem, Program
from benchmarks.runtimes import LostError, MissingError, Runtime
from depthwise.spec import DataFormat

CASE = Case(6, 5, 3, (3, 2), (2, 1), multiplier=2, batch=2)
RATES = ((1000, 80e9), (100_000, 20e9))
LIMITS = limits.Limits(64, 100e9, RATES, RATES)


def outcome(ms: float) -> dict[str, Any]:
    return {"program": "p", "error": 0.0, "rounds_ms": [ms, ms + 1], "calls": [3, 3], "ms": ms}


def entry(case: Case, inference: dict[str, Any], training: dict[str, Any]) -> dict[str, Any]:
    return {
        "case": case.to_json(),
        "cost": {"flops": 4_000_000},
        "floor_ms": {"inference": 0.5, "training": 1.5},
        "inference": inference,
        "training": training,
    }


@pytest.fixture
def result() -> dict[str, Any]:
    """Two cases: 2 and 8 times the best peer in inference, 3 times in the one training step that was compared."""
    no_gradients = {"unsupported": "computes no gradients"}
    return {
        "machine": {"cpu": "Imaginary CPU", "vector_extensions": ["avx2"], "caches": {"L1": "32K"}},
        "settings": {"threads": 2},
        "limits": LIMITS.to_json(),
        "versions": {OURS: {"depthwise": "1.2.3"}, "litert": {"ai-edge-litert": "4.5.6"}},
        "missing": {"jax": "No module named 'jax'"},
        "cases": [
            entry(
                cases.TABLE[0],
                {OURS: outcome(1.0), "torch": outcome(9.0), "litert": outcome(2.0)},
                {OURS: outcome(2.0), "torch": outcome(6.0), "litert": no_gradients},
            ),
            entry(
                cases.TABLE[1],
                {OURS: outcome(1.0), "torch": outcome(8.0), "litert": {"failed": "ValueError: y: off by 3"}},
                {OURS: outcome(4.0), "torch": {"unsupported": "not today"}, "litert": no_gradients},
            ),
        ],
    }


class TestReport:
    def test_a_verdict_compares_ours_with_the_fastest_peer(self, result: dict[str, Any]) -> None:
        judged = report.verdict(result["cases"][0], "inference")
        assert judged == report.Verdict(1.0, "litert", 2.0, 2.0, 4.0, 0.5, None)

    def test_training_counts_three_passes_of_arithmetic(self, result: dict[str, Any]) -> None:
        judged = report.verdict(result["cases"][0], "training")
        assert judged.gflops == pytest.approx(6.0)
        assert judged.floor_share == pytest.approx(0.75)

    def test_without_a_peer_there_is_no_ratio(self, result: dict[str, Any]) -> None:
        judged = report.verdict(result["cases"][1], "training")
        assert (judged.ratio, judged.best_peer) == (None, None)
        assert judged.gflops == pytest.approx(3.0)

    def test_a_front_end_of_ours_is_no_peer_of_ours(self, result: dict[str, Any]) -> None:
        case = result["cases"][0]
        before = report.verdict(case, "inference")
        case["inference"][OURS_JAX] = outcome(0.25)
        assert report.verdict(case, "inference") == before

    def test_a_peer_that_was_given_channels_last_is_none_on_channels_first_images(self) -> None:
        times = {OURS: outcome(1.0), "torch": outcome(3.0), "litert": outcome(0.5)}
        last = report.verdict(entry(CASE, times, {}), "inference")
        first = report.verdict(entry(replace(CASE, data_format="channels_first"), times, {}), "inference")
        assert (last.best_peer, last.ratio) == ("litert", 0.5)
        assert (first.best_peer, first.ratio) == ("torch", 3.0)

    def test_the_summary_takes_geometric_means_and_the_lowest_case(self, result: dict[str, Any]) -> None:
        means = report.summary(result["cases"])
        assert means["inference"]["ratio"] == pytest.approx(4.0)
        assert means["inference"]["lowest_ratio_case"] == cases.TABLE[0].name
        assert means["training"] == {
            "cases": 2,
            "gflops": pytest.approx(math.sqrt(18)),
            "floor_share": pytest.approx(math.sqrt(0.75 * 0.375)),
            "compared": 1,
            "ratio": pytest.approx(3.0),
            "lowest_ratio": pytest.approx(3.0),
            "lowest_ratio_case": cases.TABLE[0].name,
        }

    def test_the_geometric_mean_of_nothing_is_none(self) -> None:
        assert report.geometric_mean([]) is None
        assert report.geometric_mean([2.0, 8.0]) == pytest.approx(4.0)

    @pytest.mark.parametrize("width", [100, 70])
    def test_the_printed_report_says_what_was_measured_and_what_was_not(
        self, result: dict[str, Any], width: int
    ) -> None:
        console = Console(file=io.StringIO(), width=width)
        report.show(result, console)
        assert isinstance(console.file, io.StringIO)
        text = " ".join(console.file.getvalue().split())
        for expected in (
            "Imaginary CPU",
            "100 GFLOP/s",
            "depthwise 1.2.3",
            "JAX: not installed (No module named 'jax')",
            "LiteRT: computes no gradients",
            "LiteRT, inference, 56x56x128-k3: failed: ValueError: y: off by 3",
            "PyTorch: not today",
            "inference: 4.00 times the best peer as a geometric mean over 2 cases, lowest 2.00 on 112x112x32-k3",
        ):
            assert expected in text
        assert text.count("computes no gradients") == 1
        row = next(
            line for line in console.file.getvalue().splitlines() if line.strip().startswith("112x112x32-k3")
        )
        assert ("9.000" in row) is (width == 100)
        assert "2.000" in row
        assert "50%" in row

    @pytest.mark.parametrize(
        ("value", "text"),
        [(0.01234, "0.0123"), (0.1234, "0.123"), (1.234, "1.234"), (123.4, "123.4"), (None, "-")],
    )
    def test_milliseconds_keep_three_digits(self, value: float | None, text: str) -> None:
        assert report.milliseconds(value) == text


class TestRun:
    def test_ours_is_always_among_the_peers_asked_for(self) -> None:
        assert run.choose_peers("litert, torch") == (OURS, "litert", "torch")
        assert run.choose_peers(None) == tuple(name for name in PEERS if name != OURS_JAX)
        assert run.choose_peers("ours-jax,jax") == (OURS, OURS_JAX, "jax")

    def test_an_unknown_peer_is_named(self) -> None:
        with pytest.raises(ValueError, match="got caffe"):
            run.choose_peers("torch,caffe")

    def test_layout_and_dtype_are_put_onto_every_case(self) -> None:
        options = run.parser().parse_args(["--layout", "channels_first", "--dtype", "float16"])
        chosen = run.choose_cases(options, seed=0)
        assert {(case.data_format, case.dtype) for case in chosen} == {("channels_first", "float16")}
        assert len(chosen) == len(set(chosen))

    def test_random_cases_follow_the_seed(self) -> None:
        options = run.parser().parse_args(["--set", "random", "--count", "5"])
        assert run.choose_cases(options, seed=4) == cases.random_cases(5, seed=4)

    def test_the_list_of_cases_needs_no_peer(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run.main(["--list", "--cases", "k27"]) == 0
        assert capsys.readouterr().out.split()[-2:] == ["14x14x512-k27", "RepLKNet-31B"]

    @pytest.mark.parametrize("arguments", [["--cases", "nothing"], ["--peers", "caffe"], ["--rounds", "0"]])
    def test_arguments_that_make_no_sense_end_with_status_2(self, arguments: list[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            run.main(arguments)
        assert ended.value.code == 2

    def test_floors_are_those_of_the_best_limits_of_the_whole_run(self) -> None:
        result: dict[str, Any] = {"limits": None, "cases": [entry(cases.TABLE[0], {}, {})]}
        run.finish(result, LIMITS)
        expected = limits.floor_ms(cases.TABLE[0].cost, LIMITS)
        assert result["cases"][0]["floor_ms"] == {
            "inference": pytest.approx(expected),
            "training": pytest.approx(3 * expected),
        }

    def test_results_are_written_whole(self, tmp_path: Path) -> None:
        target = tmp_path / "new folder" / "result.json"
        command.write({"a": 1}, target)
        command.write({"a": 2}, target)
        assert json.loads(target.read_text()) == {"a": 2}
        assert [path.name for path in target.parent.iterdir()] == ["result.json"]


class WrongPeer(Peer):
    """Computes zeros."""

    versions: ClassVar = {}

    def inference(self, problem: Problem) -> list[Program]:
        return [Program("wrong", lambda: np.zeros_like(problem.dy), lambda y: (y,))]


class TestWorker:
    def test_a_quick_call_is_repeated_and_a_slow_one_is_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = iter(range(1000))
        monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
        calls: list[int] = []
        # Every look at the clock takes a second, so a call takes one, too.
        milliseconds, count = worker.median_ms(lambda: calls.append(1), seconds=0.5)
        assert (milliseconds, count) == (1000.0, 1)
        milliseconds, count = worker.median_ms(lambda: calls.append(1), seconds=40.0)
        assert milliseconds == 1000.0
        assert count > 3

    def test_every_peer_has_an_adapter_of_its_own(self) -> None:
        folder = Path(worker.__file__).with_name("peers")
        modules = {path.stem for path in folder.glob("*.py")} - {"__init__", "base"}
        assert {entry.module for entry in PEERS.values()} == modules

    def test_a_program_that_computes_something_wrong_is_not_timed(self, tmp_path: Path) -> None:
        data.save(CASE, 1, tmp_path)
        problem = Problem(CASE, **data.load(CASE, tmp_path), threads=1)
        bench = worker.Worker.__new__(worker.Worker)
        bench.programs = {}
        bench.problem, bench.folder = problem, tmp_path
        bench.peer = WrongPeer({}, 1)
        answer = bench.load("inference", CASE, tmp_path)
        assert "off by" in answer["failed"]
        assert bench.programs == {}


class FakeRuntime:
    """Answers from lists instead of from a process; keeps what it was asked."""

    slow_ms: ClassVar = {"inference": None, "training": 5000.0}

    def __init__(self, name: str, inference_ms: list[float], log: list[str]) -> None:
        self.name = name
        self.times = iter(inference_ms)
        self.log = log

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        yield

    def ask(self, timeout: float, **request: Any) -> dict[str, Any]:
        del timeout
        self.log.append(f"{self.name} {request['do']}")
        if request["do"] == "load":
            return {"program": "p", "error": 0.0, "slow_ms": self.slow_ms[request["what"]]}
        ms = next(self.times)
        if math.isnan(ms):
            raise LostError("exit status -9: killed")
        return {"ms": ms, "calls": 3}


def fakes(log: list[str], **times: list[float]) -> list[Runtime]:
    return [cast("Runtime", FakeRuntime(name, found, log)) for name, found in times.items()]


class TestMeasure:
    def outcomes(
        self, runtimes: list[Runtime], folder: Path, rounds: int
    ) -> dict[str, dict[str, dict[str, Any]]]:
        found = {runtime.name: layer.prepare(runtime, CASE, folder) for runtime in runtimes}
        layer.measure(runtimes, found, rounds, 0.1, lambda: None)
        return found

    def test_the_calmest_round_counts_for_every_runtime(self, tmp_path: Path) -> None:
        found = self.outcomes(fakes([], ours=[3.0, 1.0, 2.0], torch=[4.0, 6.0, 5.0]), tmp_path, 3)
        assert found["ours"]["inference"]["ms"] == 1.0
        assert found["torch"]["inference"]["ms"] == 4.0
        assert found["torch"]["inference"]["rounds_ms"] == [4.0, 6.0, 5.0]

    def test_runtimes_take_turns_and_each_round_begins_with_another(self, tmp_path: Path) -> None:
        log: list[str] = []
        self.outcomes(fakes(log, a=[1.0] * 3, b=[1.0] * 3), tmp_path, 3)
        assert log[:4] == ["a load", "a load", "b load", "b load"]
        assert log[4:] == ["a time", "b time", "b time", "a time", "a time", "b time"]

    def test_a_program_that_is_too_slow_is_not_timed_again(self, tmp_path: Path) -> None:
        [found] = self.outcomes(fakes([], ours=[1.0] * 2), tmp_path, 2).values()
        assert found["training"] == {
            "program": "p",
            "error": 0.0,
            "slow": True,
            "ms": 5000.0,
            "rounds_ms": [5000.0],
            "calls": [1],
        }

    def test_a_runtime_that_dies_has_no_figure_but_what_was_known_before(self, tmp_path: Path) -> None:
        found = self.outcomes(fakes([], ours=[1.0, 1.0], torch=[1.0, math.nan]), tmp_path, 2)
        assert found["torch"]["inference"] == {"failed": "exit status -9: killed"}
        assert found["torch"]["training"]["ms"] == 5000.0
        assert found["ours"]["inference"]["ms"] == 1.0


class TestCloseCalls:
    def entry(
        self, bound: float, data_format: DataFormat = "channels_last", **times: list[float]
    ) -> tuple[dict[str, Any], list[str]]:
        log: list[str] = []
        case = replace(CASE, data_format=data_format)
        settings = layer.Settings("random", 1, 1, 0.1, 1)
        runtimes = fakes(log, **times)
        measured = layer.measure_case(case, runtimes, settings, lambda: None, {"inference": bound})
        return measured["inference"], [line for line in log if line.endswith("time")]

    def test_whoever_decides_a_close_call_has_as_many_rounds_more(self) -> None:
        for bound in (1.3, 0.8):  # just missed, and just passed
            found, log = self.entry(
                bound,
                ours=[10.0, 9.0, 9.5, 8.0, 9.0],
                litert=[11.0, 10.5, 7.0, 11.0, 11.0],
                openvino=[15.0, 14.0, 13.0, 12.0, 16.0],
                torch=[15.5],
            )
            assert found["ours"]["ms"] == 8.0
            assert found["litert"]["ms"] == 7.0
            assert found["openvino"]["rounds_ms"] == [15.0, 14.0, 13.0, 12.0, 16.0]
            assert found["torch"]["rounds_ms"] == [15.5]
            assert log.count("ours time") == log.count("litert time") == 5

    def test_a_clear_ratio_has_no_more_rounds(self) -> None:
        for litert in (14.1, 7.1):
            found, log = self.entry(1.0, ours=[10.0], litert=[litert])
            assert found["litert"]["rounds_ms"] == [litert]
            assert log == ["ours time", "litert time"]

    def test_who_is_not_compared_decides_nothing(self) -> None:
        """A library that is given channels last, where images have them first."""
        found, _ = self.entry(1.0, "channels_first", ours=[10.0] * 5, torch=[11.0] * 5, litert=[10.0])
        assert found["litert"]["rounds_ms"] == [10.0]

    def test_without_a_peer_there_is_nothing_to_decide(self) -> None:
        found, _ = self.entry(1.0, ours=[10.0])
        assert found["ours"]["rounds_ms"] == [10.0]


class DyingRuntime(FakeRuntime):
    """Dies of training, always."""

    def ask(self, timeout: float, **request: Any) -> dict[str, Any]:
        if request["what"] == "training":
            raise LostError("no answer within 120 s")
        return super().ask(timeout, **request)


class TestPrepare:
    def test_training_that_kills_the_process_does_not_cost_the_inference_figure(self, tmp_path: Path) -> None:
        log: list[str] = []
        found = layer.prepare(cast("Runtime", DyingRuntime("torch", [], log)), CASE, tmp_path)
        assert found["training"]["failed"] == "no answer within 120 s"
        assert found["inference"]["program"] == "p"
        assert log == ["torch load", "torch load"]  # the second one in the new process


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="runtimes are put to sleep with SIGSTOP")
class TestRuntimes:
    def test_a_process_loads_and_checks_a_case_and_can_be_asked_again(self, tmp_path: Path) -> None:
        data.save(CASE, 1, tmp_path)
        with Runtime(OURS, 1) as runtime:
            with runtime.awake():
                assert "depthwise" in runtime.ask(60, do="hello")["versions"]
            for prepared in layer.prepare(runtime, CASE, tmp_path), layer.prepare(runtime, CASE, tmp_path):
                assert set(prepared) == set(report.MEASUREMENTS)
                for outcome in prepared.values():
                    assert outcome["error"] <= data.TOLERANCE["float32"]

    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    def test_a_process_is_stopped_while_it_is_not_asked_and_gone_at_the_end(self) -> None:
        with Runtime(OURS, 1) as runtime:
            with runtime.awake():
                runtime.ask(60, do="hello")
            assert runtime._process is not None
            pid = runtime._process.pid
            os.waitpid(pid, os.WUNTRACED)
            assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        assert not Path(f"/proc/{pid}").exists()

    def test_a_process_that_dies_says_so_and_is_started_anew(self, tmp_path: Path) -> None:
        with Runtime(OURS, 1) as runtime:
            with runtime.awake(), pytest.raises(LostError, match="exit status 1: FileNotFoundError"):
                runtime.ask(
                    60, do="load", what="inference", case=CASE.to_json(), folder=str(tmp_path / "absent")
                )
            with runtime.awake():
                assert "depthwise" in runtime.ask(60, do="hello")["versions"]

    def test_a_process_that_does_not_answer_in_time_is_given_up(self) -> None:
        with (
            Runtime(OURS, 1) as runtime,
            runtime.awake(),
            pytest.raises(LostError, match="no answer within 0 s"),
        ):
            runtime.ask(0.0, do="hello")

    def test_a_library_that_is_not_installed_is_missing(self) -> None:
        modules = {"torch": "torch", "jax": "jax", "openvino": "openvino", "onnxruntime": "onnxruntime"}
        absent = [name for name, module in modules.items() if importlib.util.find_spec(module) is None]
        if not absent:
            pytest.skip("every peer is installed here")
        with Runtime(absent[0], 1) as runtime, runtime.awake(), pytest.raises(MissingError, match=absent[0]):
            runtime.ask(60, do="hello")
