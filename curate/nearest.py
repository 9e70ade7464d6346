"""The nearest tasks of a pool and the mean similarity, for a new row's metadata.

Self-Instruct keeps the ten most similar instructions and the mean ROUGE-L with every kept row.
That needs the similarity to the whole pool, so it is done for kept instructions only; whether
one is kept is decided by the index of `novelty`, which looks at a small part of the pool.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
from rapidfuzz.distance import LCSseq
from rapidfuzz.process import cdist

from espalier.text import tokens


class NearestTasks:
    """A growing pool of instructions with ids; ROUGE-L F1 = 2·LCS/(m+n) on `text.tokens`."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._codes: dict[str, int] = {}
        self._names: list[str] = []
        self._texts: list[str] = []  # token ids as characters: rapidfuzz needs no conversion
        self._lengths = array("q")

    def add(self, name: str, instruction: str) -> None:
        """Put an instruction into the pool."""
        if self._count:
            text = self._encode(tokens(instruction))
            self._names.append(name)
            self._texts.append(text)
            self._lengths.append(len(text))

    def meta(self, instruction: str) -> dict[str, object]:
        """`nearest`, a list of [id, F1] with the highest first (the earliest of equals), and
        `nearest_mean`, the mean F1 over the pool; nothing when switched off or empty.
        """
        if not self._texts:
            return {}
        query = self._encode(tokens(instruction))
        common = cdist([query], self._texts, scorer=LCSseq.similarity, dtype=np.int64)[0]
        # A pair of texts without words has nothing in common.
        sums = np.maximum(np.frombuffer(self._lengths, dtype=np.int64) + len(query), 1)
        f1 = 2.0 * common / sums
        count = min(self._count, len(f1))
        least = np.partition(f1, -count)[-count]
        places = np.flatnonzero(f1 >= least)
        best = places[np.argsort(-f1[places], kind="stable")][:count]
        return {
            "nearest": [[self._names[place], round(float(f1[place]), 6)] for place in best],
            "nearest_mean": round(float(f1.mean()), 6),
        }

    def _encode(self, words: Sequence[str]) -> str:
        codes = self._codes
        return "".join(chr(codes.setdefault(word, len(codes))) for word in words)
