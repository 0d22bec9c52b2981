"""Graphs: torch.compile, torch.export, torch.fx, torch.jit.trace, and torch.autocast around them."""

from __future__ import annotations

import io
import shutil
from typing import Any

import pytest
import torch
from torch import nn

from depthwise.activations import ACTIVATIONS
from depthwise.torch import DepthwiseConv2d, depthwise_conv2d
from tests.torch.tensors import draw


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    torch.compiler.reset()


def network() -> Any:
    """A layer of every kind."""
    torch.manual_seed(0)
    return nn.Sequential(
        DepthwiseConv2d(4, 3, 2, "same", activation="silu"),
        DepthwiseConv2d(4, 3, 1, ((1, 0), (2, 1)), depth_multiplier=2, activation=("elu", 0.5)),
        DepthwiseConv2d(8, 3, (1, 2), 1, padding_mode="reflect", bias=False),
        DepthwiseConv2d(8, (3, 2), 2, "same", padding_mode="replicate", activation="relu6"),
    )


def images(*shape: int) -> Any:
    return draw(*shape, dtype=torch.float32)


def evaluate(function: Any, net: Any, x: Any) -> list[Any]:
    y = function(x)
    return [y.detach(), *torch.autograd.grad(y.square().sum(), list(net.parameters()))]


@pytest.mark.parametrize(("backend", "dynamic"), [("eager", None), ("aot_eager", None), ("aot_eager", True)])
def test_compiles_into_one_graph_with_the_same_bits(backend: str, dynamic: bool | None) -> None:
    net = network()
    compiled = torch.compile(net, fullgraph=True, backend=backend, dynamic=dynamic)
    for x in (
        images(2, 4, 13, 14),
        images(3, 4, 15, 17),
        images(3, 4, 16, 16).to(memory_format=torch.channels_last),
    ):
        assert all(map(torch.equal, evaluate(compiled, net, x), evaluate(net, net, x)))
        with torch.no_grad():
            assert torch.equal(compiled(x), net(x))


@pytest.mark.parametrize("activation", [*ACTIVATIONS, ("leaky_relu", 0.1)])
def test_the_function_compiles_with_its_arguments(activation: Any) -> None:
    def function(x: Any, weight: Any) -> Any:
        return depthwise_conv2d(
            x, weight, None, (2, 1), ((0, 1), (2, 0)), dilation=[1, 2], activation=activation
        )

    x, weight = images(1, 2, 7, 8), images(2, 1, 3, 3)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x, weight), function(x, weight))


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_compiles_with_inductor() -> None:
    net = DepthwiseConv2d(4, 3, 2, "same", activation="silu")
    x = images(2, 4, 13, 14)
    compiled = torch.compile(net, fullgraph=True, backend="inductor")
    for actual, expected in zip(evaluate(compiled, net, x), evaluate(net, net, x), strict=True):
        torch.testing.assert_close(actual, expected)


def test_exports_with_sizes_that_are_not_known() -> None:
    net = network()
    sizes = {
        0: torch.export.Dim("batch"),
        2: torch.export.Dim("height", min=32),
        3: torch.export.Dim("width", min=32),
    }
    program = torch.export.export(net, (images(2, 4, 40, 41),), dynamic_shapes={"input": sizes})
    targets = [node.target for node in program.graph.nodes]
    assert targets.count(torch.ops.depthwise.conv2d.default) == 4
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    for x in (images(3, 4, 35, 37), images(1, 4, 64, 32)):
        assert torch.equal(program.module()(x), net(x))
        file.seek(0)
        assert torch.equal(torch.export.load(file).module()(x), net(x))


@pytest.mark.parametrize("strict", [False, True])
def test_exports_with_known_sizes(strict: bool) -> None:
    net, x = network(), images(2, 4, 13, 14)
    assert torch.equal(torch.export.export(net, (x,), strict=strict).module()(x), net(x))


def test_torch_fx_sees_one_call_of_the_function() -> None:
    class Model(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = DepthwiseConv2d(4, 3, 2, "same", padding_mode="reflect")

        def forward(self, x: Any) -> Any:
            return depthwise_conv2d(self.layer(x), self.layer.weight, activation="relu")

    model, x = Model(), images(1, 4, 9, 9)
    traced = torch.fx.symbolic_trace(model)
    assert depthwise_conv2d in [node.target for node in traced.graph.nodes]
    assert torch.equal(traced(x), model(x))


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.trace_method:DeprecationWarning")
def test_torch_jit_trace_keeps_the_op() -> None:
    layer = DepthwiseConv2d(4, 3, 2, "same", activation="silu")
    traced = torch.jit.trace(layer, images(1, 4, 9, 9))
    assert "depthwise::conv2d" in str(traced.inlined_graph)
    x = images(2, 4, 12, 11)
    assert torch.equal(traced(x), layer(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_runs_it_in_the_lower_precision(dtype: Any) -> None:
    layer = DepthwiseConv2d(4, 3, padding=1, activation="silu")
    x = images(1, 4, 9, 9)
    with torch.autocast("cpu", dtype):
        y = layer(x)
        stock = nn.functional.conv2d(x, layer.weight, layer.bias, padding=1, groups=4)
    assert y.dtype == stock.dtype == dtype
    bias = layer.bias.to(dtype)
    assert torch.equal(
        y, depthwise_conv2d(x.to(dtype), layer.weight.to(dtype), bias, padding=1, activation="silu")
    )
    y.sum().backward()
    assert layer.weight.grad.dtype == torch.float32


def test_autocast_leaves_float64_as_pytorchs_own_convolution_does() -> None:
    x, weight = draw(1, 4, 9, 9), draw(4, 1, 3, 3)
    with torch.autocast("cpu"):
        assert depthwise_conv2d(x, weight).dtype == torch.float64
        assert nn.functional.conv2d(x, weight, groups=4).dtype == torch.float64
    with torch.autocast("cpu", enabled=False):
        assert depthwise_conv2d(x.float(), weight.float()).dtype == torch.float32


def test_autocast_inside_of_a_graph() -> None:
    net, x = network(), images(2, 4, 13, 14)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu"):
        assert torch.equal(compiled(x), net(x))
        assert compiled(x).dtype == torch.bfloat16
    assert compiled(x).dtype == torch.float32


def test_profilers_see_the_op() -> None:
    x, weight = images(1, 4, 9, 9), images(4, 1, 3, 3)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        depthwise_conv2d(x, weight)
    assert "depthwise::conv2d" in {event.key for event in profile.key_averages()}
