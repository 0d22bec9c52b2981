"""Calls that were made before go a shorter way: it must not be seen but in time."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import depthwise
from depthwise import native, ops
from tests.cases import assert_same_bits

Array = npt.NDArray[Any]


def arrays(size: int = 7, channels: int = 5, dtype: str = "float32", seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "x": rng.standard_normal((2, size, size + 1, channels)).astype(dtype),
        "kernel": rng.standard_normal((3, 2, channels, 2)).astype(dtype),
        "bias": rng.standard_normal(2 * channels).astype(dtype),
    }


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One item for each call that went the whole way."""
    calls: list[bool] = []
    whole = ops._prepare

    def prepare(*args: Any) -> Any:
        calls.append(True)
        return whole(*args)

    monkeypatch.setattr(ops, "_prepare", prepare)
    monkeypatch.setattr(ops, "_recent", native.Recent())
    monkeypatch.setattr(ops, "_recent_with_gradients", native.Recent())
    return calls


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": "same", "activation": "relu"},
        {"strides": (2, 1), "padding": ((1, 2), (0, 1)), "dilation_rate": (1, 2), "activation": ("elu", 0.5)},
    ],
    ids=str,
)
def test_a_call_made_again_gives_the_same_bits(dtype: str, options: dict[str, Any], slow: list[bool]) -> None:
    first, second = arrays(dtype=dtype, seed=1), arrays(dtype=dtype, seed=2)
    expected = depthwise.depthwise_conv2d(**second, **options)
    out = np.empty_like(expected)
    depthwise.depthwise_conv2d(**first, **options, out=out)
    whole_way = len(slow)
    assert depthwise.depthwise_conv2d(**second, **options, out=out) is out
    assert len(slow) == whole_way
    assert_same_bits(out, expected, "out")
    # Inputs of other strides.
    spread: dict[str, Any] = {name: np.repeat(array, 2, axis=0)[::2] for name, array in second.items()}
    spread["x"] = np.ascontiguousarray(second["x"][:, ::-1])[:, ::-1]
    out.fill(0)
    depthwise.depthwise_conv2d(**spread, **options, out=out)
    assert_same_bits(out, expected, "out, of inputs of other strides")


def test_bfloat16_is_known_again_too(slow: list[bool]) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    first, second = (
        {name: array.astype(ml_dtypes.bfloat16) for name, array in arrays(seed=seed).items()}
        for seed in (1, 2)
    )
    expected = depthwise.depthwise_conv2d(**second)
    out = np.empty_like(expected)
    depthwise.depthwise_conv2d(**first, out=out)
    whole_way = len(slow)
    depthwise.depthwise_conv2d(**second, out=out)
    assert len(slow) == whole_way
    assert_same_bits(out, expected, "out")
    # Of as many bytes, but no bfloat16.
    halves = {name: array.astype(np.float16) for name, array in second.items()}
    exact = depthwise.depthwise_conv2d(**halves)
    assert_same_bits(depthwise.depthwise_conv2d(**halves, out=np.empty_like(exact)), exact, "float16")
    with pytest.raises(TypeError, match="out: expected dtype float16"):
        depthwise.depthwise_conv2d(**halves, out=out)
    with pytest.raises(TypeError, match="expected"):
        depthwise.depthwise_conv2d(**second | {"kernel": halves["kernel"]}, out=out)


def test_arguments_that_may_change_are_looked_at_each_time() -> None:
    given, strides = arrays(), [1, 1]
    padding = [[0, 0], [0, 0]]
    expected = depthwise.depthwise_conv2d(**given)
    out = np.empty_like(expected)
    for _ in range(2):
        depthwise.depthwise_conv2d(**given, strides=strides, padding=padding, out=out)
        assert_same_bits(out, expected, "out")
    strides[0] = 2
    with pytest.raises(ValueError, match=r"out: expected shape \(2, 3, 7, 10\)"):
        depthwise.depthwise_conv2d(**given, strides=strides, padding=padding, out=out)
    strides[0], padding[1][0] = 1, -1
    with pytest.raises(ValueError, match="padding: "):
        depthwise.depthwise_conv2d(**given, strides=strides, padding=padding, out=out)
    assert_same_bits(out, expected, "out")


