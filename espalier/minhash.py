"""Near-duplicate pairs in large collections: MinHash, banding, and exact verification.

MinHash (Broder 1997) estimates the Jaccard similarity of sets of word n-grams; banding brings
rows together that are likely to be near; each pair that meets is verified on the sets. So the
precision is that of 32-bit shingle hashes (two sets of 200 count one shingle too many as shared
once in 100,000 pairs), and the recall that of the bands: a pair with Jaccard s meets with
probability 1 − (1 − s^rows)^bands. Only these hashes and 32-bit band keys are kept, about 4 bytes
a word and 4 a band; texts are not.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from espalier.hashing import Block, Hashing

_CHUNK_CHARACTERS = 1 << 20
_CHUNK_TEXTS = 8192
# A pair at the threshold itself is missed this often.
_MISSED = 0.01
# The longest bands for which a pair at the threshold shares one in six or more.
_SHARED = 0.16
_MOST_ROWS = 40


def bands_for(threshold: float) -> tuple[int, int]:
    """(bands, rows a band) with which a pair at the threshold is found 99 times in 100."""
    if threshold >= 1:
        return 1, 1
    rows = max(1, min(_MOST_ROWS, math.floor(math.log(_SHARED) / math.log(threshold))))
    return max(1, round(math.log(_MISSED) / math.log1p(-(threshold**rows)))), rows


@dataclass(frozen=True, slots=True)
class NearPairs:
    """What a search found, without the pairs within groups of equal sets.

    `same_as[i]` is the first row with the shingle set of row i (i itself if there is none before
    it). `first[k]` < `second[k]` are near rows with different sets, both first of their set,
    sorted; `similarity[k]` is their Jaccard similarity.
    """

    same_as: NDArray[np.int32]
    first: NDArray[np.int32]
    second: NDArray[np.int32]
    similarity: NDArray[np.float64]

    def __iter__(self) -> Iterator[tuple[int, int, float]]:
        """All pairs (i, j, Jaccard), i < j, those of equal sets included, sorted."""
        first, second, similarity = self.expanded()
        return zip(first.tolist(), second.tolist(), similarity.tolist(), strict=True)

    def expanded(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """The same as three arrays. Their length grows with the square of the equal rows."""
        import numpy as np

        order = np.argsort(self.same_as, kind="stable")
        sizes = np.bincount(self.same_as, minlength=len(order))
        starts = np.cumsum(sizes) - sizes
        # Within a group of equal sets: each member with those behind it.
        place = np.arange(len(order)) - starts[self.same_as[order]]
        behind = sizes[self.same_as[order]] - 1 - place
        left = np.repeat(np.arange(len(order)), behind)
        equal = order[left], order[left + 1 + _within(behind)]
        # Between two groups: each member of the one with each of the other.
        counts = sizes[self.first] * sizes[self.second]
        pair, within = np.repeat(np.arange(len(counts)), counts), _within(counts)
        width = sizes[self.second][pair]
        one = order[starts[self.first][pair] + within // width]
        other = order[starts[self.second][pair] + within % width]
        low = np.concatenate([equal[0], np.minimum(one, other)])
        high = np.concatenate([equal[1], np.maximum(one, other)])
        similarity = np.concatenate([np.ones(len(left)), self.similarity[pair]])
        sorting = np.argsort(low << 32 | high)
        return low[sorting], high[sorting], similarity[sorting]


def _within(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, … up to each count, one after the other."""
    import numpy as np

    return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def near_pairs(
    texts: Iterable[str],
    *,
    threshold: float = 0.7,
    ngram: int = 5,
    ngram_cjk: int | None = None,
    bands: int | None = None,
    rows: int | None = None,
    seed: int = 1,
    threads: int | None = None,
) -> list[tuple[int, int, float]]:
    """All pairs (i, j, Jaccard) of texts whose word n-grams have Jaccard ≥ threshold, sorted.

    For the options see `NearSearch`. Where very many texts equal each other, so that the list
    would be too long, use `NearSearch`, which gives groups.
    """
    options: dict[str, Any] = {"bands": bands, "rows": rows, "seed": seed, "threads": threads}
    with NearSearch(threshold=threshold, ngram=ngram, ngram_cjk=ngram_cjk, **options) as search:
        search.add(texts)
        return list(search.pairs())


