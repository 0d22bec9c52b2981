"""What an adapter is: one library's best way to do a case's forward pass and its training step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import Case
from benchmarks.data import aligned

Array = NDArray[Any]


class UnsupportedError(Exception):
    """The library cannot do this case at all; the message says why, in one line."""


@dataclass(frozen=True)
class Problem:
    """A case with its numbers. Images are NHWC whatever the case's layout: adapters bring them into their own.

    Attributes:
        case: the layer.
        x: (batch, height, width, channels).
        kernel: (kernel height, kernel width, channels, multiplier).
        bias: (channels * multiplier,).
        dy: the output's cotangent, (batch, output height, output width, channels * multiplier).
        threads: how many threads the library is to use.
    """

    case: Case
    x: Array
    kernel: Array
    bias: Array
    dy: Array
    threads: int

    @property
    def torch_weight(self) -> Array:
        """The kernel in PyTorch's and ONNX's order: (channels * multiplier, 1, kernel height, kernel width)."""
        kh, kw, channels, multiplier = self.kernel.shape
        return np.ascontiguousarray(
            self.kernel.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, kh, kw)
        )


def from_torch_weight(weight: Array, multiplier: int) -> Array:
    """The inverse of `Problem.torch_weight`: back to (kernel height, kernel width, channels, multiplier)."""
    out, _, kh, kw = weight.shape
    kernel: Array = weight.reshape(out // multiplier, multiplier, kh, kw).transpose(2, 3, 0, 1)
    return kernel


def nchw(image: Array) -> Array:
    """An NHWC image as a contiguous NCHW one."""
    return aligned(image.transpose(0, 3, 1, 2))


def nhwc(image: Array) -> Array:
    """An NCHW image seen as NHWC."""
    seen: Array = image.transpose(0, 2, 3, 1)
    return seen


@dataclass(frozen=True)
class Program:
    """One way to compute a case, ready to be timed.

    Attributes:
        name: what tells it from the library's other ways, in a word or two.
        run: does the whole work once; when it returns, the results are there.
        results: turns what `run` returned into NumPy arrays, untimed: (y,) for inference; (y, dx, dkernel, dbias)
            for training, the images NHWC, the kernel as in `Problem`.
        kernel: name of our kernel that it runs (`depthwise.info` lists them), for training that of the gradients; None
            for a library that does not tell.
    """

    name: str
    run: Callable[[], Any]
    results: Callable[[Any], tuple[Array, ...]]
    kernel: str | None = None


class Peer(ABC):
    """One library.

    Attributes:
        options: those of its entry in `PEERS`.
        threads: how many threads it is to use.
        versions: the version of every library that takes part, by name.
    """

    versions: ClassVar[dict[str, str]]

    def __init__(self, options: dict[str, str], threads: int) -> None:
        self.options = options
        self.threads = threads

    @abstractmethod
    def inference(self, problem: Problem) -> list[Program]:
        """The forward pass with bias and ReLU; of several programs the fastest one counts.

        Raises:
            UnsupportedError: the library has no such operation.
        """

    def training(self, problem: Problem) -> list[Program]:
        """The forward pass and the gradients of x, kernel and bias through the ReLU.

        Raises:
            UnsupportedError: the library has no such operation.
        """
        del problem
        raise UnsupportedError("computes no gradients")
