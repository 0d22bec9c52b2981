"""The fused activations: one table that every front-end, kernel and tool reads.

An activation is applied to the output of the convolution while it is still in registers. This module says
which ones exist, what they compute, how they are spelled and which number stands for each in the compiled
core (`csrc/params.h` holds the same numbers). It imports no array library; the float64 implementation that
everything is tested against is in `reference.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

__all__ = ["ACTIVATIONS", "Activation", "ActivationInfo", "ActivationLike", "normalise"]


@dataclass(frozen=True, slots=True)
class ActivationInfo:
    """What is known about one activation.

    Attributes:
        code: the number that stands for it in the compiled core. Never reused or renumbered.
        formula: what it computes, in Python notation, with `x` the value it is given.
        help: one sentence on what it is and where it is met.
        aliases: other names that are accepted for it.
        default_alpha: the value of `alpha` in the formula when none is given; None when the formula has none.
        needs_preactivation: whether its derivative is computed from its input. Where False the output is
            enough, so a training step does not have to keep the input.
    """

    code: int
    formula: str
    help: str
    aliases: tuple[str, ...] = ()
    default_alpha: float | None = None
    needs_preactivation: bool = False


ACTIVATIONS: Mapping[str, ActivationInfo] = MappingProxyType(
    {
        "linear": ActivationInfo(0, "x", "No activation: the result of the convolution as it is."),
        "relu": ActivationInfo(1, "max(x, 0)", "Rectified linear unit: negative values become 0."),
        "relu6": ActivationInfo(
            2, "min(max(x, 0), 6)", "ReLU that saturates at 6, as in MobileNetV1 and MobileNetV2."
        ),
        "leaky_relu": ActivationInfo(
            3,
            "x if x > 0 else alpha * x",
            "ReLU that keeps a slope of alpha on the negative side.",
            default_alpha=0.2,
        ),
        "elu": ActivationInfo(
            4,
            "x if x > 0 else alpha * expm1(x)",
            "Exponential linear unit: approaches -alpha smoothly on the negative side.",
            default_alpha=1.0,
        ),
        "silu": ActivationInfo(
            5,
            "x * sigmoid(x)",
            "Sigmoid linear unit, also known as swish, as in EfficientNet.",
            aliases=("swish",),
            needs_preactivation=True,
        ),
        "hard_swish": ActivationInfo(
            6,
            "x * min(max(x + 3, 0), 6) / 6",
            "Piecewise quadratic stand-in for silu, as in MobileNetV3.",
            aliases=("hard_silu",),
            needs_preactivation=True,
        ),
        "hard_sigmoid": ActivationInfo(
            7, "min(max(x + 3, 0), 6) / 6", "Piecewise linear stand-in for the sigmoid."
        ),
        "sigmoid": ActivationInfo(8, "1 / (1 + exp(-x))", "Logistic function: squeezes values into (0, 1)."),
        "tanh": ActivationInfo(9, "tanh(x)", "Hyperbolic tangent: squeezes values into (-1, 1)."),
        "gelu": ActivationInfo(
            10,
            "x * (1 + erf(x / sqrt(2))) / 2",
            "Gaussian error linear unit, in its exact form.",
            needs_preactivation=True,
        ),
        "gelu_tanh": ActivationInfo(
            11,
            "x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2",
            "Gaussian error linear unit, in its tanh approximation.",
            needs_preactivation=True,
        ),
        "softplus": ActivationInfo(12, "log1p(exp(x))", "Smooth form of the ReLU; always positive."),
    }
)

_CANONICAL: Mapping[str, str] = MappingProxyType(
    {spelling: name for name, info in ACTIVATIONS.items() for spelling in (name, *info.aliases)}
)


@dataclass(frozen=True, slots=True, init=False)
class Activation:
    """One activation with its parameter, normalised: equal activations compare and hash equal.

    >>> Activation("Swish")
    Activation(name='silu', alpha=0.0)
    >>> Activation("leaky_relu")
    Activation(name='leaky_relu', alpha=0.2)

    Args:
        name: a key of `ACTIVATIONS` or one of the aliases there, in any case. Kept as the key.
        alpha: the `alpha` in the formulas of `leaky_relu` (default 0.2) and `elu` (default 1.0): a finite
            number, not negative, since the sign of the output must tell the sign of the input for the
            derivative. 0.0 on every activation whose formula has no `alpha`.

    Raises:
        TypeError: `name` is not a string or `alpha` not a number.
        ValueError: `name` is unknown, or `alpha` is negative, not finite, or given where the formula has
            none.
    """

    name: str
    alpha: float

    def __init__(self, name: str, alpha: float | None = None) -> None:
        canonical = _canonical_name(name)
        object.__setattr__(self, "name", canonical)
        object.__setattr__(self, "alpha", _normalised_alpha(canonical, alpha))

    @property
    def info(self) -> ActivationInfo:
        """The activation's row of `ACTIVATIONS`."""
        return ACTIVATIONS[self.name]


ActivationLike: TypeAlias = "str | tuple[str, float] | Activation | None"


def normalise(activation: ActivationLike) -> Activation:
    """Turn any accepted way to name an activation into an `Activation`.

    >>> normalise(None)
    Activation(name='linear', alpha=0.0)
    >>> normalise(("elu", 0.5))
    Activation(name='elu', alpha=0.5)

    Args:
        activation: None for no activation, a name or alias in any case, a pair (name, alpha), or an
            `Activation`.

    Raises:
        TypeError: it is none of these.
        ValueError: the name is unknown or the alpha not allowed; see `Activation`.
    """
    if isinstance(activation, Activation):
        return activation
    if activation is None:
        return Activation("linear")
    if isinstance(activation, (tuple, list)):
        if len(activation) != 2:
            raise ValueError(f"activation: expected a pair (name, alpha), got {activation!r}")
        return Activation(*activation)
    return Activation(activation)


def _canonical_name(name: str) -> str:
    if not isinstance(name, str):
        raise TypeError(
            "activation: expected None, a name, a pair (name, alpha) or an Activation, "
            f"got {name!r} of type {type(name).__name__}"
        )
    canonical = _CANONICAL.get(name.lower())
    if canonical is None:
        raise ValueError(f"activation: expected one of {', '.join(sorted(_CANONICAL))}, got {name!r}")
    return canonical


def _normalised_alpha(name: str, alpha: float | None) -> float:
    default = ACTIVATIONS[name].default_alpha
    if alpha is None:
        return 0.0 if default is None else default
    try:
        if isinstance(alpha, (bool, str)):
            raise TypeError
        number = float(alpha)
    except OverflowError:
        number = math.inf
    except TypeError:
        raise TypeError(
            f"activation: expected a number for the alpha of {name}, "
            f"got {alpha!r} of type {type(alpha).__name__}"
        ) from None
    if default is None:
        if number == 0.0:
            return 0.0
        raise ValueError(f"activation: {name} has no alpha: expected none, got {alpha!r}")
    if not (math.isfinite(number) and number >= 0.0):
        raise ValueError(f"activation: expected a finite alpha of at least 0 for {name}, got {alpha!r}")
    return abs(number)  # -0.0 would be a different bit pattern in the kernels
