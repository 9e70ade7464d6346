"""How sure a score and a difference are: paired bootstrap and paired exchange test.

Every metric is a function of sums over rows ("sufficient statistics": for a mean the value and
a one, for corpus BLEU the n-gram counts). A resample of the rows is then a weighting, and all
resamples of all models and metrics are one matrix product.

- Interval: percentile bootstrap over rows (Efron 1979); the same resamples serve both models of
  a comparison, so the interval of a difference is paired (Koehn 2004).
- p-value: approximate randomisation (Noreen 1989; Riezler and Maxwell 2005): under the null
  hypothesis the two answers to a prompt may be exchanged. For a mean this is the sign-flip test.
  `test="bootstrap"` takes Koehn's test instead, as sacrebleu does.
- Several comparisons at once: Holm (1979).
- Rows of one cluster (a prompt that repeats) are resampled and exchanged together.
- Effect: the difference in standard deviations of the row differences (for a mean Cohen's d_z).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from espalier.evaluate.clusters import Groups, effective_rows, summed
from espalier.evaluate.resampling import (
    Array,
    Exchanged,
    bootstrap_p_value,
    bootstrap_sums,
    exchange_coins,
    holm,
    percentile_interval,
    standard_error,
)
from espalier.intervals import wilson

__all__ = [
    "EXP_RATIO",
    "MEAN",
    "Analysis",
    "Array",
    "Column",
    "Combine",
    "Comparison",
    "Interval",
    "Test",
    "Verdict",
    "detectable",
    "holm",
    "verdict",
]

Verdict = Literal["better", "worse", "tie"]
Test = Literal["permutation", "bootstrap"]


@dataclass(frozen=True)
class Combine:
    """From sums of row statistics to the score: arrays of shape (..., k) to shape (...).

    `name` says where a stored column finds it again: "module:constant" of this stage.
    """

    size: int
    score: Callable[[Array], Array]
    name: str = ""

    def __call__(self, sums: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.asarray(self.score(np.asarray(sums, dtype=np.float64)), dtype=np.float64)


# Draws that the number of comparisons can raise the settings to: some seconds for 10,000 rows.
MAX_DRAWS = 100_000

# Row statistics (value, 1): the plain mean of the rows.
MEAN = Combine(2, lambda sums: sums[..., 0] / sums[..., 1], "significance:MEAN")
# Row statistics (negative log-likelihood in nats, tokens).
EXP_RATIO = Combine(2, lambda sums: np.exp(sums[..., 0] / sums[..., 1]), "significance:EXP_RATIO")


@dataclass(frozen=True)
class Interval:
    """A score with its interval; `low` and `high` are None where n rows do not give one."""

    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class Comparison:
    """model - baseline on the rows that both have; `p_value` is not yet corrected.

    `error` is the standard error of the difference (None where all rows differ by the same),
    `effect` the difference in standard deviations of one row's (or cluster's) difference.
    """

    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    n: int
    error: float | None = None
    effect: float | None = None

    def reversed(self) -> Comparison:
        """The same comparison with the two models in each other's place."""

        def minus(value: float | None) -> float | None:
            return None if value is None else -value + 0.0

        return replace(
            self,
            difference=minus(self.difference),
            low=minus(self.high),
            high=minus(self.low),
            effect=minus(self.effect),
        )


def verdict(
    comparison: Comparison, corrected_p: float | None, higher_is_better: bool, alpha: float
) -> Verdict:
    """Better or worse only when the interval excludes 0 and the corrected p is at most alpha."""
    low, high = comparison.low, comparison.high
    if low is None or high is None or corrected_p is None or corrected_p > alpha:
        return "tie"
    if low <= 0 <= high:
        return "tie"
    return "better" if (low > 0) == higher_is_better else "worse"


def detectable(error: float | None, alpha: float, power: float) -> float | None:
    """The smallest true difference that a two-sided test at `alpha` finds with this power.

    `error` is the standard error of the difference; the normal approximation of a test's power
    (Bloom 1995): error * (z(1 - alpha / 2) + z(power)).
    """
    if error is None:
        return None
    normal = NormalDist()
    return error * (normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power))


