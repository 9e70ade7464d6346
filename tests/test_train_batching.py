"""Order of the rows, minibatches and forward passes."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espalier.errors import StageError
from espalier.train.batching import MinibatchSampler, epoch_order, passes


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=200),
    st.integers(1, 40),
    st.integers(1, 20),
    st.integers(0, 3),
)
def test_an_epoch_holds_every_row_once_in_whole_minibatches(
    lengths: list[int], minibatch: int, window: int, epoch: int
) -> None:
    order = epoch_order(lengths, minibatch, seed=7, epoch=epoch, window=window)
    assert sorted(i for batch in order for i in batch) == list(range(len(lengths)))
    sizes = Counter(map(len, order))
    assert sizes[minibatch] == len(lengths) // minibatch
    assert len(order) == -(-len(lengths) // minibatch)
    assert order == epoch_order(lengths, minibatch, seed=7, epoch=epoch, window=window)


def test_order_changes_with_seed_and_epoch() -> None:
    lengths = list(range(1, 65))
    orders = [
        epoch_order(lengths, 8, seed=seed, epoch=epoch) for seed in (1, 2) for epoch in (0, 1)
    ]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])


def test_rows_of_similar_length_share_a_minibatch() -> None:
    lengths = [random.Random(1).randint(5, 100) for _ in range(1024)]
    lengths = [random.Random(i).randint(5, 100) for i in range(1024)]

    def padded(window: int) -> float:
        order = epoch_order(lengths, 32, seed=1, epoch=0, window=window)
        return sum(len(b) * max(lengths[i] for i in b) for b in order) / sum(lengths)

    assert padded(16) < 1.12
    assert padded(1) > 1.5


@given(st.lists(st.integers(1, 100), min_size=1, max_size=80), st.integers(100, 400))
def test_passes_keep_to_the_budget(costs: list[int], budget: int) -> None:
    groups = passes(list(enumerate(costs)), lambda row: row[1], budget)
    assert sorted(row for group in groups for row in group) == list(enumerate(costs))
    assert all(len(group) * max(cost for _, cost in group) <= budget for group in groups)


def test_a_row_over_the_budget_says_what_to_do() -> None:
    with pytest.raises(StageError, match="token_budget"):
        passes([10, 300], lambda cost: cost, 256)


def test_the_sampler_yields_the_order_of_its_epoch() -> None:
    lengths = [random.Random(i).randint(1, 40) for i in range(50)]
    sampler = MinibatchSampler(lengths, 8, seed=3)
    for epoch in (0, 2, 1):
        sampler.set_epoch(epoch)
        assert list(sampler) == epoch_order(lengths, 8, seed=3, epoch=epoch)
        assert len(sampler) == len(list(sampler)) == 7
