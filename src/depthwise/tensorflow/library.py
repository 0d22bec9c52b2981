"""The compiled ops, loaded into TensorFlow (csrc/bindings/tensorflow_c_api.cc).

Each function here makes one node of a graph, or runs it at once where execution is eager. What they take was
checked by `ops.py`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import tensorflow as tf

from depthwise import native
from depthwise.spec import Spec

__all__ = ["LINEAR", "attributes_of", "convolve", "gradients", "input_gradient", "kernel_gradient"]

Attributes = Mapping[str, Any]

LINEAR: Final[Attributes] = MappingProxyType({"activation": 0, "alpha": "0.0"})
"""The attributes of no activation."""


def _load() -> Any:
    path = native.library_path("_tensorflow_op")
    library = tf.load_op_library(path)
    if not hasattr(library, "depthwise_conv2d"):
        problem = ctypes.CDLL(path).depthwise_tensorflow_problem
        problem.restype = ctypes.c_char_p
        reason = problem().decode() or f"{path} was loaded by something else than tf.load_op_library"
        raise ImportError(f"depthwise.tensorflow: the ops could not be registered: {reason}")
    return library


_library = _load()


def attributes_of(spec: Spec) -> Attributes:
    """The attributes of a node, of whichever of the ops."""
    if spec.padding == "same":
        padding, amounts = "same", (0, 0, 0, 0)
    else:  # "valid" depends on no size: it is no padding
        ((top, bottom), (left, right)) = spec.padding_amounts(spec.window_size)
        padding, amounts = "explicit", (top, bottom, left, right)
    return MappingProxyType(
        {
            "strides": spec.strides,
            "dilation_rate": spec.dilation_rate,
            "padding": padding,
            "explicit_padding": amounts,
            "data_format": spec.data_format,
            "activation": spec.activation.info.code,
            "alpha": repr(spec.activation.alpha),
        }
    )


def convolve(
    x: Any, kernel: Any, bias: Any | None, attributes: Attributes, *, keep_preactivation: bool = False
) -> tuple[Any, Any]:
    """`(y, z)`: the output, and the value before the activation if the activation's derivative needs it.

    z is empty unless it is to be kept.
    """
    y, preactivation = _library.depthwise_conv2d(
        x, kernel, [] if bias is None else [bias], keep_preactivation=keep_preactivation, **attributes
    )
    return y, preactivation


def input_gradient(
    x: Any, kernel: Any, bias: Any | None, dy: Any, saved: Any | None, attributes: Attributes
) -> Any:
    """The gradient with respect to x, of which only the shape is read, from `dy`.

    `saved` is y or, for activations that need it, z; None for the linear one. Of an empty z the op computes the
    values again.
    """
    return _library.depthwise_conv2d_input_gradient(
        x, kernel, [] if bias is None else [bias], dy, [] if saved is None else [saved], **attributes
    )


def kernel_gradient(
    x: Any, kernel: Any, bias: Any | None, dy: Any, saved: Any | None, attributes: Attributes
) -> tuple[Any, Any]:
    """The gradients with respect to the kernel, of which only the shape is read, and the bias, if there is one."""
    dkernel, dbias = _library.depthwise_conv2d_kernel_gradient(
        x, kernel, [] if bias is None else [bias], dy, [] if saved is None else [saved], **attributes
    )
    return dkernel, None if bias is None else dbias


def gradients(
    x: Any, kernel: Any, bias: Any | None, dy: Any, saved: Any | None, attributes: Attributes
) -> tuple[Any, Any, Any]:
    """`input_gradient` and `kernel_gradient` in one node, which reads `dy` once."""
    dx, dkernel, dbias = _library.depthwise_conv2d_gradients(
        x, kernel, [] if bias is None else [bias], dy, [] if saved is None else [saved], **attributes
    )
    return dx, dkernel, None if bias is None else dbias
