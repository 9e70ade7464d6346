"""Our own JSON: examples (`id`, `messages`, `meta`) and pairs (`id`, `prompt`, `chosen`, …)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from espalier.errors import InputError
from espalier.formats.base import (
    Answers,
    Format,
    RowFault,
    describe,
    has_fields,
    text_of,
)
from espalier.formats.turns import check_turns, message_list
from espalier.records import Example, PreferencePair


def _meta(row: Mapping[str, Any]) -> dict[str, Any]:
    value = row.get("meta")
    if value is not None and not isinstance(value, Mapping):
        raise RowFault(
            "The field 'meta' is not an object.",
            field="meta",
            found=describe(value),
            expected="an object",
        )
    return dict(value or {})


def _parse_example(row: Mapping[str, Any], answers: Answers) -> list[Example]:
    turns = message_list(row.get("messages"), "messages")
    check_turns(turns, "messages")
    made = Example.make(turns, _meta(row))
    return [Example(str(row.get("id") or made.id), made.messages, made.meta)]


def _parse_pair(row: Mapping[str, Any], answers: Answers) -> list[PreferencePair]:
    turns = message_list(row.get("prompt"), "prompt")
    check_turns(turns, "prompt")
    for name in ("chosen", "rejected"):
        text_of(row, name, empty=True)  # an empty answer is a fair thing to reject
    try:
        values = {**row, "prompt": [turn.to_json() for turn in turns], "meta": _meta(row)}
        return [PreferencePair.from_json(values)]
    except InputError as error:
        raise RowFault(
            error.what,
            field="margin",
            found=describe(row.get("margin")),
            expected=error.expected or "",
        ) from error


NATIVE = Format[Example](
    name="espalier",
    kind="examples",
    shape="id, messages (a list of role and content), meta",
    fits=has_fields("id", "messages", "meta"),
    parse=_parse_example,
    dump=Example.to_json,
    nested=("messages", "meta"),
)

NATIVE_PAIRS = Format[PreferencePair](
    name="espalier-pairs",
    kind="pairs",
    shape="id, prompt (a list of role and content), chosen, rejected, margin, meta",
    fits=has_fields("prompt", "chosen", "rejected", "meta"),
    parse=_parse_pair,
    dump=PreferencePair.to_json,
    nested=("prompt", "meta", "margin"),
)
