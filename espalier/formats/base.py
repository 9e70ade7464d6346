"""What a dataset format is, and the checks that all formats share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from espalier.records import Example, PreferencePair

Kind = Literal["examples", "pairs"]
Answers = Literal["required", "optional"]
RecordT = TypeVar("RecordT", Example, PreferencePair)

_SHOWN = 60


class RowFault(Exception):
    """A row that can't be used: why, which field, what was found, what was expected."""

    def __init__(
        self, reason: str, *, field: str | None = None, found: str = "", expected: str = ""
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.field = field
        self.found = found
        self.expected = expected


def _one_by_one(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    yield from rows


@dataclass(frozen=True)
class Format(Generic[RecordT]):
    """A dataset format.

    `shape` shows its fields to a user; `fits` says from the field names whether a row is of
    this format, `resembles` whether it could be one with a field missing. `parse` turns a row
    into records or raises RowFault; `dump` turns a record into a row or raises RowFault when
    the format can't hold it. Fields named in `nested` hold lists or objects; text in them is
    read as JSON (CSV and Parquet keep them so). `join` may merge rows before they are written.
    """

    name: str
    kind: Kind
    shape: str
    fits: Callable[[Mapping[str, Any]], bool]
    parse: Callable[[Mapping[str, Any], Answers], list[RecordT]]
    dump: Callable[[RecordT], dict[str, Any]]
    resembles: Callable[[Mapping[str, Any]], bool] = field(default=lambda row: False)
    nested: tuple[str, ...] = ()
    join: Callable[[Iterable[dict[str, Any]]], Iterator[dict[str, Any]]] = _one_by_one


def has_fields(*names: str) -> Callable[[Mapping[str, Any]], bool]:
    """A test for rows that have all these fields."""
    return lambda row: all(name in row for name in names)


def describe(value: Any) -> str:
    """A value as an error message shows it."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return f"the text {shorten(value)}" if value.strip() else "an empty text"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)} items" if value else "an empty list"
    if isinstance(value, Mapping):
        return f"an object with {names(value)}" if value else "an empty object"
    return f"a {type(value).__name__}"


def shorten(text: str, limit: int = _SHOWN) -> str:
    """The text as a JSON string, cut to about `limit` characters."""
    return json.dumps(text if len(text) <= limit else text[: limit - 1] + "…", ensure_ascii=False)


def names(fields: Iterable[str], limit: int = 12) -> str:
    """Field names for a message: quoted, comma-separated, at most `limit`."""
    listed = list(fields)
    text = ", ".join(f"'{shorten(name)[1:-1]}'" for name in listed[:limit])
    return text + (f" and {len(listed) - limit} more" if len(listed) > limit else "")


def text_of(row: Mapping[str, Any], name: str, *, empty: bool = False) -> str:
    """The text in a field; RowFault when it is absent, not text, or blank without `empty`."""
    if name not in row:
        raise RowFault(
            f"The field '{name}' is missing.",
            field=name,
            found=f"the fields {names(row)}" if row else "a row without fields",
            expected=f"a field '{name}' that holds text",
        )
    value = row[name]
    if not isinstance(value, str):
        raise RowFault(
            f"The field '{name}' is not text.",
            field=name,
            found=describe(value),
            expected="text",
        )
    if not empty and not value.strip():
        raise RowFault(
            f"The field '{name}' is empty.",
            field=name,
            found=describe(value),
            expected="a text with something in it",
        )
    return value


def optional_text(row: Mapping[str, Any], name: str) -> str:
    """Like `text_of`, but an absent or null field counts as empty text."""
    return text_of(row, name, empty=True) if row.get(name) is not None else ""


def answer_of(row: Mapping[str, Any], name: str, answers: Answers) -> str | None:
    """The answer in a field; None where answers are optional and it is absent, null or blank."""
    if answers == "optional":
        text = optional_text(row, name)
        return text if text.strip() else None
    return text_of(row, name)


def extras(row: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """The fields that the format does not know, kept as meta: `id` as `row_id`, the entries of
    an object `meta` one by one, nulls left out."""
    used = {*known, "meta"}
    rest = {name: value for name, value in row.items() if name not in used and value is not None}
    if "id" in rest:
        rest["row_id"] = rest.pop("id")
    own = row.get("meta")
    if isinstance(own, Mapping):
        rest.update(own)
    elif own is not None and "meta" not in known:
        rest["meta"] = own
    return rest


def single_turn(example: Example, format_name: str, *, system: bool = False) -> tuple[str, str]:
    """Prompt and response of a one-turn example; RowFault when a format can't hold it."""
    turns = [turn for turn in example.messages if turn.role != "system"]
    roles = [turn.role for turn in turns]
    if len(turns) < len(example.messages) and not system:
        raise RowFault(
            f"The format {format_name} has no place for a system turn.",
            found=f"example {example.id} with a system turn",
            expected="an example without one (messages, sharegpt, alpaca and open-orca hold it)",
        )
    if roles != ["user", "assistant"]:
        raise RowFault(
            f"The format {format_name} holds one question and its answer.",
            found=f"example {example.id} with the turns {', '.join(roles)}",
            expected="one user turn and one assistant turn (messages and sharegpt hold more)",
        )
    return turns[0].content, turns[1].content


def split_input(prompt: str, meta: Mapping[str, Any]) -> tuple[str, str]:
    """Instruction and input of a prompt, parted where `meta["input"]` begins."""
    text = meta.get("input")
    if isinstance(text, str) and text.strip() and prompt.endswith("\n\n" + text):
        return prompt[: -len(text) - 2], text
    return prompt, ""


def with_input(instruction: str, text: str) -> str:
    """The user turn of an instruction with a separate input."""
    return f"{instruction}\n\n{text}" if text.strip() else instruction


def system_text(example: Example) -> str:
    """The system turns of an example, joined."""
    return "\n\n".join(turn.content for turn in example.messages if turn.role == "system")
