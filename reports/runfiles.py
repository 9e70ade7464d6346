"""Reading the files of a run folder that may be unfinished: what is absent is None or empty."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from espalier.errors import InputError, place
from espalier.files import read_json


def read_object(path: Path) -> dict[str, Any] | None:
    """A JSON object, None when the file is absent; raises InputError for anything else in it."""
    if not path.is_file():
        return None
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(
            "A result file does not hold what it should.",
            where=str(path),
            expected="a JSON object",
            hint="run the stage again that wrote it",
        )
    return value


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file; nothing when it is absent.

    A torn last line (the writer was killed) is left out; any other broken line raises InputError.
    """
    if not path.is_file():
        return
    broken: int | None = None
    with path.open(encoding="utf-8", errors="replace") as handle:
        for number, line in enumerate(handle, start=1):
            if not line.strip():
                continue
            if broken is not None:
                raise InputError(
                    "A line of a result file is not JSON.",
                    where=place(path, broken),
                    expected="one JSON object a line",
                    hint="run the stage again that wrote it",
                )
            try:
                value = json.loads(line)
            except ValueError:
                broken = number
                continue
            if isinstance(value, dict):
                yield value


def number(value: Any) -> float | None:
    """A finite number (booleans count as 0 and 1), else None."""
    if isinstance(value, bool | int | float) and math.isfinite(value):
        return float(value)
    return None


def rounded(value: Any, digits: int = 6) -> float | int | None:
    """A finite number with so many significant digits, else None."""
    found = number(value)
    if found is None:
        return None
    short = float(f"{found:.{digits}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def counts_of(value: Any) -> dict[str, int] | None:
    """A non-empty mapping of names to whole numbers, else None."""
    if not isinstance(value, Mapping) or not value:
        return None
    if all(isinstance(count, int) and not isinstance(count, bool) for count in value.values()):
        return {str(name): int(count) for name, count in value.items()}
    return None


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """InputError where the table of row scores turns out to be none in this block."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise InputError(
            "The table of row scores can't be read.",
            where=str(path),
            expected="a Parquet file, as the stage 'evaluate' writes it",
            hint="run the stage 'evaluate' again",
        ) from error
