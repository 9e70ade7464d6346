"""`{prompt, completion}` (also `response` or `answer` as the second field)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espalier.formats.alpaca import single_turn
from espalier.formats.base import Format, other_fields, text_field, with_input
from espalier.records import Example

_ANSWERS = ("completion", "response", "answer")


def _answer(row: Mapping[str, Any]) -> str:
    return next((name for name in _ANSWERS if name in row), "completion")


def _fits(row: Mapping[str, Any]) -> bool:
    text = isinstance(row.get("prompt"), str) or row.get("prompt", 0) is None
    return text and _answer(row) in row and not {"chosen", "rejected"} & set(row)


def _parse(row: Mapping[str, Any]) -> list[Example]:
    answer = _answer(row)
    meta = other_fields(row, ("prompt", answer))
    return [Example.single(text_field(row, "prompt"), text_field(row, answer), meta=meta)]


def _dump(example: Example) -> dict[str, Any]:
    system, instruction, extra, response = single_turn(example)
    prompt = with_input(instruction, extra)
    return {"prompt": f"{system}\n\n{prompt}" if system else prompt, "completion": response}


FORMAT = Format("prompt-completion", "examples", "prompt, completion", _fits, _parse, _dump)
