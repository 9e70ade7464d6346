"""Conversations: OpenAI `messages`, ShareGPT/Vicuna `conversations`, and our own rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espalier.formats.base import FieldError, Format, other_fields
from espalier.records import Example, Message, Messages, Role

ROLE_NAMES: dict[str, Role] = {
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "chatbot": "assistant",
    "bot": "assistant",
    "bard": "assistant",
    "bing": "assistant",
    "model": "assistant",
    "system": "system",
    "developer": "system",
}


def parse_turns(value: Any, field: str) -> Messages:
    """Turns with `from/value` or `role/content`; raises FieldError naming the turn."""
    if not isinstance(value, list) or not value:
        raise FieldError(
            field,
            f"The field '{field}' is not a list of turns, or empty.",
            value,
            "a list of turns",
        )
    turns = []
    for index, item in enumerate(value):
        place = f"{field}[{index}]"
        if not isinstance(item, Mapping):
            raise FieldError(place, "A turn is not an object.", item, "from/value or role/content")
        name = item.get("role", item.get("from"))
        role = ROLE_NAMES.get(str(name).lower())
        if role is None:
            known = ", ".join(ROLE_NAMES)
            raise FieldError(place, f"The role of a turn is unknown: {name!r}.", item, known)
        content = item.get("content", item.get("value"))
        if isinstance(content, list):
            content = _text_parts(content)
        if not isinstance(content, str):
            raise FieldError(place, "A turn has no text.", item, "text in content (or value)")
        turns.append(Message(role, content))
    return tuple(turns)


def _text_parts(parts: list[Any]) -> str | None:
    """The text of OpenAI's content parts; None when any part is no text."""
    texts = [part.get("text") if isinstance(part, Mapping) else None for part in parts]
    return "".join(t for t in texts if t) if all(isinstance(t, str) for t in texts) else None


def _trained(turns: Messages, field: str) -> Messages:
    if not any(m.role == "assistant" for m in turns):
        raise FieldError(
            field, "The conversation has no assistant turn.", len(turns), "at least one"
        )
    if not any(m.content.strip() for m in turns if m.role == "assistant"):
        raise FieldError(field, "Every assistant turn is empty.", "", "text that is not blank")
    return turns


def _messages_fits(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("messages"), list) and "meta" not in row


def _parse_messages(row: Mapping[str, Any]) -> list[Example]:
    turns = _trained(parse_turns(row.get("messages"), "messages"), "messages")
    return [Example.make(turns, other_fields(row, ("messages",)))]


def _dump_messages(example: Example) -> dict[str, Any]:
    return {"messages": [m.to_json() for m in example.messages]}


def _sharegpt_fits(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("conversations", row.get("conversation")), list)


def _parse_sharegpt(row: Mapping[str, Any]) -> list[Example]:
    name = "conversations" if "conversations" in row else "conversation"
    turns = _trained(parse_turns(row.get(name), name), name)
    if turns[0].role == "assistant":
        # ShareGPT pages often begin in the middle: an answer to nothing teaches nothing.
        turns = _trained(turns[1:], name) if len(turns) > 1 else turns
    meta = other_fields(row, (name, "id"))
    if row.get("id") is not None:
        meta["row_id"] = row["id"]
    return [Example.make(turns, meta)]


def _dump_sharegpt(example: Example) -> dict[str, Any]:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    turns = [{"from": names[m.role], "value": m.content} for m in example.messages]
    return {"id": example.id, "conversations": turns}


def _own_fits(row: Mapping[str, Any]) -> bool:
    return {"id", "messages", "meta"} <= set(row) and isinstance(row.get("messages"), list)


def _parse_own(row: Mapping[str, Any]) -> list[Example]:
    turns = parse_turns(row.get("messages"), "messages")
    meta = row.get("meta") or {}
    if not isinstance(meta, Mapping):
        raise FieldError("meta", "The field 'meta' is not an object.", meta, "an object")
    example = Example.make(turns, meta)
    identity = row.get("id")
    return [Example(str(identity), turns, dict(meta)) if identity else example]


def _dump_own(example: Example) -> dict[str, Any]:
    return example.to_json()


OWN = Format("espalier", "examples", "id, messages, meta", _own_fits, _parse_own, _dump_own)
MESSAGES = Format(
    "messages", "examples", "messages", _messages_fits, _parse_messages, _dump_messages
)
SHAREGPT = Format(
    "sharegpt", "examples", "conversations", _sharegpt_fits, _parse_sharegpt, _dump_sharegpt
)
