"""The op on the tensors of Keras's backend, whichever it is."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from depthwise.spec import Spec

__all__ = ["check_backend", "compiles_whole_models", "convolve", "mix_channels", "uncached"]

Tensor = Any  # of the backend


def convolve(x: Tensor, kernel: Tensor, bias: Tensor | None, spec: Spec) -> Tensor:
    """`spec` on an image, a kernel (height, width, channels, multiplier) and a bias; all of one dtype."""
    return uncached(_convolution)(keras.backend.backend())(x, kernel, bias, spec)


def check_backend() -> None:
    """Check that Keras runs on a backend that there is an op for.

    Raises:
        NotImplementedError: it does not.
    """
    backend = keras.backend.backend()
    if backend not in {"tensorflow", "jax", "torch", "numpy"}:
        raise NotImplementedError(
            f"depthwise.keras: expected one of the Keras backends tensorflow, jax, torch and numpy, got {backend}"
        )


def uncached(function: Any) -> Any:
    """A cached function, or the one inside while PyTorch's compiler traces, which warns of caches."""
    if keras.backend.backend() == "torch" and sys.modules["torch"].compiler.is_compiling():
        return function.__wrapped__
    return function


def mix_channels(x: Tensor, kernel: Tensor, data_format: str) -> Tensor:
    """A convolution of width 1, by Keras: every output channel is a weighted sum of the input channels.

    TensorFlow's has channels_first on some CPUs only, and not for every dtype.
    """
    if data_format == "channels_first" and keras.backend.backend() == "tensorflow":
        last = (0, *range(2, len(x.shape)), 1)
        first = (0, len(x.shape) - 1, *range(1, len(x.shape) - 1))
        y = ops.conv(ops.transpose(x, last), kernel, 1, "valid", "channels_last")
        return ops.transpose(y, first)
    return ops.conv(x, kernel, 1, "valid", data_format)


def compiles_whole_models() -> bool:
    """Whether Keras may compile a model that holds the op with XLA. TensorFlow cannot do so with ops of others."""
    return bool(keras.backend.backend() != "tensorflow")


@functools.cache
def _convolution(backend: str) -> Callable[[Tensor, Tensor, Tensor | None, Spec], Tensor]:
    """The op of one backend; only its framework is imported."""
    check_backend()
    if backend == "torch":
        return _torch_convolution()
    if backend == "tensorflow":
        from depthwise.tensorflow import depthwise_conv2d as op
    elif backend == "jax":
        from depthwise.jax import depthwise_conv2d as op
    else:
        from depthwise.ops import depthwise_conv2d as op

    def convolution(x: Tensor, kernel: Tensor, bias: Tensor | None, spec: Spec) -> Tensor:
        return op(
            x,
            kernel,
            bias,
            strides=spec.strides,
            padding=spec.padding,
            data_format=spec.data_format,
            dilation_rate=spec.dilation_rate,
            activation=spec.activation,
        )

    return convolution


def _torch_convolution() -> Callable[[Tensor, Tensor, Tensor | None, Spec], Tensor]:
    """PyTorch's op takes (batch, channels, height, width) in any memory order: views, no copies."""
    from depthwise.torch.ops import convolve as op

    def convolution(x: Tensor, kernel: Tensor, bias: Tensor | None, spec: Spec) -> Tensor:
        height, width, channels, multiplier = kernel.shape
        channels_last = spec.data_format == "channels_last"
        y = op(
            x.permute(0, 3, 1, 2) if channels_last else x,
            kernel.permute(2, 3, 0, 1).reshape(channels * multiplier, 1, height, width),
            bias,
            strides=spec.strides,
            padding=spec.padding,
            dilation_rate=spec.dilation_rate,
            activation=spec.activation,
            channels_last=channels_last,
        )
        return y.permute(0, 2, 3, 1) if channels_last else y

    return convolution
