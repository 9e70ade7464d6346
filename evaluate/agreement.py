"""How far raters agree: Krippendorff's alpha with an interval, shares of equal ratings, rank
correlation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from espalier.alpha import Level, alpha_of, coincidences, equal_share
from espalier.evaluate.clusters import Groups, summed
from espalier.evaluate.resampling import bootstrap_sums, percentile_interval

Array = NDArray[np.float64]
# The ratings of one unit: one number a rater, None where a rater gave none.
Unit = Sequence[float | None]


@dataclass(frozen=True)
class Agreement:
    """Alpha (1: perfect, 0: as by chance, below: worse) with a bootstrap interval over units.

    `alpha` is None where no unit has two ratings, or all ratings are the same value. `units` and
    `ratings` count what can be paired; `equal` is the share of pairs of ratings of one unit that
    are the same.
    """

    level: Level
    alpha: float | None
    low: float | None
    high: float | None
    units: int
    ratings: int
    equal: float | None


def krippendorff(
    units: Sequence[Unit],
    level: Level,
    *,
    resamples: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
    groups: Groups | None = None,
) -> Agreement:
    """Krippendorff's alpha of the ratings; with `resamples` also an interval.

    `groups` (one number a unit) are clusters that are resampled whole, such as the answers to one
    prompt.
    """
    given = [[value for value in unit if value is not None] for unit in units]
    paired = [index for index, values in enumerate(given) if len(values) > 1]
    if not paired:
        return Agreement(level, None, None, None, 0, 0, None)
    chosen = [given[index] for index in paired]
    values, counts = coincidences(chosen)
    alpha = _number(alpha_of(counts.sum(axis=0), values, level))
    low = high = None
    if resamples and alpha is not None and len(paired) > 1:
        flat = counts.reshape(len(counts), -1)
        clustered = summed(flat, None if groups is None else groups[paired])
        sums = bootstrap_sums(clustered, resamples, seed)
        samples = alpha_of(sums.reshape(-1, len(values), len(values)), values, level)
        low, high = percentile_interval(samples, confidence) or (None, None)
    ratings = sum(map(len, chosen))
    return Agreement(level, alpha, low, high, len(paired), ratings, equal_share(chosen))


def _number(value: Array) -> float | None:
    return float(value) if math.isfinite(float(value)) else None


# --- correlation -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation of n pairs, with an interval where n > 3."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def ranks(values: Array) -> Array:
    """Ranks from 1, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts).astype(np.float64)
    return np.asarray((last - (counts - 1) / 2)[inverse])


def spearman(x: Sequence[float], y: Sequence[float], confidence: float = 0.95) -> Correlation:
    """Rank correlation; None where either side has only one value.

    Interval: Fisher's z with the variance (1 + r^2 / 2) / (n - 3) (Bonett and Wright 2000).
    """
    n = len(x)
    left, right = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if n < 2 or np.ptp(left) == 0 or np.ptp(right) == 0:
        return Correlation(None, None, None, n)
    r = float(np.corrcoef(ranks(left), ranks(right))[0, 1])
    r = max(-1.0, min(1.0, r))
    if n < 4 or abs(r) > 1 - 1e-12:
        return Correlation(r, None, None, n)
    half = NormalDist().inv_cdf(0.5 + confidence / 2) * math.sqrt((1 + r * r / 2) / (n - 3))
    return Correlation(r, math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half), n)


# --- who is ahead ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Concordance:
    """On how many of `n` pairs of answers, one of them preferred by people, a score says the same.

    A pair that the score gives the same number counts half. The interval is a bootstrap over
    clusters (prompts).
    """

    share: float | None
    low: float | None
    high: float | None
    n: int


def concordance(
    agreeing: Sequence[float], clusters: Sequence[int], *, resamples: int, confidence: float,
    seed: int,
) -> Concordance:  # fmt: skip
    """The mean of `agreeing` (1, 0.5 or 0 a pair) with an interval over its clusters."""
    n = len(agreeing)
    if not n:
        return Concordance(None, None, None, 0)
    statistics = np.stack([np.asarray(agreeing, dtype=np.float64), np.ones(n)], axis=1)
    by_cluster = summed(statistics, np.asarray(clusters, dtype=np.int64))
    share = float(statistics[:, 0].mean())
    if len(by_cluster) < 2:
        return Concordance(share, None, None, n)
    sums = bootstrap_sums(by_cluster, resamples, seed)
    low, high = percentile_interval(sums[:, 0] / sums[:, 1], confidence) or (None, None)
    return Concordance(share, low, high, n)
