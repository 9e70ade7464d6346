"""Intervals and p-values against naive loops, closed forms, scipy and sacrebleu's own tests."""

from __future__ import annotations

import math
import random
from itertools import product

import numpy as np
import pytest

from espalier.evaluate import resampling
from espalier.evaluate import significance as sig
from espalier.evaluate.significance import Analysis, Column, Comparison
from espalier.intervals import wilson


def analysis(seed: int = 1, resamples: int = 4000, permutations: int = 20000) -> Analysis:
    return Analysis(resamples=resamples, permutations=permutations, confidence=0.95, seed=seed)


def correlated(seed: int, n: int = 60, shift: float = 0.3) -> tuple[list[float], list[float]]:
    random_ = np.random.default_rng(seed)
    base = random_.normal(size=n)
    return list(base), list(base + shift + random_.normal(scale=0.8, size=n))


def naive_bootstrap(values: list[float], resamples: int, seed: int) -> tuple[float, float]:
    generator = random.Random(seed)
    means = sorted(
        sum(generator.choices(values, k=len(values))) / len(values) for _ in range(resamples)
    )
    return means[int(resamples * 0.025)], means[int(resamples * 0.975) - 1]


def test_bootstrap_interval_is_that_of_a_naive_loop() -> None:
    values, _ = correlated(1)
    [ours] = analysis().intervals([Column.of_means(values)])
    low, high = naive_bootstrap(values, 4000, 7)
    assert ours.value == pytest.approx(sum(values) / len(values))
    assert ours.low == pytest.approx(low, abs=0.02)
    assert ours.high == pytest.approx(high, abs=0.02)


def test_paired_interval_is_that_of_the_row_differences() -> None:
    base, model = correlated(2)
    [ours] = analysis().compare([(Column.of_means(base), Column.of_means(model))])
    differences = [b - a for a, b in zip(base, model, strict=True)]
    low, high = naive_bootstrap(differences, 4000, 3)
    assert ours.low == pytest.approx(low, abs=0.02)
    assert ours.high == pytest.approx(high, abs=0.02)


def test_p_value_is_scipys_paired_permutation_test() -> None:
    from scipy import stats

    for seed, shift in ((3, 0.3), (4, 0.0), (5, 0.15)):
        base, model = correlated(seed, shift=shift)
        [ours] = analysis().compare([(Column.of_means(base), Column.of_means(model))])
        theirs = stats.permutation_test(
            (model, base),
            lambda x, y, axis: np.abs(np.mean(x - y, axis=axis)),
            permutation_type="samples",
            alternative="greater",
            n_resamples=20000,
            vectorized=True,
            rng=np.random.default_rng(11),
        )
        assert ours.p_value == pytest.approx(theirs.pvalue, abs=0.012)


def test_p_value_of_few_rows_is_the_exact_enumeration() -> None:
    base, model = [0.0] * 8, [0.9, 0.4, 0.7, -0.2, 0.5, 0.3, 0.8, -0.1]
    observed = abs(sum(model))
    exact = (
        sum(
            abs(sum(s * d for s, d in zip(signs, model, strict=True))) >= observed - 1e-12
            for signs in product((1, -1), repeat=8)
        )
        / 2**8
    )
    [ours] = analysis().compare([(Column.of_means(base), Column.of_means(model))])
    assert ours.p_value == pytest.approx(exact, abs=0.005)


def test_corpus_bleu_agrees_with_sacrebleus_paired_tests() -> None:
    from sacrebleu.metrics import BLEU
    from sacrebleu.significance import PairedTest

    from espalier.evaluate.references import score_references

    generator = random.Random(5)
    words = [
        "the",
        "a",
        "cat",
        "dog",
        "sat",
        "ran",
        "on",
        "under",
        "mat",
        "tree",
        "red",
        "big",
        "small",
        "house",
        "and",
        "then",
    ]
    references = [" ".join(generator.choices(words, k=12)) for _ in range(80)]

    def spoilt(rate: float) -> list[str]:
        return [
            " ".join(w if generator.random() > rate else generator.choice(words) for w in r.split())
            for r in references
        ]

    systems = {"base": spoilt(0.30), "model": spoilt(0.24)}
    scored = score_references("bleu", {k: list(v) for k, v in systems.items()}, references)
    columns = scored.columns
    ours = analysis(resamples=4000, permutations=4000)
    intervals = ours.intervals([columns["base"], columns["model"]])
    [compared] = ours.compare([(columns["base"], columns["model"])])
    results = {}
    for kind in ("bs", "ar"):
        test = PairedTest(
            list(systems.items()), {"BLEU": BLEU()}, [references], test_type=kind, n_samples=4000
        )
        results[kind] = test()[1]["BLEU"]
    for interval, theirs in zip(intervals, results["bs"], strict=True):
        assert interval.value == pytest.approx(theirs.score, abs=1e-9)
        assert interval.low is not None and interval.high is not None
        half = (interval.high - interval.low) / 2
        assert half == pytest.approx(theirs.ci, rel=0.08)
    assert compared.p_value == pytest.approx(results["ar"][1].p_value, abs=0.03)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    covered = 0
    trials = 300
    for trial in range(trials):
        values = list(np.random.default_rng(trial).exponential(size=80))
        [interval] = analysis(seed=trial, resamples=400).intervals([Column.of_means(values)])
        assert interval.low is not None and interval.high is not None
        covered += interval.low <= 1.0 <= interval.high
    assert 0.89 <= covered / trials <= 0.98


