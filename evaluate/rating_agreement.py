"""How far people agree: with each other, with the judge model, and with every score of answers.

A metric that does not go with what people prefer says little about what they will prefer. The
share of equal ratings stands beside the same share among people, which it can't be expected to
pass (Zheng et al. 2023, section 4.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np

from espalier.alpha import Level
from espalier.evaluate.agreement import concordance, krippendorff, spearman
from espalier.evaluate.judge_pairs import WORTH, Meeting
from espalier.evaluate.metric import Scored
from espalier.evaluate.rated import PairPlace, Place, Rated
from espalier.evaluate.rating_scores import Settings, mean_of, raters_of, win_rates
from espalier.rubrics import QUALITY

# Scores of the references, which say nothing of an answer.
OF_TEXTS = ("espalier.perplexity", "espalier.bits-per-byte")


def rating_summary(
    rated: Rated,
    scored: Sequence[Scored],
    meetings: Sequence[Meeting],
    settings: Settings,
) -> dict[str, Any]:
    """Files, raters, win rates, and agreement: of raters, with the judge, with every score.

    `scored` are all columns of the evaluation, `meetings` the judge's pairs.
    """
    return {
        "files": rated.files,
        "raters": rated.raters,
        "win_rates": win_rates(rated, settings),
        "agreement": _agreement(rated, settings),
        "judge": _with_judge(rated, scored, meetings, settings),
        "metrics": _with_metrics(rated, scored, settings),
    }


def _agreement(rated: Rated, settings: Settings) -> list[dict[str, Any]]:
    """Krippendorff's alpha of the raters, a mark at a time, and of their votes on pairs."""
    found = []
    for name, places in rated.marks.items():
        level: Level = "nominal" if name in rated.checks else "ordinal"
        found.append(_alpha(name, places, level, settings))
    if rated.votes:
        found.append(_alpha("pairs", rated.votes, "nominal", settings))
    return found


def _alpha(
    name: str, places: Mapping[Any, Mapping[str, float]], level: Level, settings: Settings
) -> dict[str, Any]:
    units = [list(given.values()) for given in places.values()]
    groups = settings.clusters([place[0] for place in places])
    one = krippendorff(
        units,
        level,
        resamples=settings.resamples,
        confidence=settings.confidence,
        seed=settings.seed,
        groups=groups,
    )
    others: tuple[Level, ...] = ("nominal", "ordinal", "interval")
    levels = {f"alpha_{other}": krippendorff(units, other).alpha for other in others}
    return {"what": name, "raters": raters_of(places.values()), **asdict(one), **levels}


# --- people and the judge --------------------------------------------------------------------


def _with_judge(
    rated: Rated, scored: Sequence[Scored], meetings: Sequence[Meeting], settings: Settings
) -> list[dict[str, Any]]:
    found = []
    columns = {one.metric.name: one for one in scored}
    for name, places in rated.marks.items():
        column = columns.get(f"judge_{name}")
        if column is None:
            continue
        marks = {place: value for place in places if (value := _value(column, place)) is not None}
        level: Level = "nominal" if name in rated.checks else "ordinal"
        if marks:
            found.append(_beside_judge(name, places, marks, level, settings))
    votes: dict[PairPlace, float] = {}
    for m in meetings:
        if (worth := WORTH[m.verdict]) is not None:
            # People's pairs may have the two models in the other order.
            votes[m.row, m.model, m.baseline] = worth
            votes[m.row, m.baseline, m.model] = 1 - worth
    shared = {place: votes[place] for place in rated.votes if place in votes}
    if shared:
        found.append(_beside_judge("pairs", rated.votes, shared, "nominal", settings))
    return found


def _value(column: Scored, place: Place) -> float | None:
    row, model = place
    values = column.rows.get(model)
    return None if values is None else values[row]


def _beside_judge(
    name: str,
    places: Mapping[Any, Mapping[str, float]],
    judge: Mapping[Any, float],
    level: Level,
    settings: Settings,
) -> dict[str, Any]:
    """How often one rater and the judge give the same, beside two raters; alpha with the judge as
    one rater more; rank correlation of the raters' mean and the judge (Zheng et al. 2023)."""
    units = [[*places[place].values(), judge[place]] for place in judge]
    one = krippendorff(
        units,
        level,
        resamples=settings.resamples,
        confidence=settings.confidence,
        seed=settings.seed,
        groups=settings.clusters([place[0] for place in judge]),
    )
    pairs = [value == judge[place] for place in judge for value in places[place].values()]
    people = [a == b for place in judge for a, b in combinations(places[place].values(), 2)]
    rank = spearman(
        [mean_of(places[place].values()) for place in judge],
        list(judge.values()),
        settings.confidence,
    )
    return {
        "what": name,
        "n": len(judge),
        "equal_to_judge": sum(pairs) / len(pairs),
        "equal_among_people": sum(people) / len(people) if people else None,
        "alpha_with_judge": one.alpha,
        "low": one.low,
        "high": one.high,
        "level": level,
        "spearman": asdict(rank),
    }


