"""Scores of whole sets (BLEU, chrF, perplexity) of the same model in two runs, compared.

From the stored row statistics of both, on the rows that both share: the paired bootstrap's interval
and the exchange test's p-value, as `espalier compare` takes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from espalier.errors import InputError
from espalier.evaluate.compare_sides import Pair, Side, matched
from espalier.evaluate.significance import Analysis, Column, Comparison
from espalier.evaluate.statistics_file import STATISTICS, Stored, read_statistics

# More row statistics times draws than this take seconds: then p-values get fewer draws.
MOST_WORK = 5e9
FEW_DRAWS = 1000
# What is asked for: the place of the reference and of the run among the folders, model, metric.
Asked = tuple[int, int, str, str]
Found = Mapping[str, float | int]


@dataclass(frozen=True)
class _Question:
    asked: Asked
    columns: tuple[Column, Column]


def run_pairs(
    runs: Sequence[Path], asked: Sequence[Asked], confidence: float, family: int
) -> dict[Asked, Found]:
    """`{difference, low, high, p_value, n}` of what can be compared; the rest is not in it.

    Left out are runs without statistics (or with those of another version), metrics that were
    measured in another way, and pairs with fewer than two rows in common. p-values are not
    corrected; their draws are enough for verdicts among `family` comparisons.
    """
    stored = {place: _stored(runs[place]) for place in {p for one in asked for p in one[:2]}}
    questions: dict[int, list[_Question]] = {}
    for (reference, run, model), metrics in _by_pair(asked).items():
        pair = _pair(stored[reference], stored[run], model, metrics)
        if pair is None:
            continue
        for metric in pair.scored:
            question = _Question((reference, run, model, metric), pair.columns(metric))
            questions.setdefault(reference, []).append(question)
    found: dict[Asked, Found] = {}
    for reference, own in questions.items():
        known = stored[reference]
        if known is None:
            continue
        settings = known.settings
        numbers = sum(column.statistics.size for question in own for column in question.columns)
        much = numbers * (settings.permutations + settings.resamples) > MOST_WORK
        analysis = Analysis(
            resamples=min(settings.resamples, FEW_DRAWS) if much else settings.resamples,
            permutations=min(settings.permutations, FEW_DRAWS) if much else settings.permutations,
            confidence=confidence,
            seed=settings.seed,
        ).finer(family)
        compared = analysis.compare([question.columns for question in own])
        for question, one in zip(own, compared, strict=True):
            told = _numbers(one)
            if told is not None:
                found[question.asked] = told
    return found


def _numbers(one: Comparison) -> Found | None:
    """The comparison as numbers; None where it has no interval."""
    if one.difference is None or one.low is None or one.high is None or one.p_value is None:
        return None
    return {
        "difference": one.difference,
        "low": one.low,
        "high": one.high,
        "p_value": one.p_value,
        "n": one.n,
    }


def _by_pair(asked: Sequence[Asked]) -> dict[tuple[int, int, str], list[str]]:
    found: dict[tuple[int, int, str], list[str]] = {}
    for reference, run, model, metric in asked:
        found.setdefault((reference, run, model), []).append(metric)
    return found


def _stored(run: Path) -> Stored | None:
    try:
        return read_statistics(run / "evaluate" / STATISTICS)
    except InputError:
        return None


def _pair(
    reference: Stored | None, run: Stored | None, model: str, metrics: Sequence[str]
) -> Pair | None:
    """The rows that both share, and what of the metrics both have; None where there is nothing."""
    if reference is None or run is None or not {model} <= {*reference.models} & {*run.models}:
        return None
    both = [m for m in metrics if m in reference.scored and m in run.scored]
    if not both:
        return None
    sides = Side(reference, "reference", model), Side(run, "run", model)
    try:
        return matched(*sides, both)
    except InputError:
        # They share no row.
        return None
