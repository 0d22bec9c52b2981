"""Exported models: standard operations alone, which run where this package is not."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from depthwise.keras import (
    DepthwiseConv1D,
    DepthwiseConv2D,
    SeparableConv1D,
    SeparableConv2D,
    standard_ops,
)
from depthwise.keras.layers import GroupedConv2D
from tests.keras.support import BACKEND, normal, only_on, to_numpy


def branches() -> list[Any]:
    """Layers with arguments that frameworks' own convolutions take only in part."""
    return [
        DepthwiseConv2D(3, 2, "same", 2, activation="relu6"),
        DepthwiseConv2D((3, 2), (2, 1), "same", activation="silu"),
        DepthwiseConv2D(3, (1, 3), activation="softplus"),
        DepthwiseConv2D(3, 2, "same", dilation_rate=2, strided_dilation=True, activation="elu"),
        DepthwiseConv2D((2, 3), (2, 3), ((1, 0), (2, 3)), dilation_rate=(2, 1), strided_dilation=True),
        DepthwiseConv2D(3, 1, ((0, 2), (3, 1)), 2, activation=keras.layers.LeakyReLU(0.1)),
        SeparableConv2D(5, 3, 2, "same", activation="hard_silu"),
        SeparableConv2D(5, 3, (2, 1), 1),
        GroupedConv2D(6, 3, padding="same", groups=3),
    ]


def first_branches() -> list[Any]:
    """The same in channels_first."""
    return [
        DepthwiseConv2D(3, 2, "same", 2, "channels_first", activation="relu6"),
        DepthwiseConv2D((3, 2), (2, 1), ((1, 0), (2, 3)), data_format="channels_first"),
        DepthwiseConv2D(3, 2, "same", 1, "channels_first", 2, strided_dilation=True),
        SeparableConv2D(12, 3, padding="same", data_format="channels_first"),
    ]


def line_branches() -> list[Any]:
    return [
        DepthwiseConv1D(3, 2, "same", activation="tanh"),
        DepthwiseConv1D(3, 2, (2, 0), 2, dilation_rate=2, strided_dilation=True),
        SeparableConv1D(4, 3, data_format="channels_first"),
    ]


SIZE = (13, 12)


def model(size: tuple[int | None, int | None] = SIZE) -> Any:
    """All of them on one image, whose rows are lines to those that take lines."""
    image = keras.Input((*size, 3), name="image")
    outputs = [layer(image) for layer in branches()]
    transposed = ops.transpose(image, (0, 3, 1, 2))
    outputs += [layer(transposed) for layer in first_branches()]
    if None not in size:
        line = image[:, 0]
        outputs += [layer(line) for layer in line_branches()]
    result = keras.Model(image, outputs)
    weights = [normal(*weight.shape, seed=number) for number, weight in enumerate(result.weights)]
    result.set_weights(weights)
    return result


def run_without_this_package(program: str, *arguments: object) -> str:
    """Run a program in a process where `import depthwise` fails; returns what it printed."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys\nsys.modules['depthwise'] = None\n" + program,
            *map(str, arguments),
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


SERVE_SAVED_MODEL = """
import numpy as np
import tensorflow as tf

folder, results, *images = sys.argv[1:]
served = tf.saved_model.load(folder)
for number, image in enumerate(images):
    outputs = tf.nest.flatten(served.serve(np.load(image)))
    np.savez(f"{results}{number}.npz", *[output.numpy() for output in outputs])
