"""Rows of dataset files: which container a path is, and one row after the other out of it.

Trouble with a whole file is an InputError; trouble with one row is a `BadRow` in its place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from espalier.errors import InputError
from espalier.formats import jsontext
from espalier.formats.base import RowFault, describe, names
from espalier.formats.folders import check_folder, folder_rows, hub_rows
from espalier.formats.rows import SUFFIXES, BadRow, Kind, Row, bad_row, check_text_start
from espalier.formats.streams import COMPRESSIONS, open_bytes, require_file, unreadable
from espalier.formats.tables import csv_rows, parquet_rows
from espalier.formats.writers import write_jsonl, write_parquet

__all__ = [
    "BadRow",
    "Container",
    "Row",
    "container_of",
    "numbered_by",
    "read_rows",
    "write_jsonl",
    "write_parquet",
]

_HUB_NAME = re.compile(r"(?:hf:(?://)?)?[\w.-]+/[\w.-]+(?::[\w.-]+)?(?:@[\w.-]+)?")
# A wrapper's list has such a name; a list of objects with another name may belong to a row.
_WRAPPERS = ("data", "rows", "examples", "records", "items", "train", "dataset")


@dataclass(frozen=True, slots=True)
class Container:
    """What kind of file a path is; `name` is how it is shown, `reason` how we know."""

    kind: Kind
    name: str
    reason: str


def numbered_by(kind: Kind) -> str:
    """What `Row.line` counts in such a file: lines of text, or rows."""
    return "line" if kind in ("jsonl", "csv") else "row"


def container_of(path: Path | str) -> Container:
    """The container at a path; InputError for a missing file or one of an unknown kind."""
    try:
        return _container_of(path)
    except OSError as error:
        raise unreadable(Path(path), error) from error


def _container_of(path: Path | str) -> Container:
    text = str(path)
    file = Path(path)
    if text.startswith("hf:") or (not file.exists() and _is_hub_name(text)):
        return Container("hub", "Hugging Face dataset", "a dataset name of the hub")
    require_file(file)
    if file.is_dir():
        return Container("folder", "Hugging Face dataset folder", check_folder(file))
    return _by_suffix(file)


def _is_hub_name(text: str) -> bool:
    file = Path(text)
    known = {*SUFFIXES, *COMPRESSIONS, ".txt"}
    return (
        bool(_HUB_NAME.fullmatch(text))
        and not file.parent.exists()
        and not known.intersection(suffix.lower() for suffix in file.suffixes)
    )


def _by_suffix(file: Path) -> Container:
    suffixes = [suffix.lower() for suffix in file.suffixes]
    packed = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else ""
    suffix = suffixes[-1] if suffixes else ""
    kind = SUFFIXES.get(suffix)
    if kind is None or (packed and kind == "parquet"):
        raise InputError(
            f"The suffix '{suffix + packed}' says nothing of how to read the file."
            if suffix + packed
            else "The file has no suffix that says how to read it.",
            where=str(file),
            expected=".jsonl, .json, .csv, .tsv (each also with .gz or .zst), .parquet, "
            "or a folder written by save_to_disk",
            hint="rename the file to what it is",
        )
    reason = f"the suffix {suffix}"
    if kind in ("json", "jsonl"):
        kind, reason = _json_or_lines(file, suffix, kind)
    shown = {"jsonl": "JSONL", "json": "JSON", "csv": "CSV", "parquet": "Parquet"}[kind]
    if suffix == ".tsv":
        shown = "TSV"
    return Container(kind, f"{shown}, {COMPRESSIONS[packed]}" if packed else shown, reason)


def _json_or_lines(file: Path, suffix: str, kind: Kind) -> tuple[Kind, str]:
    """Look into a file named .json or .jsonl: people mix the two up."""
    with open_bytes(file) as stream:
        first = b""
        for line in stream:
            first = line.removeprefix(jsontext.BOM).strip()
            if first:
                break
        if kind == "jsonl":
            if first.startswith(b"[") and not _complete(first, dict | str | int):
                return "json", "one JSON array, though it is named " + suffix
            return kind, f"the suffix {suffix}"
        if first.startswith(b"{") and _complete(first, dict):
            second = next((line for line in stream if line.strip()), b"")
            if second:
                return "jsonl", f"an object a line, though it is named {suffix}"
    return kind, f"the suffix {suffix}"


def _complete(line: bytes, kinds: Any) -> bool:
    """Whether a line is a whole JSON value of these kinds (or a list of them)."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return False
    if isinstance(value, list):
        return bool(value) and not any(isinstance(item, dict) for item in value)
    return isinstance(value, kinds)


def read_rows(path: Path | str, container: Container | None = None) -> Iterator[Row | BadRow]:
    """Yield the rows of a dataset file, folder or hub dataset, one at a time.

    Only a JSON array is held in memory as a whole. Raises InputError when the file can't be
    read; a row that can't is yielded as a BadRow.
    """
    found = container or container_of(path)
    if found.kind == "jsonl":
        return _lines(Path(path))
    if found.kind == "json":
        return _array(Path(path))
    if found.kind == "csv":
        return csv_rows(Path(path))
    if found.kind == "parquet":
        return parquet_rows(Path(path))
    if found.kind == "folder":
        return folder_rows(Path(path))
    return hub_rows(str(path))


def _lines(path: Path) -> Iterator[Row | BadRow]:
    with open_bytes(path) as stream:
        for number, data in enumerate(stream, 1):
            if number == 1:
                check_text_start(path, data)
                data = data.removeprefix(jsontext.BOM)
            if not data.strip():
                continue
            try:
                value = jsontext.parse_object(data, last=not data.endswith(b"\n"))
            except RowFault as fault:
                yield bad_row(path, number, fault, data)
            else:
                yield Row(value, str(path), number)


def _array(path: Path) -> Iterator[Row | BadRow]:
    with open_bytes(path) as stream:
        rows = _document(path, stream)
    for number, value in enumerate(rows, 1):
        if isinstance(value, dict):
            yield Row(value, str(path), number)
        else:
            fault = RowFault(
                "The element is not an object.",
                found=describe(value),
                expected="an object with the row's fields",
            )
            yield bad_row(path, number, fault, json.dumps(value), "row")


def _document(path: Path, stream: BinaryIO) -> list[Any]:
    """The rows of a JSON document: an array, or an object around one array of objects."""
    data = stream.read().removeprefix(jsontext.BOM)
    if not data.strip():
        return []
    check_text_start(path, data)
    try:
        value = jsontext.parse(data, lines=True)
    except RowFault as fault:
        raise InputError(
            f"{fault.reason} Found: {fault.found}.",
            where=str(path),
            expected=fault.expected,
            hint="a JSON file is read as a whole; write an object a line (.jsonl) to be able to "
            "set single bad rows aside",
        ) from fault
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        lists = [key for key, item in value.items() if _holds_rows(item)]
        if len(lists) == 1 and lists[0] in _WRAPPERS:
            return list(value[lists[0]])
    _no_array(path, value)


def _holds_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) for v in value)


def _no_array(path: Path, value: Any) -> NoReturn:
    found = f"an object with {names(value)}" if isinstance(value, Mapping) else describe(value)
    raise InputError(
        f"The JSON file is not an array of rows: it holds {found}.",
        where=str(path),
        expected=f"[{{…}}, {{…}}], or one object with one list of rows ({', '.join(_WRAPPERS)})",
        hint="put the row or rows into square brackets, or write an object a line (.jsonl)",
    )
