"""From text to shingle hashes and band keys, in machine code.

The words are those of `espalier.text.tokens`: ASCII text is read byte by byte, other text is
folded (NFKC, lower case) by Python and then read by a table of what each code point is. Numbers:
a word's hash is 64 bits, a shingle's hash a polynomial of its words' hashes, mixed (the finaliser
of SplitMix64, Steele et al. 2014); a band key hashes the minima of `rows` of the permutations
x -> a·x + b (mod 2^32, a odd) over the upper halves of a set's shingle hashes.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random

import numpy as np
from numpy.typing import NDArray

from espalier.compiled import compiled
from espalier.text import is_cjk

U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

# Entries of the tables: a code point in the lower 21 bits, what it is in those above.
_CODE = np.uint32(0x1FFFFF)
_KIND_SHIFT = 21
_LETTER, _SINGLE, _MARK = np.uint32(1 << 21), np.uint32(1 << 22), np.uint32(1 << 23)
_HARD = np.uint32(0xFFFFFFFF)
# From U+323B0 on there are no scripts without spaces and nothing that folding changes, from
# U+20000 on marks only here.
_LAST_SINGLE = 0x323B0
_MARKS = (range(0x300, 0x20000), range(0xE0100, 0xE01F0))

_WORD_SEED = np.uint64(0x9E3779B97F4A7C15)
_WORD_FACTOR = np.uint64(0xD6E8FEB86659FD93)
_GRAM_FACTOR = np.uint64(0xA0761D6478BD642F)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_HALF = np.uint64(32)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)
_ONE, _ZERO = np.uint64(1), np.uint64(0)


@dataclass(frozen=True, slots=True)
class Hashing:
    """How texts are hashed: n-gram lengths, and the permutations of `bands` × `rows`."""

    ngram: int
    ngram_cjk: int
    rows: int
    factors: U32
    shifts: U32

    @classmethod
    def make(cls, *, ngram: int, ngram_cjk: int, bands: int, rows: int, seed: int) -> Hashing:
        """Permutations drawn from the seed, the same on every machine."""
        rng = Random(f"{seed}:permutations")
        count = bands * rows
        factors = np.array([rng.getrandbits(32) | 1 for _ in range(count)], dtype=np.uint32)
        shifts = np.array([rng.getrandbits(32) for _ in range(count)], dtype=np.uint32)
        return cls(ngram, ngram_cjk, rows, factors, shifts)


@dataclass(frozen=True, slots=True)
class Block:
    """Hashed texts: which they are (places in the list given), and their shingle sets.

    `flat` holds the upper halves of the distinct shingles of one text after the other (1 in the
    place of 0, which marks an empty slot where sets are compared), `sizes` how many each has,
    `sets` a 64-bit hash of each whole set, `keys` the band keys (texts × bands).
    """

    places: I64
    flat: U32
    sizes: I32
    sets: U64
    keys: U32


def hash_texts(data: U8, starts: I64, how: Hashing) -> list[Block]:
    """Hash UTF-8 texts (`encoded`), laid end to end; text i is data[starts[i]:starts[i + 1]].

    Gives a block of all texts and, where the folding of some depends on more than one code point
    at a time, a block of those again, which holds in place of what the first says of them.
    """
    folded, letters = _table_for(data), _ascii_letters()
    numbers = (how.ngram, how.ngram_cjk, how.rows, how.factors, how.shifts)
    hard = _needs_folding(data, starts, folded)
    blocks = [Block(np.arange(len(hard)), *_hash(data, starts, hard, letters, folded, *numbers))]
    places = np.flatnonzero(hard)
    if len(places):
        again, begins = encoded([_fold(data[starts[i] : starts[i + 1]]) for i in places.tolist()])
        easy = np.zeros(len(places), dtype=np.bool_)
        made = _hash(again, begins, easy, letters, code_point_table(), *numbers)
        blocks.append(Block(places, *made))
    return blocks


def hash_words(texts: Sequence[str]) -> tuple[U64, I64]:
    """A 64-bit hash (never 0) of each word of each text; text i has those from starts[i] on."""
    data, starts = encoded(texts)
    folded = _table_for(data)
    hard = _needs_folding(data, starts, folded)
    words, counts = _word_hashes(data, starts, _ascii_letters(), folded)
    ends = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=ends[1:])
    if not hard.any():
        return words, ends
    parts = [words[ends[i] : ends[i + 1]] for i in range(len(counts))]
    places = np.flatnonzero(hard).tolist()
    again, begins = encoded([_fold(data[starts[i] : starts[i + 1]]) for i in places])
    right, sizes = _word_hashes(again, begins, _ascii_letters(), code_point_table())
    for place, part in zip(places, np.split(right, np.cumsum(sizes)[:-1]), strict=True):
        parts[place] = part
    np.cumsum([len(part) for part in parts], out=ends[1:])
    return np.concatenate(parts), ends


def encoded(texts: Sequence[str]) -> tuple[U8, I64]:
    """Texts as one array of UTF-8 bytes (lone surrogates too), and where each starts."""
    parts = [text.encode("utf-8", "surrogatepass") for text in texts]
    starts = np.zeros(len(parts) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, parts), dtype=np.int64, count=len(parts)), out=starts[1:])
    return np.frombuffer(b"".join(parts), dtype=np.uint8), starts


def _fold(data: U8) -> str:
    text = data.tobytes().decode("utf-8", "surrogatepass")
    return unicodedata.normalize("NFKC", text).lower()


def _table_for(data: U8) -> U32:
    """The table of folded code points; where all is ASCII it is not looked into, nor made."""
    return fold_table() if data.max(initial=0) >= 128 else np.zeros(1, dtype=np.uint32)


@cache
def _ascii_letters() -> U8:
    """For each ASCII code its lower-case letter or digit, 0 for what belongs to no word."""
    table = np.zeros(128, dtype=np.uint8)
    for code in range(128):
        if chr(code).isalnum():
            table[code] = ord(chr(code).lower())
    return table


@cache
def code_point_table() -> U32:
    """For each code point itself and what it is: `_LETTER`, `_SINGLE`, `_MARK`, or nothing."""
    kinds = np.zeros(sys.maxunicode + 1, dtype=np.uint32)
    for run in re.finditer(r"[^\W_]+", "".join(map(chr, range(sys.maxunicode + 1)))):
        kinds[run.start() : run.end()] = _LETTER
    for code in range(128, _LAST_SINGLE):
        if is_cjk(chr(code)):
            kinds[code] |= _SINGLE
    for codes in _MARKS:
        for code in codes:
            if unicodedata.category(chr(code))[0] == "M":
                kinds[code] |= _MARK
    return kinds | np.arange(len(kinds), dtype=np.uint32)


@cache
def fold_table() -> U32:
    """For each code point what NFKC and lower case make of it and what that is, or `_HARD`.

    Hard are those that become several code points of which one counts, that combine with what
    stands before them, and the sigma, whose lower case depends on its place in the word.
    """
    kinds = code_point_table()
    later = _second_in_compositions()
    table = kinds.copy()
    # All at once: a line break folds to itself and combines with nothing.
    codes = [code for code in range(128, _LAST_SINGLE) if not 0xD800 <= code < 0xE000]
    whole = unicodedata.normalize("NFKC", "\n".join(map(chr, codes)))
    lower = whole.lower().split("\n")
    for code, made, low in zip(codes, whole.split("\n"), lower, strict=True):
        if unicodedata.combining(made[0]) or made[0] in later or "\u03a3" in made:
            table[code] = _HARD
        elif len(low) > 1:
            table[code] = _HARD if any(kinds[ord(c)] >> _KIND_SHIFT for c in low) else 0
        elif ord(low) != code:
            table[code] = kinds[ord(low)]
    return table


def _second_in_compositions() -> set[str]:
    """Code points that NFKC may join to the one before, other than combining marks."""
    found = {chr(code) for code in (*range(0x1161, 0x1176), *range(0x11A8, 0x11C3))}
    for code in range(_LAST_SINGLE):
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            found.add(chr(int(parts[1], 16)))
    return found


@compiled
def _mix(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> _S30)) * _MIX_1
    value = (value ^ (value >> _S27)) * _MIX_2
    return value ^ (value >> _S31)


@compiled
def _decode(data: U8, place: int) -> tuple[int, int]:
    """The code point whose UTF-8 form starts here, and the place behind it."""
    first = int(data[place])
    second = int(data[place + 1]) & 0x3F
    if first < 0xE0:
        return (first & 0x1F) << 6 | second, place + 2
    third = int(data[place + 2]) & 0x3F
    if first < 0xF0:
        return (first & 0x0F) << 12 | second << 6 | third, place + 3
    fourth = int(data[place + 3]) & 0x3F
    return (first & 0x07) << 18 | second << 12 | third << 6 | fourth, place + 4


@compiled
def _needs_folding(data: U8, starts: I64, table: U32) -> NDArray[np.bool_]:
    """Which texts hold a code point that the table can't fold."""
    hard = np.zeros(len(starts) - 1, dtype=np.bool_)
    for text in range(len(hard)):
        seen = np.uint8(0)
        for place in range(starts[text], starts[text + 1]):
            seen |= data[place]
        if seen < 128:
            continue
        place = starts[text]
        while place < starts[text + 1]:
            if data[place] < 128:
                place += 1
                continue
            code, place = _decode(data, place)
            if table[code] == _HARD:
                hard[text] = True
                break
    return hard


