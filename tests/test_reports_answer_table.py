"""The answers of a run as the page holds them, read back beside the result files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import packed
import pytest
from report_fixture import make_run, write_lines

from espalier.errors import InputError
from espalier.reports.answer_packing import (
    EXTREMES,
    extremes,
    known_labels,
    pack_answers,
    rows_with_text,
)
from espalier.reports.answer_table import AnswerTable
from espalier.reports.answers import read_answers, reading_summary
from espalier.reports.overview_data import overview_core


def table_of(folder: Path, limit: int | None = None) -> AnswerTable:
    found = read_answers(folder, reading_summary(folder) or {}, limit)
    assert found is not None
    return found


def unpacked(table: AnswerTable, megabytes: float = 100) -> dict[str, Any]:
    texts = {name: "".join(parts) for name, parts in pack_answers(table, megabytes)}
    return packed.answers(texts["packed-answers"], texts["packed-texts"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "r", rows=40) / "evaluate"


@pytest.fixture(scope="module")
def lines(folder: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet

    found: list[dict[str, Any]] = pyarrow.parquet.read_table(folder / "scores.parquet").to_pylist()
    return found


def test_the_order_of_the_score_table_does_not_matter(
    folder: Path, lines: list[dict[str, Any]], tmp_path: Path
) -> None:
    import pyarrow
    import pyarrow.parquet

    expected = unpacked(table_of(folder))
    (tmp_path / "summary.json").write_bytes((folder / "summary.json").read_bytes())
    names = [model["name"] for model in expected["models"]]
    for model in names:
        copied = tmp_path / "answers" / f"{model}.jsonl"
        copied.parent.mkdir(exist_ok=True)
        copied.write_bytes((folder / "answers" / f"{model}.jsonl").read_bytes())
    # Prompt by prompt, models last to first.
    ids = expected["rows"]["id"]
    mixed = sorted(lines, key=lambda x: (ids.index(x["id"]), -names.index(x["model"])))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(mixed), tmp_path / "scores.parquet")
    assert unpacked(table_of(tmp_path)) == expected


def test_a_limit_keeps_the_first_prompts(folder: Path, lines: list[dict[str, Any]]) -> None:
    found = unpacked(table_of(folder, 7))
    assert found["rows"]["id"] == list(dict.fromkeys(line["id"] for line in lines))[:7]
    assert all(len(model["answers"]) == 7 for model in found["models"])
    assert all(len(v) == 7 for metric in found["metrics"] for v in metric["values"].values())


def test_facts_are_those_of_the_answers(folder: Path) -> None:
    found = unpacked(table_of(folder))
    for model in found["models"]:
        text = (folder / "answers" / f"{model['name']}.jsonl").read_text("utf-8")
        stored = {line["id"]: line for line in map(json.loads, text.splitlines())}
        for row, identity in enumerate(found["rows"]["id"]):
            assert model["facts"]["tokens"][row] == stored[identity]["tokens"]
            assert model["facts"]["finish_reason"][row] == stored[identity]["finish_reason"]
            assert model["facts"]["seconds"][row] == pytest.approx(
                stored[identity]["seconds"], rel=5e-3
            )


def test_what_a_judge_said_stands_with_its_prompt(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "r", rows=5) / "evaluate"
    ids = unpacked(table_of(folder))["rows"]["id"]
    marks = {"model": "sft", "rubric": "quality", "accuracy": 4, "reason": "Right, “答案”.\ud800"}
    pair = {"model": "ppo", "baseline": "sft", "winner": "ppo", "replies": ["A", "B"]}
    clean = {**marks, "reason": "Right, “答案”."}
    write_lines(folder / "judge_marks.jsonl", [{"id": ids[1], **clean}, {"id": "gone", **clean}])
    write_lines(folder / "judge_pairs.jsonl", [{"id": ids[1], **pair}, {"id": ids[3], **pair}])
    notes = unpacked(table_of(folder))["notes"]
    assert notes == [
        None, {"marks": [clean], "verdicts": [pair]}, None, {"verdicts": [pair]}, None,
    ]  # fmt: skip


def test_groups_of_prompts_are_further_labels(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "r", rows=5) / "evaluate"
    ids = unpacked(table_of(folder))["rows"]["id"]
    told = [
        {"id": ids[1], "groups": {"level": "hard", "language": "xx"}},
        {"id": "gone", "groups": {"level": "easy"}},
        {"id": ids[3], "groups": {"level": "easy", "__proto__": "x", "none": None}},
        {"id": ids[4], "groups": "nothing"},
    ]
    write_lines(folder / "groups.jsonl", told)
    table = table_of(folder)
    labels = unpacked(table)["head"]["labels"]
    assert labels["level"] == [None, "hard", None, "easy", None]
    assert labels["__proto__"] == [None, None, None, "x", None]
    assert "none" not in labels and "xx" not in labels["language"]
    core = overview_core(
        {"confidence": 0.95, "models": [], "metrics": [], "scores": [], "comparisons": [],
         "slices": []}, set(), known_labels(table),
    )  # fmt: skip
    assert core["columns"] == list(labels)


def made(rows: int, size: int = 2_000) -> AnswerTable:
    """Two models; the second is far better on rows 3 and 5, a little on the others."""
    table = AnswerTable()
    for row in range(rows):
        assert table.row(f"r{row}") == row
        table.add_prompt(row, f"{row} " + "p" * size, None, {"language": "en"})
        for model in "ab":
            table.add_answer(row, model, f"{row}{model}" + "x" * size)
    values = np.zeros((2, rows))
    values[1] = np.linspace(0.1, 0.2, rows)
    values[1, [3, 5]] = 9
    table.metrics.append(
        {"name": "m", "label": "M", "format": "number", "higher_is_better": True, "tested": True}
    )
    table.values["m"] = values
    return table


def test_more_text_than_a_page_may_hold() -> None:
    table = made(1_000)
    assert rows_with_text(table, 10**9) == list(range(1_000))
    kept = rows_with_text(table, 1_200_000)
    # A row is about 6 kB; those that differ most are there, and the rest is spread evenly.
    assert 150 < len(kept) <= 200
    assert kept == sorted(set(kept))
    assert {3, 5} <= set(kept)
    assert {*np.argsort(-table.values["m"][1])[:EXTREMES].tolist()} <= set(kept)
    counts, _ = np.histogram(kept, 5, (0, 1_000))
    assert counts[:4].max() - counts[:4].min() <= EXTREMES
    assert table.sizes()[kept].sum() <= 1_200_000
    assert rows_with_text(table, 10) == []


def test_scores_of_rows_without_text_are_there() -> None:
    table = made(300)
    found = unpacked(table, megabytes=0.2)
    texts = found["head"]["texts"]
    assert 20 < len(texts) < 40
    assert len(found["metrics"][0]["values"]["b"]) == 300
    for row, prompt in enumerate(found["rows"]["prompt"]):
        assert (prompt or "").startswith(f"{row} ") == (row in texts)


def test_extremes_are_the_largest_differences_in_each_direction() -> None:
    table = made(200)
    table.values["m"][0, [7, 8]] = 20
    table.values["m"][0, 9] = np.nan
    found = extremes(table)
    assert set(found[:2]) == {7, 8}
    assert {3, 5} <= set(found)
    assert 9 not in found
    table.metrics[0]["tested"] = False
    assert extremes(table) == []


def test_a_broken_score_table_is_told(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "r", rows=2) / "evaluate"
    (folder / "scores.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(InputError, match="can't be read"):
        table_of(folder)
