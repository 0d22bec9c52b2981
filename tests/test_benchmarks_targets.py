"""What results are held against: the targets' arithmetic on made-up results; nothing here times anything."""

from __future__ import annotations

import io
import mmap
import os
import sys
from typing import Any

import pytest

pytest.importorskip("rich")

from rich.console import Console

from benchmarks import cases, memory, memory_worker, targets
from benchmarks.cases import Case
from benchmarks.peers import OURS, OURS_JAX, PEERS
from benchmarks.runtimes import LostError, MissingError
from benchmarks.targets import Target

REQUIRED = [name for name in PEERS if name not in {OURS, OURS_JAX, "jax"}]
"""The peers that a comparison is incomplete without."""


def entry(
    case: Case,
    ours: float | None = 1.0,
    peer: float | None = 2.0,
    *,
    training: tuple[float, float] = (1.0, 8.0),
    floor: float | None = 0.75,
    **others: float,
) -> dict[str, Any]:
    """An entry of a result in which LiteRT is the best peer in inference, and TensorFlow in training."""
    slow: dict[str, Any] = {name: {"ms": 1e6} for name in REQUIRED}
    inference = {OURS: {"failed": "y: off by 3"} if ours is None else {"ms": ours}, **slow}
    if peer is not None:
        inference["litert"] = {"ms": peer}
    else:
        inference = {name: {"unsupported": "no"} for name in inference} | {OURS: inference[OURS]}
    return {
        "case": case.to_json(),
        "cost": {"flops": case.cost.flops},
        "floor_ms": None if floor is None else {"inference": floor, "training": floor},
        "inference": inference | {name.replace("_", "-"): {"ms": ms} for name, ms in others.items()},
        "training": {OURS: {"ms": training[0]}, **slow, "tensorflow": {"ms": training[1]}},
    }


def result(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"limits": {"peak_gflops": 1.0}, "cases": list(entries)}


A, B = cases.TABLE[0], cases.TABLE[1]


class TestFigure:
    @pytest.mark.parametrize(
        ("value", "at_most", "text"),
        [
            (2.346, False, "2.35"),
            (1.5, False, "1.50"),
            (1.4996, False, "1.4996"),
            (1.5004, False, "1.50"),
            (1.5, True, "1.50"),
            (1.5004, True, "1.5004"),
            (1.4996, True, "1.50"),
        ],
    )
    def test_a_figure_never_reads_as_the_bound_that_it_misses(
        self, value: float, at_most: bool, text: str
    ) -> None:
        assert targets.figure(value, 1.5, at_most=at_most) == text


class TestAgainstPeers:
    def test_bounds_that_are_reached_exactly_are_reached(self) -> None:
        # 1.0 and 2.25 have the geometric mean 1.5; 2.5 and 10 have 5.
        found = targets.against_peers(
            result(
                entry(A, 1.0, 1.0, training=(1.0, 2.5)),
                entry(B, 1.0, 2.25, training=(1.0, 10.0)),
            )
        )
        assert [target.passed for target in found] == [True] * 4
        assert [target.found for target in found] == [
            "1.50 over 2 layers",
            f"2 of 2, lowest 1.00 ({A.name}, LiteRT)",
            "5.00 over 2 layers",
            f"2 of 2, lowest 2.50 ({A.name}, TensorFlow)",
        ]

    def test_a_mean_and_a_single_layer_are_missed_separately(self) -> None:
        found = targets.against_peers(result(entry(A, 1.0, 0.999), entry(B, 1.0, 4.0)))
        assert [target.passed for target in found[:2]] == [True, False]
        assert found[1].found == f"1 of 2, lowest 0.999 ({A.name}, LiteRT)"
        found = targets.against_peers(result(entry(A, 1.0, 1.4), entry(B, 1.0, 1.4)))
        assert [target.passed for target in found[:2]] == [False, True]

    def test_training_has_bounds_of_its_own(self) -> None:
        found = targets.against_peers(result(entry(A, training=(1.0, 4.9))))
        assert [target.passed for target in found] == [True, True, False, True]

    def test_a_layer_that_ours_fails_on_misses_both_targets(self) -> None:
        found = targets.against_peers(result(entry(A, None), entry(B, 1.0, 9.0)))
        assert [target.passed for target in found] == [False, False, True, True]
        assert found[0].found == f"1 without a figure of ours, as {A.name}: y: off by 3"

    def test_a_layer_that_no_peer_can_do_is_left_out(self) -> None:
        found = targets.against_peers(result(entry(A, 1.0, None), entry(B, 1.0, 3.0)))
        assert found[0].found == "3.00 over 1 layers"
        assert found[0].passed

    def test_without_any_peer_nothing_is_decided(self) -> None:
        found = targets.against_peers(result(entry(A, 1.0, None)))
        assert [target.passed for target in found[:2]] == [None, None]
        assert found[0].found == "not measured: nothing was compared"

    def test_peers_that_did_not_take_part_are_named_except_for_jax(self) -> None:
        part = entry(A)
        del part["inference"]["openvino"]
        part["training"][OURS_JAX] = {"ms": 1.0}
        found = targets.against_peers(result(part))
        assert found[0].found == "2.00 over 1 layers, without OpenVINO"
        assert found[1].found == f"1 of 1, lowest 2.00 ({A.name}, LiteRT), without OpenVINO"
        assert found[2].found == "8.00 over 1 layers"
        assert targets.large_kernels(result(part))[0].found.endswith(", without OpenVINO")
        assert targets.random_layers(result(part))[0].found.endswith(", without OpenVINO")

    def test_peers_that_failed_on_every_layer_did_not_take_part(self) -> None:
        one, other = entry(A), entry(B)
        for part in (one, other):
            part["inference"]["openvino"] = {"failed": "exit status -9: killed"}
        assert targets.against_peers(result(one, other))[0].found.endswith(", without OpenVINO")
        other["inference"]["openvino"] = {"unsupported": "no"}
        assert targets.against_peers(result(one, other))[0].found == "2.00 over 2 layers"


