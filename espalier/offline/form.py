"""A phrasing that can be written and read back: literal text, `{slots}`, `[a|b|]` choices."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import product
from random import Random
from typing import Generic, TypeVar

Slots = dict[str, str]
_PIECE = re.compile(r"(\{\w+\}|\[[^\]]*\])")
KEY_LENGTH = 2


class Form:
    """One phrasing of a task.

    `text` may hold `{slot}` fields, filled by the caller, and `[a|b|]` choices, filled at
    random and free when reading. `patterns` gives a slot's regular expression (default: any
    text). Matching is exact but for the case of the first letter.
    """

    def __init__(self, text: str, patterns: Mapping[str, str] | None = None) -> None:
        self.text = text
        self._patterns = dict(patterns or {})
        self._pieces = [piece for piece in _PIECE.split(text) if piece]
        self.slots = tuple(
            dict.fromkeys(piece[1:-1] for piece in self._pieces if piece.startswith("{"))
        )

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        parts: list[str] = []
        seen: set[str] = set()
        for piece in self._pieces:
            if piece.startswith("{"):
                name = piece[1:-1]
                pattern = self._patterns.get(name, r"[^\n]+?")
                parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>{pattern})")
                seen.add(name)
            elif piece.startswith("["):
                options = "|".join(re.escape(option) for option in piece[1:-1].split("|"))
                parts.append(f"(?:{options})")
            else:
                parts.append(re.escape(piece))
        return re.compile("".join(parts))

    def write(self, slots: Mapping[str, str], rng: Random) -> str:
        """The phrasing with its slots filled and each choice taken at random."""
        parts = []
        for piece in self._pieces:
            if piece.startswith("{"):
                parts.append(slots[piece[1:-1]])
            elif piece.startswith("["):
                parts.append(rng.choice(piece[1:-1].split("|")))
            else:
                parts.append(piece)
        return "".join(parts)

    def read(self, text: str) -> Slots | None:
        """The slots of a text of this phrasing; None for any other text."""
        match = self._regex.fullmatch(text)
        return match.groupdict() if match else None

    def openings(self) -> set[str]:
        """The possible first characters of the text, lower case; "" where a slot comes first."""
        heads = [""]
        for piece in self._pieces:
            if piece.startswith("{"):
                break
            options = piece[1:-1].split("|") if piece.startswith("[") else [piece]
            heads = [head + option for head, option in product(heads, options)]
            if all(len(head) >= KEY_LENGTH for head in heads):
                break
        return {head[:KEY_LENGTH].lower() if len(head) >= KEY_LENGTH else "" for head in heads}


Owner = TypeVar("Owner")


class FormIndex(Generic[Owner]):
    """Finds the phrasings that a text may have by its first characters."""

    def __init__(self, entries: Iterable[tuple[Form, Owner]]) -> None:
        self._by_key: dict[str, list[tuple[Form, Owner]]] = {}
        for form, owner in entries:
            for key in form.openings():
                self._by_key.setdefault(key, []).append((form, owner))
        self._anywhere = self._by_key.get("", [])

    def candidates(self, text: str) -> Sequence[tuple[Form, Owner]]:
        """Phrasings whose beginning agrees with the text, in the order given."""
        found = self._by_key.get(text[:KEY_LENGTH].lower(), [])
        return [*found, *self._anywhere] if self._anywhere else found
