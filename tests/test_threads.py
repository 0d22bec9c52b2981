"""Threads: the same bits for any number of them, and many callers at once."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import depthwise
from tests.cases import LAYOUTS, Case, Results, assert_same_bits, evaluate

# Each is large enough to be shared out (csrc/kernels/tuning.h), and has sums whose order could show.
CASES = [
    Case((40, 41), (3, 3), 37, batch=2, padding="same", activation="silu"),
    Case((120, 90), (5, 4), 3, strides=(2, 1), padding="same", multiplier=2),
    Case((9, 200), (3, 9), 70, activation="relu"),
    Case((14, 14), (27, 27), 24, padding="same"),
    Case((8, 8), (15, 15), 128, padding="same"),
    Case((16, 16), (31, 31), 40, padding="same"),
    Case((8, 8), (3, 15), 300, padding="same"),
    Case((33, 17), (2, 3), 5, batch=16, strides=(2, 2), dilation_rate=(3, 2)),
    Case((64, 64), (1, 1), 100, activation="gelu"),
    Case((5, 20_000), (3, 3), 1, padding="same"),
    Case((7, 900), (3, 3), 3, padding="same"),
    Case((37, 90), (5, 4), 14, batch=2, padding="same", dilation_rate=(2, 1)),
    Case((25, 9), (4, 7), 33, strides=(1, 2)),
    Case((60, 5), (3, 4), 53, batch=2, padding="same", dilation_rate=(2, 2)),
    Case((57, 23), (2, 3), 6, batch=7, strides=(2, 3), padding=((1, 0), (1, 1)), activation="relu"),
]


def assert_same(actual: Results, expected: Results, what: str) -> None:
    for (name, a), b in zip(actual.parts().items(), expected.parts().values(), strict=True):
        assert_same_bits(a, b, f"{name}, {what}")


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_bits_are_those_of_one_thread_and_of_the_run_before(
    threads: Callable[[int], None], dtype: str, data_format: str, case: Case
) -> None:
    case = dataclasses.replace(case, data_format=data_format)
    arrays = case.reals(dtype).cast(dtype)
    threads(1)
    expected = evaluate(case, arrays)
    for count in (1, 2, 7, 16, 2, 7):
        threads(count)
        assert_same(evaluate(case, arrays), expected, f"{count} threads, {dtype}, {case}")


def test_more_threads_than_there_is_work_for(threads: Callable[[int], None], data_format: str) -> None:
    case = Case((3, 5000), (3, 3), 2, data_format=data_format)
    arrays = case.reals("float32").cast("float32")
    threads(1)
    expected = evaluate(case, arrays)
    threads(256)
    assert_same(evaluate(case, arrays), expected, "256 threads")


def test_many_python_threads_at_once_while_the_number_of_threads_changes(
    threads: Callable[[int], None],
) -> None:
    problems = []
    for case in CASES[:3]:
        for data_format in LAYOUTS:
            for dtype in ("float32", "float16"):
                case = dataclasses.replace(case, data_format=data_format)  # noqa: PLW2901
                arrays = case.reals(dtype).cast(dtype)
                problems.append((case, arrays, evaluate(case, arrays)))
    over = threading.Event()

    def change() -> None:
        count = 0
        while not over.is_set():
            count += 1
            threads(1 + count % 5)

    def call(number: int) -> None:
        case, arrays, expected = problems[number % len(problems)]
        assert_same(evaluate(case, arrays), expected, f"call {number}, {case}")

    changer = threading.Thread(target=change)
    changer.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(call, number) for number in range(20 * len(problems))]:
                done.result(timeout=120)
    finally:
        over.set()
        changer.join()


def test_a_call_lets_other_python_threads_run(threads: Callable[[int], None]) -> None:
    """It releases the GIL: another thread gets its turns while one long call is running."""
    threads(1)
    running, over = threading.Event(), threading.Event()
    turns = 0

    def take_turns() -> None:
        nonlocal turns
        while not over.wait(0.001):
            turns += running.is_set()

    other = threading.Thread(target=take_turns)
    other.start()
    x = np.broadcast_to(np.float32(1), (8, 200, 200, 64))
    kernel, out = np.ones((31, 31, 64, 1), np.float32), np.empty((8, 170, 170, 64), np.float32)
    try:
        running.set()
        depthwise.depthwise_conv2d(x, kernel, out=out)
        running.clear()
    finally:
        over.set()
        other.join()
    assert turns > 20  # with the GIL held, one or two around the call
