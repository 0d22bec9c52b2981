"""The package's front-ends inside their frameworks: networks of Keras, and chains of layers in each framework.

A module is imported in the process that times it and nowhere else. Here is what its parent knows, too.
"""

from __future__ import annotations

from typing import NamedTuple


class Application(NamedTuple):
    """A network of `keras.applications`: its function, the module of its `preprocess_input`, images, batch."""

    function: str
    module: str
    size: int
    batch: int


APPLICATIONS = (
    Application("MobileNetV2", "mobilenet_v2", 96, 16),
    Application("EfficientNetB0", "efficientnet", 96, 8),
)

BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
"""Of Keras, with their names in print."""

VARIANTS = ("stock", "accelerated")


class Chain(NamedTuple):
    """A square layer that can follow itself, stride 1 and padding "same": height = width, channels, kernel, batch."""

    size: int
    channels: int
    kernel: int
    batch: int = 1

    @property
    def name(self) -> str:
        """As the cases of the table are named."""
        batch = f"-n{self.batch}" if self.batch > 1 else ""
        return f"{self.size}x{self.size}x{self.channels}-k{self.kernel}{batch}"


CHAINS = (Chain(112, 32, 3), Chain(56, 128, 3), Chain(28, 240, 5), Chain(14, 512, 3), Chain(14, 192, 3, 16))
