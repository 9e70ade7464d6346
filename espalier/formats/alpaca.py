"""Alpaca: `instruction`, `input` (may be empty or absent), `output` (Taori et al. 2023).

`system` and `history` (earlier question and answer pairs) are read where they are given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espalier.formats.base import (
    Answers,
    Format,
    RowFault,
    answer_of,
    describe,
    extras,
    has_fields,
    optional_text,
    single_turn,
    split_input,
    system_text,
    text_of,
    with_input,
)
from espalier.records import Example, Message

_FIELDS = ("instruction", "input", "output", "system", "history")


def _history(row: Mapping[str, Any]) -> list[Message]:
    value = row.get("history") or []
    turns: list[Message] = []
    for pair in value if isinstance(value, list) else [value]:
        texts = isinstance(pair, list) and [isinstance(text, str) and text.strip() for text in pair]
        if not texts or len(texts) != 2 or not all(texts):
            raise RowFault(
                "The field 'history' is not a list of earlier turns.",
                field="history",
                found=describe(value),
                expected="a list of [question, answer] pairs of texts",
            )
        turns.extend((Message("user", pair[0]), Message("assistant", pair[1])))
    return turns


def _parse(row: Mapping[str, Any], answers: Answers) -> list[Example]:
    instruction = text_of(row, "instruction")
    extra = optional_text(row, "input")
    answer = answer_of(row, "output", answers)
    system = optional_text(row, "system")
    history = _history(row)
    meta = extras(row, _FIELDS)
    if extra.strip() and not history:
        meta["input"] = extra
    turns = [Message("system", system)] if system.strip() else []
    turns.extend(history)
    turns.append(Message("user", with_input(instruction, extra)))
    if answer is not None:
        turns.append(Message("assistant", answer))
    return [Example.make(turns, meta)]


def _dump(example: Example) -> dict[str, Any]:
    prompt, response = single_turn(example, "alpaca", system=True)
    instruction, extra = split_input(prompt, example.meta)
    row = {"instruction": instruction, "input": extra, "output": response}
    system = system_text(example)
    return {**row, "system": system} if system else row


ALPACA = Format[Example](
    name="alpaca",
    kind="examples",
    shape="instruction, input (optional), output",
    fits=has_fields("instruction", "output"),
    resembles=has_fields("instruction"),
    parse=_parse,
    dump=_dump,
    nested=("history",),
)
