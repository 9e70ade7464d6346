"""Rankings as a dataset format: detection, pairs, margins, and what is said of bad rows."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from espalier.errors import InputError
from espalier.formats.detect import detect
from espalier.formats.read import read_pairs, write_pairs
from espalier.formats.registry import format_of_row
from espalier.formats.writers import write_rows
from espalier.records import Message, PreferencePair

TEXTS = ["good", "fair", "bad"]
ROWS: list[dict[str, Any]] = [
    {"prompt": "q", "answers": [{"text": t, "rank": n} for n, t in enumerate(TEXTS, 1)]},
    {"prompt": "Human: q\n\nAssistant:",
     "answers": [{"answer": t, "rank": n, "model": "m"} for n, t in enumerate(TEXTS, 1)]},
    {"instruction": "q", "models": ["a", "b", "c"], "completions": [
        {"response": t, "overall_score": 9 - n, "critique": "…"} for n, t in enumerate(TEXTS)]},
    {"question": "q", "responses": TEXTS, "ranks": [1, 2, 3]},
    {"query": "q", "candidates": TEXTS[::-1], "scores": [0.5, 1.5, 2.5]},
    {"prompt": [{"role": "user", "content": "q"}], "responses": TEXTS, "rank": ["1", "2", "3"]},
]  # fmt: skip


def put(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("row", ROWS)
def test_a_ranking_gives_all_its_pairs(tmp_path: Path, row: dict[str, Any]) -> None:
    path = put(tmp_path / "r.jsonl", row)
    assert detect(path).format == "ranking"
    pairs = list(read_pairs(path))
    assert [(p.chosen, p.rejected) for p in pairs] == list(combinations(TEXTS, 2))
    assert {p.prompt for p in pairs} == {(Message("user", "q"),)}
    assert [p.meta["ranks"] for p in pairs] == [[1, 2], [1, 3], [2, 3]]
    assert len({p.meta["ranking"] for p in pairs}) == 1


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".json", ".jsonl.gz"])
def test_every_container_holds_rankings(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"r{suffix}"
    write_rows(path, [ROWS[0], {**ROWS[0], "prompt": "42"}])
    assert detect(path).format == "ranking"
    assert [p.prompt[0].content for p in read_pairs(path)] == ["q"] * 3 + ["42"] * 3


def test_the_margin_is_the_difference_of_the_scores(tmp_path: Path) -> None:
    answers = [{"text": t, "rank": n, "score": s} for n, t, s in
               [(2, "b", 3.5), (1, "a", 4), (2, "c", 3.5), (4, "d", 1)]]  # fmt: skip
    path = put(tmp_path / "r.jsonl", {"prompt": "q", "answers": answers})
    found = {(p.chosen, p.rejected): p.margin for p in read_pairs(path)}
    assert found == {
        ("a", "b"): 0.5, ("a", "c"): 0.5, ("a", "d"): 3.0, ("b", "d"): 2.5, ("c", "d"): 2.5,
    }  # fmt: skip
    only_ranks = put(tmp_path / "n.jsonl", ROWS[0])
    assert [p.margin for p in read_pairs(only_ranks)] == [None] * 3


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "q", "answers": [{"text": "a", "rank": 1}]}, "at least two answers"),
        ({"prompt": "q", "answers": [{"text": "a", "rank": 1}, {"text": "b"}]}, "neither all"),
        ({"prompt": "q", "answers": [{"text": "a", "rank": 1}, {"text": "b", "rank": 1}]},
         "No answer stands above another"),
        ({"prompt": "q", "answers": [{"rank": 1, "text": "a"}, {"rank": 2}]}, "has no text"),
        ({"prompt": "q", "answers": [{"rank": 1, "text": "a"}, 7]}, "not an object"),
        ({"prompt": "q", "answers": [{"rank": 1, "text": "a"}, {"rank": "x", "text": "b"}]},
         "not a number"),
        ({"prompt": "q", "responses": ["a", "b"], "ranks": [1]}, "does not go with the answers"),
        ({"prompt": " ", "responses": ["a", "b"], "ranks": [1, 2]}, "is empty"),
        ({"prompt": [{"role": "assistant", "content": "x"}], "responses": ["a", "b"],
          "ranks": [1, 2]}, "does not end in a user turn"),
    ],
)  # fmt: skip
def test_a_bad_ranking_says_what_is_wrong(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    path = put(tmp_path / "r.jsonl", ROWS[0], row)
    with pytest.raises(InputError, match=message) as caught:
        list(read_pairs(path, format="ranking"))
    assert "line 2" in str(caught.value)
    rejects: list[Any] = []
    kept = list(read_pairs(path, format="ranking", on_bad_row="quarantine", rejects=rejects))
    assert (len(kept), len(rejects)) == (3, 1)


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"question": "q", "response": "r", "answers": ["x", "y"]}, "open-orca"),
        ({"prompt": "q", "completion": "c", "answers": []}, "prompt-completion"),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "answers": ["a"]}, "preference"),
        ({"question": "q", "answers": {"text": ["a"], "answer_start": [1]}}, None),
    ],
)
def test_other_lists_of_answers_are_no_rankings(row: dict[str, Any], name: str | None) -> None:
    found = format_of_row(row)
    assert (found.name if found else None) == name


def test_pairs_come_back_as_they_were(tmp_path: Path) -> None:
    prompt = (Message("system", "s"), Message("user", "问"))
    pairs = [PreferencePair.make(prompt, "好", "坏", margin=1.5),
             PreferencePair.make(prompt, "a", "b")]  # fmt: skip
    path = tmp_path / "r.jsonl"
    write_pairs(path, pairs, format="ranking")
    back = list(read_pairs(path))
    assert [(p.prompt, p.chosen, p.rejected, p.margin) for p in back] == [
        (p.prompt, p.chosen, p.rejected, p.margin) for p in pairs
    ]
