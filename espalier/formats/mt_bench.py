"""MT-bench questions: `{question_id, category, turns}` (Zheng et al. 2023); prompts only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espalier.formats.base import FieldError, Format, other_fields
from espalier.records import Example, Message


def _fits(row: Mapping[str, Any]) -> bool:
    return "question_id" in row and isinstance(row.get("turns"), list)


def _parse(row: Mapping[str, Any]) -> list[Example]:
    turns = row.get("turns")
    if not isinstance(turns, list) or not turns or not isinstance(turns[0], str):
        raise FieldError("turns", "The question has no turn.", turns, "a list of texts")
    meta = other_fields(row, ("turns", "reference"))
    # Later turns need the model's own answers in between; they are kept for multi-turn use.
    meta["later_turns"] = turns[1:]
    references = row.get("reference")
    if isinstance(references, list) and references:
        meta["reference"] = references[0]
    return [Example.make((Message("user", turns[0]),), meta)]


FORMAT = Format("mt-bench", "examples", "question_id, turns", _fits, _parse)
