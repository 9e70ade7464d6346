"""Examples and preference pairs out of a dataset file of any format."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from espalier.errors import InputError
from espalier.formats.base import Answers, Format, RowFault, names
from espalier.formats.detect import SAMPLE_ROWS, judge
from espalier.formats.files import (
    BadRow,
    Container,
    Row,
    container_of,
    numbered_by,
    read_rows,
)
from espalier.formats.registry import (
    EXAMPLE_FORMATS,
    PAIR_FORMATS,
    AnyFormat,
    format_of_row,
    kind_of,
    unpack,
)
from espalier.formats.rows import bad_row
from espalier.formats.write import write_examples, write_pairs
from espalier.records import Example, Message, PreferencePair, dump_line

__all__ = [
    "OnBadRow",
    "Reject",
    "kind_of",
    "read_examples",
    "read_pairs",
    "write_examples",
    "write_pairs",
]

OnBadRow = Literal["stop", "quarantine"]
Reject = BadRow
RecordT = TypeVar("RecordT", Example, PreferencePair)


def read_examples(
    path: Path | str,
    *,
    format: str = "auto",
    on_bad_row: OnBadRow = "stop",
    rejects: list[Reject] | None = None,
    limit: int | None = None,
    answers: Answers = "required",
) -> Iterator[Example]:
    """Yield the examples of a dataset file, at most `limit`.

    A bad row ends in InputError, or with `quarantine` goes to `rejects` (which is then needed).
    With `answers="optional"` rows without an answer give prompts. A file of preference pairs is
    an InputError, unless the format is named: then the chosen side of each pair is the example.
    """
    source = _open(path, format)
    item = source.format
    records: Iterator[Example]
    if item.name in EXAMPLE_FORMATS:
        example_format = EXAMPLE_FORMATS[item.name]
        records = _records(source, example_format, on_bad_row, rejects, answers)
    elif format == "auto":
        raise InputError(
            f"The file holds preference pairs ({item.name}), not examples.",
            where=str(path),
            expected="rows with one answer",
            hint=f"use it as preferences, or name the format ({item.name}) to train on the "
            "chosen answers",
        )
    else:
        pair_format = PAIR_FORMATS[item.name]
        pairs = _records(source, pair_format, on_bad_row, rejects, answers)
        records = (_chosen(pair) for pair in pairs)
    return itertools.islice(records, limit)


def read_pairs(
    path: Path | str,
    *,
    format: str = "auto",
    on_bad_row: OnBadRow = "stop",
    rejects: list[Reject] | None = None,
    limit: int | None = None,
) -> Iterator[PreferencePair]:
    """Yield the preference pairs of a dataset file; bad rows as in `read_examples`."""
    source = _open(path, format)
    if source.format.name not in PAIR_FORMATS:
        raise InputError(
            f"The file holds examples ({source.format.name}), not preference pairs.",
            where=str(path),
            expected=f"rows with {PAIR_FORMATS['preference'].shape}",
        )
    pair_format = PAIR_FORMATS[source.format.name]
    records = _records(source, pair_format, on_bad_row, rejects, "required")
    return itertools.islice(records, limit)


@dataclass(frozen=True)
class _Source:
    container: Container
    format: AnyFormat
    rows: Iterator[Row | BadRow]


def _open(path: Path | str, format: str) -> _Source:
    container = container_of(path)
    rows = read_rows(path, container)
    sample = list(itertools.islice(rows, SAMPLE_ROWS))
    item, _ = judge(path, container, sample, format=format)
    return _Source(container, item, itertools.chain(sample, rows))


def _chosen(pair: PreferencePair) -> Example:
    return Example.make((*pair.prompt, Message("assistant", pair.chosen)), pair.meta)


def _records(
    source: _Source,
    item: Format[RecordT],
    on_bad_row: OnBadRow,
    rejects: list[Reject] | None,
    answers: Answers,
) -> Iterator[RecordT]:
    if on_bad_row == "quarantine" and rejects is None:
        raise ValueError("quarantine needs a list for the rejects: no row may vanish")
    unit = numbered_by(source.container.kind)
    for row in source.rows:
        if isinstance(row, BadRow):
            bad = row
        else:
            try:
                yield from item.parse(unpack(row.value, item), answers)
                continue
            except RowFault as fault:
                told = _explained(fault, row.value, item)
                bad = bad_row(row.path, row.line, told, dump_line(row.value), unit)
        if rejects is None or on_bad_row == "stop":
            raise bad.error()
        rejects.append(bad)


def _explained(fault: RowFault, row: dict[str, Any], item: AnyFormat) -> RowFault:
    """A fault of a row that would fit another format says so."""
    other = None if item.fits(row) else format_of_row(row)
    if other is None or other is item:
        return fault
    return RowFault(
        f"The row is of the format {other.name}, not {item.name}.",
        field=fault.field,
        found=f"the fields {names(row)}",
        expected=f"the fields of {item.name}: {item.shape}",
    )
