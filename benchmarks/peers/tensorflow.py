"""TensorFlow: `tf.nn.depthwise_conv2d` in a `tf.function`, NHWC."""

from __future__ import annotations

from typing import Any, ClassVar

import tensorflow as tf

from benchmarks.peers.base import Array, Peer, Problem, Program, UnsupportedError


class Adapter(Peer):
    """Concrete functions: calling one skips the search for a trace that `tf.function` makes at each call."""

    versions: ClassVar = {"tensorflow": tf.__version__}

    def __init__(self, options: dict[str, str], threads: int) -> None:
        super().__init__(options, threads)
        tf.config.threading.set_intra_op_parallelism_threads(threads)

    def inference(self, problem: Problem) -> list[Program]:
        """The forward pass with constant weights, as in a served graph."""
        layer = forward(problem)
        kernel, bias = tf.constant(problem.kernel), tf.constant(problem.bias)
        x = tf.constant(problem.x)
        graph = tf.function(lambda image: layer(image, kernel, bias), autograph=False).get_concrete_function(
            x
        )
        return [Program("tf.function", lambda: graph(x), lambda y: (_numpy(y),))]

    def training(self, problem: Problem) -> list[Program]:
        """The forward pass under a gradient tape, and its gradients."""
        layer = forward(problem)

        @tf.function(autograph=False)  # type: ignore[untyped-decorator]
        def step(x: Any, kernel: Any, bias: Any, dy: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch((x, kernel, bias))
                y = layer(x, kernel, bias)
            return y, *tape.gradient(y, (x, kernel, bias), output_gradients=dy)

        inputs = [tf.constant(array) for array in (problem.x, problem.kernel, problem.bias, problem.dy)]
        graph = step.get_concrete_function(*inputs)
        return [Program("tf.function", lambda: graph(*inputs), lambda output: tuple(map(_numpy, output)))]


def forward(problem: Problem) -> Any:
    """The layer as a function of TensorFlow tensors (x, kernel, bias).

    Raises:
        UnsupportedError: `tf.nn.depthwise_conv2d` does not take the case's strides.
    """
    case = problem.case
    if case.strides[0] != case.strides[1]:
        raise UnsupportedError("tf.nn.depthwise_conv2d takes equal strides only")
    if case.strides != (1, 1) and case.dilation != (1, 1):
        raise UnsupportedError("tf.nn.depthwise_conv2d takes strides or dilation, not both")
    (top, bottom), (left, right) = case.pads
    explicit = case.padding not in {"same", "valid"} and any((top, bottom, left, right))

    def layer(x: Any, kernel: Any, bias: Any) -> Any:
        if explicit:
            # The operator has no explicit padding; Keras's networks put the same tf.pad in front of it.
            x = tf.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
        mode = "SAME" if case.padding == "same" else "VALID"
        y = tf.nn.depthwise_conv2d(x, kernel, (1, *case.strides, 1), mode, dilations=case.dilation)
        return tf.nn.relu(tf.nn.bias_add(y, bias))

    return layer


def _numpy(tensor: Any) -> Array:
    array: Array = tensor.numpy()
    return array
