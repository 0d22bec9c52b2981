"""Arrays that are split over several devices, in processes that have so many."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.mark.parametrize("devices", [4, 8])
def test_batch_and_channels_are_split_without_gathering_them(
    python: Callable[..., str], devices: int
) -> None:
    out = python(
        "from tests.jax import sharded; sharded.main()",
        env={"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", "JAX_PLATFORMS": "cpu"},
        timeout=300,
    )
    assert out == f"{devices} devices\n"
