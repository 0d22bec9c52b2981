"""The numbers of a case, and what every library has to make of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.cases import Case
from depthwise import reference

Array = NDArray[Any]

LINE = 64
"""Bytes of a cache line."""

INPUTS = ("x", "kernel", "bias", "dy")
OUTPUTS = ("y", "dx", "dkernel", "dbias")

TOLERANCE = {"float32": 1e-4, "float64": 1e-9, "float16": 2e-2, "bfloat16": 1e-1}
"""Largest error that still counts as right, as a share of the largest value expected."""

MAX_TRUTH_MACS = 30_000_000
"""How many multiply-adds of a case the float64 reference redoes: whole channels, as many as this allows."""


def draw(case: Case, seed: int) -> dict[str, Array]:
    """The inputs of a case, the same ones for the same seed: NHWC images, float32.

    All are multiples of 1/8 between -1 and 1, the biases odd multiples of 1/128. So products and sums are exact in
    every dtype that matters, and no pre-activation is nearer to 0 than 1/128: no library, whatever its order of
    summation, can put one on the other side of the ReLU and so get a rightly different gradient.
    """
    generator = np.random.default_rng(seed)
    height, width = case.output_size
    shapes = {
        "x": (case.batch, case.height, case.width, case.channels),
        "kernel": (*case.kernel, case.channels, case.multiplier),
        "dy": (case.batch, height, width, case.channels * case.multiplier),
    }
    arrays = {
        name: generator.integers(-8, 9, shape, np.int8).astype(np.float32) / 8
        for name, shape in shapes.items()
    }
    odd = 2 * generator.integers(-32, 32, case.channels * case.multiplier) + 1
    return arrays | {"bias": odd.astype(np.float32) / 128}


def sampled_channels(case: Case) -> Array:
    """The channels that are checked: all where that is cheap, else evenly spread ones, with the first and the last."""
    macs_per_channel = max(1, case.cost.macs // max(1, case.channels))
    affordable = max(4, MAX_TRUTH_MACS // macs_per_channel)
    count = min(case.channels, affordable)
    return np.unique(np.linspace(0, case.channels - 1, count).round().astype(np.int64))


def truth(case: Case, inputs: dict[str, Array], channels: Array) -> dict[str, Array]:
    """What `channels` of the outputs have to be, by the float64 reference; output channels are channel-major."""
    nhwc = replace(case, data_format="channels_last").spec
    outputs = output_channels(case, channels)
    x, kernel = inputs["x"][..., channels], inputs["kernel"][:, :, channels]
    bias, dy = inputs["bias"][outputs], inputs["dy"][..., outputs]
    y = reference.depthwise_conv2d(x, kernel, bias, nhwc)
    dx, dkernel, dbias = reference.depthwise_conv2d_vjp(x, kernel, bias, dy, nhwc)
    return {"y": y, "dx": dx, "dkernel": dkernel, "dbias": np.asarray(dbias)}


def output_channels(case: Case, channels: Array) -> Array:
    """The output channels that come from these input channels."""
    return (channels[:, None] * case.multiplier + np.arange(case.multiplier)).ravel()


def save(case: Case, seed: int, folder: Path) -> None:
    """Draws a case and writes its inputs and the truth about it into `folder`, for the worker processes."""
    inputs = draw(case, seed)
    channels = sampled_channels(case)
    for name, array in {**inputs, "channels": channels}.items():
        np.save(folder / f"{name}.npy", array)
    for name, array in truth(case, inputs, channels).items():
        np.save(folder / f"true-{name}.npy", array)


def load(case: Case, folder: Path) -> dict[str, Array]:
    """The inputs that `save` wrote, in the case's dtype."""
    if case.dtype == "bfloat16":
        import ml_dtypes  # noqa: F401 -- gives NumPy the dtype's name

    return {name: aligned(np.load(folder / f"{name}.npy").astype(case.dtype, copy=False)) for name in INPUTS}


def aligned(array: Array) -> Array:
    """A C-ordered copy that begins on a cache line.

    That is where frameworks and this package allocate their arrays, and NumPy only by chance; whoever reads the
    caller's array is not to depend on that.
    """
    memory = np.empty(array.nbytes + LINE, np.uint8)
    copy: Array = np.ndarray(array.shape, array.dtype, memory, -memory.ctypes.data % LINE)
    copy[...] = array
    return copy


def check(case: Case, folder: Path, results: tuple[Array, ...]) -> float:
    """How far results are from the truth that `save` wrote, as a share of the largest value expected.

    Args:
        case: the layer.
        folder: where `save` wrote.
        results: (y,) or (y, dx, dkernel, dbias), NHWC.

    Raises:
        ValueError: a result has the wrong shape, or is further off than `TOLERANCE` allows.
    """
    channels: Array = np.load(folder / "channels.npy")
    outputs = output_channels(case, channels)
    pick: dict[str, Any] = {
        "y": (..., outputs),
        "dx": (..., channels),
        "dkernel": (slice(None), slice(None), channels),
        "dbias": outputs,
    }
    worst = 0.0
    for name, result in zip(OUTPUTS, results, strict=False):
        want: Array = np.load(folder / f"true-{name}.npy")
        got: Array = np.asarray(result)[pick[name]].astype(np.float64)
        if got.shape != want.shape:
            raise ValueError(f"{name}: expected shape {want.shape} on the checked channels, got {got.shape}")
        if not want.size:
            continue
        largest = float(np.abs(want).max())
        error = float(np.abs(got - want).max()) / (largest or 1.0)
        if not error <= TOLERANCE[case.dtype]:  # NaN is wrong, too
            raise ValueError(
                f"{name}: off by {error:.2g} of the largest value, allowed {TOLERANCE[case.dtype]:.2g}"
            )
        worst = max(worst, error)
    return worst
