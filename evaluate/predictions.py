"""Answers made elsewhere: a file of predictions, matched to the prompts of the set.

Rows find their prompts by id where the ids agree, else by the prompt (instruction and input, or
a templated text that contains them), else by row order. What does not fit is counted and told:
missing, extra, duplicate and empty rows, and rows whose id and prompt disagree; a file for
other prompts, or in another order than it is said to be, is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from espalier.errors import InputError
from espalier.evaluate.evalset import EvalSet
from espalier.evaluate.matching import (
    PROMPT_FIELDS,
    Match,
    Matched,
    Prediction,
    collect,
    match_rows,
)
from espalier.evaluate.rows import row_error
from espalier.formats.files import BadRow, container_of, numbered_by, read_rows
from espalier.text import normalise

ANSWER_FIELDS = ("response", "prediction", "output", "completion", "answer", "text")
ID_FIELDS = ("id", "example_id", "task_id", "question_id", "uid")
INPUT_FIELDS = ("input", "context")
# Markers of chat templates: a word beside one is a word of its own.
_MARKERS = re.compile(r"<\|[^|<>]{1,40}\|>|</?s>|\[/?INST\]|<</?SYS>>")


def read_predictions(
    path: Path, evalset: EvalSet, *, match: Match = "auto", answer_field: str | None = None
) -> Matched:
    """Read a predictions file and match it to the set.

    Raises InputError for a file that is absent, empty or without answers, and for one whose
    rows answer other prompts than the set's (with the first prompt of both).
    """
    if not path.exists():
        raise InputError(
            "The predictions file does not exist.",
            where=str(path),
            expected="a file with one answer a row",
            hint="check `predictions` in the recipe",
        )
    predictions = list(_read(path, answer_field))
    if not predictions:
        raise InputError(
            "The predictions file is empty.", where=str(path), expected="one answer a row"
        )
    pairs, how, contradicting = match_rows(predictions, evalset, match, path)
    matched = collect(pairs, how, len(predictions), evalset)
    matched.contradicting, matched.kept = contradicting, match != "auto"
    return matched


# --- reading ---------------------------------------------------------------------------------


def _read(path: Path, answer_field: str | None) -> Iterable[Prediction]:
    container = container_of(path)
    unit = numbered_by(container.kind)
    for item in read_rows(path, container):
        if isinstance(item, BadRow):
            raise row_error(item)
        value = item.value
        where = f"{path}, {unit} {item.line}"
        yield Prediction(
            where,
            _answer(value, answer_field, where),
            tuple(str(value[key]) for key in ID_FIELDS if isinstance(value.get(key), str | int)),
            tuple(_prompts(value)),
            _instruction(value),
        )


def _answer(value: Mapping[str, Any], answer_field: str | None, where: str) -> str:
    names = (answer_field,) if answer_field else ANSWER_FIELDS
    name = next((name for name in names if name in value), None)
    if name is None:
        raise InputError(
            "A row of the predictions file has no answer.",
            where=where,
            expected="one of the fields " + ", ".join(names),
            hint=f"its fields are: {', '.join(map(str, value))}; name the right one with `field`",
        )
    answer = value[name]
    if isinstance(answer, list) and answer:
        answer = answer[0]
    if isinstance(answer, Mapping) and isinstance(answer.get("content"), str):
        answer = answer["content"]
    # What a table holds where a cell is empty.
    if answer is None or (isinstance(answer, float) and math.isnan(answer)):
        return ""
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise InputError(
            f"The answer in the field '{name}' is {type(answer).__name__}, not text.",
            where=where,
            expected="text, or a list of texts of which the first counts",
        )
    return str(answer)


def _first_text(value: Mapping[str, Any], names: Sequence[str]) -> str | None:
    return next((value[name] for name in names if isinstance(value.get(name), str)), None)


def _instruction(value: Mapping[str, Any]) -> str | None:
    text = _first_text(value, ("instruction", *PROMPT_FIELDS))
    return normalise(text) if text and text.strip() else None


def _prompts(value: Mapping[str, Any]) -> list[str]:
    """Normalised prompt texts of a row: instruction with input first, then what else is there."""
    texts = []
    extra = _first_text(value, INPUT_FIELDS) or ""
    for name in PROMPT_FIELDS:
        text = value.get(name)
        if isinstance(text, str):
            if name in ("instruction", "question") and extra.strip():
                texts.append(f"{text}\n\n{extra}")
            else:
                texts.append(text)
    messages = value.get("messages")
    if isinstance(messages, list):
        users = [
            turn["content"]
            for turn in messages
            if isinstance(turn, Mapping)
            and turn.get("role") == "user"
            and isinstance(turn.get("content"), str)
        ]
        texts += users[-1:]
    # Instruction and input name a prompt exactly; a templated text comes last.
    texts.sort(key=len)
    texts += [_MARKERS.sub(" ", text) for text in texts[-1:]]
    return list(dict.fromkeys(key for text in texts if (key := normalise(text))))
