"""NumPy arrays that the native op can read and write.

What it reads it takes in any strides, but aligned and in native byte order; what it writes must be the caller's to
write, and nobody else's memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from depthwise.native import bytes_to_multiple

__all__ = ["Array", "Dtype", "check_overlaps", "check_writable", "new", "readable", "readable_bias"]

Array: TypeAlias = npt.NDArray[Any]
Dtype: TypeAlias = np.dtype[Any]

_LINE = 64
"""Bytes of a cache line. NumPy's own arrays begin 16 or 32 bytes off one, where full vectors touch two."""

_ALIGNED_BYTES = 64 * 1024
"""Arrays of at least so many bytes begin on a cache line, which takes 0.6 us more than `np.empty`."""


def new(shape: tuple[int, ...], dtype: Dtype) -> Array:
    """A new array; one whose time matters begins on a cache line, where every full vector is one line's."""
    size = math.prod(shape) * dtype.itemsize
    if size < _ALIGNED_BYTES:
        return np.empty(shape, dtype)
    memory = np.empty(size + _LINE, np.uint8)
    array: Array = np.ndarray(shape, dtype, memory, bytes_to_multiple(memory, _LINE))
    return array


def readable(name: str, value: npt.ArrayLike) -> Array:
    """`value` as an array that the native op can read: aligned, in native byte order."""
    if type(value) is np.ndarray:
        array: Array = value
    else:
        try:
            array = np.asarray(value)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name}: expected an array, got {type(value).__name__} ({error})") from None
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if not array.flags.aligned:
        array = array.copy()
    return array


def readable_bias(bias: npt.ArrayLike | None) -> Array | None:
    """The bias as a contiguous array; it is too small for a copy to matter."""
    return None if bias is None else np.asarray(readable("bias", bias), order="C")


def check_writable(name: str, array: Array, shape: tuple[int, ...], dtype: Dtype) -> None:
    """Check that a result of this shape and dtype can be written to `array`, the argument `name`.

    Raises:
        TypeError: it is no array, or has another dtype.
        ValueError: it has another shape, is read-only or misaligned, or its elements overlap.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name}: expected a NumPy array, got {type(array).__name__}")
    if array.dtype != dtype:
        raise TypeError(f"{name}: expected dtype {dtype}, that of x, got {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, that of the result, got shape {array.shape}")
    flags = array.flags
    if not flags.writeable:
        raise ValueError(
            f"{name}: expected an array that can be written, got a read-only one of shape {array.shape}"
        )
    if not flags.aligned or not array.dtype.isnative:
        raise ValueError(f"{name}: expected an aligned array in native byte order, got one that is not")
    if not flags.c_contiguous and _overlaps_itself(array):
        raise ValueError(
            f"{name}: expected an array whose elements do not overlap, got strides {array.strides}"
        )


def check_overlaps(outputs: Mapping[str, Array | None], inputs: Mapping[str, Array | None]) -> None:
    """Check that no output shares memory with an input or with another output.

    Raises:
        ValueError: two of them do.
    """
    others = dict(inputs)
    for name, output in outputs.items():
        if output is None:
            continue
        for other, array in others.items():
            if array is not None and _shares_memory(output, array):
                raise ValueError(f"{name}: expected memory of its own, got an array that overlaps {other}")
        others[name] = output


def _overlaps_itself(array: Array) -> bool:
    """Whether two elements may lie at one address: no axis, sorted by stride, steps over the ones before it."""
    if array.size == 0:
        return False
    extent = array.itemsize
    for stride, size in sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1):
        if stride < extent:
            return True
        extent += stride * (size - 1)
    return False


def _shares_memory(a: Array, b: Array) -> bool:
    """Exact where that is cheap to find out; else on the safe side."""
    shares_memory: Any = np.shares_memory  # whose stub knows only the two special values of max_work
    try:
        return bool(shares_memory(a, b, max_work=100_000))
    except Exception:  # NumPy's TooHardError, which has no one place in all its versions
        return True
