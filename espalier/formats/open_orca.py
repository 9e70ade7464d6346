"""Open-Orca: `system_prompt` (may be empty), `question`, `response`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espalier.formats.base import (
    Answers,
    Format,
    answer_of,
    extras,
    has_fields,
    optional_text,
    single_turn,
    system_text,
    text_of,
)
from espalier.records import Example


def _parse(row: Mapping[str, Any], answers: Answers) -> list[Example]:
    question = text_of(row, "question")
    answer = answer_of(row, "response", answers)
    system = optional_text(row, "system_prompt")
    meta = extras(row, ("system_prompt", "question", "response"))
    return [Example.single(question, answer, system=system if system.strip() else None, meta=meta)]


def _dump(example: Example) -> dict[str, Any]:
    question, response = single_turn(example, "open-orca", system=True)
    row = {"system_prompt": system_text(example), "question": question, "response": response}
    return {"id": example.id, **row}


OPEN_ORCA = Format[Example](
    name="open-orca",
    kind="examples",
    shape="system_prompt (optional), question, response",
    fits=has_fields("question", "response"),
    resembles=has_fields("question"),
    parse=_parse,
    dump=_dump,
)
