"""The rows of the data with what they were made from, looked up in whatever file has it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from report_fixture import write_json, write_lines

from espalier.reports.config import ReportConfig
from espalier.reports.data import data_sources, gather
from espalier.reports.data_rows import MAIN_FILES, file_readers, read_rows


def row(identity: str, parents: list[str] | None = None, **meta: Any) -> dict[str, Any]:
    turns = [
        {"role": "user", "content": f"ask {identity}"},
        {"role": "assistant", "content": f"answer {identity}"},
    ]
    return {"id": identity, "messages": turns, "meta": {**meta, "parents": parents or []}}


def finder(run: Path) -> Callable[[str], Path | None]:
    return data_sources(run).find


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Rows of four generations whose parents are each in another file."""
    curate = tmp_path / "curate"
    seeds = tmp_path / "mine.jsonl"
    write_lines(
        seeds,
        [
            {"id": "s1", "instruction": "Add.", "instances": [{"input": "1 1", "output": "2"}]},
            {"id": "s2", "instruction": "Sing."},
            {"id": "s3", "instruction": "Never used."},
        ],
    )
    write_lines(
        curate / "train.jsonl",
        [
            row("evolved", ["clean"], operator="evolve:deepen", teacher="t", round=2),
            row("fixed", [], original_id="broken", repaired=["mojibake"]),
            row("late", ["broken", "nowhere"]),
        ],
    )
    write_lines(curate / "evolved.jsonl", [row("clean", ["task 9"], operator="evolve:broaden")])
    write_lines(
        curate / "self_instruct.jsonl",
        [row("made", ["s1", "r1"], task="task 9", round=1, nearest=[["s2", 0.41666], ["s1", 0.1]])],
    )
    write_lines(
        curate / "rejects.jsonl",
        [
            {"id": "r1", "text": "user: bad", "step": "filters", "rule": "refusal",
             "evidence": "sorry", "source": "x", "meta": {"parents": ["s2"]}},
        ],
    )  # fmt: skip
    digest = hashlib.sha256(seeds.read_bytes()).hexdigest()
    write_json(
        curate / "manifest.json",
        {"inputs": {"seeds: mine": {"path": str(seeds), "sha256": digest}, "prompts": {}}},
    )
    return tmp_path


