"""Preference pairs: `chosen`/`rejected` as dialogues in text or messages, or beside a `prompt`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from espalier.formats.base import FieldError, Format, other_fields, text_field
from espalier.formats.turns import parse_turns
from espalier.records import Message, Messages, PreferencePair

_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):[ \t]?")


def parse_dialogue(text: str, field: str) -> Messages:
    """Turns of a `\\n\\nHuman: …\\n\\nAssistant: …` text; raises FieldError when it has none."""
    marks = list(_TURN.finditer(text))
    if not marks or text[: marks[0].start()].strip():
        raise FieldError(
            field,
            f"The dialogue in '{field}' does not begin with 'Human:' or 'Assistant:'.",
            text,
            "turns that begin with Human: and Assistant:",
        )
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return tuple(
        Message("user" if mark[1] == "Human" else "assistant", text[mark.end() : end].strip())
        for mark, end in zip(marks, ends, strict=True)
    )


def _fits(row: Mapping[str, Any]) -> bool:
    return "chosen" in row and "rejected" in row


def _side(row: Mapping[str, Any], name: str) -> Messages | str:
    value = row.get(name)
    if isinstance(value, list):
        return parse_turns(value, name)
    text = text_field(row, name, empty="prompt" in row)
    return parse_dialogue(text, name) if "prompt" not in row else text


def _parse(row: Mapping[str, Any]) -> list[PreferencePair]:
    chosen, rejected = _side(row, "chosen"), _side(row, "rejected")
    prompt: Messages = ()
    if "prompt" in row:
        given = row["prompt"]
        if isinstance(given, list):
            prompt = parse_turns(given, "prompt")
        else:
            prompt = (Message("user", text_field(row, "prompt")),)
    prompt, better, worse = _sides(prompt, chosen, rejected)
    if not prompt or prompt[-1].role != "user":
        raise FieldError("chosen", "The pair has no prompt.", "", "a user turn before the answers")
    if better.strip() == worse.strip():
        raise FieldError("rejected", "The two answers are the same.", worse, "another answer")
    if not better.strip():
        raise FieldError("chosen", "The preferred answer is empty.", better, "text")
    margin = row.get("margin")
    if margin is not None and (isinstance(margin, bool) or not isinstance(margin, int | float)):
        raise FieldError("margin", "The margin is no number.", margin, "a number or null")
    used = ("id", "prompt", "chosen", "rejected", "margin")
    pair = PreferencePair.make(
        prompt,
        better,
        worse,
        margin=None if margin is None else float(margin),
        meta=other_fields(row, used),
    )
    if {"id", "meta"} <= set(row) and row["id"]:
        pair = PreferencePair(str(row["id"]), *_rest(pair))
    return [pair]


def _rest(pair: PreferencePair) -> tuple[Messages, str, str, float | None, dict[str, Any]]:
    return pair.prompt, pair.chosen, pair.rejected, pair.margin, pair.meta


def _sides(
    prompt: Messages, chosen: Messages | str, rejected: Messages | str
) -> tuple[Messages, str, str]:
    if isinstance(chosen, str) and isinstance(rejected, str):
        return prompt, chosen, rejected
    if isinstance(chosen, str) or isinstance(rejected, str):
        raise FieldError("rejected", "One side is text, the other a list.", "", "the same form")
    return _split(prompt, chosen, rejected)


def _split(prompt: Messages, chosen: Messages, rejected: Messages) -> tuple[Messages, str, str]:
    """The common turns are the prompt; what is left on each side has to be one answer."""
    for name, side in (("chosen", chosen), ("rejected", rejected)):
        if side[-1].role != "assistant":
            raise FieldError(
                name, "The dialogue does not end with the assistant.", side[-1].content, "an answer"
            )
    if chosen[:-1] != rejected[:-1]:
        common = 0
        while chosen[common] == rejected[common]:
            common += 1
        raise FieldError(
            "rejected",
            f"The two dialogues differ before their last answer (in turn {common + 1}).",
            rejected[common].content,
            "the same prompt on both sides",
        )
    return (*prompt, *chosen[:-1]), chosen[-1].content, rejected[-1].content


def _dump(pair: PreferencePair) -> dict[str, Any]:
    prompt = [m.to_json() for m in pair.prompt]
    sides = {"chosen": pair.chosen, "rejected": pair.rejected}
    return {name: [*prompt, {"role": "assistant", "content": text}] for name, text in sides.items()}


def _dump_own(pair: PreferencePair) -> dict[str, Any]:
    return pair.to_json()


FORMAT = Format("preference", "pairs", "chosen, rejected", _fits, _parse, _dump)
OWN_PAIRS = Format(
    "espalier-pairs", "pairs", "id, prompt, chosen, rejected", _fits, _parse, _dump_own
)
