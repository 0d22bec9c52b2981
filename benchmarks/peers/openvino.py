"""OpenVINO: a graph of `GroupConvolution`, `Add` and `Relu`, which its compiler fuses."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import openvino
from openvino import opset13 as ops

from benchmarks.peers.base import Array, Peer, Problem, Program, UnsupportedError, nchw, nhwc


class Adapter(Peer):
    """OpenVINO's CPU plugin, compiling for latency."""

    versions: ClassVar = {"openvino": openvino.__version__}

    def __init__(self, options: dict[str, str], threads: int) -> None:
        super().__init__(options, threads)
        self.core = openvino.Core()

    def inference(self, problem: Problem) -> list[Program]:
        """The layer taking and giving NCHW as it stands, and for channels-last images NHWC by way of transposes."""
        if problem.case.dtype != "float32":
            raise UnsupportedError("timed in float32 only")
        # float32 has to be asked for: on CPUs with bfloat16 units it would compute in that.
        config = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": self.threads,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        given = self._program("NCHW", _graph(problem, channels_last=False), config, nchw(problem.x), nhwc)
        if problem.case.data_format == "channels_first":
            return [given]
        # The compiler turns the transposes into a choice of layout, and which layout is faster depends on the case.
        last = self._program("NHWC", _graph(problem, channels_last=True), config, problem.x, lambda y: y)
        return [given, last]

    def _program(self, name: str, graph: Any, config: dict[str, Any], x: Array, to_nhwc: Any) -> Program:
        request = self.core.compile_model(graph, "CPU", config).create_infer_request()
        y = np.empty(request.get_output_tensor().shape, np.float32)
        # The tensors borrow the arrays' memory, so these must live as long as the program does.
        arrays = (x, y)
        request.set_input_tensor(openvino.Tensor(x, shared_memory=True))
        request.set_output_tensor(openvino.Tensor(y, shared_memory=True))

        def run() -> tuple[Array, Array]:
            request.infer()
            return arrays

        return Program(name, run, lambda output: (to_nhwc(output[1]),))


def _graph(problem: Problem, channels_last: bool) -> Any:
    case = problem.case
    (top, bottom), (left, right) = case.pads
    x = ops.parameter(problem.x.shape if channels_last else nchw(problem.x).shape, np.float32)
    image = ops.transpose(x, np.array([0, 3, 1, 2])) if channels_last else x
    weight = problem.torch_weight.reshape(case.channels, case.multiplier, 1, *case.kernel)
    z = ops.group_convolution(
        image, ops.constant(weight), list(case.strides), [top, left], [bottom, right], list(case.dilation)
    )
    y = ops.relu(ops.add(z, ops.constant(problem.bias.reshape(1, -1, 1, 1))))
    if channels_last:
        y = ops.transpose(y, np.array([0, 2, 3, 1]))
    return openvino.Model([y], [x], "depthwise")
