"""What the tests of the TensorFlow front-end share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

import depthwise
from depthwise.tensorflow import depthwise_conv2d
from tests.cases import Arrays, Case, Results, assert_same_bits

# Eagerly, in a graph that differentiates, and in a graph that is differentiated from outside.
MODES = ("eager", "graph", "called")


def tensors(arrays: Arrays) -> list[Any]:
    """x, kernel and, if there is one, bias."""
    return [tf.constant(a) for a in (arrays.x, arrays.kernel, arrays.bias) if a is not None]


def value_and_gradients(mode: str, function: Callable[..., Any], inputs: list[Any], dy: Any) -> list[Any]:
    """The function's value, then the gradient of each input."""
    if mode == "called":
        function = tf.function(function, autograph=False)
        function(*inputs)  # for its value alone, before it is known that gradients will be asked for

    def run(*args: Any) -> list[Any]:
        with tf.GradientTape() as tape:
            tape.watch(args)
            y = function(*args)
        return [y, *tape.gradient(y, args, output_gradients=tf.constant(dy))]

    return list(tf.function(run, autograph=False)(*inputs) if mode == "graph" else run(*inputs))


def evaluate_numpy(case: Case, arrays: Arrays) -> Results:
    y, pullback = depthwise.depthwise_conv2d_vjp(arrays.x, arrays.kernel, arrays.bias, **case.options)
    return Results(y, *pullback(arrays.dy))


def check_bits(mode: str, case: Case, dtype: str) -> None:
    """The value and the gradients have the bits of the NumPy functions."""
    arrays = case.reals(dtype).cast(dtype)
    expected = evaluate_numpy(case, arrays).parts()
    actual = value_and_gradients(
        mode, lambda *args: depthwise_conv2d(*args, **case.options), tensors(arrays), arrays.dy
    )
    for (name, value), tensor in zip(expected.items(), actual, strict=True):
        assert_same_bits(tensor.numpy(), value, f"{name} of {dtype}, {mode}, {case}")


def random(*shape: int, dtype: Any = np.float64, seed: int = 0) -> Any:
    return tf.constant(np.random.default_rng(seed).standard_normal(shape), dtype)


def node_types(function: Any) -> list[str]:
    """Types of the nodes of a concrete function and of those it calls."""
    definition = function.graph.as_graph_def(add_shapes=False)
    nodes = [*definition.node, *(node for f in definition.library.function for node in f.node_def)]
    return [node.op for node in nodes]
