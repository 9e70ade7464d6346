"""A judge model compares the answers of two models, each pair in both orders.

Judges favour a position (Zheng et al. 2023, section 3.4). A pair is won only where both orders
name the same answer; where they disagree it is a tie, and a flip, which is counted. Equal answers
are a tie without asking. A pair with a reply that can't be read is left out of the win rate and
counted; `bounds` tells what the win rate would be if all of those were lost, or won.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np

from espalier.engines.base import Completion
from espalier.evaluate.clusters import Groups
from espalier.evaluate.config_judge import Pairs
from espalier.evaluate.evalset import EvalSet
from espalier.evaluate.judge import clean
from espalier.evaluate.judge_asking import Asker
from espalier.evaluate.length_control import changed_much, length_controlled
from espalier.evaluate.metric import Metric, RowValues, Scored
from espalier.evaluate.significance import Analysis, Column, holm, verdict
from espalier.judging import (
    WORDINGS,
    Comparison,
    Verdict,
    pairwise_prompt,
    read_comparison,
    reply_text,
)
from espalier.records import content_id
from espalier.text import language, length

WIN_RATE = "judge_win_rate"
# What a pair is worth to its first answer.
WORTH: Mapping[Verdict | None, float | None] = {"A": 1.0, "tie": 0.5, "B": 0.0, None: None}


@dataclass(frozen=True, slots=True)
class Meeting:
    """The answers of two models to one prompt; `compared` is None where they are equal.

    "A" is the answer of `model`, "B" that of `baseline`.
    """

    model: str
    baseline: str
    row: int
    compared: Comparison | None

    @property
    def verdict(self) -> Verdict | None:
        return "tie" if self.compared is None else self.compared.verdict

    @property
    def flipped(self) -> bool | None:
        """Whether the two orders disagree; None where that can't be told."""
        one = self.compared
        if one is None or one.forward is None or one.backward is None:
            return None
        return one.forward != one.backward


@dataclass
class Compared:
    """All meetings, the column of win rates against the baseline, and a record a meeting."""

    meetings: list[Meeting]
    scored: list[Scored] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)


def pairs_of(models: Sequence[str], baseline: str, which: Pairs) -> list[tuple[str, str]]:
    """(model, baseline) of every pair that is judged."""
    if which == "none":
        return []
    if which == "baseline":
        return [(model, baseline) for model in models if model != baseline]
    pairs = combinations(models, 2)
    return [(one, other) if other == baseline else (other, one) for one, other in pairs]


def compare_answers(
    pairs: Sequence[tuple[str, str]],
    asker: Asker,
    evalset: EvalSet,
    answers: Mapping[str, Sequence[str | None]],
    rows: Sequence[int],
    *,
    baseline: str,
) -> Compared:
    """Ask about the answers of every pair of models on these rows of the set, in both orders."""
    places: list[tuple[str, str, int]] = []
    prompts: list[str] = []
    equal: set[tuple[str, str, int]] = set()
    for model, other in pairs:
        for row in rows:
            first, second = answers[model][row], answers[other][row]
            if first is None or second is None:
                continue
            places.append((model, other, row))
            if first.strip() == second.strip():
                equal.add(places[-1])
                continue
            asked = evalset.rows[row]
            question, reference = asker.question(asked), asker.reference(asked)
            spoken = language(asked.prompt)
            a, b = asker.shown(first), asker.shown(second)
            prompts += [
                pairwise_prompt(question, one, other, spoken, reference=reference)
                for one, other in ((a, b), (b, a))
            ]
    replies = iter(asker.ask(prompts, "judge (pairs)"))
    meetings = [
        Meeting(*place, None)
        if place in equal
        else Meeting(*place, _compared(next(replies), next(replies)))
        for place in places
    ]
    records = [_record(evalset.rows[meeting.row].id, meeting) for meeting in meetings]
    scored = [_win_rate(meetings, asker, baseline, len(evalset))] if meetings else []
    return Compared(meetings, scored, records)


def _compared(forward: Completion, backward: Completion) -> Comparison:
    cut = (forward.finish_reason == "length", backward.finish_reason == "length")
    return read_comparison(reply_text(forward), reply_text(backward), cut=cut)


def _record(row: str, meeting: Meeting) -> dict[str, Any]:
    def named(verdict: Verdict | None) -> str:
        return {"A": meeting.model, "B": meeting.baseline, "tie": "tie"}.get(verdict or "", "")

    record: dict[str, Any] = {"id": row, "model": meeting.model, "baseline": meeting.baseline}
    record["winner"] = named(meeting.verdict) or None
    one = meeting.compared
    if one is None:
        return record | {"equal": True}
    return record | {
        "model_first": named(one.forward) or None,
        "baseline_first": named(one.backward) or None,
        "replies": [clean(one.forward_text), clean(one.backward_text)],
    }


# --- the column ------------------------------------------------------------------------------


