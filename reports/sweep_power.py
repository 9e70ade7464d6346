"""How small an effect a handful of repeats could still have shown."""

from __future__ import annotations

import math

import numpy as np

from espalier.reports.student import t_quantile

# An effect is called detectable where it would be found in four of five such experiments.
POWER = 0.8
_POINTS = 601


def detectable(error: float, freedom: int, alpha: float, power: float = POWER) -> float | None:
    """The smallest true effect that a two-sided t-test finds with this power.

    `error` is the standard error of the effect (of a mean of n differences their deviation/√n,
    with n - 1 degrees of freedom), `alpha` the level of the test. It is the error measured here, so
    for few repeats the result is rough itself. None without a degree of freedom or an error.
    Source: Cohen, Statistical Power Analysis (1988), chapter 2, solved for the effect.
    """
    if freedom < 1 or not error > 0:
        return None
    critical = t_quantile(1 - alpha / 2, freedom)
    low, high = 0.0, 1.0
    while t_power(high, freedom, critical) < power:
        low, high = high, 2 * high
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        found = t_power(middle, freedom, critical) >= power
        low, high = (low, middle) if found else (middle, high)
    return high * error


def t_power(shift: float, freedom: int, critical: float) -> float:
    """How often |T| exceeds `critical`, T being noncentral t with this shift.

    T = (Z + shift) / S with S = sqrt(chi²/freedom): the normal tail beyond critical · S, averaged
    over the density of S by Simpson's rule.
    """
    spread = 12 / math.sqrt(2 * freedom)
    s = np.linspace(max(0.0, 1 - spread), 1 + spread, _POINTS)
    half = freedom / 2
    with np.errstate(divide="ignore"):
        log_density = (
            math.log(2) + half * math.log(half) - math.lgamma(half)
            + (freedom - 1) * (np.log(s) if freedom > 1 else 0.0) - half * s**2
        )  # fmt: skip
    tails = np.array(
        [_normal_tail(critical * x - shift) + _normal_tail(critical * x + shift) for x in s]
    )
    weights = np.ones(_POINTS)
    weights[1:-1:2], weights[2:-1:2] = 4.0, 2.0
    return float(np.sum(weights * np.exp(log_density) * tails) * (s[1] - s[0]) / 3)


def _normal_tail(z: float) -> float:
    return 0.5 * math.erfc(z / math.sqrt(2))
