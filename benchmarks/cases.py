"""What is timed: depthwise layers as data, and nothing about how.

``TABLE`` is the short list that every change is judged by, ``listed()`` adds every distinct layer of the networks in
``networks.py`` at four batch sizes, ``LARGE`` are those with the largest kernels, and ``random_cases()`` draws layers
that nobody tuned for; ``neighbour()`` is the layer such a one is held against.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from benchmarks.networks import NETWORKS, Layer
from depthwise.spec import Cost, DataFormat, Padding, Spec

Pair = tuple[int, int]

BATCHES = (1, 8, 16, 32)
"""The batch sizes at which every layer of every network is listed."""


def _sizes(pair: Pair) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"


@dataclass(frozen=True, slots=True)
class Case:
    """One depthwise layer with bias and ReLU, on one input.

    Sizes are (height, width) pairs, as in :class:`depthwise.spec.Spec`. ``origins`` names the networks the layer comes
    from; it takes no part in comparisons, so that a layer two networks share is one case.
    """

    height: int
    width: int
    channels: int
    kernel: Pair
    strides: Pair = (1, 1)
    padding: Padding = "same"
    dilation: Pair = (1, 1)
    multiplier: int = 1
    batch: int = 1
    data_format: DataFormat = "channels_last"
    dtype: str = "float32"
    origins: tuple[str, ...] = field(default=(), compare=False)

    @property
    def name(self) -> str:
        """The case in one word, e.g. ``112x112x32-k3-s2-n16``: only what differs from the defaults is written.

        ``HxWxC``, ``k`` kernel, ``s`` strides, ``d`` dilation, ``m`` depth multiplier, ``valid`` or ``p`` followed by
        top.bottom.left.right, ``n`` batch, ``nchw``, dtype.
        """
        words = [f"{self.height}x{self.width}x{self.channels}", f"k{_sizes(self.kernel)}"]
        if self.strides != (1, 1):
            words.append(f"s{_sizes(self.strides)}")
        if self.dilation != (1, 1):
            words.append(f"d{_sizes(self.dilation)}")
        if self.multiplier != 1:
            words.append(f"m{self.multiplier}")
        if self.padding == "valid":
            words.append("valid")
        elif self.padding != "same":
            (top, bottom), (left, right) = self.padding
            words.append(f"p{top}.{bottom}.{left}.{right}")
        if self.batch != 1:
            words.append(f"n{self.batch}")
        if self.data_format == "channels_first":
            words.append("nchw")
        if self.dtype != "float32":
            words.append(self.dtype)
        return "-".join(words)

    @property
    def spec(self) -> Spec:
        """The layer's arguments, validated."""
        return Spec(
            kernel_size=self.kernel,
            strides=self.strides,
            padding=self.padding,
            depth_multiplier=self.multiplier,
            data_format=self.data_format,
            dilation_rate=self.dilation,
            activation="relu",
            use_bias=True,
        )

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        """The input's shape in the case's own layout."""
        if self.data_format == "channels_first":
            return (self.batch, self.channels, self.height, self.width)
        return (self.batch, self.height, self.width, self.channels)

    @property
    def pads(self) -> tuple[Pair, Pair]:
        """Zeros added around the image: ((top, bottom), (left, right))."""
        return self.spec.padding_amounts((self.height, self.width))

    @property
    def output_size(self) -> Pair:
        """The output's (height, width)."""
        return self.spec.output_size((self.height, self.width))

    @property
    def cost(self) -> Cost:
        """Work and memory traffic of one forward pass."""
        return self.spec.cost(self.input_shape, self.dtype)

    def to_json(self) -> dict[str, Any]:
        """The case as JSON values, for the worker processes and the results; :func:`from_json` reads it back."""
        return {
            "name": self.name,
            "height": self.height,
            "width": self.width,
            "channels": self.channels,
            "kernel": list(self.kernel),
            "strides": list(self.strides),
            "padding": self.padding
            if isinstance(self.padding, str)
            else [list(side) for side in self.padding],
            "dilation": list(self.dilation),
            "multiplier": self.multiplier,
            "batch": self.batch,
            "data_format": self.data_format,
            "dtype": self.dtype,
            "origins": list(self.origins),
        }


def from_json(value: dict[str, Any]) -> Case:
    """The case that :meth:`Case.to_json` wrote."""
    fields = {key: entry for key, entry in value.items() if key != "name"}
    for key in ("kernel", "strides", "dilation", "origins"):
        fields[key] = tuple(fields[key])
    if not isinstance(fields["padding"], str):
        top_bottom, left_right = fields["padding"]
        fields["padding"] = (tuple(top_bottom), tuple(left_right))
    return Case(**fields)


def from_name(name: str) -> Case:
    """The case that has this :attr:`Case.name`.

    Raises:
        ValueError: no case is called so.
    """
    try:
        size, *words = name.split("-")
        height, width, channels = map(int, size.split("x"))
        options: dict[str, Any] = {}
        for word in words:
            key, value = _option(word)
            options[key] = value
        case = Case(height, width, channels, **options)
        if case.name == name:
            return case
    except (IndexError, TypeError, ValueError):
        pass
    raise ValueError(f"case: expected a name such as 112x112x32-k3-s2-n16, got {name!r}")


