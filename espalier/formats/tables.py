"""Tables: CSV and Parquet files as rows, and rows as Parquet."""

from __future__ import annotations

import base64
import csv
import datetime
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espalier.errors import InputError
from espalier.formats import jsontext
from espalier.formats.base import RowFault, names
from espalier.formats.rows import BadRow, Row, bad_row, check_text_start
from espalier.formats.streams import open_bytes

if TYPE_CHECKING:
    import pyarrow

_BATCH = 1000


def csv_rows(path: Path) -> Iterator[Row | BadRow]:
    """Rows of a CSV or TSV file with a header; values are text. `line` is a row's first line."""
    # The limit of the csv module is 128 KiB a cell, less than a long document.
    csv.field_size_limit(sys.maxsize)
    with open_bytes(path) as stream:
        lines = _Lines(path, stream)
        header_line = next(lines, "")
        if not header_line.strip():
            if next((line for line in lines if line.strip()), None) is None:
                return
            raise _no_header(path, "an empty first line")
        delimiter = _delimiter(path, header_line)
        header = _header(path, header_line, delimiter)
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        while True:
            start = lines.number + 1
            lines.text.clear()
            try:
                cells = next(reader, None)
                if cells is None:
                    return
                if cells:
                    yield Row(_fields(header, cells), str(path), start)
            except csv.Error as error:
                fault = RowFault(
                    f"The row is not valid CSV ({error}).",
                    found="a quote that is not closed, or not doubled inside of quotes",
                    expected='cells like this, or "like ""this"" one"',
                )
                yield bad_row(path, start, fault, "".join(lines.text))
            except RowFault as fault:
                yield bad_row(path, start, fault, "".join(lines.text))


class _Lines:
    """Decoded lines with their number; bytes that are no UTF-8 become lone surrogates, so that
    one bad cell spoils one row."""

    def __init__(self, path: Path, stream: Iterable[bytes]) -> None:
        self._path = path
        self._stream = iter(stream)
        self.number = 0
        self.text: list[str] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        data = next(self._stream)
        self.number += 1
        if self.number == 1:
            check_text_start(self._path, data)
            data = data.removeprefix(jsontext.BOM)
        line = data.decode("utf-8", errors="surrogateescape")
        self.text.append(line)
        return line


def _delimiter(path: Path, header: str) -> str:
    if ".tsv" in (suffix.lower() for suffix in path.suffixes):
        return "\t"
    # Spreadsheets of many countries write semicolons into a .csv.
    return max(",;\t", key=header.count)


def _header(path: Path, line: str, delimiter: str) -> list[str]:
    try:
        header = next(csv.reader([line], delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise _no_header(path, f"a first line that is not valid CSV ({error})") from error
    header = [name.strip() for name in header]
    twice = sorted({name for name in header if header.count(name) > 1})
    if "" in header or twice:
        found = f"the name {names(twice)} twice" if twice and twice != [""] else "an empty name"
        raise _no_header(path, found)
    if any(not name.isprintable() for name in header):
        raise _no_header(path, "bytes that are no text")
    return header


def _no_header(path: Path, found: str) -> InputError:
    return InputError(
        f"The table has no usable header. Found: {found}.",
        where=f"{path}, line 1",
        expected="a first line with one distinct name for each column",
        hint="add a line like: instruction,input,output",
    )


def _fields(header: list[str], cells: list[str]) -> dict[str, Any]:
    if len(cells) != len(header):
        raise RowFault(
            "The row has another number of cells than the header.",
            found=f"{len(cells)} cells",
            expected=f"{len(header)} cells ({names(header)})",
        )
    for name, cell in zip(header, cells, strict=True):
        if cell.isascii() and "\x00" not in cell:
            continue
        if "\x00" in cell or any("\ud800" <= char <= "\udfff" for char in cell):
            raise RowFault(
                f"The cell '{name}' is not UTF-8 text.",
                field=name,
                found="a NUL byte" if "\x00" in cell else "bytes that are no UTF-8",
                expected="UTF-8 text (save the table as UTF-8)",
            )
    return dict(zip(header, cells, strict=True))


def parquet_rows(path: Path) -> Iterator[Row | BadRow]:
    """Rows of a Parquet file, read in batches; InputError when it is none or is damaged."""
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH):
                yield from table_rows(batch, str(path), number)
                number += batch.num_rows
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The Parquet file can't be read: {str(error).splitlines()[0].rstrip('.')}.",
            where=str(path) + (f", after row {number}" if number else ""),
            expected="a whole Parquet file",
            hint="copy or write it again; a file of another kind needs its own suffix",
        ) from error


def table_rows(batch: pyarrow.RecordBatch, path: str, offset: int) -> Iterator[Row | BadRow]:
    """The rows of an Arrow batch whose first row has the number `offset` + 1."""
    try:
        values = batch.to_pylist()
    except UnicodeDecodeError:
        # One damaged text is no reason to lose the rows beside it.
        for index in range(batch.num_rows):
            yield _single_row(batch.slice(index, 1), path, offset + index + 1)
        return
    for number, value in enumerate(values, offset + 1):
        yield Row({name: plain(item) for name, item in value.items()}, path, number)


def _single_row(batch: pyarrow.RecordBatch, path: str, number: int) -> Row | BadRow:
    try:
        (value,) = batch.to_pylist()
    except UnicodeDecodeError as error:
        fault = RowFault(
            "A text of the row is not UTF-8.",
            found=f"the byte 0x{error.object[error.start]:02x}",
            expected="UTF-8 text",
        )
        return bad_row(path, number, fault, str(batch.schema.names), "row")
    return Row({name: plain(item) for name, item in value.items()}, path, number)


def plain(value: Any) -> Any:
    """A value of a table as JSON holds it: times as ISO text, bytes as text, NaN as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return plain(float(value))
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    return str(value)
