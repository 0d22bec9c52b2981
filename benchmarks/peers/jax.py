"""JAX: `lax.conv_general_dilated(feature_group_count=channels)` under `jit`, in the case's own layout."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import jax
import numpy as np
from jax import lax

from benchmarks.peers.base import Array, Peer, Problem, Program, nchw, nhwc


class Adapter(Peer):
    """`jax.jit`, compiled ahead."""

    versions: ClassVar = {"jax": jax.__version__, "jaxlib": jax.lib.__version__}

    def __init__(self, options: dict[str, str], threads: int) -> None:
        super().__init__(options, threads)
        # JAX has no call for the number of threads: it takes the CPUs that the process may run on.
        allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        if allowed != threads:
            raise RuntimeError(f"JAX would use {allowed} threads rather than {threads}")
        jax.config.update("jax_platforms", "cpu")

    def layer(self, problem: Problem) -> Any:
        """The layer as a function of JAX arrays (x, kernel, bias), in the case's own layout."""
        return _forward(problem)

    def inference(self, problem: Problem) -> list[Program]:
        """Convolution, bias and ReLU in one computation."""
        layer, first = self.layer(problem), problem.case.data_format == "channels_first"
        x, kernel, bias, _ = _arrays(problem)
        compiled = jax.jit(layer).lower(x, kernel, bias).compile()
        return [
            Program(
                "jit", lambda: compiled(x, kernel, bias).block_until_ready(), lambda y: (_image(y, first),)
            )
        ]

    def training(self, problem: Problem) -> list[Program]:
        """The same with its vector-Jacobian product."""
        layer, first = self.layer(problem), problem.case.data_format == "channels_first"

        def step(x: Any, kernel: Any, bias: Any, dy: Any) -> Any:
            y, pullback = jax.vjp(layer, x, kernel, bias)
            return y, *pullback(dy)

        arrays = _arrays(problem)
        compiled = jax.jit(step).lower(*arrays).compile()

        def results(output: Any) -> tuple[Array, ...]:
            y, dx, dkernel, dbias = output
            return _image(y, first), _image(dx, first), np.asarray(dkernel), np.asarray(dbias)

        return [Program("jit", lambda: jax.block_until_ready(compiled(*arrays)), results)]


def _forward(problem: Problem) -> Any:
    case = problem.case
    layout = "NCHW" if case.data_format == "channels_first" else "NHWC"
    bias_shape = (-1, 1, 1) if layout == "NCHW" else (-1,)

    def layer(x: Any, kernel: Any, bias: Any) -> Any:
        y = lax.conv_general_dilated(
            x,
            kernel.reshape(*case.kernel, 1, case.channels * case.multiplier),
            case.strides,
            case.pads,
            rhs_dilation=case.dilation,
            dimension_numbers=(layout, "HWIO", layout),
            feature_group_count=case.channels,
        )
        return jax.nn.relu(y + bias.reshape(bias_shape))

    return layer


def _arrays(problem: Problem) -> tuple[Any, Any, Any, Any]:
    if problem.case.dtype == "float64":
        jax.config.update("jax_enable_x64", True)
    first = problem.case.data_format == "channels_first"
    x, dy = (nchw(problem.x), nchw(problem.dy)) if first else (problem.x, problem.dy)
    x, kernel, bias, dy = (jax.device_put(array) for array in (x, problem.kernel, problem.bias, dy))
    return x, kernel, bias, dy


def _image(image: Any, channels_first: bool) -> Array:
    array = np.asarray(image)
    return nhwc(array) if channels_first else array
