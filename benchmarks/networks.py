"""The depthwise layers of published networks at their published input sizes, as data.

Sources: MobileNets (arXiv 1704.04861, table 1), MobileNetV2 (1801.04381, table 2), MobileNetV3 (1905.02244, tables 1
and 2), EfficientNet (1905.11946, table 1, scaled by the rule of the authors' code), ConvNeXt (2201.03545, appendix),
RepLKNet (2203.06717, table 5).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple


class Layer(NamedTuple):
    """One depthwise layer on a square image, padding "same": input height = width, channels, kernel, stride."""

    size: int
    channels: int
    kernel: int
    stride: int = 1


MOBILENET_V1 = (
    Layer(112, 32, 3),
    Layer(112, 64, 3, 2),
    Layer(56, 128, 3),
    Layer(56, 128, 3, 2),
    Layer(28, 256, 3),
    Layer(28, 256, 3, 2),
    Layer(14, 512, 3),
    Layer(14, 512, 3, 2),
    Layer(7, 1024, 3),
)

MOBILENET_V2 = (
    Layer(112, 32, 3),
    Layer(112, 96, 3, 2),
    Layer(56, 144, 3),
    Layer(56, 144, 3, 2),
    Layer(28, 192, 3),
    Layer(28, 192, 3, 2),
    Layer(14, 384, 3),
    Layer(14, 576, 3),
    Layer(14, 576, 3, 2),
    Layer(7, 960, 3),
)

MOBILENET_V3_LARGE = (
    Layer(112, 16, 3),
    Layer(112, 64, 3, 2),
    Layer(56, 72, 3),
    Layer(56, 72, 5, 2),
    Layer(28, 120, 5),
    Layer(28, 240, 3, 2),
    Layer(14, 200, 3),
    Layer(14, 184, 3),
    Layer(14, 480, 3),
    Layer(14, 672, 3),
    Layer(14, 672, 5, 2),
    Layer(7, 960, 5),
)

MOBILENET_V3_SMALL = (
    Layer(112, 16, 3, 2),
    Layer(56, 72, 3, 2),
    Layer(28, 88, 3),
    Layer(28, 96, 5, 2),
    Layer(14, 240, 5),
    Layer(14, 120, 5),
    Layer(14, 144, 5),
    Layer(14, 288, 5, 2),
    Layer(7, 576, 5),
)


class Stage(NamedTuple):
    """One row of EfficientNet-B0's table: kernel, repeats, channels in and out, expansion, first stride."""

    kernel: int
    repeats: int
    inputs: int
    outputs: int
    expansion: int
    stride: int


EFFICIENTNET_STAGES = (
    Stage(3, 1, 32, 16, 1, 1),
    Stage(3, 2, 16, 24, 6, 2),
    Stage(5, 2, 24, 40, 6, 2),
    Stage(3, 3, 40, 80, 6, 2),
    Stage(5, 3, 80, 112, 6, 1),
    Stage(5, 4, 112, 192, 6, 2),
    Stage(3, 1, 192, 320, 6, 1),
)

EFFICIENTNETS = {  # name: (width factor, depth factor, input size)
    "EfficientNetB0": (1.0, 1.0, 224),
    "EfficientNetB1": (1.0, 1.1, 240),
    "EfficientNetB2": (1.1, 1.2, 260),
    "EfficientNetB3": (1.2, 1.4, 300),
    "EfficientNetB4": (1.4, 1.8, 380),
    "EfficientNetB5": (1.6, 2.2, 456),
    "EfficientNetB6": (1.8, 2.6, 528),
    "EfficientNetB7": (2.0, 3.1, 600),
}


def scaled_channels(channels: int, width: float) -> int:
    """EfficientNet's width scaling: to the nearest multiple of 8, and never more than a tenth below."""
    scaled = channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def efficientnet(width: float, depth: float, size: int) -> tuple[Layer, ...]:
    """The distinct depthwise layers of the EfficientNet with these scaling factors and input size, in order."""
    layers: list[Layer] = []
    size = math.ceil(size / 2)  # the stem's stride
    for stage in EFFICIENTNET_STAGES:
        inputs, outputs = scaled_channels(stage.inputs, width), scaled_channels(stage.outputs, width)
        for repeat in range(math.ceil(stage.repeats * depth)):
            stride = stage.stride if repeat == 0 else 1
            layers.append(
                Layer(size, (inputs if repeat == 0 else outputs) * stage.expansion, stage.kernel, stride)
            )
            size = math.ceil(size / stride)
    return tuple(dict.fromkeys(layers))


def pyramid(channels: Iterable[int], kernels: Iterable[int]) -> tuple[Layer, ...]:
    """Four stages at 56, 28, 14 and 7 pixels: what ConvNeXt and RepLKNet have for a 224-pixel input."""
    return tuple(Layer(*row) for row in zip((56, 28, 14, 7), channels, kernels, strict=True))


NETWORKS: dict[str, tuple[Layer, ...]] = {
    "MobileNetV1": MOBILENET_V1,
    "MobileNetV2": MOBILENET_V2,
    "MobileNetV3-Large": MOBILENET_V3_LARGE,
    "MobileNetV3-Small": MOBILENET_V3_SMALL,
    **{name: efficientnet(*factors) for name, factors in EFFICIENTNETS.items()},
    "ConvNeXt-T": pyramid((96, 192, 384, 768), (7, 7, 7, 7)),
    "ConvNeXt-B": pyramid((128, 256, 512, 1024), (7, 7, 7, 7)),
    "ConvNeXt-L": pyramid((192, 384, 768, 1536), (7, 7, 7, 7)),
    "ConvNeXt-XL": pyramid((256, 512, 1024, 2048), (7, 7, 7, 7)),
    "RepLKNet-31B": pyramid((128, 256, 512, 1024), (31, 29, 27, 13)),
    "RepLKNet-31L": pyramid((192, 384, 768, 1536), (31, 29, 27, 13)),
}
"""Every network by name; ConvNeXt-S has the layers of ConvNeXt-T."""
