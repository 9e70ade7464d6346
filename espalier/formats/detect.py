"""Which format a file is in: a verdict with its reason, or a clear complaint."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from espalier.errors import InputError, UsageError, place
from espalier.formats import (
    alpaca,
    dolly,
    mt_bench,
    open_orca,
    preference,
    prompt_completion,
    seeds,
    turns,
)
from espalier.formats.base import Format
from espalier.formats.files import BadRow, Row, container_of, read_rows

# In the order in which they are tried: the more telling fields first.
FORMATS: tuple[Format, ...] = (
    preference.FORMAT,
    turns.OWN,
    turns.SHAREGPT,
    turns.MESSAGES,
    seeds.FORMAT,
    mt_bench.FORMAT,
    alpaca.FORMAT,
    open_orca.FORMAT,
    dolly.FORMAT,
    prompt_completion.FORMAT,
)
NAMES = tuple(item.name for item in FORMATS)
SAMPLE_ROWS = 50


@dataclass(frozen=True, slots=True)
class Detection:
    """The verdict: format, container, why, and how many rows were looked at."""

    format: str
    container: str
    reason: str
    rows: int


def format_named(name: str) -> Format:
    """The format of that name; raises UsageError with the nearest known one."""
    for item in (*FORMATS, preference.OWN_PAIRS):
        if item.name == name:
            return item
    near = difflib.get_close_matches(name, NAMES, n=1)
    raise UsageError(
        f"There is no dataset format '{name}'.",
        expected="auto, " + ", ".join(NAMES),
        hint=f"did you mean '{near[0]}'?" if near else None,
    )


def detect(path: Path | str, *, format: str = "auto") -> Detection:
    """Look at the first rows of a file; raises InputError for unknown or mixed formats."""
    source = Path(path)
    container = "dataset"
    if source.exists():
        container, compression = container_of(source)
        container += f" ({compression})" if compression else ""
    if format != "auto":
        return Detection(format_named(format).name, container, "named by the user", 0)
    sample = list(islice(read_rows(path), SAMPLE_ROWS))
    rows = [row for row in sample if isinstance(row, Row)]
    if not rows:
        bad = next(row for row in sample if isinstance(row, BadRow))
        raise bad.error()
    first: Format | None = None
    first_line = 0
    for row in rows:
        found = next((item for item in FORMATS if item.fits(row.value)), None)
        if found is None:
            continue
        if first is None:
            first, first_line = found, row.line
        elif found is not first:
            raise _mixed(row, first, first_line, found)
    if first is None:
        raise _unknown(rows[0])
    return Detection(first.name, container, f"rows have the fields {first.signature}", len(rows))


def _mixed(row: Row, first: Format, first_line: int, found: Format) -> InputError:
    return InputError(
        f"The file mixes formats: line {first_line} is '{first.name}', this row is '{found.name}'.",
        where=place(row.path, row.line),
        expected=f"one format in a file; here the fields {first.signature}",
        hint=f"split the file, or name the format (format: {first.name}) and quarantine the rest "
        "(on_bad_row: quarantine)",
    )


def _unknown(row: Row) -> InputError:
    known = "; ".join(f"{item.name} ({item.signature})" for item in FORMATS)
    return InputError(
        f"The format is unknown: the fields are {', '.join(map(str, row.value)) or '(none)'}.",
        where=place(row.path, row.line),
        expected=known,
        hint="rename the fields to those of a format",
    )
