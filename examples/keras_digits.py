"""Trains a small MobileNet-style network on scikit-learn's handwritten digits, with Keras on any of its backends.

    KERAS_BACKEND=jax python examples/keras_digits.py

The network is that of a plain Keras program; the only difference is where `DepthwiseConv2D` comes from.
"""

from __future__ import annotations

import argparse
from typing import Any

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from depthwise.keras import DepthwiseConv2D


def normalized(x: Any) -> Any:
    """Batch normalization, with a memory that suits so short a training, and ReLU."""
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))


def network() -> Any:
    """MobileNet in small: a convolution, then blocks of a depthwise and a pointwise one; 8x8 images, 10 classes."""
    x = image = keras.Input((8, 8, 1))
    x = layers.Conv2D(16, 3, padding="same", use_bias=False)(x)
    x = normalized(x)
    for filters, stride in ((32, 1), (64, 2), (64, 1), (128, 1)):
        x = DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False)(x)
        x = normalized(x)
        x = layers.Conv2D(filters, 1, use_bias=False)(x)
        x = normalized(x)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, layers.Dense(10)(x), name="small_mobilenet")


def main() -> None:
    """Trains, and prints the accuracy on the digits that were held out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12, help="passes over the data (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the split and the weights (default: %(default)s)"
    )
    options = parser.parse_args()

    keras.utils.set_random_seed(options.seed)
    digits = load_digits()
    images = (digits.images[..., np.newaxis] / 16).astype("float32")  # 1797 of 8x8 pixels from 0 to 16
    x, x_held_out, y, y_held_out = train_test_split(
        images, digits.target, test_size=0.25, stratify=digits.target, random_state=options.seed
    )

    model = network()
    steps = options.epochs * -(-len(x) // 32)
    model.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, steps)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(x, y, batch_size=32, epochs=options.epochs)
    _, accuracy = model.evaluate(x_held_out, y_held_out, verbose=0)
    print(
        f"Keras on {keras.backend.backend()}: accuracy on {len(x_held_out)} held-out digits: {accuracy:.4f}"
    )


if __name__ == "__main__":
    main()
