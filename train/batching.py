"""Minibatches and forward passes: the order of the rows, and how many go through at once.

A minibatch is what one optimizer step sees: always `minibatch` examples. It is cut into forward
passes of at most `token_budget` tokens with padding. Rows of similar length share a minibatch
("megabatch": a shuffled window is sorted by length and cut), so little of a pass is padding.
The order is a pure function of (seed, epoch): a resumed run needs no state but the step.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from espalier.errors import StageError

Row = TypeVar("Row")


class Order(Protocol):
    """The rows of every epoch, where they are not simply all in random order."""

    def rows(self, epoch: int) -> tuple[list[int], bool]:
        """Row indices of an epoch, and whether their order is kept (else they are shuffled).

        A pure function; the number of rows is the same in every epoch, that of all rows.
        """
        ...


def epoch_order(
    lengths: Sequence[int],
    minibatch: int,
    *,
    seed: int,
    epoch: int,
    window: int = 16,
    order: Order | None = None,
) -> list[list[int]]:
    """Row indices of every minibatch of one epoch, each row once, or those of `order`.

    Rows are shuffled; every `window` minibatches' worth of rows is sorted by length and cut
    into minibatches, and the minibatches are shuffled. `window` 1 leaves the order fully
    random. The last minibatch in the shuffled rows may be smaller. Where `order` keeps the rows
    in order, minibatches are shuffled inside of their window only.
    """
    rng = random.Random(f"{seed}:epoch {epoch}")
    rows, ordered = order.rows(epoch) if order else (list(range(len(lengths))), False)
    if not ordered:
        rng.shuffle(rows)
    batches = []
    span = minibatch * window
    for start in range(0, len(rows), span):
        part = rows[start : start + span]
        if window > 1:
            part.sort(key=lambda i: lengths[i])
        cut = [part[i : i + minibatch] for i in range(0, len(part), minibatch)]
        if ordered:
            rng.shuffle(cut)
        batches += cut
    if not ordered:
        rng.shuffle(batches)
    return batches


def passes(rows: Sequence[Row], cost: Callable[[Row], int], token_budget: int) -> list[list[Row]]:
    """Cut a minibatch into forward passes: rows × their greatest cost ≤ `token_budget`.

    `cost` is the number of tokens that a row takes when it is alone. Rows are sorted by it,
    longest first. Raises StageError for a row that alone exceeds the budget.
    """
    ordered = sorted(rows, key=cost, reverse=True)
    groups: list[list[Row]] = []
    start = 0
    while start < len(ordered):
        longest = cost(ordered[start])
        if longest > token_budget:
            raise StageError(
                f"A row takes {longest:,} tokens.",
                expected=f"at most {token_budget:,} (token_budget)",
                hint="raise token_budget, or lower max_length",
            )
        size = token_budget // max(longest, 1)
        groups.append(ordered[start : start + size])
        start += size
    return groups


class MinibatchSampler:
    """The minibatches of an epoch as lists of row indices, for a DataLoader's `batch_sampler`.

    They are the same in every process; `espalier.train.distribution` deals out the rows.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        minibatch: int,
        *,
        seed: int,
        window: int = 16,
        order: Order | None = None,
    ) -> None:
        self._lengths = lengths
        self._minibatch = minibatch
        self._seed = seed
        self._window = window
        self._order = order
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order `__iter__` gives."""
        self._epoch = epoch

    def __len__(self) -> int:
        """Optimizer steps an epoch."""
        return math.ceil(len(self._lengths) / self._minibatch)

    def __iter__(self) -> Iterator[list[int]]:
        yield from epoch_order(
            self._lengths,
            self._minibatch,
            seed=self._seed,
            epoch=self._epoch,
            window=self._window,
            order=self._order,
        )
