"""Krippendorff's alpha: how far raters agree beyond chance.

Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability": any number of raters, missing
ratings allowed. A unit (an answer, or a pair of answers) that m raters valued gives each ordered
pair of its values the weight 1 / (m - 1); alpha is a function of the sum of these coincidences
over the units, so a bootstrap over units only has to add them up differently.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Level = Literal["nominal", "ordinal", "interval"]


def alpha(units: Sequence[Sequence[float]], level: Level) -> float | None:
    """Alpha of the ratings (one list a unit): 1 is perfect, 0 as by chance, below is worse.

    None where no unit has two ratings, or all ratings are the same value.
    """
    paired = [values for values in units if len(values) > 1]
    if not paired:
        return None
    values, counts = coincidences(paired)
    found = float(alpha_of(counts.sum(axis=0), values, level))
    return found if math.isfinite(found) else None


def coincidences(units: Sequence[Sequence[float]]) -> tuple[Array, Array]:
    """The values that occur, sorted (v), and the coincidences by unit (units, v, v)."""
    values = np.unique(np.concatenate([np.asarray(unit, dtype=np.float64) for unit in units]))
    counts = np.zeros((len(units), len(values), len(values)))
    for number, unit in enumerate(units):
        places = np.searchsorted(values, np.asarray(unit, dtype=np.float64))
        times = np.bincount(places, minlength=len(values)).astype(np.float64)
        counts[number] = (np.outer(times, times) - np.diag(times)) / (len(unit) - 1)
    return values, counts


def alpha_of(coincidence: Array, values: Array, level: Level) -> Array:
    """Alpha of summed coincidences (..., v, v); nan where there is nothing to tell apart.

    alpha = 1 - (n - 1) * sum(o * d) / sum(n_c * n_k * d), d being the squared difference of two
    values at the level of measurement.
    """
    marginal = coincidence.sum(axis=-1)
    n = marginal.sum(axis=-1)
    distance = _distance(marginal, values, level)
    observed = (coincidence * distance).sum(axis=(-2, -1))
    expected = (marginal[..., :, None] * marginal[..., None, :] * distance).sum(axis=(-2, -1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(expected > 0, 1 - (n - 1) * observed / expected, np.nan))


def _distance(marginal: Array, values: Array, level: Level) -> Array:
    if level == "interval":
        return np.asarray((values[:, None] - values[None, :]) ** 2)
    if level == "nominal":
        return 1.0 - np.eye(len(values))
    # Ordinal: how many ratings lie between the two values, each end counted half.
    below = np.cumsum(marginal, axis=-1) - marginal / 2
    return np.asarray((below[..., :, None] - below[..., None, :]) ** 2)


def equal_share(units: Sequence[Sequence[float]]) -> float | None:
    """The share of pairs of ratings of one unit that are the same value."""
    pairs = [one == other for unit in units for one, other in combinations(unit, 2)]
    return sum(pairs) / len(pairs) if pairs else None
