"""MT-bench questions: `question_id`, `category`, `turns` (Zheng et al. 2023); prompts only.

The Example ends in the first question; the others wait in `meta["later_turns"]`, since they ask
about the answer that a model gives to the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espalier.formats.base import (
    Answers,
    Format,
    RowFault,
    describe,
    extras,
    has_fields,
)
from espalier.records import Example


def _parse(row: Mapping[str, Any], answers: Answers) -> list[Example]:
    turns = row.get("turns")
    if not isinstance(turns, list) or not turns:
        raise RowFault(
            "The field 'turns' is not a list of questions.",
            field="turns",
            found=describe(turns),
            expected="a non-empty list of texts",
        )
    for number, text in enumerate(turns):
        if not isinstance(text, str) or not text.strip():
            raise RowFault(
                f"Question {number + 1} is not a text.",
                field=f"turns[{number}]",
                found=describe(text),
                expected="a text with something in it",
            )
    meta = {**extras(row, ("turns", "reference")), "later_turns": list(turns[1:])}
    references = row.get("reference")
    if isinstance(references, list) and references and isinstance(references[0], str):
        meta["reference"] = references[0]
    return [Example.single(turns[0], meta=meta)]


def _dump(example: Example) -> dict[str, Any]:
    later = example.meta.get("later_turns")
    if not isinstance(later, list):
        later = []
    return {
        "question_id": example.meta.get("question_id", example.id),
        "category": str(example.meta.get("category") or ""),
        "turns": [example.prompt, *later],
    }


MT_BENCH = Format[Example](
    name="mt-bench",
    kind="examples",
    shape="turns (a list of questions), question_id, category",
    fits=has_fields("turns"),
    parse=_parse,
    dump=_dump,
    nested=("turns", "reference"),
)
