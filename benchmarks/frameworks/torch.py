"""Chains of layers in PyTorch, eagerly, in channels_last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from depthwise.torch import depthwise_conv2d

VERSION = torch.__version__


def chain(arrays: dict[str, Any], links: str) -> dict[str, Callable[[], Any]]:
    """Forward pass and training step of a chain, ready to be called.

    Args:
        arrays: "x", (batch, height, width, channels); "depthwise", (taps, taps, channels, 1); "project",
            (channels, few); "expand", (few, channels).
        links: "d" for each depthwise convolution, "p" for each bottleneck of two pointwise ones, in order.
    """
    x = torch.from_numpy(arrays["x"]).permute(0, 3, 1, 2)  # channels_last in memory
    dy = x.clone()
    weights = [torch.from_numpy(np.ascontiguousarray(arrays["depthwise"].transpose(2, 3, 0, 1)))]
    for name in ("project", "expand"):
        weight = torch.from_numpy(arrays[name].T[:, :, None, None].copy())
        weights.append(weight.contiguous(memory_format=torch.channels_last))
    padding = arrays["depthwise"].shape[0] // 2

    def forward(image: Any, kernel: Any, project: Any, expand: Any) -> Any:
        for link in links:
            if link == "d":
                image = depthwise_conv2d(image, kernel, padding=padding)
            else:
                image = torch.conv2d(torch.conv2d(image, project), expand)
        return image

    tracked = [tensor.detach().requires_grad_() for tensor in (x, *weights)]
    used = [tracked[0], *(tracked[1:2] if "d" in links else ()), *(tracked[2:] if "p" in links else ())]

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def inference() -> Any:
        return forward(x, *weights)

    def training() -> Any:
        return torch.autograd.grad(forward(*tracked), used, dy)

    return {"inference": inference, "training": training}
