"""The compiled library: it needs no TensorFlow to be built or loaded, and says what is wrong."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest
import tensorflow as tf

from depthwise import native
from depthwise.tensorflow import library


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("nm") is None, reason="asks nm of binutils")
def test_it_refers_to_no_symbol_of_tensorflow() -> None:
    path = native.library_path("_tensorflow_op")
    symbols = subprocess.run(
        ["nm", "-D", "--undefined-only", path], check=True, capture_output=True, text=True
    ).stdout
    assert "depthwise_forward" in symbols
    assert "TF_" not in symbols
    assert "tensorflow" not in symbols


def test_loading_it_twice_gives_the_same_ops() -> None:
    again = tf.load_op_library(native.library_path("_tensorflow_op"))
    assert hasattr(again, "depthwise_conv2d")
    problem = ctypes.CDLL(native.library_path("_tensorflow_op")).depthwise_tensorflow_problem
    problem.restype = ctypes.c_char_p
    assert problem() == b""
    assert library._load() is not None


def test_loaded_without_tensorflow_it_says_so_then_and_later(python: Callable[..., str]) -> None:
    program = """
import ctypes, sys
from depthwise import native
problem = ctypes.CDLL(native.library_path("_tensorflow_op")).depthwise_tensorflow_problem
problem.restype = ctypes.c_char_p
print(problem().decode())
assert "tensorflow" not in sys.modules
try:
    import depthwise.tensorflow
except ImportError as error:
    print(error)
"""
    first, second = python(program, env={"TF_CPP_MIN_LOG_LEVEL": "3"}).splitlines()
    assert first == "TensorFlow was not loaded before the ops of depthwise.tensorflow"
    assert second == f"depthwise.tensorflow: the ops could not be registered: {first}"


def test_importing_depthwise_does_not_import_tensorflow(python: Callable[..., str]) -> None:
    assert python("import depthwise, sys; print('tensorflow' in sys.modules)") == "False\n"
