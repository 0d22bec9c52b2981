"""Derivatives of any order, asked for in the ways that TensorFlow knows."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from depthwise import reference
from depthwise.activations import ACTIVATIONS
from depthwise.spec import Spec
from depthwise.tensorflow import depthwise_conv2d, gradients
from tests.tensorflow.support import random

SMOOTH = ("linear", "silu", "sigmoid", "tanh", "gelu", "gelu_tanh", "softplus")
OPTIONS: tuple[dict[str, Any], ...] = (
    {"padding": "same", "strides": (1, 2)},
    {
        "padding": ((0, 1), (2, 0)),
        "dilation_rate": (2, 1),
        "strides": (2, 1),
        "data_format": "channels_first",
    },
)


def inputs(options: dict[str, Any]) -> list[Any]:
    x = (1, 3, 4, 2) if options.get("data_format") != "channels_first" else (1, 2, 3, 4)
    return [random(*x, seed=1), random(2, 2, 2, 2, seed=2), random(4, seed=3)]


def gradient_of(function: Callable[..., Any], index: int) -> Callable[..., Any]:
    """The gradient, with respect to one argument, of a loss of what the function returns."""

    def run(*args: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(args[index])
            y = function(*args)
            loss = tf.reduce_sum(y * tf.sin(y))
        return tape.gradient(loss, args[index])

    return run


def check_gradient(function: Callable[..., Any], args: list[Any], what: str) -> None:
    for theoretical, numerical in zip(*tf.test.compute_gradient(function, args, delta=1e-4), strict=True):
        np.testing.assert_allclose(theoretical, numerical, rtol=1e-5, atol=1e-5, err_msg=what)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("options", OPTIONS, ids=("plain", "unusual"))
def test_first_order(activation: str, options: dict[str, Any]) -> None:
    check_gradient(
        lambda *args: depthwise_conv2d(*args, activation=activation, **options), inputs(options), activation
    )


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("options", OPTIONS, ids=("plain", "unusual"))
def test_second_order(activation: str, options: dict[str, Any]) -> None:
    def function(*args: Any) -> Any:
        return depthwise_conv2d(*args, activation=activation, **options)

    for index in range(3):
        graph = tf.function(gradient_of(function, index), autograph=False)
        check_gradient(graph, inputs(options), f"{activation}, gradient of argument {index}")


@pytest.mark.parametrize("activation", ["silu", "softplus"])
def test_third_order(activation: str) -> None:
    def function(*args: Any) -> Any:
        return depthwise_conv2d(*args, activation=activation)

    args = [random(1, 2, 3, 1, seed=1), random(2, 2, 1, 1, seed=2), random(1, seed=3)]
    for first, second in ((0, 0), (0, 1), (1, 1), (2, 0)):
        twice = gradient_of(gradient_of(function, first), second)
        check_gradient(tf.function(twice, autograph=False), args, f"{first} and {second}")


@pytest.mark.parametrize("activation", SMOOTH)
def test_the_second_order_is_the_same_eagerly(activation: str) -> None:
    args = inputs(OPTIONS[0])

    def function(*values: Any) -> Any:
        return depthwise_conv2d(*values, activation=activation, **OPTIONS[0])

    for first in range(3):
        twice = gradient_of(gradient_of(function, first), 1)
        np.testing.assert_allclose(twice(*args), tf.function(twice, autograph=False)(*args), rtol=1e-12)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_the_second_order_of_half_types_is_computed_in_float32(dtype: Any) -> None:
    """Where the slope of gelu_tanh's argument has left float16, its derivative has long become 0."""
    x, kernel = tf.fill((1, 1, 1, 1), tf.constant(800.0, dtype)), tf.ones((1, 1, 1, 1), dtype)
    with tf.GradientTape(persistent=True) as outer:
        outer.watch([x, kernel])
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = depthwise_conv2d(x, kernel, activation="gelu_tanh")
        once = inner.gradient(y, x)
    assert float(once[0, 0, 0, 0]) == 1.0
    assert float(outer.gradient(once, x)[0, 0, 0, 0]) == 0.0
    assert float(outer.gradient(once, kernel)[0, 0, 0, 0]) == 1.0


