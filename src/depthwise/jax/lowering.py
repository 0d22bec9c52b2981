"""What the primitives become: a custom call on CPUs, XLA's own convolution anywhere else.

The custom calls are the handlers of csrc/bindings/xla_ffi.cc. Where a program runs on several devices they go through
partitioning.py, which tells XLA how to split them.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.interpreters import mlir

from depthwise.jax import fallback, partitioning
from depthwise.jax.differentiation import tangent_in_parts
from depthwise.jax.primitives import PRIMITIVES, Array, Size, Wanted, backward_p, forward_p, tangent_p
from depthwise.native import library_path
from depthwise.spec import Spec

__all__: list[str] = []

_FORWARD = "depthwise_xla_forward"
_BACKWARD = "depthwise_xla_backward"


def _register_handlers() -> None:
    library = ctypes.CDLL(library_path("_xla_ffi"))
    for name in (_FORWARD, _BACKWARD):
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(library, name)), platform="cpu")


@functools.lru_cache(maxsize=1024)
def _attributes(spec: Spec) -> dict[str, Any]:
    """What the handlers read about the convolution."""
    same = spec.padding == "same"
    explicit = ((0, 0), (0, 0)) if isinstance(spec.padding, str) else spec.padding
    return {
        "strides": np.array(spec.strides, np.int64),
        "dilation": np.array(spec.dilation_rate, np.int64),
        "same": same,
        "padding": np.array(explicit, np.int64).reshape(4),
        "channels_first": spec.data_format == "channels_first",
        "activation": np.int32(spec.activation.info.code),
        "alpha": np.float64(spec.activation.alpha),
    }


def _on_one_device(context: Any) -> bool:
    """Whether the code that is being lowered runs on a single device, or on one device's part of the arrays.

    Where `jax.shard_map` leaves some mesh axes to XLA it counts as such, too: JAX's partitioning does not support
    that, and XLA then gathers the operands along those axes.
    """
    axes = context.module_context.axis_context
    return not isinstance(axes, mlir.ShardingContext) or axes.num_devices == 1


def _forward(context: Any, *operands: Any, spec: Spec, keep_preactivation: bool) -> Any:
    if _on_one_device(context):
        return jax.ffi.ffi_lowering(_FORWARD)(context, *operands, **_attributes(spec))
    partitioned = partitioning.forward(spec, len(operands) == 3, keep_preactivation)
    return _lower(partitioned, context, operands)


def _backward(context: Any, *operands: Any, spec: Spec, wanted: Wanted, input_size: Size | None) -> Any:
    if _on_one_device(context):
        return jax.ffi.ffi_lowering(_BACKWARD)(
            context,
            *operands,
            **_attributes(spec),
            kernel_size=np.array(spec.kernel_size, np.int64),
            multiplier=np.int64(spec.depth_multiplier),
            input_gradient=wanted.x,
            kernel_gradient=wanted.kernel,
            bias_gradient=wanted.bias,
        )
    return _lower(partitioning.backward(spec, wanted, input_size), context, operands)


def _lower(function: Any, context: Any, operands: Sequence[Any]) -> Any:
    return mlir.lower_fun(function, multiple_results=True)(context, *operands)


@functools.lru_cache(maxsize=1024)
def _compiled(primitive: Any, parameters: tuple[tuple[str, Any], ...]) -> Any:
    return jax.jit(functools.partial(primitive.bind, **dict(parameters)))


def _run(primitive: Any, *operands: Array, **parameters: Any) -> Any:
    """A primitive that is called on arrays, outside of any compiled function, is compiled by itself."""
    return _compiled(primitive, tuple(parameters.items()))(*operands)


_register_handlers()
for _primitive in PRIMITIVES:
    _primitive.def_impl(functools.partial(_run, _primitive))
mlir.register_lowering(tangent_p, mlir.lower_fun(tangent_in_parts, multiple_results=True))
mlir.register_lowering(forward_p, mlir.lower_fun(fallback.forward, multiple_results=True))
mlir.register_lowering(backward_p, mlir.lower_fun(fallback.backward, multiple_results=True))
mlir.register_lowering(forward_p, _forward, platform="cpu")
mlir.register_lowering(backward_p, _backward, platform="cpu")
