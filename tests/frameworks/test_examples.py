"""The examples run as users run them, and learn what they are there to learn."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the examples are not here")

BACKENDS = ("tensorflow", "jax", "torch")

# PyTorch's threads otherwise spin between operations, on CPUs that other processes may be using: a step that takes
# 10 ms alone can take half a second in a busy moment.
ENVIRONMENT = {"OMP_WAIT_POLICY": "passive", "TF_CPP_MIN_LOG_LEVEL": "3"}


def require(*modules: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")


def run(name: str, *arguments: str, backend: str = "") -> str:
    environment = {**os.environ, **ENVIRONMENT, **({"KERAS_BACKEND": backend} if backend else {})}
    finished = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def accuracy(output: str) -> float:
    found = re.search(r"accuracy on \d+ held-out \w+: ([\d.]+)", output)
    assert found, output
    return float(found[1])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_keras_network_learns_digits_on_every_backend(backend: str) -> None:
    require("keras", "sklearn", backend)
    output = run("keras_digits.py", "--epochs", "4", backend=backend)
    assert f"Keras on {backend}" in output
    assert accuracy(output) >= 0.9


def test_a_torch_network_learns_digits() -> None:
    require("torch", "sklearn", "rich")
    assert accuracy(run("torch_digits.py")) >= 0.97


def test_a_jax_network_learns_faces() -> None:
    require("jax", "skimage", "rich")
    assert accuracy(run("jax_faces.py", "--epochs", "40")) >= 0.9


def test_an_accelerated_mobilenet_computes_what_it_computed_before() -> None:
    require("keras", "skimage", "rich")
    backend = next((name for name in BACKENDS if importlib.util.find_spec(name)), None)
    if backend is None:
        pytest.skip("no backend of Keras is installed")
    output = run("accelerate_keras.py", "--repeats", "1", backend=backend)
    assert "17 replaced" in output
    found = re.search(r"outputs reach (\S+) and differ by at most (\S+)", output)
    assert found, output
    assert float(found[2]) <= 1e-4 * float(found[1])
    assert "training step: " in output


def test_every_example_is_run_here_and_listed_for_readers() -> None:
    here, listed = Path(__file__).read_text(), (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.glob("*.py"):
        assert f'"{path.name}"' in here
        assert f"({path.name})" in listed
