"""Models in files, with these layers in place of the stock ones; files of Keras 2 included."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import keras

from depthwise.keras.layers import DepthwiseConv1D, DepthwiseConv2D, SeparableConv1D, SeparableConv2D

__all__ = ["load_model"]

_LAYERS: Final = {
    layer.__name__: layer for layer in (DepthwiseConv1D, DepthwiseConv2D, SeparableConv1D, SeparableConv2D)
}
# Names under which Keras 2 saved these layers as well.
_ALIASES: Final = {
    "SeparableConvolution1D": "SeparableConv1D",
    "SeparableConvolution2D": "SeparableConv2D",
}
_CUSTOM_OBJECTS: Final = {**_LAYERS, **{alias: _LAYERS[name] for alias, name in _ALIASES.items()}}


def load_model(
    filepath: str | Path,
    custom_objects: Mapping[str, Any] | None = None,
    compile: bool = True,  # noqa: A002  # Keras's name
    safe_mode: bool = True,
) -> Any:
    """`keras.models.load_model`, with this package's layers where the file has Keras's depthwise and separable ones.

    It reads `.keras` and `.h5` files written by Keras 3 and by Keras 2 (tf.keras), whose depthwise layers Keras 3
    refuses for their key `groups`.

    Args:
        filepath: the file.
        custom_objects: classes and functions by the names that the file has for them.
        compile: whether to compile the model as it was when it was saved.
        safe_mode: whether to refuse lambdas.

    Returns:
        The model.

    Raises:
        ValueError, TypeError: as `keras.models.load_model`.
    """
    objects = {**_CUSTOM_OBJECTS, **(custom_objects or {})}
    path = Path(filepath)
    if not zipfile.is_zipfile(path):
        return keras.models.load_model(filepath, objects, compile=compile, safe_mode=safe_mode)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "model.keras"
        with zipfile.ZipFile(path) as source, zipfile.ZipFile(copy, "w") as target:
            for name in source.namelist():
                content = source.read(name)
                if name == "config.json":
                    content = json.dumps(_modern(json.loads(content))).encode()
                target.writestr(name, content)
        return keras.models.load_model(copy, objects, compile=compile, safe_mode=safe_mode)


def _modern(config: Any) -> Any:
    """A serialised model in today's terms: modules that moved, and our layers for the stock ones."""
    if isinstance(config, list):
        return [_modern(item) for item in config]
    if not isinstance(config, dict):
        return config
    result = {key: _modern(value) for key, value in config.items()}
    if "class_name" not in result or not isinstance(result.get("module"), str):
        return result
    module, name = result["module"], result["class_name"]
    if module == "keras.layers" and name in _CUSTOM_OBJECTS:
        layer = _CUSTOM_OBJECTS[name]
        result.update(
            module="depthwise.keras.layers",
            class_name=layer.__name__,
            registered_name=keras.saving.get_registered_name(layer),
        )
    elif name == "BatchNormalization" and isinstance(axis := result["config"].get("axis"), list):
        (result["config"]["axis"],) = axis  # Keras 2 has a list of one
    elif name == "Functional" and module.endswith("engine.functional"):
        result.update(module="keras.src.models.functional", registered_name="Functional")
    return result
