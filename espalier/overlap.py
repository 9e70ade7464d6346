"""Overlap of token sequences: LCS, ROUGE-L, ROUGE-N, and an exact search for near repeats.

Everything here counts tokens that the caller made (`espalier.text.tokens`), so it is right for
Chinese as for English.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from rapidfuzz.distance import LCSseq

from espalier.errors import StageError
from espalier.text import ngrams

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Ranks are worked out afresh whenever the pool has grown by this factor.
_REBUILD_GROWTH = 3
_FIRST_REBUILD = 64


@dataclass(frozen=True, slots=True)
class Overlap:
    """Shares of the candidate (precision) and of the reference (recall), and their F1, in 0..1."""

    precision: float
    recall: float
    f1: float


def lcs(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence, by rapidfuzz's bit-parallel algorithm."""
    ids: dict[Hashable, int] = {}
    left = [ids.setdefault(item, len(ids)) for item in a]
    right = [ids.setdefault(item, len(ids)) for item in b]
    return int(LCSseq.similarity(left, right))


def _overlap(common: int, candidate: int, reference: int) -> Overlap:
    if common == 0:
        return Overlap(0.0, 0.0, 0.0)
    precision, recall = common / candidate, common / reference
    return Overlap(precision, recall, 2 * precision * recall / (precision + recall))


def rouge_l(candidate: Sequence[str], reference: Sequence[str]) -> Overlap:
    """ROUGE-L of two token sequences (Lin 2004, sentence level); zero when either is empty."""
    return _overlap(lcs(candidate, reference), len(candidate), len(reference))


def rouge_n(candidate: Sequence[str], reference: Sequence[str], n: int) -> Overlap:
    """ROUGE-N of two token sequences: clipped n-gram counts; zero when either has none."""
    left, right = Counter(ngrams(candidate, n)), Counter(ngrams(reference, n))
    common = sum([min(left[gram], right[gram]) for gram in left.keys() & right.keys()])
    return _overlap(common, left.total(), right.total())


