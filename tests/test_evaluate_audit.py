"""The statistics audited by simulation: coverage of intervals, size and power of the tests.

Each figure is held against a closed form or its nominal value, within four standard errors of the
simulation itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray

from espalier.evaluate import significance as sig
from espalier.evaluate.significance import Analysis, Column

pytestmark = pytest.mark.slow

Array = NDArray[np.float64]
Drawn = Callable[[np.random.Generator], tuple[Array, Array]]
ALPHA = 0.05


def noise(share: float, trials: int) -> float:
    """Four standard errors of a share found by simulation."""
    return 4 * math.sqrt(share * (1 - share) / trials)


def analysis(seed: int, *, resamples: int = 100, permutations: int = 199) -> Analysis:
    return Analysis(resamples=resamples, permutations=permutations, confidence=1 - ALPHA, seed=seed)


def of(values: Array, *, binary: bool = False, groups: NDArray[np.int64] | None = None) -> Column:
    column = Column.of_means([float(v) for v in values], binary=binary)
    column.groups = groups
    return column


# --- intervals -------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [15, 60])
def test_coverage_of_a_mean_difference_is_that_of_the_closed_form(n: int) -> None:
    """For normal rows the percentile bootstrap is mean ± z s √((n - 1) / n) / √n."""
    from scipy import stats

    trials, covered = 1000, 0
    for trial in range(trials):
        draw = np.random.default_rng([n, trial])
        base = draw.normal(size=n)
        model = base + 0.4 + draw.normal(size=n)
        [one] = analysis(trial, resamples=500, permutations=1).compare([(of(base), of(model))])
        assert one.low is not None and one.high is not None
        covered += one.low <= 0.4 <= one.high
    z = NormalDist().inv_cdf(1 - ALPHA / 2)
    expected = 2 * stats.t.cdf(z * math.sqrt((n - 1) / n), n - 1) - 1
    # 500 resamples make the ends themselves uncertain: a little narrower on average.
    assert covered / trials == pytest.approx(expected, abs=noise(expected, trials) + 0.005)


def test_coverage_of_a_perplexity_difference() -> None:
    """exp of a ratio of sums, over texts of very different length."""
    trials, covered = 600, 0
    for trial in range(trials):
        draw = np.random.default_rng([2, trial])
        tokens = draw.geometric(0.02, size=150).astype(float)
        rates = draw.gamma(8.0, 0.25, size=150)  # nats a token of a text: 2 on average
        columns = [
            Column(
                np.stack([tokens * rates * scale * draw.gamma(50, 1 / 50, size=150), tokens], 1),
                np.ones(150, bool),
                sig.EXP_RATIO,
            )
            for scale in (1.0, 0.95)
        ]
        ours = analysis(trial, resamples=400, permutations=1)
        [one] = ours.compare([(columns[0], columns[1])])
        assert one.low is not None and one.high is not None
        covered += one.low <= math.exp(1.9) - math.exp(2.0) <= one.high
    assert 0.90 <= covered / trials <= 0.98


def test_shares_over_repeated_prompts_are_covered() -> None:
    """Wilson's interval at the effective number of rows; without clusters it is far too narrow."""
    trials, covered, naive = 600, 0, 0
    groups = np.repeat(np.arange(60), 5)
    for trial in range(trials):
        draw = np.random.default_rng([3, trial])
        # A prompt's own rate is Beta(1.5, 3.5), .3 on average: answers to it go together.
        values = (draw.random(300) < draw.beta(1.5, 3.5, size=60)[groups]).astype(float)
        ours = analysis(trial)
        together, apart = ours.intervals([of(values, binary=True, groups=groups),
                                          of(values, binary=True)])  # fmt: skip
        for interval, right in ((together, True), (apart, False)):
            assert interval.low is not None and interval.high is not None
            hit = interval.low <= 0.3 <= interval.high
            covered += hit and right
            naive += hit and not right
    assert covered / trials == pytest.approx(1 - ALPHA, abs=noise(ALPHA, trials))
    assert naive / trials < 0.88


# --- the size of the tests -------------------------------------------------------------------


def skewed(draw: np.random.Generator) -> tuple[Array, Array]:
    hard = draw.exponential(size=50)
    return hard * draw.exponential(size=50), hard * draw.exponential(size=50)


def shares(draw: np.random.Generator) -> tuple[Array, Array]:
    easy = draw.random(80)
    return (draw.random(80) < easy).astype(float), (draw.random(80) < easy).astype(float)


def mostly_equal(draw: np.random.Generator) -> tuple[Array, Array]:
    base = draw.normal(size=100)
    return base, base + draw.normal(size=100) * (draw.random(100) < 0.1)


@pytest.mark.parametrize("drawn", [skewed, shares, mostly_equal])
def test_equal_models_are_called_different_no_more_often_than_said(drawn: Drawn) -> None:
    trials, found = 1200, 0
    for trial in range(trials):
        base, model = drawn(np.random.default_rng([5, trial]))
        [one] = analysis(trial).compare([(of(base), of(model))])
        assert one.p_value is not None
        found += one.p_value <= ALPHA
    # An exchange test is exact; ties among rows can only make it call fewer.
    assert found / trials <= ALPHA + noise(ALPHA, trials)
    assert found / trials >= 0.4 * ALPHA


