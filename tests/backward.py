"""Gradients as a plan gives them, which of them are wanted and where they go: for tests of what calls share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from depthwise import native
from tests.cases import DTYPES, Arrays, Case, assert_same_bits
from tests.memory import CONTIGUOUS, Memory

Array = NDArray[Any]

WANTED = ("dx", "dkernel", "dbias")


class Backward:
    """Gradients of a case's real numbers, as the plan gives them."""

    def __init__(self, case: Case, dtype: str) -> None:
        self.case, self.dtype = case, DTYPES[dtype]
        self.bits = np.dtype(f"u{self.dtype.itemsize}")
        self.plan = native.make_plan(case.spec, case.x_shape, dtype)  # type: ignore[arg-type]  # four sizes
        rng = np.random.default_rng(4)
        shapes = (case.x_shape, case.kernel_shape, (case.outputs,), case.y_shape)
        given = (rng.standard_normal(shape).astype(self.dtype) for shape in shapes)
        arrays = Arrays(*given)
        y, z = np.empty(case.y_shape, self.dtype), np.empty(case.y_shape, self.dtype)
        x, kernel, bias = self._given(arrays.x), self._given(arrays.kernel), self._given(arrays.bias)
        self.plan.forward(x, kernel, bias, y.view(self.bits), z.view(self.bits))
        saved = z if case.spec.activation.info.needs_preactivation else y
        self.inputs = (arrays.x, arrays.kernel, arrays.dy, saved if case.spec.activation.info.code else None)
        self.shapes = {"dx": case.x_shape, "dkernel": case.kernel_shape, "dbias": (case.outputs,)}

    def _given(self, array: Array | None, memory: Memory | None = None) -> Array | None:
        if array is None:
            return None
        return (array if memory is None else memory.place(array)).view(self.bits)

    def __call__(
        self, *wanted: str, inputs: Memory = CONTIGUOUS, outputs: Memory = CONTIGUOUS
    ) -> dict[str, Array]:
        """The gradients of these names; nothing but them is written."""
        buffers, results = {}, {}
        for name in wanted:
            shape = self.shapes[name]
            if name == "dbias":
                buffers[name] = results[name] = np.full(shape, np.nan, self.dtype)
            else:
                buffers[name], results[name] = outputs.allocate(shape, self.dtype)
        x, kernel, dy, saved = (self._given(array, inputs) for array in self.inputs)
        dx, dkernel, dbias = (self._given(results.get(name)) for name in WANTED)
        self.plan.backward(x, kernel, dy, saved, dx, dkernel, dbias)
        for name, buffer in buffers.items():
            assert np.isnan(buffer.astype(np.float64)).sum() == buffer.size - results[name].size, name
        return results


def apart(backward: Backward) -> dict[str, Array]:
    return {name: array for wanted in WANTED for name, array in backward(wanted).items()}


def assert_same(actual: dict[str, Array], expected: dict[str, Array], what: str) -> None:
    for name, array in actual.items():
        assert array.any(), f"{name}, {what}"
        assert_same_bits(array, expected[name], f"{name}, {what}")
