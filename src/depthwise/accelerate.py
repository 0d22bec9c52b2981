"""`accelerate`: a model of Keras or PyTorch, with these layers where the frameworks' own stand.

The work is done in the model's own front-end; here is found out whose model it is, without importing a framework that
the caller has not imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from depthwise.replacements import Replacement, print_report

__all__ = ["accelerate"]

Model = TypeVar("Model")


def accelerate(
    model: Model,
    *,
    inference: bool = False,
    report: Callable[[Sequence[Replacement]], None] | None = print_report,
) -> Model:
    """Put this package's depthwise layers where a Keras or PyTorch model has its framework's own.

    The model is changed in place and computes the same, to the rounding of its dtype. Its weights stay the very
    objects they are, so optimizers, checkpoints and shared layers go on as before; names, trainability and hooks
    are kept.

    In Keras models: DepthwiseConv2D, DepthwiseConv1D, SeparableConv2D, SeparableConv1D, and Conv2D with as many groups
    as input channels. In PyTorch modules: nn.Conv2d with as many groups as input channels. Subclasses of these, which
    may compute something else, are left and reported.

    Args:
        model: a Keras 3 model or layer on the tensorflow, jax, torch or numpy backend, or a `torch.nn.Module`.
        inference: whether to fold a batch normalization that follows a depthwise layer into its weights, as it is in
            inference, and to compute the activation that follows with the convolution, wherever nothing else reads
            the values between. The result is for inference only. A Keras model must be Sequential or functional for
            that; the result is a new model, which shares all layers but the folded ones with `model`. A PyTorch module
            is changed in place and put in evaluation mode; what was folded away becomes `nn.Identity`.
        report: is given what was done about each layer; prints it by default. None for silence.

    Returns:
        `model`; with `inference=True` on Keras, a new one.

    Raises:
        TypeError: `model` is neither.
        NotImplementedError: Keras runs on another backend. The model is as it was.
    """
    keras, torch = sys.modules.get("keras"), sys.modules.get("torch")
    replacements: list[Replacement] = []
    result: Any
    if keras is not None and isinstance(
        model, keras.layers.Layer
    ):  # with the torch backend it is a Module as well
        from depthwise.keras.accelerate import accelerate_model

        result = accelerate_model(model, inference, replacements)
    elif torch is not None and isinstance(model, torch.nn.Module):
        from depthwise.torch.accelerate import accelerate_module

        result = accelerate_module(model, inference, replacements)
    else:
        raise TypeError(
            "model: expected a Keras model or layer or a torch.nn.Module, "
            f"got {type(model).__module__}.{type(model).__qualname__}"
        )
    if report is not None:
        report(replacements)
    return result  # type: ignore[no-any-return]
