"""Blind sheets for people: answers to mark, or pairs to choose from, without the models' names.

The order of the rows and of the two answers of a pair is drawn by the seed. Each row has an
`item`, a hash of what it shows, by which a filled-in sheet finds the answers again; no key file
has to be kept.
"""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from espalier.blind import Shown, answers_of, mark_item, pair_item, pairs_shown
from espalier.errors import UsageError
from espalier.files import atomic_write_text
from espalier.records import dump_line
from espalier.rubrics import QUALITY, Scale

Kind = Literal["pairs", "marks"]
# A cell that begins so is run as a formula by spreadsheet programs.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def sheet_rows(
    answers: Sequence[Shown],
    kind: Kind,
    *,
    scale: Scale = QUALITY,
    models: Sequence[str] = (),
    count: int | None = None,
    seed: int = 1,
) -> list[dict[str, str]]:
    """The rows of a sheet, `count` of them at most, with empty cells to fill in.

    Pairs of equal answers are left out, since there is nothing to choose; equal answers to one
    prompt are marked once. Raises UsageError for a model that the run does not have.
    """
    rng = random.Random(f"{seed}:sheet:{kind}")
    chosen = answers_of(answers, models)
    rows = list(_pairs(chosen, rng) if kind == "pairs" else _marks(chosen, scale))
    unique = list({row["item"].partition("-")[0]: row for row in rows}.values())
    rng.shuffle(unique)
    if not unique:
        raise UsageError(
            "There is nothing to rate: no two models answer a prompt differently."
            if kind == "pairs"
            else "There is nothing to rate: the run has no answers.",
            expected="answers of two models to the same prompts" if kind == "pairs" else None,
        )
    return unique[:count]


def _pairs(answers: Sequence[Shown], rng: random.Random) -> Iterator[dict[str, str]]:
    for pair in pairs_shown(answers):
        first, second = rng.sample(pair, 2)
        yield {
            "item": pair_item(first.prompt, first.answer, second.answer),
            "prompt": first.prompt,
            "answer_a": first.answer,
            "answer_b": second.answer,
            "verdict": "",
            "comment": "",
        }


def _marks(answers: Sequence[Shown], scale: Scale) -> Iterator[dict[str, str]]:
    blank = dict.fromkeys((*scale.marks, *scale.checks, "comment"), "")
    for one in answers:
        item = mark_item(one.prompt, one.answer)
        yield {"item": item, "prompt": one.prompt, "answer": one.answer, **blank}


def write_sheet(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write a sheet as CSV or JSONL, by its suffix.

    Raises UsageError for another suffix, and for a file that is there already: it may be filled in.

    In CSV a text that a spreadsheet program would run as a formula gets a quote before it; ratings
    are found by their item, so the texts may be changed.
    """
    if path.suffix.lower() not in (".csv", ".jsonl"):
        raise UsageError(
            f"A sheet can't be written as '{path.name}'.",
            expected="a name that ends in .csv or .jsonl",
        )
    if path.exists():
        raise UsageError(
            "The file is there already, and may hold ratings.",
            where=str(path),
            hint="choose another name, or move the file away",
        )
    write_rows(path, rows)


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of ratings as CSV (all their fields), as a JSON list, or as JSONL otherwise."""
    suffix = path.suffix.lower()
    if suffix == ".csv":
        text = io.StringIO()
        names = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.DictWriter(text, fieldnames=names, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
        # Spreadsheet programs take a file without this mark for one in a local encoding.
        atomic_write_text(path, "\ufeff" + text.getvalue())
        return
    lines = [dump_line(row) for row in rows]
    whole = "[\n" + ",\n".join(lines) + "\n]\n"
    atomic_write_text(path, whole if suffix == ".json" else "".join(f"{line}\n" for line in lines))


def _cell(value: Any) -> str:
    text = "" if value is None else str(value)
    text = text.encode("utf-8", errors="replace").decode("utf-8").replace("\0", "")
    return f"'{text}" if text.startswith(_FORMULA) else text
