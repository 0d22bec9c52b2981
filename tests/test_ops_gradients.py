"""Gradients: against central differences, against the identities they obey, and what a pullback may be asked for.

That they agree with the reference on every size is held by `test_ops_forward.py` and `test_ops_properties.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import depthwise
from depthwise import native, reference
from depthwise.activations import ACTIVATIONS, ActivationLike
from tests import tolerances
from tests.cases import (
    DTYPES,
    EXACT_ACTIVATIONS,
    LAYOUTS,
    Arrays,
    Case,
    assert_equals_exact,
    assert_same_bits,
    check_within_bounds,
    evaluate,
    evaluate_reference,
)

Array = NDArray[Any]

SMALL = [
    Case((5, 6), (3, 2), 3, batch=2, multiplier=2, padding="same"),
    Case((6, 7), (2, 3), 9, strides=(2, 3), padding=((0, 2), (1, 1)), dilation_rate=(2, 1)),
    Case((4, 4), (3, 3), 2, strides=(3, 2), padding=3, dilation_rate=(1, 3), multiplier=3),
]


def numerical_gradient(loss: Callable[[Array], float], at: Array, step: float = 1e-5) -> Array:
    """Central differences, one element at a time."""
    gradient = np.empty_like(at)
    for index in np.ndindex(at.shape):
        ahead, behind = at.copy(), at.copy()
        ahead[index] += step
        behind[index] -= step
        gradient[index] = (loss(ahead) - loss(behind)) / (2 * step)
    return gradient


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
@pytest.mark.parametrize("case", SMALL, ids=range(len(SMALL)))
def test_central_differences(case: Case, data_format: str, activation: str) -> None:
    case = dataclasses.replace(case, data_format=data_format, activation=activation)
    arrays = case.reals("float64", seed=3)
    assert arrays.bias is not None
    x, kernel, bias = arrays.x, arrays.kernel, arrays.bias
    z = reference.preactivation(x, kernel, bias, case.spec)
    wide = tolerances.Bounded(z, np.full(z.shape, 1e-3))  # no step of the differences may cross a corner
    dy = tolerances.away_from_corners(arrays.dy, wide, case.spec.activation, "float64")

    def loss(x: Array, kernel: Array, bias: Array) -> float:
        return float((depthwise.depthwise_conv2d(x, kernel, bias, **case.options) * dy).sum())

    _, pullback = depthwise.depthwise_conv2d_vjp(x, kernel, bias, **case.options)
    gradients = pullback(dy)
    for actual, expected in (
        (gradients.x, numerical_gradient(lambda at: loss(at, kernel, bias), x)),
        (gradients.kernel, numerical_gradient(lambda at: loss(x, at, bias), kernel)),
        (gradients.bias, numerical_gradient(lambda at: loss(x, kernel, at), bias)),
    ):
        assert actual is not None
        np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("isa")
def test_the_derivative_of_every_activation_over_its_whole_range(dtype: str, data_format: str) -> None:
    # float16 ends at 65504; beyond 100 every one of them is flat or a line
    x = np.concatenate([np.linspace(-10, 10, 4001), np.linspace(-100, 100, 401)]).astype(DTYPES[dtype])
    size = (1, x.size)
    for activation in ACTIVATIONS:
        case = Case(size, (1, 1), data_format=data_format, activation=activation, bias=False)
        wide = x.astype(np.float64).reshape(case.x_shape)
        z = tolerances.bounded_preactivation(wide, np.ones((1, 1, 1, 1)), None, case.spec, dtype)
        dy = tolerances.away_from_corners(np.ones(wide.shape), z, case.spec.activation, dtype)
        kernel = np.ones((1, 1, 1, 1))
        expected = tolerances.bounded_gradients(wide, kernel, None, dy, case.spec, dtype)[0]
        arrays = Arrays(wide, kernel, None, dy)
        actual = evaluate(case, arrays.cast(dtype)).dx
        tolerances.assert_within(actual, expected, f"derivative of {activation}, {dtype}, {data_format}")


@pytest.mark.usefixtures("isa")
def test_derivatives_at_corners_are_those_of_the_conventions(dtype: str, data_format: str) -> None:
    corners: dict[ActivationLike, dict[int, float]] = {
        "relu": {-1: 0.0, 0: 0.0, 1: 1.0},
        "relu6": {-1: 0.0, 0: 0.0, 1: 1.0, 5: 1.0, 6: 0.0, 7: 0.0},
        ("leaky_relu", 0.25): {-1: 0.25, 0: 0.25, 1: 1.0},
        ("elu", 0.5): {0: 0.5, 1: 1.0},
        "hard_swish": {-4: 0.0, -3: 0.0, 0: 0.5, 3: 1.0, 4: 1.0},
        "hard_sigmoid": {-4: 0.0, -3: 0.0, 0: 1 / 6, 3: 0.0, 4: 0.0},
    }
    for activation, slopes in corners.items():
        shape = (1, 1, -1, 1) if data_format == "channels_last" else (1, 1, 1, -1)
        x = np.array(list(slopes)).astype(DTYPES[dtype]).reshape(shape)
        _, pullback = depthwise.depthwise_conv2d_vjp(
            x, np.ones((1, 1, 1, 1), x.dtype), data_format=data_format, activation=activation
        )
        actual = pullback(np.ones(x.shape, x.dtype)).x
        expected = np.array(list(slopes.values())).reshape(shape)
        np.testing.assert_allclose(
            actual.astype(np.float64),
            expected,
            rtol=2 * tolerances.PRECISIONS[dtype].storage,
            err_msg=str(activation),
        )


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("alpha", [0.0, 0.01, 1.0, 2.5])
@pytest.mark.parametrize("activation", ["leaky_relu", "elu"])
def test_alpha_reaches_results_and_gradients(
    dtype: str, data_format: str, activation: str, alpha: float
) -> None:
    case = Case((6, 11), (3, 3), 7, padding="same", data_format=data_format, activation=(activation, alpha))
    check_within_bounds(case, dtype)


@pytest.mark.usefixtures("isa")
def test_input_and_kernel_gradients_are_adjoint_to_the_convolution(dtype: str, data_format: str) -> None:
    # <dy, conv(x, kernel)> = <dx, x> = <dkernel, kernel>, and of integers exactly
    for case in SMALL:
        case = dataclasses.replace(case, data_format=data_format, bias=False)  # noqa: PLW2901
        arrays = case.integers(seed=5, largest=3).cast(dtype)  # results up to 81, exact in 8 bits
        results = evaluate(case, arrays)

        def dot(a: Array, b: Array) -> float:
            return float((a.astype(np.float64) * b.astype(np.float64)).sum())

        expected = dot(arrays.dy, results.y)
        assert expected != 0
        assert dot(results.dx, arrays.x) == expected
        assert dot(results.dkernel, arrays.kernel) == expected


@pytest.mark.usefixtures("isa")
def test_each_gradient_alone_has_the_bits_it_has_among_the_others(dtype: str, data_format: str) -> None:
    case = Case(
        (9, 10), (3, 2), 6, batch=3, multiplier=2, strides=(2, 1), padding="same", data_format=data_format
    )
    arrays = case.reals(dtype).cast(dtype)
    plan = native.make_plan(case.spec, case.x_shape, dtype)  # type: ignore[arg-type]  # four sizes
    bits = np.dtype(f"u{DTYPES[dtype].itemsize}")

    def backward(wanted: set[str]) -> dict[str, Array]:
        shapes = {"dx": case.x_shape, "dkernel": case.kernel_shape, "dbias": (case.outputs,)}
        results = {name: np.zeros(shape, bits) for name, shape in shapes.items() if name in wanted}
        x, kernel, dy = (array.view(bits) for array in (arrays.x, arrays.kernel, arrays.dy))
        dx, dkernel, dbias = (results.get(name) for name in shapes)
        plan.backward(x, kernel, dy, None, dx, dkernel, dbias)
        return results

    together = backward({"dx", "dkernel", "dbias"})
    for name, expected in together.items():
        assert expected.any()
        assert_same_bits(backward({name})[name], expected, f"{name} alone, {dtype}")
    both = backward({"dx", "dbias"})
    assert_same_bits(both["dx"], together["dx"], "dx with dbias")
    assert_same_bits(both["dbias"], together["dbias"], "dbias with dx")


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("where", ["x", "kernel", "dy"])
@pytest.mark.parametrize("channels", [1, 5, 40])
def test_nan_and_infinity_reach_the_gradients_that_the_reference_says_and_no_others(
    dtype: str, data_format: str, special: float, where: str, channels: int
) -> None:
    for strides in ((1, 1), (1, 2)):
        case = Case((5, 11), (3, 2), channels, strides=strides, padding="same", data_format=data_format)
        arrays = case.integers(seed=1)
        target = {"x": arrays.x, "kernel": arrays.kernel, "dy": arrays.dy}[where]
        for index in (0, target.size // 2):
            before, target.flat[index] = target.flat[index], special
            with np.errstate(invalid="ignore"):
                expected = evaluate_reference(case, arrays).parts()
            for name, actual in evaluate(case, arrays.cast(dtype)).parts().items():
                what = f"{name} with {special} in {where} at {index}, {case}"
                assert_equals_exact(actual, expected[name], dtype, what)
            target.flat[index] = before


@pytest.mark.parametrize("channels", [3, 40])
@pytest.mark.parametrize("activation", ["relu", "relu6", "hard_sigmoid"])
def test_nothing_comes_through_where_the_derivative_is_zero(
    isa: str, data_format: str, activation: str, channels: int
) -> None:
    shape = (1, 3, 20, channels) if data_format == "channels_last" else (1, channels, 3, 20)
    x = np.full(shape, -9.0, np.float32)
    kernel = np.ones((1, 1, channels, 1), np.float32)
    for value in (np.inf, np.nan):
        dy = np.full(shape, value, np.float32)
        strided = np.full((*shape[:3], 2 * shape[3]), value, np.float32)[..., ::2]
        for gradient in (dy, strided):
            _, pullback = depthwise.depthwise_conv2d_vjp(
                x, kernel, data_format=data_format, activation=activation
            )
            assert not np.any(pullback(gradient).x), (isa, value)


@pytest.mark.parametrize("activation", EXACT_ACTIVATIONS, ids=str)
def test_a_pullback_can_be_called_again(data_format: str, activation: Any) -> None:
    case = Case((6, 8), (3, 3), 5, data_format=data_format, activation=activation)
    arrays = case.integers().cast("float32")
    _, pullback = depthwise.depthwise_conv2d_vjp(arrays.x, arrays.kernel, arrays.bias, **case.options)
    first, other, second = pullback(arrays.dy), pullback(-arrays.dy), pullback(arrays.dy)
    assert first.bias is not None
    for a, b, c in zip(first, other, second, strict=True):
        assert a is not None
        assert b is not None
        assert c is not None
        assert_same_bits(c, a, "the second call")
        assert np.array_equal(b, -a)
        assert not np.shares_memory(a, c)


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_what_the_caller_may_not_change_is_read_only(activation: str) -> None:
    case = Case((6, 8), (3, 3), 5, activation=activation)
    arrays = case.reals("float32").cast("float32")
    y, pullback = depthwise.depthwise_conv2d_vjp(arrays.x, arrays.kernel, arrays.bias, **case.options)
    before = pullback(arrays.dy)
    if y.flags.writeable:
        y.fill(np.nan)
    after = pullback(arrays.dy)
    for a, b in zip(before, after, strict=True):
        assert a is not None
        assert b is not None
        assert_same_bits(b, a, f"after y was overwritten, {activation}")


def test_gradients_have_the_shapes_and_the_dtype_of_their_arrays(dtype: str, data_format: str) -> None:
    for bias in (True, False):
        case = Case((6, 8), (3, 2), 5, multiplier=2, data_format=data_format, bias=bias)
        arrays = case.integers().cast(dtype)
        y, pullback = depthwise.depthwise_conv2d_vjp(arrays.x, arrays.kernel, arrays.bias, **case.options)
        gradients = pullback(arrays.dy)
        assert y.shape == case.y_shape
        assert gradients.x.shape == arrays.x.shape
        assert gradients.kernel.shape == arrays.kernel.shape
        assert (gradients.bias is not None) == bias
        assert gradients.bias is None or gradients.bias.shape == (10,)
        assert {a.dtype for a in (y, *gradients) if a is not None} == {DTYPES[dtype]}


@pytest.mark.parametrize("data_format", LAYOUTS)
def test_rows_and_columns_that_no_output_sees_have_zero_gradient(data_format: str) -> None:
    case = Case((10, 11), (2, 2), 20, strides=(4, 5), data_format=data_format)
    arrays = case.integers(seed=2).cast("float32")
    dx = evaluate(case, arrays).dx
    if data_format == "channels_first":
        dx = dx.transpose(0, 2, 3, 1)
    seen = np.zeros((10, 11), bool)
    for row in (0, 1, 4, 5, 8, 9):
        seen[row, [0, 1, 5, 6]] = True
    assert not dx[:, ~seen].any()
    assert dx[:, seen].any(axis=2).all()
