"""64-bit types, for float64; and no Python callbacks left over in what is compiled."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import pytest


def enable_x64() -> Any:
    """The context in which JAX keeps 64-bit types as they are."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64 as enable

    return enable()


@pytest.fixture(autouse=True)
def x64() -> Iterator[None]:
    with enable_x64():
        yield
