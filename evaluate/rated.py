"""Ratings by people, put to the answers of this evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from espalier.blind import mark_item, pair_item
from espalier.errors import InputError
from espalier.evaluate.evalset import EvalSet
from espalier.evaluate.ratings import Rating, RatingFile
from espalier.text import normalise

Answers = Mapping[str, Sequence[str | None]]
Place = tuple[int, str]  # row of the set, model
PairPlace = tuple[int, str, str]  # row of the set, model, the model that it is compared with


@dataclass
class Rated:
    """By what was rated, the raters' values: marks (1 to 5, checks 1 or 0), and what the verdict
    on a pair is worth to its first model (1, 0.5 or 0).

    `marks` by name and place; `votes` by place, the baseline always second. `files` says what
    became of the rows: `other` rate prompts or models that are not here, `stale` other answers
    than those that the models give now, `replaced` were rated again by the same person. `checks`
    names the marks that are passed (1) or failed (0).
    """

    marks: dict[str, dict[Place, dict[str, float]]] = field(default_factory=dict)
    votes: dict[PairPlace, dict[str, float]] = field(default_factory=dict)
    files: list[dict[str, Any]] = field(default_factory=list)
    checks: frozenset[str] = frozenset()

    @property
    def raters(self) -> list[dict[str, Any]]:
        """Every rater with the number of answers marked and of pairs judged."""
        marked = {
            (rater, place)
            for column in self.marks.values()
            for place, given in column.items()
            for rater in given
        }
        answers = Counter(rater for rater, _ in marked)
        pairs = Counter(rater for given in self.votes.values() for rater in given)
        return [
            {"name": name, "answers": answers[name], "pairs": pairs[name]}
            for name in sorted({*answers, *pairs})
        ]

    def warnings(self) -> list[str]:
        """One sentence for each thing that a reader of the ratings has to know."""
        reasons = {
            "other": "rate prompts or models that are not in this evaluation",
            "stale": "rate other answers than the models give now",
            "replaced": "were rated again by the same person; the last rating counts",
        }
        return [
            f"{one['path']}: {one[name]:,} of {one['rows']:,} ratings {text}"
            + ("." if name == "replaced" else "; they are left out.")
            for one in self.files
            for name, text in reasons.items()
            if one[name]
        ]


def place_ratings(
    files: Sequence[RatingFile], evalset: EvalSet, answers: Answers, baseline: str
) -> Rated:
    """Find the answers that ratings belong to.

    Raises InputError where no rating of any file belongs to this evaluation.
    """
    finder = _Finder(evalset, answers, baseline, _items(files))
    rated = Rated(checks=frozenset[str]().union(*(file.checks for file in files)))
    for file in files:
        counts = {"other": 0, "stale": 0, "replaced": 0}
        for rating in file.ratings:
            problem = _add(rated, rating, finder)
            if problem:
                counts[problem] += 1
        rated.files.append(
            {
                "path": file.path,
                "rows": len(file.ratings),
                "unfilled": file.unfilled,
                **counts,
            }
        )
    if not rated.marks and not rated.votes:
        raise InputError(
            "None of the ratings belongs to this evaluation.",
            where=", ".join(file.path for file in files),
            expected="prompts by the set's ids, models by the recipe's names, or items of a sheet "
            "made of these answers",
            hint="ratings of other answers than the models give now count no more",
        )
    return rated


def _items(files: Sequence[RatingFile]) -> frozenset[str]:
    return frozenset(
        rating.item for file in files for rating in file.ratings if rating.item is not None
    )


def _add(rated: Rated, rating: Rating, finder: _Finder) -> str | None:
    """Enter a rating; why it did not count, or "replaced"."""
    replaced = False
    if rating.worth is not None:
        pairs, problem = finder.pairs(rating)
        for place, turned in pairs:
            votes = rated.votes.setdefault(place, {})
            replaced |= rating.rater in votes
            votes[rating.rater] = 1 - rating.worth if turned else rating.worth
    else:
        places, problem = finder.answers_of(rating)
        for spot in places:
            for name, mark in rating.marks.items():
                given = rated.marks.setdefault(name, {}).setdefault(spot, {})
                replaced |= rating.rater in given
                given[rating.rater] = mark
    return problem or ("replaced" if replaced else None)


class _Finder:
    """Where prompts, models and blind items are."""

    def __init__(
        self, evalset: EvalSet, answers: Answers, baseline: str, items: frozenset[str]
    ) -> None:
        self.given = answers
        self.order = [*(name for name in answers if name != baseline), baseline]
        self.rows: dict[str, int] = {}
        self.prompts: dict[str, int] = {}
        for index, row in enumerate(evalset.rows):
            for name in row.names:
                self.rows.setdefault(name, index)
            for text in (row.prompt, row.question):
                self.prompts.setdefault(normalise(text), index)
        self.marked: dict[str, list[Place]] = {}
        self.paired: dict[str, list[PairPlace]] = {}
        if items:
            self._index(evalset, items)

    def _index(self, evalset: EvalSet, items: frozenset[str]) -> None:
        for index, row in enumerate(evalset.rows):
            texts = self._texts(index)
            for model, text in texts:
                item = mark_item(row.prompt, text)
                if item in items:
                    self.marked.setdefault(item, []).append((index, model))
            for (one, first), (other, second) in combinations(texts, 2):
                item, _, order = pair_item(row.prompt, first, second).partition("-")
                if item in items:
                    pair = (one, other) if order == "1" else (other, one)
                    self.paired.setdefault(item, []).append((index, *pair))

    def _texts(self, row: int) -> list[tuple[str, str]]:
        found = ((name, self.given[name][row]) for name in self.order)
        return [(name, text) for name, text in found if text is not None]

    def answers_of(self, rating: Rating) -> tuple[list[Place], str | None]:
        """The answers that marks belong to, or why there are none."""
        if rating.item is not None:
            places = self.marked.get(rating.item, [])
            return places, None if places else "stale"
        row, model = self._row(rating), rating.model
        if row is None or model is None or model not in self.given:
            return [], "other"
        if self._changed(row, model, rating.texts[0]):
            return [], "stale"
        return [(row, model)], None

    def pairs(self, rating: Rating) -> tuple[list[tuple[PairPlace, bool]], str | None]:
        """The pairs that a verdict belongs to, each with whether it is in the other order."""
        if rating.item is not None:
            found = [self._ordered(*place) for place in self.paired.get(rating.item, [])]
            return found, None if found else "stale"
        row = self._row(rating)
        if row is None or rating.pair is None or not set(rating.pair) <= set(self.given):
            return [], "other"
        for model, text in zip(rating.pair, rating.texts, strict=True):
            if self._changed(row, model, text):
                return [], "stale"
        return [self._ordered(row, *rating.pair)], None

    def _row(self, rating: Rating) -> int | None:
        found = (self.rows[name] for name in rating.names if name in self.rows)
        row = next(found, None)
        if row is None and not rating.names and rating.prompt is not None:
            return self.prompts.get(normalise(rating.prompt))
        return row

    def _changed(self, row: int, model: str, rated: str | None) -> bool:
        """Whether the model gives no answer now, or another one than the row says was rated."""
        now = self.given[model][row]
        return now is None or (rated is not None and normalise(rated) != normalise(now))

    def _ordered(self, row: int, one: str, other: str) -> tuple[PairPlace, bool]:
        turned = self.order.index(one) > self.order.index(other)
        return ((row, other, one) if turned else (row, one, other)), turned