# --- people and the other scores -------------------------------------------------------------


def _with_metrics(
    rated: Rated, scored: Sequence[Scored], settings: Settings
) -> list[dict[str, Any]]:
    """Every score of answers beside the people's marks and preferences."""
    marks = _overall(rated)
    preferred = _preferences(rated, marks)
    found = []
    for column in scored:
        name = column.metric.name
        if not column.rows or name.startswith("human_"):
            continue
        if column.metric.signature.startswith(OF_TEXTS):
            continue
        sign = -1.0 if column.metric.higher_is_better is False else 1.0
        entry: dict[str, Any] = {"metric": name}
        both = [(mark, sign * v) for place, mark in marks.items()
                if (v := _value(column, place)) is not None]  # fmt: skip
        if len(both) > 1:
            rank = spearman([a for a, _ in both], [b for _, b in both], settings.confidence)
            entry["marks"] = asdict(rank)
        if share := _ahead(column, sign, preferred, settings):
            entry["preferences"] = share
        if len(entry) > 1:
            found.append(entry)
    return found


def _overall(rated: Rated) -> dict[Place, float]:
    """One number an answer: the mean of its marks of the quality rubric, else of all others."""
    chosen = [name for name in QUALITY.marks if name in rated.marks]
    chosen = chosen or [name for name in rated.marks if name not in rated.checks]
    by_place: dict[Place, list[float]] = {}
    for name in chosen:
        for place, given in rated.marks[name].items():
            by_place.setdefault(place, []).append(mean_of(given.values()))
    # Where a mark is missing the mean would be one of other marks.
    return {
        place: mean_of(values) for place, values in by_place.items() if len(values) == len(chosen)
    }


def _preferences(rated: Rated, marks: Mapping[Place, float]) -> dict[PairPlace, float]:
    """Which of two answers people prefer (1 the first, 0 the second): votes, else marks.

    Pairs without a preference are left out.
    """
    found = {place: mean_of(votes.values()) for place, votes in rated.votes.items()}
    for row, one, other in _both_marked(marks):
        if (row, one, other) not in found and (row, other, one) not in found:
            found[row, one, other] = 0.5 + float(np.sign(marks[row, one] - marks[row, other])) / 2
    return {place: float(worth > 0.5) for place, worth in found.items() if worth != 0.5}


def _both_marked(marks: Mapping[Place, float]) -> Iterator[PairPlace]:
    by_row: dict[int, list[str]] = {}
    for row, model in marks:
        by_row.setdefault(row, []).append(model)
    for row, models in by_row.items():
        for one, other in combinations(models, 2):
            yield row, one, other


def _ahead(
    column: Scored, sign: float, preferred: Mapping[PairPlace, float], settings: Settings
) -> dict[str, Any] | None:
    agreeing: list[float] = []
    rows: list[int] = []
    for (row, one, other), worth in preferred.items():
        first, second = _value(column, (row, one)), _value(column, (row, other))
        if first is None or second is None:
            continue
        rows.append(row)
        ahead = 0.5 + 0.5 * float(np.sign(sign * (first - second)))
        agreeing.append(0.5 if ahead == 0.5 else float(ahead == worth))
    if not agreeing:
        return None
    return asdict(
        concordance(
            agreeing,
            settings.clusters(rows).tolist(),
            resamples=settings.resamples,
            confidence=settings.confidence,
            seed=settings.seed,
        )
    )


def agreement_text(summary: Mapping[str, Any]) -> str:
    """The agreement of a summary as lines for a terminal; empty where there is none."""
    if not summary:
        return ""
    lines = [f"ratings of {len(summary['raters'])} people:"]
    for one in summary["agreement"]:
        if one["alpha"] is None:
            why = "all ratings are the same" if one["units"] else "nothing was rated by two people"
            lines.append(f"{one['what']}: no alpha, {why}")
            continue
        text = f"{one['what']}: alpha {one['alpha']:.2f}"
        if one["low"] is not None:
            text += f" [{one['low']:.2f}, {one['high']:.2f}]"
        lines.append(f"{text} ({one['level']}), {one['units']:,} rated by more than one")
    for one in summary["judge"]:
        text = f"{one['what']}: judge and person equal {100 * one['equal_to_judge']:.0f} %"
        if one["equal_among_people"] is not None:
            text += f", two people {100 * one['equal_among_people']:.0f} %"
        lines.append(text)
    for one in summary["metrics"]:
        share = one.get("preferences")
        if share and share["share"] is not None:
            text = f"{one['metric']}: ranks two answers as people do {100 * share['share']:.0f} %"
            if share["low"] is not None:
                text += f" [{100 * share['low']:.0f}, {100 * share['high']:.0f}]"
            lines.append(f"{text} of {share['n']:,} pairs")
    return "\n".join(lines)
