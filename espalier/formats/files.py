"""Containers: JSON, JSONL, CSV, Parquet, gzip, zstd and Hugging Face datasets as rows.

A row that can't be parsed comes out as a `BadRow` with its place; a file that can't be read at all
raises InputError. Nothing that the decoders raise leaks.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from espalier.errors import InputError, place, require
from espalier.files import atomic_path
from espalier.records import dump_line

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BOM = b"\xef\xbb\xbf"
QUARANTINE = "correct the row, or set on_bad_row: quarantine to set such rows aside and go on"
RAW_CHARACTERS = 400


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its fields and where it stands (`line` counts from 1; elements for JSON arrays)."""

    value: dict[str, Any]
    path: str
    line: int


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that can't be used: where, why, what was found and what was expected."""

    path: str
    line: int
    field: str | None
    reason: str
    found: str
    expected: str
    raw: str

    def error(self) -> InputError:
        """The same as the error that stops a run."""
        found = f" Found: {self.found}." if self.found else ""
        return InputError(
            f"{self.reason}{found}",
            where=place(self.path, self.line, self.field),
            expected=self.expected,
            hint=QUARANTINE,
        )


def shorten(value: Any, size: int = 80) -> str:
    """A value as it is shown in a message: one line, cut."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = text.encode("utf-8", errors="backslashreplace").decode()
    text = " ".join(text.split())
    return text if len(text) <= size else text[: size - 1] + "…"


def container_of(path: Path) -> tuple[str, str | None]:
    """Container and compression: by suffix, else by the first bytes of the file."""
    if path.is_dir():
        return "dataset folder", None
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    kind = suffixes[-2] if compression and len(suffixes) > 1 else suffixes[-1] if suffixes else ""
    names = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv"}
    if kind == ".parquet":
        return "parquet", None
    head = _head(path, compression)
    if kind in (".csv", ".tsv"):
        return names[kind], compression
    if head.startswith(b"PAR1"):
        return "parquet", None
    start = head.removeprefix(_BOM).lstrip()[:1]
    if start == b"[":
        return "json", compression
    if kind in (".jsonl", ".ndjson"):
        return "jsonl", compression
    if kind == ".json" or start == b"{":
        return (
            "jsonl" if start == b"{" and _many_objects(path, compression) else "json"
        ), compression
    if head.startswith(_UTF16) or not head.strip():
        return "jsonl", compression
    raise InputError(
        "The kind of this file is unknown.",
        where=str(path),
        expected=f"{', '.join(SUFFIXES)} (also with .gz or .zst), or a dataset folder",
        hint="rename it with the suffix that says what it is",
    )


def check_exists(path: Path) -> None:
    """Raise InputError, with the nearest name, for a path that is not there."""
    if path.exists():
        return
    folder = path.parent
    names = [item.name for item in folder.iterdir()] if folder.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=1)
    missing = "" if folder.is_dir() else f" (the folder {folder} does not exist either)"
    raise InputError(
        f"There is no such file{missing}.",
        where=str(path),
        expected="a dataset file or folder",
        hint=f"did you mean {folder / near[0]}?" if near else "check the path",
    )


def read_rows(path: Path | str) -> Iterator[Row | BadRow]:
    """All rows of a dataset file or folder, streamed (a JSON array is parsed whole).

    Rows come out with their line numbers. A name that is no path is asked for as a Hugging Face
    dataset `name[:split]`. Raises InputError for a file that can't be read.
    """
    source = Path(path)
    if not source.exists() and _looks_like_hub(str(path)):
        yield from _read_hub(str(path))
        return
    check_exists(source)
    container, compression = container_of(source)
    if container == "dataset folder":
        yield from _read_folder(source)
    elif container == "parquet":
        yield from _read_parquet(source)
    elif container == "json":
        yield from _read_json(source, compression)
    elif container in ("csv", "tsv"):
        yield from _read_csv(source, compression, "," if container == "csv" else "\t")
    else:
        yield from _read_jsonl(source, compression)


# --- bytes and lines ----------------------------------------------------------------------------


@contextmanager
def _open(path: Path, compression: str | None) -> Iterator[IO[bytes]]:
    try:
        raw = path.open("rb")
    except OSError as error:
        raise InputError(
            f"The file can't be opened: {error.strerror}.",
            where=str(path),
            expected="a file that may be read",
        ) from error
    with raw:
        if compression == "gzip":
            yield io.BufferedReader(gzip.GzipFile(fileobj=raw))
        elif compression == "zstd":
            import zstandard

            yield io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(raw))
        else:
            yield raw


def _head(path: Path, compression: str | None) -> bytes:
    with _open(path, None) as handle:
        start = handle.read(4)
    if not start:
        raise InputError(
            "The file is empty.",
            where=str(path),
            expected="at least one row",
            hint="check the path",
        )
    magic = next((name for mark, name in _MAGIC.items() if start.startswith(mark)), None)
    if compression != magic:
        found = f"{magic} data" if magic else "data that is not compressed"
        raise InputError(
            f"The name of the file and its content disagree: it holds {found}.",
            where=str(path),
            expected=f"{compression} data" if compression else "data that is not compressed",
            hint="give the file the right suffix (.gz, .zst, or none)",
        )
    with _guarded(path), _open(path, compression) as handle:
        return handle.read(4096)


@contextmanager
def _guarded(path: Path, line: int | None = None) -> Iterator[None]:
    """Turn what decompressors raise into an InputError that names the file."""
    import zstandard

    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
        raise InputError(
            f"The compressed file is cut off or damaged: {error}.",
            where=place(path, line),
            expected="a complete file",
            hint="download or compress it again",
        ) from error


def _check_utf16(head: bytes, path: Path) -> None:
    if head.startswith(_UTF16) or b"\x00" in head[:4]:
        raise InputError(
            "The file is UTF-16 (or UTF-32) text.",
            where=str(path),
            expected="UTF-8",
            hint=f"convert it: iconv -f UTF-16 -t UTF-8 {path.name} > utf8-{path.name}",
        )


def _lines(path: Path, compression: str | None) -> Iterator[tuple[int, bytes]]:
    """Numbered lines as bytes; a BOM is dropped. Raises InputError for UTF-16 or damaged data."""
    number = 0
    with _open(path, compression) as handle:
        while True:
            with _guarded(path, number + 1):
                line = handle.readline()
            if not line:
                # A zstd stream that stops early looks like its end; its frame says otherwise.
                if compression == "zstd":
                    _check_zstd_end(path, number)
                return
            number += 1
            if number == 1:
                _check_utf16(line, path)
                line = line.removeprefix(_BOM)
            yield number, line


def _check_zstd_end(path: Path, line: int) -> None:
    import zstandard

    with path.open("rb") as handle:
        frame = zstandard.ZstdDecompressor().decompressobj()
        while chunk := handle.read(1 << 20):
            with _guarded(path, line):
                while chunk:
                    frame.decompress(chunk)
                    chunk = frame.unused_data
                    if frame.eof and chunk:
                        frame = zstandard.ZstdDecompressor().decompressobj()
        if not frame.eof:
            raise InputError(
                "The compressed file is cut off.",
                where=place(path, line),
                expected="a complete zstd file",
                hint="download or compress it again",
            )


def _many_objects(path: Path, compression: str | None) -> bool:
    """Whether a file that starts with `{` is JSONL: its first line is an object by itself."""
    with _guarded(path), _open(path, compression) as handle:
        line = handle.readline().removeprefix(_BOM)
        try:
            first = json.loads(line)
        except (ValueError, RecursionError):
            return False
        if any(isinstance(first.get(key), list) for key in ("data", "rows", "examples")):
            return bool(handle.readline().strip())
        return True


# --- JSON ---------------------------------------------------------------------------------------


def _bad(path: Path, line: int, reason: str, found: str, expected: str, raw: str) -> BadRow:
    return BadRow(str(path), line, None, reason, found, expected, raw[:RAW_CHARACTERS])


def _parse_line(path: Path, number: int, line: bytes) -> Row | BadRow | None:
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raw = line.decode("utf-8", errors="backslashreplace")
        byte = f"byte 0x{line[error.start]:02x} at position {error.start + 1}"
        return _bad(path, number, "The line is not UTF-8 text.", byte, "UTF-8", raw)
    if not text.strip():
        return None
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        reason = f"The line is not valid JSON: {error.msg} at column {error.colno}."
        expected = "one complete JSON object on the line"
        return _bad(path, number, reason, shorten(text), expected, text)
    except RecursionError:
        reason = "The JSON on this line is nested too deeply."
        return _bad(path, number, reason, shorten(text, 40), "a flat object", text)
    if not isinstance(value, dict):
        reason = "The line is JSON, but not an object."
        return _bad(path, number, reason, shorten(value), "an object with named fields", text)
    return Row(value, str(path), number)


def _read_jsonl(path: Path, compression: str | None) -> Iterator[Row | BadRow]:
    empty = True
    for number, line in _lines(path, compression):
        row = _parse_line(path, number, line)
        if row is not None:
            empty = False
            yield row
    if empty:
        raise InputError("The file has no row, only blank lines.", where=str(path), expected="rows")


def _read_json(path: Path, compression: str | None) -> Iterator[Row | BadRow]:
    data = b"".join(line for _, line in _lines(path, compression))
    try:
        value = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"The file is not UTF-8 text (byte 0x{data[error.start]:02x}).",
            where=place(path, line),
            expected="UTF-8",
        ) from error
    except json.JSONDecodeError as error:
        raise InputError(
            f"The file is not valid JSON: {error.msg} at column {error.colno}.",
            where=place(path, error.lineno),
            expected="a complete JSON array of objects",
            hint="one object a line? then call it .jsonl",
        ) from error
    except RecursionError as error:
        raise InputError(
            "The JSON is nested too deeply.", where=str(path), expected="an array of flat objects"
        ) from error
    rows = _array_in(value, path)
    for number, item in enumerate(rows, 1):
        if isinstance(item, dict):
            yield Row(item, str(path), number)
        else:
            reason = f"Element {number} of the array is not an object."
            yield _bad(path, number, reason, shorten(item), "an object", shorten(item, 400))


def _array_in(value: Any, path: Path) -> list[Any]:
    if isinstance(value, dict):
        lists = [key for key, item in value.items() if isinstance(item, list)]
        named = [key for key in ("data", "rows", "examples", "train") if key in lists]
        if len(named) == 1 or (len(lists) == 1 and isinstance((value[lists[0]] or [0])[0], dict)):
            key = named[0] if named else lists[0]
            if key not in ("conversations", "messages", "instances"):
                value = value[key]
        if isinstance(value, dict) and any(isinstance(item, str | list) for item in value.values()):
            value = [value]
    if not isinstance(value, list):
        raise InputError(
            "The JSON in this file holds no rows.",
            where=str(path),
            expected='an array of objects, or an object with the rows under "data"',
        )
    if not value:
        raise InputError("The array in this file is empty.", where=str(path), expected="rows")
    return value


# --- tables -------------------------------------------------------------------------------------


def _read_csv(path: Path, compression: str | None, delimiter: str) -> Iterator[Row | BadRow]:
    csv.field_size_limit(1 << 30)

    def decoded() -> Iterator[str]:
        for number, line in _lines(path, compression):
            try:
                yield line.decode("utf-8").replace("\x00", "")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"The line is not UTF-8 text (byte 0x{line[error.start]:02x}).",
                    where=place(path, number),
                    expected="UTF-8",
                    hint="save the table as UTF-8",
                ) from error

    reader = csv.reader(decoded(), delimiter=delimiter)
    header = next(reader, None)
    if not header:
        raise InputError("The table has no header.", where=str(path), expected="a line of names")
    rows = 0
    for cells in reader:
        if not cells:
            continue
        rows += 1
        if len(cells) != len(header):
            yield BadRow(
                str(path),
                reader.line_num,
                None,
                "A row of the table has another number of cells than its header.",
                f"{len(cells)} cells",
                f"{len(header)} cells ({', '.join(header)})",
                delimiter.join(cells)[:RAW_CHARACTERS],
            )
        else:
            yield Row(dict(zip(header, cells, strict=True)), str(path), reader.line_num)
    if not rows:
        raise InputError("The table has no row below its header.", where=str(path), expected="rows")


def _read_parquet(path: Path) -> Iterator[Row | BadRow]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=4096):
                for value in batch.to_pylist():
                    number += 1
                    yield Row(value, str(path), number)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"The Parquet file can't be read: {reason}",
            where=place(path, number + 1 if number else None),
            expected="a complete Parquet file",
        ) from error
    if not number:
        raise InputError("The table is empty.", where=str(path), expected="rows")


def _read_folder(path: Path) -> Iterator[Row | BadRow]:
    """A folder written by `save_to_disk`, or one with exactly one readable file."""
    saved = (path / "state.json").exists() or (path / "dataset_dict.json").exists()
    if saved:
        datasets = require("datasets", extra="datasets", feature="Reading a dataset folder")
        loaded = datasets.load_from_disk(str(path))
        if isinstance(loaded, Mapping):
            split = "train" if "train" in loaded else next(iter(loaded))
            loaded = loaded[split]
        for number, value in enumerate(loaded, 1):
            yield Row(dict(value), str(path), number)
        return
    files = [f for f in sorted(path.iterdir()) if any(s in SUFFIXES for s in f.suffixes)]
    if len(files) == 1:
        yield from read_rows(files[0])
        return
    names = ", ".join(f.name for f in files[:6]) or "no dataset file"
    raise InputError(
        "This folder is not one dataset.",
        where=str(path),
        expected="a Hugging Face dataset folder (save_to_disk), or one dataset file in it",
        hint=f"name one file; it holds {names}",
    )


def _looks_like_hub(name: str) -> bool:
    plain = name.replace("/", "").replace("-", "").replace("_", "").replace(":", "")
    has_suffix = any(name.endswith((*SUFFIXES, *COMPRESSIONS)) for _ in (0,))
    return name.count("/") == 1 and plain.replace(".", "").isalnum() and not has_suffix


def _read_hub(name: str) -> Iterator[Row | BadRow]:
    datasets = require("datasets", extra="datasets", feature="Reading a dataset from the hub")
    base, _, split = name.partition(":")
    try:
        loaded = datasets.load_dataset(base, split=split or "train")
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"There is no such file, and the hub did not give a dataset of that name: {reason}",
            where=name,
            expected="a dataset file or folder, or owner/name[:split] on the hub",
            hint="without a network, give a file",
        ) from error
    for number, value in enumerate(loaded, 1):
        yield Row(dict(value), name, number)


# --- writing ------------------------------------------------------------------------------------


@contextmanager
def _writer(path: Path, compression: str | None) -> Iterator[IO[bytes]]:
    with path.open("wb") as raw:
        if compression == "gzip":
            # No time stamp and no name: equal rows give equal bytes.
            with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed:
                yield packed  # type: ignore[misc]
        elif compression == "zstd":
            import zstandard

            with zstandard.ZstdCompressor(level=6).stream_writer(raw, closefd=False) as packed:
                yield packed
        else:
            yield raw


def write_jsonl(path: Path | str, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as JSON lines, atomically (compressed by suffix); returns how many."""
    target = Path(path)
    count = 0
    with (
        atomic_path(target) as temporary,
        _writer(temporary, COMPRESSIONS.get(target.suffix)) as handle,
    ):
        for row in rows:
            handle.write(dump_line(row).encode("utf-8") + b"\n")
            count += 1
    return count


def write_json(path: Path | str, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as one JSON array, atomically; returns how many."""
    target = Path(path)
    lines = [dump_line(row) for row in rows]
    body = "[\n" + ",\n".join(lines) + "\n]\n"
    with (
        atomic_path(target) as temporary,
        _writer(temporary, COMPRESSIONS.get(target.suffix)) as handle,
    ):
        handle.write(body.encode("utf-8"))
    return len(lines)


def write_csv(path: Path | str, rows: Sequence[Mapping[str, Any]]) -> int:
    """Write rows as CSV, atomically; nested values are written as JSON. Returns how many."""
    target = Path(path)
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in names])
    with (
        atomic_path(target) as temporary,
        _writer(temporary, COMPRESSIONS.get(target.suffix)) as handle,
    ):
        handle.write(text.getvalue().encode("utf-8"))
    return len(rows)


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def write_parquet(path: Path | str, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as Parquet, atomically; returns how many. Raises InputError for no rows."""
    import pyarrow
    import pyarrow.parquet

    values = [dict(row) for row in rows]
    if not values:
        raise InputError("There are no rows to write.", where=str(path), expected="rows")
    with atomic_path(path) as temporary:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(values), temporary)
    return len(values)
