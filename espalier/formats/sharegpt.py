"""ShareGPT and Vicuna: `conversations` of `from`/`value` (or `role`/`content`) turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espalier.formats.base import Answers, Format, extras, has_fields, optional_text
from espalier.formats.turns import conversation, message_list
from espalier.records import Example, Message

_NAMES = {"system": "system", "user": "human", "assistant": "gpt"}


def _parse(row: Mapping[str, Any], answers: Answers) -> list[Example]:
    turns = list(message_list(row.get("conversations"), "conversations"))
    system = optional_text(row, "system")
    if system.strip():
        turns.insert(0, Message("system", system))
    meta = extras(row, ("conversations", "system"))
    return [conversation(turns, answers, field="conversations", meta=meta)]


def _dump(example: Example) -> dict[str, Any]:
    turns = [{"from": _NAMES[turn.role], "value": turn.content} for turn in example.messages]
    return {"id": example.id, "conversations": turns}


SHAREGPT = Format[Example](
    name="sharegpt",
    kind="examples",
    shape="conversations (a list of from and value, or role and content)",
    fits=has_fields("conversations"),
    parse=_parse,
    dump=_dump,
    nested=("conversations",),
)
