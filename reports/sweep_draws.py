"""What a random search says of each option that it drew: one regression over all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from espalier.reports.student import Mean, t_quantile, two_sided
from espalier.reports.sweep_effects import WIDE, Effect, Trend, corrected, scaled
from espalier.reports.sweep_power import detectable


def draw_trends(
    factors: Sequence[Sequence[float]], values: Sequence[float], higher: bool, confidence: float
) -> list[Trend] | None:
    """The slope of the value over each factor, the others held: ordinary least squares.

    `factors` has a list of shape [draws] for each option, `values` is [draws]; the intervals are
    Student's with draws - options - 1 degrees of freedom, p corrected after Holm over the options.
    None where there are too few draws for that, or an option did not vary on its own. A straight
    line misses an optimum in the middle of a range: look at the points.
    """
    units = ["doubling" if min(f) > 0 and max(f) / min(f) >= WIDE else "range"
             for f in factors if min(f) < max(f)]  # fmt: skip
    freedom = len(values) - len(factors) - 1
    if len(units) < len(factors) or not factors or freedom < 1:
        return None
    columns = [scaled(f, unit) for f, unit in zip(factors, units, strict=True)]
    x = np.column_stack([np.ones(len(values)), *columns])
    y = np.asarray(values, dtype=np.float64)
    if np.linalg.matrix_rank(x) < x.shape[1]:
        return None
    beta, *_ = np.linalg.lstsq(x, y, rcond=None)
    left = y - x @ beta
    spread = np.linalg.inv(x.T @ x) * float(left @ left) / freedom
    found = [
        _effect(
            float(beta[place]),
            math.sqrt(max(0.0, spread[place, place])),
            len(values),
            len(factors),
            confidence,
        )
        for place in range(1, x.shape[1])
    ]
    return [
        Trend("doubling" if unit == "doubling" else "range", effect)
        for unit, effect in zip(units, corrected(found, higher, confidence), strict=True)
        if effect is not None
    ]


def _effect(value: float, error: float, n: int, family: int, confidence: float) -> Effect:
    freedom = n - family - 1
    if not error > 1e-12 * abs(value):
        return Effect("same", Mean(value, None, None, n))
    half = t_quantile(0.5 + confidence / 2, freedom) * error
    mean = Mean(value, value - half, value + half, n)
    smallest = detectable(error, freedom, (1 - confidence) / family)
    return Effect("draws", mean, two_sided(value / error, freedom), smallest)