def by_id(found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    rows = {item["id"]: item for item in found["rows"]}
    assert len(rows) == len(found["rows"])
    return rows


def test_ancestors_are_found_in_every_file(run: Path) -> None:
    found = read_rows(finder(run), 8, "s")
    rows = by_id(found)
    assert set(rows) == {"evolved", "fixed", "late", "r1", "clean", "made", "s1", "s2"}
    assert {name for name, item in rows.items() if item.get("ancestor")} == {
        "clean", "made", "s1", "s2",
    }  # fmt: skip
    assert rows["clean"]["file"] == "curate/evolved.jsonl"
    assert (rows["made"]["aliases"], rows["made"]["parents"]) == (["task 9"], ["s1", "r1"])
    assert rows["made"]["nearest"] == [["s2", 0.417], ["s1", 0.1]]
    assert (rows["fixed"]["aliases"], rows["fixed"]["repaired"]) == (["broken"], ["mojibake"])
    # Of what no file has, only that there is such a thing is known.
    assert found["missing"] == 1
    assert found["files"] == {
        "curate/train.jsonl": {"rows": 3, "shown": 3},
        "curate/rejects.jsonl": {"rows": 1, "shown": 1},
    }


def test_seeds_and_rejects_are_told_apart(run: Path) -> None:
    rows = by_id(read_rows(finder(run), 8, "s"))
    assert rows["s1"]["file"] == "seeds: mine"
    assert rows["s1"]["turns"] == [
        {"role": "user", "text": "Add.\n\n1 1"}, {"role": "assistant", "text": "2"},
    ]  # fmt: skip
    assert [turn["text"] for turn in rows["s2"]["turns"]] == ["Sing."]
    reject = rows["r1"]
    assert (reject["step"], reject["rule"], reject["evidence"]) == ("filters", "refusal", "sorry")
    assert reject["turns"] == [{"role": "", "text": "user: bad"}]
    assert reject["parents"] == ["s2"]


def test_seeds_that_changed_since_are_not_shown(run: Path) -> None:
    write_lines(run / "mine.jsonl", [{"id": "s1", "instruction": "Another text."}])
    found = read_rows(finder(run), 8, "s")
    assert not {"s1", "s2"} & set(by_id(found))
    assert found["missing"] == 3
    (run / "mine.jsonl").unlink()
    assert read_rows(finder(run), 8, "s") == found


def test_a_sample_brings_its_ancestors_along(tmp_path: Path) -> None:
    rows = [row(f"{n}", [f"{n - 1}"] if n % 10 else []) for n in range(2_000)]
    write_lines(tmp_path / "curate" / "train.jsonl", rows)
    size = (tmp_path / "curate" / "train.jsonl").stat().st_size
    found = read_rows(finder(tmp_path), size / 1e6 / 10, "s")
    assert found["files"]["curate/train.jsonl"] == {"rows": 2_000, "shown": 200}
    here = by_id(found)
    drawn = [name for name, item in here.items() if not item.get("ancestor")]
    assert len(drawn) == 200
    expected = {str(n) for name in drawn for n in range(int(name) // 10 * 10, int(name) + 1)}
    assert set(here) == expected
    assert found["missing"] == 0
    assert read_rows(finder(tmp_path), size / 1e6 / 10, "s") == found


def test_side_files_get_a_smaller_share(tmp_path: Path) -> None:
    rows = [row(f"{n}") for n in range(1_000)]
    for name in ("curate/train.jsonl", "curate/prompts.jsonl"):
        write_lines(tmp_path / name, rows)
    size = (tmp_path / "curate/train.jsonl").stat().st_size
    files = read_rows(finder(tmp_path), size / 1e6, "s")["files"]
    assert files["curate/train.jsonl"]["shown"] == 1_000
    assert files["curate/prompts.jsonl"]["shown"] == 1_000 // 16


def test_who_reads_a_file(tmp_path: Path) -> None:
    paths = {"a": {"path": "elsewhere/curate/train.jsonl"}, "m": {"path": "base/model"}, "x": None}
    write_json(tmp_path / "sft" / "manifest.json", {"inputs": paths})
    write_json(tmp_path / "reward" / "manifest.json", {"inputs": [1]})
    assert file_readers(tmp_path, ("sft", "reward", "ppo")) == {"curate/train.jsonl": ["sft"]}


def test_broken_lineage_is_left_out(tmp_path: Path) -> None:
    lines = [
        {"id": 7, "messages": [{"role": "user", "content": "x"}], "meta": {"parents": "p"}},
        {"id": "a", "messages": "text", "meta": {"nearest": [1, ["b", "c"]], "task": 3}},
        {"id": "b", "meta": None},
        {"id": "c", "meta": {"parents": ["far"]}},
    ]
    write_lines(tmp_path / "curate" / "evolved.jsonl", [{"id": "far", "meta": {"task": {"x": 1}}}])
    write_lines(tmp_path / "curate" / "train.jsonl", lines)
    rows = by_id(read_rows(finder(tmp_path), 8, "s"))
    assert set(rows) == {"7", "a", "b", "c", "far"}
    assert [name for name, item in rows.items() if item["parents"]] == ["c"]
    assert rows["a"]["nearest"] == [["b", None]]


def test_the_page_of_a_run_holds_both_stages(run: Path) -> None:
    write_json(
        run / "pairs" / "funnel.json",
        [
            {
                "step": "judged",
                "stream": "on-policy pairs",
                "in": 9,
                "out": 7,
                "rejected": {"tie": 2},
            }
        ],
    )
    write_lines(
        run / "pairs" / "rejects.jsonl",
        [{"id": f"t{n}", "text": "x", "step": "judged", "rule": "tie"} for n in range(2)],
    )
    spent = {"step": "pairs", "model": "m", "requests": 4, "money": 0.5, "currency": "USD"}
    write_json(run / "pairs" / "manifest.json", {"spending": [spent]})
    write_json(
        run / "sft" / "manifest.json", {"inputs": {"rows": {"path": "x/curate/train.jsonl"}}}
    )
    data = gather(run, ReportConfig.model_validate({"rejects_per_rule": 1})).dataset
    assert data is not None
    assert [stream["label"] for stream in data.funnel] == ["Pairs of the policy's samples"]
    counts = {item["rule"]: (item["count"], len(item["examples"])) for item in data.rejects}
    assert counts == {"refusal": (1, 1), "tie": (2, 1)}
    assert data.statistics["spending"][0]["money"] == 0.5
    assert data.lineage["readers"] == {"curate/train.jsonl": ["sft"]}
    assert {"pairs/rejects.jsonl", *MAIN_FILES[:1]} <= set(data.lineage["files"])
