"""A judge model marks every answer by a rubric: 1 to 5 for each standard, checks pass or fail.

Marks are asked for one answer at a time, without the model's name, and without the reference
unless the recipe wants it shown. A reply that can't be read gives no mark; it is counted and
shown, never taken for a middle mark.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from espalier.evaluate.evalset import EvalSet
from espalier.evaluate.judge_asking import Asker
from espalier.evaluate.metric import Metric, RowValues, Scored
from espalier.evaluate.significance import Column
from espalier.judging import Marks, reply_text
from espalier.records import content_id
from espalier.rubrics import Scale
from espalier.text import language

# A reply is kept in the record of marks for a reader; the journal has it whole.
REPLY_CHARACTERS = 2000
_MEANINGS = {
    "relevance": "how far answers keep to the question",
    "accuracy": "how right answers are; a judge without a reference often can't know",
    "completeness": "whether answers leave nothing out; long answers look complete",
    "fluency": "how well answers read, whatever they say",
    "safety": "share of answers that the judge finds safe; refusals are safe and no use",
    "helpful": "how well answers do what was asked; long and confident answers look helpful",
    "harmless": "whether answers hurt nobody; refusals are harmless and no use",
    "honest": "whether answers are true and admit what they do not know; a judge may be fooled",
}


@dataclass
class Marked:
    """What one rubric gave: a column a mark, a record an answer, and counts by model."""

    scored: list[Scored]
    records: list[dict[str, Any]] = field(default_factory=list)
    counts: list[dict[str, Any]] = field(default_factory=list)


def judged_rows(evalset: EvalSet, count: int | None, seed: int) -> list[int]:
    """The rows to judge, in the order of the set: all, or `count` drawn by the seed.

    A larger count later holds all rows of a smaller one.
    """
    if count is None or count >= len(evalset):
        return list(range(len(evalset)))
    order = list(range(len(evalset)))
    random.Random(f"{seed}:judge").shuffle(order)
    return sorted(order[:count])


def mark_answers(
    scale: Scale,
    asker: Asker,
    evalset: EvalSet,
    answers: Mapping[str, Sequence[str | None]],
    rows: Sequence[int],
) -> Marked:
    """Ask for the marks of every answer of every model on these rows of the set."""
    asked = [
        (model, row, asker.shown(text))
        for model, texts in answers.items()
        for row in rows
        if (text := texts[row]) is not None
    ]
    prompts = []
    for _, index, text in asked:
        row = evalset.rows[index]
        question, reference = asker.question(row), asker.reference(row)
        prompts.append(scale.prompt(question, text, language(row.prompt), reference=reference))
    replies = asker.ask(prompts, f"judge ({scale.name})")
    found: dict[tuple[str, int], Marks] = {}
    records = []
    for (model, index, _), reply in zip(asked, replies, strict=True):
        said = reply_text(reply)
        marks = scale.parse(said)
        if marks is not None:
            found[model, index] = marks
        records.append(_record(scale, evalset.rows[index].id, model, marks, said))
    size = len(evalset)
    counts = []
    for model in answers:
        given = [row for name, row, _ in asked if name == model]
        read = sum((model, row) in found for row in given)
        counts.append(
            {
                "rubric": scale.name,
                "model": model,
                "asked": len(given),
                "read": read,
                "unread": len(given) - read,
            }
        )
    return Marked(_columns(scale, asker, found, list(answers), size), records, counts)


def _record(scale: Scale, row: str, model: str, marks: Marks | None, reply: str) -> dict[str, Any]:
    record: dict[str, Any] = {"id": row, "model": model, "rubric": scale.name}
    if marks is None:
        return record | {"unread": True, "reply": clean(reply)}
    return record | dict(marks.marks) | dict(marks.checks) | {"reason": clean(marks.reason)}


def clean(text: str) -> str:
    """A judge's words as they go into a record: cut when long, without half characters."""
    return text[:REPLY_CHARACTERS].encode("utf-8", errors="replace").decode("utf-8")


def _columns(
    scale: Scale,
    asker: Asker,
    found: Mapping[tuple[str, int], Marks],
    models: Sequence[str],
    size: int,
) -> list[Scored]:
    task = content_id(*scale.task.values())[:8]
    signature = f"espalier.judge|rubric:{scale.name}|task:{task}|{asker.signature}|unread:left-out"
    columns = []
    for name in scale.marks:
        values = {m: _values(found, m, size, name, check=False) for m in models}
        columns.append(_scored(_mark_metric(scale, name, signature), values, binary=False))
    if scale.marks:
        means = {m: _means(found, m, size) for m in models}
        columns.append(_scored(_mean_metric(scale, signature), means, binary=False))
    for name in scale.checks:
        values = {m: _values(found, m, size, name, check=True) for m in models}
        columns.append(_scored(_check_metric(scale, name, signature), values, binary=True))
    return columns


def _mean_metric(scale: Scale, signature: str) -> Metric:
    return Metric(
        f"judge_{scale.name}",
        f"Judge: mean of {scale.name}",
        True,
        "number",
        f"{signature}|mean:{len(scale.marks)} marks",
        f"Mean of the judge's marks for {', '.join(scale.marks)}, 1 to 5; judges favour long "
        "answers and their own style, and are not to be compared with other judges.",
    )


def _mark_metric(scale: Scale, name: str, signature: str) -> Metric:
    own = f"'{name}' ({_own_words(scale, name)}); judges favour long answers and their own style"
    return Metric(
        f"judge_{name}",
        f"Judge: {name}",
        True,
        "number",
        signature,
        f"A judge model's mark from 1 to 5 for {own if scale.about else _MEANINGS[name]}.",
    )


def _check_metric(scale: Scale, name: str, signature: str) -> Metric:
    own = f"share of answers that the judge passes for '{name}' ({_own_words(scale, name)})"
    meaning = own if scale.about else _MEANINGS[name]
    return Metric(
        f"judge_{name}",
        f"Judge: {name}",
        True,
        "percent",
        f"{signature}|interval:wilson",
        f"{meaning[0].upper()}{meaning[1:]}.",
    )


def _own_words(scale: Scale, name: str) -> str:
    return scale.about.get(name, "").strip().rstrip(".。")


def _values(
    found: Mapping[tuple[str, int], Marks], model: str, size: int, name: str, *, check: bool
) -> RowValues:
    values: RowValues = [None] * size
    for row in range(size):
        marks = found.get((model, row))
        if marks is not None:
            values[row] = float(marks.checks[name] if check else marks.marks[name])
    return values


def _means(found: Mapping[tuple[str, int], Marks], model: str, size: int) -> RowValues:
    values: RowValues = [None] * size
    for row in range(size):
        marks = found.get((model, row))
        if marks is not None:
            values[row] = sum(marks.marks.values()) / len(marks.marks)
    return values


def _scored(metric: Metric, values: Mapping[str, RowValues], *, binary: bool) -> Scored:
    scored = Scored(metric)
    for model, column in values.items():
        scored.rows[model] = column
        scored.columns[model] = Column.of_means(column, binary=binary)
    return scored
