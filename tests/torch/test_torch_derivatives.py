"""Derivatives: exact to any order, in both modes, under every transformation, and none that nobody asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

from depthwise import torch as front_end
from depthwise.activations import ACTIVATIONS
from depthwise.torch import library, stock
from depthwise.torch.kernels import Options
from tests.torch.tensors import draw

depthwise_conv2d: Any = front_end.depthwise_conv2d  # for calls with a tuple of tensors

OPTIONS = {"stride": (2, 1), "padding": ((1, 0), (2, 1)), "dilation": (1, 2)}

# PyTorch makes its forward derivatives with a compiler that it has deprecated.
FORWARD_MODE_WARNS = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")


def inputs(channels: int = 2, multiplier: int = 2) -> tuple[Any, Any, Any]:
    outputs = channels * multiplier
    return (
        draw(2, channels, 5, 4, seed=3).requires_grad_(),
        draw(outputs, 1, 3, 2, seed=4).requires_grad_(),
        draw(outputs, seed=5).requires_grad_(),
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_first_and_second_derivatives(activation: str) -> None:
    def function(*tensors: Any) -> Any:
        return depthwise_conv2d(*tensors, **OPTIONS, activation=activation)

    assert torch.autograd.gradcheck(function, inputs())
    assert torch.autograd.gradgradcheck(function, inputs())


@pytest.mark.parametrize("activation", [None, "tanh", "silu"])
def test_second_derivatives_with_channels_last_and_without_bias(activation: str | None) -> None:
    def function(x: Any, weight: Any) -> Any:
        x = x.contiguous(memory_format=torch.channels_last)
        return depthwise_conv2d(x, weight, stride=2, padding="same", activation=activation)

    assert torch.autograd.gradgradcheck(function, inputs()[:2])


@pytest.mark.parametrize("activation", [None, "sigmoid", "gelu"])
def test_third_derivatives(activation: str | None) -> None:
    x, weight, bias = inputs(1, 1)

    def slope(*tensors: Any) -> Any:
        y = depthwise_conv2d(*tensors, activation=activation)
        first = torch.autograd.grad(y.square().sum(), tensors, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), tensors, create_graph=True)

    assert torch.autograd.gradcheck(slope, (x, weight, bias))


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)])
@pytest.mark.parametrize("activation", [None, "silu"])
def test_each_gradient_can_be_had_alone(wanted: tuple[int, ...], activation: str | None) -> None:
    everything = inputs()
    y = depthwise_conv2d(*everything, activation=activation)
    dy = draw(*y.shape)
    expected = torch.autograd.grad(y, everything, dy)
    some = [t if i in wanted else t.detach() for i, t in enumerate(everything)]
    actual = torch.autograd.grad(
        depthwise_conv2d(*some, activation=activation), [some[i] for i in wanted], dy
    )
    assert all(torch.equal(a, expected[i]) for a, i in zip(actual, wanted, strict=True))


@pytest.mark.parametrize("wanted", [(0,), (1,), (2,)])
def test_second_derivatives_of_one_input(wanted: tuple[int]) -> None:
    (i,) = wanted
    fixed = inputs()

    def function(tensor: Any) -> Any:
        some = [t.detach() for t in fixed]
        some[i] = tensor
        return depthwise_conv2d(*some, activation="silu")

    assert torch.autograd.gradgradcheck(function, (fixed[i],))


def test_a_gradient_that_may_be_differentiated_has_the_same_bits() -> None:
    x, weight, bias = (t.detach().float().requires_grad_() for t in inputs())
    for activation in ACTIVATIONS:
        y = depthwise_conv2d(x, weight, bias, activation=activation)
        plain = torch.autograd.grad(y.sum(), (x, weight, bias), retain_graph=True)
        differentiable = torch.autograd.grad(y.sum(), (x, weight, bias), create_graph=True)
        assert all(map(torch.equal, plain, differentiable)), activation


def test_nothing_is_kept_where_no_gradient_is_wanted() -> None:
    x, weight, _ = inputs()
    with torch.no_grad():
        assert depthwise_conv2d(x, weight).grad_fn is None
    with torch.inference_mode():
        assert depthwise_conv2d(x, weight, activation="silu").is_inference()
    assert depthwise_conv2d(x.detach(), weight.detach()).grad_fn is None


def test_an_input_that_was_changed_in_between_is_an_error() -> None:
    x, weight, _ = inputs()
    y = depthwise_conv2d(x, weight)
    with torch.no_grad():
        weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def reference(activation: str, padding: Any) -> Callable[..., Any]:
    from depthwise.activations import normalise

    options = Options((2, 1), padding, (1, 1), normalise(activation), channels_last=False)
    return lambda x, weight, bias: stock.convolve(x, weight, bias, options)


TRANSFORMS: dict[str, Callable[..., Any]] = {
    "grad": lambda f, i: torch.func.grad(lambda *t: f(*t).square().sum(), i),
    "jacrev": torch.func.jacrev,
    "jacfwd": torch.func.jacfwd,
    "jacrev of jacrev": lambda f, i: torch.func.jacrev(
        torch.func.jacrev(lambda *t: f(*t).square().sum(), i), i
    ),
    "jacfwd of jacrev": lambda f, i: torch.func.hessian(lambda *t: f(*t).square().sum(), i),
    "jacrev of jacfwd": lambda f, i: torch.func.jacrev(
        torch.func.jacfwd(lambda *t: f(*t).square().sum(), i), i
    ),
    "jacfwd of jacfwd": lambda f, i: torch.func.jacfwd(
        torch.func.jacfwd(lambda *t: f(*t).square().sum(), i), i
    ),
}


@FORWARD_MODE_WARNS
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize(
    ("activation", "padding"), [("linear", "same"), ("tanh", ((1, 0), (1, 1))), ("gelu", "valid")]
)
def test_transformations_of_torch_func(transform: str, activation: str, padding: Any) -> None:
    tensors = [t.detach() for t in inputs(2, 1)]

    def function(*tensors: Any) -> Any:
        return depthwise_conv2d(*tensors, stride=(2, 1), padding=padding, activation=activation)

    for index in range(3):
        torch.testing.assert_close(
            TRANSFORMS[transform](function, index)(*tensors),
            TRANSFORMS[transform](reference(activation, padding), index)(*tensors),
            rtol=1e-9,
            atol=1e-9,
        )


@FORWARD_MODE_WARNS
@pytest.mark.parametrize("activation", ["linear", "silu"])
def test_forward_mode(activation: str) -> None:
    assert torch.autograd.gradcheck(
        lambda *t: depthwise_conv2d(*t, **OPTIONS, activation=activation), inputs(), check_forward_ad=True
    )


@pytest.mark.parametrize(
    "batched", [(0, None, None), (1, None, 0), (None, 0, None), (0, 1, 0), (3, 4, 1), (None, None, 0)]
)
@pytest.mark.parametrize("activation", ["linear", "silu"])
def test_vmap(batched: tuple[int | None, ...], activation: str) -> None:
    shapes = ((2, 4, 7, 6), (8, 1, 3, 2), (8,))
    size = 3
    tensors = [
        draw(*shape) if dim is None else draw(*shape[:dim], size, *shape[dim:])
        for shape, dim in zip(shapes, batched, strict=True)
    ]

    def function(*tensors: Any) -> Any:
        return depthwise_conv2d(*tensors, stride=2, padding="same", activation=activation)

    def gradients(*tensors: Any) -> Any:
        return torch.func.grad(lambda *t: function(*t).square().sum(), (0, 1, 2))(*tensors)

    def one(i: int) -> list[Any]:
        return [t if dim is None else t.select(dim, i) for t, dim in zip(tensors, batched, strict=True)]

    for transformed in (function, gradients):
        actual = torch.vmap(transformed, batched)(*tensors)
        expected = [transformed(*one(i)) for i in range(size)]
        if isinstance(actual, tuple):
            for part, parts in zip(actual, zip(*expected, strict=True), strict=True):
                torch.testing.assert_close(part, torch.stack(parts), rtol=1e-12, atol=1e-12)
        else:
            torch.testing.assert_close(actual, torch.stack(expected), rtol=1e-12, atol=1e-12)


def test_vmap_over_an_empty_batch() -> None:
    y = torch.vmap(lambda x: depthwise_conv2d(x, torch.ones(3, 1, 2, 2)))(torch.ones(4, 0, 3, 5, 5))
    assert y.shape == (4, 0, 3, 4, 4)


def test_gradients_of_each_example() -> None:
    x, weight = draw(5, 1, 4, 7, 6), draw(4, 1, 3, 3)

    def loss(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda weight, x: function(x, weight).square().sum()

    per_example = torch.vmap(torch.func.grad(loss(depthwise_conv2d)), (None, 0))(weight, x)
    expected = torch.vmap(torch.func.grad(loss(lambda x, w: functional.conv2d(x, w, groups=4))), (None, 0))(
        weight, x
    )
    torch.testing.assert_close(per_example, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("activation", "padding", "channels_last"),
    [
        ("linear", ("same", ()), True),
        ("relu", ("valid", ()), False),
        ("silu", ("explicit", (1, 0, 2, 1)), False),
        ("gelu", ("same", ()), True),
    ],
)
def test_opcheck(activation: str, padding: Any, channels_last: bool) -> None:
    arguments = ((2, 1), *padding, (1, 1), activation, 0.0, channels_last)
    x, weight, bias = (t.detach().float().requires_grad_() for t in inputs())
    torch.library.opcheck(library.conv2d, (x, weight, bias, *arguments))
    torch.library.opcheck(library.conv2d, (x.detach(), weight, None, *arguments))
    y = library.conv2d(x.detach(), weight.detach(), None, *arguments)
    dy = torch.randn_like(y).requires_grad_()
    saved = None if activation == "linear" else torch.randn_like(y).requires_grad_()
    torch.library.opcheck(library.conv2d_backward, (dy, x, weight, saved, *arguments, [True, True, True]))
    torch.library.opcheck(
        library.conv2d_backward, (dy.detach(), x, weight, saved, *arguments, [True, False, True])
    )
    if activation in ("silu", "gelu"):
        torch.library.opcheck(library.conv2d_with_preactivation, (x, weight, bias, *arguments))
