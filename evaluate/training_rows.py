"""The rows of a training file of any kind, one at a time, running text included."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from espalier.formats.base import RowFault
from espalier.formats.detect import detect
from espalier.formats.files import Row as FileRow
from espalier.formats.files import read_rows
from espalier.formats.read import Reject, kind_of, read_examples, read_pairs
from espalier.formats.rows import BadRow, bad_row
from espalier.formats.streams import open_bytes
from espalier.records import Example, Message, PreferencePair

# Running text is read in pieces of about this many characters, and so many of them come again.
_PIECE = 1_000_000
_OVERLAP = 5_000


def training_rows(path: Path, rejects: list[Reject]) -> Iterator[Example | PreferencePair]:
    """The rows of a file, one at a time; bad ones go to `rejects`."""
    if path.name.removesuffix(".gz").removesuffix(".zst").endswith(".txt"):
        yield from map(_text_row, _pieces(path))
    elif _holds_texts(path):
        for item in read_rows(path):
            text = item.value.get("text") if isinstance(item, FileRow) else None
            if isinstance(text, str):
                yield _text_row(text)
            else:
                rejects.append(item if isinstance(item, BadRow) else _no_text(item))
    elif kind_of(detect(path).format) == "pairs":
        yield from read_pairs(path, on_bad_row="quarantine", rejects=rejects)
    else:
        yield from read_examples(path, on_bad_row="quarantine", rejects=rejects, answers="optional")


def _pieces(path: Path) -> Iterator[str]:
    """Running text, parted by blank lines, and where there are few of them by length.

    Pieces of one text overlap, so that no run of words is cut through.
    """
    lines: list[str] = []
    size = fresh = 0
    with open_bytes(path) as stream:
        for raw in stream:
            line = raw.decode("utf-8", errors="replace")
            lines.append(line)
            size, fresh = size + len(line), fresh + len(line.strip())
            if line.strip() and size < _PIECE:
                continue
            if fresh:
                yield "".join(lines)
            lines = _tail(lines) if line.strip() else []
            size, fresh = sum(map(len, lines)), 0
    if fresh:
        yield "".join(lines)


def _tail(lines: Sequence[str]) -> list[str]:
    """The last lines, as many as a shared run of words may need."""
    kept: list[str] = []
    for line in reversed(lines):
        kept.insert(0, line[-_OVERLAP:])
        if sum(map(len, kept)) >= _OVERLAP:
            break
    return kept


def _holds_texts(path: Path) -> bool:
    """Whether the first row is running text and nothing else."""
    first = next(iter(read_rows(path)), None)
    return isinstance(first, FileRow) and list(first.value) == ["text"]


def _no_text(row: FileRow) -> Reject:
    fault = RowFault(
        "The field 'text' is missing or no text.", field="text", expected="running text"
    )
    return bad_row(row.path, row.line, fault, "")


def _text_row(text: str) -> Example:
    return Example.make([Message("assistant", text)])
