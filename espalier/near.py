"""Near-duplicate search by exact Jaccard similarity of shingle sets."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

_FIRST_REBUILD = 64
_REBUILD_GROWTH = 3


class JaccardIndex:
    """A growing set of keyed shingle sets, searched for all with Jaccard ≥ threshold.

    Exact: J(x, y) ≥ t needs an overlap of at least t/(1+t)·(|x|+|y|), hence a common shingle
    among the first |x| − ⌈t|x|⌉ + 1 of either set in one global order, rarest first (prefix
    filter; Chaudhuri et al. 2006, AllPairs of Bayardo et al. 2007). Candidates are verified on
    the sets themselves, in integers.
    """

    def __init__(self, threshold: float = 0.7) -> None:
        exact = Fraction(str(threshold))
        if not 0 < exact <= 1:
            raise ValueError(f"threshold is {threshold}, expected a number above 0, at most 1")
        self._num, self._den = exact.numerator, exact.denominator
        self._keys: list[str] = []
        self._sets: list[frozenset[int]] = []
        self._rank: dict[int, int] = {}
        self._newest_rank = 0
        self._postings: dict[int, list[int]] = {}
        self._next_rebuild = _FIRST_REBUILD

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: str, shingles: frozenset[int]) -> None:
        """Put a set under a key (keys need not be unique); an empty set is never near anything."""
        self._keys.append(key)
        self._sets.append(shingles)
        if len(self._keys) >= self._next_rebuild:
            self._rebuild()
        else:
            self._post(len(self._keys) - 1)

    def matches(self, shingles: frozenset[int]) -> list[tuple[str, float]]:
        """(key, Jaccard) of every member at or above the threshold, best first, then oldest."""
        found = []
        m = len(shingles)
        for index in self._candidates(shingles):
            other = self._sets[index]
            common = len(shingles & other)
            union = m + len(other) - common
            if common * self._den >= self._num * union:
                found.append((-common / union, index))
        found.sort()
        return [(self._keys[index], -negative) for negative, index in found]

    def _least(self, size: int) -> int:
        """The smallest overlap with any partner: ⌈t · size⌉."""
        return -(-self._num * size // self._den)

    def _candidates(self, shingles: frozenset[int]) -> set[int]:
        m = len(shingles)
        least = self._least(m)
        rank = self._rank
        known = [shingle for shingle in shingles if shingle in rank]
        if not m or len(known) < least:
            return set()
        # Unknown shingles are the rarest: they come first in the order and match nothing.
        known.sort(key=rank.__getitem__)
        longest = m * self._den // self._num
        found: set[int] = set()
        for shingle in known[: len(known) - least + 1]:
            found.update(self._postings.get(shingle, ()))
        return {index for index in found if least <= len(self._sets[index]) <= longest}

    def _post(self, index: int) -> None:
        shingles = self._sets[index]
        rank = self._rank
        for shingle in sorted(shingle for shingle in shingles if shingle not in rank):
            self._newest_rank -= 1
            rank[shingle] = self._newest_rank
        ordered = sorted(shingles, key=rank.__getitem__)
        for shingle in ordered[: len(ordered) - self._least(len(ordered)) + 1]:
            self._postings.setdefault(shingle, []).append(index)

    def _rebuild(self) -> None:
        counts = Counter(shingle for shingles in self._sets for shingle in shingles)
        order = sorted(counts, key=lambda shingle: (counts[shingle], shingle))
        self._rank = {shingle: place for place, shingle in enumerate(order)}
        self._newest_rank = 0
        self._postings = {}
        for index in range(len(self._sets)):
            self._post(index)
        self._next_rebuild = len(self._keys) * _REBUILD_GROWTH
