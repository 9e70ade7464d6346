"""Passages that come again, however far apart, taken out of a text before it is deflated.

Deflate sees 32 KiB back. The texts of an evaluation repeat over megabytes: one document under
several prompts, the same few shots before every question, answers that quote their prompts. This
is the first half of what rzip does (Tridgell 1999): every window of `WINDOW` bytes is hashed in
passing, the hash of each `STEP`th place is kept in a table, and where a window was seen before
the longest equal passage around it becomes a match (start, length, source). What is left are the
literals, which deflate packs as usual, and a table of numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain as joined
from typing import Any

import numpy as np
from numpy.typing import NDArray

from espalier.compiled import compiled

# A match costs about five bytes; deflate needs more than that for this many new ones.
WINDOW = 24
# Every passage of WINDOW + STEP - 1 bytes that was there before is found.
STEP = 4
LARGEST_TABLE = 22
PIECE = 1 << 20
# Matches that are handled at once: as Python's numbers they take thirty times the room.
MANY = 1 << 14

Bytes = NDArray[np.uint8]
Matches = NDArray[np.int64]


def long_matches(data: Bytes) -> Matches:
    """The matches in `data`, an array [count, 3] of start, length and source, in order of start.

    They don't overlap; each source lies wholly before its start.
    """
    bits = min(LARGEST_TABLE, max(10, int(data.size // STEP).bit_length()))
    found: Matches = _find(data, WINDOW, STEP, bits)
    return found


def literals(data: Bytes, matches: Matches) -> Iterator[Any]:
    """The pieces of `data` (buffers, at most `PIECE` bytes each) that no match covers."""
    at = 0
    for start, length in joined(_ends(matches), [(data.size, 0)]):
        while at < start:
            end = min(start, at + PIECE)
            yield data[at:end].data
            at = end
        at = start + length


def _ends(matches: Matches) -> Iterator[list[int]]:
    for i in range(0, len(matches), MANY):
        yield from matches[i : i + MANY, :2].tolist()


def table(matches: Matches) -> tuple[bytes, bytes, bytes]:
    """The matches as three runs of varints: literals before each, its length, its distance."""
    starts, lengths, sources = matches.T
    ends = np.concatenate([np.zeros(1, np.int64), (starts + lengths)[:-1]])[: len(starts)]
    return varints(starts - ends), varints(lengths - WINDOW), varints(starts - sources)


def varints(numbers: NDArray[np.int64]) -> bytes:
    """Numbers from 0 as bytes of seven bits, the lowest first; all but the last have the high bit.

    As in protocol buffers; at most five bytes each (numbers below 2^35).
    """
    return b"".join(_varints(numbers[i : i + MANY]) for i in range(0, len(numbers), MANY))


def _varints(numbers: NDArray[np.int64]) -> bytes:
    groups = numbers[:, None] >> np.arange(0, 35, 7)
    rest = groups[:, 1:] > 0
    more = np.pad(rest, ((0, 0), (0, 1)))
    there = np.pad(rest, ((0, 0), (1, 0)), constant_values=True)
    return bytes(((groups & 127) | (more << 7)).astype(np.uint8)[there])


@compiled
def _find(data: Bytes, window: int, step: int, bits: int) -> Matches:
    size = data.size
    seen = np.full(1 << bits, -1, np.int32)
    found = np.empty((1024, 3), np.int64)
    count = 0
    # A polynomial modulo 2^64: the next window's hash follows from this one's.
    base = np.uint64(0x9E3779B97F4A7C15)
    leaving = np.uint64(1)
    for _ in range(window):
        leaving *= base
    mixer, shift = np.uint64(0xD6E8FEB86659FD93), np.uint64(64 - bits)
    value = np.uint64(0)
    for i in range(min(window, size)):
        value = value * base + np.uint64(data[i]) + np.uint64(1)
    free = 0
    for at in range(size - window + 1):
        slot = np.int64((value * mixer) >> shift)
        source = np.int64(seen[slot])
        if at >= free and source >= 0:
            # Sources end before the match begins, so that whole passages can be copied.
            gap, ahead = at - source, 0
            while ahead < gap and at + ahead < size and data[source + ahead] == data[at + ahead]:
                ahead += 1
            back = 0
            if ahead >= window:
                while (
                    back < at - free
                    and back < source
                    and back + ahead < gap
                    and data[source - back - 1] == data[at - back - 1]
                ):
                    back += 1
                if count == len(found):
                    larger = np.empty((2 * count, 3), np.int64)
                    larger[:count] = found
                    found = larger
                found[count, 0] = at - back
                found[count, 1] = ahead + back
                found[count, 2] = source - back
                count += 1
                free = at + ahead
        if at % step == 0:
            seen[slot] = at
        if at + window < size:
            value = value * base + np.uint64(data[at + window]) + np.uint64(1)
            value -= leaving * (np.uint64(data[at]) + np.uint64(1))
    return found[:count]
