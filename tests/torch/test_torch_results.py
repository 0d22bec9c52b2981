"""The function's results: the NumPy front-end's bits, PyTorch's numbers, the layout of the input."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch.nn import functional

import depthwise
from depthwise.activations import ACTIVATIONS, Activation
from depthwise.torch import depthwise_conv2d
from depthwise.torch.ops import convolve
from tests.cases import DTYPES, LAYOUTS, Case, assert_same_bits
from tests.torch import tensors
from tests.torch.tensors import draw

CASES = (
    Case((9, 7), (3, 2), channels=5, batch=2, multiplier=2, strides=(2, 1), padding="same"),
    Case((8, 11), (3, 3), channels=16, dilation_rate=(1, 2), padding=((1, 0), (2, 3)), bias=False),
    Case((6, 20), (5, 5), channels=3, batch=3, padding=2),
    Case((4, 4), (1, 1), channels=1, multiplier=3),
)


def check_same_bits(case: Case, dtype: str) -> None:
    arrays = case.reals(dtype).cast(dtype)
    x, weight = tensors.image(arrays.x, case.data_format), tensors.weight(arrays.kernel)
    bias = None if arrays.bias is None else tensors.tensor(arrays.bias)
    inputs = [t.requires_grad_() for t in (x, weight, bias) if t is not None]
    y = depthwise_conv2d(x, weight, bias, **tensors.options(case))
    gradients = torch.autograd.grad(y, inputs, tensors.image(arrays.dy, case.data_format))
    expected, pullback = depthwise.depthwise_conv2d_vjp(arrays.x, arrays.kernel, arrays.bias, **case.options)
    dx, dkernel, dbias = pullback(arrays.dy)
    assert_same_bits(tensors.image_array(y, case.data_format), expected, f"y of {dtype}, {case}")
    assert_same_bits(tensors.image_array(gradients[0], case.data_format), dx, f"dx of {dtype}, {case}")
    assert_same_bits(
        tensors.kernel_array(gradients[1], case.channels), dkernel, f"dkernel of {dtype}, {case}"
    )
    if dbias is not None:
        assert_same_bits(tensors.array(gradients[2]), dbias, f"dbias of {dtype}, {case}")


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_results_and_gradients_have_the_bits_of_the_numpy_front_end(
    activation: str, dtype: str, data_format: str
) -> None:
    case = CASES[0]
    check_same_bits(Case(**{**vars_of(case), "activation": activation, "data_format": data_format}), dtype)


@pytest.mark.parametrize("case", CASES[1:], ids=range(1, len(CASES)))
def test_other_arguments_give_the_bits_of_the_numpy_front_end(
    case: Case, dtype: str, data_format: str
) -> None:
    if case.channels == 1 and data_format == "channels_last":
        pytest.skip("an image of one channel has the strides of both layouts, and is taken for the other")
    check_same_bits(Case(**{**vars_of(case), "data_format": data_format, "activation": ("elu", 0.5)}), dtype)


def vars_of(case: Case) -> dict[str, Any]:
    return {name: getattr(case, name) for name in case.__dataclass_fields__}


GRID = list(
    itertools.product(
        (1, 2, (1, 3)),  # stride
        (0, (0, 2), 1, "valid"),  # padding
        (1, (2, 1)),  # dilation
    )
)


@pytest.mark.parametrize(
    "memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"]
)
@pytest.mark.parametrize(("stride", "padding", "dilation"), GRID)
@pytest.mark.parametrize(("kernel_size", "multiplier"), [((3, 3), 1), ((2, 5), 2), ((1, 1), 3)])
def test_agrees_with_pytorch(
    kernel_size: tuple[int, int],
    stride: Any,
    padding: Any,
    dilation: Any,
    multiplier: int,
    memory_format: Any,
) -> None:
    x = draw(2, 3, 9, 8).to(memory_format=memory_format).requires_grad_()
    weight = draw(3 * multiplier, 1, *kernel_size, seed=1).requires_grad_()
    bias = draw(3 * multiplier, seed=2).requires_grad_()
    expected = functional.conv2d(x, weight, bias, stride, padding, dilation, groups=3)
    actual = depthwise_conv2d(x, weight, bias, stride, padding, dilation)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    dy = draw(*expected.shape, seed=3)
    torch.testing.assert_close(
        torch.autograd.grad(actual, (x, weight, bias), dy),
        torch.autograd.grad(expected, (x, weight, bias), dy),
        rtol=1e-12,
        atol=1e-12,
    )


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@pytest.mark.parametrize("kernel_size", [(3, 3), (4, 2), (1, 6)])
@pytest.mark.parametrize("dilation", [1, (2, 3)])
def test_same_padding_is_pytorchs_for_a_stride_of_one(kernel_size: tuple[int, int], dilation: Any) -> None:
    x, weight = draw(1, 2, 9, 16), draw(2, 1, *kernel_size, seed=1)
    expected = functional.conv2d(x, weight, padding="same", dilation=dilation, groups=2)
    actual = depthwise_conv2d(x, weight, padding="same", dilation=dilation)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_same_padding_is_tensorflows_for_other_strides() -> None:
    x, weight = draw(1, 2, 9, 8), draw(2, 1, 3, 3, seed=1)
    expected = functional.conv2d(functional.pad(x, (0, 1, 1, 1)), weight, stride=2, groups=2)
    torch.testing.assert_close(
        depthwise_conv2d(x, weight, stride=2, padding="same"), expected, rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize(
    "shape", [(2, 3, 5, 4), (1, 1, 5, 4), (1, 3, 1, 1), (1, 1, 1, 1), (3, 1, 1, 1), (2, 8, 1, 4)]
)
@pytest.mark.parametrize(
    "memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"]
)
def test_the_layout_of_the_output_is_what_pytorch_makes_it(
    shape: tuple[int, ...], memory_format: Any
) -> None:
    channels = shape[1]
    weight = draw(2 * channels, 1, 1, 1, dtype=torch.float32)
    base = draw(shape[0], channels, 2 * shape[2], shape[3], dtype=torch.float32).to(
        memory_format=memory_format
    )
    for x in (draw(*shape, dtype=torch.float32).to(memory_format=memory_format), base[:, :, ::2]):
        expected = functional.conv2d(x, weight, groups=channels)
        actual = depthwise_conv2d(x, weight)
        for each in (torch.contiguous_format, torch.channels_last):  # of a size of 1 the strides mean nothing
            assert actual.is_contiguous(memory_format=each) == expected.is_contiguous(memory_format=each)


@pytest.mark.parametrize("activation", [None, "silu"])
def test_reads_tensors_of_any_strides(activation: str | None) -> None:
    x = draw(9, 2, 3, 8).permute(1, 2, 0, 3)[:, :, :, ::2]
    weight = draw(3, 3, 6, 2).permute(2, 3, 0, 1)[:, 1:]
    bias = draw(12)[::2]
    dy = draw(1, 6, 1, 1).expand(2, 6, 7, 2)
    inputs = [t.detach().requires_grad_() for t in (x, weight, bias)]
    copies = [t.detach().contiguous().requires_grad_() for t in inputs]
    results = [
        depthwise_conv2d(x, weight, bias, activation=activation) for x, weight, bias in (inputs, copies)
    ]
    assert torch.equal(*results)
    gradients = [
        torch.autograd.grad(y, t, d)
        for y, t, d in zip(results, (inputs, copies), (dy, dy.contiguous()), strict=True)
    ]
    assert all(map(torch.equal, *gradients))


def test_gradients_have_the_layout_of_what_they_are_gradients_of() -> None:
    x = draw(2, 3, 5, 4).to(memory_format=torch.channels_last).requires_grad_()
    kernel = draw(3, 2, 3, 2).requires_grad_()
    weight = kernel.permute(2, 3, 0, 1).reshape(6, 1, 3, 2)
    y = depthwise_conv2d(x, weight)
    dx, dweight = torch.autograd.grad(y.sum(), (x, weight))
    assert dx.is_contiguous(memory_format=torch.channels_last)
    assert dweight.stride() == weight.stride()


def test_an_image_may_come_without_a_batch() -> None:
    x, weight = draw(3, 6, 5), draw(6, 1, 3, 3)
    assert torch.equal(depthwise_conv2d(x, weight), depthwise_conv2d(x[None], weight)[0])


def test_a_batch_may_be_empty() -> None:
    x, weight = draw(0, 3, 6, 5).requires_grad_(), draw(3, 1, 3, 3).requires_grad_()
    y = depthwise_conv2d(x, weight, activation="relu")
    assert y.shape == (0, 3, 4, 3)
    y.sum().backward()
    assert x.grad.shape == x.shape
    assert not weight.grad.any()


@pytest.mark.parametrize("activation", [*ACTIVATIONS, ("leaky_relu", 0.25), Activation("elu", 2.0)])
def test_pytorchs_own_activations_are_these(activation: Any) -> None:
    from depthwise.activations import normalise
    from depthwise.torch import stock
    from depthwise.torch.kernels import Options

    x = torch.linspace(-9, 9, 361, dtype=torch.float64).reshape(1, 1, 19, 19)
    weight = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    options = Options((1, 1), "valid", (1, 1), normalise(activation), channels_last=False)
    torch.testing.assert_close(
        stock.activate(x, options), depthwise_conv2d(x, weight, activation=activation), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("padding", ["valid", "same", ((1, 0), (2, 3)), ((1, 1), (2, 2))])
@pytest.mark.parametrize("stride", [1, (2, 3)])
def test_pytorchs_own_convolution_takes_the_same_padding(padding: Any, stride: Any, monkeypatch: Any) -> None:
    from depthwise.torch import ops

    x, weight, bias = draw(2, 3, 9, 8), draw(6, 1, 3, 2, seed=1), draw(6, seed=2)
    expected = depthwise_conv2d(x, weight, bias, stride, padding, activation="tanh")
    monkeypatch.setattr(ops, "_OP_DEVICES", ())
    actual = depthwise_conv2d(x, weight, bias, stride, padding, activation="tanh")
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("data_format", LAYOUTS)
def test_what_keras_calls_takes_the_layout_from_its_argument(data_format: str) -> None:
    """Even where the strides say nothing: an image of one channel."""
    case = Case((9, 8), (3, 3), multiplier=2, padding="same", data_format=data_format)
    arrays = case.reals("float32").cast("float32")
    assert arrays.bias is not None
    kernel = tensors.tensor(arrays.kernel)
    y = convolve(
        tensors.image(arrays.x, data_format),
        kernel.permute(2, 3, 0, 1).reshape(2, 1, 3, 3),
        tensors.tensor(arrays.bias),
        strides=(1, 1),
        padding="same",
        dilation_rate=(1, 1),
        activation=Activation("linear"),
        channels_last=data_format == "channels_last",
    )
    expected = depthwise.depthwise_conv2d(arrays.x, arrays.kernel, arrays.bias, **case.options)
    inside = y.permute(0, 2, 3, 1) if data_format == "channels_last" else y
    assert inside.is_contiguous()
    assert_same_bits(tensors.array(inside), expected, str(case))


def test_the_bits_do_not_depend_on_the_number_of_threads(threads: Any) -> None:
    x, weight = (
        draw(4, 32, 40, 40, dtype=torch.float32),
        draw(32, 1, 3, 3, dtype=torch.float32).requires_grad_(),
    )
    results = []
    for count in (1, 2, 3):
        threads(count)
        y = depthwise_conv2d(x, weight, activation="silu")
        results.append((y.detach(), *torch.autograd.grad(y.square().sum(), weight)))
    for others in results[1:]:
        assert all(map(torch.equal, results[0], others))


def test_every_dtype_is_kept() -> None:
    for name in DTYPES:
        x, weight = (
            draw(1, 2, 4, 4).to(tensors.TORCH_DTYPES[name]),
            draw(2, 1, 3, 3).to(tensors.TORCH_DTYPES[name]),
        )
        assert depthwise_conv2d(x, weight).dtype == x.dtype