def test_a_known_call_with_other_arrays_is_another_call() -> None:
    """Each differs from what is known in one thing only, and none may be taken for it."""
    given = arrays()
    expected = depthwise.depthwise_conv2d(**given)
    out = np.empty_like(expected)
    for _ in range(2):
        depthwise.depthwise_conv2d(**given, out=out)
    without_bias = depthwise.depthwise_conv2d(given["x"], given["kernel"])
    assert_same_bits(depthwise.depthwise_conv2d(given["x"], given["kernel"], out=out), without_bias, "out")
    wide = {name: array.astype(np.float64) for name, array in given.items()}
    exact = depthwise.depthwise_conv2d(**wide, out=np.empty(expected.shape))
    np.testing.assert_allclose(exact, expected, atol=1e-5)
    swapped = {name: array.astype(array.dtype.newbyteorder()) for name, array in given.items()}
    out.fill(0)
    assert_same_bits(depthwise.depthwise_conv2d(**swapped, out=out), expected, "out")
    out.fill(0)
    lists = {name: array.tolist() for name, array in wide.items()}
    np.testing.assert_array_equal(depthwise.depthwise_conv2d(**lists, out=np.empty(expected.shape)), exact)
    memory = np.zeros(given["x"].nbytes + 1, np.uint8)[1:]
    misaligned = memory.view(np.float32).reshape(given["x"].shape)
    misaligned[...] = given["x"]
    assert_same_bits(
        depthwise.depthwise_conv2d(misaligned, given["kernel"], given["bias"], out=out), expected, "out"
    )
    strided = np.zeros((*expected.shape[:3], 2 * expected.shape[3]), np.float32)[..., ::2]
    assert_same_bits(depthwise.depthwise_conv2d(**given, out=strided), expected, "out")
    columns = np.repeat(given["bias"], 3)[::3]
    out.fill(0)
    assert_same_bits(
        depthwise.depthwise_conv2d(given["x"], given["kernel"], columns, out=out), expected, "out"
    )


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.zeros((2, 5, 7, 9), np.float32), ValueError, "out: expected shape"),
        (np.zeros((2, 5, 7, 10), np.float64), TypeError, "out: expected dtype float32"),
        (np.zeros((2, 5, 7, 10), ">f4"), TypeError, "out: expected"),
        (np.broadcast_to(np.zeros(10, np.float32), (2, 5, 7, 10)), ValueError, "out: expected an array that"),
        (memoryview(np.zeros((2, 5, 7, 10), np.float32).data), TypeError, "out: expected a NumPy array"),
        (
            np.zeros(2 * 5 * 7 * 10 * 4 + 1, np.uint8)[1:].view("f4").reshape(2, 5, 7, 10),
            ValueError,
            "aligned",
        ),
    ],
    ids=["shape", "dtype", "byte order", "read-only", "no array", "misaligned"],
)
def test_a_wrong_out_is_refused_as_ever(out: Any, error: type[Exception], message: str) -> None:
    given = arrays()
    right = depthwise.depthwise_conv2d(**given)
    for _ in range(2):
        depthwise.depthwise_conv2d(**given, out=right)
    with pytest.raises(error, match=message):
        depthwise.depthwise_conv2d(**given, out=out)
    assert not np.asarray(out).any()


def test_an_out_that_overlaps_is_refused_as_ever() -> None:
    memory = np.ones(4 * 6 * 6 * 8 + 100, np.float32)
    x, kernel = memory[: 2 * 6 * 6 * 8].reshape(2, 6, 6, 8), np.ones((1, 1, 8, 1), np.float32)
    apart = memory[2 * 6 * 6 * 8 : 4 * 6 * 6 * 8].reshape(2, 6, 6, 8)
    for _ in range(2):
        depthwise.depthwise_conv2d(x, kernel, out=apart)
    with pytest.raises(ValueError, match=r"out: .* overlaps x"):
        depthwise.depthwise_conv2d(x, kernel, out=memory[8 : 8 + x.size].reshape(x.shape))
    assert (memory == 1).all()


