"""The reference against numbers worked out by hand, the definition written out, SciPy and central differences."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from depthwise import reference
from depthwise.activations import ACTIVATIONS
from depthwise.spec import Spec

Array = NDArray[np.float64]

SPECS = [
    Spec(3),
    Spec(3, padding="same"),
    Spec((3, 2), strides=2, padding="same", depth_multiplier=2),
    Spec((2, 4), strides=(1, 3), padding=((2, 0), (1, 3)), dilation_rate=(2, 1), depth_multiplier=3),
    Spec(3, strides=2, padding="same", dilation_rate=(1, 2)),
    Spec(5, padding="same", dilation_rate=3),  # most taps lie outside
    Spec(1, strides=(2, 4)),
    Spec(2, padding=3),  # whole rows of outputs see nothing but padding
]
BOTH_FORMATS = pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
EVERY_SPEC = pytest.mark.parametrize("spec", SPECS, ids=range(len(SPECS)))


def with_format(spec: Spec, data_format: str, activation: Any = None) -> Spec:
    return Spec(
        spec.kernel_size,
        spec.strides,
        spec.padding,
        spec.depth_multiplier,
        data_format,
        spec.dilation_rate,
        activation,
    )


def arrays(
    spec: Spec, batch: int = 2, size: tuple[int, int] = (6, 7), channels: int = 2
) -> tuple[Array, ...]:
    """x, kernel and bias for a spec, from the unit normal distribution."""
    rng = np.random.default_rng(7)
    shape = (batch, *size, channels) if spec.data_format == "channels_last" else (batch, channels, *size)
    kernel_shape = spec.kernel_shape(channels)
    return (
        rng.standard_normal(shape),
        rng.standard_normal(kernel_shape),
        rng.standard_normal(channels * spec.depth_multiplier),
    )


def by_definition(x: Array, kernel: Array, bias: Array, spec: Spec) -> Array:
    """The convolution of a channels_last image, one product at a time, through an image padded with zeros."""
    padded = np.pad(x, ((0, 0), *spec.padding_amounts(x.shape[1:3]), (0, 0)))
    (sh, sw), (dh, dw), multiplier = spec.strides, spec.dilation_rate, spec.depth_multiplier
    y = np.empty(spec.check_shapes(x.shape, kernel.shape, bias.shape))
    for n, oh, ow, o in np.ndindex(y.shape):
        c, m = divmod(o, multiplier)
        y[n, oh, ow, o] = bias[o] + sum(
            padded[n, oh * sh + i * dh, ow * sw + j * dw, c] * kernel[i, j, c, m]
            for i, j in np.ndindex(kernel.shape[:2])
        )
    return y


# The convolution


def test_a_case_worked_out_by_hand() -> None:
    # Output (0, 0, 0), the first filter of the first channel: 1*1 + 3*5 + 7*9 + 9*13 = 196.
    x = np.arange(1, 13).reshape(1, 2, 3, 2)
    kernel = np.arange(1, 17).reshape(2, 2, 2, 2)
    y = reference.depthwise_conv2d(x, kernel, None, Spec(2, depth_multiplier=2))
    assert y.shape == (1, 1, 2, 4)
    assert y.dtype == np.float64
    assert y.ravel().tolist() == [196, 216, 272, 296, 252, 280, 344, 376]


def test_bias_and_activation_are_applied_to_each_output_channel() -> None:
    x = np.arange(1, 13).reshape(1, 2, 3, 2)
    kernel = np.arange(1, 17).reshape(2, 2, 2, 2)
    bias = [-195, -250, -272, 0]
    y = reference.depthwise_conv2d(x, kernel, bias, Spec(2, depth_multiplier=2, activation="relu"))
    assert y.ravel().tolist() == [1, 0, 0, 296, 57, 30, 72, 376]


def test_same_padding_at_stride_2_puts_the_window_where_tensorflow_does() -> None:
    # 4 pixels, 3 taps, stride 2: no zero before, one after. The windows are 1 2 3 and 3 4 0.
    x = np.array([1, 2, 3, 4]).reshape(1, 1, 4, 1)
    kernel = np.array([1, 10, 100]).reshape(1, 3, 1, 1)
    y = reference.depthwise_conv2d(x, kernel, None, Spec((1, 3), (1, 2), "same"))
    assert y.ravel().tolist() == [321, 43]


@EVERY_SPEC
@BOTH_FORMATS
def test_it_is_the_definition_written_out(spec: Spec, data_format: str) -> None:
    x, kernel, bias = arrays(spec)
    expected = by_definition(x, kernel, bias, spec)
    if data_format == "channels_first":
        x, expected = x.transpose(0, 3, 1, 2), expected.transpose(0, 3, 1, 2)
    y = reference.depthwise_conv2d(x, kernel, bias, with_format(spec, data_format))
    np.testing.assert_allclose(y, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_each_channel_is_a_correlation_of_its_own(padding: str) -> None:
    signal = pytest.importorskip("scipy.signal")
    x, kernel, _ = arrays(Spec(3, depth_multiplier=2), channels=3)
    y = reference.depthwise_conv2d(x, kernel, None, Spec(3, padding=padding, depth_multiplier=2))
    for n, c, m in itertools.product(range(2), range(3), range(2)):
        expected = signal.correlate(x[n, :, :, c], kernel[:, :, c, m], mode=padding, method="direct")
        np.testing.assert_allclose(y[n, :, :, c * 2 + m], expected, rtol=1e-13, atol=1e-13)


def test_a_tap_on_padding_contributes_nothing_whatever_its_weight() -> None:
    kernel = np.ones((3, 3, 1, 1))
    kernel[0, 0] = np.nan
    x, dy = np.ones((1, 3, 3, 1)), np.ones((1, 3, 3, 1))
    y = reference.depthwise_conv2d(x, kernel, None, Spec(3, padding="same"))
    assert np.isnan(y[0, 1:, 1:]).all()
    assert np.isfinite(y[0, 0]).all()
    assert np.isfinite(y[0, :, 0]).all()
    dx, _, _ = reference.depthwise_conv2d_vjp(x, kernel, None, dy, Spec(3, padding="same"))
    assert np.isnan(dx[0, :2, :2]).all()
    assert np.isfinite(dx[0, 2]).all()


@pytest.mark.parametrize(("batch", "channels"), [(0, 2), (2, 0)])
@BOTH_FORMATS
def test_empty_batches_and_no_channels_give_empty_results(
    batch: int, channels: int, data_format: str
) -> None:
    spec = Spec(3, padding="same", depth_multiplier=2, data_format=data_format, activation="gelu")
    x, kernel, bias = arrays(spec, batch, channels=channels)
    y = reference.depthwise_conv2d(x, kernel, bias, spec)
    assert y.shape == spec.output_shape(x.shape)
    assert y.size == 0
    dx, dkernel, dbias = reference.depthwise_conv2d_vjp(x, kernel, bias, y, spec)
    assert dbias is not None
    assert (dx.shape, dkernel.shape, dbias.shape) == (x.shape, kernel.shape, bias.shape)
    assert not dkernel.any()
    assert not dbias.any()


def test_inputs_of_other_dtypes_are_widened_and_left_alone() -> None:
    x, kernel, bias = (array.astype(np.float16) for array in arrays(Spec(3)))
    before = x.copy(), kernel.copy(), bias.copy()
    y = reference.depthwise_conv2d(x, kernel, bias, Spec(3, activation="relu"))
    reference.depthwise_conv2d_vjp(x, kernel, bias, y, Spec(3, activation="relu"))
    assert y.dtype == np.float64
    for array, copy in zip((x, kernel, bias), before, strict=True):
        np.testing.assert_array_equal(array, copy)
    assert not np.shares_memory(reference.activate("linear", 0.0, y), y)


def test_shapes_are_checked() -> None:
    x, kernel, bias = arrays(Spec(3))
    with pytest.raises(ValueError, match=r"^kernel: expected shape \(3, 3, 2, 1\)"):
        reference.depthwise_conv2d(x, kernel[..., :1, :], bias, Spec(3))
    with pytest.raises(ValueError, match=r"^dy: expected shape \(2, 4, 5, 2\), .* got shape \(2, 6, 7, 2\)$"):
        reference.depthwise_conv2d_vjp(x, kernel, bias, x, Spec(3))


# The gradients


def slope(function: Callable[[Array], float], at: Array, step: float = 1e-6) -> Array:
    """The gradient of a function of an array by central differences."""
    gradient = np.empty_like(at)
    for index in np.ndindex(at.shape):
        up, down = at.copy(), at.copy()
        up[index] += step
        down[index] -= step
        gradient[index] = (function(up) - function(down)) / (2 * step)
    return gradient


def check_gradients(spec: Spec) -> None:
    x, kernel, bias = arrays(spec, batch=2, size=(5, 4), channels=2)
    y = reference.depthwise_conv2d(x, kernel, bias, spec)
    dy = np.random.default_rng(8).standard_normal(y.shape)

    def loss(x: Array, kernel: Array, bias: Array) -> float:
        return float(np.sum(dy * reference.depthwise_conv2d(x, kernel, bias, spec)))

    dx, dkernel, dbias = reference.depthwise_conv2d_vjp(x, kernel, bias, dy, spec)
    assert dbias is not None
    for computed, differences in (
        (dx, slope(lambda x: loss(x, kernel, bias), x)),
        (dkernel, slope(lambda kernel: loss(x, kernel, bias), kernel)),
        (dbias, slope(lambda bias: loss(x, kernel, bias), bias)),
    ):
        # Differences of sums of some 100 numbers near 1 over a step of 1e-6 are good to about 1e-8.
        np.testing.assert_allclose(computed, differences, rtol=1e-6, atol=1e-7)


@EVERY_SPEC
@BOTH_FORMATS
def test_gradients_are_those_of_central_differences(spec: Spec, data_format: str) -> None:
    check_gradients(with_format(spec, data_format))


@pytest.mark.parametrize("activation", [*ACTIVATIONS, ("leaky_relu", 0.0), ("elu", 1.7)], ids=str)
def test_gradients_pass_through_every_activation(activation: Any) -> None:
    spec = Spec((2, 3), (1, 2), "same", 2, activation=activation)
    check_gradients(spec)


def test_gradients_without_a_bias() -> None:
    x, kernel, _ = arrays(Spec(3))
    dy = np.ones((2, 4, 5, 2))
    dx, dkernel, dbias = reference.depthwise_conv2d_vjp(x, kernel, None, dy, Spec(3))
    with_zeros = reference.depthwise_conv2d_vjp(x, kernel, np.zeros(2), dy, Spec(3))
    assert dbias is None
    np.testing.assert_array_equal(dx, with_zeros[0])
    np.testing.assert_array_equal(dkernel, with_zeros[1])


# The activations


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# Values at -4, -1, -0.5, 0, 0.5, 2 and 7, from the formulas of the table with Python's own functions.
POINTS = [-4.0, -1.0, -0.5, 0.0, 0.5, 2.0, 7.0]
FORMULA_NAMES = {name: getattr(math, name) for name in ("exp", "expm1", "log1p", "tanh", "sqrt", "erf", "pi")}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_compute_their_formulas(name: str) -> None:
    info = ACTIVATIONS[name]
    alpha = info.default_alpha or 0.0
    names = FORMULA_NAMES | {"max": max, "min": min, "sigmoid": sigmoid, "alpha": alpha, "__builtins__": {}}
    expected = [eval(info.formula, names | {"x": x}) for x in POINTS]
    np.testing.assert_allclose(reference.activate(name, alpha, POINTS), expected, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize(
    ("name", "x", "y"),
    [
        ("relu6", 6.5, 6.0),
        ("leaky_relu", -3.0, -0.6),
        ("elu", -1.0, -0.6321205588285577),
        ("silu", 1.0, 0.7310585786300049),
        ("hard_swish", 1.0, 2 / 3),
        ("hard_swish", -1.0, -1 / 3),
        ("hard_sigmoid", 1.5, 0.75),
        ("gelu", 1.0, 0.8413447460685429),  # the share of a normal distribution below 1
        ("gelu_tanh", 1.0, 0.8411919906082768),
        ("softplus", 0.0, 0.6931471805599453),
    ],
)
def test_activations_at_known_points(name: str, x: float, y: float) -> None:
    assert reference.activate(name, ACTIVATIONS[name].default_alpha or 0.0, x) == pytest.approx(y, rel=1e-14)


KINKS = {
    ("relu", 0.0): {0.0: 0.0},
    ("relu6", 0.0): {0.0: 0.0, 6.0: 0.0, 3.0: 1.0},
    ("leaky_relu", 0.3): {0.0: 0.3, 1e-300: 1.0},
    ("elu", 0.7): {0.0: 0.7, 1e-300: 1.0},
    ("hard_sigmoid", 0.0): {-3.0: 0.0, 3.0: 0.0, 2.999: 1 / 6},
    ("hard_swish", 0.0): {-3.0: 0.0, 3.0: 1.0, -1.5: 0.0, 0.0: 0.5},
}


@pytest.mark.parametrize(("activation", "slopes"), KINKS.items(), ids=str)
def test_derivatives_at_kinks(activation: tuple[str, float], slopes: dict[float, float]) -> None:
    computed = reference.activate_derivative(*activation, list(slopes))
    np.testing.assert_array_equal(computed, list(slopes.values()))


@pytest.mark.parametrize("activation", [*ACTIVATIONS, ("leaky_relu", 0.0), ("elu", 1.7)], ids=str)
def test_derivatives_are_those_of_central_differences(activation: Any) -> None:
    name, alpha = activation if isinstance(activation, tuple) else (activation, 0.0)
    z = np.linspace(-8, 8, 160) + 0.013  # meets no kink
    step = 1e-5
    up, down = reference.activate(name, alpha, z + step), reference.activate(name, alpha, z - step)
    np.testing.assert_allclose(
        reference.activate_derivative(name, alpha, z), (up - down) / (2 * step), rtol=1e-8, atol=1e-9
    )


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_nan_stays_nan_and_large_values_stay_finite(name: str) -> None:
    assert np.isnan(reference.activate(name, 0.0, np.nan))
    large = np.array([-1e4, -800.0, 800.0, 1e4])
    assert np.isfinite(reference.activate(name, 0.0, large)).all()
    assert np.isfinite(reference.activate_derivative(name, 0.0, large)).all()


def test_far_tails_keep_their_digits() -> None:
    # -20 times the share of a normal distribution below -20, which 1 + erf rounds to 0.
    assert reference.activate("gelu", 0.0, -20.0) == pytest.approx(-20 * 2.7536241186062337e-89, rel=1e-12)
    tail = math.sqrt(2 / math.pi) * 2 * (20 + 0.044715 * 20**3)
    assert reference.activate("gelu_tanh", 0.0, -20.0) == pytest.approx(-20 * math.exp(-tail), rel=1e-12)
    assert reference.activate("sigmoid", 0.0, -100.0) == pytest.approx(math.exp(-100), rel=1e-13)
    assert reference.activate("softplus", 0.0, -100.0) == pytest.approx(math.exp(-100), rel=1e-13)


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^activation: expected one of .* got 'rleu'$"):
        reference.activate("rleu", 0.0, 1.0)
    with pytest.raises(ValueError, match=r"^activation: expected a finite alpha of at least 0"):
        reference.activate_derivative("elu", -1.0, 1.0)
