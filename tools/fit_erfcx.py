"""Fit the polynomial behind GELU's normal distribution function.

The kernels need ``erfcx(x) = exp(x**2) * erfc(x)`` for ``x >= 0`` in float32 and float64. The map
``t = (x - K) / (x + K)`` takes the half line to ``[-1, 1)``, where ``(1 + 2 x) * erfcx(x)`` is smooth
and bounded, so that a short polynomial in ``t`` keeps its relative error everywhere (the idea is
Shepherd and Laframboise's, Math. Comp. 36, 1981). The coefficients printed here are interpolated at
Chebyshev nodes in 60 digits and stand in ``csrc/kernels/elementary.h``.

Run ``python tools/fit_erfcx.py`` (needs mpmath).
"""

from __future__ import annotations

import mpmath as mp

K = 3.75


def scaled_erfcx(x: mp.mpf) -> mp.mpf:
    """``(1 + 2 x) * exp(x**2) * erfc(x)``, by its asymptotic limit where erfc underflows."""
    return (1 + 2 * x) * mp.exp(x * x) * mp.erfc(x)


def fit(degree: int) -> list[mp.mpf]:
    """Coefficients of the interpolating polynomial in ``t``, constant term first."""
    nodes = [mp.cos(mp.pi * (2 * i + 1) / (2 * degree + 2)) for i in range(degree + 1)]
    values = [scaled_erfcx(K * (1 + t) / (1 - t)) for t in nodes]
    chebyshev = [
        (2 if k else 1)
        * mp.fsum(v * mp.cos(k * mp.acos(t)) for t, v in zip(nodes, values, strict=True))
        / (degree + 1)
        for k in range(degree + 1)
    ]
    # Chebyshev to monomial coefficients, by the recurrence T(k+1) = 2 t T(k) - T(k-1).
    previous, current = [mp.mpf(1)], [mp.mpf(0), mp.mpf(1)]
    monomial = [mp.mpf(0)] * (degree + 1)
    monomial[0] += chebyshev[0]
    for k in range(1, degree + 1):
        for i, c in enumerate(current):
            monomial[i] += chebyshev[k] * c
        following = [mp.mpf(0)] + [2 * c for c in current]
        for i, c in enumerate(previous):
            following[i] -= c
        previous, current = current, following
    return monomial


def worst_error(coefficients: list[mp.mpf]) -> mp.mpf:
    """Largest relative error of erfcx over a grid of ``0 <= x <= 40``."""
    worst = mp.mpf(0)
    for i in range(2001):
        x = mp.mpf(i) / 50
        t = (x - K) / (x + K)
        exact = scaled_erfcx(x)
        worst = max(worst, abs(mp.polyval(coefficients[::-1], t) - exact) / exact)
    return worst


def main() -> None:
    mp.mp.dps = 60
    for name, degree in (("float", 12), ("double", 22)):
        coefficients = fit(degree)
        print(f"// {name}: degree {degree}, relative error {mp.nstr(worst_error(coefficients), 2)}")
        print(", ".join(mp.nstr(c, 17 if name == "double" else 9) for c in coefficients))


if __name__ == "__main__":
    main()
