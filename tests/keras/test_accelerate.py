"""accelerate on Keras models: what it replaces, folds, keeps and leaves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import depthwise
from depthwise.keras import DepthwiseConv2D, SeparableConv2D
from depthwise.keras.layers import GroupedConv2D

BACKEND = keras.backend.backend()
TRAINS = BACKEND != "numpy"
APPLICATIONS = {
    "MobileNet": (32, 13),
    "MobileNetV2": (32, 17),
    "MobileNetV3Small": (32, 11),
    "MobileNetV3Large": (32, 15),
    "EfficientNetB0": (32, 16),
    "EfficientNetV2B0": (32, 16),
    "Xception": (71, 34),
    "NASNetMobile": (32, 160),
    "ConvNeXtTiny": (32, 18),
}


def images(size: int, batch: int = 2, channels: int = 3) -> Any:
    return np.random.default_rng(0).uniform(0, 1, (batch, size, size, channels)).astype(np.float32)


def predict(model: Any, x: Any) -> Any:
    return keras.ops.convert_to_numpy(model(x, training=False))


def accelerate(model: Any, **options: Any) -> tuple[Any, dict[str, list[depthwise.Replacement]]]:
    """The model, and what was done by action."""
    report: list[depthwise.Replacement] = []
    result = depthwise.accelerate(model, report=report.extend, **options)
    actions = ("replaced", "folded", "left")
    return result, {action: [r for r in report if r.action == action] for action in actions}


def randomise_normalization(model: Any) -> None:
    """Statistics as training leaves them: with those of a new model a wrong fold would go unseen."""
    rng = np.random.default_rng(1)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            weights = layer.get_weights()
            *affine, mean, variance = weights
            affine = [rng.uniform(0.5, 1.5, w.shape) for w in affine]
            layer.set_weights(
                [*affine, rng.uniform(-0.2, 0.2, mean.shape), rng.uniform(0.5, 1.5, variance.shape)]
            )


def block(x: Any, name: str, activation: Any = "relu6", **options: Any) -> Any:
    x = keras.layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"{name}_dw", **options)(x)
    x = keras.layers.BatchNormalization(name=f"{name}_bn")(x)
    return keras.layers.Activation(activation, name=f"{name}_act")(x)


def small_model() -> Any:
    inputs = keras.Input((8, 8, 4))
    x = block(inputs, "a")
    x = keras.layers.Conv2D(6, 1)(x)
    x = keras.layers.SeparableConv2D(8, 3, name="separable")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    randomise_normalization(model)
    return model


# All of them on one backend; what differs between backends is the op. JAX compiles every operation of a network.
@pytest.mark.parametrize(
    "name",
    {"tensorflow": list(APPLICATIONS), "jax": ["MobileNet"]}.get(BACKEND, ["MobileNetV2", "ConvNeXtTiny"]),
)
@pytest.mark.filterwarnings(
    "ignore:invalid value encountered:RuntimeWarning"
)  # in Keras's inference of shapes
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_applications_compute_the_same(name: str) -> None:
    size, layers = APPLICATIONS[name]
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=5)
    randomise_normalization(model)
    x = images(size)
    expected = predict(model, x)
    weights = [id(w) for w in model.weights]

    accelerated, report = accelerate(model)
    assert accelerated is model
    assert len(report["replaced"]) == layers
    assert not report["left"]
    assert [id(w) for w in model.weights] == weights
    np.testing.assert_allclose(predict(model, x), expected, rtol=1e-4, atol=1e-6)

    folded, report = accelerate(model, inference=True)
    assert not report["replaced"]
    np.testing.assert_allclose(predict(folded, x), expected, rtol=1e-3, atol=1e-5)
    assert len(folded.layers) == len(model.layers) - len(report["folded"])


def test_prints_what_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    depthwise.accelerate(small_model())
    printed = capsys.readouterr().out
    assert printed.splitlines() == [
        "depthwise.accelerate: 2 replaced",
        "  replaced  a_dw",
        "  replaced  separable",
    ]


def test_keeps_names_trainability_and_variables() -> None:
    model = small_model()
    layer = model.get_layer("a_dw")
    layer.trainable = False
    before = [w.path for w in model.weights], [w.path for w in model.trainable_weights]
    accelerate(model)
    assert model.get_layer("a_dw") is layer
    assert type(layer) is DepthwiseConv2D
    assert type(model.get_layer("separable")) is SeparableConv2D
    assert not layer.trainable
    assert ([w.path for w in model.weights], [w.path for w in model.trainable_weights]) == before


def test_nested_and_shared_layers_are_replaced_once() -> None:
    shared = keras.layers.DepthwiseConv2D(3, padding="same", name="shared")
    inner_input = keras.Input((8, 8, 4))
    inner = keras.Model(inner_input, shared(inner_input), name="inner")
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, keras.layers.Add()([inner(inputs), shared(inputs)]))
    x = images(8, channels=4)
    expected = predict(model, x)
    _, report = accelerate(model)
    assert [r.name for r in report["replaced"]] in (["inner/shared"], ["shared"])
    np.testing.assert_allclose(predict(model, x), expected, rtol=1e-5, atol=1e-6)


def test_layers_in_attributes_and_wrappers_are_replaced() -> None:
    class Block(keras.layers.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(name="block")
            self.convolution = keras.layers.DepthwiseConv2D(3, name="dw")

        def call(self, x: Any) -> Any:
            return self.convolution(x)

    class Network(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.block = Block()
            self.frames = keras.layers.TimeDistributed(
                keras.layers.DepthwiseConv2D(3, name="inside"), name="frames"
            )

        def call(self, x: Any) -> Any:
            return self.frames(keras.ops.expand_dims(self.block(x), 1))

    model, x = Network(), images(8, channels=4)
    expected = predict(model, x)
    _, report = accelerate(model)
    assert {r.name for r in report["replaced"]} == {"block/dw", "frames/inside"}
    np.testing.assert_allclose(predict(model, x), expected, rtol=1e-5, atol=1e-6)


def test_a_layer_alone_is_replaced() -> None:
    layer = keras.layers.DepthwiseConv2D(3, name="alone")
    _, report = accelerate(layer)
    assert report["replaced"] == [depthwise.Replacement("alone", "replaced")]
    assert type(layer) is DepthwiseConv2D


def test_grouped_convolutions_of_one_channel_each_are_replaced() -> None:
    model = keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            keras.layers.Conv2D(8, 3, groups=4, name="depthwise", activation="gelu"),
            keras.layers.Conv2D(8, 3, groups=2, name="grouped"),
            keras.layers.Conv2D(8, 3, name="ordinary"),
        ]
    )
    x = images(8, channels=4)
    reference = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, activation="gelu")
    reference.build((None, 8, 8, 4))
    kernel, bias = model.get_layer("depthwise").get_weights()
    reference.set_weights([kernel.reshape(3, 3, 4, 2), bias])
    _, report = accelerate(model)
    assert [r.name for r in report["replaced"]] == ["depthwise"]
    assert report["left"] == [
        depthwise.Replacement("grouped", "left", "2 groups of 4 channels, not one each")
    ]
    layer = model.get_layer("depthwise")
    assert type(layer) is GroupedConv2D
    np.testing.assert_allclose(predict(layer, x), predict(reference, x), rtol=1e-5, atol=1e-6)


def test_subclasses_are_left_and_reported() -> None:
    class Mine(keras.layers.DepthwiseConv2D):  # type: ignore[misc]
        pass

    model = keras.Sequential([keras.Input((8, 8, 4)), Mine(3, name="mine")])
    _, report = accelerate(model)
    assert report["left"] == [
        depthwise.Replacement(
            "mine", "left", "Mine is a subclass of DepthwiseConv2D and may compute something else"
        )
    ]


def test_what_is_already_ours_is_not_mentioned() -> None:
    model = keras.Sequential([keras.Input((8, 8, 4)), DepthwiseConv2D(3)])
    _, report = accelerate(model)
    assert not any(report.values())


@pytest.mark.skipif(not TRAINS, reason="this backend does not train")
def test_training_goes_on_as_it_would_have() -> None:
    x, y = images(8, batch=4, channels=4), np.zeros((4, 3), np.float32)
    losses = []
    for accelerated in (False, True):
        keras.utils.set_random_seed(0)
        model = small_model()
        model.compile(keras.optimizers.SGD(0.1), "mse")
        model.fit(x, y, epochs=1, batch_size=4, verbose=0)
        if accelerated:
            accelerate(model)  # in the middle: the optimizer's state stays valid
        losses.append(model.fit(x, y, epochs=3, batch_size=4, verbose=0).history["loss"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


def test_an_accelerated_model_saves_and_loads(tmp_path: Path) -> None:
    model = small_model()
    accelerate(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.get_layer("a_dw")) is DepthwiseConv2D
    x = images(8, channels=4)
    np.testing.assert_array_equal(predict(loaded, x), predict(model, x))


FOLDED: dict[str, tuple[Any, list[str]]] = {
    "normalization and activation": (block, ["{}_bn", "{}_act"]),
    "channels with several filters": (
        lambda x, name: block(x, name, depth_multiplier=2),
        ["{}_bn", "{}_act"],
    ),
    "activation only": (
        lambda x, name: keras.layers.ReLU(6.0, name=f"{name}_act")(keras.layers.DepthwiseConv2D(3)(x)),
        ["{}_act"],
    ),
    "leaky relu": (
        lambda x, name: keras.layers.LeakyReLU(0.1, name=f"{name}_act")(keras.layers.DepthwiseConv2D(3)(x)),
        ["{}_act"],
    ),
    "normalization without gamma and beta, after a bias": (
        lambda x, name: keras.layers.BatchNormalization(center=False, scale=False, name=f"{name}_bn")(
            keras.layers.DepthwiseConv2D(3, bias_initializer="random_normal")(x)
        ),
        ["{}_bn"],
    ),
    "a separable layer's normalization": (
        lambda x, name: keras.layers.BatchNormalization(name=f"{name}_bn")(
            keras.layers.SeparableConv2D(5, 3)(x)
        ),
        ["{}_bn"],
    ),
}


@pytest.mark.parametrize("what", FOLDED)
@pytest.mark.parametrize("sequential", [False, True])
def test_inference_folds(what: str, sequential: bool) -> None:
    build, names = FOLDED[what]
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, build(inputs, "x"))
    if sequential:
        model = keras.Sequential([inputs, *model.layers[1:]])
    randomise_normalization(model)
    x = images(8, channels=4) - 0.5
    expected = predict(model, x)
    folded, report = accelerate(model, inference=True)
    assert [r.name for r in report["folded"]] == [name.format("x") for name in names]
    assert len(folded.layers) == len(model.layers) - len(names)
    np.testing.assert_allclose(predict(folded, x), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(predict(model, x), expected, rtol=1e-4, atol=1e-5)  # which is still whole


def test_inference_folds_in_nested_models() -> None:
    inner_input = keras.Input((8, 8, 4))
    inner = keras.Model(inner_input, block(inner_input, "x"), name="inner")
    model = keras.Sequential([keras.Input((8, 8, 4)), inner, keras.layers.GlobalAveragePooling2D()])
    randomise_normalization(model)
    x = images(8, channels=4)
    expected = predict(model, x)
    folded, report = accelerate(model, inference=True)
    assert [r.name for r in report["folded"]] == ["inner/x_bn", "inner/x_act"]
    np.testing.assert_allclose(predict(folded, x), expected, rtol=1e-4, atol=1e-5)


def read_twice(x: Any) -> Any:
    y = keras.layers.DepthwiseConv2D(3, padding="same")(x)
    return keras.layers.Add()([y, keras.layers.BatchNormalization()(y)])


def used_twice(x: Any) -> Any:
    layer, normalization = keras.layers.DepthwiseConv2D(3, padding="same"), keras.layers.BatchNormalization()
    return normalization(layer(layer(x)))


NOT_FOLDED: dict[str, Any] = {
    "what another layer reads": read_twice,
    "a layer used twice": used_twice,
    "a normalization over another axis": lambda x: keras.layers.BatchNormalization(axis=1)(
        keras.layers.DepthwiseConv2D(3)(x)
    ),
    "a normalization after an activation": lambda x: keras.layers.BatchNormalization()(
        keras.layers.DepthwiseConv2D(3, activation="relu")(x)
    ),
    "an activation that is not in the table": lambda x: keras.layers.Activation("softmax")(
        keras.layers.DepthwiseConv2D(3)(x)
    ),
}
if BACKEND != "jax":  # which has float64 only where it was told to
    NOT_FOLDED["layers of another dtype"] = lambda x: keras.layers.Activation("relu", dtype="float64")(
        keras.layers.BatchNormalization(dtype="float64")(keras.layers.DepthwiseConv2D(3)(x))
    )


@pytest.mark.parametrize("what", NOT_FOLDED)
def test_inference_leaves(what: str) -> None:
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, NOT_FOLDED[what](inputs))
    randomise_normalization(model)
    x = images(8, channels=4)
    expected = predict(model, x)
    folded, report = accelerate(model, inference=True)
    assert not report["folded"]
    np.testing.assert_allclose(predict(folded, x), expected, rtol=1e-4, atol=1e-5)


def test_inference_leaves_subclasses_of_our_layers() -> None:
    class Standardised(DepthwiseConv2D):
        def convolution_op(self, inputs: Any, kernel: Any) -> Any:
            deviation = keras.ops.std(kernel, axis=(0, 1), keepdims=True)
            return super().convolution_op(inputs, kernel / deviation)

    layers = [Standardised(3, name="mine"), keras.layers.BatchNormalization()]
    model = keras.Sequential([keras.Input((8, 8, 4)), *layers])
    randomise_normalization(model)
    x = images(8, channels=4)
    expected = predict(model, x)
    folded, report = accelerate(model, inference=True)
    reason = "Standardised is a subclass and may compute something else: nothing folded"
    assert report == {
        "replaced": [],
        "folded": [],
        "left": [depthwise.Replacement("mine", "left", reason)],
    }
    np.testing.assert_allclose(predict(folded, x), expected, rtol=1e-4, atol=1e-5)


def test_inference_says_that_it_cannot_look_into_a_subclassed_model() -> None:
    class Network(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(name="network")
            self.convolution = keras.layers.DepthwiseConv2D(3, name="dw")

        def call(self, x: Any) -> Any:
            return self.convolution(x)

    model = Network()
    predict(model, images(8, channels=4))
    _, report = accelerate(model, inference=True)
    (left,) = report["left"]
    assert left.name == "network"
    assert left.reason.startswith("nothing folded: no built Sequential or functional model")


@pytest.mark.parametrize("model", [None, "model", lambda x: x])
def test_other_models_are_refused(model: object) -> None:
    with pytest.raises(
        TypeError, match=r"^model: expected a Keras model or layer or a torch.nn.Module, got "
    ):
        depthwise.accelerate(model)


def test_a_backend_without_an_op_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model()
    monkeypatch.setattr(keras.backend, "backend", lambda: "openvino")
    with pytest.raises(NotImplementedError, match="got openvino"):
        depthwise.accelerate(model)
    assert type(model.get_layer("a_dw")) is keras.layers.DepthwiseConv2D


def test_report_is_a_sequence_of_replacements() -> None:
    seen: list[Sequence[depthwise.Replacement]] = []
    depthwise.accelerate(small_model(), report=seen.append)
    ((first, *_),) = seen
    assert first == depthwise.Replacement("a_dw", "replaced", "")
