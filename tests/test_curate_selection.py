"""Selection: by score, apart from one another, in balance, up to the target."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espalier.curate.config_select import SelectionConfig
from espalier.curate.pipeline import Ledger
from espalier.curate.quality import with_quality
from espalier.curate.selection import select_rows
from espalier.errors import StageError
from espalier.records import Example
from espalier.text import shingles


def row(number: int, score: float | None, prompt: str | None = None, **meta: Any) -> Example:
    text = prompt or " ".join(f"w{number}x{i}" for i in range(6))
    made = Example.single(text, "yes", meta={"language": "en", "group": "dialogue", **meta})
    return made if score is None else with_quality(made, judge=score)


def select(rows: Sequence[Example], **options: Any) -> tuple[list[Example], list[dict[str, Any]]]:
    handle = io.StringIO()
    ledger = Ledger("test", handle)
    kept = list(
        ledger.behind(lambda: iter(rows), "selection", select_rows(SelectionConfig(**options)))
    )
    rejects = [json.loads(line) for line in handle.getvalue().splitlines()]
    assert len(kept) + len(rejects) == len(rows) == ledger.tallies[0].seen
    return kept, rejects


def test_the_best_rows_are_taken_and_keep_their_order() -> None:
    rows = [row(i, score) for i, score in enumerate([1.0, 5.0, 3.0, 4.0, 2.0])]
    kept, rejects = select(rows, target=3)
    assert kept == [rows[1], rows[2], rows[3]]
    assert {reject["rule"] for reject in rejects} == {"not_selected"}


def test_a_row_near_a_better_one_is_left_out_and_names_it() -> None:
    same = "write a short poem about the first snow of winter"
    rows = [row(0, 3.0, same), row(1, 5.0, same + " please"), row(2, 1.0)]
    kept, rejects = select(rows, target=3)
    assert kept == [rows[1], rows[2]]
    assert rejects[0]["rule"] == "too_similar"
    assert rows[1].id in rejects[0]["evidence"]


def test_cells_are_balanced_and_a_small_one_leaves_its_share() -> None:
    rows = [row(i, 5.0, language="en", group="reasoning") for i in range(50)]
    rows += [row(100 + i, 1.0, language="zh", group="dialogue") for i in range(50)]
    rows += [row(200 + i, 3.0, language="zh", group="reasoning") for i in range(4)]
    kept, _ = select(rows, target=30)
    counts = Counter((r.meta["language"], r.meta["group"]) for r in kept)
    assert counts == {("en", "reasoning"): 13, ("zh", "dialogue"): 13, ("zh", "reasoning"): 4}


def test_shares_weigh_values() -> None:
    rows = [row(i, 1.0, language="en" if i % 2 else "zh") for i in range(100)]
    kept, _ = select(rows, target=30, balance=["language"], shares={"zh": 2.0})
    assert Counter(r.meta["language"] for r in kept) == {"zh": 20, "en": 10}


def test_rows_of_some_sources_are_selected_in_any_case() -> None:
    rows = [row(i, 5.0) for i in range(4)] + [row(9, None, source="safety")]
    kept, _ = select(rows, target=3, always=["safety"])
    assert kept == [rows[0], rows[1], rows[4]]


def test_rows_without_a_score_come_last() -> None:
    rows = [row(0, None), row(1, 1.0), row(2, None), row(3, 2.0)]
    kept, _ = select(rows, target=3)
    assert kept == [rows[0], rows[1], rows[3]]


def test_no_score_at_all_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(StageError, match="No row has the score 'ifd'") as caught:
        select([row(0, 1.0)], target=1, score=["ifd"])
    assert "quality" in str(caught.value.hint)


def test_several_scores_count_by_rank_not_by_scale() -> None:
    rows = [
        with_quality(row(i, None), judge=judge, reward=reward)
        for i, (judge, reward) in enumerate([(5, -900.0), (4, 1000.0), (1, 999.0), (3, 0.0)])
    ]
    # Ranks 4·1, 3·4, 1·3, 2·2.
    kept, _ = select(rows, target=1, score=["judge", "reward"], diversity="none")
    assert kept == [rows[1]]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), limit=st.sampled_from([0.3, 0.5, 0.8]))
def test_selected_rows_are_apart_and_left_out_ones_are_near(seed: int, limit: float) -> None:
    rng = Random(seed)
    words = [f"word{i}" for i in range(12)]
    rows = [
        row(i, rng.random(), " ".join(rng.choices(words, k=6)) + f" {i % 3}") for i in range(30)
    ]
    kept, rejects = select(rows, target=100, max_similarity=limit, balance=[], ngram=2)
    sets = {r.id: shingles(f"{r.prompt}", 2) for r in rows}

    def jaccard(a: str, b: str) -> float:
        return len(sets[a] & sets[b]) / len(sets[a] | sets[b])

    for i, first in enumerate(kept):
        assert all(jaccard(first.id, other.id) < limit for other in kept[i + 1 :])
    for reject in rejects:
        assert any(jaccard(reject["id"], r.id) >= limit for r in kept)
    # Greedy by score: whoever is left out is near a kept row that scores at least as much.
    score = {r.id: r.meta["quality"]["score"] for r in rows}
    for reject in rejects:
        assert any(
            jaccard(reject["id"], r.id) >= limit and score[r.id] >= score[reject["id"]]
            for r in kept
        )


def test_a_random_sample_takes_every_row_alike_and_changes_with_the_seed() -> None:
    """Each of 40 rows is drawn in a quarter of 400 samples, within five standard deviations."""
    rows = [row(number, 1.0 if number % 2 else 5.0) for number in range(40)]
    config = SelectionConfig(score=["random"], balance=[], diversity="none", target=10)
    drawn: Counter[str] = Counter()
    for seed in range(400):
        ledger = Ledger("test", io.StringIO())
        kept = [*ledger.behind(lambda: iter(rows), "selection", select_rows(config, seed))]
        assert len(kept) == 10
        drawn.update(item.id for item in kept)
    assert all(abs(drawn[item.id] - 100) < 5 * (400 * 0.25 * 0.75) ** 0.5 for item in rows)


def test_the_draw_of_a_row_does_not_depend_on_the_others() -> None:
    rows = [row(number, None) for number in range(60)]
    options: dict[str, Any] = {"score": ["random"], "balance": [], "diversity": "none"}
    all_of_them, _ = select(rows, target=20, **options)
    odd, _ = select(list(reversed(rows[1::2])), target=20, **options)
    assert {item.id for item in all_of_them if item in rows[1::2]} <= {item.id for item in odd}
