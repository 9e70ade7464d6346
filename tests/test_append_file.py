"""The append-only file under the journal and the evaluation's store."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from espalier.append_file import AppendFile
from espalier.errors import InputError, StageError


def key_of(record: dict[str, Any]) -> str | None:
    return "" if "note" in record else record.get("key")


def of(path: Path) -> AppendFile:
    return AppendFile(path, "book", key_of)


def test_lines_with_and_without_a_key_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "book.jsonl"
    with of(path) as book:
        book.append('{"note": "一"}')
        book.append('{"key": "a", "n": 1}', "a")
        book.append('{"key": "a", "n": 2}', "a")
    with of(path) as book:
        assert (len(book), book.damaged) == (1, 0) and "a" in book
        assert book.read("a") == {"key": "a", "n": 1}
        with pytest.raises(KeyError):
            book.read("b")
    assert [list(json.loads(line)) for line in path.read_text("utf-8").splitlines()] == [
        ["note"],
        ["key", "n"],
    ]


def test_a_file_of_lines_without_keys_is_no_foreign_file(tmp_path: Path) -> None:
    with of(tmp_path / "b.jsonl") as book:
        book.append('{"note": 1}')
    with of(tmp_path / "b.jsonl") as book:
        assert (len(book), book.damaged) == (0, 0)
    (tmp_path / "c.jsonl").write_text("[" * 100_000 + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"no book[\s\S]*line 1"):
        of(tmp_path / "c.jsonl")


def test_places_that_cannot_hold_a_file_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for path in (tmp_path, tmp_path / "file" / "b.jsonl"):
        with pytest.raises(StageError, match="book can't be opened") as caught:
            of(path)
        assert str(path) in str(caught.value)


def test_a_refused_file_leaves_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text("other\n", encoding="utf-8")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(InputError):
        of(tmp_path / "c.jsonl")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_failed_sync_is_told_at_the_next_line_or_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    book = of(tmp_path / "b.jsonl")
    monkeypatch.setattr(os, "fsync", failing)
    book.append('{"key": "a"}', "a")
    with pytest.raises(StageError, match="Input/output error"):
        book.close()
    book.close()
    with pytest.raises(StageError, match="closed"):
        book.append('{"key": "b"}', "b")
