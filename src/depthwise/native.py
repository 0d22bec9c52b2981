"""Specs and arrays to the compiled module. Nobody else imports that one.

A `Plan` holds the sizes and options of a call; it is made once for a spec, a shape and a dtype. The instruction
set and the number of threads are those of the whole process.
"""

from __future__ import annotations

import ctypes
import operator
import os
from dataclasses import dataclass
from pathlib import Path
from typing import SupportsIndex

from depthwise import _native
from depthwise._native import Plan, Recent, bytes_to_multiple
from depthwise.spec import Spec

__all__ = [
    "Info",
    "Plan",
    "Recent",
    "bytes_to_multiple",
    "compiled_isas",
    "force_isa",
    "get_num_threads",
    "info",
    "library_path",
    "make_plan",
    "set_num_threads",
    "supported_isas",
    "use_openmp",
    "version",
]

version: str = _native.version

MAX_THREADS = 256
"""Most threads that may be asked for (csrc/runtime/pool.h)."""

_DTYPE_CODES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 3}  # csrc/params.h


def make_plan(spec: Spec, input_shape: tuple[int, int, int, int], dtype: str) -> Plan:
    """The plan of a call.

    Args:
        spec: what to compute.
        input_shape: shape of x in the order of `spec.data_format`, accepted by `spec.check_shapes`.
        dtype: name of the dtype of all arrays, accepted by `check_dtypes`.
    """
    channels_first = spec.data_format == "channels_first"
    batch = input_shape[0]
    channels = input_shape[1 if channels_first else 3]
    input_size = input_shape[2:] if channels_first else input_shape[1:3]
    (top, _), (left, _) = spec.padding_amounts(input_size)
    return Plan(
        batch=batch,
        channels=channels,
        multiplier=spec.depth_multiplier,
        input_size=input_size,
        output_size=spec.output_size(input_size),
        kernel_size=spec.kernel_size,
        strides=spec.strides,
        dilation=spec.dilation_rate,
        padding_before=(top, left),
        dtype=_DTYPE_CODES[dtype],
        channels_first=channels_first,
        activation=spec.activation.info.code,
        alpha=spec.activation.alpha,
    )


def library_path(name: str) -> str:
    """Path of a compiled library of this package that a framework loads by itself.

    Args:
        name: "_tensorflow_op" or "_xla_ffi".

    Raises:
        ImportError: this build does not have it.
    """
    path = Path(_native.__file__).parent / f"{name}.so"
    if not path.exists():
        raise ImportError(f"this build of depthwise has no {path.name}; it was looked for in {path.parent}")
    return str(path)


@dataclass(frozen=True)
class Info:
    """What the library runs on.

    Attributes:
        version: of the package.
        isa: instruction set in use.
        supported_isas: those that were compiled and that this CPU has, from the least to the most capable.
        compiled_isas: those that were compiled.
        cpu_features: the CPU's features that matter here.
        kernels: names of the kernels of the instruction set in use: family (channels: vectors run along
            channels; columns: along the columns of a plane; pixels: along rows of few channels side by side;
            scale: kernels of one tap; karatsuba: large kernels with fewer multiplications), direction, dtype.
        threads: most threads a call uses.
    """

    version: str
    isa: str
    supported_isas: tuple[str, ...]
    compiled_isas: tuple[str, ...]
    cpu_features: tuple[str, ...]
    kernels: tuple[str, ...]
    threads: int


def info() -> Info:
    """Version, CPU features, instruction sets, kernels and threads.

    >>> import depthwise
    >>> depthwise.info().isa in depthwise.info().supported_isas
    True
    """
    return Info(
        version=version,
        isa=_native.isa(),
        supported_isas=supported_isas(),
        compiled_isas=compiled_isas(),
        cpu_features=tuple(_native.cpu_features().split()),
        kernels=tuple(_native.kernel_names()),
        threads=_native.num_threads(),
    )


def compiled_isas() -> tuple[str, ...]:
    """Names of the instruction sets that the kernels were compiled for."""
    return tuple(_native.compiled_isas())


def supported_isas() -> tuple[str, ...]:
    """Names of the compiled instruction sets that this CPU has."""
    return tuple(_native.supported_isas())


def force_isa(name: str, *, argument: str = "name") -> str:
    """Use another instruction set from the next call on; returns the name of the one used so far.

    Args:
        name: "baseline", "avx2", "avx512" or "neon".
        argument: what an error calls it.

    Raises:
        ValueError: the name is unknown, or this CPU or this build does not have the instruction set.
    """
    previous = _native.isa()
    if not _native.set_isa(name):
        raise ValueError(
            f"{argument}: expected an instruction set that this machine supports "
            f"({', '.join(supported_isas())}), got {name!r}"
        )
    return previous


def get_num_threads() -> int:
    """Most threads that a call uses, the caller's own included."""
    return _native.num_threads()


def set_num_threads(count: SupportsIndex) -> None:
    """Set how many threads a call may use, the caller's own included.

    The results do not depend on it. Without this call it is `DEPTHWISE_NUM_THREADS`, else the number of CPUs
    that the process may use (its affinity and its control group's quota).

    Raises:
        TypeError: `count` is no integer.
        ValueError: it is not between 1 and 256.
    """
    if isinstance(count, bool) or not isinstance(count, SupportsIndex):
        raise TypeError(f"count: expected an integer from 1 to {MAX_THREADS}, got {count!r}")
    number = operator.index(count)
    if not 1 <= number <= MAX_THREADS:
        raise ValueError(f"count: expected an integer from 1 to {MAX_THREADS}, got {number}")
    _native.set_num_threads(number)


def use_openmp(library: ctypes.CDLL) -> None:
    """Have calls on addresses, which are PyTorch's, borrow the threads of this library's OpenMP.

    Raises:
        AttributeError: the library has none.
    """
    names = "GOMP_parallel", "omp_get_max_threads", "omp_in_parallel"
    functions = (ctypes.cast(getattr(library, name), ctypes.c_void_p) for name in names)
    _native.use_openmp(*(function.value or 0 for function in functions))


def _read_environment() -> None:
    """Apply DEPTHWISE_ISA and DEPTHWISE_NUM_THREADS; a value that cannot be used is an error, not ignored."""
    isa = os.environ.get("DEPTHWISE_ISA")
    if isa:
        force_isa(isa, argument="DEPTHWISE_ISA")
    threads = os.environ.get("DEPTHWISE_NUM_THREADS")
    if threads:
        expected = f"DEPTHWISE_NUM_THREADS: expected an integer from 1 to {MAX_THREADS}, got {threads!r}"
        try:
            number = int(threads)
        except ValueError:
            raise ValueError(expected) from None
        if not 1 <= number <= MAX_THREADS:
            raise ValueError(expected)
        _native.set_num_threads(number)


_read_environment()
