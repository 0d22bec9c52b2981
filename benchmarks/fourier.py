"""Large kernels of this package and by way of Fourier transforms: `python -m benchmarks.fourier`.

Why there is no transform in this package: the forward pass of stride 1 and padding `same`, ours beside the same by
PyTorch's real transforms (MKL's, in its builds for x86-64), on planes padded to sizes of small prime factors. The
kernel's transform is left out in one column, as if it had been kept from an earlier call; so are bias and activation.
Needs PyTorch.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

import numpy as np
from rich.box import SIMPLE
from rich.table import Table

import depthwise
from benchmarks import command, report
from benchmarks.turns import interleave
from benchmarks.worker import median_ms

LAYERS = ((56, 128), (28, 256), (14, 512))
"""Height and width, and channels, of RepLKNet's stages with large kernels."""

KERNELS = (13, 21, 27, 31, 45, 63)


def fast_length(least: int) -> int:
    """The least even number from `least` on that has no prime factor above 7."""
    length = least + least % 2
    while True:
        rest = length
        for factor in (2, 3, 5, 7):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 2


def programs(size: int, channels: int, kernel: int) -> dict[str, Callable[[], object]]:
    """The layer by this package, by transforms of image and kernel, and by those of the image alone.

    Args:
        size: height and width of the image.
        channels: of the image.
        kernel: height and width of the kernel.

    Raises:
        RuntimeError: the results are not alike.
    """
    import torch

    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, size, size, channels), np.float32)
    w = rng.standard_normal((kernel, kernel, channels, 1), np.float32)
    out = np.empty_like(x)
    planes = torch.from_numpy(np.ascontiguousarray(x[0].transpose(2, 0, 1)))
    # What is wanted is a correlation: a convolution with the kernel turned round.
    turned = torch.from_numpy(np.ascontiguousarray(w[::-1, ::-1, :, 0].transpose(2, 0, 1)))
    length, first = fast_length(size + kernel - 1), kernel // 2
    lengths = (length, length)
    kept = torch.fft.rfft2(turned, s=lengths)

    def ours() -> object:
        return depthwise.depthwise_conv2d(x, w, padding="same", out=out)

    def through(transform: torch.Tensor) -> torch.Tensor:
        product = torch.fft.rfft2(planes, s=lengths).mul_(transform)
        return torch.fft.irfft2(product, s=lengths)[:, first : first + size, first : first + size]

    ours()
    found = through(kept).numpy().transpose(1, 2, 0)
    if not np.allclose(found, out[0], rtol=1e-3, atol=1e-3 * kernel):
        raise RuntimeError(f"{kernel}x{kernel} on {size}x{size}x{channels}: the two are not alike")
    return {
        "ours": ours,
        "both transforms": lambda: through(torch.fft.rfft2(turned, s=lengths)),
        "the image's": lambda: through(kept),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    parsed = argparse.ArgumentParser(
        prog="python -m benchmarks.fourier", description=(__doc__ or "").splitlines()[0]
    )
    add = parsed.add_argument
    add("--threads", type=command.positive, metavar="N", help="of each (default: all CPUs allowed)")
    add("--rounds", type=command.positive, default=5, metavar="N", help="turns of each (default: 5)")
    add("--seconds", type=float, default=0.1, metavar="S", help="time of each turn (default: 0.1)")
    options = parsed.parse_args(argv)
    threads = command.thread_count(parsed, options.threads)
    # PyTorch's threads would spin after each call, on the cores that ours are timed on next.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    import torch

    torch.set_num_threads(threads)
    depthwise.set_num_threads(threads)
    names = ("ours", "both transforms", "the image's")
    table = Table("milliseconds", *names, title=f"{threads} threads", box=SIMPLE)
    for size, channels in LAYERS:
        for kernel in KERNELS:
            timers = {
                name: lambda seconds, run=run: median_ms(run, seconds)[0]
                for name, run in programs(size, channels, kernel).items()
            }
            times = interleave(timers, options.rounds, options.seconds)
            row = f"{size}x{size}x{channels}-k{kernel}"
            table.add_row(row, *(report.milliseconds(times[name]) for name in names))
    report.make_console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
