"""Chains of layers in TensorFlow, as concrete functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from depthwise.tensorflow import depthwise_conv2d

VERSION = tf.__version__

# One operation at a time. Beside the layer TensorFlow would run what does not wait for it, such as the
# gradients of other layers' kernels, on the same CPUs: the time between the start and the end of the layer's
# call would be that of both. The operation that runs still has all the threads.
tf.config.threading.set_inter_op_parallelism_threads(1)


def chain(arrays: dict[str, Any], links: str) -> dict[str, Callable[[], Any]]:
    """As in `torch.py`."""
    x, kernel = tf.constant(arrays["x"]), tf.constant(arrays["depthwise"])
    project, expand = (tf.constant(arrays[name][None, None]) for name in ("project", "expand"))
    arguments = (x, kernel, project, expand)

    def forward(image: Any, kernel: Any, project: Any, expand: Any) -> Any:
        for link in links:
            if link == "d":
                image = depthwise_conv2d(image, kernel, padding="same")
            else:
                image = tf.nn.conv2d(tf.nn.conv2d(image, project, 1, "SAME"), expand, 1, "SAME")
        return image

    def step(dy: Any, *arguments: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            y = forward(*arguments)
        found = tape.gradient(y, arguments, output_gradients=dy)
        return [gradient for gradient in found if gradient is not None]

    inference = tf.function(forward, autograph=False).get_concrete_function(*arguments)
    training = tf.function(step, autograph=False).get_concrete_function(x, *arguments)
    return {"inference": lambda: inference(*arguments), "training": lambda: training(x, *arguments)}
