"""Distributions and samples of a stream in bounded memory."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from math import ceil, floor, log10
from random import Random
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
QUANTILES = {"p05": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95}
# Whole numbers up to here are kept as they are; beyond, four significant digits are kept. So a
# distribution takes at most some ten thousand counters a power of ten.
_DIGITS = 4
_LENGTH_STEPS = (1, 1.5, 2, 3, 5, 7)
_MOST_BINS = 20


class Spread:
    """The distribution of numbers: mean, quantiles and a histogram.

    Exact for whole numbers below 10,000; others are rounded to four significant digits. The
    order of the numbers does not matter (but for the last digits of the mean).
    """

    def __init__(self) -> None:
        self.counts: Counter[float] = Counter()
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Take in one finite number."""
        self._sum += value
        self.counts[value if value == 0 else float(f"{value:.{_DIGITS}g}")] += 1

    @property
    def count(self) -> int:
        """How many numbers there are."""
        return self.counts.total()

    def quantiles(self, shares: Sequence[float]) -> list[float]:
        """The smallest value that at least this share of the numbers does not exceed (nearest
        rank), for shares in 0..1 in ascending order; there has to be a number."""
        total = self.count
        ordered = sorted(self.counts)
        found: list[float] = []
        seen, place = 0, -1
        for share in shares:
            rank = max(1, ceil(share * total - 1e-9))
            while seen < rank:
                place += 1
                seen += self.counts[ordered[place]]
            found.append(ordered[place])
        return found

    def to_json(self, edges: Sequence[float] | None = None) -> dict[str, Any]:
        """Count, mean, least, quantiles, largest and `histogram`, rows `[low, high, count]` of
        numbers from low up to but not including high (default: equal steps of a round size)."""
        if not self.counts:
            return {"count": 0}
        ordered = sorted(self.counts)
        found = self.quantiles(list(QUANTILES.values()))
        if edges is None:
            edges = value_edges(ordered[0], ordered[-1], whole=all(map(_whole, ordered)))
        return {
            "count": self.count,
            "mean": round(self._sum / self.count, 4),
            "min": _plain(ordered[0]),
            **{name: _plain(value) for name, value in zip(QUANTILES, found, strict=True)},
            "max": _plain(ordered[-1]),
            "histogram": self._histogram(edges),
        }

    def _histogram(self, edges: Sequence[float]) -> list[list[float]]:
        bins = [0] * (len(edges) - 1)
        for value, count in self.counts.items():
            bins[min(bisect_right(edges, value), len(bins)) - 1] += count
        return [
            [_plain(low), _plain(high), count]
            for low, high, count in zip(edges, edges[1:], bins, strict=False)
        ]


def length_edges(largest: float) -> list[float]:
    """Whole-number steps 0, 1, 2, 3, 5, 7, 10, 15, 20 … past `largest`; one each up to 12."""
    if largest <= 12:
        return [float(edge) for edge in range(int(largest) + 2)]
    edges = [0.0, 1.0, 2.0, 3.0, 5.0, 7.0]
    scale = 10
    while edges[-1] <= largest:
        edges.extend(step * scale for step in _LENGTH_STEPS)
        scale *= 10
    return edges[: next(i for i, edge in enumerate(edges) if edge > largest) + 1]


def value_edges(least: float, largest: float, *, whole: bool = False) -> list[float]:
    """Equal steps of a round size (1, 2 or 5 times a power of ten), at most 20 of them.

    Of few `whole` numbers each has a step of its own.
    """
    span = largest - least
    if whole and span < _MOST_BINS:
        return [least + number for number in range(int(span) + 2)]
    if span <= 0:
        return [least, least + (abs(least) or 1.0)]
    power = 10.0 ** floor(log10(span / _MOST_BINS))
    # One bin may be cut off at either end, and the last holds the largest value.
    step = next(s for s in (power, 2 * power, 5 * power, 10 * power, 20 * power)
                if span / s <= _MOST_BINS - 3)  # fmt: skip
    first = floor(least / step + 1e-9)
    first -= first * step > least
    count = floor(largest / step + 1e-9) - first + 1
    return [float(f"{(first + number) * step:.12g}") for number in range(count + 1)]


def _whole(value: float) -> bool:
    return float(value).is_integer()


def _plain(value: float) -> float | int:
    return int(value) if float(value).is_integer() else value


class Tops:
    """Counts by name; past `most` different names, new ones are counted together."""

    def __init__(self, most: int = 10_000) -> None:
        self.counts: Counter[str] = Counter()
        self.rest = 0
        self._most = most

    def add(self, name: str) -> None:
        """Count one."""
        if name in self.counts or len(self.counts) < self._most:
            self.counts[name] += 1
        else:
            self.rest += 1

    def to_json(self, shown: int = 50) -> dict[str, int]:
        """The largest counts, then the name; what is not shown is under `(others)`."""
        ordered = sorted(self.counts.items(), key=lambda pair: (-pair[1], pair[0]))
        rest = self.rest + sum(count for _, count in ordered[shown:])
        return {**dict(ordered[:shown]), **({"(others)": rest} if rest else {})}


class Reservoir(Generic[Item]):
    """A uniform sample of a stream (Vitter 1985, algorithm R), in the stream's order."""

    def __init__(self, size: int, seed: str) -> None:
        self.seen = 0
        self._size = size
        self._kept: list[tuple[int, Item]] = []
        self._random = Random(seed)

    def add(self, item: Item) -> None:
        """Offer the next item of the stream."""
        if (place := self.place()) is not None:
            self.put(place, item)

    def place(self) -> int | None:
        """Whether the next item of the stream is kept, and where: for items costly to make."""
        number, self.seen = self.seen, self.seen + 1
        if number < self._size:
            return number
        place = self._random.randrange(self.seen)
        return place if place < self._size else None

    def put(self, place: int, item: Item) -> None:
        """Keep the item for which `place` was just given."""
        entry = (self.seen - 1, item)
        if place < len(self._kept):
            self._kept[place] = entry
        else:
            self._kept.append(entry)

    def items(self) -> list[Item]:
        """What was kept."""
        return [item for _, item in sorted(self._kept, key=lambda entry: entry[0])]