@compiled
def _words(data: U8, start: int, stop: int, letters: U8, table: U32, words: U64) -> tuple[int, int]:
    """Write the hash of each word; returns how many there are, how many single characters.

    A single character takes the marks that follow it; a word is a run of letters, each with
    its marks; a mark that follows neither belongs to nothing.
    """
    count = 0
    singles = 0
    value = _WORD_SEED
    state = 0  # 0 outside, 1 in a word of letters, 2 behind a single character
    place = start
    while place < stop:
        if state == 2 and data[place] < 128:
            words[count] = value
            count += 1
            value = _WORD_SEED
            state = 0
        # Without branches but the loop's: a store a byte costs less than a wrong guess a word.
        while place < stop and data[place] < 128:
            letter = letters[data[place]]
            words[count] = value
            here = 1 if letter else 0
            count += state & (1 - here)
            value = (value ^ np.uint64(letter)) * _WORD_FACTOR if letter else _WORD_SEED
            state = here
            place += 1
        if place == stop:
            break
        code, place = _decode(data, place)
        entry = table[code]
        if not (state and entry & _MARK):
            if state and (state == 2 or entry & _SINGLE or not entry & _LETTER):
                words[count] = value
                count += 1
                value = _WORD_SEED
            state = 2 if entry & _SINGLE else 1 if entry & _LETTER else 0
            singles += state == 2
        if state:
            value = (value ^ np.uint64(entry & _CODE)) * _WORD_FACTOR
    if state:
        words[count] = value
        count += 1
    return count, singles


