"""Student's t: quantiles and tails, for means of a handful of repeats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

_TINY = 1e-300
_STEPS = 300


@dataclass(frozen=True)
class Mean:
    """A mean of `n` values with its interval; `low` and `high` are None for fewer than two."""

    value: float
    low: float | None
    high: float | None
    n: int


def mean_interval(values: Sequence[float], confidence: float) -> Mean:
    """Mean and Student's interval of independent values (at least one)."""
    n = len(values)
    mean = math.fsum(values) / n
    if n < 2:
        return Mean(mean, None, None, n)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    half = t_quantile(0.5 + confidence / 2, n - 1) * math.sqrt(variance / n)
    return Mean(mean, mean - half, mean + half, n)


def welch(a: Sequence[float], b: Sequence[float], confidence: float) -> tuple[Mean, float | None]:
    """Mean of `b` less that of `a`, its interval without equal variances (Welch 1947), and p.

    Without at least two values on both sides there is no interval and no p.
    """
    one, two = math.fsum(a) / len(a), math.fsum(b) / len(b)
    if len(a) < 2 or len(b) < 2:
        return Mean(two - one, None, None, min(len(a), len(b))), None
    parts = [
        math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values)
        for values, mean in ((a, one), (b, two))
    ]
    error = math.sqrt(sum(parts))
    if error == 0:
        return Mean(two - one, two - one, two - one, min(len(a), len(b))), None
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1))
    half = t_quantile(0.5 + confidence / 2, freedom) * error
    found = Mean(two - one, two - one - half, two - one + half, min(len(a), len(b)))
    return found, two_sided((two - one) / error, freedom)


def paired(differences: Sequence[float], confidence: float) -> tuple[Mean, float | None]:
    """Mean of paired differences with Student's interval, and the two-sided p of no difference."""
    found = mean_interval(differences, confidence)
    if found.low is None or found.high is None or found.high == found.low:
        return found, None
    half = (found.high - found.low) / 2
    error = half / t_quantile(0.5 + confidence / 2, found.n - 1)
    return found, two_sided(found.value / error, found.n - 1)


def two_sided(t: float, freedom: float) -> float:
    """How often |T| is at least |t|, for `freedom` degrees of freedom."""
    return incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))


@lru_cache(maxsize=4096)
def t_quantile(p: float, freedom: float) -> float:
    """The value that T stays below with probability `p` > 0.5; by bisection, to 1e-12."""
    low, high = 0.0, 2.0
    while two_sided(high, freedom) / 2 > 1 - p:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if two_sided(middle, freedom) / 2 > 1 - p else (low, middle)
    return high


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function, by its continued fraction.

    Source: Abramowitz and Stegun 26.5.8, evaluated after Lentz (1976).
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(log_front + a * math.log(x) + b * math.log1p(-x)) / a
    fraction, c, d = 1.0, 1.0, 0.0
    for step in range(_STEPS):
        m = step // 2
        if step == 0:
            term = 1.0
        elif step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / (_away(1 + term * d))
        c = _away(1 + term / c)
        fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * (fraction - 1)


def _away(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
