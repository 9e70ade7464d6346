"""Dataset files to records and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

from espalier.errors import InputError, UsageError
from espalier.formats import preference
from espalier.formats.base import FieldError, Format, Kind
from espalier.formats.detect import FORMATS, detect, format_named
from espalier.formats.files import (
    COMPRESSIONS,
    RAW_CHARACTERS,
    BadRow,
    Row,
    read_rows,
    shorten,
    write_csv,
    write_json,
    write_jsonl,
    write_parquet,
)
from espalier.records import Example, Message, PreferencePair

Reject = BadRow
OnBadRow = Literal["stop", "quarantine"]
Record = TypeVar("Record", Example, PreferencePair)


def kind_of(format: str) -> Kind:
    """Whether rows of this format are examples or preference pairs."""
    return format_named(format).kind


def read_examples(
    path: Path | str,
    *,
    format: str = "auto",
    on_bad_row: OnBadRow = "stop",
    rejects: list[Reject] | None = None,
    limit: int | None = None,
) -> Iterator[Example]:
    """The examples of a dataset file, streamed.

    A bad row raises InputError ("stop"), or is put into `rejects` ("quarantine"). From a file of
    preference pairs come the preferred sides. `limit` bounds the examples.
    """
    chosen = _resolve(path, format)
    records = _records(path, chosen, on_bad_row, rejects)
    for index, record in enumerate(records):
        if limit is not None and index >= limit:
            return
        yield record if isinstance(record, Example) else _preferred(record)


def _preferred(pair: PreferencePair) -> Example:
    return Example.make((*pair.prompt, Message("assistant", pair.chosen)), pair.meta)


def read_pairs(
    path: Path | str,
    *,
    format: str = "auto",
    on_bad_row: OnBadRow = "stop",
    rejects: list[Reject] | None = None,
    limit: int | None = None,
) -> Iterator[PreferencePair]:
    """The preference pairs of a dataset file, streamed; see `read_examples`."""
    chosen = _resolve(path, format)
    if chosen.kind != "pairs":
        raise InputError(
            f"The file holds no preference pairs but rows of the format '{chosen.name}'.",
            where=str(path),
            expected="rows with chosen and rejected",
        )
    for index, record in enumerate(_records(path, chosen, on_bad_row, rejects)):
        if limit is not None and index >= limit:
            return
        if isinstance(record, PreferencePair):
            yield record


def _resolve(path: Path | str, format: str) -> Format:
    return format_named(detect(path, format=format).format)


def _records(
    path: Path | str, chosen: Format, on_bad_row: OnBadRow, rejects: list[Reject] | None
) -> Iterator[Example | PreferencePair]:
    for row in read_rows(path):
        if isinstance(row, Row):
            try:
                yield from chosen.parse(row.value)
                continue
            except FieldError as error:
                bad = _complain(row, chosen, error)
        else:
            bad = row
        if on_bad_row == "stop":
            raise bad.error()
        if rejects is not None:
            rejects.append(bad)


def _complain(row: Row, chosen: Format, error: FieldError) -> BadRow:
    other = next((item for item in FORMATS if item.fits(row.value)), None)
    reason = error.reason
    if other is not None and other is not chosen and not chosen.fits(row.value):
        reason = f"The row is '{other.name}', the rows before it '{chosen.name}'. {reason}"
    found = "" if error.found is None else shorten(error.found)
    raw = shorten(row.value, RAW_CHARACTERS)
    return BadRow(row.path, row.line, error.field, reason, found, error.expected, raw)


def write_examples(
    path: Path | str, examples: Iterable[Example], *, format: str = "espalier"
) -> int:
    """Write examples in a format; the container follows the suffix. Returns how many.

    Raises UsageError for a format that is only read, InputError for an example that does not fit
    (a dialogue in a one-turn format).
    """
    return _write(path, examples, format_named(format))


def write_pairs(
    path: Path | str, pairs: Iterable[PreferencePair], *, format: str = "espalier"
) -> int:
    """Write preference pairs (formats `espalier` and `preference`); see `write_examples`."""
    chosen = preference.OWN_PAIRS if format == "espalier" else format_named(format)
    return _write(path, pairs, chosen)


def _write(path: Path | str, records: Iterable[Record], chosen: Format) -> int:
    if chosen.dump is None:
        raise UsageError(f"The format '{chosen.name}' is only read, not written.")
    dump = chosen.dump

    def rows() -> Iterator[dict[str, Any]]:
        for record in records:
            try:
                yield dump(record)
            except FieldError as error:
                raise InputError(
                    f"A row can't be written as '{chosen.name}': {error.reason}",
                    where=f"row {record.id}",
                    expected=error.expected,
                    hint="write it as messages or sharegpt",
                ) from error

    suffixes = [suffix for suffix in Path(path).suffixes if suffix not in COMPRESSIONS]
    suffix = suffixes[-1].lower() if suffixes else ".jsonl"
    if suffix == ".parquet":
        return write_parquet(path, rows())
    if suffix == ".csv":
        return write_csv(path, list(rows()))
    if suffix == ".json":
        return write_json(path, rows())
    return write_jsonl(path, rows())
