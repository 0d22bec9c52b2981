"""Results are TensorFlow's own where it has the arguments, and the reference's where it does not."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from depthwise.tensorflow import depthwise_conv2d
from tests.cases import Case, evaluate_reference
from tests.tensorflow.support import MODES, tensors, value_and_gradients

PADDINGS: tuple[Any, ...] = ("valid", "same", ((1, 2), (0, 3)))
# TensorFlow wants equal strides, 1 with dilation, and channels last.
SUPPORTED = [
    Case((9, 11), kernel_size, 3, 2, multiplier, (s, s), padding, (d, d), bias=False)
    for kernel_size, multiplier, (s, d), padding in itertools.product(
        ((3, 3), (2, 5), (1, 1)), (1, 2), ((1, 1), (2, 1), (3, 1), (1, 2)), PADDINGS
    )
    if not (d > 1 and padding not in ("valid", "same"))
]
# And here it raises an error.
UNSUPPORTED = [
    Case((9, 11), (3, 3), 3, 2, data_format="channels_first", padding="same"),
    Case((9, 11), (3, 2), 3, 2, multiplier=2, strides=(1, 2)),
    Case((12, 11), (3, 3), 3, 2, strides=(2, 2), dilation_rate=(2, 2), padding="same"),
    Case((12, 11), (2, 3), 3, 2, strides=(3, 1), dilation_rate=(1, 2), padding=((0, 2), (3, 1))),
    Case((12, 11), (3, 3), 3, dilation_rate=(2, 3), padding=(2, 1), data_format="channels_first"),
]


@pytest.mark.parametrize("case", SUPPORTED, ids=range(len(SUPPORTED)))
def test_agrees_with_tensorflow(case: Case) -> None:
    arrays = case.reals("float64")
    padding = case.padding.upper() if isinstance(case.padding, str) else [(0, 0), *case.padding, (0, 0)]

    def theirs(x: Any, kernel: Any) -> Any:
        return tf.nn.depthwise_conv2d(x, kernel, (1, *case.strides, 1), padding, dilations=case.dilation_rate)

    def ours(x: Any, kernel: Any) -> Any:
        return depthwise_conv2d(x, kernel, **case.options)

    inputs = tensors(arrays)
    expected = value_and_gradients("eager", theirs, inputs, arrays.dy)
    actual = value_and_gradients("eager", ours, inputs, arrays.dy)
    for value, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", UNSUPPORTED, ids=range(len(UNSUPPORTED)))
def test_agrees_with_the_reference_where_tensorflow_gives_up(case: Case, mode: str) -> None:
    arrays = case.reals("float64")
    expected = evaluate_reference(case, arrays).parts()
    actual = value_and_gradients(
        mode, lambda *args: depthwise_conv2d(*args, **case.options), tensors(arrays), arrays.dy
    )
    for (name, value), tensor in zip(expected.items(), actual, strict=True):
        np.testing.assert_allclose(tensor, value, rtol=1e-10, atol=1e-12, err_msg=name)
