"""A family of tasks: phrasings, a way to draw their slots, and the one right answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Literal

from espalier.offline.form import Form, Slots

Language = Literal["en", "zh"]
Group = Literal["generation", "understanding", "reasoning", "dialogue", "transformation"]


@dataclass(frozen=True)
class Family:
    """Tasks of one kind in one language, whose right answer follows from the prompt's text.

    `pick` draws the slots, `truth` answers them (None where they are no task of this family,
    such as a word that has no known opposite). `flawed` marks the half of the families in
    which the offline teacher mostly adds its style prefix (see `style`).
    """

    name: str
    language: Language
    group: Group
    texts: tuple[str, ...]
    pick: Callable[[Random], Slots]
    truth: Callable[[Mapping[str, str]], str | None]
    patterns: Mapping[str, str]
    flawed: bool = False

    @cached_property
    def forms(self) -> tuple[Form, ...]:
        """The phrasings, each able to write a prompt and to read it back."""
        return tuple(Form(text, self.patterns) for text in self.texts)

    def draw(self, rng: Random) -> tuple[str, str]:
        """A prompt and its right answer."""
        slots = self.pick(rng)
        answer = self.truth(slots)
        if answer is None:
            raise ValueError(f"family {self.name} drew slots that it cannot answer: {slots}")
        return rng.choice(self.forms).write(slots, rng), answer

    def solve(self, prompt: str) -> str | None:
        """The right answer, found in the text alone; None for a prompt of another kind."""
        for form in self.forms:
            slots = form.read(prompt)
            if slots is not None:
                answer = self.truth(slots)
                if answer is not None:
                    return answer
        return None
