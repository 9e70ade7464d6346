"""What prompts may be grouped by in the report: which fields, and their labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from espalier.evaluate.evalset import EvalSet, read_set
from espalier.evaluate.groups import MOST_FIELDS, MOST_VALUES, groups_of, write_groups
from espalier.evaluate.slices import masks_of


def made(folder: Path, metas: list[dict[str, Any]]) -> EvalSet:
    path = folder / "set.jsonl"
    rows = [
        {"id": f"r{i}", "messages": [{"role": "user", "content": f"Say {i}"}], "meta": meta}
        for i, meta in enumerate(metas)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return read_set(path)


def test_fields_that_tell_groups_apart(tmp_path: Path) -> None:
    metas = [
        {
            "language": "en",
            "source": f"s{i % 2}",
            "level": ["easy", "hard"][i % 2],
            "steps": i,
            "checked": i % 3 == 0,
            "tags": ["b", "a"] if i % 2 else ["a"],
            "same": "always",
            "serial": f"number {i}",
            "note": "long " * 40 if i else "",
            "empty": None,
            "难度": "高" if i < 150 else "低",
        }
        for i in range(MOST_VALUES + 50)
    ]
    evalset = made(tmp_path, metas)
    found = groups_of(evalset, ["language", "length"])
    assert list(found) == ["level", "steps", "checked", "tags", "难度"]
    assert found["level"][:2] == ["easy", "hard"]
    assert found["tags"][:2] == ["a", "a, b"] and found["checked"][:2] == ["True", "False"]
    # Many numbers are thirds, named like the slices of the evaluation.
    assert len(masks_of(found["steps"])) == 3 and found["steps"][0] == "1 low: 0–83"
    # What the recipe slices by is there, however many values it has.
    assert next(iter(groups_of(evalset, ["serial"]))) == "serial"


def test_the_file_has_a_line_a_row(tmp_path: Path) -> None:
    evalset = made(tmp_path, [{"a": "x", "b": "1"}, {"a": "y"}, {"b": "2\u2028"}, {}])
    write_groups(evalset, [], tmp_path / "groups.jsonl")
    text = (tmp_path / "groups.jsonl").read_text("utf-8")
    lines = [json.loads(line) for line in text.split("\n") if line]
    assert lines == [
        {"id": "r0", "groups": {"a": "x", "b": "1"}},
        {"id": "r1", "groups": {"a": "y"}},
        {"id": "r2", "groups": {"b": "2\u2028"}},
        {"id": "r3", "groups": {}},
    ]


def test_not_more_fields_than_anybody_reads(tmp_path: Path) -> None:
    metas = [{f"f{k}": str(i) for k in range(MOST_FIELDS + 9)} for i in range(2)]
    assert len(groups_of(made(tmp_path, metas), [])) == MOST_FIELDS
