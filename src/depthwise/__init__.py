"""Depthwise 2-D convolution, forward and backward, on kernels of its own.

>>> import numpy as np, depthwise
>>> image = np.random.default_rng(0).standard_normal((1, 32, 32, 3), dtype=np.float32)
>>> blur = np.full((5, 5, 3, 1), 1 / 25, dtype=np.float32)
>>> depthwise.depthwise_conv2d(image, blur, padding="same").shape
(1, 32, 32, 3)
"""

from depthwise.accelerate import accelerate
from depthwise.activations import Activation
from depthwise.native import Info, get_num_threads, info, set_num_threads
from depthwise.native import version as __version__
from depthwise.ops import Gradients, depthwise_conv2d, depthwise_conv2d_vjp
from depthwise.replacements import Replacement
from depthwise.spec import Cost, Spec

__all__ = [
    "Activation",
    "Cost",
    "Gradients",
    "Info",
    "Replacement",
    "Spec",
    "__version__",
    "accelerate",
    "depthwise_conv2d",
    "depthwise_conv2d_vjp",
    "get_num_threads",
    "info",
    "set_num_threads",
]
