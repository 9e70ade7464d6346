"""Alpaca: `{instruction, input, output}` (Taori et al. 2023); `input` may be absent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espalier.formats.base import FieldError, Format, other_fields, text_field, with_input
from espalier.records import Example

_USED = ("instruction", "input", "output", "system")


def _fits(row: Mapping[str, Any]) -> bool:
    return "instruction" in row and "output" in row


def _parse(row: Mapping[str, Any]) -> list[Example]:
    instruction = text_field(row, "instruction")
    extra = text_field(row, "input", optional=True)
    meta = other_fields(row, _USED)
    if extra.strip():
        meta["input"] = extra
    prompt = with_input(instruction, extra)
    system = text_field(row, "system", optional=True) or None
    return [Example.single(prompt, text_field(row, "output"), system=system, meta=meta)]


def single_turn(example: Example) -> tuple[str, str, str, str]:
    """System, instruction, input and response of a one-turn example.

    Raises FieldError for a dialogue of several turns, which one row can't hold.
    """
    users = [m for m in example.messages if m.role == "user"]
    if len(users) != 1 or example.response is None:
        raise FieldError(None, "A dialogue does not fit a one-turn format.", example.id, "one turn")
    system = next((m.content for m in example.messages if m.role == "system"), "")
    content, extra = users[0].content, example.meta.get("input")
    if isinstance(extra, str) and extra.strip() and content.endswith("\n\n" + extra):
        return system, content[: -len(extra) - 2], extra, example.response
    return system, content, "", example.response


def _dump(example: Example) -> dict[str, Any]:
    system, instruction, extra, response = single_turn(example)
    row = {"instruction": instruction, "input": extra, "output": response}
    return {**row, "system": system} if system else row


FORMAT = Format("alpaca", "examples", "instruction, output", _fits, _parse, _dump)
