"""Which format a dataset file has, judged by the field names of its first rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from espalier.errors import InputError
from espalier.formats.base import names
from espalier.formats.files import (
    BadRow,
    Container,
    Row,
    container_of,
    numbered_by,
    read_rows,
)
from espalier.formats.registry import (
    FORMATS,
    AnyFormat,
    format_like_row,
    format_named,
    format_of_row,
)

SAMPLE_ROWS = 50
NATIVE = "espalier"


@dataclass(frozen=True)
class Detection:
    """The verdict: the format, the container, why, and how many rows were looked at."""

    format: str
    container: str
    reason: str
    rows: int


def detect(path: Path | str, *, format: str = "auto") -> Detection:
    """Judge a dataset file by the field names of its first 50 rows.

    A `format` other than `auto` is taken as it is. Raises InputError when the file can't be
    read, when no known format fits, or when rows of different formats are mixed.
    """
    container = container_of(path)
    sample = []
    for row in read_rows(path, container):
        sample.append(row)
        if len(sample) == SAMPLE_ROWS:
            break
    return judge(path, container, sample, format=format)[1]


def judge(
    path: Path | str, container: Container, sample: list[Row | BadRow], *, format: str = "auto"
) -> tuple[AnyFormat, Detection]:
    """The format of a sample of rows, with the reason; see `detect`."""
    if not sample:
        raise InputError(
            "The file holds no rows.",
            where=str(path),
            expected="at least one row",
            hint="check that the file was written to its end",
        )
    rows = [row for row in sample if isinstance(row, Row)]
    if format != "auto":
        item = _native(rows) if format == NATIVE else format_named(format)
        reason = f"{container.reason}; the format was named"
    else:
        item, why = _by_fields(path, container, sample, rows)
        reason = f"{container.reason}; {why}"
    return item, Detection(item.name, container.name, reason, len(sample))


def _native(rows: Iterable[Row]) -> AnyFormat:
    """Our own format has two kinds of rows, which share its name."""
    pairs = any("chosen" in row.value for row in rows)
    return FORMATS["espalier-pairs"] if pairs else FORMATS[NATIVE]


def _by_fields(
    path: Path | str, container: Container, sample: list[Row | BadRow], rows: list[Row]
) -> tuple[AnyFormat, str]:
    first: Row | None = None
    verdict: AnyFormat | None = None
    matches = 0
    for row in rows:
        item = format_of_row(row.value)
        if item is None:
            continue
        if verdict is None or first is None:
            first, verdict = row, item
        elif item is not verdict:
            raise _mixed(path, container, first, verdict, row, item)
        matches += 1
    if verdict is not None:
        return verdict, f"{matches} of the first {len(sample)} rows have the fields {verdict.shape}"
    likes = Counter(item.name for row in rows if (item := format_like_row(row.value)))
    if likes:
        like = FORMATS[likes.most_common(1)[0][0]]
        return like, f"no row is complete, but {like.name} ({like.shape}) comes nearest"
    raise _unknown(path, container, sample, rows)


def _mixed(
    path: Path | str,
    container: Container,
    first: Row,
    verdict: AnyFormat,
    row: Row,
    item: AnyFormat,
) -> InputError:
    unit = numbered_by(container.kind)
    return InputError(
        f"The file mixes formats: {unit} {first.line} is {verdict.name}, "
        f"{unit} {row.line} is {item.name} (fields {names(row.value)}).",
        where=f"{path}, {unit} {row.line}",
        expected=f"rows of one format: {verdict.name} has {verdict.shape}",
        hint=f"split the file, or name the format (format: {verdict.name}) and set "
        "on_bad_row: quarantine to put the other rows aside",
    )


def _unknown(
    path: Path | str, container: Container, sample: list[Row | BadRow], rows: list[Row]
) -> InputError:
    unit = numbered_by(container.kind)
    if not rows:
        broken = next(row for row in sample if isinstance(row, BadRow))
        return InputError(
            f"None of the first {len(sample)} rows can be read. "
            f"The first: {broken.reason} Found: {broken.found}.",
            where=f"{path}, {unit} {broken.line}",
            expected=broken.expected,
            hint="check that the file is what its name says",
        )
    fields = list(dict.fromkeys(name for row in rows for name in row.value))
    known = "; ".join(f"{item.name}: {item.shape}" for item in FORMATS.values())
    return InputError(
        "The format of the file is unknown: "
        + (f"its rows have the fields {names(fields)}." if fields else "its rows have no fields."),
        where=f"{path}, {unit} {rows[0].line}",
        expected=f"the fields of a known format ({known})",
        hint="rename the fields, or name the format with `format:`",
    )
