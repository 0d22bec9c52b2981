"""Keras 3 layers: Keras's depthwise and separable ones, on kernels of their own, on every CPU backend.

>>> from depthwise.keras import DepthwiseConv2D
>>> DepthwiseConv2D(3, padding="same", activation="relu6").compute_output_shape((None, 56, 56, 128))
(None, 56, 56, 128)
"""

from depthwise.keras.export import standard_ops
from depthwise.keras.heritage import load_model
from depthwise.keras.layers import DepthwiseConv1D, DepthwiseConv2D, SeparableConv1D, SeparableConv2D

__all__ = [
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "SeparableConv1D",
    "SeparableConv2D",
    "load_model",
    "standard_ops",
]