@compiled
def _word_hashes(data: U8, starts: I64, letters: U8, table: U32) -> tuple[U64, I64]:
    """The mixed hashes of all words (0 becomes 1), and how many each text has."""
    words = np.empty(len(data) + 1, dtype=np.uint64)
    counts = np.empty(len(starts) - 1, dtype=np.int64)
    used = 0
    for text in range(len(counts)):
        start, stop = starts[text], starts[text + 1]
        count, _ = _words(data, start, stop, letters, table, words[used:])
        for place in range(used, used + count):
            words[place] = max(_mix(words[place]), _ONE)
        counts[text] = count
        used += count
    return words[:used].copy(), counts


@compiled
def _shingles(words: U64, count: int, ngram: int, grams: U64) -> int:
    """Hash the n-grams of the word hashes (overwritten); a short text is one n-gram."""
    if count == 0:
        return 0
    length = min(ngram, count)
    number = count - length + 1
    for place in range(count):
        words[place] = _mix(words[place])
    for place in range(number):
        value = np.uint64(length)
        for word in range(length):
            value = value * _GRAM_FACTOR + words[place + word]
        grams[place] = _mix(value)
    return number


@compiled
def _distinct(grams: U64, count: int, table: U64, out: U64) -> int:
    """Copy the distinct values (0 becomes 1) in their order; returns how many there are."""
    slots = _slots(count)
    table[:slots] = _ZERO
    mask = np.uint64(slots - 1)
    kept = 0
    for place in range(count):
        value = max(grams[place], _ONE)
        slot = value & mask
        while table[slot] != _ZERO and table[slot] != value:
            slot = (slot + _ONE) & mask
        if table[slot] == _ZERO:
            table[slot] = value
            out[kept] = value
            kept += 1
    return kept


