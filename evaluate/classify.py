"""Tasks whose answer is one of a few labels: accuracy, and F1 over and for each of them.

Every label's F1 is 2·tp / (predicted + true), 0 where it never occurs; macro F1 is their plain
mean, so that a rare label counts as much as a frequent one. An answer that names no label (or
several) is wrong, and counts against the recall of the right one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from espalier.errors import InputError
from espalier.evaluate.config_metrics import ClassificationConfig
from espalier.evaluate.evalset import EvalSet
from espalier.evaluate.metric import Metric, RowValues, Scored
from espalier.evaluate.significance import Array, Column, Combine
from espalier.text import is_cjk, normalise

# A set with more different references than this holds no labels.
MOST_LABELS = 200


def f1_of_sums(sums: Array) -> Array:
    """F1 of summed statistics (..., 3): right, predicted, true; 0 where there is none."""
    both = sums[..., 1] + sums[..., 2]
    return np.asarray(np.where(both > 0, 2 * sums[..., 0] / np.maximum(both, 1), 0.0))


def macro_f1_of_sums(sums: Array) -> Array:
    """Mean over labels of their F1, of summed statistics (..., 3 for each label)."""
    return np.asarray(f1_of_sums(sums.reshape(*sums.shape[:-1], -1, 3)).mean(axis=-1))


F1 = Combine(3, f1_of_sums, "classify:F1")


def macro_f1_combine(labels: int) -> Combine:
    """Macro F1 of so many labels."""
    return Combine(3 * labels, macro_f1_of_sums, f"classify:{_MACRO}{labels}")


_MACRO = "MACRO_F1_"


def __getattr__(name: str) -> Combine:
    # Stored columns name how they make a score as a constant of a module.
    count = name.removeprefix(_MACRO)
    if not name.startswith(_MACRO) or not count.isdecimal() or int(count) < 1:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return macro_f1_combine(int(count))


@dataclass(frozen=True)
class Labels:
    """The labels in order, and all normalised ways to write them (longest first)."""

    names: tuple[str, ...]
    forms: tuple[tuple[str, int], ...]

    @classmethod
    def make(cls, spelled: Mapping[str, Sequence[str]]) -> Labels:
        """Raises InputError where two labels are written alike, or one is empty."""
        forms: dict[str, int] = {}
        for number, (name, others) in enumerate(spelled.items()):
            for text in (name, *others):
                if not text.strip():
                    raise InputError(
                        "A label is empty.",
                        where="evaluate.classification.labels",
                        expected="labels with at least one character",
                    )
                if forms.setdefault(normalise(text), number) != number:
                    raise InputError(
                        f"Two labels are written alike: '{text}'.",
                        where="evaluate.classification.labels",
                        expected="labels that differ in more than case, width and punctuation",
                    )
        ordered = sorted(forms.items(), key=lambda item: (-len(item[0]), item[1]))
        return cls(tuple(spelled), tuple(ordered))

    def whole(self, text: str) -> int | None:
        """The label that the text is."""
        key = normalise(text)
        return next((number for form, number in self.forms if form == key), None)

    def first_line(self, text: str) -> int | None:
        """The label that the first line is, begins with, or ends with."""
        line = next((part for part in text.split("\n") if part.strip()), "")
        found = self.whole(line)
        key = normalise(line)
        for pattern in ("^{}", "{}$"):
            for form, number in self.forms:
                if found is None and re.search(pattern.format(_bounded(form)), key):
                    found = number
        return found

    def anywhere(self, text: str) -> int | None:
        """The only label in the text; a label within a longer one (`not spam`) does not count."""
        key = normalise(text)
        seen = set()
        for form, number in self.forms:
            key, count = re.subn(_bounded(form), "\0", key)
            if count:
                seen.add(number)
        return seen.pop() if len(seen) == 1 else None


def _bounded(form: str) -> str:
    """A pattern of the form as words; characters of scripts without spaces need no bounds."""
    left = "" if is_cjk(form[:1]) else r"(?<![^\W_])"
    right = "" if is_cjk(form[-1:]) else r"(?![^\W_])"
    return left + re.escape(form) + right


def score_classification(
    config: ClassificationConfig, evalset: EvalSet, answers: Mapping[str, Sequence[str | None]]
) -> list[Scored]:
    """Accuracy and macro F1 of all models; precision, recall and F1 by label as details.

    Raises InputError where the rows that should have labels have none.
    """
    rows = _rows_asked(config, evalset)
    labels = _labels(config, evalset, rows)
    truth = {row: labels.whole(evalset.rows[row].reference or "") for row in rows}
    if config.category:
        _check_truth(truth, labels, evalset)
    right = {row: number for row, number in truth.items() if number is not None}
    if not right:
        raise InputError(
            "No row of the set has one of the labels as its reference.",
            where="evaluate.classification",
            expected=f"references such as '{labels.names[0]}'",
        )
    signature = f"labels:{len(labels.names)}|find:{config.find}|rows:{len(right)}"
    accuracy = Scored(_accuracy(signature))
    macro = Scored(_macro(signature))
    for model, texts in answers.items():
        find = getattr(labels, config.find)
        told = {row: find(texts[row]) for row in right if texts[row] is not None}
        values: RowValues = [None] * len(texts)
        for row, number in told.items():
            values[row] = float(number == right[row])
        accuracy.rows[model] = values
        accuracy.columns[model] = Column.of_means(values, binary=True)
        macro.rows[model] = values
        macro.columns[model] = _column(told, right, labels, len(texts))
        macro.details[model] = _details(told, right, labels)
    return [accuracy, macro]


def _rows_asked(config: ClassificationConfig, evalset: EvalSet) -> list[int]:
    return [
        index
        for index, row in enumerate(evalset.rows)
        if row.reference and (not config.category or row.category in config.category)
    ]


def _labels(config: ClassificationConfig, evalset: EvalSet, rows: Sequence[int]) -> Labels:
    if isinstance(config.labels, dict):
        return Labels.make(config.labels)
    if config.labels:
        return Labels.make(dict.fromkeys(config.labels, ()))
    spelled: dict[str, str] = {}
    for row in rows:
        text = (evalset.rows[row].reference or "").strip()
        spelled.setdefault(normalise(text), text)
    if not spelled or len(spelled) > MOST_LABELS:
        raise InputError(
            f"The rows of {', '.join(config.category)} have {len(spelled):,} different references.",
            where="evaluate.classification.category",
            expected=f"1 to {MOST_LABELS} labels",
            hint="list the labels in `evaluate.classification.labels`",
        )
    return Labels.make({spelled[key]: () for key in sorted(spelled)})


def _check_truth(truth: Mapping[int, int | None], labels: Labels, evalset: EvalSet) -> None:
    for row, number in truth.items():
        if number is None:
            raise InputError(
                "The reference of a row that should have a label is none.",
                where=f"row {evalset.rows[row].id}: {evalset.rows[row].reference!r:.80}",
                expected=f"one of {', '.join(labels.names[:20])}",
                hint="correct `evaluate.classification`: `labels`, or `category`",
            )


def _column(
    told: Mapping[int, int | None], right: Mapping[int, int], labels: Labels, size: int
) -> Column:
    statistics = np.zeros((size, len(labels.names), 3))
    valid = np.zeros(size, dtype=bool)
    for row, number in told.items():
        valid[row] = True
        statistics[row, right[row], 2] = 1
        if number is not None:
            statistics[row, number, 1] = 1
            statistics[row, number, 0] = float(number == right[row])
    return Column(statistics.reshape(size, -1), valid, macro_f1_combine(len(labels.names)))


def _details(
    told: Mapping[int, int | None], right: Mapping[int, int], labels: Labels
) -> dict[str, Any]:
    """By label precision, recall, F1; which label was told for which, and how many for none."""
    size = len(labels.names)
    confusion = np.zeros((size, size + 1), dtype=int)  # true, told (the last: none)
    for row, number in told.items():
        confusion[right[row], size if number is None else number] += 1
    hits, given, true = confusion.diagonal(), confusion[:, :size].sum(axis=0), confusion.sum(axis=1)
    f1 = f1_of_sums(np.stack([hits, given, true], axis=-1).astype(float))
    return {
        "labels": [
            {
                "label": name,
                "precision": float(hits[i] / given[i]) if given[i] else 0.0,
                "recall": float(hits[i] / true[i]) if true[i] else 0.0,
                "f1": float(f1[i]),
                "rows": int(true[i]),
                "told": int(given[i]),
            }
            for i, name in enumerate(labels.names)
        ],
        "confusion": confusion[:, :size].tolist(),
        "without_label": int(confusion[:, size].sum()),
    }


def _accuracy(signature: str) -> Metric:
    return Metric(
        "accuracy",
        "Accuracy",
        True,
        "percent",
        f"espalier.accuracy|{signature}|interval:wilson",
        "Share of answers with the right label; misleads where one label is most of the rows, "
        "and an answer such as 'not positive' may be read as 'positive'.",
    )


def _macro(signature: str) -> Metric:
    return Metric(
        "macro_f1",
        "Macro F1",
        True,
        "percent",
        f"espalier.macro-f1|{signature}|zero-division:0",
        "Mean over labels of each label's F1, rare ones counting as much as frequent ones; "
        "unsteady where a label has few rows.",
    )
