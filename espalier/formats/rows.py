"""Rows of dataset files, and what stands in the place of one that can't be read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from espalier.errors import InputError
from espalier.formats.base import RowFault

Kind = Literal["jsonl", "json", "csv", "parquet", "folder", "hub"]
SUFFIXES: dict[str, Kind] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
RAW_LIMIT = 10_000
QUARANTINE = (
    "correct the row, or set `on_bad_row: quarantine` (--on-bad-row quarantine) to put such rows "
    "aside and read the rest"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its fields and where it stands (`line` counts from 1; see `numbered_by`)."""

    value: dict[str, Any]
    path: str
    line: int


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that can't be used: where it stands, which field, why; `raw` is its text, cut when
    long. `unit` is what `line` counts ("line" or "row")."""

    path: str
    line: int
    field: str | None
    reason: str
    found: str
    expected: str
    raw: str
    unit: str = "line"

    def error(self) -> InputError:
        """The error that stops a run at this row."""
        field = f", field '{self.field}'" if self.field else ""
        return InputError(
            f"{self.reason} Found: {self.found}." if self.found else self.reason,
            where=f"{self.path}, {self.unit} {self.line}{field}",
            expected=self.expected,
            hint=QUARANTINE,
        )


def check_text_start(path: Path, data: bytes) -> None:
    """InputError when the first line shows UTF-16 without a mark."""
    if len(data) > 3 and (data[1] == data[3] == 0 or data[0] == data[2] == 0) and any(data[:4]):
        raise InputError(
            "The file holds UTF-16 text.",
            where=str(path),
            expected="UTF-8 text",
            hint="convert it: iconv -f UTF-16LE -t UTF-8 FILE > NEW (or -f UTF-16BE)",
        )


def bad_row(
    path: Path | str, line: int, fault: RowFault, raw: bytes | str, unit: str = "line"
) -> BadRow:
    """The place of a fault, with what stands there."""
    text = raw if isinstance(raw, str) else raw.decode("utf-8", errors="backslashreplace")
    text = text.rstrip("\r\n")
    if len(text) > RAW_LIMIT:
        text = text[:RAW_LIMIT] + "…"
    return BadRow(
        str(path), line, fault.field, fault.reason, fault.found, fault.expected, text, unit
    )