@compiled
def _band_keys(shingles: U64, rows: int, factors: U32, shifts: U32, minima: U32, keys: U32) -> None:
    minima[:] = np.uint32(0xFFFFFFFF)
    place = 0
    # Four at a time: then the permutations are loaded once for four shingles.
    while place + 4 <= len(shingles):
        x1 = np.uint32(shingles[place] >> _HALF)
        x2 = np.uint32(shingles[place + 1] >> _HALF)
        x3 = np.uint32(shingles[place + 2] >> _HALF)
        x4 = np.uint32(shingles[place + 3] >> _HALF)
        for number in range(len(minima)):
            factor, shift = factors[number], shifts[number]
            one = min(np.uint32(x1 * factor + shift), np.uint32(x2 * factor + shift))
            two = min(np.uint32(x3 * factor + shift), np.uint32(x4 * factor + shift))
            minima[number] = min(minima[number], one, two)
        place += 4
    while place < len(shingles):
        x1 = np.uint32(shingles[place] >> _HALF)
        for number in range(len(minima)):
            one = np.uint32(x1 * factors[number] + shifts[number])
            minima[number] = min(minima[number], one)
        place += 1
    for band in range(len(keys)):
        key = np.uint64(band)
        for number in range(band * rows, band * rows + rows):
            key = (key ^ np.uint64(minima[number])) * _MIX_1
            key ^= key >> _HALF
        keys[band] = np.uint32(_mix(key) >> _HALF)


@compiled
def _shorten(shingles: U64, out: U32) -> None:
    for place in range(len(shingles)):
        upper = np.uint32(shingles[place] >> _HALF)
        out[place] = upper if upper else np.uint32(1)


@compiled
def _set_hash(shingles: U64) -> np.uint64:
    whole = np.uint64(len(shingles))
    for shingle in shingles:
        whole += _mix(shingle)
    return _mix(whole)


@compiled
def _slots(longest: int) -> int:
    """Slots of a hash table for this many values: a power of two, at most a quarter filled."""
    slots = 4
    while slots < 4 * longest:
        slots *= 2
    return slots


@compiled
def _hash(
    data: U8,
    starts: I64,
    skip: NDArray[np.bool_],
    letters: U8,
    table: U32,
    ngram: int,
    ngram_cjk: int,
    rows: int,
    factors: U32,
    shifts: U32,
) -> tuple[U32, I32, U64, U32]:
    """The fields of a Block behind its places; texts to skip have no shingles."""
    texts = len(skip)
    longest = 1
    for text in range(texts):
        longest = max(longest, starts[text + 1] - starts[text] + 1)
    words = np.empty(longest, dtype=np.uint64)
    grams = np.empty(longest, dtype=np.uint64)
    slots = np.empty(_slots(longest), dtype=np.uint64)
    minima = np.empty(len(factors), dtype=np.uint32)
    distinct = np.empty(longest, dtype=np.uint64)
    flat = np.empty(len(data) + texts, dtype=np.uint32)
    sizes = np.zeros(texts, dtype=np.int32)
    sets = np.zeros(texts, dtype=np.uint64)
    keys = np.zeros((texts, len(factors) // rows), dtype=np.uint32)
    used = 0
    for text in range(texts):
        if skip[text]:
            continue
        count, singles = _words(data, starts[text], starts[text + 1], letters, table, words)
        length = ngram_cjk if 2 * singles > count else ngram
        size = _distinct(grams, _shingles(words, count, length, grams), slots, distinct)
        shingles = distinct[:size]
        _shorten(shingles, flat[used:])
        sizes[text] = size
        sets[text] = _set_hash(shingles)
        _band_keys(shingles, rows, factors, shifts, minima, keys[text])
        used += size
    return flat[:used].copy(), sizes, sets, keys
