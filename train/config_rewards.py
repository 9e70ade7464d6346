"""Options of PPO's reward: terms of a mix, what makes a run stop, the held-out reward."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from espalier.train.config_parts import Strict

# What may stand in a metric's name: `reward/<name>`.
_NAME = re.compile(r"[\w.-]+")


class _Match(Strict):
    match: Literal["normalised", "exact"] = Field(
        "normalised",
        description="normalised: width, case, spacing and punctuation do not count; exact: only "
        "outer space does not.",
    )


class ExactMatch(_Match):
    """1 where the answer is the reference answer."""


class Contains(Strict):
    """1 where the answer contains the reference answer, or one (`all`: every) text of `texts`."""

    texts: list[str] = Field(default_factory=list, description="Default: the reference answer.")
    all: bool = Field(False, description="Every text must be there, not just one.")
    ignore_case: bool = Field(True, description="Upper and lower case are the same.")
    whole_words: bool = Field(
        True,
        description="As whole words, in order (`12` is not in `123`); each Chinese character is "
        "a word. false: as characters.",
    )

    @field_validator("texts")
    @classmethod
    def _filled(cls, value: list[str]) -> list[str]:
        if any(not text.strip() for text in value):
            raise ValueError("texts has an empty text, which every answer contains")
        return value


class Regex(Strict):
    """1 where the pattern (Python's `re`) is found in the answer."""

    pattern: str = Field(description="The regular expression.")
    whole: bool = Field(False, description="It must match the whole answer.")
    ignore_case: bool = Field(False, description="Upper and lower case are the same.")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"pattern is no regular expression: {error}") from error
        return value


class NumberMatch(Strict):
    """1 where the last number of the answer equals the last number of the reference answer."""

    tolerance: float = Field(0.0, ge=0, description="Largest difference that counts as equal.")
    relative: bool = Field(False, description="tolerance is a share of the reference's number.")


class JsonValid(Strict):
    """1 where the answer is one JSON value."""

    kind: Literal["any", "object", "array"] = Field("any", description="What it must be.")
    keys: list[str] = Field(default_factory=list, description="Keys that an object must have.")
    fenced: bool = Field(True, description="A code fence around it is allowed.")

    @model_validator(mode="after")
    def _object(self) -> JsonValid:
        if self.keys and self.kind == "array":
            raise ValueError("keys and kind: array contradict each other; keys are an object's")
        return self


class Length(Strict):
    """1 within `min` and `max`; falls to 0 over `slope` units outside."""

    min: int = Field(1, ge=0, description="Shortest answer.")
    max: int | None = Field(None, ge=1, description="Longest answer.")
    slope: int = Field(0, ge=0, description="Units outside over which the score falls to 0.")
    unit: Literal["words", "characters"] = Field(
        "words", description="Words (each Chinese character is one) or characters."
    )

    @model_validator(mode="after")
    def _band(self) -> Length:
        if self.max is not None and self.max < self.min:
            raise ValueError(f"max ({self.max}) is less than min ({self.min})")
        return self


class LanguageMatch(Strict):
    """1 where the answer is in the language of the prompt."""

    language: str | None = Field(
        None,
        description="Code of the language wanted (en, zh, …). Default: the row's `language`, "
        "else the prompt's.",
    )


class NoRepetition(Strict):
    """The share of the answer's n-grams that are no repeat of an earlier one."""

    n: int = Field(4, ge=1, description="Words of an n-gram (each Chinese character is one).")
    run: int = Field(16, ge=2, description="0 from so many equal characters in a row.")


RULES: dict[str, type[Strict]] = {
    "exact_match": ExactMatch,
    "contains": Contains,
    "regex": Regex,
    "number_match": NumberMatch,
    "json_valid": JsonValid,
    "length": Length,
    "language_match": LanguageMatch,
    "no_repetition": NoRepetition,
}
RuleName = Literal[
    "exact_match", "contains", "regex", "number_match", "json_valid", "length", "language_match",
    "no_repetition",
]  # fmt: skip


def rule_options(rule: str, values: dict[str, Any]) -> Strict:
    """The typed options of a rule; raises ValueError with one line about the first mistake."""
    model = RULES[rule]
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        known = ", ".join(model.model_fields)
        reason = str(first["msg"]).removeprefix("Value error, ")
        raise ValueError(
            f"options of the rule {rule}: {f'{name}: ' if name else ''}{reason} (it has: {known})"
        ) from error


