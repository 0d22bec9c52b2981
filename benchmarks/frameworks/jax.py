"""Chains of layers in JAX, compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from depthwise.jax import depthwise_conv2d

VERSION = jax.__version__


def chain(arrays: dict[str, Any], links: str) -> dict[str, Callable[[], Any]]:
    """As in `torch.py`."""
    x, kernel, project, expand = (
        jnp.asarray(arrays[name]) for name in ("x", "depthwise", "project", "expand")
    )

    def forward(image: Any, kernel: Any, project: Any, expand: Any) -> Any:
        for link in links:
            image = (
                depthwise_conv2d(image, kernel, padding="same") if link == "d" else image @ project @ expand
            )
        return image

    def step(dy: Any, *arguments: Any) -> Any:
        _, pullback = jax.vjp(forward, *arguments)
        return pullback(dy)

    arguments = (x, kernel, project, expand)
    inference = jax.jit(forward).lower(*arguments).compile()
    training = jax.jit(step).lower(x, *arguments).compile()
    return {
        "inference": lambda: jax.block_until_ready(inference(*arguments)),
        "training": lambda: jax.block_until_ready(training(x, *arguments)),
    }
