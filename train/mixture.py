"""Which rows an epoch has and in which order: weighted sources, and curricula.

Both are pure functions of the seed and the epoch, so a resumed run, and each of several
processes, finds the same rows without any state. Similar lengths are still put together: the
order given here decides which rows meet in a window of minibatches
(`espalier.train.batching.epoch_order`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from espalier.encoding import Encoded
from espalier.errors import InputError
from espalier.records import Example
from espalier.train.config_data import Curriculum


@dataclass(frozen=True)
class Mixture:
    """Each source's share of an epoch is its weight over the sum of weights.

    An epoch has as many rows as all sources together. A source is walked in random order and
    only begins again, in another order, when all its rows have come: over any number of epochs
    two rows of a source differ by one in how often they were seen.
    """

    sources: Sequence[Sequence[int]]
    weights: Sequence[float]
    seed: int

    @property
    def shares(self) -> list[int]:
        """Rows of each source in an epoch."""
        return apportion(sum(map(len, self.sources)), self.weights)

    def rows(self, epoch: int) -> tuple[list[int], bool]:
        """The rows of an epoch, source after source; to be shuffled."""
        drawn: list[int] = []
        for number, (rows, share) in enumerate(zip(self.sources, self.shares, strict=True)):
            drawn += self._walk(number, rows, epoch * share, share)
        return drawn, False

    def _walk(self, number: int, rows: Sequence[int], start: int, count: int) -> list[int]:
        """Places start … start + count of the endless walk through one source."""
        found: list[int] = []
        while len(found) < count:
            turn, offset = divmod(start + len(found), len(rows))
            order = list(rows)
            random.Random(f"{self.seed}:source {number} turn {turn}").shuffle(order)
            found += order[offset : offset + count - len(found)]
        return found


def apportion(total: int, weights: Sequence[float]) -> list[int]:
    """`total` cut in proportion to the weights, by largest remainders; the sum is `total`."""
    whole = math.fsum(weights)
    exact = [total * weight / whole for weight in weights]
    shares = [math.floor(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (shares[i] - exact[i], i))
    for i in by_remainder[: total - sum(shares)]:
        shares[i] += 1
    return shares


@dataclass(frozen=True)
class EasyToHard:
    """Rows by rising score (Bengio et al. 2009); rows of one score in random order.

    After `epochs` epochs (None: never) the rows are shuffled.
    """

    scores: Sequence[float]
    seed: int
    epochs: int | None = None

    def rows(self, epoch: int) -> tuple[list[int], bool]:
        """All rows, easiest first; without an order once the curriculum is over."""
        rows = list(range(len(self.scores)))
        if self.epochs is not None and epoch >= self.epochs:
            return rows, False
        random.Random(f"{self.seed}:curriculum {epoch}").shuffle(rows)
        rows.sort(key=lambda row: self.scores[row])
        return rows, True


def difficulty(
    options: Curriculum, examples: Sequence[Example], rows: Sequence[Encoded]
) -> list[float]:
    """How hard each row is, as the recipe says.

    Raises InputError for a row without the number that it names.
    """
    sign = -1.0 if options.descending else 1.0
    if options.by == "length":
        return [sign * row.targets for row in rows]
    name = options.by.removeprefix("meta.")
    scores = []
    for number, example in enumerate(examples, 1):
        value = example.meta.get(name)
        if not _is_number(value):
            known = ", ".join(sorted(k for k, v in example.meta.items() if _is_number(v)))
            raise InputError(
                f"The curriculum orders by meta.{name}, which this row does not have as a number.",
                where=f"row {number:,} ({example.id})",
                expected=f"a number in meta.{name}; found {value!r}",
                hint=f"numbers of this row: {known}" if known else "use by: length",
            )
        scores.append(sign * float(value))
    return scores


def _is_number(value: Any) -> TypeGuard[float]:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)


def kept(examples: Sequence[Example], dropped: Sequence[str]) -> list[int]:
    """Places of the examples that became rows, `dropped` being the ids of the others in order."""
    places = []
    waiting = list(reversed(dropped))
    for place, example in enumerate(examples):
        if waiting and example.id == waiting[-1]:
            waiting.pop()
        else:
            places.append(place)
    return places
