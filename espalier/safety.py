"""What a served model is not asked and does not say: word lists, patterns, a classifier.

A filter of words is a fence, not a judgement: it stops what it lists, in other spellings too as
far as `espalier.text` folds them (case and width), and nothing that says the same in other
words. A classifier judges an answer to its question. What is stopped is replaced by `reply`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from espalier import plain_yaml
from espalier.errors import InputError, UsageError, place
from espalier.options import was_changed
from espalier.records import Messages
from espalier.text import tokens

Side = Literal["input", "output"]
REPLY = "I can't help with that. / 这个问题我无法协助。"
_BETWEEN = "\0"


class SafetyConfig(BaseModel):
    """The content of a file of safety rules (YAML or JSON)."""

    model_config = ConfigDict(extra="forbid")

    words: list[str] = Field(
        default_factory=list,
        description="Words and phrases, found whole in any script, whatever their case.",
    )
    patterns: list[str] = Field(
        default_factory=list, description="Regular expressions, found anywhere, in any case."
    )
    check: list[Side] = Field(
        ["input", "output"],
        min_length=1,
        description="Where words and patterns are looked for: input (what is asked, system texts "
        "too), output (answers).",
    )
    model: str | None = Field(
        None, description="Folder of a sequence classifier that judges answers to their questions."
    )
    label: str | int | None = Field(
        None, description="The classifier's label for unsafe, by name or number, where it has many."
    )
    threshold: float = Field(0.0, description="The unsafe label's logit from which on is stopped.")
    template: str | None = Field(
        None, description="How the classifier reads a conversation, where its folder says nothing."
    )
    reply: str = Field(REPLY, min_length=1, description="What is said in place of what is stopped.")

    @field_validator("patterns")
    @classmethod
    def _compile(cls, value: list[str]) -> list[str]:
        for pattern in value:
            try:
                empty = re.compile(pattern).search("")
            except re.error as error:
                raise ValueError(f"'{pattern}' is no regular expression: {error}") from error
            if empty is not None:
                raise ValueError(f"'{pattern}' is found in any text, and would stop all")
        return value

    @field_validator("words")
    @classmethod
    def _not_empty(cls, value: list[str]) -> list[str]:
        for word in value:
            if not tokens(word):
                raise ValueError(f"{word!r} holds no word, and would be found nowhere")
        return value

    @model_validator(mode="after")
    def _something(self) -> SafetyConfig:
        if not (self.words or self.patterns or self.model):
            raise ValueError("words, patterns and model are all empty: nothing would be stopped")
        for name in ("label", "threshold", "template"):
            if self.model is None and was_changed(self, name):
                raise ValueError(f"{name} belongs to a classifier, and model names none")
        return self


class SafetyFilter:
    """Rules at work; safe to use from several threads."""

    def __init__(self, config: SafetyConfig) -> None:
        self.config = config
        self.reply = config.reply
        self._patterns = [re.compile(text, re.IGNORECASE) for text in config.patterns]
        self._words = [(word, _joined(word)) for word in config.words]
        self._lock = Lock()

    def load(self) -> None:
        """Load the classifier now, if there is one; raises InputError where it can't be."""
        if self.config.model is not None:
            _ = self._classifier

    def stops_input(self, messages: Messages) -> str | None:
        """Why what is asked is stopped (the rule, not the text); None where it passes."""
        if "input" not in self.config.check:
            return None
        return self._listed(message.content for message in messages)

    def stops_output(self, messages: Messages, answer: str) -> str | None:
        """Why an answer is stopped; None where it passes."""
        if "output" in self.config.check:
            reason = self._listed([answer])
            if reason is not None:
                return reason
        if self.config.model is None:
            return None
        with self._lock:
            [score] = self._classifier.score([messages], [answer], [{}])
        return None if score < self.config.threshold else f"classifier ({score:.2f})"

    def _listed(self, texts: Iterable[str]) -> str | None:
        for text in texts:
            joined = _joined(text)
            for number, (_, word) in enumerate(self._words, start=1):
                if word in joined:
                    return f"word {number}"
            for number, pattern in enumerate(self._patterns, start=1):
                if pattern.search(text):
                    return f"pattern {number}"
        return None

    @cached_property
    def _classifier(self) -> Any:
        from espalier.rewarding import RewardScorer, check_reward_folder

        folder = Path(str(self.config.model))
        check_reward_folder(folder, str(folder), "model of the safety rules")
        return RewardScorer(
            folder,
            mean=0.0,
            deviation=1.0,
            dtype="auto",
            label=self.config.label,
            template=self.config.template,
        )


def _joined(text: str) -> str:
    return _BETWEEN + _BETWEEN.join(tokens(text)) + _BETWEEN


def read_safety(path: str) -> SafetyFilter:
    """The filter of a file of rules; a relative `model` is looked up beside the file.

    Raises InputError for a file that can't be read, UsageError for rules that are not right.
    """
    file = Path(path).expanduser()
    try:
        value = plain_yaml.load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(
            "The safety rules can't be read.",
            where=str(file),
            expected="a YAML or JSON file with words, patterns or model",
        ) from error
    try:
        config = SafetyConfig.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"The safety rules are not right: {first['msg']}.",
            where=place(file, field=_field(first["loc"])),
            expected=", ".join(SafetyConfig.model_fields),
        ) from error
    if config.model is not None:
        config = config.model_copy(update={"model": str(file.parent / config.model)})
    return SafetyFilter(config)


def _field(location: Sequence[str | int]) -> str | None:
    return ".".join(str(part) for part in location) or None
