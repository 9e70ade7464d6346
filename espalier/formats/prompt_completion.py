"""Prompt and completion: `prompt`, `completion` (or `response`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espalier.formats.base import (
    Answers,
    Format,
    answer_of,
    extras,
    has_fields,
    single_turn,
    text_of,
)
from espalier.records import Example

_has_prompt = has_fields("prompt")


def _fits(row: Mapping[str, Any]) -> bool:
    return _has_prompt(row) and ("completion" in row or "response" in row)


def _parse(row: Mapping[str, Any], answers: Answers) -> list[Example]:
    name = "response" if "response" in row and "completion" not in row else "completion"
    prompt = text_of(row, "prompt")
    answer = answer_of(row, name, answers)
    return [Example.single(prompt, answer, meta=extras(row, ("prompt", name)))]


def _dump(example: Example) -> dict[str, Any]:
    prompt, response = single_turn(example, "prompt-completion")
    return {"prompt": prompt, "completion": response}


PROMPT_COMPLETION = Format[Example](
    name="prompt-completion",
    kind="examples",
    shape="prompt, completion (or response)",
    fits=_fits,
    resembles=_has_prompt,
    parse=_parse,
    dump=_dump,
)
