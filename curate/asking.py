"""What all methods share that ask a teacher: prompt texts, sample numbers, replies by request."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TypeVar

from espalier.curate.options import Language
from espalier.curate.prompting import PROMPTS
from espalier.engines.base import Completion, Engine, Request, Sampling
from espalier.records import Message, Messages, messages_id

Item = TypeVar("Item")
_SLOT = re.compile(r"\{(\w+)\}")


@cache
def template(name: str, language: Language) -> str:
    """The text of a prompt file, without the line end that closes it."""
    return (PROMPTS / f"{name}.{language}.txt").read_text(encoding="utf-8").rstrip("\n")


def fill(text: str, values: Mapping[str, str]) -> str:
    """The template with its slots filled; braces in the values, and unknown slots, stay."""
    return _SLOT.sub(lambda slot: values.get(slot[1], slot[0]), text)


class SampleNumbers:
    """Requests whose sample numbers count how often each prompt was asked in this run.

    So a prompt that comes back, in another row or a later round, gets another draw, and a run
    that is repeated asks the same again.
    """

    def __init__(self) -> None:
        self._drawn: Counter[str] = Counter()

    def chat(self, messages: Messages) -> Request:
        """The next request for this conversation."""
        key = messages_id(messages)
        self._drawn[key] += 1
        return Request(messages=messages, sample=self._drawn[key] - 1)

    def prompt(self, text: str) -> Request:
        """The next request for this one-turn prompt."""
        return self.chat((Message("user", text),))


def replies(
    engine: Engine, items: Sequence[Item], requests: Sequence[Request], sampling: Sampling
) -> Iterator[tuple[Item, Completion]]:
    """Each item with the completion of its request, in their order; no call without a request."""
    if requests:
        yield from zip(items, engine.generate(requests, sampling), strict=True)
