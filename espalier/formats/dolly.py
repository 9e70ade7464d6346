"""Dolly: `instruction`, `context` (may be empty), `response`, `category` (Databricks 2023)."""

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
    split_input,
    text_of,
    with_input,
)
from espalier.records import Example


def _parse(row: Mapping[str, Any], answers: Answers) -> list[Example]:
    instruction = text_of(row, "instruction")
    # Model outputs in the Alpaca style name the context "input".
    source = "context" if "context" in row else "input"
    context = optional_text(row, source)
    answer = answer_of(row, "response", answers)
    meta = extras(row, ("instruction", source, "response"))
    if context.strip():
        meta["input"] = context
    return [Example.single(with_input(instruction, context), answer, meta=meta)]


def _dump(example: Example) -> dict[str, Any]:
    prompt, response = single_turn(example, "dolly")
    instruction, context = split_input(prompt, example.meta)
    category = example.meta.get("category")
    return {
        "instruction": instruction,
        "context": context,
        "response": response,
        "category": category if isinstance(category, str) else "",
    }


DOLLY = Format[Example](
    name="dolly",
    kind="examples",
    shape="instruction, context (optional), response, category (optional)",
    fits=has_fields("instruction", "response"),
    parse=_parse,
    dump=_dump,
)
