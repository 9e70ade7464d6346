"""Rows to validate with: none whose prompt is trained on as well, or the loss would flatter."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

from espalier.errors import StageError
from espalier.records import UNTRAINED, Example, Message, dialogue_of, messages_id
from espalier.text import normalise
from espalier.together import together

Row = TypeVar("Row")


def turns_name(turns: Sequence[Message]) -> str:
    """Equal for turns that differ in width, case, spacing or punctuation only."""
    return messages_id([Message(turn.role, normalise(turn.content)) for turn in turns])


def prompt_of(example: Example) -> str:
    """The name of all turns before the last answer; the row's own where these hold no text."""
    places = answers_of(example)
    return _name_before(example, places[-1] if places else len(example.messages)) or example.id


def prompts_of(example: Example, train_on: Literal["all", "last"]) -> set[str]:
    """The names of all prompts whose answers are learnt from a row."""
    places = answers_of(example)
    if train_on == "last":
        places = places[-1:]
    return {name for place in places if (name := _name_before(example, place))}


def answers_of(example: Example) -> list[int]:
    """Places of the assistant's turns, without those that are context only."""
    places = [i for i, turn in enumerate(example.messages) if turn.role == "assistant"]
    context = example.meta.get(UNTRAINED) or ()
    return [place for number, place in enumerate(places) if number not in context]


def _name_before(example: Example, place: int) -> str:
    """The name of the turns before that place; "" where they hold no text."""
    turns = example.messages[:place]
    return turns_name(turns) if any(turn.content.strip() for turn in turns) else ""


def set_aside(
    rows: Sequence[Row],
    fraction: float,
    seed: int,
    *,
    example: Callable[[Any], Example] = lambda row: row,
) -> tuple[list[Row], list[Row]]:
    """(training rows, validation rows), the latter drawn by the seed; both keep their order.

    Prompts, and dialogues that were split into parts, are drawn whole; `example` gives the one of a
    row. Raises StageError where that leaves nothing on either side.
    """
    count = round(len(rows) * fraction)
    if not 0 < count < len(rows):
        raise StageError(
            f"A validation fraction of {fraction} of {len(rows):,} rows is {count} rows.",
            hint="choose another fraction",
        )
    examples = [example(row) for row in rows]
    groups = together((prompt_of(one), dialogue_of(one)) for one in examples)
    drawn = random.Random(f"{seed}:validation").sample(groups, min(count, len(groups)))
    chosen: set[int] = set()
    for group in sorted(drawn, key=lambda group: group.linked):
        if len(chosen) < count:
            chosen.update(group.places)
    if len(chosen) == len(rows):
        raise StageError(
            f"All {len(rows):,} rows are on the {len(groups):,} prompts of a validation fraction "
            f"of {fraction}; no row is left to train on.",
            expected="rows on other prompts than those set aside",
            hint="choose a smaller fraction, or give a file as validation.data",
        )
    train = [row for place, row in enumerate(rows) if place not in chosen]
    return train, [rows[place] for place in sorted(chosen)]


def apart_from(
    held_back: Sequence[Example],
    train: Sequence[Example],
    train_on: Literal["all", "last"],
    *,
    where: str,
) -> list[Example]:
    """The validation rows whose prompt is not trained on, nor another part of their dialogue.

    Raises StageError, which names the option `where`, if that is none of them.
    """
    learnt = {name for example in train for name in prompts_of(example, train_on)}
    split = {dialogue_of(example) for example in train} - {None}
    kept = [
        example
        for example in held_back
        if prompt_of(example) not in learnt and dialogue_of(example) not in split
    ]
    if held_back and not kept:
        raise StageError(
            f"Each of the {len(held_back):,} validation rows has a prompt that is trained on as "
            "well, or is a part of a dialogue that is: their loss would say nothing.",
            where=where,
            expected="rows on other prompts than those of the training data",
            hint="name another file, or give validation.fraction, which sets prompts aside",
        )
    return kept
