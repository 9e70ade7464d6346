"""Which rows are near: rows that share a band key meet once, and their sets are compared.

Locality-sensitive hashing by bands (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets,
3.4). Every pair that meets is verified on the shingle sets themselves, in integers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from espalier.compiled import compiled

U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
F64 = NDArray[np.float64]
Bools = NDArray[np.bool_]

_ONE = np.uint64(1)
_ONE_32, _ZERO_32 = np.uint32(1), np.uint32(0)
# Tables of shingles are mostly empty: a second look costs more than the memory.
_SPARSE = 4
_KEY_BITS = 32
_BUCKET = 2048  # rows a bucket, about: its hash table stays in the first cache
_MOST_BITS = 11  # of more buckets than that the ends would not stay in the cache
# The first rows of a crowded run that later ones are compared with.
LEADERS = 64


@compiled
def _partition(keys: U32) -> tuple[I32, U32, I64]:
    """Keys by their upper bits, in order within a bucket: their places, they, bucket borders."""
    bits = 0
    while (len(keys) >> bits) > _BUCKET and bits < _MOST_BITS:
        bits += 1
    shift = np.uint32(_KEY_BITS - bits)
    borders = np.zeros((1 << bits) + 1, dtype=np.int64)
    if bits == 0:
        borders[1] = len(keys)
        return np.arange(len(keys)).astype(np.int32), keys, borders
    for key in keys:
        borders[int(key >> shift) + 1] += 1
    for bucket in range(1 << bits):
        borders[bucket + 1] += borders[bucket]
    follow = borders.copy()
    order = np.empty(len(keys), dtype=np.int32)
    moved = np.empty(len(keys), dtype=np.uint32)
    for place in range(len(keys)):
        bucket = int(keys[place] >> shift)
        order[follow[bucket]] = place
        moved[follow[bucket]] = keys[place]
        follow[bucket] += 1
    return order, moved, borders


@compiled
def _slots(longest: int) -> int:
    slots = 4
    while slots < 2 * longest:
        slots *= 2
    return slots


@compiled
def _chains(keys: U32, heads: I32, before: I32) -> None:
    """Link each key of one bucket to the place of the latest equal one before it, or −1."""
    slots = _slots(len(keys))
    heads[:slots] = -1
    mask = np.uint32(slots - 1)
    for index in range(len(keys)):
        slot = keys[index] & mask
        while heads[slot] >= 0 and keys[heads[slot]] != keys[index]:
            slot = (slot + np.uint32(1)) & mask
        before[index] = heads[slot]
        heads[slot] = index


@compiled
def equal_sets(sets: U64, sizes: I32) -> I32:
    """For each row the first row with the same shingle set (by its 64-bit hash), or itself."""
    keys = np.empty(len(sets), dtype=np.uint32)
    for row in range(len(sets)):
        keys[row] = np.uint32(sets[row] >> np.uint64(_KEY_BITS))
    order, _, borders = _partition(keys)
    first = np.arange(len(sets)).astype(np.int32)
    widest = 0
    for bucket in range(len(borders) - 1):
        widest = max(widest, borders[bucket + 1] - borders[bucket])
    heads = np.empty(_slots(widest), dtype=np.int32)
    for bucket in range(len(borders) - 1):
        rows = order[borders[bucket] : borders[bucket + 1]]
        slots = _slots(len(rows))
        heads[:slots] = -1
        mask = np.uint64(slots - 1)
        for row in rows:
            if sizes[row] == 0:
                continue
            slot = sets[row] & mask
            while heads[slot] >= 0 and sets[heads[slot]] != sets[row]:
                slot = (slot + _ONE) & mask
            if heads[slot] < 0:
                heads[slot] = row
            first[row] = heads[slot]
    return first


@compiled
def crowded_rows(keys: U32, rows: I32, band: int, limit: int) -> I32:
    """Rows whose key of a band may be shared by more than `limit` rows.

    Counts in a table of hashed keys, so that a few too many are named, never too few.
    """
    bits = 12
    while bits < 20 and (1 << bits) < len(rows):
        bits += 1
    shift = np.uint32(_KEY_BITS - bits)
    counts = np.zeros(1 << bits, dtype=np.int32)
    # One walk through the keys of all bands is enough: they lie far apart.
    cells = np.empty(len(rows), dtype=np.uint32)
    most = 0
    for place in range(len(rows)):
        cell = keys[rows[place], band] >> shift
        cells[place] = cell
        counts[cell] += 1
        most = max(most, counts[cell])
    if most <= limit:
        return rows[:0].copy()
    return rows[counts[cells] > limit]


@compiled
def _fill(shingles: U32, table: U32) -> int:
    """Put a set into the hash table; returns its number of slots."""
    slots = _slots(_SPARSE * len(shingles))
    table[:slots] = _ZERO_32
    mask = np.uint32(slots - 1)
    for shingle in shingles:
        slot = shingle & mask
        while table[slot] != _ZERO_32:
            slot = (slot + _ONE_32) & mask
        table[slot] = shingle
    return slots


@compiled
def _shared(shingles: U32, table: U32, slots: int, needed: int) -> int:
    """How many shingles are in the table; −1 as soon as it can't be as many as needed."""
    mask = np.uint32(slots - 1)
    left = len(shingles) - needed
    for shingle in shingles:
        slot = shingle & mask
        value = table[slot]
        while value != _ZERO_32 and value != shingle:
            slot = (slot + _ONE_32) & mask
            value = table[slot]
        if value == _ZERO_32:
            left -= 1
            if left < 0:
                return -1
    return needed + left


