"""Arrays of every kind in, and `out`: strides, sizes of zero, alignment, byte order, array-likes."""

from __future__ import annotations

import dataclasses
import itertools
import mmap
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

import depthwise
from depthwise import reference
from tests.cases import (
    DTYPES,
    LAYOUTS,
    Arrays,
    Case,
    assert_equals_exact,
    assert_same_bits,
    check_exactly,
    evaluate,
    evaluate_reference,
    integers_and_results,
)
from tests.memory import MEMORIES, Memory

Array = NDArray[Any]

# One for each family of kernels and each path within: few and many channels, clipped borders, strides, multipliers.
CASES = [
    Case((7, 9), (3, 3), 1, batch=2, padding="same"),
    Case((7, 9), (3, 2), 40, batch=2, padding="same"),
    Case((9, 11), (2, 4), 6, multiplier=3, strides=(2, 3), padding=2),
    Case((8, 12), (3, 3), 34, strides=(2, 1), dilation_rate=(1, 2), padding="same", activation="relu6"),
    Case((9, 41), (3, 3), 2, batch=2, padding="same", activation="relu6"),
]
EVERY_CASE = pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
EVERY_MEMORY = pytest.mark.parametrize("memory", MEMORIES.values(), ids=MEMORIES)


def check(case: Case, arrays: Arrays, dtype: str) -> None:
    """The results of the case's integers, from arrays that hold them in some other way."""
    _, expected = integers_and_results(case)
    for name, actual in evaluate(case, arrays).parts().items():
        assert_equals_exact(actual, expected.parts()[name], dtype, f"{name} of {dtype}, {case}")


def mapped(arrays: Arrays, change: Any) -> Arrays:
    """`change` applied to each array."""
    bias = None if arrays.bias is None else change(arrays.bias)
    return Arrays(change(arrays.x), change(arrays.kernel), bias, change(arrays.dy))


@pytest.mark.usefixtures("isa")
@EVERY_CASE
@EVERY_MEMORY
def test_inputs_of_any_strides(dtype: str, data_format: str, case: Case, memory: Memory) -> None:
    case = dataclasses.replace(case, data_format=data_format)
    arrays = case.integers().cast(dtype)
    check(case, mapped(arrays, lambda array: memory.place(array) if array.ndim == 4 else array), dtype)


@EVERY_CASE
def test_a_bias_of_any_stride(dtype: str, data_format: str, case: Case) -> None:
    case = dataclasses.replace(case, data_format=data_format)
    arrays = case.integers().cast(dtype)
    assert arrays.bias is not None
    backwards = np.repeat(arrays.bias[::-1], 2)[::-2]
    assert backwards.strides[0] < 0
    check(case, dataclasses.replace(arrays, bias=backwards), dtype)
    constant = np.broadcast_to(arrays.bias[:1], arrays.bias.shape)
    y = depthwise.depthwise_conv2d(arrays.x, arrays.kernel, constant, **case.options)
    again = depthwise.depthwise_conv2d(arrays.x, arrays.kernel, constant.copy(), **case.options)
    assert_same_bits(y, again, "a bias of stride 0")


@pytest.mark.usefixtures("isa")
@EVERY_CASE
def test_broadcast_inputs(dtype: str, data_format: str, case: Case) -> None:
    case = dataclasses.replace(case, data_format=data_format)
    arrays = case.integers(seed=1).cast(dtype)
    for axis in range(4):

        def repeat(array: Array, axis: int = axis) -> Array:
            return np.broadcast_to(array.take([0], axis % array.ndim), array.shape)

        views = mapped(arrays, repeat)
        assert views.x.strides[axis] == 0
        expected = evaluate_reference(case, mapped(views, lambda array: array.astype(np.float64)))
        for name, actual in evaluate(case, views).parts().items():
            assert_equals_exact(actual, expected.parts()[name], dtype, f"{name}, repeated along axis {axis}")


@pytest.mark.usefixtures("isa")
def test_windows_of_a_larger_image_overlap(dtype: str) -> None:
    rows = np.lib.stride_tricks.sliding_window_view(
        np.arange(40 * 12 * 2).reshape(40, 12, 2) % 13, 8, axis=0
    )  # (33, 12, 2, 8): every element of the image is seen up to eight times
    x = rows.astype(DTYPES[dtype])[:, :, :, :].transpose(0, 3, 1, 2)
    kernel = (np.arange(3 * 3 * 2).reshape(3, 3, 2, 1) % 5).astype(x.dtype)
    expected = reference.depthwise_conv2d(
        x, kernel, None, depthwise.Spec.from_kernel(kernel.shape, use_bias=False)
    )
    assert_equals_exact(depthwise.depthwise_conv2d(x, kernel), expected, dtype, dtype)