class NearSearch:
    """Texts go in, in any portions; near pairs come out. The portions do not matter.

    threshold: Jaccard from which two shingle sets are near, in 0..1.
    ngram: words a shingle, by `espalier.text.tokens`, in which a CJK character is a word; a text
        of fewer words is one shingle, one without words is near nothing.
    ngram_cjk: the same for texts that are CJK for the greater part (default: `ngram`).
    bands, rows: of the signature (default: `bands_for(threshold)`).
    threads: default as many as there are cores; the result does not depend on it.
    crowd: a band key that more rows share than this does not lead to all their pairs, but to
        those with a few leaders (`espalier.banding.join_crowded`), so that the work stays
        linear. Each row of such a crowd still gets a near leader if there is one.
    """

    def __init__(
        self,
        *,
        threshold: float = 0.7,
        ngram: int = 5,
        ngram_cjk: int | None = None,
        bands: int | None = None,
        rows: int | None = None,
        seed: int = 1,
        threads: int | None = None,
        crowd: int = 512,
    ) -> None:
        exact = Fraction(str(threshold))
        if not 0 < exact <= 1:
            raise ValueError(f"threshold is {threshold}, expected a number above 0, at most 1")
        if ngram < 1 or (ngram_cjk is not None and ngram_cjk < 1):
            raise ValueError("ngram is below 1")
        from espalier.hashing import Hashing

        self._over, self._under = exact.numerator, exact.denominator
        usual = bands_for(threshold)
        self._how: Hashing = Hashing.make(
            ngram=ngram,
            ngram_cjk=ngram_cjk or ngram,
            bands=bands or usual[0],
            rows=rows or usual[1],
            seed=seed,
        )
        self._threads = threads or os.cpu_count() or 1
        self._crowd = crowd
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="near")
        self._running: deque[tuple[int, Future[list[Block]]]] = deque()
        self._portion: list[str] = []
        self._portion_size = 0
        self._store = _Store(len(self._how.factors) // self._how.rows)

    def __enter__(self) -> NearSearch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads; nothing can be added or searched any more."""
        self._pool.shutdown(cancel_futures=True)

    def add(self, texts: Iterable[str]) -> None:
        """Hash further texts; they are numbered 0, 1, … in the order in which they come."""
        for text in texts:
            self._portion.append(text)
            self._portion_size += len(text)
            if self._portion_size >= _CHUNK_CHARACTERS or len(self._portion) >= _CHUNK_TEXTS:
                self._submit()

    def pairs(self, rank: NDArray[np.int64] | None = None) -> NearPairs:
        """Search among all texts added so far.

        `rank[i]` says which rows are preferred as leaders of crowds, the lower the better
        (default: earlier ones).
        """
        self._submit()
        while self._running:
            self._collect()
        return _Join(self._store, self._crowd, self._over, self._under, rank).run(self._pool)

    def _submit(self) -> None:
        if not self._portion:
            return
        task = self._pool.submit(_hash_portion, self._portion, self._how)
        self._running.append((len(self._portion), task))
        self._portion, self._portion_size = [], 0
        if len(self._running) > 2 * self._threads:
            self._collect()

    def _collect(self) -> None:
        count, task = self._running.popleft()
        self._store.append(count, task.result())


def _hash_portion(texts: list[str], how: Hashing) -> list[Block]:
    from espalier.hashing import encoded, hash_texts

    return hash_texts(*encoded(texts), how)


class _Store:
    """Shingle sets end to end, band keys, and set hashes of all rows, in arrays that grow."""

    def __init__(self, bands: int) -> None:
        import numpy as np

        self.rows = 0
        self._used = 0
        self._bands = bands
        self._flat = np.empty(1 << 16, dtype=np.uint32)
        self._begins = np.empty(1 << 10, dtype=np.int64)
        self._sizes = np.empty(1 << 10, dtype=np.int32)
        self._sets = np.empty(1 << 10, dtype=np.uint64)
        self._keys = np.empty((1 << 10) * bands, dtype=np.uint32)

    @property
    def flat(self) -> NDArray[np.uint32]:
        return self._flat[: self._used]

    @property
    def begins(self) -> NDArray[np.int64]:
        return self._begins[: self.rows]

    @property
    def sizes(self) -> NDArray[np.int32]:
        return self._sizes[: self.rows]

    @property
    def sets(self) -> NDArray[np.uint64]:
        return self._sets[: self.rows]

    @property
    def keys(self) -> NDArray[np.uint32]:
        """Rows × bands."""
        return self._keys[: self.rows * self._bands].reshape(-1, self._bands)

    def append(self, count: int, blocks: list[Block]) -> None:
        """Add `count` rows that were hashed together; a later block overrides an earlier one."""
        first = self.rows
        self.rows += count
        for array in (self._begins, self._sizes, self._sets):
            _reserve(array, self.rows)
        _reserve(self._keys, self.rows * self._bands)
        for block in blocks:
            _reserve(self._flat, self._used + len(block.flat))
            rows = first + block.places
            self._flat[self._used : self._used + len(block.flat)] = block.flat
            self._begins[rows] = self._used + block.sizes.cumsum(dtype="int64") - block.sizes
            self._sizes[rows] = block.sizes
            self._sets[rows] = block.sets
            self.keys[rows] = block.keys
            self._used += len(block.flat)


def _reserve(array: NDArray[Any], length: int) -> None:
    """Make an array long enough, by a quarter more than before at least.

    In place: large arrays are moved by the page table, not copied, so nothing is held twice.
    """
    if length > len(array):
        array.resize(max(length, len(array) + len(array) // 4), refcheck=False)


class _Join:
    """One search through a store."""

    def __init__(
        self, store: _Store, crowd: int, over: int, under: int, rank: NDArray[np.int64] | None
    ) -> None:
        self._keys = store.keys
        self._crowd = crowd
        self._rank = rank
        self._store = store
        self._sets = (store.flat, store.begins, store.sizes, over, under)

    def run(self, pool: ThreadPoolExecutor) -> NearPairs:
        import numpy as np

        from espalier.banding import equal_sets, join_band

        same_as = equal_sets(self._store.sets, self._store.sizes)
        places = np.arange(len(same_as), dtype=np.int32)
        rows = places[(same_as == places) & (self._store.sizes > 0)]
        bands = range(self._keys.shape[1])
        crowded = self._crowded(rows, pool)
        tasks = [
            pool.submit(join_band, rows, self._keys, band, crowded, *self._sets) for band in bands
        ]
        found = [task.result() for task in tasks]
        if len(crowded):
            found += self._crowds(crowded, same_as)
        return self._result(same_as, np.concatenate(found))

    def _crowded(self, rows: NDArray[np.int32], pool: ThreadPoolExecutor) -> NDArray[np.bool_]:
        """Rows × bands, whether too many rows share the key; without rows where there are none."""
        import numpy as np

        from espalier.banding import crowded_rows

        bands = self._keys.shape[1]
        if len(rows) <= self._crowd:
            return np.zeros((0, bands), dtype=np.bool_)
        tasks = [
            pool.submit(crowded_rows, self._keys, rows, band, self._crowd) for band in range(bands)
        ]
        found = [task.result() for task in tasks]
        size = len(self._keys) if any(map(len, found)) else 0
        crowded = np.zeros((size, bands), dtype=np.bool_)
        for band, members in enumerate(found):
            if size:
                crowded[members, band] = True
        return crowded

    def _crowds(
        self, crowded: NDArray[np.bool_], same_as: NDArray[np.int32]
    ) -> list[NDArray[np.int32]]:
        """Pairs in crowds, band by band."""
        import numpy as np

        from espalier.banding import join_crowded

        rank = np.arange(len(same_as), dtype=np.int64)
        if self._rank is not None:
            # A row stands for all those of its set, hence has the best rank among them.
            rank = np.full(len(same_as), np.iinfo(np.int64).max)
            np.minimum.at(rank, same_as, self._rank)
        leader_of = np.full(len(same_as), -1, dtype=np.int32)
        found = []
        for band in range(self._keys.shape[1]):
            rows = np.flatnonzero(crowded[:, band]).astype(np.int32)
            if len(rows):
                ordered = rows[np.lexsort((rank[rows], self._keys[rows, band]))]
                arguments = (ordered, self._keys, band, self._crowd, leader_of, *self._sets)
                found.append(join_crowded(*arguments))
        return found

    def _result(self, same_as: NDArray[np.int32], found: NDArray[np.int32]) -> NearPairs:
        import numpy as np

        codes = found[:, 0].astype(np.int64) << 32 | found[:, 1]
        _, places = np.unique(codes, return_index=True)
        first, second, shared = found[places].T
        sizes = self._store.sizes.astype(np.int64)
        similarity = shared / (sizes[first] + sizes[second] - shared)
        return NearPairs(same_as, first.copy(), second.copy(), similarity)