def _win_rate(meetings: Sequence[Meeting], asker: Asker, baseline: str, size: int) -> Scored:
    task = content_id(*(words.pairwise for words in WORDINGS.values()))[:8]
    metric = Metric(
        WIN_RATE,
        "Judge: win rate",
        True,
        "percent",
        f"espalier.judge.pairs|baseline:{baseline}|orders:both|flip:tie|task:{task}"
        f"|{asker.signature}|unread:left-out",
        "Share of prompts on which the judge prefers the model's answer to the baseline's, ties "
        "counted half; the baseline has 50 % by definition. Judges favour long answers (see the "
        "length-controlled win rate) and their own style.",
    )
    scored = Scored(metric)
    values: dict[str, RowValues] = {baseline: [None] * size}
    for meeting in meetings:
        if meeting.baseline == baseline:
            column = values.setdefault(meeting.model, [None] * size)
            worth = WORTH[meeting.verdict]
            column[meeting.row] = worth
            if worth is not None:
                values[baseline][meeting.row] = 0.5
    for model, column in values.items():
        scored.rows[model] = column
        scored.columns[model] = Column.of_means(column)
    return scored


# --- the table of pairs ----------------------------------------------------------------------


def pair_table(
    meetings: Sequence[Meeting],
    answers: Mapping[str, Sequence[str | None]],
    *,
    resamples: int,
    permutations: int,
    confidence: float,
    seed: int,
    length_control: bool,
    groups: Groups | None = None,
) -> list[dict[str, Any]]:
    """One entry a pair of models: win rate with interval and p-value, flips, unread, length.

    p-values are for a win rate of one half, corrected after Holm over this table. `groups`
    numbers the clusters of the set's rows.
    """
    by_pair: dict[tuple[str, str], list[Meeting]] = {}
    for meeting in meetings:
        by_pair.setdefault((meeting.model, meeting.baseline), []).append(meeting)
    analysis = Analysis(
        resamples=resamples, permutations=permutations, confidence=confidence, seed=seed
    )
    columns = []
    for group in by_pair.values():
        worth = [WORTH[meeting.verdict] for meeting in group]
        even: RowValues = [None if value is None else 0.5 for value in worth]
        own = None if groups is None else groups[[meeting.row for meeting in group]]
        columns.append(
            (
                replace(Column.of_means(even), groups=own),
                replace(Column.of_means(worth), groups=own),
            )
        )
    found = analysis.compare(columns)
    corrected = holm([1.0 if one.p_value is None else one.p_value for one in found])
    table = []
    for (names, group), one, p in zip(by_pair.items(), found, corrected, strict=True):
        entry = {"model": names[0], "baseline": names[1], **_counts(group)}
        entry |= {
            "low": None if one.low is None else one.low + 0.5,
            "high": None if one.high is None else one.high + 0.5,
            "p_value": p,
            "p_uncorrected": one.p_value,
            "verdict": verdict(one, p, True, 1 - confidence),
        }
        if length_control:
            entry["length_controlled"] = _controlled(
                group, answers, resamples, confidence, seed, groups
            )
        table.append(entry)
    return table


def _counts(group: Sequence[Meeting]) -> dict[str, Any]:
    verdicts = [meeting.verdict for meeting in group]
    worth = [value for one in verdicts if (value := WORTH[one]) is not None]
    flips = [meeting.flipped for meeting in group if meeting.flipped is not None]
    orders = [m.compared for m in group if m.compared is not None]
    # The verdict that names what was shown first: A in the first order, B in the second.
    first = sum(c.forward == "A" for c in orders) + sum(c.backward == "B" for c in orders)
    named = sum(c.forward in ("A", "B") for c in orders)
    named += sum(c.backward in ("A", "B") for c in orders)
    unread = len(group) - len(worth)
    return {
        "pairs": len(group),
        "wins": verdicts.count("A"),
        "ties": verdicts.count("tie"),
        "losses": verdicts.count("B"),
        "equal": len(group) - len(orders),
        "unread": unread,
        "flips": sum(flips),
        "flip_rate": sum(flips) / len(flips) if flips else None,
        "first_rate": first / named if named else None,
        "win_rate": sum(worth) / len(worth) if worth else None,
        "bounds": [sum(worth) / len(group), (sum(worth) + unread) / len(group)],
    }


def _controlled(
    group: Sequence[Meeting],
    answers: Mapping[str, Sequence[str | None]],
    resamples: int,
    confidence: float,
    seed: int,
    groups: Groups | None,
) -> dict[str, Any]:
    read = [(m, value) for m in group if (value := WORTH[m.verdict]) is not None]
    differences = [
        length(answers[m.model][m.row] or "") - length(answers[m.baseline][m.row] or "")
        for m, _ in read
    ]
    worth = np.array([value for _, value in read], dtype=np.float64)
    found = length_controlled(
        worth,
        np.array(differences, dtype=np.float64),
        resamples=resamples,
        confidence=confidence,
        seed=seed,
        groups=None if groups is None else groups[[m.row for m, _ in read]],
    )
    much = found.win_rate is not None and changed_much(float(worth.mean()), found.win_rate)
    return {
        "win_rate": found.win_rate,
        "low": found.low,
        "high": found.high,
        "length_effect": found.length_effect,
        "mean_difference": found.mean_difference,
        "extrapolated": found.extrapolated,
        "explains_much": much,
    }