def test_without_a_bias() -> None:
    x, kernel, _ = inputs(OPTIONS[0])
    for activation in ("linear", "relu", "gelu"):

        def function(*args: Any, activation: str = activation) -> Any:
            return depthwise_conv2d(*args, activation=activation)

        check_gradient(function, [x, kernel], activation)
        for index in range(2):
            check_gradient(gradient_of(function, index), [x, kernel], activation)


def test_a_persistent_tape() -> None:
    x, kernel, bias = inputs(OPTIONS[0])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, kernel, bias])
        y = depthwise_conv2d(x, kernel, bias, activation="silu")
        total = tf.reduce_sum(y)
    once = tape.gradient(total, [x, kernel, bias])
    apart = [tape.gradient(total, argument) for argument in (x, kernel, bias)]
    for a, b in zip(once, apart, strict=True):
        np.testing.assert_array_equal(a, b)


def test_inside_a_custom_gradient() -> None:
    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def doubled(x: Any, kernel: Any) -> Any:
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([x, kernel])
            y = depthwise_conv2d(x, kernel, activation="gelu")
        return y, lambda dy: tape.gradient(y, [x, kernel], output_gradients=2.0 * dy)

    x, kernel, _ = inputs(OPTIONS[0])
    for wrap in (lambda f: f, tf.function):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([x, kernel])
            plain = depthwise_conv2d(x, kernel, activation="gelu")
            twofold = wrap(doubled)(x, kernel)
        expected = tape.gradient(plain, [x, kernel])
        for actual, value in zip(tape.gradient(twofold, [x, kernel]), expected, strict=True):
            np.testing.assert_allclose(actual, 2.0 * value, rtol=1e-12)


def test_recomputed_in_the_backward_pass() -> None:
    x, kernel, _ = inputs(OPTIONS[0])

    def function(*args: Any) -> Any:
        return depthwise_conv2d(*args, activation="silu")

    check_gradient(tf.function(tf.recompute_grad(function)), [x, kernel], "recompute_grad")


def test_forward_mode_and_products_with_the_hessian() -> None:
    x, kernel, bias = inputs(OPTIONS[0])
    direction = random(*x.shape, seed=9)

    def value(x: Any) -> Any:
        return depthwise_conv2d(x, kernel, bias, activation="silu")

    def gradient(x: Any) -> Any:
        return gradient_of(value, 0)(x)

    step = 1e-5
    for function in (value, gradient):
        with tf.autodiff.ForwardAccumulator(x, direction) as accumulator:
            result = function(x)
        numerical = (function(x + step * direction) - function(x - step * direction)) / (2 * step)
        np.testing.assert_allclose(accumulator.jvp(result), numerical, atol=1e-7)


def test_jacobians() -> None:
    x, kernel = random(1, 3, 3, 1), random(2, 2, 1, 1, seed=1)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        y = depthwise_conv2d(x, kernel, activation="tanh")
    _, expected = tf.test.compute_gradient(lambda k: depthwise_conv2d(x, k, activation="tanh"), [kernel])
    jacobian = tape.jacobian(y, kernel)
    np.testing.assert_allclose(tf.reshape(jacobian, (4, 4)), expected[0], atol=1e-6)


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_loops_and_branches(activation: str) -> None:
    x, kernel = random(1, 4, 4, 1, seed=1), random(3, 3, 1, 1, seed=2)

    def layer(x: Any, kernel: Any) -> Any:
        return depthwise_conv2d(x, kernel, padding="same", activation=activation)

    def unrolled(x: Any, kernel: Any) -> Any:
        return layer(layer(layer(x, kernel), kernel), kernel)

    def loop(x: Any, kernel: Any) -> Any:
        return tf.while_loop(
            lambda i, _: i < 3, lambda i, h: (i + 1, layer(h, kernel)), (0, x), maximum_iterations=3
        )[1]

    def branch(x: Any, kernel: Any) -> Any:
        return tf.cond(tf.reduce_sum(x) < 1e9, lambda: unrolled(x, kernel), lambda: x)

    for index in range(2):
        expected = gradient_of(unrolled, index)(x, kernel)
        for function in (loop, branch):
            inside = tf.function(gradient_of(function, index))
            outside = gradient_of(tf.function(function), index)
            for actual in (inside(x, kernel), outside(x, kernel)):
                np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_mixed_precision() -> None:
    """Weights in float32, the layer in a half type: gradients come back in float32."""
    x, kernel = random(1, 6, 6, 3, dtype=tf.float32), tf.Variable(random(3, 3, 3, 1, dtype=tf.float32))
    spec = Spec(3, padding="same", activation="relu", use_bias=False)
    y = reference.depthwise_conv2d(x.numpy(), kernel.numpy(), None, spec)
    _, expected, _ = reference.depthwise_conv2d_vjp(x.numpy(), kernel.numpy(), None, np.ones_like(y), spec)
    for dtype in (tf.float16, tf.bfloat16):
        with tf.GradientTape() as tape:
            half = depthwise_conv2d(
                tf.cast(x, dtype), tf.cast(kernel, dtype), padding="same", activation="relu"
            )
            assert half.dtype == dtype
            total = tf.reduce_sum(tf.cast(half, tf.float32))
        gradient = tape.gradient(total, kernel)
        assert gradient.dtype == tf.float32
        np.testing.assert_allclose(gradient, expected, rtol=0.05, atol=0.3)


