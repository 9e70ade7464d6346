"""The record types that every stage reads and writes: Example and PreferencePair."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from espalier.errors import InputError

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")
# The key of meta that lists the answers of a conversation that are not learnt, counted from 0.
UNTRAINED = "untrained_answers"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str

    def to_json(self) -> dict[str, str]:
        return {"role": self.role, "content": self.content}


Messages = tuple[Message, ...]


def content_id(*parts: str) -> str:
    """The first 16 hex digits of the SHA-256 of the parts (length-prefixed, so unambiguous)."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", errors="surrogatepass")
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()[:16]


def messages_id(messages: Iterable[Message], *extra: str) -> str:
    """Content hash of a conversation (and of any further strings)."""
    parts = [part for message in messages for part in (message.role, message.content)]
    return content_id(*parts, *extra)


def parse_messages(value: Any, where: str) -> Messages:
    """Read `[{role, content}, …]`; raises InputError naming `where` and the field."""
    if not isinstance(value, list) or not value:
        raise InputError(
            "The messages of a row are missing or empty.",
            where=where,
            expected="a non-empty list of {role, content} objects",
        )
    messages = []
    for index, item in enumerate(value):
        role = item.get("role") if isinstance(item, Mapping) else None
        content = item.get("content") if isinstance(item, Mapping) else None
        if role not in ROLES or not isinstance(content, str):
            raise InputError(
                f"Turn {index + 1} of a row is not a message.",
                where=where,
                expected="an object with role (system, user or assistant) and content (text)",
            )
        messages.append(Message(cast(Role, role), content))
    return tuple(messages)


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation, ending in an assistant turn (training) or a user turn (a prompt).

    `meta` keys with a fixed meaning: `source`, `language`, `category` (task family or group),
    `input` (the part of the first user turn that was a separate input field; the turn ends
    with it after a blank line), `reference` (the known right answer, evaluation only),
    `untrained_answers` (numbers, from 0, of the answers that are context only), and
    lineage: `parents` (ids), `operator`, `teacher`, `round`.
    """

    id: str
    messages: Messages
    meta: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def make(cls, messages: Iterable[Message], meta: Mapping[str, Any] | None = None) -> Example:
        """An example whose id is the hash of its messages."""
        turns = tuple(messages)
        return cls(messages_id(turns), turns, dict(meta or {}))

    @classmethod
    def single(
        cls,
        prompt: str,
        response: str | None = None,
        *,
        system: str | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> Example:
        """A one-turn example: optional system text, the prompt, and the response if known."""
        turns = [Message("system", system)] if system else []
        turns.append(Message("user", prompt))
        if response is not None:
            turns.append(Message("assistant", response))
        return cls.make(turns, meta)

    @property
    def response(self) -> str | None:
        """The text of the last turn when it is the assistant's, else None."""
        last = self.messages[-1]
        return last.content if last.role == "assistant" else None

    @property
    def prompt_messages(self) -> Messages:
        """Everything before the final assistant turn."""
        return self.messages[:-1] if self.response is not None else self.messages

    @property
    def prompt(self) -> str:
        """The text of the last user turn before the response."""
        return next((m.content for m in reversed(self.prompt_messages) if m.role == "user"), "")

    @property
    def reference(self) -> str | None:
        """The answer to compare with: `meta["reference"]` if given, else the response."""
        value = self.meta.get("reference")
        return value if isinstance(value, str) else self.response

    def with_meta(self, **meta: Any) -> Example:
        """A copy with these meta keys set; the id stays (it hashes the messages alone)."""
        return replace(self, meta={**self.meta, **meta})

    def with_response(self, response: str, **meta: Any) -> Example:
        """A copy that ends in this assistant turn, with a new id; meta keys are added."""
        turns = (*self.prompt_messages, Message("assistant", response))
        return Example.make(turns, {**self.meta, **meta})

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "messages": [m.to_json() for m in self.messages],
            "meta": self.meta,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], where: str = "a row") -> Example:
        """Read what `to_json` wrote; raises InputError naming `where`."""
        messages = parse_messages(value.get("messages"), where)
        return cls(str(value.get("id") or messages_id(messages)), messages, _meta(value, where))


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """Two answers to one prompt, the first preferred; `margin` is by how much, if known."""

    id: str
    prompt: Messages
    chosen: str
    rejected: str
    margin: float | None = None
    meta: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def make(
        cls,
        prompt: Iterable[Message],
        chosen: str,
        rejected: str,
        *,
        margin: float | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> PreferencePair:
        """A pair whose id is the hash of its prompt and both answers."""
        turns = tuple(prompt)
        identity = messages_id(turns, chosen, rejected)
        return cls(identity, turns, chosen, rejected, margin, dict(meta or {}))

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "prompt": [m.to_json() for m in self.prompt],
            "chosen": self.chosen,
            "rejected": self.rejected,
            "margin": self.margin,
            "meta": self.meta,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], where: str = "a row") -> PreferencePair:
        """Read what `to_json` wrote; raises InputError naming `where`."""
        prompt = parse_messages(value.get("prompt"), where)
        answers: dict[str, str] = {}
        for name in ("chosen", "rejected"):
            text = value.get(name)
            if not isinstance(text, str):
                raise InputError(
                    f"The field '{name}' of a preference pair is missing or not text.",
                    where=where,
                    expected="text",
                )
            answers[name] = text
        margin = value.get("margin")
        if margin is not None and (isinstance(margin, bool) or not isinstance(margin, int | float)):
            raise InputError(
                f"The margin of a preference pair is {margin!r}.",
                where=where,
                expected="a number or null",
            )
        identity = str(value.get("id") or messages_id(prompt, *answers.values()))
        return cls(
            identity,
            prompt,
            answers["chosen"],
            answers["rejected"],
            None if margin is None else float(margin),
            _meta(value, where),
        )


def _meta(value: Mapping[str, Any], where: str) -> dict[str, Any]:
    meta = value.get("meta") or {}
    if not isinstance(meta, Mapping):
        raise InputError("The meta of a row is not an object.", where=where, expected="an object")
    return dict(meta)


def dump_line(value: Mapping[str, Any]) -> str:
    """One JSONL line, keys in the order given, UTF-8 text kept readable, lone surrogates kept."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text


def dialogue_of(row: Example | PreferencePair) -> str | None:
    """The id of the dialogue that a row is a part of; None for a row that is whole.

    Of a part that was cleaned or split again it is the first dialogue, which parents name last.
    """
    parents = row.meta.get("parents")
    if "of_parts" not in row.meta or not isinstance(parents, list) or not parents:
        return None
    return str(parents[-1])
