"""Plain rows into files of any container, atomically."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from espalier.errors import InputError
from espalier.files import atomic_path
from espalier.formats.parquet_out import write_table
from espalier.formats.rows import SUFFIXES
from espalier.formats.streams import COMPRESSIONS, write_bytes
from espalier.records import dump_line

Rows = Iterable[Mapping[str, Any]]


def write_jsonl(path: Path | str, rows: Rows) -> int:
    """Write an object a line, compressed if the name ends in .gz or .zst; returns their number."""
    return write_rows(path, rows, kind="jsonl")


def write_parquet(path: Path | str, rows: Rows) -> int:
    """Write a Parquet file, objects as JSON text; returns the number of rows."""
    return write_rows(path, rows, kind="parquet")


def write_rows(path: Path | str, rows: Rows, *, kind: str | None = None) -> int:
    """Write plain rows atomically; `kind` overrides what the suffix says. Returns their number.

    In CSV and Parquet, objects and (in CSV) lists are kept as JSON text.
    """
    target = Path(path)
    writer = _WRITERS[kind or _kind_of(target)]
    with atomic_path(target) as temporary:
        return writer(temporary, target, rows)


def _kind_of(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = bool(suffixes) and suffixes[-1] in COMPRESSIONS
    if packed:
        suffixes.pop()
    kind = SUFFIXES.get(suffixes[-1] if suffixes else "")
    if kind is None or (packed and kind == "parquet"):
        raise InputError(
            "The name of the output file does not say how to write it.",
            where=str(path),
            expected=".jsonl, .json, .csv, .tsv (each also with .gz or .zst) or .parquet",
        )
    return kind


def _write_jsonl(temporary: Path, name: Path, rows: Rows) -> int:
    count = 0
    with write_bytes(temporary, name) as stream:
        for row in rows:
            stream.write(f"{dump_line(row)}\n".encode())
            count += 1
    return count


def _write_json(temporary: Path, name: Path, rows: Rows) -> int:
    count = 0
    with write_bytes(temporary, name) as stream:
        stream.write(b"[")
        for row in rows:
            stream.write((",\n" if count else "\n").encode() + dump_line(row).encode())
            count += 1
        stream.write(b"\n]\n")
    return count


def _write_csv(temporary: Path, name: Path, rows: Rows) -> int:
    listed = [dict(row) for row in rows]
    header = list(dict.fromkeys(key for row in listed for key in row))
    delimiter = "\t" if ".tsv" in (suffix.lower() for suffix in name.suffixes) else ","
    with write_bytes(temporary, name) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([_cell(row.get(key)) for key in header] for row in listed)
        text.detach()
    return len(listed)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _write_parquet(temporary: Path, name: Path, rows: Rows) -> int:
    return write_table(temporary, rows)


_WRITERS: dict[str, Callable[[Path, Path, Rows], int]] = {
    "jsonl": _write_jsonl,
    "json": _write_json,
    "csv": _write_csv,
    "parquet": _write_parquet,
}
