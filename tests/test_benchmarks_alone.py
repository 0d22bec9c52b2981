"""The benchmark of this package against itself, on made-up figures; nothing here times anything."""

from __future__ import annotations

import contextlib
import io
import json
import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("rich")

from rich.console import Console

import depthwise
from benchmarks import alone, cases, data, turns
from benchmarks.cases import Case
from benchmarks.runtimes import LostError, Runtime
from benchmarks.targets import Target

MIB = 2**20


def half(dtype: str, float32_ms: float, ours_ms: float, **peers: dict[str, Any]) -> dict[str, Any]:
    return {
        "case": f"9x9x9-k3-{dtype}",
        "megabytes": 70.0,
        "dtype": dtype,
        "float32_ms": float32_ms,
        "ours_ms": ours_ms,
        "peers": peers,
    }


@pytest.fixture
def result() -> dict[str, Any]:
    """Every target is met, most of them exactly."""
    return {
        "settings": {"threads": 2, "seconds": 0.1, "rounds": 3},
        "last_level_bytes": 32 * MIB,
        "halves": [
            half("float16", 1.6, 1.0, torch={"ms": 3.0}, jax={"unsupported": "computes nothing"}),
            half("float16", 1.8, 1.0, torch={"ms": 2.0}, jax={"failed": "the process was lost"}),
            half("bfloat16", 1.7, 1.0),
        ],
        "float64": [{"case": "8x8x8-k3", "float32_ms": 1.0, "ours_ms": 2.0}],
        "scaling": [{"case": "7x7x7-k9", "one_ms": 1.8, "two_ms": 1.0}],
        "missing": {"tensorflow": "No module named 'tensorflow'"},
        "tiny_us": 3.0,
    }


def judged(result: dict[str, Any]) -> dict[str, Target]:
    found = {target.about: target for target in alone.targets(result)}
    assert len(found) == 7
    return found


class TestTargets:
    def test_a_figure_on_the_bound_passes_and_the_worst_case_is_named(self, result: dict[str, Any]) -> None:
        found = alone.targets(result)
        assert [target.passed for target in found] == [True, True, True, None, True, True, True]
        assert found[0].found == "1.60 at least (9x9x9-k3-float16)"
        assert found[2].found == "2.00 times as fast at least (9x9x9-k3-float16, PyTorch)"
        assert found[3].found == "no peer was timed"
        assert found[-1] == Target("a call on 8x8x16-k3", "at most 3.0 us", "3.00 us", True)

    @pytest.mark.parametrize(
        ("section", "change", "about"),
        [
            ("halves", {"float32_ms": 1.59}, "float16 against float32, images beyond the last-level cache"),
            ("halves", {"peers": {"torch": {"ms": 1.0}}}, "float16 against every peer that takes it"),
            ("float64", {"ours_ms": 2.01}, "float64 against float32, images within the last-level cache"),
            ("scaling", {"two_ms": 1.01}, "two threads against one"),
        ],
    )
    def test_one_case_below_the_bound_is_a_miss_of_that_target_alone(
        self, result: dict[str, Any], section: str, change: dict[str, Any], about: str
    ) -> None:
        result[section][0] |= change
        missed = [target.about for target in alone.targets(result) if target.passed is False]
        assert missed == [about]

    def test_a_call_that_takes_longer_is_a_miss(self, result: dict[str, Any]) -> None:
        result["tiny_us"] = 3.001
        assert judged(result)["a call on 8x8x16-k3"].passed is False

    def test_on_one_cpu_scaling_is_not_measured(self, result: dict[str, Any]) -> None:
        result["settings"]["threads"], result["scaling"] = 1, []
        target = judged(result)["two threads against one"]
        assert (target.passed, target.found) == (None, "not measured: it takes two CPUs")

    def test_without_the_size_of_the_cache_only_the_call_is_measured(self, result: dict[str, Any]) -> None:
        result |= {"last_level_bytes": None, "halves": [], "float64": [], "scaling": []}
        found = alone.targets(result)
        assert [target.passed for target in found] == [None] * 6 + [True]
        assert found[0].found == "not measured: the size of the last-level cache is not known"

    def test_the_report_has_all_of_it(self, result: dict[str, Any]) -> None:
        console = Console(file=io.StringIO(), width=160)
        alone.show(json.loads(json.dumps(result)), console)
        assert isinstance(console.file, io.StringIO)
        text = " ".join(console.file.getvalue().split())
        for expected in (
            "9x9x9-k3-bfloat16",
            "TensorFlow: not installed (No module named 'tensorflow')",
            "JAX, 9x9x9-k3-float16: computes nothing",
            "JAX, 9x9x9-k3-float16: the process was lost",
            "pass two threads against one: 1.80 at least (7x7x7-k9)",
            "none bfloat16 against every peer",
        ):
            assert expected in text


