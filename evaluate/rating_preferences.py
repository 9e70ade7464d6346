"""Preference pairs out of ratings by people: what a reward model is trained on.

A verdict on two answers is a pair; so are two answers to one prompt that the same people marked
far enough apart. Ratings belong to texts: where a row holds the texts that were shown, it gives its
pair also after the models answered otherwise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from espalier.blind import mark_item, pair_item, read_answers
from espalier.errors import InputError
from espalier.evaluate.evalset import EvalSet, Row, read_set
from espalier.evaluate.rated import Rated, place_ratings
from espalier.evaluate.rating_scores import mean_of
from espalier.evaluate.ratings import Rating, RatingFile
from espalier.files import hash_path, read_json
from espalier.records import Message, PreferencePair
from espalier.text import language

Answers = dict[str, list[str | None]]
Pair = tuple[str, str, str]  # prompt, and two answers in the order of their texts
Marked = tuple[str, str]  # prompt, answer


@dataclass
class Said:
    """What people said of texts: of a pair what its first answer is worth (1, 0.5 or 0) to each
    rater, of an answer each rater's marks. `left_out` counts ratings whose texts are not known."""

    votes: dict[Pair, dict[str, float]] = field(default_factory=dict)
    marks: dict[Marked, dict[str, dict[str, float]]] = field(default_factory=dict)
    left_out: int = 0


@dataclass(frozen=True)
class Preferred:
    """The pairs, and what gave none: ties of verdicts, and marks that lie too close."""

    pairs: list[PreferencePair]
    ties: int
    close: int


def rated_run(run: Path) -> tuple[EvalSet, Answers, str]:
    """The prompts of a run's evaluation, the models' answers, and the baseline.

    The prompts' turns come from the set, if it still is what was evaluated; else each prompt is
    one turn of the user. Raises InputError where the run has no finished evaluation.
    """
    shown = read_answers(run)
    summary = read_json(run / "evaluate" / "summary.json")
    evalset = _set_of(run, summary["set"])
    if evalset is None:
        texts = {one.prompt_id: one.prompt for one in shown}
        rows = tuple(
            Row(name, (Message("user", text),), None, language(text), "", {}, (name,))
            for name, text in texts.items()
        )
        evalset = EvalSet(summary["set"]["name"], str(run), "", rows)
    given = {(one.model, one.prompt_id): one.answer for one in shown}
    models = list(dict.fromkeys(one.model for one in shown))
    answers: Answers = {
        model: [given.get((model, row.id)) for row in evalset.rows] for model in models
    }
    baseline = summary.get("baseline")
    return evalset, answers, baseline if baseline in answers else models[0]


def _set_of(run: Path, about: Mapping[str, Any]) -> EvalSet | None:
    named = Path(str(about["path"]))
    for path in (run / named, named):
        if path.exists() and hash_path(path) == about["sha256"]:
            return read_set(path)
    return None


def said_of_texts(
    files: Sequence[RatingFile], evalset: EvalSet, answers: Answers, baseline: str
) -> Said:
    """What the ratings say of texts: those that a row holds, if they are what was rated, else
    those of the run."""
    said = Said()
    others = []
    for file in files:
        unknown = [one for one in file.ratings if not _take(said, one, file.checks)]
        if unknown:
            others.append(replace(file, ratings=tuple(unknown)))
    if others:
        _of_run(said, others, evalset, answers, baseline)
    return said


def _take(said: Said, rating: Rating, checks: Collection[str]) -> bool:
    """Enter a rating by the texts in its row; False where they are not those of its item."""
    if rating.prompt is None or rating.item is None or None in rating.texts:
        return False
    texts = [text for text in rating.texts if text is not None]
    if rating.worth is None:
        if mark_item(rating.prompt, *texts) != rating.item:
            return False
        given = said.marks.setdefault((rating.prompt, texts[0]), {})
        marks = {name: mark for name, mark in rating.marks.items() if name not in checks}
        given.setdefault(rating.rater, {}).update(marks)
        return True
    first, second = sorted(texts)
    if pair_item(rating.prompt, first, second).partition("-")[0] != rating.item:
        return False
    said.votes.setdefault((rating.prompt, first, second), {})[rating.rater] = rating.worth
    return True