"""


def check(actual: list[Any], expected: list[Any]) -> None:
    assert len(actual) == len(expected)
    for number, (a, b) in enumerate(zip(actual, expected, strict=True)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4, err_msg=f"output {number}")


@only_on("tensorflow", "jax", reason="Keras exports SavedModels from TensorFlow and JAX")
@pytest.mark.parametrize("size", [SIZE, (None, None)], ids=["known", "unknown"])
def test_saved_model(tmp_path: Path, size: Any) -> None:
    if BACKEND == "jax" and None in size:
        pytest.skip("JAX exports no convolution of images of unknown size, not Keras's own either")
    made = model(size)
    made.export(tmp_path / "model", verbose=False)
    images = [normal(2, *SIZE, 3), normal(5, *((13, 12) if None not in size else (17, 20)), 3)]
    for number, image in enumerate(images):
        np.save(tmp_path / f"image{number}.npy", image)
    files = [tmp_path / f"image{number}.npy" for number in range(2)]
    run_without_this_package(SERVE_SAVED_MODEL, tmp_path / "model", tmp_path / "results", *files)
    for number, image in enumerate(images):
        results = np.load(tmp_path / f"results{number}.npz")
        check([results[name] for name in results.files], [to_numpy(y) for y in made(image)])


# Of the exporters about themselves.
ONNX_WARNINGS = [
    "ignore:In the future `np.object` will be defined:FutureWarning",
    "ignore:You are using the legacy TorchScript-based ONNX export:DeprecationWarning",
    "ignore:The feature will be removed:DeprecationWarning",
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
    "ignore:Converting a tensor to a Python (integer|boolean):Warning",
    "ignore:torch.as_tensor results are registered as constants:Warning",
    "ignore:Constant folding - Only steps=1 can be constant folded:UserWarning",
]


def quiet(function: Any) -> Any:
    for warning in ONNX_WARNINGS:
        function = pytest.mark.filterwarnings(warning)(function)
    return function


@quiet
@only_on("tensorflow", "torch", reason="Keras exports ONNX files from TensorFlow and PyTorch here")
def test_onnx(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    made = model()
    image = normal(2, *SIZE, 3)
    expected = [to_numpy(y) for y in made(image)]  # Keras exports to ONNX only what has been called
    made.export(tmp_path / "model.onnx", format="onnx", verbose=False)
    graph = onnx.load(tmp_path / "model.onnx")
    assert {opset.domain for opset in graph.opset_import} <= {
        "",
        "ai.onnx",
        "ai.onnx.ml",
        "pkg.onnxscript.torch_lib",
    }
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    check(session.run(None, {session.get_inputs()[0].name: image}), expected)


@only_on("torch", reason="the format is PyTorch's")
def test_torch_export(tmp_path: Path) -> None:
    made = model()
    made.export(tmp_path / "model.pt2", format="torch", verbose=False)
    np.save(tmp_path / "image.npy", image := normal(1, *SIZE, 3))
    run_without_this_package(
        "import numpy as np, torch\n"
        "program = torch.export.load(sys.argv[1]).module()\n"
        "outputs = program(torch.from_numpy(np.load(sys.argv[2])))\n"
        "np.savez(sys.argv[3], *[output.detach().numpy() for output in outputs])\n",
        tmp_path / "model.pt2",
        tmp_path / "image.npy",
        tmp_path / "results.npz",
    )
    results = np.load(tmp_path / "results.npz")
    check([results[name] for name in results.files], [to_numpy(y) for y in made(image)])


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which way each call of a layer went."""
    from depthwise.keras import base

    ways: list[str] = []

    def record(name: str, way: str) -> None:
        function = getattr(base, name)

        def spy(*args: Any) -> Any:
            ways.append(way)
            return function(*args)

        monkeypatch.setattr(base, name, spy)

    record("convolve", "fused")
    record("standard_convolution", "standard")
    return ways


def test_standard_ops_agree_with_the_fused_op_to_rounding(spied: list[str]) -> None:
    if BACKEND == "numpy":
        pytest.skip("Keras's own convolutions on NumPy do not take all of these arguments")
    made = model()
    image = normal(2, *SIZE, 3)
    expected = [to_numpy(y) for y in made(image)]
    assert set(spied) == {"fused"}
    spied.clear()
    with standard_ops():
        actual = [to_numpy(y) for y in made(image)]
    assert set(spied) == {"standard"}
    check(actual, expected)


def test_only_what_is_inside_standard_ops_is_standard(spied: list[str]) -> None:
    layer = DepthwiseConv2D(3)
    x = normal(1, 6, 6, 3)
    with contextlib.suppress(KeyError), standard_ops():
        layer(x)
        with standard_ops():
            layer(x)
        layer(x)
        raise KeyError
    layer(x)
    assert spied == ["standard", "standard", "standard", "fused"]


@only_on("tensorflow", "jax", reason="Keras exports SavedModels from TensorFlow and JAX")
def test_a_model_computes_with_the_fused_op_after_its_export(tmp_path: Path, spied: list[str]) -> None:
    made = keras.Sequential([keras.Input((6, 6, 3)), DepthwiseConv2D(3)])
    x = normal(1, 6, 6, 3)
    before = made.predict(x, verbose=0)
    spied.clear()
    made.export(tmp_path / "model", verbose=False)
    assert set(spied) == {"standard"}
    spied.clear()
    made.compile()
    np.testing.assert_array_equal(made.predict(x, verbose=0), before)
    assert set(spied) == {"fused"}


@only_on("tensorflow", reason="tf.saved_model is TensorFlow's")
def test_standard_ops_around_another_way_to_write_a_model() -> None:
    import tensorflow as tf

    made = keras.Sequential([keras.Input((6, 6, 3)), DepthwiseConv2D(3, (1, 2), 1, activation="relu")])
    function = tf.function(made, input_signature=[tf.TensorSpec((None, 6, 6, 3))], autograph=False)
    with standard_ops():
        graph = function.get_concrete_function().graph.as_graph_def()
    assert any(node.op == "DepthwiseConv2dNative" for node in graph.node)
