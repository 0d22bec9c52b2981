"""What must hold for every valid call, on calls drawn from the whole space of arguments."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import given, note
from hypothesis import strategies as st
from numpy.typing import NDArray

import depthwise
from depthwise import native
from tests import strategies
from tests.cases import (
    DTYPES,
    Arrays,
    Case,
    Results,
    assert_equals_exact,
    assert_same_bits,
    check_exactly,
    check_within_bounds,
    evaluate,
    evaluate_reference,
)
from tests.memory import CONTIGUOUS, Memory

Array = NDArray[Any]
seeds = st.integers(0, 1000)


@contextlib.contextmanager
def running(isa: str, threads: int = 2) -> Iterator[None]:
    """Runs on an instruction set and a number of threads."""
    isa_before, threads_before = native.force_isa(isa), depthwise.get_num_threads()
    depthwise.set_num_threads(threads)
    try:
        yield
    finally:
        native.force_isa(isa_before)
        depthwise.set_num_threads(threads_before)


def assert_same_results(actual: Results, expected: Results, what: str) -> None:
    for (name, a), b in zip(actual.parts().items(), expected.parts().values(), strict=True):
        assert_same_bits(a, b, f"{name}, {what}")


@given(
    case=strategies.cases(), dtype=strategies.dtypes, isa=strategies.isas, threads=strategies.thread_counts
)
def test_sums_of_integers_are_exact(case: Case, dtype: str, isa: str, threads: int) -> None:
    with running(isa, threads):
        check_exactly(case, dtype)


@given(
    case=strategies.cases(strategies.activations),
    dtype=strategies.dtypes,
    isa=strategies.isas,
    seed=seeds,
)
def test_real_numbers_stay_within_the_tolerances(case: Case, dtype: str, isa: str, seed: int) -> None:
    with running(isa):
        check_within_bounds(case, dtype, seed)


@given(
    case=strategies.cases(strategies.activations),
    dtype=strategies.dtypes,
    isa=strategies.isas,
    memories=st.tuples(*[strategies.memories()] * 3),
    seed=seeds,
)
def test_bits_do_not_depend_on_strides(
    case: Case, dtype: str, isa: str, memories: tuple[Memory, ...], seed: int
) -> None:
    arrays = case.reals(dtype, seed).cast(dtype)
    bias = None if arrays.bias is None else np.repeat(arrays.bias, 3)[::-3][::-1]
    placed = Arrays(
        memories[0].place(arrays.x), memories[1].place(arrays.kernel), bias, memories[2].place(arrays.dy)
    )
    with running(isa):
        assert_same_results(evaluate(case, placed), evaluate(case, arrays), f"{memories}")


@given(
    case=strategies.cases(strategies.activations), dtype=strategies.dtypes, isa=strategies.isas, seed=seeds
)
def test_bits_do_not_depend_on_the_number_of_threads(case: Case, dtype: str, isa: str, seed: int) -> None:
    arrays = case.reals(dtype, seed).cast(dtype)
    with running(isa, 1):
        expected = evaluate(case, arrays)
    for threads in (2, 7):
        with running(isa, threads):
            assert_same_results(evaluate(case, arrays), expected, f"{threads} threads")


@given(
    case=strategies.cases(strategies.activations),
    dtype=strategies.dtypes,
    isa=strategies.isas,
    memory=strategies.memories(),
    seed=seeds,
)
def test_out_gets_the_result_and_nothing_around_it_is_touched(
    case: Case, dtype: str, isa: str, memory: Memory, seed: int
) -> None:
    arrays = case.reals(dtype, seed).cast(dtype)
    before = dataclasses.astuple(arrays)  # copies
    buffer, out = memory.allocate(case.y_shape, DTYPES[dtype])
    with running(isa):
        expected = depthwise.depthwise_conv2d(arrays.x, arrays.kernel, arrays.bias, **case.options)
        returned = depthwise.depthwise_conv2d(arrays.x, arrays.kernel, arrays.bias, out=out, **case.options)
    assert returned is out
    assert_same_bits(out, expected, "out")
    out.fill(np.nan)
    assert np.isnan(buffer.astype(np.float64)).all()  # as it was before the call
    for name, now, then in zip(
        ("x", "kernel", "bias", "dy"), dataclasses.astuple(arrays), before, strict=True
    ):
        if now is not None:
            assert_same_bits(now, then, f"{name}, which is only read")


@given(case=strategies.cases(), dtype=strategies.dtypes, isa=strategies.isas, data=st.data())
def test_inputs_may_repeat_themselves_along_any_axis(
    case: Case, dtype: str, isa: str, data: st.DataObject
) -> None:
    """Broadcast arrays have strides of 0."""
    arrays = case.integers().cast(dtype)

    def repeated(array: Array) -> Array:
        axes = data.draw(st.sets(st.sampled_from(range(array.ndim))))
        some = array[tuple(slice(0, 1) if axis in axes else slice(None) for axis in range(array.ndim))]
        return np.broadcast_to(some, array.shape)

    bias = None if arrays.bias is None else repeated(arrays.bias)
    views = Arrays(repeated(arrays.x), repeated(arrays.kernel), bias, repeated(arrays.dy))
    note(f"strides: {views.x.strides}, {views.kernel.strides}, {views.dy.strides}")
    copies = Arrays(
        CONTIGUOUS.place(views.x),
        CONTIGUOUS.place(views.kernel),
        None if views.bias is None else views.bias.copy(),
        CONTIGUOUS.place(views.dy),
    )
    with running(isa):
        assert_same_results(evaluate(case, views), evaluate(case, copies), "broadcast")


@given(case=strategies.cases(strategies.activations), dtype=strategies.dtypes, isa=strategies.isas)
def test_both_layouts_give_the_same_results(case: Case, dtype: str, isa: str) -> None:
    """On integers and activations that keep them exact; the order of sums may differ otherwise."""
    case = dataclasses.replace(case, activation="relu6", data_format="channels_last")
    other = dataclasses.replace(case, data_format="channels_first")
    arrays = case.integers().cast(dtype)
    to_first, to_last = (0, 3, 1, 2), (0, 2, 3, 1)
    transposed = Arrays(
        arrays.x.transpose(to_first), arrays.kernel, arrays.bias, arrays.dy.transpose(to_first)
    )
    with running(isa):
        last, first = evaluate(case, arrays), evaluate(other, transposed)
    first = dataclasses.replace(first, y=first.y.transpose(to_last), dx=first.dx.transpose(to_last))
    for (name, a), b in zip(last.parts().items(), first.parts().values(), strict=True):
        assert np.array_equal(a, b), name


@given(
    case=strategies.cases(st.none()),
    dtype=strategies.dtypes,
    isa=strategies.isas,
    where=st.lists(
        st.tuples(st.sampled_from(["x", "kernel", "dy"]), seeds, st.sampled_from([np.nan, np.inf, -np.inf])),
        min_size=1,
        max_size=3,
    ),
)
def test_nan_and_infinity_go_where_the_reference_says(
    case: Case, dtype: str, isa: str, where: list[tuple[str, int, float]]
) -> None:
    arrays = case.integers()
    for name, position, special in where:
        array = {"x": arrays.x, "kernel": arrays.kernel, "dy": arrays.dy}[name]
        if array.size:
            array.flat[position * 7919 % array.size] = special
    with np.errstate(invalid="ignore"):
        expected = evaluate_reference(case, arrays)
    with running(isa):
        actual = evaluate(case, arrays.cast(dtype))
    for name, value in actual.parts().items():
        assert_equals_exact(value, expected.parts()[name], dtype, name)
