"""Part of a file by its rows' meta: which rows, with which limit, and what is said when none is."""

from __future__ import annotations

from pathlib import Path

import pytest

from espalier.errors import InputError
from espalier.records import Example, dump_line
from espalier.run import Shared, StageContext
from espalier.train.config import SFTConfig
from espalier.train.sources import data_sources, matching, read_sources

GROUPS = ("reasoning", "dialogue", "reasoning", "transformation", "dialogue", "reasoning")


def rows() -> list[Example]:
    return [
        Example.single(f"q{number}", f"a{number}", meta={"group": group, "round": number % 2})
        for number, group in enumerate(GROUPS)
    ]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"group": "dialogue"}, [1, 4]),
        ({"group": ["dialogue", "transformation"]}, [1, 3, 4]),
        ({"group": "reasoning", "round": "0"}, [0, 2]),
        ({}, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_rows_of_a_file_by_their_meta(
    where: dict[str, str | list[str]], expected: list[int]
) -> None:
    every = rows()
    assert matching(every, where, "x.jsonl") == [every[place] for place in expected]


def test_no_such_value_names_those_that_there_are() -> None:
    with pytest.raises(InputError, match=r"No row has understanding in meta\.group") as caught:
        matching(rows(), {"group": "understanding"}, "x.jsonl")
    assert caught.value.expected == "one of dialogue, reasoning, transformation"
    with pytest.raises(InputError, match=r"meta\.topic"):
        matching(rows(), {"topic": "x"}, "x.jsonl")


@pytest.mark.parametrize("pick", ["first", "random"])
def test_a_limit_is_taken_of_the_matching_rows(pick: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(dump_line(row.to_json()) + "\n" for row in rows()), encoding="utf-8")
    options = SFTConfig.model_validate(
        {
            "pick": pick,
            "data": [
                {"path": str(path), "where": {"group": "reasoning"}, "limit": 2, "weight": 1},
                {"path": str(path), "where": {"group": "dialogue"}, "weight": 3},
            ],
        }
    )
    context = StageContext("sft", tmp_path, tmp_path / "sft", options, Shared.model_validate({}))
    found, origins = read_sources(context, data_sources(options.data), pick=options.pick)
    assert origins == [0, 0, 1, 1]
    assert [row.meta["group"] for row in found] == ["reasoning"] * 2 + ["dialogue"] * 2
    if pick == "first":
        assert [row.prompt for row in found] == ["q0", "q2", "q1", "q4"]
