"""Common words, word pairs and subsequences of many pairs of texts, in machine code."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from espalier.compiled import compiled

U64 = NDArray[np.uint64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_ONE, _ZERO = np.uint64(1), np.uint64(0)
_PAIR = np.uint64(0xA0761D6478BD642F)
_TURN = np.uint64(29)
_WORD = 64


@compiled
def _slot(value: np.uint64, keys: U64, mask: np.uint64) -> int:
    """Where a value is in the table, or the free slot (key 0) where it belongs."""
    slot = (value ^ (value >> _TURN)) & mask
    while keys[slot] != _ZERO and keys[slot] != value:
        slot = (slot + _ONE) & mask
    return int(slot)


@compiled
def _slots(longest: int) -> int:
    slots = 4
    while slots < 2 * longest:
        slots *= 2
    return slots


@compiled
def _clipped(one: U64, other: U64, keys: U64, counts: I32) -> int:
    """How many values both have, each as often as the one that has it less often."""
    slots = _slots(len(one))
    keys[:slots] = _ZERO
    counts[:slots] = 0
    mask = np.uint64(slots - 1)
    for value in one:
        slot = _slot(value, keys, mask)
        keys[slot] = value
        counts[slot] += 1
    common = 0
    for value in other:
        slot = _slot(value, keys, mask)
        if counts[slot] > 0:
            counts[slot] -= 1
            common += 1
    return common


@compiled
def _subsequence(one: U64, other: U64, keys: U64, counts: I32, bits: U64, row: U64) -> int:
    """Length of the longest common subsequence, 64 places at a time (Hyyrö 2004).

    Bit i of `row` is 0 where the length grows at word i of `one`; `bits` holds, for each distinct
    word of `one`, the places where it stands.
    """
    slots = _slots(len(one))
    keys[:slots] = _ZERO
    mask = np.uint64(slots - 1)
    blocks = (len(one) + _WORD - 1) // _WORD
    distinct = 0
    for place in range(len(one)):
        slot = _slot(one[place], keys, mask)
        if keys[slot] == _ZERO:
            keys[slot] = one[place]
            counts[slot] = distinct
            bits[distinct * blocks : (distinct + 1) * blocks] = _ZERO
            distinct += 1
        bits[counts[slot] * blocks + place // _WORD] |= _ONE << np.uint64(place % _WORD)
    row[:blocks] = ~_ZERO
    for value in other:
        slot = _slot(value, keys, mask)
        if keys[slot] == _ZERO:
            continue
        first = counts[slot] * blocks
        carry = _ZERO
        for block in range(blocks):
            here = row[block]
            match = here & bits[first + block]
            total = here + match
            over = np.uint64(total < here)
            total += carry
            over |= np.uint64(total < carry)
            row[block] = total | (here - match)
            carry = over
    length = 0
    for place in range(len(one)):
        length += not (row[place // _WORD] >> np.uint64(place % _WORD)) & _ONE
    return length


@compiled
def overlap_counts(words: U64, starts: I64, others: U64, other_starts: I64) -> I64:
    """(pairs, 3): common words, common pairs of neighbouring words, longest subsequence.

    Text i of a side is words[starts[i]:starts[i + 1]], each word a 64-bit hash other than 0.
    """
    pairs = len(starts) - 1
    longest = 1
    for pair in range(pairs):
        length = min(starts[pair + 1] - starts[pair], other_starts[pair + 1] - other_starts[pair])
        longest = max(longest, length)
    keys = np.empty(_slots(longest), dtype=np.uint64)
    counts = np.empty(_slots(longest), dtype=np.int32)
    blocks = (longest + _WORD - 1) // _WORD
    bits = np.empty(longest * blocks, dtype=np.uint64)
    row = np.empty(blocks, dtype=np.uint64)
    pairs_of, other_pairs = _neighbours(words), _neighbours(others)
    found = np.zeros((pairs, 3), dtype=np.int64)
    for pair in range(pairs):
        a, b = starts[pair], starts[pair + 1]
        c, d = other_starts[pair], other_starts[pair + 1]
        # All three are symmetric: the tables are made of the shorter text.
        if b - a <= d - c:
            one, other = words[a:b], others[c:d]
            doubles, other_doubles = pairs_of[a : b - 1], other_pairs[c : d - 1]
        else:
            one, other = others[c:d], words[a:b]
            doubles, other_doubles = other_pairs[c : d - 1], pairs_of[a : b - 1]
        found[pair, 0] = _clipped(one, other, keys, counts)
        if found[pair, 0]:
            found[pair, 1] = _clipped(doubles, other_doubles, keys, counts)
            found[pair, 2] = _subsequence(one, other, keys, counts, bits, row)
    return found


@compiled
def _neighbours(words: U64) -> U64:
    """A hash of each word with the next."""
    pairs = np.empty(len(words), dtype=np.uint64)
    for place in range(len(words) - 1):
        value = (words[place] * _PAIR) ^ (words[place] >> _TURN)
        value = (value + words[place + 1]) * _PAIR
        pairs[place] = max(value ^ (value >> _TURN), _ONE)
    return pairs
