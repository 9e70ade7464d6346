"""The statistics of a folder, against a naive recount of its files."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from curate_fixture import make_folder, read_lines, spending, write_lines

from espalier.curate.groups import group_of
from espalier.curate.openings import opening
from espalier.curate.statistics import collect, write_statistics
from espalier.errors import InputError
from espalier.records import Example
from espalier.text import length


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("data") / "clean")


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    return collect(folder, spending())


def test_rows_and_labels(folder: Path, found: dict[str, Any]) -> None:
    assert list(found["files"]) == ["train.jsonl", "eval.jsonl", "preferences.jsonl"]
    for name, file in found["files"].items():
        rows = read_lines(folder / name)
        assert file["rows"] == len(rows)
        assert file["bytes"] == (folder / name).stat().st_size
        assert file["with_parents"] == sum("parents" in row["meta"] for row in rows)
        for label in ("language", "source", "category", "group", "operator", "teacher", "kind"):
            counts = Counter(row["meta"][label] for row in rows if label in row["meta"])
            assert file.get(f"by_{label}", {}) == counts
        rounds = Counter(str(row["meta"]["round"]) for row in rows if "round" in row["meta"])
        assert file.get("by_round", {}) == rounds


def test_lengths(folder: Path, found: dict[str, Any]) -> None:
    values: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row in read_lines(folder / "train.jsonl"):
        user, assistant = (turn["content"] for turn in row["messages"])
        for what, value in (("prompt", length(user)), ("answer", length(assistant)), ("turns", 2)):
            values[what]["all"].append(value)
            values[what][row["meta"]["language"]].append(value)
    lengths = found["files"]["train.jsonl"]["lengths"]
    assert set(lengths) == set(values)
    for what, by_language in values.items():
        assert set(lengths[what]) == set(by_language)
        for name, numbers in by_language.items():
            spread = lengths[what][name]
            assert spread["count"] == len(numbers)
            assert spread["mean"] == pytest.approx(np.mean(numbers), abs=1e-3)
            assert spread["median"] == np.quantile(numbers, 0.5, method="inverted_cdf")
            assert spread["p95"] == np.quantile(numbers, 0.95, method="inverted_cdf")
            for low, high, count in spread["histogram"]:
                assert count == sum(low <= number < high for number in numbers)
    pairs = found["files"]["preferences.jsonl"]["lengths"]
    assert set(pairs) == {"prompt", "chosen", "rejected", "turns"}
    assert pairs["chosen"]["all"]["count"] == 9


def test_openings_and_groups_of_a_small_file_count_every_row(
    folder: Path, found: dict[str, Any]
) -> None:
    rows = read_lines(folder / "train.jsonl")
    groups = Counter(group_of(Example.from_json(row)) for row in rows)
    assert Counter(found["groups"]["counts"]) == groups
    assert found["groups"]["guessed"] == sum("group" not in row["meta"] for row in rows)
    assert found["groups"]["sampled"] == found["groups"]["rows"] == len(rows)
    for name in ("en", "zh"):
        mine = [row for row in rows if row["meta"]["language"] == name]
        pairs = [opening(row["messages"][0]["content"], name) for row in mine]
        verbs = Counter(pair.verb for pair in pairs if pair)
        section = found["openings"]["languages"][name]
        assert section["rows"] == len(mine)
        assert section["recognised"] == sum(pair is not None for pair in pairs)
        assert {item["verb"]: item["count"] for item in section["verbs"]} == verbs
        for item in section["verbs"]:
            nouns = Counter(p.noun for p in pairs if p and p.verb == item["verb"] and p.noun)
            assert dict(item["nouns"]) == nouns
    assert {item["verb"] for item in found["openings"]["languages"]["en"]["verbs"]} >= {"write"}


def test_an_input_of_its_own_is_no_part_of_the_instruction(tmp_path: Path) -> None:
    row = {
        "id": "1", "meta": {"input": "Write a poem."},
        "messages": [{"role": "user", "content": "Shorten the text.\n\nWrite a poem."},
                     {"role": "assistant", "content": "Poem."}],
    }  # fmt: skip
    write_lines(tmp_path / "train.jsonl", [row])
    verbs = collect(tmp_path)["openings"]["languages"]["en"]["verbs"]
    assert [item["verb"] for item in verbs] == ["shorten"]


def test_quality(folder: Path, found: dict[str, Any]) -> None:
    scores = [row["meta"]["quality"] for row in read_lines(folder / "train.jsonl")
              if "quality" in row["meta"]]  # fmt: skip
    quality = found["quality"]
    assert quality["rows"] == len(scores)
    assert quality["safe"] == {"yes": sum(s["safe"] for s in scores),
                               "no": sum(not s["safe"] for s in scores)}  # fmt: skip
    assert set(quality["numbers"]) == {"relevance", "judge", "ifd"}
    for name, spread in quality["numbers"].items():
        assert spread["count"] == len(scores)
        assert spread["mean"] == pytest.approx(np.mean([s[name] for s in scores]), abs=1e-3)
    marks = Counter(score["relevance"] for score in scores)
    bins = quality["numbers"]["relevance"]["histogram"]
    assert {low: count for low, _, count in bins if count} == marks


def test_rejects_by_rule_with_examples_of_that_rule(folder: Path, found: dict[str, Any]) -> None:
    rows = read_lines(folder / "rejects.jsonl")
    counts = Counter((row["step"], row["rule"]) for row in rows)
    assert {(i["step"], i["rule"]): i["count"] for i in found["rejects"]} == counts
    by_id = {row["id"]: row for row in rows}
    for item in found["rejects"]:
        assert len(item["examples"]) == min(3, item["count"])
        for example in item["examples"]:
            row = by_id[example["id"]]
            assert (row["step"], row["rule"]) == (item["step"], item["rule"])
            assert (example["text"], example["evidence"]) == (row["text"], row["evidence"])


def test_clusters(folder: Path, found: dict[str, Any]) -> None:
    lines = read_lines(folder / "clusters.jsonl")
    clusters = Counter((line["method"], line["keeper"]) for line in lines)
    for method, counted in found["duplicates"]["methods"].items():
        mine = [count + 1 for (name, _), count in clusters.items() if name == method]
        assert counted["clusters"] == len(mine)
        assert counted["removed"] == sum(line["method"] == method for line in lines)
        assert counted["sizes"] == {str(size): n for size, n in sorted(Counter(mine).items())}
    largest = found["duplicates"]["largest"]
    assert [cluster["size"] for cluster in largest] == sorted(
        (count + 1 for count in clusters.values()), reverse=True
    )
    first = largest[0]
    key = first["method"], first["keeper"]
    members = [line["removed"] for line in lines if (line["method"], line["keeper"]) == key]
    assert [member["removed"] for member in first["members"]] == members


def test_only_the_largest_clusters_are_shown(tmp_path: Path) -> None:
    lines = [
        {"method": "m", "keeper": f"k{keeper}", "removed": f"{keeper}.{member}", "similarity": 1.0,
         "shared": "", "keeper_text": "a", "removed_text": "b"}
        for member in range(9) for keeper in range(30) if member <= keeper % 9
    ]  # fmt: skip
    write_lines(tmp_path / "clusters.jsonl", lines)
    largest = collect(tmp_path)["duplicates"]["largest"]
    sizes = sorted(
        (n + 1 for n in Counter(line["keeper"] for line in lines).values()), reverse=True
    )
    assert [cluster["size"] for cluster in largest] == sizes[:10]
    assert all(len(cluster["members"]) == 5 for cluster in largest)


def test_contamination_funnel_and_spending(folder: Path, found: dict[str, Any]) -> None:
    shared = found["contamination"]
    assert shared["rows"] == 2
    assert shared["by_action"] == {"flag": 1, "remove": 1}
    assert shared["by_kind"] == {"ngram": 1, "near_prompt": 1}
    assert shared["by_file"] == {"exam.jsonl": 2}
    assert found["funnel"] == json.loads((folder / "funnel.json").read_text(encoding="utf-8"))
    assert found["spending"] == spending()


def test_absent_files_are_absent(tmp_path: Path) -> None:
    found = collect(tmp_path)
    assert found["files"] == found["quality"] == found["duplicates"] == found["contamination"] == {}
    assert found["rejects"] == found["funnel"] == found["spending"] == []
    (tmp_path / "train.jsonl").touch()
    assert collect(tmp_path)["files"]["train.jsonl"]["rows"] == 0


def test_the_result_depends_on_files_and_seed_alone(folder: Path, tmp_path: Path) -> None:
    first, second = collect(folder, seed=7), collect(folder, seed=7)
    assert first == second
    copied = make_folder(tmp_path / "copy")
    assert write_statistics(copied, spending()) == collect(copied, spending())
    written = json.loads((copied / "statistics.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(collect(copied, spending())))


@pytest.mark.parametrize("line", ["{", "[]", "3", ""])
def test_a_broken_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "rejects.jsonl").write_text('{"step": "a"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        collect(tmp_path)
    assert "rejects.jsonl" in str(caught.value)
    assert "2" in str(caught.value)


def test_odd_rows_are_counted_without_a_traceback(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {}, {"messages": None, "meta": None}, {"messages": [3, {"role": "user"}], "meta": []},
        {"prompt": "text", "chosen": 3}, {"meta": {"quality": [1], "parents": "x", "round": True}},
        {"meta": {"quality": {"judge": float("nan"), "safe": "yes"}, "language": 4}},
    ]  # fmt: skip
    write_lines(tmp_path / "train.jsonl", rows)
    write_lines(tmp_path / "clusters.jsonl", [{}, {"similarity": "high"}])
    write_lines(tmp_path / "contamination.jsonl", [{}, {"found": [3]}])
    assert collect(tmp_path)["files"]["train.jsonl"]["rows"] == len(rows)


@pytest.mark.slow
def test_memory_stays_small(tmp_path: Path) -> None:
    """30 MB of rows, rejects and cluster lines take less than 8 MB of Python objects."""
    text = "word " * 100
    rows = ({"id": str(n), "meta": {"source": f"s{n}", "category": f"c{n}"}, "messages": [
        {"role": "user", "content": f"Tell {n} {text}"}]} for n in range(20_000))  # fmt: skip
    write_lines(tmp_path / "train.jsonl", rows)
    for name, line in (
        ("rejects.jsonl", {"step": "s", "rule": "r", "text": text}),
        ("clusters.jsonl", {"method": "m", "keeper": "k", "removed_text": text}),
    ):
        write_lines(tmp_path / name, ({**line, "id": str(n)} for n in range(20_000)))
    tracemalloc.start()
    found = collect(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6
    assert found["files"]["train.jsonl"]["by_source"]["(others)"] == 20_000 - 50
    assert found["groups"]["sampled"] == 5_000