def _of_run(
    said: Said, files: Sequence[RatingFile], evalset: EvalSet, answers: Answers, baseline: str
) -> None:
    try:
        rated = place_ratings(files, evalset, answers, baseline)
    except InputError:
        if not said.votes and not said.marks:
            raise
        rated = Rated()
        said.left_out = sum(len(file.ratings) for file in files)
    said.left_out += sum(file["other"] + file["stale"] for file in rated.files)
    for (row, model, other), votes in rated.votes.items():
        one, two = answers[model][row], answers[other][row]
        if one is None or two is None or one == two:
            continue
        first, second = sorted((one, two))
        place = (evalset.rows[row].prompt, first, second)
        for rater, worth in votes.items():
            said.votes.setdefault(place, {})[rater] = worth if one == first else 1 - worth
    for name, column in rated.marks.items():
        for (row, model), given in column.items():
            text = answers[model][row]
            if text is not None and name not in rated.checks:
                raters = said.marks.setdefault((evalset.rows[row].prompt, text), {})
                for rater, mark in given.items():
                    raters.setdefault(rater, {})[name] = mark


def preferred(
    said: Said, evalset: EvalSet, *, min_agreement: float = 0.5, min_gap: float = 1.0
) -> Preferred:
    """The pairs that the ratings give.

    Of verdicts, at least the share `min_agreement` of the votes has to be for the better answer
    (ties count half), and more than half. Of marks, the mean difference among those who marked both
    answers has to be at least `min_gap`; a pair that was judged is not made of marks again.
    """
    rows = {row.prompt: row for row in evalset.rows}
    pairs = []
    ties = 0
    for (prompt, first, second), votes in said.votes.items():
        worth = mean_of(votes.values())
        share = max(worth, 1 - worth)
        if share <= 0.5 or share < min_agreement:
            ties += 1
            continue
        better, worse = (first, second) if worth > 0.5 else (second, first)
        facts = {"kind": "human", "raters": len(votes), "preferred": round(share, 4)}
        pairs.append(_pair(rows.get(prompt), prompt, better, worse, facts))
    close = 0
    for prompt, better, worse, gap, raters in _apart(said):
        if gap < min_gap:
            close += 1
            continue
        facts = {"kind": "human_marks", "raters": raters, "gap": round(gap, 4)}
        pairs.append(_pair(rows.get(prompt), prompt, better, worse, facts))
    return Preferred(pairs, ties, close)


def _apart(said: Said) -> Iterator[tuple[str, str, str, float, int]]:
    """Two marked answers to a prompt, the better first: the gap, and how many marked both."""
    prompts: dict[str, list[str]] = {}
    for prompt, answer in said.marks:
        prompts.setdefault(prompt, []).append(answer)
    for prompt, listed in prompts.items():
        for first, second in combinations(sorted(listed), 2):
            if (prompt, first, second) in said.votes or first.strip() == second.strip():
                continue
            one, two = said.marks[prompt, first], said.marks[prompt, second]
            gaps = []
            for rater in one.keys() & two.keys():
                names = one[rater].keys() & two[rater].keys()
                gaps += [mean_of(one[rater][n] - two[rater][n] for n in names)] if names else []
            if gaps:
                gap = mean_of(gaps)
                better, worse = (first, second) if gap > 0 else (second, first)
                yield prompt, better, worse, abs(gap), len(gaps)


def _pair(
    row: Row | None, prompt: str, better: str, worse: str, facts: Mapping[str, Any]
) -> PreferencePair:
    messages = (Message("user", prompt),) if row is None else row.messages
    meta = {
        "source": "ratings",
        "language": language(prompt) if row is None else row.language,
        "category": "" if row is None else row.category,
        **facts,
        "parents": [] if row is None else [row.id],
        "operator": "ratings",
    }
    return PreferencePair.make(messages, better, worse, meta=meta)


def files_told(files: Sequence[RatingFile]) -> str:
    """One sentence: how many ratings by whom."""
    raters = Counter(rating.rater for file in files for rating in file.ratings)
    names = ", ".join(f"{name} ({count:,})" for name, count in sorted(raters.items()))
    return f"{raters.total():,} ratings: {names}"
