"""Calls that must fail: with a ValueError or TypeError in the words of every front-end, and PyTorch's names."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from depthwise.torch import DepthwiseConv2d, depthwise_conv2d, library
from tests.test_ops_errors import check_message


def valid() -> dict[str, Any]:
    """The arguments of a call that works, to be spoilt in one place."""
    return {"input": torch.ones(2, 4, 6, 7), "weight": torch.ones(8, 1, 3, 2), "bias": torch.ones(8)}


SPOILT: list[tuple[dict[str, Any], type[Exception], list[str]]] = [
    # what is changed, the error, and what its message must say
    ({"input": torch.zeros(6, 7)}, ValueError, ["input", "(6, 7)"]),
    ({"input": torch.zeros(1, 2, 4, 6, 7)}, ValueError, ["input", "(1, 2, 4, 6, 7)"]),
    ({"input": torch.zeros(2, 5, 6, 7)}, ValueError, ["weight", "5", "(8, 1, 3, 2)", "(2, 5, 6, 7)"]),
    ({"input": torch.zeros(2, 4, 2, 7)}, ValueError, ["kernel_size", "dilation", "height 3", "height 2"]),
    ({"input": torch.zeros(2, 4, 0, 7)}, ValueError, ["kernel_size", "height 0"]),
    ({"input": torch.zeros(2, 4, 6, 7).double()}, TypeError, ["weight", "float64, that of input", "float32"]),
    ({"input": torch.zeros(2, 4, 6, 7).int()}, TypeError, ["input", "int32"]),
    ({"input": torch.zeros(2, 4, 6, 7, dtype=torch.cfloat)}, TypeError, ["input", "complex64"]),
    ({"input": [[1.0]]}, TypeError, ["input", "list"]),
    ({"input": None}, TypeError, ["input", "NoneType"]),
    ({"weight": torch.zeros(8, 3, 2)}, ValueError, ["weight", "(8, 3, 2)"]),
    ({"weight": torch.zeros(8, 2, 3, 2)}, ValueError, ["weight", "(8, 2, 3, 2)"]),
    ({"weight": torch.zeros(6, 1, 3, 2)}, ValueError, ["weight", "4", "(6, 1, 3, 2)"]),
    ({"weight": torch.zeros(0, 1, 3, 2)}, ValueError, ["weight", "(0, 1, 3, 2)"]),
    ({"weight": torch.zeros(8, 1, 0, 2)}, ValueError, ["weight", "(8, 1, 0, 2)"]),
    ({"weight": torch.zeros(8, 1, 3, 2).half()}, TypeError, ["weight", "float16", "float32"]),
    ({"weight": None}, TypeError, ["weight", "NoneType"]),
    ({"bias": torch.zeros(4)}, ValueError, ["bias", "(8,)", "(4,)"]),
    ({"bias": torch.zeros(8, 1)}, ValueError, ["bias", "(8, 1)"]),
    ({"bias": torch.zeros(8).double()}, TypeError, ["bias", "float64"]),
    ({"bias": True}, TypeError, ["bias", "bool"]),
    ({"stride": 0}, ValueError, ["stride", "0"]),
    ({"stride": (1, 0)}, ValueError, ["stride", "(1, 0)"]),
    ({"stride": (1, 2, 3)}, ValueError, ["stride", "(1, 2, 3)"]),
    ({"stride": True}, TypeError, ["stride", "True"]),
    ({"stride": 1.0}, TypeError, ["stride", "1.0"]),
    ({"stride": (1, True)}, TypeError, ["stride", "True"]),
    ({"stride": "strides"}, TypeError, ["stride", "'strides'"]),
    ({"stride": None}, TypeError, ["stride", "None"]),
    ({"dilation": 0}, ValueError, ["dilation", "0"]),
    ({"dilation": 2.5}, TypeError, ["dilation", "2.5"]),
    ({"dilation": (3, 1)}, ValueError, ["dilation (3, 1)", "height 7", "height 6"]),
    ({"padding": "full"}, ValueError, ["padding", "'full'"]),
    ({"padding": -1}, ValueError, ["padding", "-1"]),
    ({"padding": (1, 2, 3, 4)}, ValueError, ["padding", "(1, 2, 3, 4)"]),
    ({"padding": ((1, 2), (3,))}, ValueError, ["padding", "(3,)"]),
    ({"padding": 2**31}, ValueError, ["padding", str(2**31)]),
    ({"padding": 1.5}, TypeError, ["padding", "1.5"]),
    ({"padding": None}, TypeError, ["padding", "None"]),
    ({"activation": "relu7"}, ValueError, ["activation", "'relu7'", "relu6"]),
    ({"activation": ("elu", -1.0)}, ValueError, ["activation", "elu", "-1.0"]),
    ({"activation": torch.relu}, TypeError, ["activation", "relu"]),
    ({"weight": torch.zeros(8, 1, 3, 2, device="meta")}, ValueError, ["weight", "cpu", "meta"]),
    ({"bias": torch.zeros(8, device="meta")}, ValueError, ["bias", "cpu", "meta"]),
]


@pytest.mark.parametrize(
    ("changes", "error", "says"), SPOILT, ids=[f"{next(iter(c))}-{i}" for i, (c, _, _) in enumerate(SPOILT)]
)
@pytest.mark.parametrize("training", [False, True])
def test_what_is_wrong_with_a_call(
    changes: dict[str, Any], error: type[Exception], says: list[str], training: bool
) -> None:
    arguments = valid()
    arguments["weight"].requires_grad_(training)
    depthwise_conv2d(**arguments, stride=1, padding=1)  # equal to True and to 1.0, and kept
    with pytest.raises(error) as caught:
        depthwise_conv2d(**(arguments | changes))
    assert type(caught.value) is error
    check_message(caught.value, says)
    assert "dilation_rate" not in str(caught.value)


LAYER: list[tuple[dict[str, Any], type[Exception], list[str]]] = [
    ({"in_channels": 0}, ValueError, ["in_channels", "0"]),
    ({"in_channels": -3}, ValueError, ["in_channels", "-3"]),
    ({"in_channels": 2.0}, TypeError, ["in_channels", "2.0"]),
    ({"in_channels": True}, TypeError, ["in_channels", "True"]),
    ({"kernel_size": 0}, ValueError, ["kernel_size", "0"]),
    ({"kernel_size": (3, 3, 3)}, ValueError, ["kernel_size", "(3, 3, 3)"]),
    ({"stride": 0}, ValueError, ["stride", "0"]),
    ({"padding": "causal"}, ValueError, ["padding", "'causal'"]),
    ({"dilation": "2"}, TypeError, ["dilation", "'2'"]),
    ({"depth_multiplier": 0}, ValueError, ["depth_multiplier", "0"]),
    ({"bias": 1}, TypeError, ["bias", "1"]),
    ({"padding_mode": "wrap"}, ValueError, ["padding_mode", "circular", "'wrap'"]),
    ({"padding_mode": None}, TypeError, ["padding_mode", "None"]),
    ({"activation": "relu7"}, ValueError, ["activation", "'relu7'"]),
]


@pytest.mark.parametrize(
    ("changes", "error", "says"), LAYER, ids=[f"{next(iter(c))}-{i}" for i, (c, _, _) in enumerate(LAYER)]
)
def test_what_is_wrong_with_a_layer(changes: dict[str, Any], error: type[Exception], says: list[str]) -> None:
    arguments: dict[str, Any] = {"in_channels": 4, "kernel_size": 3}
    DepthwiseConv2d(**arguments)
    with pytest.raises(error) as caught:
        DepthwiseConv2d(**(arguments | changes))
    assert type(caught.value) is error
    check_message(caught.value, says)


def test_what_is_wrong_is_said_where_there_are_no_numbers() -> None:
    with pytest.raises(ValueError, match=r"kernel_size: expected .* for an input of height 2"):
        depthwise_conv2d(torch.ones(1, 4, 2, 2, device="meta"), torch.ones(4, 1, 3, 3, device="meta"))
    with pytest.raises(ValueError, match="weight: expected shape"):
        depthwise_conv2d(torch.ones(1, 4, 5, 5, device="meta"), torch.ones(4, 2, 3, 3, device="meta"))


OPTIONS = ((1, 1), "valid", (), (1, 1), "relu", 0.0, False)


@pytest.mark.parametrize(
    ("dy", "saved", "error"),
    [
        (torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 3), ValueError),
        (torch.ones(1, 2, 3, 3), torch.ones(1, 2, 3, 4), ValueError),
        (torch.ones(1, 2, 3, 3).double(), torch.ones(1, 2, 3, 3), TypeError),
        (torch.ones(1, 2, 3, 3), torch.ones(1, 2, 3, 3).half(), TypeError),
        (torch.ones(1, 2, 3, 3, device="meta"), torch.ones(1, 2, 3, 3), ValueError),
        (torch.ones(1, 2, 3, 3), None, ValueError),
    ],
)
def test_what_is_wrong_with_a_call_of_the_gradients(dy: Any, saved: Any, error: type[Exception]) -> None:
    x, weight = torch.ones(1, 2, 5, 5), torch.ones(2, 1, 3, 3)
    with pytest.raises(error):
        library.conv2d_backward(dy, x, weight, saved, *OPTIONS, [True, True, True])


@pytest.mark.parametrize(
    "options",
    [
        ((0, 1), "valid", (), (1, 1), "relu", 0.0, False),
        ((1, 1), "full", (), (1, 1), "relu", 0.0, False),
        ((1, 1), "explicit", (1, 2), (1, 1), "relu", 0.0, False),
        ((1, 1), "explicit", (1, 2, 3, -4), (1, 1), "relu", 0.0, False),
        ((1, 1), "valid", (), (1, 1), "relu7", 0.0, False),
        ((1, 1), "valid", (), (1, 1), "elu", -1.0, False),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("training", [False, True])
def test_the_op_itself_checks_what_it_is_given(options: Any, device: str, training: bool) -> None:
    x, weight = torch.ones(1, 2, 5, 5, device=device), torch.ones(2, 1, 3, 3, device=device)
    with pytest.raises(ValueError, match=r"strides|padding|activation"):
        library.conv2d(x, weight.requires_grad_(training), None, *options)


def test_the_op_for_training_is_for_activations_that_need_it() -> None:
    with pytest.raises(ValueError, match=r"activation: .* 'relu'"):
        library.conv2d_with_preactivation(torch.ones(1, 2, 5, 5), torch.ones(2, 1, 3, 3), None, *OPTIONS)
