"""Trains a small MobileNet-style network on scikit-learn's handwritten digits, with PyTorch."""

from __future__ import annotations

import argparse

import torch
from rich.progress import track
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from depthwise.torch import DepthwiseConv2d


def block(channels: int, filters: int, stride: int) -> nn.Sequential:
    """A depthwise convolution and a pointwise one, each with batch normalization and ReLU."""
    return nn.Sequential(
        DepthwiseConv2d(channels, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, filters, 1, bias=False),
        nn.BatchNorm2d(filters),
        nn.ReLU(),
    )


def network() -> nn.Sequential:
    """MobileNet in small: a convolution, then blocks of a depthwise and a pointwise one; 8x8 images, 10 classes."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        block(16, 32, stride=1),
        block(32, 64, stride=2),
        block(64, 64, stride=1),
        block(64, 128, stride=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(128, 10),
    )


def main() -> None:
    """Trains, and prints the accuracy on the digits that were held out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12, help="passes over the data (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the split and the weights (default: %(default)s)"
    )
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    torch.set_num_threads(1)  # so small a network gains nothing from more
    digits = load_digits()
    images = torch.tensor(digits.images[:, None] / 16, dtype=torch.float32)  # 1797 of 8x8 pixels from 0 to 16
    x, x_held_out, y, y_held_out = train_test_split(
        images, torch.tensor(digits.target), test_size=0.25, stratify=digits.target, random_state=options.seed
    )

    # channels_last is how the kernels like their images best; both ways work.
    model = network().to(memory_format=torch.channels_last)
    x, x_held_out = (batch.contiguous(memory_format=torch.channels_last) for batch in (x, x_held_out))
    steps = options.epochs * -(-len(x) // 32)
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps)
    for _ in track(range(options.epochs), description="training"):
        for batch in torch.randperm(len(x)).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
            schedule.step()

    model.eval()
    with torch.inference_mode():
        accuracy = (model(x_held_out).argmax(1) == y_held_out).float().mean().item()
    print(f"PyTorch: accuracy on {len(x_held_out)} held-out digits: {accuracy:.4f}")


if __name__ == "__main__":
    main()