class TestAgainstFloor:
    def test_shares_are_compared_as_a_geometric_mean(self) -> None:
        # 1.0 and 0.25 have the geometric mean 0.5.
        found = targets.against_floor(result(entry(A, floor=1.0), entry(B, floor=0.25)))
        assert [(target.found, target.passed) for target in found] == [("50.0%", True), ("50.0%", True)]
        found = targets.against_floor(result(entry(A, floor=0.46)))
        assert [(target.wanted, target.passed) for target in found] == [
            ("at least 50%", False),
            ("at least 45%", True),
        ]

    def test_without_the_machines_limits_nothing_is_decided(self) -> None:
        found = targets.against_floor(result(entry(A, floor=None)) | {"limits": None})
        assert [target.passed for target in found] == [None, None]
        assert found[0].found == "not measured: the machine's limits were not measured"

    def test_a_layer_that_ours_fails_on_misses_the_target(self) -> None:
        assert targets.against_floor(result(entry(A, None), entry(B)))[0].passed is False


class TestAgainstJax:
    SMALL = Case(8, 8, 16, (3, 3))

    def compared(self, *entries: dict[str, Any]) -> Target:
        return targets.against_jax(result(*entries))[0]

    def test_every_layer_with_more_than_a_million_operations_counts(self) -> None:
        assert self.SMALL.cost.flops < targets.JAX_FLOPS < A.cost.flops
        found = self.compared(entry(A, ours_jax=0.5, jax=10.0), entry(self.SMALL, ours_jax=1.0, jax=1.0))
        assert (found.passed, found.found) == (True, f"1 of 1, lowest 20.00 ({A.name})")

    def test_what_counts_is_ours_through_jax_and_not_ours(self) -> None:
        found = self.compared(entry(A, 0.001, ours_jax=0.5, jax=9.9))
        assert (found.passed, found.found) == (False, f"0 of 1, lowest 19.80 ({A.name})")

    def test_without_either_nothing_is_decided(self) -> None:
        assert self.compared(entry(A, jax=10.0)).passed is None
        assert self.compared(entry(A, ours_jax=0.1)).passed is None

    def test_a_failure_through_jax_is_a_miss(self) -> None:
        broken = entry(A, jax=10.0)
        broken["inference"][OURS_JAX] = {"failed": "exit status -11: no message"}
        assert self.compared(broken, entry(B, ours_jax=0.1, jax=10.0)).passed is False


