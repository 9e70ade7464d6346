"""Agreement against published values, naive definitions, and scipy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest

from espalier.alpha import equal_share
from espalier.evaluate.agreement import (
    Level,
    concordance,
    krippendorff,
    ranks,
    spearman,
)

NO = None
# Four observers and twelve units with missing values: Krippendorff 2011, section C.
PUBLISHED = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NO, NO, NO],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NO, 3],
    [NO, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NO],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NO],
]


@pytest.mark.parametrize(
    ("level", "expected"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]
)
def test_alpha_is_the_published_one(level: Level, expected: float) -> None:
    found = krippendorff(list(zip(*PUBLISHED, strict=True)), level)
    assert found.alpha == pytest.approx(expected, abs=0.0005)
    # Unit 12 has one rating and can't be paired.
    assert (found.units, found.ratings) == (11, 40)


def naive(units: Sequence[Sequence[float | None]], level: Level) -> float:
    """1 - observed / expected disagreement, from the definition, pair by pair."""
    given = [[v for v in unit if v is not None] for unit in units]
    given = [unit for unit in given if len(unit) > 1]
    pool = [value for unit in given for value in unit]

    def distance(a: float, b: float) -> float:
        if level == "nominal":
            return float(a != b)
        if level == "interval":
            return (a - b) ** 2
        low, high = min(a, b), max(a, b)
        between = sum(low <= v <= high for v in pool)
        return (between - (pool.count(a) + pool.count(b)) / 2) ** 2 if a != b else 0.0

    observed = sum(
        distance(a, b) / (len(unit) - 1)
        for unit in given
        for a, b in itertools.permutations(unit, 2)
    )
    expected = sum(distance(a, b) for a, b in itertools.permutations(pool, 2))
    return 1 - (observed / len(pool)) / (expected / (len(pool) * (len(pool) - 1)))


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
@pytest.mark.parametrize("seed", range(5))
def test_alpha_is_the_definition(level: Level, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(1, 6, 15)
    units = [
        [
            None if rng.random() < 0.3 else float(np.clip(value + rng.integers(-1, 2), 1, 5))
            for _ in range(4)
        ]
        for value in truth
    ]
    assert krippendorff(units, level).alpha == pytest.approx(naive(units, level), abs=1e-12)


def test_corner_cases_of_alpha() -> None:
    assert krippendorff([], "nominal").alpha is None
    assert krippendorff([[1.0, None], [None, 2.0]], "ordinal").alpha is None
    # All the same: there is nothing to agree about.
    same = krippendorff([[3.0, 3.0]] * 4, "ordinal", resamples=20)
    assert same.alpha is None and same.equal == 1.0 and same.low is None
    perfect = krippendorff([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]], "ordinal", resamples=100)
    assert perfect.alpha == 1.0 and perfect.high == 1.0
    against = krippendorff([[0.0, 1.0], [1.0, 0.0]], "nominal")
    assert against.alpha is not None and against.alpha < 0


def test_raters_by_chance_have_an_alpha_of_nought_within_the_interval() -> None:
    rng = np.random.default_rng(1)
    units = rng.integers(1, 6, (400, 3)).astype(float).tolist()
    found = krippendorff(units, "interval", resamples=300, seed=3)
    assert found.low is not None and found.high is not None
    assert found.low < 0 < found.high and found.high - found.low < 0.2
    assert found.equal == pytest.approx(0.2, abs=0.04)


def test_clusters_widen_the_interval() -> None:
    rng = np.random.default_rng(2)
    units: list[list[float]] = []
    for _ in range(20):
        one = rng.integers(1, 6, 2).astype(float).tolist()
        units += [one] * 10
    groups = np.repeat(np.arange(20), 10)
    alone = krippendorff(units, "interval", resamples=300, seed=3)
    together = krippendorff(units, "interval", resamples=300, seed=3, groups=groups)
    assert alone.alpha == together.alpha
    assert alone.low is not None and alone.high is not None
    assert together.low is not None and together.high is not None
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_equal_share_counts_pairs_of_raters() -> None:
    assert equal_share([[1, 1, 2], [3, 3]]) == pytest.approx(2 / 4)
    assert equal_share([[1.0]]) is None


def test_spearman_by_hand() -> None:
    # Without ties: 1 - 6 * sum(d^2) / (n (n^2 - 1)).
    x, y = [10.0, 20.0, 30.0, 40.0, 50.0], [1.0, 3.0, 2.0, 5.0, 4.0]
    found = spearman(x, y)
    assert found.value == pytest.approx(1 - 6 * 4 / (5 * 24))
    assert found.low is not None and found.high is not None
    assert -1 < found.low < 0.8 < found.high < 1
    assert ranks(np.array([5.0, 1.0, 5.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]
    assert spearman([1.0, 2.0], [3.0, 3.0]).value is None
    assert spearman([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]).value == pytest.approx(1.0)


@pytest.mark.slow
def test_spearman_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(4)
    x, y = rng.integers(0, 6, 80).astype(float), rng.normal(size=80)
    y += x
    expected = stats.spearmanr(x, y).statistic
    assert spearman(x.tolist(), y.tolist()).value == pytest.approx(expected, abs=1e-12)


def test_concordance_is_a_share_over_clusters() -> None:
    found = concordance(
        [1, 1, 0, 0.5] * 10, [n for n in range(10) for _ in range(4)],
        resamples=100, confidence=0.95, seed=1,
    )  # fmt: skip
    # Every cluster has the same share, so nothing varies between them.
    assert found.share == 0.625 and found.n == 40
    assert found.low == pytest.approx(0.625) and found.high == pytest.approx(0.625)
    assert concordance([], [], resamples=10, confidence=0.9, seed=1).share is None
    alone = concordance([1.0, 0.0], [3, 3], resamples=10, confidence=0.9, seed=1)
    assert alone.share == 0.5 and alone.low is None
    assert not math.isnan(alone.share)
