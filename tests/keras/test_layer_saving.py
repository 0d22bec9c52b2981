"""Layers and models through configs and files of Keras 3."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from depthwise.keras import (
    DepthwiseConv1D,
    DepthwiseConv2D,
    SeparableConv1D,
    SeparableConv2D,
    load_model,
)
from depthwise.keras.layers import GroupedConv2D
from tests.keras.support import BACKEND, needs_training, normal, to_numpy

OURS = (DepthwiseConv1D, DepthwiseConv2D, SeparableConv1D, SeparableConv2D, GroupedConv2D)

# One layer each, with arguments that only these layers take among them.
LAYERS: list[tuple[Any, dict[str, Any]]] = [
    (DepthwiseConv2D, {"kernel_size": 3}),
    (
        DepthwiseConv2D,
        {
            "kernel_size": (3, 2),
            "strides": (1, 2),
            "padding": ((1, 0), (2, 3)),
            "depth_multiplier": 2,
            "data_format": "channels_first",
            "dilation_rate": (2, 1),
            "activation": "hard_silu",
            "use_bias": False,
            "depthwise_initializer": {"class_name": "RandomNormal", "config": {"stddev": 0.1, "seed": 3}},
            "depthwise_regularizer": "l2",
            "depthwise_constraint": "max_norm",
            "activity_regularizer": "l1",
            "strided_dilation": True,
            "dtype": "mixed_bfloat16",
            "trainable": False,
            "name": "everything",
        },
    ),
    (DepthwiseConv1D, {"kernel_size": 3, "padding": (2, 0), "activation": "tanh"}),
    (SeparableConv2D, {"filters": 5, "kernel_size": 3, "padding": 1, "strides": 2}),
    (SeparableConv1D, {"filters": 5, "kernel_size": 3, "padding": "same", "depth_multiplier": 2}),
    (GroupedConv2D, {"filters": 6, "kernel_size": 3, "groups": 3, "padding": "same"}),
]


@pytest.mark.parametrize(("layer", "arguments"), LAYERS, ids=range(len(LAYERS)))
def test_configs_return_through_json(layer: Any, arguments: dict[str, Any]) -> None:
    config = layer(**arguments).get_config()
    again = layer.from_config(json.loads(json.dumps(config)))
    assert again.get_config() == config
    assert (again.strides, again.padding) == (layer(**arguments).strides, layer(**arguments).padding)
    serialised = json.loads(json.dumps(keras.saving.serialize_keras_object(layer(**arguments))))
    revived = keras.saving.deserialize_keras_object(serialised)
    assert type(revived) is layer
    assert revived.get_config() | {"name": ""} == config | {"name": ""}


def test_strided_dilation_is_in_the_config_only_when_it_is_set() -> None:
    assert "strided_dilation" not in DepthwiseConv2D(3).get_config()
    assert DepthwiseConv2D(3, strided_dilation=True).get_config()["strided_dilation"] is True


def test_configs_of_layers_that_use_nothing_new_are_kerass() -> None:
    """So that Keras's own layer can be made from them."""
    config = DepthwiseConv2D(3, strides=2, padding="SAME", activation="relu6").get_config()
    assert config.keys() == keras.layers.DepthwiseConv2D(3).get_config().keys()
    assert keras.layers.DepthwiseConv2D.from_config(config).get_config() == config


def sequential() -> Any:
    """A model with all the layers."""
    return keras.Sequential(
        [
            keras.Input((16, 15, 3)),
            DepthwiseConv2D(3, (1, 2), ((1, 2), (0, 1)), 2, activation="silu", bias_initializer="ones"),
            GroupedConv2D(6, 3, groups=6),
            SeparableConv2D(4, 3, 2, activation=keras.layers.PReLU(shared_axes=[1, 2])),
            keras.layers.Reshape((-1, 4)),
            DepthwiseConv1D(3, padding=(2, 0), activation=keras.layers.LeakyReLU(0.1)),
            SeparableConv1D(2, 3, padding="same"),
            keras.layers.GlobalAveragePooling1D(),
        ]
    )


def functional() -> Any:
    inputs = keras.Input((None, None, 3))
    shared = DepthwiseConv2D(3, padding="same", name="shared")
    outputs = keras.layers.add([shared(inputs), shared(shared(inputs))])
    return keras.Model(inputs, SeparableConv2D(2, 3, name="last")(outputs))


MODELS = [sequential, functional]
X = normal(2, 16, 15, 3)


def randomise(model: Any) -> None:
    model.set_weights([normal(*weight.shape, seed=1) for weight in model.weights])


@pytest.mark.parametrize("make", MODELS)
def test_keras_files(tmp_path: Path, make: Any) -> None:
    model = make()
    randomise(model)
    model.save(tmp_path / "model.keras")
    for again in (keras.models.load_model(tmp_path / "model.keras"), load_model(tmp_path / "model.keras")):
        assert [type(layer) for layer in again.layers] == [type(layer) for layer in model.layers]
        np.testing.assert_array_equal(to_numpy(again(X)), to_numpy(model(X)))


