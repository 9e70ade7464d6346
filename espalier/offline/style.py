"""The offline teacher's deliberate faults: their rates, and the style flaw's texts.

The flaw is what the demo's reinforcement learning has to repair: an answer that is right but
opens with words that nobody asked for. It is frequent in the families marked `flawed` and rare
in the rest, so that a reward model can learn from both kinds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from espalier.errors import UsageError, did_you_mean

PREFIXES = {"en": "The answer is ", "zh": "答案是"}
REFUSALS = {
    "en": "I'm sorry, but as an AI language model I can't help with that.",
    "zh": "很抱歉，作为一个人工智能语言模型，我无法回答这个问题。",
}


class OfflineOptions(BaseModel):
    """What `options` of an offline engine may hold; every rate is a probability."""

    model_config = ConfigDict(extra="forbid")

    style_flaw: float = Field(
        0.6, ge=0, le=1, description="Answers with the style prefix, in the flawed families."
    )
    style_flaw_rest: float = Field(
        0.15, ge=0, le=1, description="Answers with the style prefix, in the other families."
    )
    error_rate: float = Field(0.03, ge=0, le=1, description="Wrong answers to known tasks.")
    refusal_rate: float = Field(0.01, ge=0, le=1, description="Refusals.")
    empty_rate: float = Field(0.005, ge=0, le=1, description="Empty answers.")
    copy_rate: float = Field(0.005, ge=0, le=1, description="Answers that copy the prompt.")
    truncation_rate: float = Field(
        0.01, ge=0, le=1, description="Answers cut off, with finish reason 'length'."
    )
    duplicate_rate: float = Field(
        0.12, ge=0, le=1, description="New instructions that repeat one of the same list."
    )
    blacklist_rate: float = Field(
        0.06, ge=0, le=1, description="New instructions about images, graphs, files and such."
    )
    malformed_rate: float = Field(
        0.04, ge=0, le=1, description="New instructions too short or opening with punctuation."
    )
    list_truncation_rate: float = Field(
        0.1, ge=0, le=1, description="Instruction lists cut off within the last instruction."
    )
    odd_format_rate: float = Field(
        0.05, ge=0, le=1, description="Lists and examples with unusual numbers, labels or marks."
    )
    example_fault_rate: float = Field(
        0.06,
        ge=0,
        le=1,
        description="Examples of a task with a fault: cut off, repeated, with "
        "two outputs for one input, without a label …",
    )
    equal_rewrite_rate: float = Field(
        0.05, ge=0, le=1, description="Evolved instructions that are the same as before."
    )
    leak_rate: float = Field(
        0.03, ge=0, le=1, description="Evolved instructions that repeat words of the request."
    )
    rewrite_truncation_rate: float = Field(
        0.02, ge=0, le=1, description="Evolved instructions cut off."
    )
    rewrite_decoration_rate: float = Field(
        0.15, ge=0, le=1, description="Evolved instructions under a heading or an opening phrase."
    )
    sorry_rate: float = Field(
        0.02, ge=0, le=1, description="Answers to evolved tasks that only apologise."
    )
    filler_rate: float = Field(
        0.01, ge=0, le=1, description="Answers to evolved tasks of stop words alone."
    )
    chat_end_rate: float = Field(
        0.2, ge=0, le=1, description="Simulated users who end a dialogue, at each turn."
    )
    chat_label_rate: float = Field(
        0.1, ge=0, le=1, description="Simulated users whose turn begins with a speaker's name."
    )
    unchanged_rate: float = Field(
        0.03, ge=0, le=1, description="Revisions that are the answer as it was."
    )
    revision_truncation_rate: float = Field(0.02, ge=0, le=1, description="Revisions cut off.")
    revision_heading_rate: float = Field(
        0.1, ge=0, le=1, description="Critiques and revisions under a heading."
    )
    naive_rate: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Plainly harmful requests that get an empty promise to help.",
    )
    judge_noise: float = Field(0.05, ge=0, le=1, description="Verdicts and marks that are wrong.")


def read_options(options: Mapping[str, Any]) -> OfflineOptions:
    """Validate the options of an offline engine.

    Raises UsageError that names an unknown option with the nearest known one, or a value that
    is no probability, or rates that add up to more than 1.
    """
    known = OfflineOptions.model_fields
    for name in options:
        if name not in known:
            raise UsageError(
                f"The offline engine has no option '{name}'.",
                expected="one of " + ", ".join(known),
                hint=did_you_mean(name, known),
            )
    try:
        read = OfflineOptions(**options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        raise UsageError(
            f"The option '{name}' of the offline engine is {first['input']!r}.",
            expected="a number from 0 to 1",
        ) from error
    _check_sum(read, "error_rate", "refusal_rate", "empty_rate", "copy_rate", "truncation_rate")
    _check_sum(read, "duplicate_rate", "blacklist_rate", "malformed_rate")
    _check_sum(read, "equal_rewrite_rate", "leak_rate", "rewrite_truncation_rate")
    _check_sum(read, "sorry_rate", "filler_rate")
    _check_sum(read, "unchanged_rate", "revision_truncation_rate")
    return read


def _check_sum(options: OfflineOptions, *names: str) -> None:
    total = sum(getattr(options, name) for name in names)
    if total > 1:
        raise UsageError(
            f"The offline engine's rates {', '.join(names)} add up to {total:g}.",
            expected="at most 1: an answer has one of these faults",
        )