class TestCases:
    @pytest.mark.parametrize("cache", [MIB, 32 * MIB, 33 * MIB + 1])
    def test_images_are_beyond_the_cache_in_every_type_and_by_no_more_than_one(self, cache: int) -> None:
        for case in alone.beyond(cache):
            assert alone.image_bytes(case) >= 2 * cache, case.name
            assert alone.image_bytes(alone.with_batch(case, case.batch - 1)) < 2 * cache, case.name
            assert alone.image_bytes(case, 2) >= cache

    def test_they_are_the_four_layers(self) -> None:
        names = [case.name for case in alone.beyond(32 * MIB)]
        assert names == ["112x112x32-k3-n21", "112x112x64-k3-s2-n17", "56x56x144-k5-n19", "56x56x96-k7-n28"]

    def test_bytes_are_those_of_input_and_output(self) -> None:
        assert alone.image_bytes(Case(6, 5, 3, (3, 3), (2, 1), multiplier=2, batch=2)) == 4 * 2 * (90 + 90)

    def test_a_half_type_is_the_same_layer(self) -> None:
        case = alone.beyond(MIB)[0]
        assert alone.with_batch(case, case.batch, "bfloat16").name == f"{case.name}-bfloat16"

    def test_layers_of_one_image_that_fit_the_cache_are_held_to_float64(self) -> None:
        chosen = alone.within(4 * MIB)
        assert chosen
        for case in cases.TABLE:
            assert (case in chosen) is (case.batch == 1 and alone.image_bytes(case) <= 2 * MIB)

    def test_layers_of_much_arithmetic_that_fit_the_cache_are_held_to_scaling(self) -> None:
        names = [case.name for case in alone.for_scaling(32 * MIB)]
        assert names == ["56x56x96-k7", "14x14x512-k27", "28x28x128-k9"]
        assert "112x112x32-k3-n16" in [case.name for case in alone.for_scaling(64 * MIB)]

    @pytest.mark.parametrize(
        ("caches", "size"),
        [
            ({"L1": "48K", "L2": "1024K", "L3": "32768K"}, 32 * MIB),
            ({"L1": "48K", "L2": "2M"}, 2 * MIB),
            ({"L1": ""}, None),
            ({}, None),
        ],
    )
    def test_the_last_level_is_the_highest(self, caches: dict[str, str], size: int | None) -> None:
        assert alone.last_level_bytes(caches) == size


class DyingRuntime:
    """Never answers."""

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        yield

    def ask(self, timeout: float, **request: Any) -> dict[str, Any]:
        assert request == {"do": "time", "what": "inference", "seconds": 0.1}
        raise LostError(f"no answer within {timeout:.0f} s")