def test_more_calls_than_are_kept() -> None:
    cases = [(arrays(size, channels), size % 2 + 1) for size in range(4, 24) for channels in range(1, 31)]
    expected = [depthwise.depthwise_conv2d(**given, strides=strides) for given, strides in cases]
    for _ in range(2):
        for (given, strides), right in zip(cases, expected, strict=True):
            out = np.empty_like(right)
            depthwise.depthwise_conv2d(**given, strides=strides, out=out)
            assert_same_bits(out, right, f"{given['x'].shape}, strides {strides}")


def test_threads_that_make_different_calls() -> None:
    cases = [arrays(size=6 + i, channels=3 + i, seed=i) for i in range(8)]
    expected = [depthwise.depthwise_conv2d(**given, padding="same") for given in cases]
    wrong: list[int] = []

    def work(first: int) -> None:
        outs = [np.empty_like(right) for right in expected]
        for i in range(first, first + 400):
            at = i % len(cases)
            outs[at].fill(0)
            depthwise.depthwise_conv2d(**cases[at], padding="same", out=outs[at])
            if not np.array_equal(outs[at], expected[at]):
                wrong.append(at)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def gradients_like(given: dict[str, Any]) -> depthwise.Gradients:
    """Arrays for gradients, of nothing that may be taken for one."""
    return depthwise.Gradients(*(np.full_like(given[name], np.nan) for name in ("x", "kernel", "bias")))


def assert_same_gradients(found: depthwise.Gradients, expected: depthwise.Gradients) -> None:
    for name, array, right in zip(found._fields, found, expected, strict=True):
        assert array is not None
        assert right is not None
        assert_same_bits(np.asarray(array), right, name)


