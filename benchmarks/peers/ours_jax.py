"""This project's JAX front-end, called as stock JAX is in `jax.py`."""

from __future__ import annotations

from typing import Any, ClassVar

import depthwise
from benchmarks.peers import jax as stock
from benchmarks.peers.base import Problem
from depthwise.jax import depthwise_conv2d


class Adapter(stock.Adapter):
    """`depthwise.jax.depthwise_conv2d` in place of JAX's own convolution; all else is the same."""

    versions: ClassVar = {"depthwise": depthwise.info().version, **stock.Adapter.versions}

    def __init__(self, options: dict[str, str], threads: int) -> None:
        super().__init__(options, threads)
        depthwise.set_num_threads(threads)

    def layer(self, problem: Problem) -> Any:
        """The layer as a function of JAX arrays (x, kernel, bias), in the case's own layout."""
        case = problem.case

        def layer(x: Any, kernel: Any, bias: Any) -> Any:
            return depthwise_conv2d(
                x,
                kernel,
                bias,
                strides=case.strides,
                padding=case.padding,
                data_format=case.data_format,
                dilation_rate=case.dilation,
                activation="relu",
            )

        return layer