@pytest.mark.usefixtures("isa")
@EVERY_CASE
@EVERY_MEMORY
def test_out_of_any_strides(dtype: str, data_format: str, case: Case, memory: Memory) -> None:
    case = dataclasses.replace(case, data_format=data_format)
    arrays, expected = integers_and_results(case)
    cast = arrays.cast(dtype)
    buffer, out = memory.allocate(case.y_shape, DTYPES[dtype])
    assert depthwise.depthwise_conv2d(cast.x, cast.kernel, cast.bias, out=out, **case.options) is out
    assert_equals_exact(out, expected.y, dtype, f"out, {memory}")
    assert np.isnan(buffer.astype(np.float64)).sum() == buffer.size - out.size  # the gaps are as they were


@pytest.mark.usefixtures("isa")
@EVERY_CASE
@EVERY_MEMORY
def test_gradients_into_arrays_of_any_strides(
    dtype: str, data_format: str, case: Case, memory: Memory
) -> None:
    case = dataclasses.replace(case, data_format=data_format)
    arrays, expected = integers_and_results(case)
    cast = arrays.cast(dtype)
    y_buffer, y_out = memory.allocate(case.y_shape, DTYPES[dtype])
    y, pullback = depthwise.depthwise_conv2d_vjp(cast.x, cast.kernel, cast.bias, out=y_out, **case.options)
    assert y is y_out
    assert y.flags.writeable
    assert_equals_exact(y, expected.y, dtype, f"y, {memory}")
    x_buffer, x_out = memory.allocate(cast.x.shape, DTYPES[dtype])
    kernel_out = np.empty(cast.kernel.shape[::-1], DTYPES[dtype]).T
    bias_out = None if cast.bias is None else np.empty_like(cast.bias)
    out = depthwise.Gradients(x_out, kernel_out, bias_out)
    assert pullback(cast.dy, out=out) is out
    assert_equals_exact(out.x, expected.dx, dtype, f"dx, {memory}")
    assert_equals_exact(out.kernel, expected.dkernel, dtype, f"dkernel, {memory}")
    if out.bias is not None:
        assert expected.dbias is not None
        assert_equals_exact(out.bias, expected.dbias, dtype, f"dbias, {memory}")
    for buffer, part in ((y_buffer, y), (x_buffer, x_out)):  # the gaps are as they were
        assert np.isnan(buffer.astype(np.float64)).sum() == buffer.size - part.size


def test_a_loop_gives_the_last_step_s_arrays_back() -> None:
    case = Case((6, 7), (3, 3), 5, padding="same", activation="silu")  # which keeps what it is taken of
    first, second = case.integers(seed=1).cast("float32"), case.integers(seed=2).cast("float32")
    y, pullback = depthwise.depthwise_conv2d_vjp(first.x, first.kernel, first.bias, **case.options)
    gradients = pullback(first.dy)
    fresh_y, fresh = depthwise.depthwise_conv2d_vjp(second.x, second.kernel, second.bias, **case.options)
    expected = fresh(second.dy)
    y, pullback = depthwise.depthwise_conv2d_vjp(second.x, second.kernel, second.bias, out=y, **case.options)
    assert_same_bits(y, fresh_y, "y")
    assert pullback(second.dy, out=gradients) is gradients
    for name, array in gradients._asdict().items():
        assert_same_bits(array, getattr(expected, name), name)


def test_out_may_be_part_of_an_array_that_holds_an_input(data_format: str) -> None:
    case = Case((6, 7), (3, 3), 5, padding="same", data_format=data_format)
    arrays, expected = integers_and_results(case)
    cast = arrays.cast("float32")
    both = np.stack([cast.x, np.zeros_like(cast.x)], axis=-1)  # every other element each
    depthwise.depthwise_conv2d(both[..., 0], cast.kernel, cast.bias, out=both[..., 1], **case.options)
    assert_equals_exact(both[..., 1], expected.y, "float32", "out")
    assert_same_bits(both[..., 0], cast.x, "x")


def test_out_of_an_array_subclass_is_returned_as_it_is(data_format: str) -> None:
    class Special(np.ndarray[Any, Any]):
        pass

    case = Case((6, 7), (3, 3), 5, data_format=data_format)
    arrays, expected = integers_and_results(case)
    cast = arrays.cast("float32")
    out = np.empty(case.y_shape, np.float32).view(Special)
    assert depthwise.depthwise_conv2d(cast.x, cast.kernel, cast.bias, out=out, **case.options) is out
    assert_equals_exact(np.asarray(out), expected.y, "float32", "out")


