"""Graphs: shapes that are known late, models on disk, data sets, replicas, XLA."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from depthwise.tensorflow import depthwise_conv2d
from tests.tensorflow.support import random


def spec(*shape: int | None) -> Any:
    return tf.TensorSpec(shape, tf.float32)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("unknown", ["sizes", "everything"])
def test_sizes_that_change_from_call_to_call(activation: str, unknown: str) -> None:
    options: dict[str, Any] = {"strides": (2, 1), "padding": "same", "activation": activation}
    signature = [tf.TensorSpec(None, tf.float32)] * 3
    if unknown == "sizes":
        signature = [spec(None, None, None, None), spec(None, None, None, None), spec(None)]

    def gradients(x: Any, kernel: Any, bias: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([x, kernel, bias])
            y = depthwise_conv2d(x, kernel, bias, **options)
        return [y, *tape.gradient(y, [x, kernel, bias])]

    function = tf.function(gradients, input_signature=signature)
    for size, kernel_size, channels, multiplier in (((8, 9), 3, 4, 1), ((5, 4), 2, 3, 2), ((1, 20), 1, 1, 1)):
        x = random(2, *size, channels, dtype=tf.float32)
        kernel = random(kernel_size, kernel_size, channels, multiplier, dtype=tf.float32)
        bias = random(channels * multiplier, dtype=tf.float32)
        for actual, expected in zip(function(x, kernel, bias), gradients(x, kernel, bias), strict=True):
            np.testing.assert_array_equal(actual, expected)
    assert function.experimental_get_tracing_count() == 1


STATIC: list[tuple[Any, Any, dict[str, Any], Any]] = [
    # the shapes of x and the kernel, the options, the shape of y
    ((2, 8, 9, 3), (3, 3, 3, 2), {}, [2, 6, 7, 6]),
    ((None, 8, 9, 3), (3, 3, 3, 2), {"padding": "same", "strides": (2, 1)}, [None, 4, 9, 6]),
    ((None, None, 9, 3), (3, 3, 3, 2), {}, [None, None, 7, 6]),
    ((None, None, None, None), (3, 3, 3, 2), {}, [None, None, None, 6]),
    ((None, 8, 9, 3), (None, None, None, 2), {}, [None, None, None, 6]),
    ((None, 8, 9, None), (3, None, None, None), {}, [None, 6, None, None]),
    ((5, None, 8, None), (3, 3, 4, 1), {"data_format": "channels_first"}, [5, 4, 6, None]),
    (None, (3, 3, 4, 1), {}, [None, None, None, 4]),
    ((2, 8, 9, 3), None, {}, [2, None, None, None]),
    (None, None, {}, [None, None, None, None]),
]


@pytest.mark.parametrize(("x", "kernel", "options", "y"), STATIC)
def test_static_shapes_say_all_that_is_known(x: Any, kernel: Any, options: Any, y: Any) -> None:
    function = tf.function(lambda x, kernel: depthwise_conv2d(x, kernel, **options))
    concrete = function.get_concrete_function(tf.TensorSpec(x, tf.float32), tf.TensorSpec(kernel, tf.float32))
    assert concrete.outputs[0].shape.as_list() == y


def test_gradients_have_the_static_shapes_of_their_arguments() -> None:
    def function(x: Any, kernel: Any, bias: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([x, kernel, bias])
            y = depthwise_conv2d(x, kernel, bias, activation="silu")
        return tape.gradient(y, [x, kernel, bias])

    shapes: list[Any] = [[None, None, 9, 3], [3, 3, 3, 2], [6]]
    concrete = tf.function(function).get_concrete_function(*(spec(*shape) for shape in shapes))
    assert [output.shape.as_list() for output in concrete.outputs] == shapes


def test_one_trace_serves_equal_shapes() -> None:
    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def layer(x: Any, kernel: Any) -> Any:
        return depthwise_conv2d(x, kernel, activation="relu")

    kernel = tf.ones((3, 3, 2, 1))
    for _ in range(3):
        layer(tf.ones((1, 5, 5, 2)), kernel)
    assert layer.experimental_get_tracing_count() == 1
    for size in range(6, 12):
        layer(tf.ones((1, size, size, 2)), kernel)
    assert layer.experimental_get_tracing_count() == 2


def test_a_saved_model_is_read_in_another_process(tmp_path: Path, python: Callable[..., str]) -> None:
    class Model(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(random(3, 3, 2, 2, dtype=tf.float32))

        @tf.function(input_signature=[spec(None, None, 8, 2)])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            return depthwise_conv2d(
                x, self.kernel, strides=(1, 2), padding=((1, 0), (0, 2)), activation="silu"
            )

    def results(model: Any, x: Any) -> list[Any]:
        with tf.GradientTape() as tape:
            y = model(x)
        return [y, tape.gradient(y, model.kernel)]

    model, x = Model(), random(2, 7, 8, 2, dtype=tf.float32, seed=1)
    expected = [value.numpy() for value in results(model, x)]
    np.savez(tmp_path / "arrays.npz", x, *expected)
    tf.saved_model.save(model, tmp_path / "model", signatures=model.__call__)
    program = f"""
