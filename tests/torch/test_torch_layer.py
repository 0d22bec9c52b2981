"""The layer: nn.Conv2d's parameters, state and ways, and what only this one can do."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from depthwise.torch import DepthwiseConv2d, depthwise_conv2d
from tests.torch.tensors import draw

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


def pair(*, seed: int = 0, **options: Any) -> tuple[Any, Any]:
    """The layer and PyTorch's, with the parameters of the former."""
    torch.manual_seed(seed)
    layer = DepthwiseConv2d(4, (3, 2), depth_multiplier=2, dtype=torch.float64, **options)
    options.pop("activation", None)
    stock = nn.Conv2d(4, 8, (3, 2), groups=4, dtype=torch.float64, **options)
    stock.load_state_dict(layer.state_dict())
    return layer, stock


@pytest.mark.parametrize("padding_mode", PADDING_MODES)
@pytest.mark.parametrize("options", [{"padding": (2, 1)}, {"padding": "valid", "stride": 2}, {"dilation": 2}])
@pytest.mark.parametrize("bias", [True, False])
def test_agrees_with_nn_conv2d(padding_mode: str, options: dict[str, Any], bias: bool) -> None:
    layer, stock = pair(padding_mode=padding_mode, bias=bias, **options)
    x = draw(2, 4, 8, 7)
    torch.testing.assert_close(layer(x), stock(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer(x[0]), stock(x[0]), rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize("padding_mode", PADDING_MODES)
def test_same_padding_agrees_with_nn_conv2d_for_a_stride_of_one(padding_mode: str) -> None:
    layer, stock = pair(padding="same", padding_mode=padding_mode)
    x = draw(2, 4, 8, 7)
    torch.testing.assert_close(layer(x), stock(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("padding_mode", PADDING_MODES[1:])
def test_same_and_uneven_padding_in_every_mode(padding_mode: str) -> None:
    x = draw(1, 4, 8, 7)
    layer = DepthwiseConv2d(4, 3, 2, "same", padding_mode=padding_mode, dtype=torch.float64)
    expected = depthwise_conv2d(functional.pad(x, (1, 1, 0, 1), padding_mode), layer.weight, layer.bias, 2)
    assert torch.equal(layer(x), expected)
    layer = DepthwiseConv2d(4, 3, 1, ((2, 0), (1, 3)), padding_mode=padding_mode, dtype=torch.float64)
    expected = depthwise_conv2d(functional.pad(x, (1, 3, 2, 0), padding_mode), layer.weight, layer.bias)
    assert torch.equal(layer(x), expected)


@pytest.mark.parametrize("padding_mode", PADDING_MODES)
def test_keeps_the_layout_in_every_padding_mode(padding_mode: str) -> None:
    layer = DepthwiseConv2d(4, 3, padding=1, padding_mode=padding_mode)
    x = draw(2, 4, 8, 7, dtype=torch.float32)
    assert layer(x).is_contiguous()
    layer = layer.to(memory_format=torch.channels_last)
    assert layer(x.to(memory_format=torch.channels_last)).is_contiguous(memory_format=torch.channels_last)


def test_is_initialised_as_nn_conv2d_is() -> None:
    torch.manual_seed(3)
    layer = DepthwiseConv2d(6, (3, 5), depth_multiplier=2)
    torch.manual_seed(3)
    stock = nn.Conv2d(6, 12, (3, 5), groups=6)
    assert torch.equal(layer.weight, stock.weight)
    assert torch.equal(layer.bias, stock.bias)


def test_is_a_conv2d_and_says_so_in_its_attributes() -> None:
    layer = DepthwiseConv2d(6, 3, 2, 1, depth_multiplier=2, bias=False)
    stock = nn.Conv2d(6, 12, 3, 2, 1, groups=6, bias=False)
    assert isinstance(layer, nn.Conv2d)
    names = ("in_channels", "out_channels", "groups", "kernel_size", "stride", "padding", "dilation", "bias")
    for name in (*names, "padding_mode", "transposed", "output_padding"):
        assert getattr(layer, name) == getattr(stock, name), name


def test_state_dicts_go_both_ways() -> None:
    layer, stock = DepthwiseConv2d(6, 3, depth_multiplier=2), nn.Conv2d(6, 12, 3, groups=6)
    assert list(layer.state_dict()) == list(stock.state_dict()) == ["weight", "bias"]
    x = draw(1, 6, 5, 5, dtype=torch.float32)
    layer.load_state_dict(stock.state_dict())
    torch.testing.assert_close(layer(x), stock(x))
    layer = DepthwiseConv2d(6, 3, depth_multiplier=2)
    stock.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(x), stock(x))


@pytest.mark.parametrize(
    "options",
    [
        {"activation": ("leaky_relu", 0.3), "padding": ((1, 0), (2, 1))},
        {"activation": "silu", "stride": 2, "padding": "same", "padding_mode": "reflect"},
        {"bias": False},
    ],
)
def test_can_be_copied_pickled_and_saved(options: dict[str, Any]) -> None:
    layer = DepthwiseConv2d(4, 3, **options)
    x = draw(2, 4, 8, 7, dtype=torch.float32)
    expected = layer(x)
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    for other in (
        copy.deepcopy(layer),
        pickle.loads(pickle.dumps(layer)),
        torch.load(file, weights_only=False),
    ):
        assert torch.equal(other(x), expected)
        assert repr(other) == repr(layer)
        assert other.weight is not layer.weight


def test_an_attribute_that_is_changed_counts() -> None:
    layer = DepthwiseConv2d(4, 3, stride=2, padding=1)
    x = draw(2, 4, 8, 7, dtype=torch.float32)
    layer.stride, layer.dilation, layer.padding = (1, 1), (2, 2), (2, 2)
    assert torch.equal(layer(x), depthwise_conv2d(x, layer.weight, layer.bias, 1, 2, 2))


def test_says_what_it_is() -> None:
    assert repr(DepthwiseConv2d(4, 3)) == "DepthwiseConv2d(4, kernel_size=(3, 3))"
    layer = DepthwiseConv2d(
        4, 3, (1, 2), ((1, 0), (0, 0)), 2, 3, bias=False, padding_mode="circular", activation=("elu", 0.5)
    )
    assert repr(layer) == (
        "DepthwiseConv2d(4, kernel_size=(3, 3), stride=(1, 2), padding=((1, 0), (0, 0)), dilation=(2, 2), "
        "depth_multiplier=3, bias=False, padding_mode='circular', activation=('elu', 0.5))"
    )
    assert "padding='same', activation='silu'" in repr(
        DepthwiseConv2d(4, 3, padding="same", activation="swish")
    )


def test_learns() -> None:
    torch.manual_seed(0)
    x = draw(8, 3, 12, 12, dtype=torch.float32)
    teacher = DepthwiseConv2d(3, 3, padding="same", activation="relu")
    layer = nn.Sequential(DepthwiseConv2d(3, 3, padding="same", activation="relu"))
    target = teacher(x).detach()
    optimizer = torch.optim.Adam(layer.parameters(), 0.05)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = functional.mse_loss(layer(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 50


def test_lives_on_the_meta_device_and_comes_to_life() -> None:
    layer = DepthwiseConv2d(4, 3, 2, "same", activation="silu", device="meta")
    assert layer(torch.empty(2, 4, 9, 9, device="meta")).shape == (2, 4, 5, 5)
    layer = layer.to_empty(device="cpu")
    layer.reset_parameters()
    assert layer(draw(2, 4, 9, 9, dtype=torch.float32)).shape == (2, 4, 5, 5)


def test_the_function_can_be_overridden_for_a_subclass_of_tensor() -> None:
    seen = []

    class Traced(torch.Tensor):  # type: ignore[misc]
        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func)
            return super().__torch_function__(func, types, args, kwargs)

    x = draw(1, 2, 5, 5).as_subclass(Traced)
    weight = draw(2, 1, 3, 3)
    y = depthwise_conv2d(x, weight)
    assert depthwise_conv2d in seen
    assert type(y) is Traced
    assert torch.equal(y.as_subclass(torch.Tensor), depthwise_conv2d(x.as_subclass(torch.Tensor), weight))