@dataclass
class Column:
    """One metric of one model: statistics (n, k) by row of the set, and which rows have them.

    `groups` numbers the clusters of the rows; None where every row stands for itself.
    """

    statistics: Array
    valid: NDArray[np.bool_]
    combine: Combine
    binary: bool = False
    groups: Groups | None = None

    @classmethod
    def of_means(cls, values: Sequence[float | None], *, binary: bool = False) -> Column:
        """Rows of a mean metric; None where the row has no value."""
        valid = np.array([value is not None and math.isfinite(value) for value in values], bool)
        statistics = np.array(
            [(value, 1.0) if ok else (0.0, 0.0) for value, ok in zip(values, valid, strict=True)],
            dtype=np.float64,
        ).reshape(len(values), 2)
        return cls(statistics, valid, MEAN, binary)

    @property
    def n(self) -> int:
        return int(self.valid.sum())

    def value(self, rows: NDArray[np.bool_] | None = None) -> float | None:
        """The score on the valid rows (of those given); None where it is undefined."""
        mask = self.valid if rows is None else self.valid & rows
        if not mask.any():
            return None
        score = float(self.combine(self.statistics[mask].sum(axis=0)))
        return score if math.isfinite(score) else None


class Analysis:
    """Intervals and comparisons of many columns; columns with equal rows share one pass.

    Columns that are compared must number their clusters alike.
    """

    def __init__(
        self,
        *,
        resamples: int,
        permutations: int,
        confidence: float,
        seed: int,
        test: Test = "permutation",
    ) -> None:
        self.resamples = resamples
        self.permutations = permutations
        self.confidence = confidence
        self.seed = seed
        self.test = test
        self._sums: dict[tuple[int, bytes], Array] = {}
        # Columns are known by identity, so those that were seen must stay alive.
        self._seen: list[Column] = []

    def draws_needed(self, family: int) -> int | None:
        """How many random draws a verdict among `family` comparisons needs; None where it has them.

        No p-value is below 1 / (draws + 1), and Holm multiplies the smallest by `family`.
        """
        draws = self.permutations if self.test == "permutation" else self.resamples
        # Less rounding error: 1 - 0.95 is a little more than 0.05.
        needed = math.ceil(round(family / (1 - self.confidence), 6)) - 1
        return needed if draws < needed else None

    def finer(self, family: int) -> Analysis:
        """A new analysis whose draws are enough for verdicts among `family` comparisons.

        It has MAX_DRAWS at most, and never fewer than this one.
        """
        draws = min(self.draws_needed(family) or 0, MAX_DRAWS)
        finer = self.again()
        if self.test == "permutation":
            finer.permutations = max(finer.permutations, draws)
        else:
            finer.resamples = max(finer.resamples, draws)
        return finer

    def again(self) -> Analysis:
        """A new analysis with the same settings, which remembers no column."""
        return Analysis(
            resamples=self.resamples,
            permutations=self.permutations,
            confidence=self.confidence,
            seed=self.seed,
            test=self.test,
        )

    def intervals(self, columns: Sequence[Column]) -> list[Interval]:
        """Score and interval of each column.

        A proportion gets Wilson's interval, every other score the bootstrap's; fewer than two
        rows (or clusters) give none.
        """
        self._resample((c, c.valid) for c in columns if not c.binary and _units(c, c.valid) > 1)
        return [self._interval(column) for column in columns]

    def compare(self, pairs: Sequence[tuple[Column, Column]]) -> list[Comparison]:
        """model - baseline of each (baseline, model) on the rows that both have."""
        shared = [baseline.valid & model.valid for baseline, model in pairs]
        self._resample(
            (column, mask)
            for pair, mask in zip(pairs, shared, strict=True)
            for column in pair
            if _units(column, mask) > 1
        )
        exchanged = self.test == "permutation"
        p_values = self._p_values(pairs, shared) if exchanged else [None] * len(pairs)
        return [
            self._compare(*pair, mask, p)
            for pair, mask, p in zip(pairs, shared, p_values, strict=True)
        ]

    def _interval(self, column: Column) -> Interval:
        value = column.value()
        if value is None or _units(column, column.valid) < 2:
            return Interval(value, None, None, column.n)
        if column.binary:
            values = column.statistics[column.valid, 0]
            rows = effective_rows(values, _groups(column, column.valid))
            z = NormalDist().inv_cdf(0.5 + self.confidence / 2)
            low, high = wilson(float(values.sum()) / column.n, rows, z)
            return Interval(value, low, high, column.n)
        samples = column.combine(self._sums[_key(column, column.valid)])
        low_high = percentile_interval(samples, self.confidence) or (None, None)
        return Interval(value, low_high[0], low_high[1], column.n)

    def _compare(
        self, baseline: Column, model: Column, mask: NDArray[np.bool_], p_value: float | None
    ) -> Comparison:
        n, units = int(mask.sum()), _units(baseline, mask)
        base_value, value = baseline.value(mask), model.value(mask)
        if base_value is None or value is None or units < 2:
            return Comparison(None, None, None, None, n)
        samples = model.combine(self._sums[_key(model, mask)])
        samples = samples - baseline.combine(self._sums[_key(baseline, mask)])
        low, high = percentile_interval(samples, self.confidence) or (None, None)
        difference = value - base_value
        if p_value is None:
            p_value = bootstrap_p_value(samples, difference)
        error = standard_error(samples)
        # A difference that is the same in every row (0, say) has no spread to be measured by: these
        # rows don't tell what others would vary by, so nothing is known to be detectable.
        if error is not None and error <= 1e-9 * abs(difference):
            error = None
        effect = None if error is None else difference / (error * math.sqrt(units))
        return Comparison(difference, low, high, p_value, n, error, effect)

    def _resample(self, items: Iterable[tuple[Column, NDArray[np.bool_]]]) -> None:
        groups: dict[tuple[bytes, int], list[tuple[Column, NDArray[np.bool_]]]] = {}
        for column, mask in items:
            if _key(column, mask) not in self._sums:
                self._seen.append(column)
                together = (mask.tobytes(), id(column.groups))
                groups.setdefault(together, []).append((column, mask))
        for group in groups.values():
            blocks = [_block(column, mask) for column, mask in group]
            sums = bootstrap_sums(np.hstack(blocks), self.resamples, self.seed)
            for (column, mask), part in zip(group, _split(sums, blocks), strict=True):
                self._sums[_key(column, mask)] = part

    def _p_values(
        self, pairs: Sequence[tuple[Column, Column]], shared: Sequence[NDArray[np.bool_]]
    ) -> list[float]:
        groups: dict[tuple[bytes, int], list[int]] = {}
        for index, mask in enumerate(shared):
            if mask.any():
                together = (mask.tobytes(), id(pairs[index][0].groups))
                groups.setdefault(together, []).append(index)
        values = [1.0] * len(pairs)
        for members in groups.values():
            # One product serves all pairs of all metrics: a pair's sums are a difference of two.
            mask = shared[members[0]]
            columns = {id(column): column for i in members for column in pairs[i]}
            blocks = {key: _block(column, mask) for key, column in columns.items()}
            table = np.hstack(list(blocks.values()))
            totals = {key: block.sum(axis=0) for key, block in blocks.items()}
            tests = [
                Exchanged(totals[id(base)], totals[id(model)], base.combine)
                for base, model in (pairs[i] for i in members)
            ]
            for coins in exchange_coins(len(table), self.permutations, self.seed):
                parts = dict(zip(blocks, _split(coins @ table, list(blocks.values())), strict=True))
                for i, test in zip(members, tests, strict=True):
                    base, model = pairs[i]
                    test.count(parts[id(model)] - parts[id(base)])
            for i, test in zip(members, tests, strict=True):
                values[i] = test.p_value
        return values


def _key(column: Column, mask: NDArray[np.bool_]) -> tuple[int, bytes]:
    return id(column), mask.tobytes()


def _groups(column: Column, mask: NDArray[np.bool_]) -> Groups | None:
    return None if column.groups is None else column.groups[mask]


def _block(column: Column, mask: NDArray[np.bool_]) -> Array:
    return summed(column.statistics[mask], _groups(column, mask))


def _units(column: Column, mask: NDArray[np.bool_]) -> int:
    """How many rows, or clusters, are drawn as one."""
    groups = _groups(column, mask)
    return int(mask.sum()) if groups is None else len(np.unique(groups))


def _split(sums: Array, blocks: Sequence[Array]) -> list[Array]:
    edges = np.cumsum([block.shape[1] for block in blocks])[:-1]
    return list(np.split(sums, edges, axis=1))
