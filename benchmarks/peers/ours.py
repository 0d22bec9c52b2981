"""This project's NumPy interface."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

import depthwise
from benchmarks.data import aligned
from benchmarks.peers.base import Array, Peer, Problem, Program, nchw, nhwc
from depthwise.native import make_plan


class Adapter(Peer):
    """The functions that a NumPy user calls, in the case's own layout."""

    versions: ClassVar = {
        "depthwise": depthwise.info().version,
        "isa": depthwise.info().isa,
        "numpy": np.__version__,
    }

    def __init__(self, options: dict[str, str], threads: int) -> None:
        super().__init__(options, threads)
        depthwise.set_num_threads(threads)

    def inference(self, problem: Problem) -> list[Program]:
        """`depthwise_conv2d` into an output that is given."""
        arguments = _arguments(problem)
        x, dy = _images(problem)
        out = aligned(dy)  # its values are overwritten

        def run() -> Array:
            return depthwise.depthwise_conv2d(x, problem.kernel, problem.bias, out=out, **arguments)

        kernel = _kernel(problem, backward=False)
        return [Program("depthwise_conv2d", run, lambda y: (_to_nhwc(y, problem),), kernel)]

    def training(self, problem: Problem) -> list[Program]:
        """`depthwise_conv2d_vjp` and its pullback into arrays that are given, those of the step before."""
        arguments = _arguments(problem)
        x, dy = _images(problem)
        out: Array | None = None
        gradients: depthwise.Gradients | None = None

        def run() -> Any:
            nonlocal out, gradients
            if out is None:  # the first step, which is not timed
                out = aligned(dy)
            y, pullback = depthwise.depthwise_conv2d_vjp(
                x, problem.kernel, problem.bias, out=out, **arguments
            )
            gradients = pullback(dy, out=gradients)
            return y, gradients

        def results(output: Any) -> tuple[Array, ...]:
            y, gradients = output
            return _to_nhwc(y, problem), _to_nhwc(gradients.x, problem), gradients.kernel, gradients.bias

        return [Program("depthwise_conv2d_vjp", run, results, _kernel(problem, backward=True))]


def _arguments(problem: Problem) -> dict[str, Any]:
    case = problem.case
    return {
        "strides": case.strides,
        "padding": case.padding,
        "data_format": case.data_format,
        "dilation_rate": case.dilation,
        "activation": "relu",
    }


def _kernel(problem: Problem, backward: bool) -> str:
    case = problem.case
    return make_plan(case.spec, case.input_shape, case.dtype).kernel_name(backward)


def _images(problem: Problem) -> tuple[Array, Array]:
    if problem.case.data_format == "channels_first":
        return nchw(problem.x), nchw(problem.dy)
    return problem.x, problem.dy


def _to_nhwc(image: Array, problem: Problem) -> Array:
    return nhwc(image) if problem.case.data_format == "channels_first" else image