def forbidden(*_: Any) -> Any:
    raise AssertionError("a gradient that nobody asked for")


def test_a_frozen_kernel_costs_no_gradient_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    x, kernel, bias = inputs(OPTIONS[0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = depthwise_conv2d(x, kernel, bias, activation="relu")
    monkeypatch.setattr(gradients, "kernel_gradient", forbidden)
    assert tape.gradient(y, x).shape == x.shape
    monkeypatch.undo()
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        y = depthwise_conv2d(x, kernel, bias, activation="relu")
    monkeypatch.setattr(gradients, "input_gradient", forbidden)
    assert tape.gradient(y, kernel).shape == kernel.shape


@pytest.mark.parametrize(
    ("wanted", "run"), [(0, "Depthwise>Conv2dInputGradient"), (1, "Depthwise>Conv2dKernelGradient")]
)
def test_a_frozen_kernel_costs_no_gradient_in_a_graph(wanted: int, run: str) -> None:
    values = [value.numpy() for value in inputs(OPTIONS[0])]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        args = [tf.compat.v1.placeholder(tf.float64, value.shape) for value in values]
        y = depthwise_conv2d(*args, activation="relu")
        gradient = tf.compat.v1.gradients(y, args)[wanted]
        trace = tf.compat.v1.RunMetadata()
        session.run(
            gradient,
            dict(zip(args, values, strict=True)),
            options=tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE),
            run_metadata=trace,
        )
        labels = [node.timeline_label for device in trace.step_stats.dev_stats for node in device.node_stats]
    ops = [name for label in labels for name in re.findall(r"= (Depthwise>\w+)\(", label)]
    assert sorted(ops) == ["Depthwise>Conv2d", run]


def test_a_training_step_runs_one_op_for_all_gradients() -> None:
    x, kernel, bias = inputs(OPTIONS[0])

    @tf.function  # type: ignore[untyped-decorator]
    def step(x: Any, kernel: Any, bias: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([x, kernel, bias])
            y = depthwise_conv2d(x, kernel, bias, activation="relu")
        return tape.gradient(y, [x, kernel, bias])

    nodes = step.get_concrete_function(x, kernel, bias).graph.get_operations()
    ops = [node for node in nodes if node.type.startswith("Depthwise>")]
    assert [node.type for node in ops] == ["Depthwise>Conv2d", "Depthwise>Conv2dGradients"]
    assert [output.shape for output in ops[1].outputs] == [x.shape, kernel.shape, bias.shape]


def test_inference_keeps_nothing_for_gradients() -> None:
    x, kernel, _ = inputs(OPTIONS[0])

    @tf.function  # type: ignore[untyped-decorator]
    def layer(x: Any, kernel: Any) -> Any:
        return depthwise_conv2d(x, kernel, activation="silu")

    @tf.function  # type: ignore[untyped-decorator]
    def training(x: Any, kernel: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            y = depthwise_conv2d(x, kernel, activation="silu")
        return tape.gradient(y, kernel)

    for function, keeps in ((layer, False), (training, True)):
        concrete = function.get_concrete_function(x, kernel)
        (node,) = (op for op in concrete.graph.get_operations() if op.type == "Depthwise>Conv2d")
        assert node.get_attr("keep_preactivation") is keeps
