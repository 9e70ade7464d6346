"""What a dataset format is: field names to records and back, with exact complaints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from espalier.records import Example, PreferencePair

Kind = Literal["examples", "pairs"]


class FieldError(Exception):
    """A field of a row is not what the format needs."""

    def __init__(self, field: str | None, reason: str, found: Any, expected: str) -> None:
        super().__init__(reason)
        self.field = field
        self.reason = reason
        self.found = found
        self.expected = expected


@dataclass(frozen=True, slots=True)
class Format:
    """One dataset format.

    `fits(row)` says whether a row has its fields (detection); `parse` gives the records of a row
    or raises FieldError; `dump` gives the row of a record (None: the format is only read).
    `signature` names the telling fields, for messages.
    """

    name: str
    kind: Kind
    signature: str
    fits: Callable[[Mapping[str, Any]], bool]
    parse: Callable[[Mapping[str, Any]], list[Example] | list[PreferencePair]]
    dump: Callable[[Any], dict[str, Any]] | None = None


def text_field(
    row: Mapping[str, Any], name: str, *, optional: bool = False, empty: bool = False
) -> str:
    """The text of a field; "" for an optional one that is absent or null.

    Raises FieldError when it is missing, no text, or blank where `empty` is not allowed.
    """
    value = row.get(name)
    if value is None:
        if optional:
            return ""
        reason = f"The field '{name}' is " + ("null." if name in row else "missing.")
        found = None if name in row else "fields " + ", ".join(map(str, row))
        raise FieldError(name, reason, found, "text")
    if not isinstance(value, str):
        kind = type(value).__name__
        raise FieldError(name, f"The field '{name}' is not text ({kind}).", value, "text")
    if not value.strip() and not empty and not optional:
        raise FieldError(name, f"The field '{name}' is empty.", value, "text that is not blank")
    return value


def other_fields(row: Mapping[str, Any], used: tuple[str, ...]) -> dict[str, Any]:
    """Fields of a row that the format does not use, kept as meta (nulls left out)."""
    kept = {str(k): v for k, v in row.items() if k not in used and v is not None}
    nested = kept.pop("meta", None)
    return {**kept, **nested} if isinstance(nested, Mapping) else kept


def with_input(instruction: str, extra: str) -> str:
    """A user turn of an instruction and its input (as `Example.meta["input"]` describes)."""
    return f"{instruction}\n\n{extra}" if extra.strip() else instruction
