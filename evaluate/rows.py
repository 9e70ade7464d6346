"""Rows of the files that an evaluation reads whole: one that can't be read stops it."""

from __future__ import annotations

from pathlib import Path

from espalier.errors import InputError
from espalier.formats.base import Answers
from espalier.formats.files import BadRow
from espalier.formats.read import Reject, read_examples
from espalier.records import Example


def row_error(row: BadRow) -> InputError:
    """A row that can't be read, as the error that stops the evaluation."""
    error = row.error()
    return InputError(
        error.what,
        where=error.where,
        expected=error.expected,
        # An evaluation puts no row aside: all of its models are scored on the same ones.
        hint="correct that row of the file",
    )


def read_all(
    path: Path, *, format: str = "auto", limit: int | None = None, answers: Answers = "required"
) -> list[Example]:
    """All examples of a file (the first `limit`); raises InputError at the first bad row."""
    rejects: list[Reject] = []
    rows = read_examples(
        path, format=format, on_bad_row="quarantine", rejects=rejects, limit=limit, answers=answers
    )
    found = []
    for row in rows:
        if rejects:
            break
        found.append(row)
    if rejects:
        raise row_error(rejects[0])
    return found
