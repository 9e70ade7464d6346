"""Rows that no split may tear apart: those of one prompt, and the parts of one dialogue."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import NamedTuple


class Together(NamedTuple):
    """The places of rows that belong together.

    `linked`: a prompt that several dialogues have in common ("go on") holds them together. There
    may be many of these in one such group, so a split that wants few rows takes it last.
    """

    places: list[int]
    linked: bool


def together(rows: Iterable[tuple[Hashable, Hashable | None]]) -> list[Together]:
    """Groups of rows, each given by its prompt and its dialogue (None for a row that is whole), in
    the order of their first rows: rows with an equal prompt or dialogue, directly or through
    others, are in one."""
    above: dict[Hashable, Hashable] = {}

    def top(name: Hashable) -> Hashable:
        while (higher := above.setdefault(name, name)) != name:
            # Half of the way is cut off for the next one who asks.
            above[name] = above[higher]
            name = higher
        return name

    given = list(rows)
    for prompt, dialogue in given:
        if dialogue is not None:
            above[top(("dialogue", dialogue))] = top(("prompt", prompt))
    places: dict[Hashable, list[int]] = {}
    units: dict[Hashable, set[Hashable]] = {}
    for place, (prompt, dialogue) in enumerate(given):
        name = top(("prompt", prompt))
        places.setdefault(name, []).append(place)
        units.setdefault(name, set()).add(dialogue)
    return [Together(own, len(units[name]) > 1) for name, own in places.items()]