class RewardTerm(Strict):
    """One term of a reward mix: a reward model, a Python function or a verifiable rule.

    Its score is standardised (models), held within ± clip, multiplied by weight, and added.
    """

    name: str = Field("", description="Name in the metrics (reward/NAME). Default: what it is.")
    model: str | None = Field(None, description="A reward model: a stage, folder or hub name.")
    label: str | int | None = Field(
        None, description="The output that is the reward, of a classifier with several."
    )
    template: str | None = Field(
        None, description="How the model reads a conversation. Default: as its folder says."
    )
    function: str | None = Field(
        None,
        description="A Python function, `package.module:function` or `file.py:function`, called "
        "with (example, answer) for a number; or, if its first parameter is called `examples`, "
        "once with (examples, answers) for a list of numbers.",
    )
    rule: RuleName | None = Field(None, description="A verifiable rule; its score is 0 to 1.")
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the rule.")
    weight: float = Field(
        1.0,
        allow_inf_nan=False,
        description="The score is multiplied by this; may be negative. 0: only in the metrics.",
    )
    clip: float | None = Field(
        None, gt=0, description="Before its weight, the score is held within ± this."
    )
    standardise: bool | None = Field(
        None,
        description="A model's scores less the mean and over the deviation of its scores on "
        "reference answers (its reward.json). Default: normalise_scores.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> RewardTerm:
        given = {n: v for n in ("model", "function", "rule") if (v := getattr(self, n))}
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise ValueError(f"a term of rewards has one of model, function, rule; here: {found}")
        if self.rule is None and self.options:
            raise ValueError(f"options belong to a rule, and this term is a {next(iter(given))}")
        if self.model is None and self.standardise:
            raise ValueError(
                f"standardise: true needs a model (and its reward.json), and this term is a "
                f"{next(iter(given))}"
            )
        for name in ("label", "template"):
            if self.model is None and getattr(self, name) is not None:
                raise ValueError(
                    f"{name} belongs to a model, and this term is a {next(iter(given))}"
                )
        if self.rule is not None:
            rule_options(self.rule, self.options)
        self.name = self.name or _default_name(next(iter(given.values())))
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"name: '{self.name}' has other signs than letters, digits, '_', '-' and '.'"
            )
        return self


def _default_name(source: str) -> str:
    """The last part of `package.module:function`, a folder or a hub name."""
    last = re.split(r"[:/\\]", source.rstrip("/\\"))[-1]
    if last == "model":  # runs/x/reward/model
        last = re.split(r"[/\\]", source.rstrip("/\\"))[-2:][0]
    return re.sub(r"[^\w.-]", "_", last)


def check_names(terms: list[RewardTerm]) -> None:
    """Raise ValueError for two terms of one name."""
    names = [term.name for term in terms]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two terms of rewards are called '{twice[0]}'; give each its own name")


class StopRules(Strict):
    """What ends a run of PPO before its time, with the last policy that was still in order.

    Each is looked at in every iteration, before it learns. A number that is not finite is
    always an error. null: never.
    """

    min_entropy: float | None = Field(
        None, gt=0, description="Entropy collapse: mean entropy below this (nats a token)."
    )
    max_length_factor: float | None = Field(
        None,
        gt=1,
        description="Length explosion: mean answer longer than this times that of the first "
        "iteration.",
    )
    min_length: float | None = Field(
        None, gt=0, description="Length collapse: mean answer shorter than this (tokens)."
    )
    max_no_end_rate: float | None = Field(
        None, ge=0, lt=1, description="Share of answers without an end token above this."
    )
    negative_kl: float | None = Field(
        1.0,
        gt=0,
        description="KL to the first policy below minus this (nats an episode) in "
        "negative_kl_iterations in a row: the answers are not the policy's own samples.",
    )
    negative_kl_iterations: int = Field(5, ge=1, description="See negative_kl.")


class HeldOut(Strict):
    """A second reward model that PPO never learns from, watched for over-optimisation.

    Every `every` iterations the policy answers fixed prompts that are not trained on. A check is
    bad when, against the best check so far, the training score is higher and the held-out score
    lower by more than chance (the 95 % interval of the paired difference lies below 0).
    """

    reward: str = Field(
        "reward_eval", description="The held-out reward model: a stage, folder or hub name."
    )
    label: str | int | None = Field(
        None, description="The output that is the reward, of a classifier with several."
    )
    template: str | None = Field(
        None, description="How that model reads a conversation. Default: as its folder says."
    )
    every: int = Field(5, ge=1, description="Iterations between checks; the last one is checked.")
    prompts: int | str = Field(
        64,
        description="So many of the prompts, drawn by the seed and not trained on; or a file of "
        "prompts (those of the training prompts that are in it are not trained on).",
    )
    limit: int = Field(256, ge=2, description="Prompts to take of a file, at most.")
    temperature: float = Field(0.0, ge=0, description="Of the answers; 0 is greedy.")
    standardise: bool = Field(
        True, description="Its scores less mean and over deviation, by its reward.json."
    )
    alarm_after: int = Field(2, ge=1, description="Bad checks in a row that raise an alarm.")
    stop_after: int | None = Field(
        None,
        ge=1,
        description="Bad checks in a row that end the run, with the policy of the best check.",
    )

    @field_validator("prompts")
    @classmethod
    def _some(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 2:
            raise ValueError("prompts must be at least 2, or a file")
        return value
