"""Ratings by people: rows of files, as marks of an answer or a verdict on two answers.

A row names what it rates either openly (`id` of the prompt and `model`, or `model_a` and
`model_b`) or blindly, by the `item` of a rating sheet, which is a hash of the texts that were
shown. A blind rating so belongs to texts, not to names: it holds for the same answers in any run,
and is left out, and counted, when a model answers otherwise now.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espalier import rating_store
from espalier.errors import InputError, place
from espalier.evaluate.predictions import ID_FIELDS
from espalier.evaluate.rows import row_error
from espalier.formats.files import BadRow, read_rows
from espalier.judging import HIGHEST, LOWEST, parse_pairwise
from espalier.rubrics import SCALES, Scale, spelling

RATER_FIELDS = ("rater", "annotator", "labeler", "user", "worker", "评分人")
VERDICT_FIELDS = ("verdict", "winner", "preference", "choice", "结论")
FIRST_FIELDS = ("model_a", "a")
SECOND_FIELDS = ("model_b", "b")
PROMPT_FIELDS = ("prompt", "question", "instruction")
_PASSED = frozenset(("pass", "passed", "true", "yes", "safe", "1", "通过", "是", "安全"))
_FAILED = frozenset(("fail", "failed", "false", "no", "unsafe", "0", "不通过", "否", "不安全"))
_PAIR_ITEM = re.compile(r"([0-9a-f]{16})-([12])")


@dataclass(frozen=True)
class Criteria:
    """What rows may hold: by name the words for each mark and for each check."""

    marks: dict[str, Sequence[str]]
    checks: dict[str, Sequence[str]]

    @classmethod
    def of(cls, own: Iterable[Scale] = ()) -> Criteria:
        """Those of the rubrics of one's own and of the built-in ones; the own come first where
        both have a name or a word."""
        found = cls({}, {})
        taken: set[str] = set()
        for scale in (*own, *SCALES.values()):
            before = frozenset(taken)
            for known, given in ((found.marks, scale.marks), (found.checks, scale.checks)):
                for name, words in given.items():
                    if name not in found.marks and name not in found.checks:
                        known[name] = [word for word in words if word not in before]
                    taken.update(words)
        return found


BUILT_IN = Criteria.of()


@dataclass(frozen=True, slots=True)
class Rating:
    """One filled-in row: by whom, of what, and what was said.

    `marks` by name (checks as 1 for passed and 0 for failed); `worth` is what the verdict gives
    the pair's first answer (1, 0.5 or 0). `item` is the hash of a blind row; of a pair it is
    without its order, and `worth` is that of the text that sorts first.
    """

    where: str
    rater: str
    item: str | None
    names: tuple[str, ...]
    prompt: str | None
    model: str | None
    pair: tuple[str, str] | None
    marks: Mapping[str, float]
    worth: float | None
    texts: tuple[str | None, ...] = ()


@dataclass(frozen=True)
class RatingFile:
    """A file's ratings, how many of its rows nobody filled in, and what of them are checks."""

    path: str
    ratings: tuple[Rating, ...]
    unfilled: int
    checks: frozenset[str] = frozenset(BUILT_IN.checks)


def read_ratings(path: Path, criteria: Criteria = BUILT_IN) -> RatingFile:
    """Read a file of ratings.

    Raises InputError with line and field for a mark outside of 1 to 5, a verdict that is none, a
    row that does not say what it rates, and a file without any rating.
    """
    if not path.is_file():
        raise InputError(
            "The file of ratings does not exist.",
            where=str(path),
            expected="a filled-in sheet, one rating a row (JSONL, JSON, CSV, Parquet), or the "
            "database of `espalier rate`",
            hint="`espalier rate RUN` has people rate in the browser; `espalier ratings sheet RUN "
            "--output sheet.csv` makes a sheet to fill in",
        )
    ratings: list[Rating] = []
    unfilled = 0
    for value, where in _rows(path):
        found = _rating(value, where, path.name.split(".")[0], criteria)
        if found is None:
            unfilled += 1
        else:
            ratings.append(found)
    if not ratings:
        raise InputError(
            "The file holds no rating.",
            where=str(path),
            expected=f"rows with marks ({', '.join((*criteria.marks, *criteria.checks))}) or a "
            "verdict (A, B, tie)",
            hint=f"{unfilled:,} rows are not filled in" if unfilled else None,
        )
    return RatingFile(str(path), tuple(ratings), unfilled, frozenset(criteria.checks))


