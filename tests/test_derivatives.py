"""The derivatives that frameworks differentiate again agree with the reference."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import erf

from depthwise import reference
from depthwise.activations import ACTIVATIONS, Activation
from depthwise.derivatives import Functions, scale_by_derivative

NUMPY = Functions(np.where, np.exp, np.tanh, erf, np.zeros_like)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_scales_by_the_derivative_of_what_was_saved(name: str) -> None:
    activation = Activation(name)
    z = np.concatenate([np.linspace(-9, 9, 181), [-3.0, 0.0, 3.0, 6.0, -800.0, 800.0]])
    dy = np.random.default_rng(0).standard_normal(z.shape)
    y = reference.activate(activation.name, activation.alpha, z)
    saved = z if activation.info.needs_preactivation else y
    expected = dy * reference.activate_derivative(activation.name, activation.alpha, z)
    actual = scale_by_derivative(activation, dy, saved, NUMPY)
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["relu", "relu6", "hard_swish", "hard_sigmoid"])
@pytest.mark.parametrize("dy", [np.inf, -np.inf, np.nan])
def test_nothing_comes_through_where_the_activation_is_flat(name: str, dy: float) -> None:
    activation = Activation(name)
    z = np.array([-9.0, -3.0] if name.startswith("hard") else [-9.0, 0.0])
    y = reference.activate(activation.name, activation.alpha, z)
    saved = z if activation.info.needs_preactivation else y
    actual = scale_by_derivative(activation, np.full(2, dy), saved, NUMPY)
    np.testing.assert_array_equal(actual, np.zeros(2))


def test_every_activation_has_one() -> None:
    from depthwise.derivatives import _DERIVATIVES

    assert set(_DERIVATIVES) == set(ACTIVATIONS) - {"linear"}
