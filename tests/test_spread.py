"""Distributions against numpy, samples against what a uniform sample has to be."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espalier.spread import QUANTILES, Reservoir, Spread, Tops, length_edges, value_edges

WHOLE = st.lists(st.integers(0, 9_999), min_size=1, max_size=300)


def spread_of(values: list[float]) -> Spread:
    spread = Spread()
    for value in values:
        spread.add(value)
    return spread


@settings(max_examples=60, deadline=None)
@given(WHOLE)
def test_quantiles_are_numpys_nearest_rank(values: list[int]) -> None:
    found = spread_of([float(value) for value in values]).to_json()
    for name, share in QUANTILES.items():
        assert found[name] == np.quantile(values, share, method="inverted_cdf")
    assert (found["count"], found["min"], found["max"]) == (len(values), min(values), max(values))
    assert found["mean"] == pytest.approx(np.mean(values), abs=1e-3)


@settings(max_examples=60, deadline=None)
@given(WHOLE, st.booleans())
def test_the_histogram_counts_every_value_once_in_its_bin(values: list[int], wide: bool) -> None:
    edges = length_edges(max(values)) if wide else None
    bins = spread_of([float(value) for value in values]).to_json(edges)["histogram"]
    for low, high, count in bins:
        assert count == sum(low <= value < high for value in values)
    assert sum(count for _, _, count in bins) == len(values)
    assert all(left[1] == right[0] for left, right in pairwise(bins))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=1, max_size=50))
def test_equal_steps_hold_all_values_in_few_bins(values: list[float]) -> None:
    bins = spread_of(values).to_json()["histogram"]
    assert len(bins) <= 20
    assert sum(count for _, _, count in bins) == len(values)
    assert bins[0][0] <= min(values) + abs(min(values)) * 1e-3
    steps = {round((high - low) / (bins[0][1] - bins[0][0]), 6) for low, high, _ in bins}
    assert steps == {1.0}


def test_edges_are_round() -> None:
    assert length_edges(100) == [0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150]
    assert length_edges(4) == [0, 1, 2, 3, 4, 5]
    assert value_edges(1, 5, whole=True) == [1, 2, 3, 4, 5, 6]
    assert value_edges(0.0, 1.0) == [round(place / 10, 10) for place in range(12)]


def test_memory_does_not_grow_with_the_stream() -> None:
    spread = Spread()
    for number in range(200_000):
        spread.add(number * 1.000_001 + 0.1)
    # Four digits: 9,000 values a power of ten.
    assert len(spread.counts) <= 9_000 * 7
    assert spread.count == 200_000


def test_tops_say_what_they_left_out() -> None:
    tops = Tops(most=3)
    for name in "aabbbcddde":
        tops.add(name)
    assert tops.to_json(2) == {"b": 3, "a": 2, "(others)": 5}
    assert sum(tops.to_json(1).values()) == 10


def test_a_reservoir_keeps_order_size_and_is_uniform() -> None:
    counts: Counter[int] = Counter()
    for seed in range(400):
        reservoir: Reservoir[int] = Reservoir(10, str(seed))
        for item in range(50):
            reservoir.add(item)
        kept = reservoir.items()
        assert len(kept) == 10
        assert kept == sorted(kept)
        counts.update(kept)
    # 80 expected of each; seven standard deviations of the binomial on either side.
    assert all(abs(counts[item] - 80) < 56 for item in range(50))
    small: Reservoir[int] = Reservoir(10, "x")
    for item in range(4):
        small.add(item)
    assert small.items() == [0, 1, 2, 3]