def _option(word: str) -> tuple[str, Any]:
    """The field of a case that a word of its name stands for, and its value."""
    if word in ("nchw", "valid"):
        return ("data_format", "channels_first") if word == "nchw" else ("padding", word)
    if word.startswith(("float", "bfloat")):
        return "dtype", word
    if word[0] == "p":
        top, bottom, left, right = map(int, word[1:].split("."))
        return "padding", ((top, bottom), (left, right))
    if word[0] in "mn":
        return {"m": "multiplier", "n": "batch"}[word[0]], int(word[1:])
    sizes = [int(size) for size in word[1:].split("x")]
    first, second = sizes if len(sizes) == 2 else sizes * 2
    return {"k": "kernel", "s": "strides", "d": "dilation"}.get(word[0], ""), (first, second)


def _square(size: int, channels: int, kernel: int, stride: int = 1, **rest: Any) -> Case:
    return Case(size, size, channels, (kernel, kernel), (stride, stride), **rest)


TABLE: tuple[Case, ...] = (
    # The layers by which the project states its speed.
    _square(112, 32, 3, origins=("MobileNetV1", "MobileNetV2")),
    _square(56, 128, 3, origins=("MobileNetV1",)),
    _square(14, 512, 3, origins=("MobileNetV1",)),
    _square(28, 240, 5, origins=("EfficientNetB0",)),
    _square(56, 96, 7, origins=("ConvNeXt-T",)),
    _square(14, 512, 27, origins=("RepLKNet-31B",)),
    _square(112, 32, 3, batch=16, origins=("MobileNetV1", "MobileNetV2")),
    # Off the beaten track: strides in TensorFlow's and in PyTorch's padding convention, even and large kernels,
    # dilation, multipliers, odd and unequal sizes, explicit asymmetric padding, the other layout.
    _square(112, 64, 3, 2, origins=("MobileNetV1",)),
    _square(56, 144, 3, 2, padding=((1, 1), (1, 1)), origins=("MobileNetV2",)),
    _square(28, 128, 4),
    _square(28, 128, 9),
    _square(28, 192, 3, dilation=(2, 2)),
    _square(56, 32, 3, multiplier=2),
    _square(28, 24, 3, multiplier=4),
    Case(57, 43, 73, (3, 3), batch=3),
    Case(61, 35, 50, (5, 3), padding=((2, 1), (0, 2))),
    _square(28, 240, 5, data_format="channels_first", origins=("EfficientNetB0",)),
)


def _from_layer(layer: Layer, batch: int, origins: tuple[str, ...]) -> Case:
    return _square(layer.size, layer.channels, layer.kernel, layer.stride, batch=batch, origins=origins)


def listed() -> tuple[Case, ...]:
    """``TABLE``, then every distinct layer of every network at every batch size of ``BATCHES``, without repeats."""
    origins: dict[Layer, list[str]] = {}
    for network, layers in NETWORKS.items():
        for layer in layers:
            names = origins.setdefault(layer, [])
            if network not in names:
                names.append(network)
    networks = (
        _from_layer(layer, batch, tuple(names)) for batch in BATCHES for layer, names in origins.items()
    )
    merged = {case: case for case in TABLE}
    for case in networks:
        known = merged.get(case)
        # The table's entries keep their place, and learn every network that has the layer.
        merged[case] = case if known is None else replace(known, origins=case.origins)
    return tuple(merged.values())


def sample(count: int, seed: int) -> tuple[Case, ...]:
    """``count`` of the listed cases beyond ``TABLE``, in their order: the same ones for the same ``seed``."""
    beyond = listed()[len(TABLE) :]
    drawn = random.Random(seed).sample(range(len(beyond)), min(count, len(beyond)))
    return tuple(beyond[index] for index in sorted(drawn))


LARGE: tuple[Case, ...] = tuple(
    _square(layer.size, layer.channels, layer.kernel, origins=(network,))
    for network in ("RepLKNet-31B", "RepLKNet-31L")
    for layer in NETWORKS[network]
    if layer.kernel in {27, 31}
)
"""RepLKNet's layers with 27x27 and 31x31 kernels, one image each."""


MAX_MACS = 400_000_000
MAX_BYTES = 128 * 2**20


