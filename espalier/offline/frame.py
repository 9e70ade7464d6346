"""Open tasks for Self-Instruct: an instruction with slots, and a short answer made from them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random

from espalier.offline.family import Group, Language
from espalier.offline.form import Form, Slots

Entry = Mapping[str, str]
Answer = str | Callable[[Mapping[str, str], Entry], str]


@dataclass(frozen=True)
class Frame:
    """A kind of open task.

    `text` is a phrasing as in `Form`; a slot is filled from `values` by its name without
    trailing digits, and no value is used twice in one instruction. `answer` is a template over
    the slots (`{Topic}` is `{topic}` with a capital) or a function of the slots and the input's
    entry; `inputs` holds the entries (texts under "input" and what can be asked about them) of
    a task that works on an input. `labelled` marks a classification task: its answers are the
    few labels that the instruction names.
    """

    language: Language
    group: Group
    text: str
    answer: Answer
    values: Mapping[str, Sequence[str]]
    inputs: tuple[Entry, ...] = ()
    labelled: bool = False

    @cached_property
    def form(self) -> Form:
        """The phrasing, able to write an instruction and to read it back."""
        return Form(self.text, {slot: self._pattern(slot) for slot in Form(self.text).slots})

    def _pattern(self, slot: str) -> str:
        """Known values first, the longest first: two slots may stand side by side."""
        values = self.options(slot)
        if values[0].isdigit():
            return r"\d{1,6}"
        known = "|".join(re.escape(value) for value in sorted(values, key=len, reverse=True))
        return rf"(?i:{known})|[^\n]+?"

    def options(self, slot: str) -> Sequence[str]:
        """The values that a slot may take."""
        return self.values[slot] if slot in self.values else self.values[slot.rstrip("0123456789")]

    def compose(self, rng: Random) -> str:
        """A new instruction."""
        slots: Slots = {}
        for slot in self.form.slots:
            used = set(slots.values())
            slots[slot] = rng.choice([value for value in self.options(slot) if value not in used])
        return self.form.write(slots, rng)

    def combinations(self) -> int:
        """How many instructions the slots alone can make (choices of wording not counted)."""
        total = 1
        for slot in self.form.slots:
            total *= len(self.options(slot))
        return total

    def reply(self, slots: Slots, entry: Entry) -> str:
        """The answer to an instruction with these slots, about this input's entry."""
        if callable(self.answer):
            return self.answer(slots, entry)
        capital = {name.capitalize(): _capital(value) for name, value in slots.items()}
        return self.answer.format(**{**entry, **capital, **slots})


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
