"""PyTorch: `conv2d(groups=channels)`, eagerly and as the fused, prepacked oneDNN operator that its compiler emits."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch.nn.functional import conv2d, pad, relu, relu_

from benchmarks.peers.base import Array, Peer, Problem, Program, from_torch_weight, nchw


class Adapter(Peer):
    """PyTorch in one memory format: the option `memory_format` is "contiguous" (NCHW) or "channels_last"."""

    versions: ClassVar = {"torch": torch.__version__}

    def __init__(self, options: dict[str, str], threads: int) -> None:
        super().__init__(options, threads)
        torch.set_num_threads(threads)
        channels_last = options["memory_format"] == "channels_last"
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def _tensors(self, problem: Problem) -> tuple[Any, Any, Any, Any]:
        dtype = getattr(torch, problem.case.dtype)
        x, weight, bias, dy = (
            torch.from_numpy(array.astype("float32")).to(dtype)
            for array in (nchw(problem.x), problem.torch_weight, problem.bias, nchw(problem.dy))
        )
        layout = {"memory_format": self.memory_format}
        return x.contiguous(**layout), weight.contiguous(**layout), bias, dy.contiguous(**layout)

    def inference(self, problem: Problem) -> list[Program]:
        """`conv2d` with ReLU in place, and oneDNN's fused operator on weights in its own order."""
        case, symmetric = problem.case, _symmetric_pads(problem)
        x, weight, bias, _ = self._tensors(problem)
        # Asymmetric padding takes a copy in PyTorch, as Keras does it on this backend.
        margins, pads = ((), symmetric) if symmetric is not None else (_margins(problem), (0, 0))

        @torch.inference_mode()  # type: ignore[untyped-decorator]
        def eager() -> Any:
            image = pad(x, margins) if margins else x
            return conv2d(image, weight, bias, case.strides, pads, case.dilation, case.channels).relu_()

        programs = [Program("eager", eager, lambda y: (_numpy(_nhwc(y)),))]
        if torch.backends.mkldnn.is_available() and case.dtype == "float32":
            ops = torch.ops.mkldnn
            size = list((pad(x, margins) if margins else x).shape)
            geometry = (list(pads), list(case.strides), list(case.dilation), case.channels)
            packed = ops._reorder_convolution_weight(weight, *geometry, size)  # noqa: SLF001 -- what PyTorch's compiler calls

            @torch.inference_mode()  # type: ignore[untyped-decorator]
            def fused() -> Any:
                image = pad(x, margins) if margins else x
                return ops._convolution_pointwise(image, packed, bias, *geometry, "relu", [], "")  # noqa: SLF001

            programs.append(Program("fused oneDNN", fused, lambda y: (_numpy(_nhwc(y)),)))
        return programs

    def training(self, problem: Problem) -> list[Program]:
        """Eager mode and `torch.autograd.grad`."""
        case, symmetric = problem.case, _symmetric_pads(problem)
        x, weight, bias, dy = self._tensors(problem)
        inputs = [tensor.requires_grad_() for tensor in (x, weight, bias)]
        margins, pads = ((), symmetric) if symmetric is not None else (_margins(problem), (0, 0))

        def step(activation: Any) -> Any:
            image = pad(x, margins) if margins else x
            y = activation(conv2d(image, weight, bias, case.strides, pads, case.dilation, case.channels))
            return y, torch.autograd.grad(y, inputs, dy)

        def results(output: Any) -> tuple[Array, ...]:
            y, (dx, dweight, dbias) = output
            dkernel = from_torch_weight(_numpy(dweight), case.multiplier)
            return _numpy(_nhwc(y)), _numpy(_nhwc(dx)), dkernel, _numpy(dbias)

        return [
            Program("autograd", lambda: step(relu), results),
            Program("autograd, ReLU in place", lambda: step(relu_), results),
        ]


def _symmetric_pads(problem: Problem) -> tuple[int, int] | None:
    (top, bottom), (left, right) = problem.case.pads
    return (top, left) if top == bottom and left == right else None


def _margins(problem: Problem) -> tuple[int, int, int, int]:
    (top, bottom), (left, right) = problem.case.pads
    return (left, right, top, bottom)


def _nhwc(image: Any) -> Any:
    """An NCHW tensor seen as NHWC."""
    return image.permute(0, 2, 3, 1)


def _numpy(tensor: Any) -> Array:
    array: Array = (
        tensor.detach().to(torch.float32 if tensor.dtype != torch.float64 else tensor.dtype).numpy()
    )
    return array