@pytest.mark.parametrize("make", MODELS)
def test_weights_files(tmp_path: Path, make: Any) -> None:
    model, other = make(), make()
    randomise(model)
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    for old, new in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")
def test_h5_files(tmp_path: Path) -> None:
    model = functional()
    randomise(model)
    model.save(tmp_path / "model.h5")
    again = keras.models.load_model(tmp_path / "model.h5")
    np.testing.assert_array_equal(to_numpy(again(X)), to_numpy(model(X)))
    assert isinstance(again.get_layer("shared"), DepthwiseConv2D)


@pytest.mark.parametrize("make", MODELS)
def test_clones_and_json(make: Any) -> None:
    model = make()
    randomise(model)
    for again in (keras.models.clone_model(model), keras.models.model_from_json(model.to_json())):
        assert [type(layer) for layer in again.layers] == [type(layer) for layer in model.layers]
        again.set_weights(model.get_weights())
        np.testing.assert_array_equal(to_numpy(again(X)), to_numpy(model(X)))


@needs_training
def test_training_goes_on_after_loading(tmp_path: Path) -> None:
    """The optimizer's state is in the file, so that both take the same next step."""
    model = sequential()
    randomise(model)
    y = np.ones((2, 2), np.float32)
    model.compile(keras.optimizers.Adam(0.01), "mean_squared_error")
    model.fit(X, y, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    again = load_model(tmp_path / "model.keras")
    losses = [m.fit(X, y, epochs=2, verbose=0).history["loss"] for m in (model, again)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)


def stock_model() -> Any:
    """Keras's own layers, in the Keras model that has most of them in little space."""
    return keras.Sequential(
        [
            keras.Input((16, 15, 3)),
            keras.layers.DepthwiseConv2D(3, 2, "same", 2, activation="relu6", bias_initializer="ones"),
            keras.layers.SeparableConv2D(4, 3, padding="same", activation="silu"),
            keras.Sequential([keras.layers.TimeDistributed(keras.layers.DepthwiseConv1D(3))]),
            keras.layers.Reshape((-1, 4)),
            keras.layers.SeparableConv1D(2, 3, activation="selu"),
        ]
    )


def ours_in(model: Any) -> list[str]:
    return [type(layer).__name__ for layer in model._flatten_layers() if isinstance(layer, OURS)]


def test_load_model_puts_these_layers_where_a_file_has_kerass(tmp_path: Path) -> None:
    model = stock_model()
    randomise(model)
    model.save(tmp_path / "model.keras")
    assert not ours_in(keras.models.load_model(tmp_path / "model.keras"))
    again = load_model(tmp_path / "model.keras")
    assert sorted(ours_in(again)) == [
        "DepthwiseConv1D",
        "DepthwiseConv2D",
        "SeparableConv1D",
        "SeparableConv2D",
    ]
    np.testing.assert_allclose(to_numpy(again(X)), to_numpy(model(X)), rtol=1e-4, atol=1e-4)
    again.save(tmp_path / "again.keras")
    assert len(ours_in(keras.models.load_model(tmp_path / "again.keras"))) == 4


def test_load_model_takes_custom_objects(tmp_path: Path) -> None:
    class Doubled(DepthwiseConv2D):
        def convolution_op(self, inputs: Any, kernel: Any) -> Any:
            return super().convolution_op(inputs, 2 * kernel)

    model = keras.Sequential([keras.Input((6, 6, 3)), Doubled(3)])
    model.save(tmp_path / "model.keras")
    x = normal(1, 6, 6, 3)
    again = load_model(tmp_path / "model.keras", {"Doubled": Doubled})
    np.testing.assert_array_equal(to_numpy(again(x)), to_numpy(model(x)))


def test_load_model_refuses_what_keras_refuses(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.keras"):
        load_model(tmp_path / "nowhere.keras")
    (tmp_path / "broken.keras").write_bytes(b"PK\3\4 no archive")
    with pytest.raises((ValueError, OSError)):
        load_model(tmp_path / "broken.keras")
    inputs = keras.Input((4, 4, 3))
    keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1)(inputs)).save(tmp_path / "lambda.keras")
    with pytest.raises(ValueError, match=r"[Ll]ambda"):
        load_model(tmp_path / "lambda.keras")


def test_weights_go_between_kerass_layers_and_these(tmp_path: Path) -> None:
    options: dict[str, Any] = {"kernel_size": 3, "padding": "same", "depth_multiplier": 2}
    stock = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.DepthwiseConv2D(**options)])
    ours = keras.Sequential([keras.Input((8, 8, 3)), DepthwiseConv2D(**options)])
    randomise(stock)
    stock.save_weights(tmp_path / "stock.weights.h5")
    ours.load_weights(tmp_path / "stock.weights.h5")
    x = normal(1, 8, 8, 3)
    np.testing.assert_allclose(to_numpy(ours(x)), to_numpy(stock(x)), rtol=1e-5, atol=1e-5)
    randomise(ours)
    ours.save_weights(tmp_path / "ours.weights.h5")
    stock.load_weights(tmp_path / "ours.weights.h5")
    np.testing.assert_array_equal(stock.get_weights()[0], ours.get_weights()[0])


@pytest.mark.skipif(BACKEND != "torch", reason=f"{BACKEND} has no state_dict")
def test_the_state_dict_of_pytorch() -> None:
    model, other = functional(), functional()
    randomise(model)
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(to_numpy(other(X)), to_numpy(model(X)))
