"""OpenAI messages: `messages` of `role`/`content` turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espalier.formats.base import Answers, Format, extras, has_fields
from espalier.formats.turns import conversation, message_list
from espalier.records import Example


def _parse(row: Mapping[str, Any], answers: Answers) -> list[Example]:
    turns = message_list(row.get("messages"), "messages")
    meta = extras(row, ("messages",))
    return [conversation(turns, answers, field="messages", meta=meta)]


def _dump(example: Example) -> dict[str, Any]:
    return {"messages": [turn.to_json() for turn in example.messages]}


MESSAGES = Format[Example](
    name="messages",
    kind="examples",
    shape="messages (a list of role and content)",
    fits=has_fields("messages"),
    parse=_parse,
    dump=_dump,
    nested=("messages",),
)
