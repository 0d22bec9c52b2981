"""Calls that must fail do so while they are traced, in the words of the NumPy function."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import depthwise
from depthwise.jax import depthwise_conv2d
from tests.test_ops_errors import SPOILT, check_message, valid

Array = Any


def is_for_both(changes: dict[str, Any]) -> bool:
    return not changes.keys() & {"out", "colour"}


EVERY_SPOILT_CALL = pytest.mark.parametrize(
    ("changes", "error", "says"),
    [spoilt for spoilt in SPOILT if is_for_both(spoilt[0])],
    ids=[f"{next(iter(changes))}-{i}" for i, (changes, _, _) in enumerate(SPOILT) if is_for_both(changes)],
)


@EVERY_SPOILT_CALL
def test_what_is_wrong_with_a_call(changes: dict[str, Any], error: type[Exception], says: list[str]) -> None:
    spoilt = valid() | changes
    del spoilt["out"]
    with pytest.raises(error) as caught:
        depthwise_conv2d(**spoilt)
    assert type(caught.value) is error
    check_message(caught.value, says)
    with pytest.raises(error) as words:
        depthwise.depthwise_conv2d(**spoilt)
    if "expected an array" not in str(caught.value):  # JAX takes fewer things for arrays than NumPy does
        assert str(caught.value) == str(words.value)


def is_array_of_jax(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "fiub" and value.dtype.itemsize <= 8


@EVERY_SPOILT_CALL
def test_what_is_wrong_with_a_call_is_said_while_it_is_traced(
    changes: dict[str, Any], error: type[Exception], says: list[str]
) -> None:
    spoilt = valid() | changes
    del spoilt["out"]
    # What JAX takes for an array comes in as a tracer, the rest as it is.
    arrays = {name: spoilt.pop(name) for name in ("x", "kernel", "bias") if is_array_of_jax(spoilt[name])}

    def traced(arrays: dict[str, Array]) -> Array:
        return depthwise_conv2d(**arrays, **spoilt)

    with pytest.raises(error) as caught:
        jax.eval_shape(traced, arrays)
    check_message(caught.value, says)


def test_unknown_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="colour"):
        depthwise_conv2d(jnp.ones((1, 3, 3, 1)), jnp.ones((1, 1, 1, 1)), colour=3)  # type: ignore[call-arg]


def test_arguments_that_are_equal_but_of_another_type_are_told_apart() -> None:
    x, kernel = jnp.ones((1, 3, 3, 1)), jnp.ones((1, 1, 1, 1))
    depthwise_conv2d(x, kernel, strides=1, padding=1)
    for wrong in ({"strides": True}, {"strides": 1.0}, {"padding": True}, {"padding": 1.0}):
        with pytest.raises(TypeError):
            depthwise_conv2d(x, kernel, **wrong)
