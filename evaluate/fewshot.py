"""Solved examples for few-shot prompts: from the training data, never from the set."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from espalier.errors import InputError
from espalier.evaluate.evalset import EvalSet, Row
from espalier.evaluate.rows import read_all
from espalier.records import Example, Messages
from espalier.text import language, length, normalise

# Long examples would fill the context of the small models that few-shot prompts are for.
MAX_WORDS = 120


class Shots:
    """Examples by language, drawn by seed; each prompt gets those of its own language first."""

    def __init__(
        self, examples: Sequence[Example], evalset: EvalSet, seed: int, most: int = 0
    ) -> None:
        """Examples whose prompt is in the set (normalised) are left out.

        Raises InputError where fewer than `most` are left.
        """
        held_out = {row.key for row in evalset.rows}
        usable = [
            example
            for example in examples
            if example.response
            and len(example.messages) == 2
            and normalise(example.prompt) not in held_out
            and length(example.prompt) + length(example.response) <= MAX_WORDS
        ]
        if len(usable) < most:
            raise InputError(
                f"Only {len(usable)} examples can serve as few-shot examples, {most} are wanted.",
                expected="single-turn rows outside the set, of at most "
                f"{MAX_WORDS} words, in `few_shot_from`",
            )
        random.Random(f"{seed}:few-shot").shuffle(usable)
        self._by_language: dict[str, list[Example]] = {}
        for example in usable:
            key = str(example.meta.get("language") or language(example.prompt))
            self._by_language.setdefault(key, []).append(example)
        self._all = usable
        self._chosen: dict[tuple[str, int], Messages] = {}

    def messages(self, row: Row, count: int) -> Messages:
        """Turns of `count` examples, of different categories where there are as many."""
        if (row.language, count) not in self._chosen:
            pool = self._by_language.get(row.language, [])
            chosen = _varied(pool if len(pool) >= count else self._all, count)
            turns = tuple(turn for example in chosen for turn in example.messages)
            self._chosen[row.language, count] = turns
        return self._chosen[row.language, count]


def _varied(pool: Sequence[Example], count: int) -> list[Example]:
    chosen: list[Example] = []
    categories: set[str] = set()
    for example in pool:
        category = str(example.meta.get("category") or example.id)
        if category not in categories:
            categories.add(category)
            chosen.append(example)
        if len(chosen) == count:
            return chosen
    rest = [example for example in pool if example not in chosen]
    return chosen + rest[: count - len(chosen)]


def read_shots(path: Path, evalset: EvalSet, seed: int, most: int = 0) -> Shots:
    """Few-shot examples from a dataset file; raises InputError for one with fewer than `most`."""
    if not path.exists():
        raise InputError(
            "The file that few-shot examples come from does not exist.",
            where=str(path),
            expected="a dataset with answers",
            hint="set `evaluate.few_shot_from`, or remove `few_shot` from the model",
        )
    return Shots(read_all(path), evalset, seed, most)
