"""The held-out set: which rows have a reference, and what is said of rows that can't be used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from espalier.errors import InputError
from espalier.evaluate.evalset import EvalSet, read_set


def of(tmp_path: Path, rows: Sequence[dict[str, Any]]) -> EvalSet:
    path = tmp_path / "set.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return read_set(path)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "写一首诗"},
        {"prompt": "写一首诗", "completion": ""},
        {"prompt": "写一首诗", "completion": None},
        {"instruction": "写一首诗"},
        {"instruction": "写一首诗", "input": "", "output": " "},
        {"question": "写一首诗"},
        {"messages": [{"role": "user", "content": "写一首诗"}]},
    ],
)
def test_prompts_without_answers_are_prompts_without_references(
    tmp_path: Path, row: dict[str, Any]
) -> None:
    evalset = of(tmp_path, [{**row, "id": "q7"}])
    assert evalset.references == [None]
    assert evalset.rows[0].prompt == "写一首诗" and evalset.rows[0].language == "zh"
    assert "q7" in evalset.rows[0].names


def test_some_rows_may_have_a_reference(tmp_path: Path) -> None:
    rows = [{"prompt": "a"}, {"prompt": "b", "completion": "x"}, {"prompt": "c", "completion": ""}]
    assert of(tmp_path, rows).references == [None, "x", None]
    assert of(tmp_path, rows[::-1]).references == [None, "x", None]


def test_a_reference_may_be_a_field_of_its_own_and_a_number(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "6 · 7", "reference": 42},
        {"prompt": "b", "reference": "x"},
    ]
    assert of(tmp_path, rows).references == ["42", "x"]


@pytest.mark.parametrize("name", ["answer", "references", "target"])
def test_references_under_another_name_are_not_passed_over(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"a field '{name}', and no reference") as caught:
        of(tmp_path, [{"prompt": "a", name: "x"}, {"prompt": "b", name: "y"}])
    assert "to `reference`" in str(caught.value)
    # Beside a reference such a field is one more fact of the row.
    assert of(tmp_path, [{"prompt": "a", name: "x", "completion": "y"}]).references == ["y"]


def test_a_bad_row_is_named_without_advice_that_an_evaluation_has_not(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 2, field 'prompt'") as caught:
        of(tmp_path, [{"prompt": "a"}, {"prompt": 3}])
    assert "correct that row" in str(caught.value)
    assert "on_bad_row" not in str(caught.value)


def test_every_row_has_an_id_of_its_own(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "x"}]
    given = ["a", "a", "a-2", "a-2", "a", "b"]
    evalset = of(tmp_path, [{"id": name, "messages": turns, "meta": {}} for name in given])
    ids = [row.id for row in evalset.rows]
    assert ids == ["a", "a-3", "a-2", "a-2-2", "a-4", "b"]
