"""LiteRT (TensorFlow Lite) with XNNPACK: a DEPTHWISE_CONV_2D with fused ReLU, converted from TensorFlow, NHWC."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, ClassVar

import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from benchmarks.peers.base import Peer, Problem, Program, UnsupportedError
from benchmarks.peers.tensorflow import forward


class Adapter(Peer):
    """LiteRT's interpreter, whose default delegate on CPUs is XNNPACK."""

    versions: ClassVar = {
        "ai-edge-litert": version("ai-edge-litert"),
        "tensorflow (converter)": tf.__version__,
    }

    def inference(self, problem: Problem) -> list[Program]:
        """The converted model on an input that is set beforehand."""
        if problem.case.dtype != "float32":
            raise UnsupportedError("timed in float32 only")
        layer = forward(problem)
        kernel, bias = tf.constant(problem.kernel), tf.constant(problem.bias)
        function = tf.function(
            lambda x: layer(x, kernel, bias),
            input_signature=[tf.TensorSpec(problem.x.shape, tf.float32)],
            autograph=False,
        )
        holder = tf.Module()
        holder.layer = function
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [function.get_concrete_function()], holder
        )
        try:
            flatbuffer = converter.convert()
        except Exception as error:
            raise UnsupportedError(f"the converter failed: {str(error).splitlines()[0]}") from error

        interpreter = Interpreter(model_content=flatbuffer, num_threads=self.threads)
        interpreter.allocate_tensors()
        [source], [target] = interpreter.get_input_details(), interpreter.get_output_details()
        interpreter.set_tensor(source["index"], problem.x)

        def run() -> Any:
            interpreter.invoke()
            return interpreter

        return [Program("XNNPACK", run, lambda done: (done.get_tensor(target["index"]),))]
