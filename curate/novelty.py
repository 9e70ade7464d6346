"""Novelty of instructions: exact ROUGE-L against everything in the pool.

Only instructions are compared, never instruction and input: templated tasks share most of
their wording, and all but a few would be thrown away.
"""

from __future__ import annotations

from dataclasses import dataclass

from espalier.overlap import NoveltyIndex
from espalier.text import tokens


@dataclass(frozen=True, slots=True)
class Nearest:
    """The pool member that is too near, and its ROUGE-L F1."""

    text: str
    f1: float


class InstructionPool:
    """Instructions of seeds and kept tasks, in order, searchable for near repeats."""

    def __init__(self, threshold: float) -> None:
        self.texts: list[str] = []
        self._index = NoveltyIndex(threshold)

    def add(self, instruction: str) -> None:
        """Put an instruction into the pool."""
        self.texts.append(instruction)
        self._index.add(tokens(instruction))

    def too_near(self, instruction: str) -> Nearest | None:
        """The nearest member above the threshold, None for a novel instruction."""
        index, f1 = self._index.nearest(tokens(instruction))
        return None if index is None else Nearest(self.texts[index], f1)
