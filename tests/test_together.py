"""Groups of rows that a split must not tear apart, against a search for connected rows."""

from __future__ import annotations

import random

import networkx
import pytest

from espalier.together import together


@pytest.mark.parametrize("seed", range(20))
def test_groups_are_the_connected_components(seed: int) -> None:
    rng = random.Random(seed)
    rows = [(rng.randrange(30), rng.choice([None, *range(15)])) for _ in range(60)]
    graph = networkx.Graph()
    for place, (prompt, dialogue) in enumerate(rows):
        graph.add_edge(place, f"p{prompt}")
        if dialogue is not None:
            graph.add_edge(place, f"d{dialogue}")
    expected = [
        sorted(node for node in component if isinstance(node, int))
        for component in networkx.connected_components(graph)
    ]
    found = together(rows)
    assert [group.places for group in found] == sorted(expected)
    for group in found:
        dialogues = {rows[place][1] for place in group.places}
        assert group.linked == (len(dialogues) > 1)


def test_rows_without_dialogues_are_grouped_by_prompt_alone() -> None:
    found = together([("a", None), ("b", None), ("a", None)])
    assert [tuple(group) for group in found] == [([0, 2], False), ([1], False)]
    # A prompt and a dialogue of one name are two things.
    assert len(together([("a", None), ("b", "a")])) == 2


def test_a_long_chain_is_one_group() -> None:
    rows = [(number // 2, (number + 1) // 2) for number in range(40_000)]
    (group,) = together(rows)
    assert group.linked and len(group.places) == 40_000