def random_cases(
    count: int,
    seed: int,
    *,
    max_macs: int = MAX_MACS,
    max_bytes: int = MAX_BYTES,
) -> tuple[Case, ...]:
    """``count`` layers drawn from the whole argument space: the same ones for the same ``seed``.

    Height and width 5 to 130, channels 1 to 1024, kernel 1 to 11, strides 1 to 3, dilation 1 to 3 (all of them unequal
    in the two directions as often as not), multiplier 1 to 4, batch 1 to 16, every kind of padding. A draw whose kernel
    does not fit its input, or whose forward pass exceeds ``max_macs`` multiply-adds or ``max_bytes`` of memory traffic,
    is drawn again: the bound keeps one layer from taking the whole run.
    """
    if count < 0:
        raise ValueError(f"count must be at least 0, received {count}")
    draw = random.Random(seed)

    def pair(low: int, high: int) -> Pair:
        first = draw.randint(low, high)
        return (first, draw.randint(low, high) if draw.random() < 0.5 else first)

    def skewed(low: int, high: int, towards_low: float) -> int:
        return low if draw.random() < towards_low else draw.randint(low, high)

    cases: list[Case] = []
    while len(cases) < count:
        kernel = pair(1, 11)
        dilation = pair(1, 3) if draw.random() < 0.3 else (1, 1)
        padding: Padding
        match draw.randrange(4):
            case 0:
                padding = "valid"
            case 1:
                reach = [(size - 1) * rate for size, rate in zip(kernel, dilation, strict=True)]
                height_pads = (draw.randint(0, reach[0]), draw.randint(0, reach[0]))
                width_pads = (draw.randint(0, reach[1]), draw.randint(0, reach[1]))
                padding = (height_pads, width_pads)
            case _:
                padding = "same"
        height, width = pair(5, 130)
        # Powers spread the channels evenly over orders of magnitude: networks have as many thin layers as wide ones.
        channels = min(1024, max(1, round(2 ** draw.uniform(0, 10))))
        candidate = Case(
            height,
            width,
            channels,
            kernel,
            strides=pair(1, 3) if draw.random() < 0.4 else (1, 1),
            padding=padding,
            dilation=dilation,
            multiplier=skewed(1, 4, 0.6),
            batch=skewed(1, 16, 0.5),
            data_format=draw.choice(("channels_last", "channels_first")),
            origins=("random",),
        )
        try:
            cost = candidate.cost
        except ValueError:
            continue
        if (
            cost.macs_inside > 0
            and cost.macs <= max_macs
            and cost.bytes_read + cost.bytes_written <= max_bytes
        ):
            cases.append(candidate)
    return tuple(cases)


LANES = 16
"""Channels of a well-shaped layer come in multiples of this: a whole vector of float32 on every instruction set."""

WELL_SHAPED_KERNELS = (1, 3, 5, 7)
WELL_SHAPED_STRIDES = (1, 2)


def neighbour(case: Case) -> Case:
    """The nearest well-shaped layer: what a case of any shape is held against.

    Well-shaped is what kernels are usually written for: channels_last, a multiple of 16 channels, one output channel
    for each, a square kernel of 1, 3, 5 or 7, equal strides of 1 or 2, no dilation, padding "same". Among those the
    nearest is the one with

    - the same batch, and as many output channels, rounded up to a multiple of 16;
    - as many outputs: the image has the output size that the case has, times the strides, but where rounding up has
      made more channels, it is smaller in both directions by as much;
    - the kernel nearest to the square root of how many taps of the case meet the image for an output on average, and
      the stride nearest to the geometric mean of the case's two, in ratio.

    So it has about as many operations in a call, and about as many for each byte that moves: otherwise the cost of a
    call, or of moving memory, would make any layer slow beside another one, whatever its shape.
    """
    height, width = case.output_size
    channels = case.channels * case.multiplier
    rounded = math.ceil(channels / LANES) * LANES
    shrink = math.sqrt(channels / rounded)
    taps = case.cost.macs_inside / (case.batch * height * width * channels)
    kernel = _nearest(math.sqrt(taps), WELL_SHAPED_KERNELS)
    stride = _nearest(math.sqrt(math.prod(case.strides)), WELL_SHAPED_STRIDES)
    return Case(
        max(1, round(height * shrink)) * stride,
        max(1, round(width * shrink)) * stride,
        rounded,
        (kernel, kernel),
        (stride, stride),
        batch=case.batch,
        dtype=case.dtype,
    )


def _nearest(value: float, choices: Iterable[int]) -> int:
    """The choice whose ratio to ``value`` is nearest to 1; of two as near the smaller one."""
    return min(choices, key=lambda choice: (round(abs(math.log(choice / value)), 9), choice))


def select(cases: Iterable[Case], pattern: str | None) -> tuple[Case, ...]:
    """The cases whose name or one of whose networks matches ``pattern`` (shell wildcards, commas between alternatives).

    A word without wildcards matches where it stands in the name between the dashes: ``k3`` finds ``56x56x128-k3``.
    """
    cases = tuple(cases)
    if pattern is None:
        return cases
    words = [word.strip().lower() for word in pattern.split(",") if word.strip()]

    def matches(case: Case) -> bool:
        name = case.name.lower()
        candidates = [name, *name.split("-"), *(origin.lower() for origin in case.origins)]
        return any(
            fnmatchcase(candidate, word)
            or (not re.search(r"[*?\[]", word) and f"-{word}-" in f"-{candidate}-")
            for word in words
            for candidate in candidates
        )

    return tuple(case for case in cases if matches(case))
