"""The near-duplicate index against all pairs."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espalier.near import JaccardIndex
from espalier.text import shingles

SETS = st.frozensets(st.integers(0, 30), max_size=14)


def brute(
    members: list[frozenset[int]], query: frozenset[int], threshold: Fraction
) -> list[tuple[str, float]]:
    found = []
    for index, member in enumerate(members):
        union = len(query | member)
        if union and Fraction(len(query & member), union) >= threshold:
            found.append((-Fraction(len(query & member), union), index))
    return [(str(index), float(-similarity)) for similarity, index in sorted(found)]


@settings(max_examples=60, deadline=None)
@given(st.lists(SETS, max_size=20), st.lists(SETS, max_size=8), st.sampled_from([7, 5, 10, 2]))
def test_matches_are_those_of_all_pairs(
    members: list[frozenset[int]], queries: list[frozenset[int]], tenths: int
) -> None:
    index = JaccardIndex(tenths / 10)
    for number, member in enumerate(members):
        index.add(str(number), member)
    for query in [*queries, *members]:
        assert index.matches(query) == brute(members, query, Fraction(tenths, 10))


def test_all_pairs_of_a_growing_index() -> None:
    rng = Random("near")
    members: list[frozenset[int]] = []
    index = JaccardIndex(0.7)
    pairs = 0
    for _ in range(400):
        if members and rng.random() < 0.6:
            base = set(rng.choice(members))
            for _ in range(rng.randint(0, 4)):
                base.symmetric_difference_update({rng.randrange(200)})
            member = frozenset(base)
        else:
            member = frozenset(rng.sample(range(200), rng.randint(1, 20)))
        expected = brute(members, member, Fraction(7, 10))
        assert index.matches(member) == expected
        pairs += len(expected)
        index.add(str(len(members)), member)
        members.append(member)
    assert pairs > 200
    assert len(index) == 400


def test_the_threshold_itself_is_near() -> None:
    index = JaccardIndex(0.7)
    index.add("seven of ten", frozenset(range(7)) | {100, 101})
    assert index.matches(frozenset(range(7)) | {200}) == [("seven of ten", 0.7)]


def test_keys_may_repeat_and_empty_sets_are_near_nothing() -> None:
    index = JaccardIndex(0.5)
    index.add("a", frozenset())
    index.add("b", frozenset({1}))
    index.add("b", frozenset({1}))
    assert index.matches(frozenset()) == []
    assert index.matches(frozenset({1})) == [("b", 1.0), ("b", 1.0)]


def test_chinese_texts() -> None:
    index = JaccardIndex(0.7)
    index.add("zh", shingles("请为一家新开的面馆写一段开业通知，语气亲切，不超过一百字。"))
    assert index.matches(shingles("请为一家新开的面馆写一段开业通知，语气亲切，不超过一百字！"))
    assert not index.matches(shingles("解释为什么夏天的白天比冬天的白天长，用小学生能懂的话。"))


def test_a_threshold_outside_0_to_1_is_refused() -> None:
    with pytest.raises(ValueError, match="threshold"):
        JaccardIndex(0)
