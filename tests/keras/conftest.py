"""Keras has one backend per process: these tests run on the one that KERAS_BACKEND names, and not without it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

BACKEND = os.environ.get("KERAS_BACKEND", "")

if BACKEND:
    import keras

    if BACKEND == "jax":
        import jax

        jax.config.update("jax_disable_most_optimizations", True)  # they compile a lot and compute little
else:
    collect_ignore_glob = ["*"]


def pytest_report_header() -> str:
    if not BACKEND:
        return "tests/keras: skipped, since KERAS_BACKEND does not say on which backend to run them"
    return f"tests/keras: on the {BACKEND} backend of Keras {keras.__version__}"


@pytest.fixture(autouse=True)
def fresh_session() -> Iterator[None]:
    """Names, seeds and Keras's global settings do not depend on the tests before."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keras's NumPy backend finds shapes by computing on memory that holds anything, of which NumPy may warn."""
    if BACKEND == "numpy":
        ignored = "ignore:(invalid value|overflow|underflow|divide by zero) encountered:RuntimeWarning"
        for item in items:
            item.add_marker(pytest.mark.filterwarnings(ignored))