def test_p_values_are_uniform_where_there_is_no_difference() -> None:
    p_values = []
    for trial in range(300):
        base, model = correlated(1000 + trial, n=40, shift=0.0)
        pair = (Column.of_means(base), Column.of_means(model))
        [compared] = analysis(trial, 100, 400).compare([pair])
        assert compared.p_value is not None
        p_values.append(compared.p_value)
    for level in (0.1, 0.3, 0.5, 0.8):
        share = sum(p <= level for p in p_values) / len(p_values)
        assert share == pytest.approx(level, abs=0.09)


def test_wilson_is_scipys_and_not_empty_at_the_ends() -> None:
    from scipy import stats

    for successes, n in ((0, 200), (3, 50), (120, 200), (50, 50)):
        theirs = stats.binomtest(successes, n).proportion_ci(method="wilson")
        assert wilson(successes / n, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    [zero] = analysis().intervals([Column.of_means([0.0] * 200, binary=True)])
    assert (zero.value, zero.low) == (0.0, 0.0)
    assert zero.high == pytest.approx(0.0188, abs=1e-3)


def test_holm_is_the_step_down_procedure() -> None:
    assert sig.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert sig.holm([0.5, 0.9]) == [1.0, 1.0]
    assert sig.holm([]) == []


@pytest.mark.parametrize("test", ["permutation", "bootstrap"])
def test_draws_that_can_give_no_verdict_are_known(test: sig.Test) -> None:
    few = Analysis(resamples=99, permutations=99, confidence=0.95, seed=1, test=test)
    assert few.draws_needed(5) is None  # 5 · 1/100 = 0.05
    assert few.draws_needed(6) == 119  # 6 · 1/120 = 0.05
    finer = few.finer(6)
    assert (finer.permutations, finer.resamples) == (
        (119, 99) if test == "permutation" else (99, 119)
    )
    assert finer.draws_needed(6) is None and few.finer(2).permutations == 99
    assert few.finer(10**9).draws_needed(10**9) is not None
    assert max(sig.holm([1 / 120] * 6)) == pytest.approx(0.05)
    assert sig.holm([1 / 100] * 6)[0] > 0.05


def test_a_comparison_uses_the_shared_rows_and_says_how_many() -> None:
    base = Column.of_means([1.0, None, 3.0, 4.0, math.nan])
    model = Column.of_means([2.0, 9.0, 5.0, None, 1.0])
    [compared] = analysis().compare([(base, model)])
    assert compared.n == 2
    assert compared.difference == pytest.approx(3.5 - 2.0)
    [interval] = analysis().intervals([base])
    assert interval.n == 3 and interval.value == pytest.approx(8 / 3)


def test_too_few_rows_give_no_interval() -> None:
    one = Column.of_means([1.0, None])
    none = Column.of_means([None, None])
    [first, second] = analysis().intervals([one, none])
    assert (first.value, first.low, first.high, first.n) == (1.0, None, None, 1)
    assert (second.value, second.n) == (None, 0)
    [compared] = analysis().compare([(one, none)])
    assert compared == Comparison(None, None, None, None, 0)


def test_verdicts() -> None:
    up = Comparison(0.2, 0.1, 0.3, 0.001, 100)
    assert sig.verdict(up, 0.01, True, 0.05) == "better"
    assert sig.verdict(up, 0.01, False, 0.05) == "worse"
    assert sig.verdict(up, 0.2, True, 0.05) == "tie"
    assert sig.verdict(Comparison(0.2, -0.1, 0.3, 0.001, 9), 0.01, True, 0.05) == "tie"
    assert sig.verdict(Comparison(-0.2, -0.3, -0.1, 0.001, 9), 0.01, True, 0.05) == "worse"


def test_results_do_not_depend_on_chunks_or_company(monkeypatch: pytest.MonkeyPatch) -> None:
    base, model = correlated(6)
    other = Column.of_means(list(reversed(base)))
    pair = (Column.of_means(base), Column.of_means(model))
    [alone] = analysis().compare([pair])
    together = analysis().compare([(other, pair[1]), pair])
    assert together[1].p_value == alone.p_value
    assert together[1].low == pytest.approx(alone.low)
    first = resampling.bootstrap_sums(pair[0].statistics, 50, 3)
    monkeypatch.setattr(resampling, "_CHUNK_NUMBERS", 7 * len(base))
    assert resampling.bootstrap_sums(pair[0].statistics, 50, 3) == pytest.approx(first)


@pytest.mark.parametrize("shift", [0.0, 0.25])
def test_rows_that_all_differ_by_the_same_tell_no_detectable_difference(shift: float) -> None:
    """Two models that fail on all of 30 prompts are not known to be equal to the last digit."""
    base, model = Column.of_means([0.0] * 30), Column.of_means([shift] * 30)
    [found] = analysis().compare([(base, model)])
    assert found.difference == shift and found.n == 30
    assert (found.error, found.effect) == (None, None)
    assert sig.detectable(found.error, 0.05, 0.8) is None


def test_identical_models_tie_with_p_one() -> None:
    base, _ = correlated(8)
    [same] = analysis().compare([(Column.of_means(base), Column.of_means(base))])
    assert (same.difference, same.low, same.high, same.p_value) == (0.0, 0.0, 0.0, 1.0)


# --- the paired bootstrap test, clusters, effects --------------------------------------------


def sacrebleus(systems: dict[str, list[str]], references: list[str], samples: int) -> float:
    from sacrebleu.metrics import BLEU
    from sacrebleu.significance import PairedTest

    test = PairedTest(
        list(systems.items()), {"BLEU": BLEU()}, [references], test_type="bs", n_samples=samples
    )
    p_value = test()[1]["BLEU"][1].p_value
    assert p_value is not None
    return float(p_value)


@pytest.mark.parametrize(("seed", "rate"), [(1, 0.30), (3, 0.24)])
def test_bootstrap_p_is_sacrebleus_paired_bs(seed: int, rate: float) -> None:
    from espalier.evaluate.references import score_references

    generator = random.Random(seed)
    words = [f"{a}{b}" for a in ("ta", "ko", "mi", "ru") for b in ("n", "sh", "lo", "")]
    references = [" ".join(generator.choices(words, k=14)) for _ in range(70)]

    def spoilt(share: float) -> list[str]:
        return [
            " ".join(
                w if generator.random() > share else generator.choice(words) for w in r.split()
            )
            for r in references
        ]

    systems = {"base": spoilt(0.30), "model": spoilt(rate)}
    theirs = sacrebleus(systems, references, 1500)
    columns = score_references("bleu", {k: list(v) for k, v in systems.items()}, references).columns
    ours = Analysis(resamples=1500, permutations=100, confidence=0.95, seed=9, test="bootstrap")
    [compared] = ours.compare([(columns["base"], columns["model"])])
    # Two independent estimates of a share from 1,500 draws each: four standard errors.
    slack = 4 * math.sqrt(2 * max(theirs * (1 - theirs), 1e-3) / 1500)
    assert compared.p_value == pytest.approx(theirs, abs=slack)


def test_equal_models_have_bootstrap_p_one() -> None:
    column = Column.of_means([1.0, 2.0, 4.0])
    ours = Analysis(resamples=200, permutations=100, confidence=0.95, seed=9, test="bootstrap")
    [compared] = ours.compare([(column, Column.of_means([1.0, 2.0, 4.0]))])
    assert compared.p_value == 1.0 and compared.effect is None


def with_groups(values: list[float], groups: list[int], *, binary: bool = False) -> Column:
    column = Column.of_means(values, binary=binary)
    column.groups = np.array(groups)
    return column


def test_rows_given_three_times_are_no_more_evidence() -> None:
    base, model = correlated(21, n=50)
    [once] = analysis().compare([(Column.of_means(base), Column.of_means(model))])
    groups = [i for i in range(50) for _ in range(3)]
    thrice = [[v for v in values for _ in range(3)] for values in (base, model)]
    clustered = (with_groups(thrice[0], groups), with_groups(thrice[1], groups))
    [together] = analysis().compare([clustered])
    assert together.n == 150
    for name in ("difference", "low", "high", "p_value", "error", "effect"):
        assert getattr(together, name) == pytest.approx(getattr(once, name))
    naive = analysis().compare([(Column.of_means(thrice[0]), Column.of_means(thrice[1]))])[0]
    assert naive.error is not None and once.error is not None
    assert naive.error < 0.65 * once.error


def test_clusters_of_unequal_size_are_resampled_whole() -> None:
    generator = np.random.default_rng(4)
    groups = [0] * 9 + [1] * 5 + [2, 3, 4, 5] + [6] * 4 + [7] * 2
    values = [float(v) for v in generator.normal(size=len(groups)) + np.array(groups) / 3]
    [ours] = analysis().intervals([with_groups(values, groups)])
    members = [[v for v, g in zip(values, groups, strict=True) if g == c] for c in range(8)]
    picker = random.Random(2)
    means = []
    for _ in range(6000):
        drawn = [v for c in picker.choices(range(8), k=8) for v in members[c]]
        means.append(sum(drawn) / len(drawn))
    means.sort()
    assert ours.low == pytest.approx(means[150], abs=0.06)
    assert ours.high == pytest.approx(means[5849], abs=0.06)


def test_clusters_are_exchanged_whole() -> None:
    groups = [0, 0, 0, 1, 2, 2, 3, 4, 4, 5, 6, 7]
    model = [0.9, 0.4, 0.7, -0.2, 0.5, 0.3, 0.8, -0.1, 0.2, 0.4, -0.3, 0.1]
    sums = [sum(v for v, g in zip(model, groups, strict=True) if g == c) for c in range(8)]
    exact = (
        sum(
            abs(sum(s * d for s, d in zip(signs, sums, strict=True))) >= sum(model) - 1e-12
            for signs in product((1, -1), repeat=8)
        )
        / 2**8
    )
    pair = (with_groups([0.0] * 12, groups), with_groups(model, groups))
    [ours] = analysis().compare([pair])
    assert ours.p_value == pytest.approx(exact, abs=0.01)


def test_shares_over_clusters_count_as_fewer_rows() -> None:
    values = [float(i % 3 == 0) for i in range(60)]
    [once] = analysis().intervals([Column.of_means(values, binary=True)])
    groups = [i for i in range(60) for _ in range(4)]
    repeated = with_groups([v for v in values for _ in range(4)], groups, binary=True)
    [clustered] = analysis().intervals([repeated])
    assert clustered.value == once.value and clustered.n == 240
    # 60 clusters, less the one degree of freedom that their mean takes.
    assert (clustered.low, clustered.high) == pytest.approx(wilson(20 / 60, 59))
    zeros = with_groups([0.0] * 240, groups, binary=True)
    assert analysis().intervals([zeros])[0].high == pytest.approx(wilson(0.0, 60)[1])


def test_one_cluster_gives_no_interval() -> None:
    column = with_groups([1.0, 2.0, 3.0], [0, 0, 0])
    [interval] = analysis().intervals([column])
    assert (interval.value, interval.low, interval.n) == (2.0, None, 3)
    [compared] = analysis().compare([(column, column)])
    assert compared.difference is None


def test_the_effect_is_cohens_d_of_the_row_differences() -> None:
    base, model = correlated(31, n=200)
    [ours] = analysis().compare([(Column.of_means(base), Column.of_means(model))])
    rows = np.array(model) - np.array(base)
    assert ours.effect == pytest.approx(rows.mean() / rows.std(ddof=1), rel=0.05)
    turned = ours.reversed()
    assert turned.effect == -ours.effect if ours.effect else False
    assert (turned.low, turned.high, turned.p_value) == (-ours.high, -ours.low, ours.p_value)  # type: ignore[operator]


def test_a_detectable_difference_is_found_as_often_as_the_power_says() -> None:
    from scipy import stats

    n, deviation = 150, 2.0
    size = sig.detectable(deviation / math.sqrt(n), 0.05, 0.8)
    assert size is not None
    draws = np.random.default_rng(7).normal(loc=size, scale=deviation, size=(4000, n))
    found = stats.ttest_1samp(draws, 0.0, axis=1).pvalue <= 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.03)
    assert sig.detectable(None, 0.05, 0.8) is None