def _rows(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    for value, line in _read(path):
        yield {spelling(str(key)): cell for key, cell in value.items()}, place(path, line)


def _read(path: Path) -> Iterator[tuple[Mapping[str, Any], int]]:
    if path.suffix.lower() in rating_store.SUFFIXES:
        for number, stored in enumerate(rating_store.stored_rows(path), 1):
            yield stored, number
        return
    for row in read_rows(path):
        if isinstance(row, BadRow):
            raise row_error(row)
        yield row.value, row.line


def _rating(
    value: Mapping[str, Any], where: str, default_rater: str, criteria: Criteria
) -> Rating | None:
    marks = {name: mark for name, words in criteria.marks.items()
             if (mark := _mark(_first(value, words), name, where)) is not None}  # fmt: skip
    marks |= {name: mark for name, words in criteria.checks.items()
              if (mark := _check(_first(value, words), name, where)) is not None}  # fmt: skip
    first, second = _first(value, FIRST_FIELDS), _first(value, SECOND_FIELDS)
    said = _first(value, VERDICT_FIELDS)
    worth = None if said is None else _worth(str(said), str(first), str(second), where)
    if not marks and worth is None:
        return None
    if marks and worth is not None:
        raise InputError(
            "A row has both marks and a verdict on a pair.",
            where=where,
            expected="one rating a row",
        )
    item = _first(value, ("item",))
    if item is not None:
        item, worth = _blind(str(item).strip(), worth, where)
    names = tuple(str(value[key]) for key in ID_FIELDS if _given(value.get(key)))
    prompt = _first(value, PROMPT_FIELDS)
    model = _first(value, ("model",))
    pair = (str(first), str(second)) if first is not None and second is not None else None
    if item is None:
        _check_named(names, prompt, model, pair, worth, where)
    fields = ("answer",) if worth is None else ("answer_a", "answer_b")
    return Rating(
        where,
        str(_first(value, RATER_FIELDS) or default_rater).strip(),
        item,
        names,
        None if prompt is None else str(prompt),
        None if model is None else str(model),
        pair,
        marks,
        worth,
        tuple(None if value.get(name) is None else str(value[name]) for name in fields),
    )


def _blind(item: str, worth: float | None, where: str) -> tuple[str, float | None]:
    if worth is None:
        return item, None
    match = _PAIR_ITEM.fullmatch(item)
    if match is None:
        raise InputError(
            f"The item {item[:60]!r} is none of a sheet of pairs.",
            where=where,
            expected="16 hex digits and -1 or -2, as the sheet had it",
        )
    return match[1], worth if match[2] == "1" else 1 - worth


def _check_named(
    names: Sequence[str],
    prompt: Any,
    model: Any,
    pair: tuple[str, str] | None,
    worth: float | None,
    where: str,
) -> None:
    if not names and prompt is None:
        raise InputError(
            "A rating does not say which prompt it belongs to.",
            where=where,
            expected="`item` as on the sheet, or `id` (or `prompt`) of the prompt",
        )
    if worth is None and model is None:
        raise InputError(
            "Marks do not say which model's answer they are for.",
            where=where,
            expected="`model`, or `item` as on the sheet",
        )
    if worth is not None and (pair is None or pair[0] == pair[1]):
        raise InputError(
            "A verdict does not say which two models it compares.",
            where=where,
            expected="`model_a` and `model_b`, two different models, or `item` as on the sheet",
        )


# --- cells -----------------------------------------------------------------------------------


def _given(value: Any) -> bool:
    """Whether a cell holds anything."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return False
    return not isinstance(value, str) or bool(value.strip())


def _first(value: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((value[name] for name in names if _given(value.get(name))), None)


def _mark(value: Any, name: str, where: str) -> float | None:
    if value is None:
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(str(value).strip())
    except ValueError:
        number = math.nan
    if not LOWEST <= number <= HIGHEST:
        raise InputError(
            f"The mark for {name} is {str(value)[:40]!r}.",
            where=f"{where}, field '{name}'",
            expected=f"a number from {LOWEST} to {HIGHEST}, or nothing",
            hint="correct that row of the file",
        )
    return number


def _check(value: Any, name: str, where: str) -> float | None:
    if value is None:
        return None
    word = str(value).strip().lower().removesuffix(".0")
    if word not in _PASSED | _FAILED:
        raise InputError(
            f"The check of {name} is {str(value)[:40]!r}.",
            where=f"{where}, field '{name}'",
            expected="pass or fail, or nothing",
            hint="correct that row of the file",
        )
    return float(word in _PASSED)


def _worth(said: str, first: str, second: str, where: str) -> float:
    """What the verdict gives the pair's first answer; a verdict may name the model that won."""
    text = said.strip()
    if text.upper() not in ("A", "B") and text in (first, second) and first != second:
        return float(text == first)
    verdict = "tie" if text in ("=", "0.5") else parse_pairwise(text)
    if verdict is None:
        raise InputError(
            f"The verdict is {text[:40]!r}.",
            where=f"{where}, field 'verdict'",
            expected="A, B or tie (or the name of the better model)",
            hint="correct that row of the file",
        )
    return {"A": 1.0, "tie": 0.5, "B": 0.0}[verdict]
