"""Puts this package's layers into a network of `keras.applications` and compares it with what it was.

KERAS_BACKEND=torch python examples/accelerate_keras.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import keras
import numpy as np
from rich.progress import track
from skimage.data import astronaut

import depthwise

SIZE, BATCH = 96, 16


def crops(seed: int) -> Any:
    """(16, 96, 96, 3): crops of a photograph, and their classes, in which a network would be trained."""
    random, photograph = np.random.default_rng(seed), astronaut()
    corners = random.integers(0, 512 - SIZE, (BATCH, 2))
    images = np.stack([photograph[y : y + SIZE, x : x + SIZE] for y, x in corners])
    return keras.applications.mobilenet_v2.preprocess_input(images.astype("float32")), random.integers(
        0, 10, BATCH
    )


def calibrate(model: Any, images: Any) -> None:
    """Gives all batch normalizations the statistics of these images: untrained ones let nothing through."""
    normalizations = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in normalizations]
    for layer in normalizations:
        layer.momentum = 0.0
    model(images, training=True)
    for layer, momentum in zip(normalizations, momenta, strict=True):
        layer.momentum = momentum


def milliseconds(run: Any, repeats: int, what: str) -> float:
    """The median time of a call, after three calls that compile and warm up."""
    times = []
    for turn in track(range(repeats + 3), description=what):
        begin = time.perf_counter()
        run()
        if turn >= 3:
            times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


def main() -> None:
    """Accelerates MobileNetV2, and prints how far its output moved and what it takes before and after."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=10, help="timed calls (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the weights and the crops (default: %(default)s)"
    )
    options = parser.parse_args()

    keras.utils.set_random_seed(options.seed)
    images, classes = crops(options.seed)
    # weights=None needs no download; with "imagenet" the same happens to trained weights.
    model = keras.applications.MobileNetV2(
        weights=None, input_shape=(SIZE, SIZE, 3), classes=10, classifier_activation=None
    )
    calibrate(model, images)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    def times(variant: str) -> tuple[float, float]:
        inference = milliseconds(
            lambda: model.predict_on_batch(images), options.repeats, f"{variant}: inference"
        )
        training = milliseconds(
            lambda: model.train_on_batch(images, classes), options.repeats, f"{variant}: training "
        )
        return inference, training

    stock = times("stock")
    expected = model.predict_on_batch(images)
    depthwise.accelerate(model)
    difference = np.abs(model.predict_on_batch(images) - expected).max()
    accelerated = times("accelerated")

    print(f"\nMobileNetV2 on {keras.backend.backend()}, {BATCH} images of {SIZE}x{SIZE}:")
    print(f"outputs reach {np.abs(expected).max():.3g} and differ by at most {difference:.2g}")
    for what, before, after in zip(("inference", "training step"), stock, accelerated, strict=True):
        print(
            f"{what}: {before:.1f} ms stock, {after:.1f} ms accelerated, {before / after:.2f} times as fast"
        )


if __name__ == "__main__":
    main()
