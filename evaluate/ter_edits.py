"""The number of edits of TER (Snover et al. 2006), in machine code: words and shifts of words.

The search is the one that tercom made usual, with the limits that sacrebleu has: as long as one
helps, take the shift of a run of words (which stand in the reference too) that lowers the edit
distance most; then count that distance. Edit distances look at a band of cells around the
diagonal only. A shift leaves the table above it as it is, and below it mostly so but for a
constant, so that only the rows between are computed for it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from espalier.compiled import compiled

I32 = NDArray[np.int32]
I8 = NDArray[np.int8]

LONGEST_SHIFT = 10
FARTHEST_SHIFT = 50
SHIFTS_TRIED = 1000
BEAM = 25

_FAR = 1 << 30
_KEPT, _REPLACED, _LEFT_OUT, _ADDED = 0, 1, 2, 3


@compiled
def count_edits(words: I32, reference: I32) -> int:
    """Edits from `words` to `reference` (ids of words): inserting, leaving out or replacing a
    word, or shifting a run of up to 10 words by up to 50 places."""
    if len(words) == 0 or len(reference) == 0:
        return max(len(words), len(reference))
    lows, highs = _band(len(words), len(reference))
    width = 0
    for row in range(len(lows)):
        width = max(width, highs[row] - lows[row])
    costs = np.empty((len(words) + 1, width), dtype=np.int32)
    edits = np.empty((len(words) + 1, width), dtype=np.int8)
    current = words.copy()
    shifts = 0
    tried = 0
    while True:
        distance = _table(current, reference, lows, highs, costs, edits)
        gain, better, tried = _best_shift(current, reference, lows, highs, costs, edits, tried)
        if tried >= SHIFTS_TRIED or gain <= 0:
            return shifts + distance
        current = better
        shifts += 1


@compiled
def _band(count: int, wanted: int) -> tuple[I32, I32]:
    """For each row of the table the first column looked at, and the one after the last."""
    ratio = wanted / count
    beam = math.ceil(ratio / 2 + BEAM) if ratio / 2 > BEAM else BEAM
    lows = np.zeros(count + 1, dtype=np.int32)
    highs = np.zeros(count + 1, dtype=np.int32)
    for row in range(1, count + 1):
        diagonal = math.floor(row * ratio)
        lows[row] = max(0, diagonal - beam)
        highs[row] = wanted + 1 if row == count else min(wanted + 1, diagonal + beam)
    # Of the first row, which is j edits to j words, no more than the second one looks at.
    highs[0] = highs[1]
    return lows, highs


@compiled
def _row(
    word: int,
    reference: I32,
    before: I32,
    low_before: int,
    high_before: int,
    low: int,
    high: int,
    costs: I32,
    edits: I8,
) -> None:
    """One row of the table, from the one before it; of equal costs the first edit tried counts."""
    for column in range(low, high):
        best, edit = _FAR, _KEPT
        if low_before < column <= high_before:
            same = word == reference[column - 1]
            best = before[column - 1 - low_before] + (0 if same else 1)
            edit = _KEPT if same else _REPLACED
        if low_before <= column < high_before and before[column - low_before] + 1 < best:
            best = before[column - low_before] + 1
            edit = _LEFT_OUT
        if column > low and costs[column - 1 - low] + 1 < best:
            best = costs[column - 1 - low] + 1
            edit = _ADDED
        costs[column - low] = best
        edits[column - low] = edit


@compiled
def _table(
    words: I32, reference: I32, lows: I32, highs: I32, costs: NDArray[np.int32], edits: I8
) -> int:
    """Fill the table; returns the edit distance."""
    for column in range(highs[0]):
        costs[0, column] = column
        edits[0, column] = _ADDED
    for row in range(1, len(words) + 1):
        _row(
            words[row - 1],
            reference,
            costs[row - 1],
            lows[row - 1],
            highs[row - 1],
            lows[row],
            highs[row],
            costs[row],
            edits[row],
        )
    return int(costs[len(words), len(reference) - lows[len(words)]])


@compiled
def _alignment(count: int, wanted: int, lows: I32, edits: I8) -> tuple[I32, I32, I32]:
    """For each word of the reference the last word before or at it (-1: none); and sums from the
    start of the words that are wrong, of the reference and of the other text."""
    aligned = np.full(wanted, -1, dtype=np.int32)
    wrong = np.zeros(count + 1, dtype=np.int32)
    wrong_wanted = np.zeros(wanted + 1, dtype=np.int32)
    row, column = count, wanted
    while row > 0 or column > 0:
        edit = _ADDED if row == 0 else edits[row, column - lows[row]]
        if edit != _LEFT_OUT:
            column -= 1
            aligned[column] = row - 1
            wrong_wanted[column + 1] = edit != _KEPT
        if edit != _ADDED:
            row -= 1
            wrong[row + 1] = edit != _KEPT
    return aligned, np.cumsum(wrong_wanted).astype(np.int32), np.cumsum(wrong).astype(np.int32)


@compiled
def _best_shift(
    words: I32, reference: I32, lows: I32, highs: I32, costs: I32, edits: I8, tried: int
) -> tuple[int, I32, int]:
    """The shift that lowers the distance most: by how much, the words after it, and how many
    were tried so far. Of equal ones the longest, then the earliest, then the farthest to the left.
    """
    count, wanted = len(words), len(reference)
    distance = costs[count, wanted - lows[count]]
    aligned, wrong_wanted, wrong = _alignment(count, wanted, lows, edits)
    scratch = np.empty((2, costs.shape[1]), dtype=np.int32)
    unused = np.empty(costs.shape[1], dtype=np.int8)
    shifted = np.empty_like(words)
    found = (-_FAR, 0, 0, 0)
    for start in range(count):
        for other in range(max(0, start - FARTHEST_SHIFT), min(wanted, start + FARTHEST_SHIFT + 1)):
            longest = min(LONGEST_SHIFT, count - start, wanted - other)
            for length in range(1, longest + 1):
                if words[start + length - 1] != reference[other + length - 1]:
                    break
                # A run that is right where it is, or would come where all is right, stays.
                if wrong[start + length] == wrong[start]:
                    continue
                if wrong_wanted[other + length] == wrong_wanted[other]:
                    continue
                if start <= aligned[other] < start + length:
                    continue
                before = -1
                for place in range(other - 1, other + length):
                    target = 0 if place == -1 else aligned[place] + 1
                    if target == before:
                        continue
                    before = target
                    first, last = _move(words, start, length, target, shifted)
                    cost = _distance_after(
                        shifted, reference, first, last, lows, highs, costs, scratch, unused
                    )
                    candidate = (distance - cost, length, -start, -target)
                    if candidate > found:
                        found = candidate
                    tried += 1
                if tried >= SHIFTS_TRIED:
                    return found[0], words, tried
    if found[1]:
        _move(words, -found[2], found[1], -found[3], shifted)
    return found[0], shifted, tried


@compiled
def _move(words: I32, start: int, length: int, target: int, shifted: I32) -> tuple[int, int]:
    """Write the words with a run of them moved to before `target`; what changed is first..last.

    A target within the run moves it to the right by its distance from the run's start.
    """
    if target < start:
        first, middle, last = target, start, start + length
    else:
        end = target if target > start + length else min(length + target, len(words))
        first, middle, last = start, start + length, end
    # The two parts of first..last change places.
    for place in range(len(words)):
        shifted[place] = words[place]
    for place in range(first, last):
        shifted[place] = words[
            place + middle - first if place < first + last - middle else place - (last - middle)
        ]
    return first, last


@compiled
def _distance_after(
    shifted: I32,
    reference: I32,
    first: int,
    last: int,
    lows: I32,
    highs: I32,
    costs: I32,
    scratch: I32,
    unused: I8,
) -> int:
    """The edit distance of words that differ from those of the table in first..last only."""
    count = len(shifted)
    end = len(reference) - lows[count]
    before = costs[first]
    for row in range(first + 1, count + 1):
        low, high = lows[row], highs[row]
        here = scratch[row % 2]
        _row(
            shifted[row - 1],
            reference,
            before,
            lows[row - 1],
            highs[row - 1],
            low,
            high,
            here,
            unused,
        )
        if row >= last:
            # From a row that differs by a constant on, all do.
            difference = here[0] - costs[row, 0]
            column = 1
            while column < high - low and here[column] - costs[row, column] == difference:
                column += 1
            if column == high - low:
                return int(costs[count, end] + difference)
        before = here
    return int(before[end])
