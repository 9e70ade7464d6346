"""Which runs of words does a text share with evaluation texts? An exact n-gram index.

The rule of Brown et al. 2020 ("Language Models are Few-Shot Learners", appendix C): a text is
contaminated where it shares 13 words in a row with an evaluation text, case and punctuation
aside. Words are those of `espalier.text.tokens`, so 13 characters of Chinese. Shorter
evaluation texts count when they occur whole and have at least 8 words (the least length there).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

from espalier.errors import StageError
from espalier.near import JaccardIndex
from espalier.text import normalise, shingles, token_spans, tokens

# A run of words is looked for where one of its pieces of this many words is known.
_ANCHOR = 5
# Rows remembered for one n-gram; more of them would say nothing new.
_POSTINGS = 100
_UNKNOWN = "\0"
_OPENING_WORDS = 3
_OPENING_CHARACTERS = 80
_FIRST_CODE = 1
_LAST_CODE = 0x10FFFF


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a text that evaluation texts share, as long as can be.

    `start` and `end` are character offsets in the text, `tokens` the words between them. `key` is
    the evaluation row that shares most words in a row (`longest` of them), and `share` says how
    much of that evaluation text those are, in 0..1. `keys` are all rows that share n words or
    more (or occur whole), at most 100 an n-gram, `key` first; `shares` are theirs.
    """

    start: int
    end: int
    tokens: int
    key: str
    longest: int
    share: float
    keys: tuple[str, ...]
    shares: tuple[float, ...] = ()


@dataclass(slots=True)
class _Run:
    """Tokens start..stop of a text, and the longest run in one evaluation text."""

    start: int
    stop: int
    entries: dict[int, int]  # of each evaluation text: its longest run here


class Vocabulary:
    """One character for each word of the evaluation texts."""

    def __init__(self) -> None:
        self._codes: dict[str, str] = {}

    def learn(self, text: str) -> str:
        """The words of a text as a string, new ones taken in.

        Raises StageError when the evaluation texts have more than 1,114,111 distinct words.
        """
        codes = self._codes
        words = tokens(text)
        for word in words:
            if word not in codes:
                if len(codes) + _FIRST_CODE > _LAST_CODE:
                    raise StageError(
                        "The evaluation files have too many distinct words to compare with.",
                        expected=f"at most {_LAST_CODE - _FIRST_CODE + 1:,}",
                        hint="give fewer evaluation files",
                    )
                codes[word] = chr(len(codes) + _FIRST_CODE)
        return "".join([codes[word] for word in words])

    def encode(self, text: str) -> str:
        """The words of a text as a string, unknown ones as NUL."""
        return "".join(map(self._codes.get, tokens(text), repeat(_UNKNOWN)))


class EqualTexts:
    """Texts, searched for one that equals another after normalisation."""

    def __init__(self) -> None:
        self._keys: dict[str, str] = {}
        self._openings: set[tuple[str, ...]] = set()

    def add(self, key: str, text: str) -> None:
        """Put a text under a key; of equal texts the first counts, one of blanks never."""
        same = normalise(text)
        if same:
            self._keys.setdefault(same, key)
            self._openings.add(tuple(same.split()[:_OPENING_WORDS]))

    def find(self, text: str) -> str | None:
        """The key of the text that equals this one, if there is one."""
        # The beginning settles it for nearly all texts; its last word may be cut.
        opening = normalise(text[:_OPENING_CHARACTERS]).split()
        if len(opening) > _OPENING_WORDS and tuple(opening[:_OPENING_WORDS]) not in self._openings:
            return None
        return self._keys.get(normalise(text))