EMPTY = [
    Case((5, 6), (3, 3), 4, batch=0),
    Case((5, 6), (3, 3), 0, batch=2),
    Case((5, 6), (3, 3), 0, batch=2, multiplier=3, activation="silu"),
    Case((0, 6), (2, 3), 4, batch=2, padding=2),
    Case((5, 0), (2, 3), 40, batch=2, padding=3, activation="relu"),
    Case((0, 0), (2, 2), 4, padding=((1, 1), (1, 2)), multiplier=2),
    Case((0, 0), (1, 1), 40, padding=((1, 0), (0, 1)), strides=(2, 3)),
    Case((0, 3), (1, 1), 1, batch=0, padding=1),
]


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("case", EMPTY, ids=range(len(EMPTY)))
@pytest.mark.parametrize("bias", [True, False])
def test_sizes_of_zero(dtype: str, data_format: str, case: Case, bias: bool) -> None:
    if case.activation == "silu":
        case = dataclasses.replace(case, data_format=data_format, bias=bias)
        arrays = case.integers().cast(dtype)
        assert {part.size for part in evaluate(case, arrays).parts().values()} == {0}
    else:
        check_exactly(dataclasses.replace(case, data_format=data_format, bias=bias), dtype)


def test_an_empty_out_is_returned() -> None:
    out = np.empty((0, 3, 3, 2), np.float32)
    x, kernel = np.zeros((0, 3, 3, 2), np.float32), np.zeros((1, 1, 2, 1), np.float32)
    assert depthwise.depthwise_conv2d(x, kernel, out=out) is out


@EVERY_CASE
def test_read_only_inputs(dtype: str, data_format: str, case: Case) -> None:
    case = dataclasses.replace(case, data_format=data_format)
    arrays = case.integers().cast(dtype)

    def frozen(array: Array) -> Array:
        array.flags.writeable = False
        return array

    check(case, mapped(arrays, frozen), dtype)


@EVERY_CASE
def test_misaligned_inputs(dtype: str, data_format: str, case: Case) -> None:
    case = dataclasses.replace(case, data_format=data_format)

    def misaligned(array: Array) -> Array:
        raw = np.zeros(array.nbytes + 1, np.uint8)
        view = np.frombuffer(raw, array.dtype, array.size, offset=1).reshape(array.shape)
        view.flags.writeable = True
        view[...] = array
        assert not view.flags.aligned
        return view

    check(case, mapped(case.integers().cast(dtype), misaligned), dtype)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("activation", [None, "relu"])
def test_weights_at_any_place_in_a_page(dtype: str, data_format: str, activation: str | None) -> None:
    """They are copied where they would evict what they are multiplied with (`meeting_bytes` in tuning.h)."""
    channels = 1024 // DTYPES[dtype].itemsize
    case = Case((7, 8), (3, 3), channels, padding="same", activation=activation, data_format=data_format)

    def placed(array: Array, offset: int) -> Array:
        raw = np.zeros(array.nbytes + 2 * mmap.PAGESIZE, np.uint8)
        begin = -raw.ctypes.data % mmap.PAGESIZE + offset
        view: Array = np.ndarray(array.shape, array.dtype, raw, begin)
        view[...] = array
        return view

    arrays = case.reals(dtype).cast(dtype)
    expected = evaluate(case, arrays).parts()
    for weights, images in itertools.product((0, 64, 512, 1024 - 32), (0, 512)):
        moved = dataclasses.replace(
            arrays,
            x=placed(arrays.x, images),
            kernel=placed(arrays.kernel, weights),
            dy=placed(arrays.dy, images),
        )
        for name, actual in evaluate(case, moved).parts().items():
            assert_same_bits(actual, expected[name], f"{name}, weights at {weights}, images at {images}")


