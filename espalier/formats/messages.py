"""OpenAI messages: `messages` of `role`/`content` turns.

A turn of the assistant with `weight` 0 is not learnt, as in OpenAI's fine-tuning files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espalier.formats.base import Answers, Format, RowFault, describe, extras, has_fields
from espalier.formats.turns import ROLES, conversation, message_list
from espalier.records import UNTRAINED, Example


def _parse(row: Mapping[str, Any], answers: Answers) -> list[Example]:
    turns = message_list(row.get("messages"), "messages")
    meta = extras(row, ("messages",))
    example = conversation(turns, answers, field="messages", meta=meta)
    masked = _masked(row["messages"], skipped=example.meta.get("dropped_leading", 0))
    return [example.with_meta(**{UNTRAINED: masked}) if masked else example]


def _masked(items: Any, skipped: int) -> list[int]:
    """Which answers have `weight` 0, counted from 0 without the `skipped` first."""
    masked = []
    said = [(number, item) for number, item in enumerate(items) if _is_answer(item)]
    for place, (number, item) in enumerate(said):
        weight = item.get("weight")
        if weight not in (None, 0, 1):
            raise RowFault(
                f"The weight of turn {number + 1} is neither 0 nor 1.",
                field=f"messages[{number}].weight",
                found=describe(weight),
                expected="1 (learnt) or 0 (not learnt)",
            )
        if weight == 0 and weight is not None and place >= skipped:
            masked.append(place - skipped)
    return masked


def _is_answer(item: Mapping[str, Any]) -> bool:
    role = item.get("role", item.get("from"))
    return ROLES[str(role).strip().lower()] == "assistant"


def _dump(example: Example) -> dict[str, Any]:
    masked = example.meta.get(UNTRAINED, ())
    turns: list[dict[str, Any]] = [dict(turn.to_json()) for turn in example.messages]
    answers = [turn for turn in turns if turn["role"] == "assistant"]
    for number, turn in enumerate(answers):
        if number in masked:
            turn["weight"] = 0
    return {"messages": turns}


MESSAGES = Format[Example](
    name="messages",
    kind="examples",
    shape="messages (a list of role and content)",
    fits=has_fields("messages"),
    parse=_parse,
    dump=_dump,
    nested=("messages",),
)
