"""The layer in standard operations of the framework, for models that leave it.

An exported model runs where this package is not installed: in a SavedModel, an ONNX file and the like the layer
stands as the framework's own depthwise convolution.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any, Final

import keras
from keras import ops

from depthwise.spec import Spec

__all__ = ["exporting", "standard_convolution", "standard_ops"]


class _Wanted(threading.local):
    """Whether standard operations are wanted. A ContextVar would do as well, but not inside torch.compile."""

    value: bool = False


_WANTED: Final = _Wanted()


@contextlib.contextmanager
def standard_ops() -> Iterator[None]:
    """Layers called (or traced) inside compute with the framework's own operations.

    `model.export` does this by itself. Use it around other ways to write a model for elsewhere, such as
    `tf.saved_model.save` or a conversion with another package. Results agree to rounding.

    >>> import depthwise.keras
    >>> with depthwise.keras.standard_ops():
    ...     pass  # tf.saved_model.save(model, "folder")
    """
    before, _WANTED.value = _WANTED.value, True
    try:
        yield
    finally:
        _WANTED.value = before


def exporting(x: Any) -> bool:
    """Whether the call that `x` goes into is part of an export."""
    if _WANTED.value:
        return True
    backend = keras.backend.backend()
    if backend == "torch":
        torch = sys.modules["torch"]
        is_exporting = getattr(torch.compiler, "is_exporting", bool)  # PyTorch 2.6 does not tell
        return bool(is_exporting() or torch.onnx.is_in_onnx_export())
    if backend == "numpy" or not _is_symbolic(x, backend):
        return False
    # Keras has no flag for it. An export traces the model anew, from functions of keras.src.export.
    frame = sys._getframe()  # noqa: SLF001  # documented, and the only way to see who calls
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("keras.src.export."):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _is_symbolic(x: Any, backend: str) -> bool:
    """Whether `x` stands for values to come, as in the trace of a function."""
    if backend == "tensorflow":
        return not hasattr(x, "_numpy")  # what only eager tensors have
    return isinstance(x, sys.modules["jax"].core.Tracer)


def standard_convolution(x: Any, kernel: Any, spec: Spec) -> Any:
    """The convolution of `spec`, without bias and activation, in Keras's operations.

    Keras's own depthwise convolution takes some arguments on some backends only. Padding apart and a stride of 1,
    of whose result every so-many-th element is taken, work on all of them.
    """
    vertical, horizontal = spec.strides
    plain = vertical == horizontal and (vertical == 1 or spec.dilation_rate == (1, 1))
    if plain and isinstance(spec.padding, str):
        return ops.depthwise_conv(
            x,
            kernel,
            strides=spec.strides,
            padding=spec.padding,
            dilation_rate=spec.dilation_rate,
            data_format=spec.data_format,
        )
    channels_last = spec.data_format == "channels_last"
    if spec.padding != "valid":
        size = ops.shape(x)[1:3] if channels_last else ops.shape(x)[2:4]
        amounts = [_amounts(spec, axis, size[axis]) for axis in (0, 1)]
        widths = [(0, 0), *amounts, (0, 0)] if channels_last else [(0, 0), (0, 0), *amounts]
        x = ops.pad(x, widths)
    y = ops.depthwise_conv(
        x,
        kernel,
        strides=spec.strides if plain else 1,
        padding="valid",
        dilation_rate=spec.dilation_rate,
        data_format=spec.data_format,
    )
    if plain:
        return y
    if channels_last:
        return y[:, ::vertical, ::horizontal, :]
    return y[:, :, ::vertical, ::horizontal]


def _amounts(spec: Spec, axis: int, size: Any) -> tuple[Any, Any]:
    """Zeros before and after an axis; the size may be known only when the graph runs."""
    if spec.padding != "same":
        return spec.padding[axis]  # type: ignore[return-value]  # "valid" does not come here
    stride, window = spec.strides[axis], spec.window_size[axis]
    if keras.backend.backend() == "torch":
        torch = sys.modules["torch"]
        if torch.jit.is_tracing():
            size = int(
                size
            )  # a tensor then; the trace holds for this size alone, as it does with Keras's layer
        total = torch.sym_max((-(-size // stride) - 1) * stride + window - size, 0)
    else:
        total = (-(-size // stride) - 1) * stride + window - size
        total = max(total, 0) if isinstance(size, int) else ops.maximum(total, 0)
    return total // 2, total - total // 2
