"""Turns of a conversation, in any of the usual spellings, to messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from espalier.formats.base import Answers, RowFault, describe, names
from espalier.records import Example, Message, Messages, Role

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "chatbot": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "bot": "assistant",
}


def message_list(value: Any, field: str) -> Messages:
    """Turns from `[{role, content}, …]` or `[{from, value}, …]`; RowFault names the turn."""
    if not isinstance(value, list) or not value:
        raise RowFault(
            f"The field '{field}' is not a list of turns.",
            field=field,
            found=describe(value),
            expected="a non-empty list of turns, each with a role and a text",
        )
    return tuple(_turn(item, number, field) for number, item in enumerate(value, 1))


def _turn(item: Any, number: int, field: str) -> Message:
    if not isinstance(item, Mapping):
        raise RowFault(
            f"Turn {number} is not an object.",
            field=f"{field}[{number - 1}]",
            found=describe(item),
            expected="an object with role and content (or from and value)",
        )
    role_key = "role" if "role" in item else "from"
    text_key = next((key for key in ("content", "value", "text") if key in item), "content")
    role = item.get(role_key)
    known = ROLES.get(role.strip().lower()) if isinstance(role, str) else None
    if known is None:
        raise RowFault(
            f"Turn {number} has an unknown role.",
            field=f"{field}[{number - 1}].{role_key}",
            found=describe(role) if role_key in item else f"the fields {names(item)}",
            expected="system, user (human) or assistant (gpt); tool calls are not read",
        )
    return Message(known, _content(item.get(text_key), number, f"{field}[{number - 1}].{text_key}"))


def _content(value: Any, number: int, field: str) -> str:
    if isinstance(value, list) and value:
        # The API form with parts; pictures and sound have no text to keep.
        parts = [part.get("text") if isinstance(part, Mapping) else None for part in value]
        if all(isinstance(part, str) for part in parts):
            return "".join(part for part in parts if part)
    if not isinstance(value, str):
        raise RowFault(
            f"Turn {number} holds no text.", field=field, found=describe(value), expected="text"
        )
    return value


def conversation(
    turns: Iterable[Message], answers: Answers, *, field: str, meta: Mapping[str, Any]
) -> Example:
    """An Example from turns; RowFault on blank turns, or when no answer follows a question.

    An answer before the first question and a last question without an answer are cut off, and
    counted in `meta` (`dropped_leading`, `dropped_trailing`). With optional answers the unanswered
    end stays: the conversation is then a prompt.
    """
    kept = [turn for turn in turns if turn.role != "system" or turn.content.strip()]
    check_turns(kept, field)
    head = _system_head(kept, field)
    body = kept[len(head) :]
    start = next((i for i, turn in enumerate(body) if turn.role == "user"), len(body))
    if start == len(body):
        raise RowFault(
            "The conversation has no user turn.",
            field=field,
            found=f"the roles {', '.join(turn.role for turn in kept[:12])}",
            expected="at least one user turn",
        )
    end = len(body)
    while answers == "required" and end > start and body[end - 1].role != "assistant":
        end -= 1
    if end == start:
        raise RowFault(
            "The conversation has no assistant turn after its first user turn.",
            field=field,
            found=f"the roles {', '.join(turn.role for turn in kept[:12])}",
            expected="at least one answer",
        )
    notes = dict(meta)
    if start:
        notes["dropped_leading"] = start
    if end < len(body):
        notes["dropped_trailing"] = len(body) - end
    return Example.make([*head, *body[start:end]], notes)


def _system_head(turns: list[Message], field: str) -> list[Message]:
    head = [turn for turn in turns if turn.role == "system"]
    if turns[: len(head)] != head:
        raise RowFault(
            "A system turn stands inside the conversation.",
            field=field,
            found=f"the roles {', '.join(turn.role for turn in turns[:12])}",
            expected="system turns only at the start",
        )
    return head


def check_turns(turns: Iterable[Message], field: str) -> None:
    """RowFault when a turn has no text."""
    for number, turn in enumerate(turns, 1):
        if not turn.content.strip():
            raise RowFault(
                f"Turn {number} ({turn.role}) is empty.",
                field=field,
                found="an empty text",
                expected="text in every turn",
            )
