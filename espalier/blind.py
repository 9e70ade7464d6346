"""What people rate without knowing the models: answers to mark, pairs of answers to choose from.

An item is named by a hash of the texts that are shown. A rating so belongs to texts, not to
names: it finds its answers in any run that gives them, and no key file has to be kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from espalier.errors import InputError, UsageError
from espalier.formats.files import BadRow, read_rows
from espalier.records import content_id


@dataclass(frozen=True, slots=True)
class Shown:
    """One answer of a run."""

    prompt_id: str
    prompt: str
    model: str
    answer: str


@dataclass(frozen=True, slots=True)
class Item:
    """A prompt with one answer, or with two that stand in the order of their texts.

    `models` holds for each answer the models that gave it.
    """

    name: str
    prompt_id: str
    prompt: str
    answers: tuple[str, ...]
    models: tuple[tuple[str, ...], ...]


def mark_item(prompt: str, answer: str) -> str:
    """The name of an answer on a blind sheet: a hash of what is shown."""
    return content_id("rated answer", prompt, answer)


def pair_item(prompt: str, first: str, second: str) -> str:
    """The name of two answers on a blind sheet; `-1` or `-2` tells their order apart."""
    one, other = sorted((first, second))
    return f"{content_id('rated pair', prompt, one, other)}-{1 if first == one else 2}"


def read_answers(run: Path) -> list[Shown]:
    """The answers of a finished evaluation; raises InputError where the run has none."""
    path = run / "evaluate" / "scores.parquet"
    if not path.is_file():
        raise InputError(
            "The run has no finished evaluation to rate.",
            where=str(path),
            expected="a run folder in which `espalier evaluate` is done",
            hint="run the evaluation first",
        )
    found = []
    for row in read_rows(path):
        if isinstance(row, BadRow):
            continue
        value = row.value
        missing = [name for name in ("id", "prompt", "model", "answer") if name not in value]
        if missing:
            raise InputError(
                f"The table of row scores lacks the column '{missing[0]}'.",
                where=str(path),
                expected="columns id, model, prompt and answer",
                hint="run the stage 'evaluate' again",
            )
        if value["answer"] is not None:
            found.append(
                Shown(str(value["id"]), str(value["prompt"]), str(value["model"]),
                      str(value["answer"]))
            )  # fmt: skip
    return found


def answers_of(answers: Sequence[Shown], models: Sequence[str]) -> list[Shown]:
    """The answers of these models (of all where none is named).

    Raises UsageError for a model that the run does not have.
    """
    known = list(dict.fromkeys(one.model for one in answers))
    unknown = [name for name in models if name not in known]
    if unknown:
        raise UsageError(
            f"The run has no model '{unknown[0]}'.", expected=f"some of: {', '.join(known)}"
        )
    return [one for one in answers if not models or one.model in models]


def pairs_shown(answers: Sequence[Shown]) -> Iterator[tuple[Shown, Shown]]:
    """Every two answers to a prompt, but equal ones: there is nothing to choose."""
    for group in _by_prompt(answers).values():
        for first, second in combinations(group, 2):
            if first.answer.strip() != second.answer.strip():
                yield first, second


def pair_items(answers: Sequence[Shown]) -> list[Item]:
    """The pairs of different answers to a prompt, each once."""
    found: dict[str, tuple[Shown, Shown, tuple[set[str], set[str]]]] = {}
    for pair in pairs_shown(answers):
        one, other = sorted(pair, key=lambda shown: shown.answer)
        name = pair_item(one.prompt, one.answer, other.answer)
        _, _, models = found.setdefault(name, (one, other, (set(), set())))
        models[0].add(one.model)
        models[1].add(other.model)
    return [
        Item(
            name,
            one.prompt_id,
            one.prompt,
            (one.answer, other.answer),
            tuple(tuple(sorted(names)) for names in models),
        )
        for name, (one, other, models) in found.items()
    ]


def mark_items(answers: Sequence[Shown]) -> list[Item]:
    """The different answers to a prompt, each once."""
    found: dict[str, tuple[Shown, set[str]]] = {}
    for one in answers:
        name = mark_item(one.prompt, one.answer)
        found.setdefault(name, (one, set()))[1].add(one.model)
    return [
        Item(name, one.prompt_id, one.prompt, (one.answer,), (tuple(sorted(models)),))
        for name, (one, models) in found.items()
    ]


def _by_prompt(answers: Sequence[Shown]) -> dict[str, list[Shown]]:
    found: dict[str, list[Shown]] = {}
    for one in answers:
        found.setdefault(one.prompt_id, []).append(one)
    return found
