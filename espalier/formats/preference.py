"""Preference pairs: `chosen` and `rejected`, as texts, dialogues or messages.

Read are: whole `\\n\\nHuman: …\\n\\nAssistant: …` dialogues that differ in their last answer;
`prompt` with two answer texts; `prompt` (text or messages, or none) with two lists of messages.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from espalier.formats.base import (
    Answers,
    Format,
    RowFault,
    describe,
    extras,
    has_fields,
    text_of,
)
from espalier.formats.turns import check_turns, message_list
from espalier.records import Message, Messages, PreferencePair

_SPEAKER = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_FIELDS = ("prompt", "chosen", "rejected", "margin", "score_chosen", "score_rejected")


def _parse(row: Mapping[str, Any], answers: Answers) -> list[PreferencePair]:
    prompt = _prompt(row)
    chosen, rejected = (_side(row, name, prompt) for name in ("chosen", "rejected"))
    _check_same_prompt(chosen, rejected)
    question = chosen[:-1]
    check_turns(question, "chosen")
    if question[-1].role != "user":
        raise RowFault(
            "The answers do not follow a user turn.",
            field="chosen",
            found=f"a turn of the {question[-1].role} before the answer",
            expected="a user turn before the last turn",
        )
    for name, turns in (("chosen", chosen), ("rejected", rejected)):
        if not turns[-1].content.strip():
            raise RowFault(
                f"The {name} answer is empty.",
                field=name,
                found="an empty text",
                expected="a text with something in it",
            )
    if chosen[-1].content.strip() == rejected[-1].content.strip():
        raise RowFault(
            "The two answers are the same.",
            field="rejected",
            found=describe(rejected[-1].content),
            expected="an answer that differs from the chosen one",
        )
    pair = PreferencePair.make(
        _merged(question),
        chosen[-1].content,
        rejected[-1].content,
        margin=_margin(row),
        meta=extras(row, _FIELDS),
    )
    return [pair]


def _check_same_prompt(chosen: Messages, rejected: Messages) -> None:
    if chosen[:-1] == rejected[:-1]:
        return
    pairs = zip(chosen, rejected, strict=False)
    shorter = min(len(chosen), len(rejected))
    common = next((i for i, (a, b) in enumerate(pairs) if a != b), shorter)
    raise RowFault(
        "The chosen and the rejected dialogue are not answers to one prompt.",
        field="rejected",
        found=f"dialogues of {len(chosen)} and {len(rejected)} turns that differ from turn "
        f"{common + 1} on",
        expected="two dialogues that differ only in the last answer",
    )


def _prompt(row: Mapping[str, Any]) -> Messages:
    """The turns of the field `prompt`; none when there is no such field."""
    if row.get("prompt") is None:
        return ()
    value = unpacked(row["prompt"])
    if isinstance(value, list):
        return message_list(value, "prompt")
    text = text_of(row, "prompt")
    return prompt_dialogue(text) if is_dialogue(text) else (Message("user", text),)


def prompt_dialogue(text: str) -> Messages:
    """A dialogue that ends where the assistant is to speak."""
    turns = _dialogue(text)
    if turns[-1].role == "assistant" and not turns[-1].content:
        turns = turns[:-1]
    return turns


def _side(row: Mapping[str, Any], name: str, prompt: Messages) -> Messages:
    """One whole dialogue: the prompt's turns and, last, the answer."""
    value = unpacked(row.get(name))
    if isinstance(value, list):
        turns = message_list(value, name)
        # Lists that begin with the question hold the prompt themselves; others only go on.
        whole = turns if turns[0].role != "assistant" else (*prompt, *turns)
    else:
        text = text_of(row, name, empty=True)
        if prompt:
            whole = (*prompt, Message("assistant", text))
        elif is_dialogue(text):
            whole = _dialogue(text)
        else:
            raise RowFault(
                f"The field '{name}' is neither a dialogue nor an answer to a field 'prompt'.",
                field=name,
                found=describe(text),
                expected="a field 'prompt', or text that begins with 'Human:', or messages",
            )
    if len(whole) < 2 or whole[-1].role != "assistant":
        raise RowFault(
            f"The field '{name}' does not end in an assistant's answer to a prompt.",
            field=name,
            found=f"the roles {', '.join(turn.role for turn in whole)}",
            expected="a user turn before the last turn, and an assistant turn at the end",
        )
    return whole


def unpacked(value: Any) -> Any:
    """Messages that a CSV or Parquet file keeps as JSON text; other values as they are."""
    if isinstance(value, str) and value.startswith("[{") and value.endswith("}]"):
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError):
            return value
        if all(isinstance(item, dict) and {"role", "content"} <= item.keys() for item in parsed):
            return parsed
    return value


def is_dialogue(text: str) -> bool:
    """Whether a text is a `Human:`/`Assistant:` dialogue."""
    return text.lstrip().startswith("Human:")


def _dialogue(text: str) -> Messages:
    """Turns of a `Human:`/`Assistant:` text."""
    parts = _SPEAKER.split(text.lstrip())
    return tuple(
        Message("user" if speaker == "Human" else "assistant", content.strip())
        for speaker, content in zip(parts[1::2], parts[2::2], strict=True)
    )


def _merged(turns: Messages) -> Messages:
    """Neighbouring turns of one speaker as one turn: models expect the speakers to alternate."""
    merged: list[Message] = []
    for turn in turns:
        if merged and merged[-1].role == turn.role:
            turn = Message(turn.role, f"{merged.pop().content}\n\n{turn.content}")
        merged.append(turn)
    return tuple(merged)


def _margin(row: Mapping[str, Any]) -> float | None:
    """`margin`, or the difference of the two scores, or None."""
    margin = row.get("margin")
    if margin not in (None, ""):
        return _number(margin, "margin")
    better, worse = row.get("score_chosen"), row.get("score_rejected")
    if better in (None, "") or worse in (None, ""):
        return None
    return _number(better, "score_chosen") - _number(worse, "score_rejected")


def _number(value: Any, field: str) -> float:
    try:
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            number = float(value)
            if math.isfinite(number):
                return number
    except (ValueError, OverflowError):
        pass
    raise RowFault(
        f"The field '{field}' is not a number.",
        field=field,
        found=describe(value),
        expected="a number",
    )


def _dump(pair: PreferencePair) -> dict[str, Any]:
    row: dict[str, Any] = {"prompt": [turn.to_json() for turn in pair.prompt]}
    for name, text in (("chosen", pair.chosen), ("rejected", pair.rejected)):
        row[name] = [Message("assistant", text).to_json()]
    if pair.margin is not None:
        row["margin"] = pair.margin
    return row


PREFERENCE = Format[PreferencePair](
    name="preference",
    kind="pairs",
    shape="chosen, rejected (texts with Human:/Assistant: turns, or messages), prompt (optional)",
    fits=has_fields("chosen", "rejected"),
    resembles=lambda row: "chosen" in row or "rejected" in row,
    parse=_parse,
    dump=_dump,
)