class TestTurns:
    def test_variants_take_turns_and_the_calmest_round_counts(self) -> None:
        log: list[str] = []
        times = {"a": iter([3.0, 1.0, 2.0]), "b": iter([5.0, 6.0, 4.0])}

        def timer(name: str, seconds: float) -> float:
            assert seconds == 0.1
            log.append(name)
            return next(times[name])

        found = turns.interleave({name: partial(timer, name) for name in times}, 3, 0.1)
        assert found == {"a": 1.0, "b": 4.0}
        assert "".join(log) == "abbaab"

    def test_a_variant_that_is_lost_once_has_no_time(self) -> None:
        times = iter([1.0, math.inf, 2.0])
        assert turns.interleave({"a": lambda _: next(times)}, 3, 0.1) == {"a": math.inf}

    def test_a_process_that_dies_is_a_lost_turn(self) -> None:
        assert turns.ask(cast("Runtime", DyingRuntime()), 0.1, what="inference") == math.inf

    @pytest.mark.parametrize(
        ("loaded", "ms", "outcome"),
        [
            ({"program": "p", "rounds_ms": []}, 2.0, {"ms": 2.0}),
            ({"program": "p", "rounds_ms": []}, math.inf, {"failed": "the process was lost"}),
            ({"program": "p", "slow": True, "ms": 4000.0, "rounds_ms": [4000.0]}, None, {"ms": 4000.0}),
            ({"unsupported": "not today"}, None, {"unsupported": "not today"}),
            ({"failed": "ValueError"}, None, {"failed": "ValueError"}),
        ],
    )
    def test_what_became_of_a_peer(
        self, loaded: dict[str, Any], ms: float | None, outcome: dict[str, Any]
    ) -> None:
        assert alone.peer_outcome(loaded, ms) == outcome


class TestOurs:
    CASE = Case(6, 5, 3, (3, 3))

    def test_a_variant_is_checked_and_runs_on_its_own_number_of_threads(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = depthwise.get_num_threads()
        monkeypatch.setattr("benchmarks.worker.median_ms", lambda run, _: (float(run() is not None), 1))
        try:
            with alone.inputs(self.CASE) as folder:
                timers = [alone.ours(self.CASE, folder, threads) for threads in (1, 2)]
                for threads, timer in zip((1, 2), timers, strict=True):
                    assert timer(0.1) == 1.0
                    assert depthwise.get_num_threads() == threads
        finally:
            depthwise.set_num_threads(before)

    def test_a_wrong_result_is_not_timed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def wrong(*_: Any) -> float:
            raise ValueError("y: off by 3")

        monkeypatch.setattr(data, "check", wrong)
        before = depthwise.get_num_threads()
        try:
            with (
                alone.inputs(self.CASE) as folder,
                pytest.raises(RuntimeError, match=r"6x5x3-k3.*off by 3"),
            ):
                alone.ours(self.CASE, folder, 1)
        finally:
            depthwise.set_num_threads(before)

    def test_everything_is_measured_and_can_be_stored(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(alone, "LAYERS", (Case(4, 4, 2, (3, 3)),))
        monkeypatch.setattr(cases, "TABLE", (Case(6, 6, 16, (3, 3)),))
        monkeypatch.setattr(alone, "SCALING_FLOPS", 0)
        monkeypatch.setattr(alone, "TINY_CALLS", 1)
        monkeypatch.setattr("benchmarks.machine.describe", lambda: {"caches": {"L1": "16K"}})
        monkeypatch.setattr("benchmarks.worker.median_ms", lambda run, _: (float(run() is not None), 1))
        before = depthwise.get_num_threads()
        result = alone.measure(2, 0.0, rounds=1, peers=())
        assert depthwise.get_num_threads() == before
        stored = tmp_path / "alone.json"
        stored.write_text(json.dumps(result))
        assert {entry["dtype"] for entry in result["halves"]} <= set(alone.HALVES)
        assert [entry["case"] for entry in result["float64"]] == ["6x6x16-k3"]
        assert [entry["one_ms"] for entry in result["scaling"]] == [1.0]
        assert alone.main(["--show", str(stored)]) == 0
