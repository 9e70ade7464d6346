"""What ratings by people say of the models: columns of the score table, and win rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from espalier.evaluate.clusters import Groups
from espalier.evaluate.metric import Metric, RowValues, Scored
from espalier.evaluate.rated import Place, Rated
from espalier.evaluate.significance import Analysis, Column, holm, verdict

WIN_RATE = "human_win_rate"


@dataclass(frozen=True)
class Settings:
    """How sure to be, and which rows of the set belong together."""

    resamples: int
    permutations: int
    confidence: float
    seed: int
    groups: Groups | None = None

    def clusters(self, rows: Sequence[int]) -> Groups:
        """The cluster of each of these rows of the set."""
        numbers = np.asarray(rows, dtype=np.int64)
        return numbers if self.groups is None else self.groups[numbers]


# --- columns ---------------------------------------------------------------------------------


def rating_columns(rated: Rated, models: Sequence[str], baseline: str, size: int) -> list[Scored]:
    """Mean marks of people, the share of answers passed as safe, the win rate over the baseline.

    An answer's value is the mean of its raters; answers that nobody rated have none, and models
    of which no answer was rated are left out.
    """
    columns = []
    for name, places in rated.marks.items():
        with_marks = {model for _, model in places}
        values = {m: _row_values(places, m, size) for m in models if m in with_marks}
        columns.append(_scored(_metric(rated, name), values))
    if any(other == baseline for _, _, other in rated.votes):
        columns.append(_scored(_win_metric(rated, baseline), _wins(rated, baseline, size)))
    return columns


def _scored(metric: Metric, values: Mapping[str, RowValues]) -> Scored:
    scored = Scored(metric)
    for model, column in values.items():
        scored.rows[model] = column
        scored.columns[model] = Column.of_means(column)
    return scored


def _row_values(places: Mapping[Place, Mapping[str, float]], model: str, size: int) -> RowValues:
    values: RowValues = [None] * size
    for (row, name), given in places.items():
        if name == model:
            values[row] = mean_of(given.values())
    return values


def _wins(rated: Rated, baseline: str, size: int) -> dict[str, RowValues]:
    values: dict[str, RowValues] = {baseline: [None] * size}
    for (row, model, other), given in rated.votes.items():
        if other == baseline:
            column = values.setdefault(model, [None] * size)
            column[row] = mean_of(given.values())
            values[baseline][row] = 0.5
    return values


def mean_of(values: Iterable[float]) -> float:
    """The mean of values, of which there is at least one."""
    listed = list(values)
    return float(sum(listed) / len(listed))


def raters_of(given: Iterable[Iterable[str]]) -> int:
    """How many people rated, given the raters of each place."""
    return len({rater for one in given for rater in one})


def _metric(rated: Rated, name: str) -> Metric:
    check, raters = name in rated.checks, raters_of(rated.marks[name].values())
    what = f"Share of raters who passed answers for {name}" if check else (
        f"Mean mark by people for {name}, 1 to 5"
    )  # fmt: skip
    return Metric(
        f"human_{name}",
        f"People: {name}",
        True,
        "percent" if check else "number",
        f"espalier.ratings|{name}|raters:{raters}|mean:raters,rows",
        f"{what}; read it beside the agreement of the raters, and with the rows that were rated.",
    )


def _win_metric(rated: Rated, baseline: str) -> Metric:
    raters = raters_of(rated.votes.values())
    return Metric(
        WIN_RATE,
        "People: win rate",
        True,
        "percent",
        f"espalier.ratings|pairs|baseline:{baseline}|raters:{raters}|tie:half|mean:raters,rows",
        "Share of the rated prompts on which people prefer the model's answer to the baseline's, "
        "ties counted half; the baseline has 50 % by definition.",
    )


# --- the table of pairs ----------------------------------------------------------------------


def win_rates(rated: Rated, settings: Settings) -> list[dict[str, Any]]:
    """One entry a pair of models, corrected after Holm over the pairs."""
    pairs = sorted({(model, other) for _, model, other in rated.votes})
    analysis = Analysis(
        resamples=settings.resamples,
        permutations=settings.permutations,
        confidence=settings.confidence,
        seed=settings.seed,
    )
    columns = []
    counts = []
    for model, other in pairs:
        places = [place for place in rated.votes if place[1:] == (model, other)]
        worth = [mean_of(rated.votes[place].values()) for place in places]
        own = settings.clusters([place[0] for place in places])
        even = replace(Column.of_means([0.5] * len(places)), groups=own)
        columns.append((even, replace(Column.of_means(worth), groups=own)))
        counts.append((len(places), sum(len(rated.votes[place]) for place in places)))
    found = analysis.compare(columns)
    corrected = holm([1.0 if one.p_value is None else one.p_value for one in found])
    return [
        {
            "model": model,
            "baseline": other,
            "prompts": prompts,
            "votes": votes,
            "win_rate": column.value(),
            "low": None if one.low is None else one.low + 0.5,
            "high": None if one.high is None else one.high + 0.5,
            "p_value": p,
            "verdict": verdict(one, p, True, 1 - settings.confidence),
        }
        for (model, other), (prompts, votes), (_, column), one, p in zip(
            pairs, counts, columns, found, corrected, strict=True
        )
    ]
