"""What the library says of itself, and the settings of the whole process: instruction set and threads."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import depthwise
from depthwise import native
from depthwise.spec import Spec
from tests.cases import DTYPES, Case, evaluate
from tests.conftest import ISAS


def test_info_tells_what_is_in_use(isa: str) -> None:
    info = depthwise.info()
    assert info.version == depthwise.__version__
    assert info.isa == isa
    assert info.threads == depthwise.get_num_threads()
    assert info.supported_isas == native.supported_isas()
    assert info.compiled_isas == native.compiled_isas()
    assert set(info.supported_isas) <= set(info.compiled_isas) <= set(ISAS)
    assert all(feature.isidentifier() for feature in info.cpu_features)


def test_info_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        depthwise.info().threads = 3  # type: ignore[misc]


def test_every_instruction_set_has_every_kernel(isa: str) -> None:
    families, directions = ("channels", "columns"), ("forward", "input_gradient", "kernel_gradient")
    expected = {"_".join(parts) for parts in itertools.product(families, directions, DTYPES)}
    expected |= {f"channels_gradients_{dtype}" for dtype in DTYPES}  # both in one pass
    assert expected <= set(depthwise.info().kernels), isa
    assert len(set(depthwise.info().kernels)) == len(depthwise.info().kernels)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_plan_tells_which_kernel_runs_it(isa: str, dtype: str) -> None:
    names = depthwise.info().kernels
    wide, few = (2, 20, 21, 64), (2, 20, 21, 1)
    spec = Spec(kernel_size=(3, 2))
    one_tap = Spec(kernel_size=1)
    for chosen, shape, family in ((spec, wide, "channels"), (spec, few, "pixels"), (one_tap, wide, "scale")):
        plan = native.make_plan(chosen, shape, dtype)
        forward, backward = plan.kernel_name(backward=False), plan.kernel_name(backward=True)
        assert forward in names, isa
        assert forward.startswith(f"{family}_forward_{dtype}")
        assert backward in names
        assert backward.partition("_")[2].startswith((f"gradients_{dtype}", f"input_gradient_{dtype}"))


@pytest.mark.parametrize(
    ("isa", "features"),
    [
        ("avx2", {"avx2", "fma", "f16c"}),
        ("avx512", {"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl"}),
    ],
)
def test_an_instruction_set_is_supported_only_with_all_its_features(isa: str, features: set[str]) -> None:
    if isa in native.supported_isas():
        assert features <= set(depthwise.info().cpu_features)
    elif isa in native.compiled_isas():
        assert not features <= set(depthwise.info().cpu_features)


def test_the_most_capable_instruction_set_is_the_default(python: Callable[..., str]) -> None:
    program = "import depthwise; info = depthwise.info(); print(info.isa == info.supported_isas[-1])"
    assert python(program, env={"DEPTHWISE_ISA": ""}) == "True\n"


def test_forcing_an_instruction_set_returns_the_one_before() -> None:
    before = depthwise.info().isa
    for name in native.supported_isas():
        assert native.force_isa(name) == before
        assert depthwise.info().isa == name
        before = name
    assert native.force_isa(native.supported_isas()[-1]) == before


@pytest.mark.parametrize("name", ["", "AVX2", "avx", "sse", "avx2 ", "baseline\0", "ävx"])
def test_an_unknown_instruction_set_is_refused(name: str) -> None:
    before = depthwise.info().isa
    with pytest.raises(ValueError, match=r"^name: expected .*baseline|neon") as caught:
        native.force_isa(name)
    assert repr(name) in str(caught.value)
    assert depthwise.info().isa == before


@pytest.mark.parametrize("name", [name for name in ISAS if name not in native.supported_isas()])
def test_an_instruction_set_that_the_cpu_lacks_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"got '{name}'"):
        native.force_isa(name)


def test_the_instruction_set_matters_to_the_kernels_and_not_to_the_results_on_integers() -> None:
    case = Case((7, 9), (3, 3), 20, padding="same")
    arrays = case.integers().cast("float32")
    before = depthwise.info().isa
    results = []
    for name in native.supported_isas():
        native.force_isa(name)
        results.append(evaluate(case, arrays))
    native.force_isa(before)
    for result in results[1:]:
        for a, b in zip(result.parts().values(), results[0].parts().values(), strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("count", [1, 2, 3, 17, 256, np.int64(5), np.uint8(6)])
def test_the_number_of_threads_is_what_was_set(threads: Callable[[int], None], count: int) -> None:
    threads(count)
    assert depthwise.get_num_threads() == count
    assert depthwise.info().threads == count


@pytest.mark.parametrize(
    ("count", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (257, ValueError),
        (2**40, ValueError),
        (2**80, ValueError),
        (1.0, TypeError),
        ("2", TypeError),
        (None, TypeError),
        (True, TypeError),
        ((1,), TypeError),
    ],
)
def test_a_number_of_threads_that_cannot_be_is_refused(count: Any, error: type[Exception]) -> None:
    before = depthwise.get_num_threads()
    with pytest.raises(error, match=r"^count: expected an integer from 1 to 256, got ") as caught:
        depthwise.set_num_threads(count)
    assert str(count) in str(caught.value)
    assert depthwise.get_num_threads() == before


PRINT_THREADS = "import depthwise; print(depthwise.get_num_threads())"
PRINT_ISA = "import depthwise; print(depthwise.info().isa)"


@pytest.mark.parametrize("value", ["1", "3", "256"])
def test_the_environment_sets_the_number_of_threads(python: Callable[..., str], value: str) -> None:
    assert python(PRINT_THREADS, env={"DEPTHWISE_NUM_THREADS": value}) == f"{value}\n"


@pytest.mark.parametrize("value", ["0", "-1", "257", "two", "2.0", "1e1", "99999999999999999999"])
def test_a_number_of_threads_in_the_environment_that_cannot_be_is_an_error(
    python: Callable[..., str], value: str
) -> None:
    error = python(PRINT_THREADS, env={"DEPTHWISE_NUM_THREADS": value}, status=1).splitlines()[-1]
    assert error == f"ValueError: DEPTHWISE_NUM_THREADS: expected an integer from 1 to 256, got '{value}'"


@pytest.mark.parametrize("value", native.supported_isas())
def test_the_environment_sets_the_instruction_set(python: Callable[..., str], value: str) -> None:
    assert python(PRINT_ISA, env={"DEPTHWISE_ISA": value}) == f"{value}\n"


@pytest.mark.parametrize(
    "value", ["AVX2", "fastest", "1", *(isa for isa in ISAS if isa not in native.supported_isas())]
)
def test_an_instruction_set_in_the_environment_that_cannot_be_is_an_error(
    python: Callable[..., str], value: str
) -> None:
    error = python(PRINT_ISA, env={"DEPTHWISE_ISA": value}, status=1).splitlines()[-1]
    assert error.startswith("ValueError: DEPTHWISE_ISA: expected ")
    assert f"'{value}'" in error
    assert all(isa in error for isa in native.supported_isas())


def test_empty_variables_in_the_environment_are_as_good_as_none(python: Callable[..., str]) -> None:
    settings = {"DEPTHWISE_NUM_THREADS": "", "DEPTHWISE_ISA": ""}
    assert int(python(PRINT_THREADS, env=settings)) >= 1
    assert python(PRINT_ISA, env=settings).strip() in native.supported_isas()


def test_the_default_number_of_threads_is_that_of_the_cpus_the_process_may_use(
    python: Callable[..., str],
) -> None:
    program = """
