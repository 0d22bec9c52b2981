"""These tests run where TensorFlow is installed."""

from __future__ import annotations

import importlib.util
import os

os.environ.setdefault(
    "TF_CPP_MIN_LOG_LEVEL", "3"
)  # before TensorFlow is loaded: what it found, and how it was built

if importlib.util.find_spec("tensorflow") is None:
    collect_ignore_glob = ["*"]


def pytest_report_header() -> str:
    if importlib.util.find_spec("tensorflow") is None:
        return "tests/tensorflow: skipped, since TensorFlow is not installed"
    import tensorflow as tf

    return f"tests/tensorflow: TensorFlow {tf.__version__}"