@EVERY_CASE
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_inputs_in_the_other_byte_order(dtype: str, data_format: str, case: Case) -> None:
    case = dataclasses.replace(case, data_format=data_format)
    arrays = case.integers().cast(dtype)
    swapped = mapped(arrays, lambda array: array.astype(array.dtype.newbyteorder()))
    assert not swapped.x.dtype.isnative
    check(case, swapped, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_fields_of_records(dtype: str, data_format: str) -> None:
    case = dataclasses.replace(CASES[1], data_format=data_format)
    for packed in (True, False):  # packed: strides that are no multiple of the element's size

        def field(array: Array, packed: bool = packed) -> Array:
            record = np.dtype([("before", "u1"), ("value", array.dtype), ("after", "u1")], align=not packed)
            records = np.zeros(array.shape, record)
            records["value"] = array
            view: Array = records["value"]
            return view

        check(case, mapped(case.integers().cast(dtype), field), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_array_likes(dtype: str, data_format: str) -> None:
    case = dataclasses.replace(CASES[2], data_format=data_format)
    arrays = case.integers().cast(dtype)

    class Wrapped:
        def __init__(self, array: Array) -> None:
            self.array = array

        def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
            return self.array

    check(case, mapped(arrays, Wrapped), dtype)
    check(case, mapped(arrays, np.ma.masked_array), dtype)
    check(case, mapped(arrays, memoryview), dtype)
    if dtype == "float64":  # what NumPy makes of Python's floats
        check(case, mapped(arrays, lambda array: array.tolist()), dtype)


def test_memory_mapped_files(tmp_path: Any, data_format: str) -> None:
    case = dataclasses.replace(CASES[1], data_format=data_format)
    arrays = case.integers().cast("float32")
    paths = iter(range(10))

    def on_disk(array: Array) -> Array:
        path = tmp_path / f"{next(paths)}.npy"
        np.save(path, array)
        loaded: Array = np.load(path, mmap_mode="r")
        return loaded

    check(case, mapped(arrays, on_disk), "float32")


def test_bfloat16_is_that_of_ml_dtypes() -> None:
    x = np.full((1, 2, 2, 1), 1.5, ml_dtypes.bfloat16)
    y = depthwise.depthwise_conv2d(x, np.full((2, 2, 1, 1), 2, ml_dtypes.bfloat16))
    assert y.dtype == ml_dtypes.bfloat16
    assert y.item() == 12


@pytest.mark.parametrize("data_format", LAYOUTS)
def test_results_are_not_shared_between_calls(data_format: str) -> None:
    case = dataclasses.replace(CASES[1], data_format=data_format)
    arrays = case.integers().cast("float32")
    first = evaluate(case, arrays)
    kept = {name: part.copy() for name, part in first.parts().items()}
    evaluate(case, mapped(arrays, np.negative))
    for name, part in first.parts().items():
        assert_same_bits(part, kept[name], name)


@pytest.mark.parametrize("activation", [None, "relu", "silu"])
def test_large_results_begin_on_a_cache_line(dtype: str, data_format: str, activation: str | None) -> None:
    itemsize = DTYPES[dtype].itemsize
    for elements in (2**16 // itemsize, 2**16 // itemsize + 1, 3 * 2**16 + 5):
        for _ in range(3):  # of NumPy's own arrays one in four begins there, too
            case = Case((1, elements), (1, 1), data_format=data_format, activation=activation)
            one = np.ones(case.kernel_shape, DTYPES[dtype])
            x = np.ones(case.x_shape, DTYPES[dtype])
            y = depthwise.depthwise_conv2d(x, one, **case.options)
            again, pullback = depthwise.depthwise_conv2d_vjp(x, one, **case.options)
            dx = pullback(x).x
            for name, array in (("y", y), ("y of vjp", again), ("dx", dx)):
                what = f"{name}, {elements} elements of {dtype}"
                assert array.ctypes.data % 64 == 0, what
                assert array.flags.c_contiguous, what
                assert array.flags.aligned, what
                assert array.flags.writeable or (name == "y of vjp" and activation == "relu"), what
                assert not np.shares_memory(array, x), what
            assert not np.shares_memory(y, again)
            assert_same_bits(again, y, "y of vjp")
            assert y.shape == dx.shape == x.shape
            assert y.dtype == dx.dtype == DTYPES[dtype]


def test_small_results_are_ordinary_arrays(dtype: str, data_format: str) -> None:
    case = Case((1, 2**16 // DTYPES[dtype].itemsize - 1), (1, 1), data_format=data_format)
    one, x = np.ones(case.kernel_shape, DTYPES[dtype]), np.ones(case.x_shape, DTYPES[dtype])
    y, pullback = depthwise.depthwise_conv2d_vjp(x, one, **case.options)
    for array in (depthwise.depthwise_conv2d(x, one, **case.options), y, *pullback(x)):
        if array is not None:
            assert array.flags.owndata
            assert array.base is None
            assert array.flags.c_contiguous
            assert array.flags.writeable