def rouge_scores(candidates: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
    """ROUGE-1, -2 and -L of pairs of texts, all at once: (pairs, 3, 3), in 0..1.

    The second axis is rouge1, rouge2, rougeL, the third precision, recall, F1. The numbers are
    those of `rouge_n` and `rouge_l` on `espalier.text.tokens`; words are compared by 64-bit
    hashes. Raises ValueError for sequences of different lengths.
    """
    import numpy as np

    from espalier.hashing import hash_words
    from espalier.overlap_counts import overlap_counts

    if len(candidates) != len(references):
        raise ValueError(f"{len(candidates)} candidates and {len(references)} references")
    words, starts = hash_words(candidates)
    others, other_starts = hash_words(references)
    common = overlap_counts(words, starts, others, other_starts).astype(np.float64)
    totals = []
    for lengths in (np.diff(starts), np.diff(other_starts)):
        totals.append(np.stack([lengths, np.maximum(lengths - 1, 0), lengths], axis=1))
    precision, recall = (common / np.maximum(total, 1) for total in totals)
    f1 = 2 * precision * recall / np.where(common > 0, precision + recall, 1.0)
    return np.stack([precision, recall, f1], axis=2)


@dataclass(frozen=True, slots=True)
class _Entry:
    text: str  # token ids as characters: rapidfuzz compares strings without conversion
    marks: tuple[int, ...]  # ids of (token, how many of it came before): the multiset as a set


class NoveltyIndex:
    """A growing pool that answers: which member has the highest ROUGE-L F1 above a threshold?

    The answer is exact. F1 = 2·LCS/(m+n) > t needs LCS > t(m+n)/2, and the LCS is at most the
    overlap of the two multisets of tokens, so two such sequences share a token among the first
    m−α+1 and n−α+1 of their rarest-first orders, α being the smallest admissible overlap (the
    prefix filter of Chaudhuri et al. 2006, positional as in Xiao et al. 2008). Candidates are
    looked up by those tokens and verified by LCS; ties are settled in integers: for t = 7/10
    a sequence is near when 20·LCS > 7·(m+n).
    """

    def __init__(self, threshold: Fraction | float = 0.7) -> None:
        exact = Fraction(str(threshold)) if isinstance(threshold, float) else Fraction(threshold)
        if not 0 < exact <= 1:
            raise ValueError(f"threshold is {threshold}, expected a number above 0, at most 1")
        self.threshold = exact
        self._num, self._den = exact.numerator, exact.denominator
        self._ids: dict[str, int] = {}
        self._mark_ids: dict[tuple[int, int], int] = {}
        self._entries: list[_Entry] = []
        self._rank: list[int] = []  # of each mark: the smaller, the rarer
        self._newest_rank = 0
        # of each mark: (entry, its length, position of the mark in its rarest-first order)
        self._postings: list[list[tuple[int, int, int]]] = []
        self._next_rebuild = _FIRST_REBUILD

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, tokens: Sequence[str]) -> int:
        """Put a sequence into the pool; returns its index (0, 1, …)."""
        index = len(self._entries)
        self._entries.append(self._encode(tokens))
        if len(self._entries) >= self._next_rebuild:
            self._rebuild()
        else:
            self._post(index)
        return index

    def nearest(self, tokens: Sequence[str]) -> tuple[int | None, float]:
        """Index and F1 of the best member above the threshold, the earliest of equals.

        (None, 0.0) when there is none: the sequence is novel.
        """
        query = self._encode(tokens)
        m = len(query.text)
        best: int | None = None
        best_lcs, best_sum = 0, 1
        for index in self._candidates(query):
            n = len(self._entries[index].text)
            common = int(LCSseq.similarity(query.text, self._entries[index].text))
            if 2 * common * self._den <= self._num * (m + n):
                continue
            difference = common * best_sum - best_lcs * (m + n)
            if best is None or difference > 0 or (difference == 0 and index < best):
                best, best_lcs, best_sum = index, common, m + n
        return best, 2 * best_lcs / best_sum

    def _needed(self, m: int, n: int) -> int:
        """The smallest overlap that puts lengths m and n above the threshold."""
        return self._num * (m + n) // (2 * self._den) + 1

    def _shortest(self, n: int) -> int:
        """The shortest partner that a sequence of length n can be near to."""
        # m >= overlap > t(m+n)/2 gives m(2-t) > tn.
        return self._num * n // (2 * self._den - self._num) + 1

    def _encode(self, tokens: Sequence[str]) -> _Entry:
        ids, mark_ids = self._ids, self._mark_ids
        codes = [ids.setdefault(token, len(ids)) for token in tokens]
        if len(ids) > sys.maxunicode:
            raise StageError(
                f"The texts hold over {sys.maxunicode:,} different words, too many for ROUGE-L.",
                hint="compare by n-grams: curate.dedup.near.method: minhash",
            )
        seen: dict[int, int] = {}
        marks = []
        for code in codes:
            before = seen.get(code, 0)
            seen[code] = before + 1
            marks.append(mark_ids.setdefault((code, before), len(mark_ids)))
        while len(self._rank) < len(mark_ids):  # unknown so far, hence rarer than all known
            self._newest_rank -= 1
            self._rank.append(self._newest_rank)
            self._postings.append([])
        return _Entry("".join(map(chr, codes)), tuple(marks))

    def _rarest_first(self, entry: _Entry) -> list[int]:
        return sorted(entry.marks, key=self._rank.__getitem__)

    def _post(self, index: int) -> None:
        entry = self._entries[index]
        n = len(entry.text)
        prefix = n - self._needed(self._shortest(n), n) + 1
        for position, mark in enumerate(self._rarest_first(entry)[: max(prefix, 0)]):
            self._postings[mark].append((index, n, position))

    def _candidates(self, query: _Entry) -> set[int]:
        m = len(query.text)
        shortest = self._shortest(m)
        prefix = m - self._needed(shortest, m) + 1
        found: set[int] = set()
        for position, mark in enumerate(self._rarest_first(query)[: max(prefix, 0)]):
            rest = m - position
            for index, n, other in self._postings[mark]:
                # Whichever common mark comes first, at most this much follows in both.
                if n >= shortest and min(rest, n - other) >= self._needed(m, n):
                    found.add(index)
        return found

    def _rebuild(self) -> None:
        counts = Counter(mark for entry in self._entries for mark in entry.marks)
        order = sorted(range(len(self._rank)), key=lambda mark: (counts[mark], mark))
        for place, mark in enumerate(order):
            self._rank[mark] = place
        self._newest_rank = 0
        self._postings = [[] for _ in order]
        for index in range(len(self._entries)):
            self._post(index)
        self._next_rebuild = len(self._entries) * _REBUILD_GROWTH
