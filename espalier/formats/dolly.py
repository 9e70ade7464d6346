"""Dolly: `{instruction, context, response, category}` (Databricks 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espalier.formats.alpaca import single_turn
from espalier.formats.base import Format, other_fields, text_field, with_input
from espalier.records import Example


def _fits(row: Mapping[str, Any]) -> bool:
    return "instruction" in row and "response" in row and "output" not in row


def _parse(row: Mapping[str, Any]) -> list[Example]:
    context = text_field(row, "context", optional=True)
    meta = other_fields(row, ("instruction", "context", "response"))
    if context.strip():
        meta["input"] = context
    prompt = with_input(text_field(row, "instruction"), context)
    return [Example.single(prompt, text_field(row, "response"), meta=meta)]


def _dump(example: Example) -> dict[str, Any]:
    _, instruction, context, response = single_turn(example)
    category = str(example.meta.get("category") or "")
    return {
        "instruction": instruction,
        "context": context,
        "response": response,
        "category": category,
    }


FORMAT = Format("dolly", "examples", "instruction, response", _fits, _parse, _dump)
