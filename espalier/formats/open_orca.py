"""Open-Orca: `{system_prompt, question, response}` (Mukherjee et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espalier.formats.alpaca import single_turn
from espalier.formats.base import Format, other_fields, text_field, with_input
from espalier.records import Example

_USED = ("system_prompt", "question", "response")


def _fits(row: Mapping[str, Any]) -> bool:
    return "question" in row and "response" in row


def _parse(row: Mapping[str, Any]) -> list[Example]:
    system = text_field(row, "system_prompt", optional=True)
    meta = other_fields(row, (*_USED, "id"))
    if row.get("id") is not None:
        meta["row_id"] = row["id"]
    question, response = text_field(row, "question"), text_field(row, "response")
    return [
        Example.single(question, response, system=(system.strip() and system) or None, meta=meta)
    ]


def _dump(example: Example) -> dict[str, Any]:
    system, instruction, extra, response = single_turn(example)
    question = with_input(instruction, extra)
    return {"system_prompt": system, "question": question, "response": response}


FORMAT = Format("open-orca", "examples", "system_prompt, question, response", _fits, _parse, _dump)