@pytest.mark.parametrize("activation", [None, "relu", ("elu", 0.5), "gelu"])
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
def test_a_training_step_made_again_gives_the_same_bits(
    activation: Any, data_format: str, slow: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = arrays(seed=1), arrays(seed=2)
    if data_format == "channels_first":
        for given in (first, second):
            given["x"] = np.ascontiguousarray(np.moveaxis(given["x"], 3, 1))
    options: dict[str, Any] = {"activation": activation, "data_format": data_format, "padding": "same"}
    y, pullback = depthwise.depthwise_conv2d_vjp(**second, **options)
    dy = np.random.default_rng(3).standard_normal(y.shape).astype(y.dtype)
    expected = pullback(dy)
    out = np.empty_like(y)
    depthwise.depthwise_conv2d_vjp(**first, **options, out=out)
    whole_way = len(slow)
    again, pullback = depthwise.depthwise_conv2d_vjp(**second, **options, out=out)
    # What is kept for the derivative is not the output there, and has to be made.
    assert len(slow) == whole_way + (1 if activation == "gelu" else 0)
    assert again is out
    assert_same_bits(out, y, "y")
    monkeypatch.setattr(ops, "_check_gradients", None)  # neither is this asked
    given_out = gradients_like(second)
    assert pullback(dy, out=given_out) is given_out
    assert_same_gradients(given_out, expected)


@pytest.mark.usefixtures("slow")
def test_what_the_forward_pass_knows_keeps_nothing_for_gradients() -> None:
    """gelu's derivative is taken from what a forward pass does not keep."""
    given = arrays()
    out = np.empty_like(depthwise.depthwise_conv2d(**given))
    for _ in range(2):
        depthwise.depthwise_conv2d(**given, activation="gelu", out=out)
    y, pullback = depthwise.depthwise_conv2d_vjp(**given, activation="gelu")
    _, same = depthwise.depthwise_conv2d_vjp(**given, activation="gelu", out=out)
    assert_same_gradients(same(np.ones_like(y)), pullback(np.ones_like(y)))


def test_unusual_memory_for_gradients_is_looked_at() -> None:
    given = arrays()
    y, pullback = depthwise.depthwise_conv2d_vjp(**given, activation="relu")
    dy = np.random.default_rng(3).standard_normal(y.shape).astype(y.dtype)
    expected = pullback(dy)

    def check(dy: Any, out: depthwise.Gradients) -> None:
        assert pullback(dy, out=out) is out
        assert_same_gradients(out, expected)

    check(np.repeat(dy, 2, axis=2)[:, :, ::2], gradients_like(given))
    check(dy.astype(dy.dtype.newbyteorder()), gradients_like(given))
    out = gradients_like(given)
    check(dy, out._replace(x=np.full((*out.x.shape[:3], 10), np.nan, np.float32)[..., ::2]))
    check(dy, out._replace(kernel=np.asfortranarray(out.kernel)))

    class Mine(np.ndarray[Any, Any]):
        pass

    check(dy.view(Mine), out._replace(x=out.x.view(Mine)))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": np.zeros((2, 7, 8, 6), np.float32)}, ValueError, "out.x: expected shape"),
        ({"x": np.zeros((2, 7, 8, 5), np.float64)}, TypeError, "out.x: expected dtype float32"),
        ({"kernel": np.zeros((3, 2, 2, 5), np.float32)}, ValueError, "out.kernel: expected shape"),
        ({"bias": np.zeros(20, np.float32)[::2]}, ValueError, "out.bias: expected a contiguous array"),
        ({"bias": None}, ValueError, "out.bias: expected an array"),
        (
            {"kernel": np.broadcast_to(np.zeros((), np.float32), (3, 2, 5, 2))},
            ValueError,
            "out.kernel: expected an array that can be written",
        ),
        ({"x": [0.0]}, TypeError, "out.x: expected a NumPy array"),
    ],
    ids=["shape", "dtype", "kernel", "strided", "no bias", "read-only", "no array"],
)
def test_wrong_arrays_for_gradients_are_refused_as_ever(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    given = arrays()
    y, pullback = depthwise.depthwise_conv2d_vjp(**given)
    right = gradients_like(given)
    pullback(np.ones_like(y), out=right)
    for array in right:
        assert array is not None
        array.fill(np.nan)
    with pytest.raises(error, match=message):
        pullback(np.ones_like(y), out=right._replace(**change))
    for array in right:
        assert array is not None
        assert np.isnan(array).all()
    with pytest.raises(TypeError, match=r"out: expected depthwise.Gradients, got tuple"):
        pullback(np.ones_like(y), out=tuple(right))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="dy: expected shape"):
        pullback(np.ones((*y.shape[:3], 1), np.float32), out=right)
    with pytest.raises(TypeError):
        pullback(np.ones_like(y, np.float64), out=right)


def test_gradients_that_overlap_are_refused_as_ever() -> None:
    memory = np.ones(2 * 6 * 6 * 8 + 8, np.float32)
    dy = memory[: 2 * 6 * 6 * 8].reshape(2, 6, 6, 8)
    x, kernel = np.ones((2, 6, 6, 8), np.float32), np.ones((1, 1, 8, 1), np.float32)
    _, pullback = depthwise.depthwise_conv2d_vjp(x, kernel)
    dx = memory[8:].reshape(x.shape)
    with pytest.raises(ValueError, match=r"out\.x: .* overlaps dy"):
        pullback(dy, out=depthwise.Gradients(dx, np.empty_like(kernel), None))
    with pytest.raises(ValueError, match=r"out\.kernel: .* overlaps x"):
        pullback(dy, out=depthwise.Gradients(np.empty_like(x), x[0, :1, :1, :, None], None))
    assert (memory == 1).all()
    assert (x == 1).all()
