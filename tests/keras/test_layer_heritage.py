"""Files and configs of Keras 2, which tf_keras is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from depthwise.keras import DepthwiseConv2D, SeparableConv2D, load_model
from tests.keras.support import needs_training, normal, to_numpy
from tests.keras.test_layer_saving import ours_in

pytest.importorskip("tf_keras", reason="tf_keras is not installed, which writes the files of Keras 2")

# Keras 3 says so of Keras 2's LeakyReLU and of its functional models.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Argument `alpha` is deprecated:UserWarning"),
    pytest.mark.filterwarnings(r"ignore:(.|\n)*The structure of `inputs` doesn't match:UserWarning"),
]

WRITE = """
import sys
import numpy as np
import tf_keras

folder, layers = sys.argv[1], tf_keras.layers
rng = np.random.default_rng(0)

def save(model, name):
    weights = [rng.normal(0, 0.5, weight.shape) for weight in model.weights]
    weights = [abs(w) if "variance" in v.name else w for w, v in zip(weights, model.weights)]
    model.set_weights(weights)
    x = rng.normal(size=(2, *model.input_shape[1:])).astype("float32")
    model.save(f"{folder}/{name}.h5")
    model.save(f"{folder}/{name}.keras")
    np.savez(f"{folder}/{name}.npz", x=x, y=model.predict(x, verbose=0))

image = layers.Input((16, 16, 3))
x = layers.DepthwiseConv2D(
    3, 2, "same", 2, activation="relu6", depthwise_regularizer="l2", depthwise_constraint="max_norm", name="first"
)(image)
x = layers.SeparableConv2D(5, 3, activation="swish")(x)
x = layers.DepthwiseConv2D((3, 2), dilation_rate=(2, 1), use_bias=False, activation=tf_keras.activations.gelu)(x)
x = layers.DepthwiseConv2D(1, activation=layers.LeakyReLU(0.1))(x)
x = layers.Reshape((-1, 5))(x)
x = layers.DepthwiseConv1D(3, activation="tanh")(x)
x = layers.SeparableConv1D(4, 3, padding="same")(x)
model = tf_keras.Model(image, x)
model.compile("adam", "mean_squared_error")
save(model, "functional")

model = tf_keras.Sequential([
    layers.Input((9, 9, 3)), layers.DepthwiseConv2D(3, dtype="mixed_float16"), layers.Dense(2, dtype="float32"),
])
save(model, "sequential")

save(tf_keras.applications.MobileNet(weights=None, alpha=0.25, input_shape=(32, 32, 3)), "mobilenet")
"""

OURS = {"functional": 6, "sequential": 1, "mobilenet": 13}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Keras 2 wrote, in a process of its own: three models in two formats, inputs and outputs."""
    path: Path = tmp_path_factory.mktemp("keras2")
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(path)],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return path


@pytest.mark.parametrize("suffix", ["h5", "keras"])
@pytest.mark.parametrize("name", OURS)
def test_models_predict_what_they_predicted_in_keras_2(folder: Path, name: str, suffix: str) -> None:
    model = load_model(folder / f"{name}.{suffix}", compile=False)
    assert len(ours_in(model)) == OURS[name]
    arrays = np.load(folder / f"{name}.npz")
    tolerance = 1e-2 if name == "sequential" else 1e-4
    y = model.predict(arrays["x"], verbose=0)
    np.testing.assert_allclose(y, arrays["y"], rtol=tolerance, atol=tolerance)


def test_arguments_of_layers_are_kept(folder: Path) -> None:
    layer = load_model(str(folder / "functional.keras"), compile=False).get_layer("first")
    assert (layer.strides, layer.padding, layer.depth_multiplier) == ((2, 2), "same", 2)
    assert isinstance(layer.depthwise_regularizer, keras.regularizers.L2)
    assert isinstance(layer.depthwise_constraint, keras.constraints.MaxNorm)
    half = load_model(folder / "sequential.h5", compile=False).layers[0]
    assert half.dtype_policy.name == "mixed_float16"


def test_a_model_is_saved_again_as_one_of_keras_3(folder: Path, tmp_path: Path) -> None:
    model = load_model(folder / "functional.h5", compile=False)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    x = np.load(folder / "functional.npz")["x"]
    np.testing.assert_array_equal(to_numpy(again(x)), to_numpy(model(x)))


@needs_training
def test_a_model_trains_on(folder: Path) -> None:
    model = load_model(folder / "functional.keras", compile=False)
    x = np.load(folder / "functional.npz")["x"]
    model.compile(keras.optimizers.Adam(0.01), "mean_squared_error")
    losses = model.fit(x, np.zeros((2, *model.output_shape[1:])), epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def keras_2_config(**changes: Any) -> dict[str, Any]:
    return {
        "name": "depthwise_conv2d",
        "trainable": True,
        "dtype": "float32",
        "kernel_size": (3, 3),
        "strides": (1, 1),
        "padding": "valid",
        "data_format": "channels_last",
        "dilation_rate": (1, 1),
        "groups": 1,
        "activation": "linear",
        "use_bias": True,
        "bias_initializer": {"class_name": "Zeros", "config": {}},
        "bias_regularizer": None,
        "activity_regularizer": None,
        "bias_constraint": None,
        "depth_multiplier": 2,
        "depthwise_initializer": {"class_name": "GlorotUniform", "config": {"seed": None}},
        "depthwise_regularizer": None,
        "depthwise_constraint": None,
        **changes,
    }


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dtype": {"class_name": "Policy", "config": {"name": "mixed_float16"}}},
        {
            "kernel_initializer": {"class_name": "GlorotUniform", "config": {"seed": None}},
            "kernel_constraint": None,
        },
        {"kernel_regularizer": None, "groups": None},
    ],
    ids=str,
)
def test_configs_of_keras_2_are_taken(changes: dict[str, Any]) -> None:
    layer = DepthwiseConv2D.from_config(keras_2_config(**changes))
    assert layer(normal(1, 5, 5, 3)).shape == (1, 3, 3, 6)
    assert layer.dtype_policy.name == ("mixed_float16" if "dtype" in changes else "float32")
    if not isinstance(changes.get("dtype"), dict):
        assert DepthwiseConv2D(**keras_2_config(**changes)).depth_multiplier == 2
    separable = SeparableConv2D.from_config({**keras_2_config(**changes), "filters": 4})
    assert separable(normal(1, 5, 5, 3)).shape == (1, 3, 3, 4)


def test_a_config_that_asks_for_groups_is_refused() -> None:
    with pytest.raises(
        ValueError, match="groups: expected 1, as Keras 2 writes it for a depthwise layer, got 3"
    ):
        DepthwiseConv2D.from_config(keras_2_config(groups=3))


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("kernel_regularizer", "l2"), ("kernel_constraint", "non_neg"), ("kernel_initializer", "he_normal")],
)
def test_a_keyword_that_would_be_ignored_is_refused(keyword: str, value: str) -> None:
    given: dict[str, Any] = {keyword: value}
    own = keyword.replace("kernel", "depthwise")
    message = f"^{keyword}: expected none for a depthwise layer, which has {own}, got '{value}'$"
    with pytest.raises(ValueError, match=message):
        DepthwiseConv2D(3, **given)
    with pytest.raises(ValueError, match=message):
        SeparableConv2D(4, 3, **given)
    layer = DepthwiseConv2D.from_config(keras_2_config(**{keyword: value}))  # as a file may have it
    assert layer.depthwise_regularizer is None


def test_a_config_is_left_as_it_was() -> None:
    config = keras_2_config()
    DepthwiseConv2D.from_config(config)
    assert config == keras_2_config()
