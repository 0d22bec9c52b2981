"""Trains a small network to tell faces from other pictures (scikit-image's part of LFW), with JAX alone."""

from __future__ import annotations

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import track
from skimage.data import lfw_subset

from depthwise.jax import depthwise_conv2d

BLOCKS = ((16, 32, 2), (32, 64, 2), (64, 64, 1))  # channels, filters, stride


def weights(seed: int) -> list[dict[str, Any]]:
    """He-initialised weights: of each block's depthwise and pointwise convolution, then of the classifier."""
    random = np.random.default_rng(seed)

    def draw(*shape: int, inputs: int) -> Any:
        return jnp.asarray(random.normal(0, (2 / inputs) ** 0.5, shape), jnp.float32)

    blocks = [
        {
            "depthwise": draw(3, 3, channels, 1, inputs=9),
            "depthwise_bias": jnp.zeros(channels),
            "pointwise": draw(channels, filters, inputs=channels),
            "bias": jnp.zeros(filters),
        }
        for channels, filters, _ in BLOCKS
    ]
    # The first layer is depthwise, too: 16 filters of 5x5 for the one channel of a grey image.
    stem = {"depthwise": draw(5, 5, 1, 16, inputs=25), "depthwise_bias": jnp.zeros(16)}
    return [stem, *blocks, {"pointwise": draw(64, 1, inputs=64), "bias": jnp.zeros(1)}]


def logits(parameters: list[dict[str, Any]], images: Any) -> Any:
    """(batch, 25, 25, 1) -> (batch,), positive for faces."""
    stem, *blocks, head = parameters
    x = depthwise_conv2d(images, stem["depthwise"], stem["depthwise_bias"], padding="same", activation="relu")
    for block, (_, _, stride) in zip(blocks, BLOCKS, strict=True):
        kernel, bias = block["depthwise"], block["depthwise_bias"]
        x = depthwise_conv2d(x, kernel, bias, strides=stride, padding="same", activation="relu")
        x = jax.nn.relu(x @ block["pointwise"] + block["bias"])
    return (x.mean((1, 2)) @ head["pointwise"] + head["bias"])[:, 0]


def loss(parameters: list[dict[str, Any]], images: Any, faces: Any) -> Any:
    """Binary cross-entropy."""
    z = logits(parameters, images)
    return jnp.mean(jnp.logaddexp(0, z) - z * faces)


@jax.jit  # type: ignore[untyped-decorator]
def step(parameters: Any, velocity: Any, images: Any, faces: Any, rate: float) -> tuple[Any, Any]:
    """One step of gradient descent with momentum."""
    gradients = jax.grad(loss)(parameters, images, faces)
    velocity = jax.tree.map(lambda v, g: 0.9 * v - rate * g, velocity, gradients)
    return jax.tree.map(jnp.add, parameters, velocity), velocity


def main() -> None:
    """Trains, and prints the accuracy on the pictures that were held out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, default=60, help="passes over the data (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the split and the weights (default: %(default)s)"
    )
    options = parser.parse_args()

    random = np.random.default_rng(options.seed)
    images = lfw_subset()[..., np.newaxis].astype("float32")  # 200 of 25x25 pixels from 0 to 1
    images = (images - images.mean((1, 2, 3), keepdims=True)) / images.std((1, 2, 3), keepdims=True)
    faces = np.repeat([1.0, 0.0], 100).astype("float32")  # the first 100 are faces
    order = random.permutation(200)
    held_out, rest = order[:50], order[50:]

    parameters = weights(options.seed)
    velocity = jax.tree.map(jnp.zeros_like, parameters)
    for epoch in track(range(options.epochs), description="training"):
        rate = 0.02 * (1 - epoch / options.epochs)
        for batch in random.permutation(rest).reshape(-1, 25):
            mirrored = random.random((25, 1, 1, 1)) < 0.5
            x = np.where(mirrored, images[batch][:, :, ::-1], images[batch])
            parameters, velocity = step(parameters, velocity, x, faces[batch], rate)

    correct = (logits(parameters, images[held_out]) > 0) == (faces[held_out] > 0)
    print(f"JAX: accuracy on {len(held_out)} held-out pictures: {correct.mean():.4f}")


if __name__ == "__main__":
    main()