@compiled
def _needed(one: int, other: int, over: int, under: int) -> int:
    """The smallest overlap of sets of these sizes with Jaccard ≥ over/under; 0: impossible."""
    if min(one, other) * under < over * max(one, other):
        return 0
    return -(-over * (one + other) // (over + under))


@compiled
def _met_before(keys: U32, crowded: Bools, one: int, other: int, band: int) -> bool:
    """Whether an earlier band brings the two rows together.

    Which band is the first depends on the later row: so every band has its share of the work,
    and most partners of a row are met in the same band, where its table is at hand.
    """
    bands = keys.shape[1]
    earlier = other % bands
    while earlier != band:
        if keys[one, earlier] == keys[other, earlier] and not (
            len(crowded) and crowded[other, earlier]
        ):
            return True
        earlier += 1
        if earlier == bands:
            earlier = 0
    return False


@compiled
def _grown(found: I32) -> I32:
    larger = np.empty((2 * len(found), 3), dtype=np.int32)
    larger[: len(found)] = found
    return larger


@compiled
def join_band(
    rows: I32,
    keys: U32,
    band: int,
    crowded: Bools,
    flat: U32,
    begins: I64,
    sizes: I32,
    over: int,
    under: int,
) -> I32:
    """Verified pairs that meet in this band first: (earlier row, later row, shared shingles)."""
    chosen = np.empty(len(rows), dtype=np.int32)
    column = np.empty(len(rows), dtype=np.uint32)
    count = 0
    longest = 1
    for row in rows:
        if not (len(crowded) and crowded[row, band]):
            chosen[count] = row
            column[count] = keys[row, band]
            longest = max(longest, sizes[row])
            count += 1
    column = column[:count]
    order, moved, borders = _partition(column)
    widest = 1
    for bucket in range(len(borders) - 1):
        widest = max(widest, borders[bucket + 1] - borders[bucket])
    heads = np.empty(_slots(widest), dtype=np.int32)
    before = np.empty(widest, dtype=np.int32)
    table = np.empty(_slots(_SPARSE * longest), dtype=np.uint32)
    found = np.empty((1024, 3), dtype=np.int32)
    pairs = 0
    for bucket in range(len(borders) - 1):
        members = order[borders[bucket] : borders[bucket + 1]]
        _chains(moved[borders[bucket] : borders[bucket + 1]], heads, before)
        for index in range(len(members)):
            earlier = before[index]
            if earlier < 0:
                continue
            row = chosen[members[index]]
            slots = 0
            while earlier >= 0:
                other = chosen[members[earlier]]
                earlier = before[earlier]
                needed = _needed(sizes[row], sizes[other], over, under)
                if needed == 0 or _met_before(keys, crowded, other, row, band):
                    continue
                if slots == 0:
                    slots = _fill(flat[begins[row] : begins[row] + sizes[row]], table)
                there = flat[begins[other] : begins[other] + sizes[other]]
                shared = _shared(there, table, slots, needed)
                if shared >= 0:
                    if pairs == len(found):
                        found = _grown(found)
                    found[pairs, 0], found[pairs, 1], found[pairs, 2] = other, row, shared
                    pairs += 1
    return found[:pairs].copy()


@compiled
def _is_led(leader_of: I32, row: int) -> bool:
    leader = leader_of[row]
    return bool(leader >= 0 and leader_of[leader] < 0)


@compiled
def join_crowded(
    ordered: I32,
    keys: U32,
    band: int,
    limit: int,
    leader_of: I32,
    flat: U32,
    begins: I64,
    sizes: I32,
    over: int,
    under: int,
) -> I32:
    """Pairs of the crowded rows of a band, given by key and, within a key, the preferred first.

    Runs up to `limit` rows: all pairs. In a longer run each row is compared with the first
    `LEADERS` that are near no leader before them, up to the first that it is near. That one goes
    into `leader_of` (−1: none yet), and the row is left alone in further bands, unless its leader
    finds a leader of its own: then it has to look for one again, as the other may be removed.
    """
    longest = 1
    for row in ordered:
        longest = max(longest, sizes[row])
    table = np.empty(_slots(_SPARSE * longest), dtype=np.uint32)
    found = np.empty((1024, 3), dtype=np.int32)
    pairs = 0
    start = 0
    while start < len(ordered):
        stop = start + 1
        while stop < len(ordered) and keys[ordered[stop], band] == keys[ordered[start], band]:
            stop += 1
        long = stop - start > limit
        leaders = np.empty(LEADERS if long else stop - start, dtype=np.int32)
        known = 0
        for place in range(start, stop):
            row = ordered[place]
            if long and _is_led(leader_of, row):
                continue
            alone = True
            slots = 0
            for leader in range(known):
                other = leaders[leader]
                needed = _needed(sizes[row], sizes[other], over, under)
                if needed == 0:
                    continue
                if slots == 0:
                    slots = _fill(flat[begins[row] : begins[row] + sizes[row]], table)
                there = flat[begins[other] : begins[other] + sizes[other]]
                shared = _shared(there, table, slots, needed)
                if shared >= 0:
                    if pairs == len(found):
                        found = _grown(found)
                    found[pairs, 0], found[pairs, 1] = min(row, other), max(row, other)
                    found[pairs, 2] = shared
                    pairs += 1
                    if long:
                        leader_of[row] = other
                        alone = False
                        break
            if known < len(leaders) and alone:
                leaders[known] = row
                known += 1
        start = stop
    return found[:pairs].copy()


@compiled
def keep_greedily(
    order: I64, starts: I64, partners: I64, similarities: F64, rank: I64
) -> tuple[I64, F64]:
    """The keeper of each row, −1 for a kept one, and its similarity.

    Rows are gone through in `order`, by rank; one with a kept partner of lower rank goes. Then
    each that went gets the most similar kept partner, of equals the one of lowest rank. The
    partners of row i and their similarities are those at starts[i] to starts[i + 1].
    """
    keeper = np.full(len(rank), -1, dtype=np.int64)
    similarity = np.zeros(len(rank), dtype=np.float64)
    for row in order:
        for place in range(starts[row], starts[row + 1]):
            other = partners[place]
            if rank[other] < rank[row] and keeper[other] < 0:
                keeper[row] = other
                break
    for row in order:
        if keeper[row] < 0:
            continue
        for place in range(starts[row], starts[row + 1]):
            other, value = partners[place], similarities[place]
            best = similarity[row]
            if keeper[other] < 0 and (
                value > best or (value == best and rank[other] < rank[keeper[row]])
            ):
                keeper[row] = other
                similarity[row] = value
    return keeper, similarity
