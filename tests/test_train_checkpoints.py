"""Checkpoints are complete or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from espalier.train import checkpoints


def write(folder: Path, step: int) -> None:
    with checkpoints.writing(folder, step, {"step": step}) as path:
        (path / "weights").write_text(str(step))


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    assert checkpoints.latest(tmp_path / "none") is None
    for step in (5, 20, 100):
        write(tmp_path, step)
    assert [c.step for c in checkpoints.complete(tmp_path)] == [20, 100]
    last = checkpoints.latest(tmp_path)
    assert last is not None
    assert (last.path / "weights").read_text() == "100"
    assert last.info == {"step": 100}
    checkpoints.clear(tmp_path)
    assert checkpoints.latest(tmp_path) is None


def test_a_write_that_is_cut_off_leaves_the_one_before(tmp_path: Path) -> None:
    write(tmp_path, 5)
    with (
        pytest.raises(KeyboardInterrupt),
        checkpoints.writing(tmp_path, 10, {}) as path,
    ):
        (path / "weights").write_text("half")
        raise KeyboardInterrupt
    last = checkpoints.latest(tmp_path)
    assert last is not None and last.step == 5
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-5"]


def test_a_folder_without_its_marker_does_not_count(tmp_path: Path) -> None:
    write(tmp_path, 5)
    write(tmp_path, 10)
    (tmp_path / "checkpoint-10" / checkpoints.MARKER).unlink()
    last = checkpoints.latest(tmp_path)
    assert last is not None and last.step == 5
    assert not (tmp_path / "checkpoint-10").exists()


def test_a_step_can_be_written_again(tmp_path: Path) -> None:
    write(tmp_path, 5)
    write(tmp_path, 5)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-5"]
