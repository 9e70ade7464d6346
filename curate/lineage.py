"""Rows that go back to one: the parts of a dialogue, an instruction and what was made of it."""

from __future__ import annotations

from espalier.records import Example, dialogue_of


def parents_of_made(row: Example) -> list[str]:
    """The parents of what is made of a row: itself, and of a part what it goes back to."""
    return [row.id] if dialogue_of(row) is None else [row.id, *row.meta["parents"]]


def root_of(row: Example) -> str:
    """The id of the row that this one goes back to: its dialogue, the instruction that it was
    evolved from, or itself.

    Rows that a model only saw as examples (Self-Instruct) are no roots: what it wrote is new.
    """
    dialogue = dialogue_of(row)
    if dialogue is not None:
        return dialogue
    root = row.meta.get("root")
    evolved = str(row.meta.get("operator", "")).startswith("evolve:")
    return root if evolved and isinstance(root, str) else row.id