@pytest.mark.ci_slice
def test_the_size_of_the_tests_where_prompts_repeat() -> None:
    """Clusters of unequal size exchanged whole keep the level; rows by themselves do not."""
    trials, together, apart = 800, 0, 0
    sizes = np.array([1] * 20 + [3] * 10 + [8] * 5)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    for trial in range(trials):
        draw = np.random.default_rng([7, trial])
        base = draw.normal(size=len(groups))
        model = base + draw.normal(size=len(sizes))[groups] + 0.3 * draw.normal(size=len(groups))
        ours = analysis(trial)
        whole, single = ours.compare(
            [(of(base, groups=groups), of(model, groups=groups)), (of(base), of(model))]
        )
        assert whole.p_value is not None and single.p_value is not None
        together += whole.p_value <= ALPHA
        apart += single.p_value <= ALPHA
    assert together / trials == pytest.approx(ALPHA, abs=noise(ALPHA, trials))
    assert apart / trials > 0.2


def test_the_paired_bootstrap_test_is_one_sided_in_effect() -> None:
    """Koehn's p is below alpha where the difference is beyond z(1 - alpha): twice as often."""
    trials, found, verdicts = 1000, 0, 0
    for trial in range(trials):
        draw = np.random.default_rng([11, trial])
        base = draw.normal(size=100)
        ours = Analysis(resamples=500, permutations=1, confidence=0.95, seed=trial,
                        test="bootstrap")  # fmt: skip
        [one] = ours.compare([(of(base), of(base + draw.normal(size=100)))])
        assert one.p_value is not None
        found += one.p_value <= ALPHA
        verdicts += sig.verdict(one, one.p_value, True, ALPHA) != "tie"
    assert found / trials == pytest.approx(2 * ALPHA, abs=noise(2 * ALPHA, trials) + 0.01)
    # The two-sided interval has to exclude 0 as well, so one verdict keeps the level.
    assert verdicts / trials == pytest.approx(ALPHA, abs=noise(ALPHA, trials) + 0.01)


# --- many comparisons, and power -------------------------------------------------------------


def test_a_table_without_differences_has_a_verdict_once_in_twenty() -> None:
    """Holm over three models and four correlated metrics, all equal: the family-wise error."""
    trials, any_called, raw = 500, 0, 0
    for trial in range(trials):
        draw = np.random.default_rng([13, trial])
        hard = draw.normal(size=(1, 1, 60))
        values = hard + draw.normal(size=(4, 1, 60)) + draw.normal(size=(1, 4, 60))
        values = values + draw.normal(size=(4, 4, 60))  # model, metric, row
        columns = [[of(row) for row in model] for model in values]
        pairs = [(columns[0][m], columns[k][m]) for k in (1, 2, 3) for m in range(4)]
        found = analysis(trial, resamples=200, permutations=399).compare(pairs)
        p_values = [1.0 if one.p_value is None else one.p_value for one in found]
        corrected = sig.holm(p_values)
        any_called += any(
            sig.verdict(one, p, True, ALPHA) != "tie"
            for one, p in zip(found, corrected, strict=True)
        )
        raw += min(p_values) <= ALPHA
    assert any_called / trials <= ALPHA + noise(ALPHA, trials)
    assert raw / trials > 0.25


@pytest.mark.parametrize("clustered", [False, True])
def test_a_detectable_difference_is_found_four_times_of_five(clustered: bool) -> None:
    """The whole way: the difference that one evaluation names, put into new evaluations."""
    rows, trials = 120, 700
    groups = np.repeat(np.arange(rows // 2), 2) if clustered else None

    def draw_pair(seed: list[int], shift: float) -> tuple[Column, Column]:
        draw = np.random.default_rng(seed)
        base = draw.normal(size=rows)
        change = draw.normal(size=rows // 2)[np.repeat(np.arange(rows // 2), 2)]
        if groups is None:
            change = draw.normal(size=rows)
        return of(base, groups=groups), of(base + change + shift, groups=groups)

    # The mean of the sizes that evaluations without a difference name.
    named = []
    for trial in range(40):
        pair = draw_pair([17, trial], 0.0)
        [one] = analysis(trial, resamples=1000, permutations=1).compare([pair])
        size = sig.detectable(one.error, ALPHA, 0.8)
        assert size is not None
        named.append(size)
    size = float(np.mean(named))
    units = rows // 2 if clustered else rows
    assert size == pytest.approx((1.959964 + 0.841621) / math.sqrt(units), rel=0.05)
    found = 0
    for trial in range(trials):
        [one] = analysis(trial, permutations=399).compare([draw_pair([19, trial], size)])
        assert one.p_value is not None
        found += one.p_value <= ALPHA
    assert found / trials == pytest.approx(0.8, abs=noise(0.8, trials) + 0.01)
