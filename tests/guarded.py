"""Calls on arrays that lie flush against unreadable pages: one byte too far, read or written, ends the process.

A program (`python -m tests.guarded avx2 float32`), so that such an end is not that of the test run. It prints each
call before it makes it: the last line is the one that crashed.
"""

from __future__ import annotations

import ctypes
import dataclasses
import mmap
import os
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

import depthwise
from depthwise import native
from tests.cases import DTYPES, LAYOUTS, Case, assert_equals_exact, integers_and_results
from tests.edges import OPTIONS, around_vectors, lanes
from tests.memory import CONTIGUOUS, EVERYTHING, REVERSED, Memory

Array = NDArray[Any]

PAGE = mmap.PAGESIZE
PROT_NONE = 0
UNTOUCHED = 0xA5

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class Region:
    """Readable and writable memory between two pages that are neither."""

    def __init__(self, capacity: int) -> None:
        self.capacity = -(-capacity // PAGE) * PAGE
        self._map = mmap.mmap(-1, self.capacity + 2 * PAGE)
        first = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        for address in (first, first + PAGE + self.capacity):
            if _libc.mprotect(address, PAGE, PROT_NONE) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self.bytes: Array = np.frombuffer(self._map, np.uint8, self.capacity, PAGE)

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype[Any], memory: Memory, end: bool) -> Array:
        """An array whose first byte is the first that may be touched, or whose last byte is the last.

        The bytes between its elements, and those for another page on the other side, are UNTOUCHED.
        """
        if len(shape) == 4:
            strides = memory.allocate(shape, dtype)[1].strides
        else:
            strides = (dtype.itemsize,)
        reach = [(size - 1) * stride for size, stride in zip(shape, strides, strict=True)]
        before = -sum(step for step in reach if step < 0)
        extent = before + sum(step for step in reach if step > 0) + dtype.itemsize
        start = self.capacity - extent if end else 0
        self._around = self.bytes[max(0, start - PAGE) : start + extent + PAGE]
        self._around.fill(UNTOUCHED)
        array: Array = np.ndarray(shape, dtype, self.bytes.data, start + before, strides)
        return array

    def touched_around(self, array: Array) -> bool:
        """Whether any byte around the array was written. Empties the array."""
        array.view(f"u{array.itemsize}").fill(int.from_bytes(bytes([UNTOUCHED]) * array.itemsize, "little"))
        return bool((self._around != UNTOUCHED).any())


NAMES = ("x", "kernel", "bias", "dy", "y", "z", "dx", "dkernel", "dbias")


class Guarded:
    """A region for each array of a call."""

    def __init__(self) -> None:
        self.regions = {name: Region(8 << 20) for name in NAMES}

    def check(self, case: Case, dtype: str, memory: Memory, end: bool) -> None:
        arrays, expected = integers_and_results(case)
        plan = native.make_plan(case.spec, case.x_shape, dtype)  # type: ignore[arg-type]  # four sizes
        bits = np.dtype(f"u{DTYPES[dtype].itemsize}")

        def given(name: str, value: Array | None) -> Array | None:
            if value is None:
                return None
            array = self.regions[name].allocate(value.shape, bits, memory, end)
            array[...] = value.astype(DTYPES[dtype]).view(bits)
            array.flags.writeable = False
            return array

        def wanted(name: str, shape: tuple[int, ...], memory: Memory = memory) -> Array:
            return self.regions[name].allocate(shape, bits, memory, end)

        x, kernel, dy = given("x", arrays.x), given("kernel", arrays.kernel), given("dy", arrays.dy)
        bias = given("bias", arrays.bias)
        y, z = wanted("y", case.y_shape), wanted("z", case.y_shape)
        dx, dkernel = wanted("dx", case.x_shape), wanted("dkernel", case.kernel_shape)
        dbias = wanted("dbias", (case.outputs,))
        plan.forward(x, kernel, bias, y, None)
        assert_equals_exact(y.view(DTYPES[dtype]), expected.y, dtype, "y")
        plan.forward(x, kernel, bias, y, z)
        plan.backward(x, kernel, dy, y, dx, dkernel, dbias)
        results = {"y": y, "dx": dx, "dkernel": dkernel, "dbias": dbias}
        for name, value in expected.parts().items():
            assert_equals_exact(results[name].view(DTYPES[dtype]), value, dtype, name)
        for name, array in (results | {"z": z}).items():
            assert not self.regions[name].touched_around(array), f"{name}: bytes around it were written"


def cases(isa: str, dtype: str) -> Iterator[Case]:
    v = lanes(isa, dtype)
    for case in OPTIONS:
        yield case
    for channels in around_vectors(v):
        for width in (1, 2, 3, 5, 8, 11):
            yield Case((2, width + 1), (2, 2), channels)
        yield Case((3, 10), (3, 3), channels, padding="same", activation="relu")
        yield Case((4, 9), (3, 7), channels, padding="same", strides=(1, 2), bias=False)
        yield Case((2, 6), (1, 3), channels, batch=2, multiplier=2, activation="relu6")
        yield Case((3, 5), (2, 2), channels, multiplier=3, padding=1, strides=(2, 1))
    for apart in range(2, 10):
        for columns in (1, v - 1, v, v + 1):
            yield Case((3, apart * columns), (2, 2), 1, strides=(1, apart), activation="relu")
            yield Case((3, columns + 1), (2, 2), 1, multiplier=apart, padding="same", activation="relu6")
    for width in around_vectors(v):
        for kernel_size, strides in (((1, 1), (1, 1)), ((3, 2), (1, 1)), ((2, 5), (2, 2)), ((4, 3), (1, 3))):
            case = Case((7, width), kernel_size, v // 2, strides=strides, padding="same")
            yield case
            yield dataclasses.replace(case, channels=1, activation="relu", batch=2)


def main(isa: str, dtype: str) -> None:
    native.force_isa(isa)
    depthwise.set_num_threads(2)
    guarded = Guarded()
    count = 0
    for layout in LAYOUTS:
        for case in cases(isa, dtype):
            case = dataclasses.replace(case, data_format=layout)  # noqa: PLW2901
            for memory in (CONTIGUOUS, REVERSED, EVERYTHING):
                for end in (False, True):
                    print(f"{case}, {memory}, against the {'last' if end else 'first'} page", flush=True)
                    guarded.check(case, dtype, memory, end)
                    count += 1
    print(f"{count} calls stayed in bounds")


if __name__ == "__main__":
    main(*sys.argv[1:])
