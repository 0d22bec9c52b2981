"""One small adapter for each library that is timed, all of the shape `base.Peer` gives.

`PEERS` is the only list of them. An adapter is imported in the worker process of its library and nowhere else, so
no process ever holds two of these libraries unless one needs the other.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """Where an adapter is found, and what the reports call it.

    Attributes:
        module: its module in this package.
        title: the library's name in print.
        options: what its `Adapter` is given, for libraries that are timed in more than one way.
        ours: whether it is this package, through whichever of its front-ends: then it is nobody's peer.
        channels_first: whether it is given channels-first images as they are. The others get every image with its
            channels last, which costs them nothing in this benchmark, and are no peers where a user's are not.
    """

    module: str
    title: str
    options: tuple[tuple[str, str], ...] = ()
    ours: bool = False
    channels_first: bool = True


OURS = "ours"
OURS_JAX = "ours-jax"

PEERS: dict[str, Entry] = {
    OURS: Entry("ours", "depthwise", ours=True),
    "torch": Entry("torch", "PyTorch", (("memory_format", "contiguous"),)),
    "torch-nhwc": Entry(
        "torch", "PyTorch channels_last", (("memory_format", "channels_last"),), channels_first=False
    ),
    "tensorflow": Entry("tensorflow", "TensorFlow", channels_first=False),
    "jax": Entry("jax", "JAX"),
    "onnxruntime": Entry("onnxruntime", "ONNX Runtime"),
    "openvino": Entry("openvino", "OpenVINO"),
    "litert": Entry("litert", "LiteRT", channels_first=False),
    OURS_JAX: Entry("ours_jax", "depthwise.jax", ours=True),
}
"""Every adapter by the name that `--peers` takes."""

FRONT_ENDS = tuple(name for name, entry in PEERS.items() if entry.ours and name != OURS)
"""This package once more, through a framework: timed when asked for, and left out when the best peer is sought."""
