"""Threads and processes around the layer."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from depthwise.torch import DepthwiseConv2d, depthwise_conv2d
from tests.torch.tensors import draw

CHANNELS = 32


class Blurred(Dataset[Any]):  # type: ignore[misc]
    """Images that the worker blurs with a pool of its own."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Any:
        x = draw(CHANNELS, 96, 96, dtype=torch.float32, seed=index)
        return depthwise_conv2d(x, torch.full((CHANNELS, 1, 3, 3), 1 / 9), padding="same")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
def test_data_loaders_workers_run_it_after_a_fork() -> None:
    dataset = Blurred()
    expected = [dataset[i] for i in range(len(dataset))]  # the parent's pool is at work, too
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60)
    for _ in range(2):
        for actual, wanted in zip(loader, expected, strict=True):
            assert torch.equal(actual, wanted)
    assert torch.equal(dataset[0], expected[0])


def model(activation: str) -> Any:
    torch.manual_seed(0)
    return nn.Sequential(
        DepthwiseConv2d(CHANNELS, 3, padding="same", activation=activation),
        nn.Conv2d(CHANNELS, CHANNELS, 1),
        DepthwiseConv2d(CHANNELS, 5, 2, "same"),
    )


def gradients(net: Any, x: Any) -> list[Any]:
    return [net(x).detach(), *torch.autograd.grad(net(x).square().sum(), list(net.parameters()))]


def test_two_threads_run_two_models_at_once() -> None:
    x = draw(2, CHANNELS, 32, 32, dtype=torch.float32)
    nets = [model("silu"), model("relu")]
    expected = [gradients(net, x) for net in nets]
    results: list[list[list[Any]]] = [[], []]

    def work(i: int) -> None:
        for _ in range(10):
            results[i].append(gradients(nets[i], x))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for wanted, runs in zip(expected, results, strict=True):
        assert len(runs) == 10
        for run in runs:
            # The 1x1 convolution is PyTorch's own, whose bits may depend on how it shares its threads.
            assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-3) for a, b in zip(run, wanted, strict=True))


def test_importing_depthwise_imports_no_torch_and_the_front_end_nothing_else(python: Any) -> None:
    python("import sys, depthwise; assert 'torch' not in sys.modules")
    others = "('jax', 'keras', 'tensorflow', 'onnx', 'torchvision')"
    python(f"import sys, depthwise.torch; assert not [m for m in {others} if m in sys.modules]")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_it_runs_on_pytorchs_threads() -> None:
    """Threads of our own would have to share the CPUs with PyTorch's, which spin after each operation."""
    program = """
import pathlib, torch
from depthwise import set_num_threads
from depthwise.torch import depthwise_conv2d

def threads():
    return sorted(path.read_text().strip() for path in pathlib.Path("/proc/self/task").glob("*/comm"))

torch.set_num_threads(2)
set_num_threads(2)
x = torch.ones(1, 32, 96, 96)
torch.conv2d(x, torch.ones(32, 32, 1, 1))
before = threads()
depthwise_conv2d(x, torch.ones(32, 1, 3, 3))
assert threads() == before, (before, threads())
torch.set_num_threads(1)  # too few for what the op may use: then it runs on its own
depthwise_conv2d(x, torch.ones(32, 1, 3, 3))
assert len(threads()) == len(before) + 1, (before, threads())
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks")
def test_a_forked_child_does_not_wait_for_its_parents_threads() -> None:
    program = """
import os, signal, torch
from depthwise import set_num_threads
from depthwise.torch import depthwise_conv2d

torch.set_num_threads(2)
set_num_threads(2)
x, weight = torch.ones(1, 32, 96, 96), torch.ones(32, 1, 3, 3)
y = depthwise_conv2d(x, weight)
child = os.fork()
if child == 0:
    signal.alarm(60)  # a child that hangs is a child that fails
    os._exit(0 if depthwise_conv2d(x, weight).numpy().tobytes() == y.numpy().tobytes() else 1)
assert os.waitpid(child, 0)[1] == 0
depthwise_conv2d(x, weight)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=120)
