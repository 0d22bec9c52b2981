"""The time inside the native op: the library that counts it, and the process that it is preloaded into."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import depthwise
from benchmarks import calls, interplay_worker
from benchmarks.runtimes import ROOT


class FakeFramework:
    """Chains that count as their native calls what a test says, a line for each call."""

    def __init__(self, counts: list[calls.Counts]) -> None:
        self.counts = iter(counts)
        self.ready = calls.Counts(0, 0.0, 0, 0.0)

    def run(self) -> None:
        self.ready = next(self.counts)

    def take(self) -> calls.Counts:
        taken, self.ready = self.ready, calls.Counts(0, 0.0, 0, 0.0)
        return taken


class TestInterplayWorker:
    @pytest.fixture
    def ask(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[calls.Counts], str], dict[str, Any]]:
        """Has a worker time chains of two layers, a call to warm up and then as many as there are counts."""

        def answer(counts: list[calls.Counts], what: str) -> dict[str, Any]:
            framework = FakeFramework([calls.Counts(2, 1000.0, 2, 1000.0), *counts])

            def median_ms(run: Callable[[], Any], seconds: float) -> tuple[float, int]:
                del seconds
                for _ in range(1 + len(counts)):
                    run()
                return math.nan, len(counts)

            monkeypatch.setattr(interplay_worker, "median_ms", median_ms)
            monkeypatch.setattr(calls, "take", framework.take)
            worker = object.__new__(interplay_worker.Worker)  # without a framework
            worker.pieces = {"network": "pdpdp"}
            worker.programs = {"network": {what: framework.run}}
            return worker.answer({"do": "time", "what": what, "piece": "network", "seconds": 0.1})

        return answer

    def test_the_median_call_counts_and_those_to_warm_up_do_not(self, ask: Any) -> None:
        counts = [calls.Counts(2, ms, 0, 0.0) for ms in (8.0, 2.0, 6.0)]
        assert ask(counts, "inference") == {"ms": 3.0, "calls": 3}

    def test_all_backward_calls_of_a_layer_count_for_it(self, ask: Any) -> None:
        assert ask([calls.Counts(2, 6.0, 4, 10.0)], "training") == {"ms": 8.0, "calls": 1}

    def test_a_forward_pass_that_was_left_out_does_not_make_the_others_faster(self, ask: Any) -> None:
        assert ask([calls.Counts(1, 3.0, 2, 10.0)], "training") == {"ms": 8.0, "calls": 1}

    @pytest.mark.parametrize(
        ("what", "counts"),
        [
            ("inference", calls.Counts(0, 0.0, 0, 0.0)),
            ("training", calls.Counts(0, 0.0, 2, 1.0)),
            ("training", calls.Counts(2, 1.0, 0, 0.0)),
        ],
    )
    def test_a_turn_that_counted_nothing_is_an_error(self, ask: Any, what: str, counts: calls.Counts) -> None:
        with pytest.raises(RuntimeError, match=f"no native call was counted during {what}"):
            ask([counts], what)


COUNTED = """
import json
import threading

import numpy as np

import depthwise
from benchmarks import calls

x = np.arange(1 * 5 * 5 * 3, dtype=np.float32).reshape(1, 5, 5, 3)
kernel = np.ones((3, 3, 3, 1), np.float32)
counted = [calls.take()]
y = depthwise.depthwise_conv2d(x, kernel)
counted.append(calls.take())
z, pullback = depthwise.depthwise_conv2d_vjp(x, kernel)
counted.append(calls.take())
pullback(np.ones_like(z))
counted.append(calls.take())


def work():
    for _ in range(100):
        depthwise.depthwise_conv2d(x, kernel)


threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
counted.append(calls.take())
counted.append(calls.take())
print(json.dumps({"y": y.tolist(), "counted": counted}))
"""


class TestCalls:
    @pytest.fixture
    def environment(self) -> dict[str, str]:
        try:
            return calls.environment()
        except RuntimeError as error:
            if "failed:" in str(error):
                raise
            pytest.skip(str(error))

    def test_native_calls_of_numpy_are_counted_and_compute_what_they_did(
        self, environment: dict[str, str]
    ) -> None:
        found = subprocess.run(
            [sys.executable, "-c", COUNTED],
            env=os.environ | environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.returncode == 0, found.stderr
        answer = json.loads(found.stdout)
        counted = [calls.Counts(*counts) for counts in answer["counted"]]
        assert [(counts.forward_calls, counts.backward_calls) for counts in counted] == [
            (0, 0),
            (1, 0),
            (1, 0),
            (0, 1),
            (400, 0),
            (0, 0),
        ]
        for counts in counted:
            assert (counts.forward_ms > 0) == (counts.forward_calls > 0)
            assert (counts.backward_ms > 0) == (counts.backward_calls > 0)
        x = np.arange(1 * 5 * 5 * 3, dtype=np.float32).reshape(1, 5, 5, 3)
        y = depthwise.depthwise_conv2d(x, np.ones((3, 3, 3, 1), np.float32))
        np.testing.assert_array_equal(answer["y"], y)

    def test_what_the_user_preloads_stays(
        self, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = environment["LD_PRELOAD"].partition(":")[0]
        monkeypatch.setenv("LD_PRELOAD", "/lib/other.so")
        assert calls.environment() == {"LD_PRELOAD": f"{own}:/lib/other.so"}

    def test_a_process_that_does_not_preload_it_says_so(self) -> None:
        with pytest.raises(RuntimeError, match=r"calls\.c is not preloaded into this process"):
            calls.take()

    def test_elsewhere_than_on_linux_it_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "darwin")
        with pytest.raises(RuntimeError, match="works on Linux only, not on darwin"):
            calls.environment()

    def test_a_compiler_that_fails_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "platform", "linux")
        with pytest.raises(RuntimeError, match=r"^false .*calls\.c .* failed:"):
            calls.environment("false")
