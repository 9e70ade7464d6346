"""From rows of the set to requests, in each model's own template, few-shot examples included."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espalier.adapted import ADAPTER_FILE, base_source, is_adapter
from espalier.encoding import Encoded, encode_prompts, truncate_prompt
from espalier.engines.base import Request
from espalier.errors import UsageError
from espalier.evaluate.config import EvaluateConfig
from espalier.evaluate.evalset import Row
from espalier.evaluate.fewshot import Shots
from espalier.evaluate.subjects import Subject
from espalier.files import read_json
from espalier.models import load_tokenizer
from espalier.records import Messages
from espalier.templates import template_of


def with_shots(row: Row, subject: Subject, shots: Shots | None, count: int) -> Messages:
    """The prompt's turns with `count` solved examples before them (after a system turn)."""
    if not count or shots is None:
        return row.messages
    system = tuple(turn for turn in row.messages if turn.role == "system")
    rest = tuple(turn for turn in row.messages if turn.role != "system")
    return (*system, *shots.messages(row, subject.config.few_shot)[-2 * count :], *rest)


class Prompts:
    """From rows of the set to requests, in the template of the model."""

    def __init__(self, subject: Subject, options: EvaluateConfig, shots: Shots | None) -> None:
        self.subject = subject
        self.shots = shots
        self.dropped = 0
        self.truncated = 0
        self.stop: tuple[str, ...] = ()
        self.template_name = "messages"
        self._tokenizer: Any = None
        self._template: Any = None
        if subject.local:
            self._tokenizer, self._template = load_template(subject)
            self.stop = self._template.stop
            self.template_name = self._template.name

    def requests(self, rows: Sequence[Row], max_tokens: int) -> list[Request]:
        count = self.subject.config.few_shot
        if not self.subject.local:
            return [
                Request(messages=with_shots(row, self.subject, self.shots, count)) for row in rows
            ]
        ids = self._encode(rows, [count] * len(rows))
        limit = context_length(self.subject.location)
        counts = [count] * len(rows)
        while count and limit:
            long = [
                index
                for index, sequence in enumerate(ids)
                if counts[index] and len(sequence) + max_tokens > limit
            ]
            if not long:
                break
            for index in long:
                counts[index] -= 1
            again = self._encode([rows[i] for i in long], [counts[i] for i in long])
            for index, sequence in zip(long, again, strict=True):
                ids[index] = sequence
        self.dropped = sum(number < count for number in counts)
        if limit:
            ids = [self._cut(sequence, max(limit - max_tokens, limit // 2)) for sequence in ids]
        return [Request(token_ids=tuple(sequence)) for sequence in ids]

    def _cut(self, ids: list[int], room: int) -> list[int]:
        """The prompt without its oldest tokens where it would leave no room for an answer."""
        if len(ids) <= room:
            return ids
        self.truncated += 1
        return truncate_prompt(Encoded(ids, [False] * len(ids)), room).ids

    def _encode(self, rows: Sequence[Row], counts: Sequence[int]) -> list[list[int]]:
        return encode_prompts(
            self._tokenizer,
            self._template,
            [
                (with_shots(row, self.subject, self.shots, count), {} if count else row.meta)
                for row, count in zip(rows, counts, strict=True)
            ],
        )


def load_template(subject: Subject) -> tuple[Any, Any]:
    """Tokenizer and template of a local model; raises UsageError where nothing names one."""
    tokenizer = load_tokenizer(subject.location)
    try:
        template = template_of(subject.location, tokenizer=tokenizer, name=subject.config.template)
    except UsageError as error:
        error.where = error.where or f"the model '{subject.name}' of the evaluation"
        raise
    return tokenizer, template


def context_length(location: str) -> int | None:
    """Positions that a model in a folder has, from its config.json; None where it says none.

    Of adapters alone it is the model that they belong to, less their virtual tokens.
    """
    if is_adapter(location):
        whole = context_length(str(base_source(location)))
        described = read_json(Path(location) / ADAPTER_FILE)
        virtual = described.get("num_virtual_tokens") if isinstance(described, dict) else None
        return None if whole is None else whole - int(virtual or 0)
    path = Path(location) / "config.json"
    if not path.is_file():
        return None
    value = read_json(path)
    config = value.get("text_config", value) if isinstance(value, dict) else {}
    limit = config.get("max_position_embeddings")
    return limit if isinstance(limit, int) else None