class TestLargeKernels:
    def test_the_bounds_are_2_and_5_on_each(self) -> None:
        found = targets.large_kernels(result(entry(A, 1.0, 2.0, training=(1.0, 5.0)), entry(B, 1.0, 9.0)))
        assert [target.passed for target in found] == [True, True]
        found = targets.large_kernels(result(entry(A, 1.0, 1.99, training=(1.0, 4.99)), entry(B, 1.0, 9.0)))
        assert [target.passed for target in found] == [False, False]


class TestRandomLayers:
    def beside(self, ours: float, well_shaped: float | None, peer: float | None = 2.0) -> dict[str, Any]:
        """A layer and a neighbour of as many operations, so that GFLOP/s are as inverse times."""
        return entry(A, ours, peer) | {"neighbour": entry(A, well_shaped, None)}

    def test_a_quarter_of_the_neighbours_rate_is_enough(self) -> None:
        found = targets.random_layers(result(self.beside(4.0, 1.0, 4.0)))
        assert [target.passed for target in found[:2]] == [True, True]
        found = targets.random_layers(result(self.beside(4.01, 1.0, 4.0)))
        assert [target.passed for target in found[:2]] == [False, False]
        assert found[1].found == f"0 of 1, lowest 0.249 ({A.name}, beside {A.name})"

    def test_rates_count_operations_and_not_time_alone(self) -> None:
        random = self.beside(1.0, 1.0)
        random["neighbour"]["cost"] = {"flops": 5 * A.cost.flops}
        assert targets.random_layers(result(random))[1].passed is False

    def test_the_layers_that_pass_are_counted(self) -> None:
        entries = [self.beside(1.0, 1.0, peer) for peer in (0.5, 3.0, None)]
        found = targets.random_layers(result(*entries))
        assert found[0].found == f"1 of 2, lowest 0.50 ({A.name}, LiteRT)"
        assert found[1].found.startswith("3 of 3")

    def test_a_neighbour_that_ours_fails_on_is_a_miss(self) -> None:
        found = targets.random_layers(result(self.beside(1.0, None)))
        assert [target.passed for target in found] == [False, False, True, True]


class TestShow:
    def test_each_verdict_has_a_word_and_brackets_are_no_markup(self) -> None:
        console = Console(file=io.StringIO(), width=120)
        lines = [
            Target("a", "b", f"[Errno {index}]", passed) for index, passed in enumerate((True, False, None))
        ]
        targets.show(lines, console)
        assert isinstance(console.file, io.StringIO)
        assert console.file.getvalue().splitlines() == [
            "pass  a: [Errno 0] (wanted: b)",
            "miss  a: [Errno 1] (wanted: b)",
            "none  a: [Errno 2] (wanted: b)",
        ]


SMALL = Case(6, 5, 3, (3, 2), (2, 1), multiplier=2, batch=2)


class FakeRuntime:
    """Answers a step with the programs' memory, a process for each."""

    def __init__(self, steps: list[dict[str, Any] | Exception]) -> None:
        self.steps = steps
        self.asked: list[int] = []

    def __enter__(self) -> FakeRuntime:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    awake = __enter__

    def start(self, name: str, threads: int) -> Any:
        assert (name, threads) == ("torch", 2)
        return self

    def ask(self, timeout: float, **request: Any) -> dict[str, Any]:
        del timeout
        assert request["warm"]["case"] == memory.WARM.to_json()
        self.asked.append(request["program"])
        answer: dict[str, Any] | Exception = self.steps[request["program"]]
        if isinstance(answer, Exception):
            raise answer
        return answer


def step(before: int, peak: int, programs: int = 1) -> dict[str, Any]:
    return {
        "program": f"p{peak}",
        "programs": programs,
        "error": 0.0,
        "before": before,
        "peak": peak,
        "exact": True,
    }


