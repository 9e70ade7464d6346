"""Rankings: one prompt and K answers with ranks or scores, read as all pairs of different ranks.

Read are lists of objects (a text with its rank or score), and lists of texts beside a list of
ranks or scores. A rank counts from the best, a score is higher for the better answer; where both
are given the ranks decide and the scores are the margin.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from espalier.formats.base import (
    Answers,
    Format,
    RowFault,
    describe,
    extras,
    names,
    optional_text,
    text_of,
    with_input,
)
from espalier.formats.preference import is_dialogue, prompt_dialogue, unpacked
from espalier.formats.turns import check_turns, message_list
from espalier.records import Message, Messages, PreferencePair, messages_id

_PROMPTS = ("prompt", "instruction", "question", "query")
_LISTS = ("answers", "completions", "responses", "candidates")
_TEXTS = ("text", "answer", "response", "completion", "content", "output")
_RANKS = ("rank", "ranking")
_SCORES = ("score", "rating", "fine-grained_score", "overall_score")
_RANK_LISTS = ("ranks", "rank", "ranking", "rankings")
_SCORE_LISTS = ("scores", "score", "ratings")


@dataclass(frozen=True, slots=True)
class _Answer:
    text: str
    rank: float | None
    score: float | None

    @property
    def place(self) -> float:
        """Where the answer stands: lower is better."""
        return self.rank if self.rank is not None else -(self.score or 0.0)


def _fits(row: Mapping[str, Any]) -> bool:
    """A prompt and a list of answers that have ranks or scores, in them or beside them."""
    name = _first(row, _LISTS)
    if name is None or _first(row, _PROMPTS) is None:
        return False
    value = row[name]
    beside = _first(row, (*_RANK_LISTS, *_SCORE_LISTS)) is not None
    if isinstance(value, str):  # CSV and Parquet files keep lists as JSON text
        within = any(f'"{key}"' in value for key in (*_RANKS, *_SCORES))
        return value.lstrip().startswith("[") and (beside or within)
    if not isinstance(value, list) or not value:
        return False
    first = value[0]
    if isinstance(first, Mapping):
        return _first(first, (*_RANKS, *_SCORES)) is not None
    return isinstance(first, str) and beside


def _resembles(row: Mapping[str, Any]) -> bool:
    name = _first(row, _LISTS)
    return name is not None and isinstance(row[name], list)


def _first(row: Mapping[str, Any], wanted: tuple[str, ...]) -> str | None:
    return next((name for name in wanted if row.get(name) is not None), None)


def _parse(row: Mapping[str, Any], answers: Answers) -> list[PreferencePair]:
    prompt = _prompt(row)
    name = _first(row, _LISTS) or _LISTS[0]
    ranked = _answers(row, name)
    group = messages_id(prompt)
    known = (*_PROMPTS, *_LISTS, *_RANK_LISTS, *_SCORE_LISTS, "input")
    meta = extras(row, known)
    ordered = sorted(ranked, key=lambda answer: answer.place)
    pairs = [
        PreferencePair.make(
            prompt,
            better.text,
            worse.text,
            margin=_margin(better, worse),
            meta={**meta, "ranking": group, "ranks": [_rank(better, ranked), _rank(worse, ranked)]},
        )
        for better, worse in combinations(ordered, 2)
        if better.place < worse.place and better.text.strip() != worse.text.strip()
    ]
    if not pairs:
        raise RowFault(
            "No answer stands above another.",
            field=name,
            found=f"{len(ranked)} answers that are equal or have equal ranks",
            expected="two different answers with different ranks or scores",
        )
    return pairs


def _rank(answer: _Answer, ranked: list[_Answer]) -> int:
    return 1 + sum(other.place < answer.place for other in ranked)


def _margin(better: _Answer, worse: _Answer) -> float | None:
    if better.score is None or worse.score is None:
        return None
    return better.score - worse.score


def _prompt(row: Mapping[str, Any]) -> Messages:
    name = _first(row, _PROMPTS) or _PROMPTS[0]
    value = unpacked(row.get(name))
    if isinstance(value, list):
        turns = message_list(value, name)
    else:
        text = text_of(row, name)
        if is_dialogue(text):
            turns = prompt_dialogue(text)
        else:
            turns = (Message("user", with_input(text, optional_text(row, "input"))),)
    check_turns(turns, name)
    if turns[-1].role != "user":
        raise RowFault(
            "The prompt does not end in a user turn.",
            field=name,
            found=f"a turn of the {turns[-1].role} at the end",
            expected="a user turn at the end",
        )
    return turns


def _answers(row: Mapping[str, Any], name: str) -> list[_Answer]:
    listed = row.get(name)
    if not isinstance(listed, list) or len(listed) < 2:
        raise RowFault(
            "A ranking needs at least two answers.",
            field=name,
            found=describe(listed),
            expected="a list of two or more answers",
        )
    if all(isinstance(item, str) for item in listed):
        found = _beside(row, name, listed)
    else:
        found = [_answer(item, f"{name}[{number}]") for number, item in enumerate(listed)]
    by_rank = all(answer.rank is not None for answer in found)
    by_score = all(answer.score is not None for answer in found)
    if not by_rank and not by_score:
        raise RowFault(
            "The answers have neither all a rank nor all a score.",
            field=name,
            found=f"{len(found)} answers, {sum(a.rank is not None for a in found)} with a rank, "
            f"{sum(a.score is not None for a in found)} with a score",
            expected="a rank (1 is the best) or a score (higher is better) for each answer",
        )
    return [_Answer(a.text, a.rank if by_rank else None, a.score) for a in found]


def _beside(row: Mapping[str, Any], name: str, texts: list[str]) -> list[_Answer]:
    """Texts whose ranks or scores are lists of their own."""
    ranks, scores = _numbers(row, _RANK_LISTS, texts), _numbers(row, _SCORE_LISTS, texts)
    return [
        _Answer(text, rank, score) for text, rank, score in zip(texts, ranks, scores, strict=True)
    ]


def _numbers(
    row: Mapping[str, Any], wanted: tuple[str, ...], texts: list[str]
) -> list[float] | list[None]:
    name = _first(row, wanted)
    if name is None:
        return [None] * len(texts)
    values = row[name]
    if not isinstance(values, list) or len(values) != len(texts):
        raise RowFault(
            f"The field '{name}' does not go with the answers.",
            field=name,
            found=describe(values),
            expected=f"a list of {len(texts)} numbers, one an answer",
        )
    return [_number(value, f"{name}[{number}]") for number, value in enumerate(values)]


def _answer(item: Any, field: str) -> _Answer:
    if not isinstance(item, Mapping):
        raise RowFault(
            "An answer is not an object.",
            field=field,
            found=describe(item),
            expected="an object with a text and a rank or score",
        )
    name = next((key for key in _TEXTS if isinstance(item.get(key), str)), None)
    if name is None:
        raise RowFault(
            "An answer has no text.",
            field=field,
            found=f"the fields {names(item)}" if item else "an empty object",
            expected=f"a text in one of the fields {', '.join(_TEXTS)}",
        )
    rank, score = _first(item, _RANKS), _first(item, _SCORES)
    return _Answer(
        item[name],
        None if rank is None else _number(item[rank], f"{field}.{rank}"),
        None if score is None else _number(item[score], f"{field}.{score}"),
    )


def _number(value: Any, field: str) -> float:
    try:
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            number = float(value)
            if math.isfinite(number):
                return number
    except (ValueError, OverflowError):
        pass
    raise RowFault(
        "A rank or score is not a number.",
        field=field,
        found=describe(value),
        expected="a number",
    )


def _dump(pair: PreferencePair) -> dict[str, Any]:
    """A pair as a ranking of two answers; the worse one's score is 0 where the margin is known."""
    better: dict[str, Any] = {"text": pair.chosen, "rank": 1}
    worse: dict[str, Any] = {"text": pair.rejected, "rank": 2}
    if pair.margin is not None:
        better["score"], worse["score"] = pair.margin, 0.0
    return {"prompt": [turn.to_json() for turn in pair.prompt], "answers": [better, worse]}


RANKING = Format[PreferencePair](
    name="ranking",
    kind="pairs",
    shape="prompt, answers (a list of two or more, each with a text and a rank or score)",
    fits=_fits,
    resembles=_resembles,
    parse=_parse,
    dump=_dump,
    nested=(*_LISTS, *_RANK_LISTS, *_SCORE_LISTS),
)
