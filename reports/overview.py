"""What the overview of the page says in words and tables, beside the charts of the script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from espalier.reports.judged import judge_part, people_part
from espalier.reports.metric_details import metric_details
from espalier.reports.verdicts import Verdict, best_model

# Sentences that stand open where the run's own baseline has none.
FIRST_VERDICTS = 5


@dataclass(frozen=True)
class Overview:
    """`best` is a sentence or empty; `first` and `more` are the verdicts before and behind the
    fold; judge, people and details as their modules describe them, None or empty without any."""

    best: str
    first: Sequence[Verdict]
    more: Sequence[Verdict]
    judge: dict[str, Any] | None
    people: dict[str, Any] | None
    details: list[dict[str, Any]]


def overview_of(summary: Mapping[str, Any] | None, verdicts: Sequence[Verdict]) -> Overview | None:
    """The parts of the overview, in the language that speaks; None where nothing was evaluated."""
    if summary is None:
        return None
    own = [one for one in verdicts if summary.get("baseline") in one.names]
    first = own or list(verdicts[:FIRST_VERDICTS])
    return Overview(
        best=best_model(summary, verdicts),
        first=first,
        more=[one for one in verdicts if one not in first],
        judge=judge_part(summary),
        people=people_part(summary),
        details=metric_details(summary),
    )