import os
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import depthwise
print(depthwise.get_num_threads(), hasattr(os, "sched_setaffinity"))
"""
    count, limited = python(program, env={"DEPTHWISE_NUM_THREADS": ""}).split()
    assert int(count) == 1 or limited == "False"


@pytest.mark.parametrize("activation", range(13))
def test_the_compiled_core_knows_every_activation(activation: int) -> None:
    """By number; 13 would be one more than there are."""
    plan = native.Plan(1, 1, 1, (1, 1), (1, 1), (1, 1), (1, 1), (1, 1), (0, 0), 0, False, activation, 0.0)
    one, y = np.ones((1, 1, 1, 1), np.float32), np.full((1, 1, 1, 1), np.nan, np.float32)
    plan.forward(one, one, None, y, None)
    assert np.isfinite(y).all()


def test_the_compiled_core_refuses_what_it_does_not_know() -> None:
    one, y = np.ones((1, 1, 1, 1), np.float32), np.full((1, 1, 1, 1), 7, np.float32)
    for dtype, activation, alpha in ((0, 13, 0.0), (0, -1, 0.0), (4, 0, 0.0), (-1, 0, 0.0), (0, 4, -1.0)):
        plan = native.Plan(
            1, 1, 1, (1, 1), (1, 1), (1, 1), (1, 1), (1, 1), (0, 0), dtype, False, activation, alpha
        )
        with pytest.raises(ValueError, match="refused"):
            plan.forward(one, one, None, y, None)
    assert y.item() == 7