import depthwise.tensorflow
import numpy as np
import tensorflow as tf
model = tf.saved_model.load({str(tmp_path / "model")!r})
x, y, dkernel = np.load({str(tmp_path / "arrays.npz")!r}).values()
with tf.GradientTape() as tape:
    actual = model(tf.constant(x))
assert np.array_equal(actual, y)
assert np.array_equal(tape.gradient(actual, model.kernel), dkernel)
serving = model.signatures["serving_default"]
assert np.array_equal(serving(tf.constant(x))["output_0"], y)
print(serving.structured_outputs["output_0"].shape)
"""
    assert python(program) == "(None, None, 4, 4)\n"


def test_an_optimised_graph_folds_a_layer_of_constants() -> None:
    """Which TensorFlow does for ops that it knows to have no effects but their outputs."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        y = depthwise_conv2d(tf.ones((1, 4, 4, 1)), tf.ones((3, 3, 1, 1))) + 1.0
        trace = tf.compat.v1.RunMetadata()
        options = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE)
        np.testing.assert_array_equal(
            session.run(y, options=options, run_metadata=trace), np.full((1, 2, 2, 1), 10.0)
        )
        labels = [node.timeline_label for device in trace.step_stats.dev_stats for node in device.node_stats]
    assert labels
    assert not any("= Depthwise>" in label for label in labels)


def test_elements_of_a_data_set() -> None:
    images, kernel = random(12, 6, 6, 2, dtype=tf.float32), random(3, 3, 2, 1, dtype=tf.float32)

    def layer(x: Any) -> Any:
        return depthwise_conv2d(x, kernel, padding="same", activation="gelu")

    data = tf.data.Dataset.from_tensor_slices(images).batch(5).map(layer, num_parallel_calls=2)
    assert data.element_spec.shape.as_list() == [None, 6, 6, 2]
    np.testing.assert_array_equal(tf.concat(list(data), 0), layer(images))


def test_replicas_on_two_logical_cpus(python: Callable[..., str]) -> None:
    program = """
import numpy as np
import tensorflow as tf
from depthwise.tensorflow import depthwise_conv2d
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
x = tf.constant(np.random.default_rng(0).standard_normal((4, 8, 8, 3)), tf.float32)
start = tf.constant(np.random.default_rng(1).standard_normal((3, 3, 3, 1)), tf.float32)
with strategy.scope():
    kernel = tf.Variable(start)

def gradient(x, kernel):
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        loss = tf.reduce_sum(depthwise_conv2d(x, kernel, activation="silu") ** 2)
    return loss, tape.gradient(loss, kernel)

@tf.function
def step(batch):
    def replica(part):
        loss, dkernel = gradient(part, kernel)
        total = tf.distribute.get_replica_context().all_reduce("sum", dkernel)
        kernel.assign_sub(0.01 * total)
        return loss
    return strategy.reduce("sum", strategy.run(replica, args=(batch,)), axis=None)

data = strategy.experimental_distribute_dataset(tf.data.Dataset.from_tensors(x).unbatch().batch(4))
(total,) = [step(batch) for batch in data]
loss, dkernel = gradient(x, start)
np.testing.assert_allclose(total, loss, rtol=1e-5)
for copy in strategy.experimental_local_results(kernel):
    np.testing.assert_allclose(copy, start - 0.01 * dkernel, rtol=1e-4, atol=1e-5)
print(len(strategy.experimental_local_results(kernel)))
"""
    assert python(program, env={"TF_CPP_MIN_LOG_LEVEL": "3"}) == "2\n"


def test_xla_says_that_it_cannot_compile_the_op() -> None:
    function = tf.function(lambda x: depthwise_conv2d(x, tf.ones((3, 3, 1, 1))), jit_compile=True)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"unsupported operations.*Depthwise>Conv2d"):
        function(tf.ones((1, 4, 4, 1)))


def test_a_graph_of_the_first_version_of_tensorflow() -> None:
    value, kernel = random(1, 5, 5, 2).numpy(), random(3, 3, 2, 1).numpy()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float64, (None, None, None, 2))
        y = depthwise_conv2d(x, tf.constant(kernel), activation="silu")
        (dx,) = tf.compat.v1.gradients(y, x)
        actual = session.run([y, dx], {x: value})
    with tf.GradientTape() as tape:
        x = tf.constant(value)
        tape.watch(x)
        y = depthwise_conv2d(x, kernel, activation="silu")
    np.testing.assert_array_equal(actual[0], y)
    np.testing.assert_array_equal(actual[1], tape.gradient(y, x))