class TestMemory:
    def test_the_outputs_are_those_of_a_training_step_in_float32(self) -> None:
        # y 2x3x5x6, dx 2x6x5x3, kernel 3x2x6, bias 6
        assert memory.output_bytes(SMALL) == 4 * (180 + 180 + 36 + 6)

    def test_allowed_are_outputs_scratch_for_each_thread_and_a_padded_kernel(self) -> None:
        assert memory.allowed_bytes(SMALL, 3) == memory.output_bytes(SMALL) + 3 * 2**21 + 4 * 6 * 16

    def measured(self, steps: list[dict[str, Any] | Exception]) -> tuple[dict[str, Any], FakeRuntime]:
        runtime = FakeRuntime(steps)
        found = memory.measure(2, libraries=["torch"], case=SMALL, start=runtime.start)
        return found, runtime

    def test_a_step_counts_beyond_what_was_there_and_the_thriftiest_program_counts(self) -> None:
        found, runtime = self.measured([step(100, 350, 2), step(200, 300, 2)])
        assert found["libraries"]["torch"]["bytes"] == 100
        assert found["libraries"]["torch"]["program"] == "p300"
        assert runtime.asked == [0, 1]

    def test_failures_and_missing_libraries_are_told_apart(self) -> None:
        found, _ = self.measured([LostError("exit status -9: killed")])
        assert (found["libraries"], found["missing"]) == ({"torch": {"failed": "exit status -9: killed"}}, {})
        found, _ = self.measured([MissingError("No module named 'torch'")])
        assert (found["libraries"], found["missing"]) == ({}, {"torch": "No module named 'torch'"})

    def target(self, ours: dict[str, Any] | None, **rest: Any) -> Target:
        libraries = {} if ours is None else {OURS: ours}
        stored = {"allowed_bytes": 4 * 2**20, "libraries": libraries, "missing": {}, **rest}
        [found] = memory.targets(stored)
        return found

    def test_the_target_is_ours_within_what_is_allowed(self) -> None:
        assert self.target({"bytes": 4 * 2**20, "exact": True}).passed is True
        missed = self.target({"bytes": 4 * 2**20 + 1, "exact": True})
        assert missed.passed is False
        assert missed.found != "4.0 MiB"
        assert self.target({"failed": "y: off by 3"}).passed is False

    def test_an_upper_bound_passes_but_cannot_miss(self) -> None:
        assert self.target({"bytes": 4 * 2**20, "exact": False}).passed is True
        assert self.target({"bytes": 5 * 2**20, "exact": False}).passed is None

    def test_elsewhere_than_on_linux_it_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.platform", "darwin")
        found = memory.measure(1)
        assert found["libraries"] == {}
        assert "only Linux" in self.target(None, unsupported=found["unsupported"]).found
        assert self.target(None, unsupported=found["unsupported"]).passed is None

    def test_the_table_sets_every_library_beside_the_outputs(self) -> None:
        found, _ = self.measured([step(0, 3 * 2**20)])
        found["output_bytes"] = 2**20
        found["missing"] = {"jax": "No module named 'jax'"}
        console = Console(file=io.StringIO(), width=120)
        memory.show(found, console)
        assert isinstance(console.file, io.StringIO)
        text = " ".join(console.file.getvalue().split())
        assert "its outputs take 1.0 MiB" in text
        assert "PyTorch p3145728 3.0 2.0" in text
        assert "JAX: not installed (No module named 'jax')" in text


class TestMemoryWorker:
    def test_the_kernels_text_is_understood(self) -> None:
        text = "Name:\tpython\nVmPeak:\t  900 kB\nVmHWM:\t   70 kB\nVmRSS:\t   50 kB\n"
        assert memory_worker.resident(text) == (50 * 1024, 70 * 1024)
        with pytest.raises(ValueError, match="VmRSS and VmHWM"):
            memory_worker.resident("VmRSS:\t50 kB\n")

    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    def test_the_peak_begins_anew_and_then_holds_what_was_freed(self) -> None:
        if not os.access(memory_worker.CLEAR_REFS, os.W_OK):
            pytest.skip("this system does not let the peak begin anew")
        assert memory_worker.reset_peak()
        before, _ = memory_worker.resident(memory_worker.STATUS.read_text())
        size = 32 * 2**20
        with mmap.mmap(-1, size) as pages:  # new pages, whatever the C library still holds
            for page in range(0, size, mmap.PAGESIZE):
                pages[page] = 1
        now, peak = memory_worker.resident(memory_worker.STATUS.read_text())
        assert 31 * 2**20 <= peak - before <= 40 * 2**20
        assert now - before <= 8 * 2**20

    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    def test_a_step_of_ours_is_measured_and_checked(self) -> None:
        case = Case(64, 64, 32, (3, 3), batch=8)
        found = memory.measure(1, libraries=[OURS], case=case)["libraries"][OURS]
        assert (found["programs"], found["error"]) == (1, pytest.approx(0, abs=1e-4))
        # 8 MiB of outputs: anything below would mean that they were not counted.
        assert found["bytes"] >= 0.9 * memory.output_bytes(case)
