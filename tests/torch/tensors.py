"""Arrays as tensors and back, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.cases import DTYPES, Array, Case

TORCH_DTYPES = {name: getattr(torch, name) for name in DTYPES}
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def tensor(array: Array) -> Any:
    """The array as a tensor with memory of its own."""
    unsigned = array.view(f"i{array.itemsize}").copy()
    return torch.from_numpy(unsigned).view(TORCH_DTYPES[array.dtype.name])


def array(value: Any) -> Array:
    """The tensor as an array, of ml_dtypes' bfloat16 where it is that."""
    name = str(value.dtype).removeprefix("torch.")
    bits: NDArray[Any] = value.detach().contiguous().view(_BITS[value.element_size()]).numpy()
    return bits.view(DTYPES[name])


def image(value: Array, data_format: str) -> Any:
    """The image as PyTorch sees it: (batch, channels, height, width), in the memory it is in."""
    return tensor(value).permute(0, 3, 1, 2) if data_format == "channels_last" else tensor(value)


def image_array(value: Any, data_format: str) -> Array:
    return array(value.permute(0, 2, 3, 1) if data_format == "channels_last" else value)


def weight(kernel: Array) -> Any:
    """The kernel in PyTorch's order, with memory in that order, too."""
    height, width, channels, multiplier = kernel.shape
    return tensor(np.ascontiguousarray(kernel.transpose(2, 3, 0, 1))).reshape(
        channels * multiplier, 1, height, width
    )


def kernel_array(value: Any, channels: int) -> Array:
    outputs, _, height, width = value.shape
    kernel: Array = array(value).reshape(channels, outputs // channels, height, width).transpose(2, 3, 0, 1)
    return kernel


def options(case: Case) -> dict[str, Any]:
    """The keyword arguments of a call, in PyTorch's words."""
    return {
        "stride": case.strides,
        "padding": case.padding,
        "dilation": case.dilation_rate,
        "activation": case.activation,
    }


def draw(*shape: int, dtype: Any = torch.float64, seed: int = 0) -> Any:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))
