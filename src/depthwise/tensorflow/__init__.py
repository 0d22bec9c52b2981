"""The TensorFlow front-end: `depthwise_conv2d` as a TensorFlow op.

A SavedModel that was made with it can be read once this module has been imported.
"""

from depthwise.tensorflow import gradients as _gradients  # noqa: F401  # registers them
from depthwise.tensorflow.ops import depthwise_conv2d

__all__ = ["depthwise_conv2d"]
