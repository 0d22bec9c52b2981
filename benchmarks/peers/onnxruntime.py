"""ONNX Runtime: an ONNX `Conv(group=channels)` and `Relu`, which its optimiser fuses, NCHW."""

from __future__ import annotations

from typing import Any, ClassVar

import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from benchmarks.peers.base import Peer, Problem, Program, UnsupportedError, nchw, nhwc


class Adapter(Peer):
    """ONNX Runtime's CPU provider with every graph optimisation on."""

    versions: ClassVar = {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__}

    def inference(self, problem: Problem) -> list[Program]:
        """A session whose input and output are bound, so that no call copies them."""
        if problem.case.dtype != "float32":
            raise UnsupportedError("its CPU convolution takes float32 only")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(model(problem), options, providers=["CPUExecutionProvider"])
        x = onnxruntime.OrtValue.ortvalue_from_numpy(nchw(problem.x))
        y = onnxruntime.OrtValue.ortvalue_from_numpy(nchw(problem.dy))  # the right shape; overwritten
        binding = session.io_binding()
        binding.bind_ortvalue_input("x", x)
        binding.bind_ortvalue_output("y", y)

        def run() -> Any:
            session.run_with_iobinding(binding)
            return y

        return [Program("session", run, lambda output: (nhwc(output.numpy()),))]


def model(problem: Problem) -> bytes:
    """The case as a serialised ONNX model from "x" to "y", both NCHW."""
    case = problem.case
    (top, bottom), (left, right) = case.pads
    convolution = helper.make_node(
        "Conv",
        ["x", "weight", "bias"],
        ["z"],
        group=case.channels,
        kernel_shape=case.kernel,
        strides=case.strides,
        dilations=case.dilation,
        pads=(top, left, bottom, right),
    )
    batch, height, width, channels = problem.dy.shape
    graph = helper.make_graph(
        [convolution, helper.make_node("Relu", ["z"], ["y"])],
        "depthwise",
        [
            helper.make_tensor_value_info(
                "x", TensorProto.FLOAT, (batch, case.channels, case.height, case.width)
            )
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (batch, channels, height, width))],
        [
            numpy_helper.from_array(problem.torch_weight, "weight"),
            numpy_helper.from_array(problem.bias, "bias"),
        ],
    )
    # IR 10 and opset 21 are read by every ONNX Runtime since 1.18.
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(built)
    serialised: bytes = built.SerializeToString()
    return serialised