class NearTexts:
    """Texts, searched for all whose word n-grams have Jaccard ≥ threshold with a given one.

    What `JaccardIndex` finds on `shingles`; but a text of which too few n-grams are known is let
    go before they are hashed, and that is nearly every one.
    """

    def __init__(
        self, threshold: float = 0.7, n: int = 5, vocabulary: Vocabulary | None = None
    ) -> None:
        self._index = JaccardIndex(threshold)
        self._threshold = threshold
        self._n = n
        self._vocabulary = vocabulary or Vocabulary()
        self._grams: set[str] = set()

    def __len__(self) -> int:
        return len(self._index)

    def add(self, key: str, text: str) -> None:
        """Put a text under a key; one without words is never near anything."""
        self._index.add(key, shingles(text, self._n))
        codes = self._vocabulary.learn(text)
        if len(codes) < self._n:
            self._grams.add(codes)
        else:
            self._grams |= self._pieces(codes)

    def matches(self, text: str, codes: str | None = None) -> list[tuple[str, float]]:
        """(key, Jaccard) of every text at or above the threshold, best first, then oldest.

        `codes`: what the vocabulary makes of the text, if it is known already.
        """
        if codes is None:
            codes = self._vocabulary.encode(text)
        if not self._may_match(codes):
            return []
        return self._index.matches(shingles(text, self._n))

    def _may_match(self, codes: str) -> bool:
        """Whether enough n-grams are known: common ≥ t·union ≥ t·mine.

        Those with an unknown word count as one here, which can only let more through.
        """
        n = self._n
        if len(codes) < n:
            return codes in self._grams
        mine: set[str] = set()
        for part in codes.split(_UNKNOWN):
            if len(part) >= n:
                mine |= self._pieces(part)
        known = len(mine & self._grams)
        return known > 0 and known >= self._threshold * (len(mine) + (_UNKNOWN in codes)) - 1e-9

    def _pieces(self, codes: str) -> set[str]:
        n = self._n
        return {codes[start : start + n] for start in range(len(codes) - n + 1)}


