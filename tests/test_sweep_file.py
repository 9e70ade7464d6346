"""`sweep.json`: read back as written, and refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from espalier.errors import InputError
from espalier.sweep_file import Factor, Member, SweepFile, is_sweep, read_sweep, write_sweep


def test_a_sweep_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    sweep = SweepFile(
        recipe="scale",
        question={"en": "How much?", "zh": "多少？"},
        answer={"metric": "exact_match", "model": "sft"},
        factors=[Factor("a.b", "b", [1, 2.5, "x", None]), Factor("variant", "variant", ["p"])],
        members=[
            Member("b-1", {"a.b": 1, "variant": "p"}, 3, stages={"sft": "shared/sft-0"}),
            Member("b-2", {"a.b": 2.5}, 4, "failed", "坏了", "sft", {}, 1.5),
        ],
        former_seconds=7.5,
    )
    assert not is_sweep(tmp_path)
    write_sweep(tmp_path, sweep)
    assert is_sweep(tmp_path)
    assert read_sweep(tmp_path) == sweep


def test_a_sweep_of_an_earlier_program_is_read(tmp_path: Path) -> None:
    write_sweep(tmp_path, SweepFile("r", former_seconds=3))
    path = tmp_path / "sweep.json"
    value = json.loads(path.read_text())
    del value["former_seconds"]
    path.write_text(json.dumps(value))
    assert read_sweep(tmp_path) == SweepFile("r")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 9}, "another form"),
        ({"members": None}, "'members' of a sweep's file is of the wrong kind"),
        ({"members": [{"name": "x"}]}, "'status' is missing"),
        ({"factors": [{"key": 1}]}, "'key' of a sweep's file is of the wrong kind"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    write_sweep(tmp_path, SweepFile("r"))
    path = tmp_path / "sweep.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=message):
        read_sweep(tmp_path)


def test_a_folder_without_a_sweep_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no sweep"):
        read_sweep(tmp_path)
