"""Exported to ONNX the layer is a standard grouped Conv, and ONNX Runtime computes the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from depthwise.activations import ACTIVATIONS
from depthwise.torch import DepthwiseConv2d
from tests.torch.tensors import draw

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

Export = Callable[..., Any]


def dynamo(layer: Any, x: Any, path: Path, dynamic: bool) -> None:
    sizes = {
        0: torch.export.Dim("batch"),
        2: torch.export.Dim("height", min=5),
        3: torch.export.Dim("width", min=5),
    }
    shapes = {"input": sizes} if dynamic else None
    torch.onnx.export(layer, (x,), path, dynamo=True, verbose=False, dynamic_shapes=shapes)


def torchscript(layer: Any, x: Any, path: Path, dynamic: bool) -> None:
    axes = {"input": [0, 2, 3]} if dynamic else None
    torch.onnx.export(layer, (x,), path, dynamo=False, input_names=["input"], dynamic_axes=axes)


EXPORTERS = pytest.mark.parametrize(
    "export",
    [
        pytest.param(
            dynamo, marks=pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.:FutureWarning")
        ),
        pytest.param(
            torchscript,
            marks=[
                pytest.mark.filterwarnings("ignore::DeprecationWarning:torch"),
                pytest.mark.filterwarnings(
                    "ignore:You are using the legacy TorchScript-based:DeprecationWarning"
                ),
                pytest.mark.filterwarnings("ignore:Constant folding:UserWarning"),
                pytest.mark.filterwarnings(
                    "ignore:No names were found for specified dynamic axes:UserWarning"
                ),
            ],
        ),
    ],
)


def check(export: Export, layer: Any, path: Path, dynamic: bool = False, *others: Any) -> Any:
    """Export the layer, run it, and return the kinds of its nodes."""
    x = draw(2, 4, 9, 10, dtype=torch.float32)
    export(layer.eval(), x, path, dynamic)
    model = onnx.load(path)
    (convolution,) = [node for node in model.graph.node if node.op_type == "Conv"]
    assert convolution.domain in ("", "ai.onnx")
    assert [a.i for a in convolution.attribute if a.name == "group"] == [4]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for image in (x, *others):
        (y,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
        torch.testing.assert_close(torch.from_numpy(y), layer(image).detach(), rtol=1e-5, atol=1e-5)
    return [node.op_type for node in model.graph.node]


@EXPORTERS
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_each_activation(export: Export, activation: str, tmp_path: Path) -> None:
    layer = DepthwiseConv2d(4, 3, padding=1, depth_multiplier=2, activation=activation)
    kinds = check(export, layer, tmp_path / "model.onnx")
    if activation == "linear":
        assert kinds == ["Conv"]


@EXPORTERS
@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2, "padding": "same"},
        {"padding": ((1, 0), (0, 2)), "dilation": 2},
        {"padding": 1, "padding_mode": "reflect"},
    ],
)
def test_each_padding(export: Export, options: dict[str, Any], tmp_path: Path) -> None:
    check(export, DepthwiseConv2d(4, 3, bias=False, **options), tmp_path / "model.onnx")


@EXPORTERS
@pytest.mark.parametrize("padding", [1, "same", ((1, 0), (0, 2))])
def test_sizes_that_are_not_known(export: Export, padding: Any, tmp_path: Path) -> None:
    layer = DepthwiseConv2d(4, 3, padding=padding, activation="relu")
    other = draw(3, 4, 12, 13, dtype=torch.float32)
    check(export, layer, tmp_path / "model.onnx", True, other)


@EXPORTERS
def test_same_padding_of_sizes_that_are_not_known(export: Export, tmp_path: Path) -> None:
    """How much it is depends on the size: the graph works it out."""
    layer = DepthwiseConv2d(4, 3, (2, 3), "same")
    others = [
        draw(3, 4, height, width, dtype=torch.float32) for height, width in ((12, 13), (11, 14), (10, 12))
    ]
    check(export, layer, tmp_path / "model.onnx", True, *others)