class NgramIndex:
    """Evaluation texts, searched for what another text shares with them.

    Each known word is one character of a string, so that an n-gram is a slice of it. A shared run
    of k words holds a whole anchor (5 words) at one of any k − 4 places in a row; so only every
    (k − 4)th place of a text is looked up, k being the shortest run that counts. Memory grows with
    the evaluation texts alone, by about 400 bytes a word of theirs.
    """

    def __init__(
        self,
        n: int = 13,
        shortest: int = 8,
        max_rows: int | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        """`n`: words of an n-gram; `shortest`: words of an evaluation text that still counts;
        `max_rows`: n-grams of more evaluation rows than this are boilerplate and are ignored."""
        if n < 1 or shortest < 1:
            raise ValueError(f"n is {n} and shortest is {shortest}, expected 1 or more")
        self.n = n
        self.shortest = min(shortest, n)
        self.max_rows = max_rows
        self._anchor = min(_ANCHOR, self.shortest)
        self._stride = self.shortest - self._anchor + 1
        self._vocabulary = vocabulary or Vocabulary()
        self._anchors: set[str] = set()
        # How n-grams and short texts begin, and the lengths of those that begin so.
        self._lengths: dict[str, tuple[int, ...]] = {}
        # An n-gram (or a short text): the evaluation texts and places that hold it, packed as
        # text << 32 | place; most n-grams have one place.
        self._postings: dict[str, int | array[int]] = {}
        self._keys: list[str] = []
        self._sizes: list[int] = []
        self._rows: set[str] = set()
        self._limit = _POSTINGS if max_rows is None else max(_POSTINGS, max_rows + 1)

    def __len__(self) -> int:
        """How many evaluation rows are in the index."""
        return len(self._rows)

    def add(self, key: str, text: str) -> None:
        """Put a text of the evaluation row `key` into the index (a row may have several).

        A text of fewer than `shortest` words is never found.
        """
        self._rows.add(key)
        codes = self._vocabulary.learn(text)
        size = len(codes)
        if size < self.shortest:
            return
        entry = len(self._keys)
        self._keys.append(key)
        self._sizes.append(size)
        length = min(self.n, size)
        for start in range(size - length + 1):
            self._post(codes[start : start + length], entry, start)
        step = self._anchor
        self._anchors.update(codes[start : start + step] for start in range(size - step + 1))

    def spans(self, text: str, codes: str | None = None) -> list[Span]:
        """All that a text shares with the index: maximal, apart, in order.

        `codes`: what the vocabulary makes of the text, if it is known already.
        """
        runs = self._runs(self._vocabulary.encode(text) if codes is None else codes)
        return self._spans(text, runs) if runs else []

    def _post(self, gram: str, entry: int, start: int) -> None:
        place = entry << 32 | start
        before = self._postings.setdefault(gram, place)
        if before == place:
            self._begin(gram)
            return
        last = before if isinstance(before, int) else before[-1]
        if self._keys[last >> 32] == self._keys[entry]:
            return  # another place of the same row
        if isinstance(before, int):
            self._postings[gram] = array("q", [before, place])
        elif len(before) < self._limit:
            before.append(place)

    def _begin(self, gram: str) -> None:
        beginning, length = gram[: self.shortest], len(gram)
        lengths = self._lengths.get(beginning, ())
        if length not in lengths:
            self._lengths[beginning] = tuple(sorted((*lengths, length)))

    def _runs(self, codes: str) -> list[_Run]:
        """Merged runs of tokens, from the stretches of known words."""
        runs: list[_Run] = []
        at = 0
        for part in codes.split(_UNKNOWN):
            if len(part) >= self.shortest:
                for run in self._runs_of(part):
                    run.start += at
                    run.stop += at
                    runs.append(run)
            at += len(part) + 1
        return runs

    def _runs_of(self, part: str) -> list[_Run]:
        anchors, step = self._anchors, self._anchor
        places = range(0, len(part) - step + 1, self._stride)
        hits = [place for place in places if part[place : place + step] in anchors]
        if not hits:
            return []
        runs: list[_Run] = []
        active: dict[tuple[int, int], int] = {}  # evaluation text, diagonal: where its run began
        before = -1
        for start in _near(hits, self.n, len(part)):
            found = self._at(part, start)
            if start != before + 1:
                active = {}
            before, going = start, {}
            for entry, place, length in found:
                diagonal = (entry, place - start)
                began = going[diagonal] = active.get(diagonal, start)
                stop = start + length
                if runs and start < runs[-1].stop:
                    runs[-1].stop = max(runs[-1].stop, stop)
                else:
                    runs.append(_Run(start, stop, {}))
                entries = runs[-1].entries
                entries[entry] = max(entries.get(entry, 0), stop - began)
            active = going
        return runs

    def _at(self, part: str, start: int) -> list[tuple[int, int, int]]:
        """(evaluation text, its place, length) of the n-grams and short texts that begin here."""
        found = []
        for length in self._lengths.get(part[start : start + self.shortest], ()):
            if start + length > len(part):
                break
            postings = self._postings.get(part[start : start + length])
            if postings is None:
                continue
            places = (postings,) if isinstance(postings, int) else postings
            if self.max_rows is None or len(places) <= self.max_rows:
                found += [(place >> 32, place & 0xFFFFFFFF, length) for place in places]
        return found

    def _spans(self, text: str, runs: Sequence[_Run]) -> list[Span]:
        places = token_spans(text)
        spans = []
        for run in runs:
            # The longest run first; of equal ones the text that came first.
            ranked = sorted(run.entries, key=lambda entry: (-run.entries[entry], entry))
            longest_of: dict[str, int] = {}
            for entry in ranked:
                longest_of.setdefault(self._keys[entry], entry)
            shares = tuple(run.entries[e] / self._sizes[e] for e in longest_of.values())
            start, end = places[run.start][1], places[run.stop - 1][2]
            spans.append(
                Span(
                    start,
                    end,
                    run.stop - run.start,
                    self._keys[ranked[0]],
                    run.entries[ranked[0]],
                    shares[0],
                    tuple(longest_of),
                    shares,
                )
            )
        return spans


def _near(hits: Sequence[int], n: int, size: int) -> list[int]:
    """The places from which an n-gram could reach over one of the anchors found, in order."""
    places: list[int] = []
    done = 0
    for hit in hits:
        first = max(done, hit - n + 1)
        places.extend(range(first, min(hit + 1, size)))
        done = max(done, hit + 1)
    return places
