"""Networks of `keras.applications`, on the backend that KERAS_BACKEND names when this module is imported."""

from __future__ import annotations

import importlib
from typing import Any

import keras
import numpy as np

import depthwise
from benchmarks.frameworks import Application

CLASSES = 10


class Network:
    """An application with random weights, compiled as Keras does by default, and a batch to run it on.

    Args:
        application: which one.
        accelerated: whether `depthwise.accelerate` is applied to it.
        seed: of weights, images and labels; the same seed gives the same, accelerated or not.
    """

    def __init__(self, application: Application, *, accelerated: bool, seed: int) -> None:
        keras.utils.set_random_seed(seed)
        shape = (application.size, application.size, 3)
        create = getattr(keras.applications, application.function)
        self.model = create(weights=None, input_shape=shape, classes=CLASSES)
        random = np.random.default_rng(seed)
        images = random.integers(0, 256, (application.batch, *shape)).astype(np.float32)
        module = importlib.import_module(f"keras.applications.{application.module}")
        self.images = module.preprocess_input(images)
        self.labels = random.integers(0, CLASSES, application.batch)
        self._calibrate()
        if accelerated:
            depthwise.accelerate(self.model, report=None)
        self.model.compile(optimizer=keras.optimizers.SGD(1e-3), loss="sparse_categorical_crossentropy")

    def _calibrate(self) -> None:
        """Gives all batch normalizations the statistics of the batch: untrained ones let nothing through."""
        layers = [layer for layer in self.model.layers if isinstance(layer, keras.layers.BatchNormalization)]
        momenta = [layer.momentum for layer in layers]
        for layer in layers:
            layer.momentum = 0.0
        self.model(self.images, training=True)
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum

    def inference(self) -> Any:
        """Class probabilities of the batch, as a NumPy array: Keras's predict function."""
        return self.model.predict_on_batch(self.images)

    def training(self) -> float:
        """One step of Keras's train function on the batch; its loss."""
        loss = self.model.train_on_batch(self.images, self.labels)
        return float(np.mean(loss))

    def first_step(self) -> tuple[float, list[float]]:
        """A step's loss, and what it did to each trainable variable, as the component along a random direction."""
        random = np.random.default_rng(0)
        before = [np.array(variable) for variable in self.model.trainable_variables]
        loss = self.training()
        changes = [
            np.array(now, np.float64) - then
            for now, then in zip(self.model.trainable_variables, before, strict=True)
        ]
        return loss, [float(np.vdot(change, random.standard_normal(change.shape))) for change in changes]


def versions() -> dict[str, str]:
    """Of Keras, its backend, this package and what it runs on."""
    backend = keras.backend.backend()
    found = {"keras": keras.__version__, backend: importlib.import_module(backend).__version__}
    information = depthwise.info()
    return found | {"depthwise": information.version, "isa": information.isa}
