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
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from espalier.errors import InputError, UsageError
from espalier.evaluate.ratings import mark_item, pair_item
from espalier.files import atomic_write_text
from espalier.formats.files import BadRow, read_rows
from espalier.records import dump_line
from espalier.rubrics import QUALITY, Scale

Kind = Literal["pairs", "marks"]
# A cell that begins so is run as a formula by spreadsheet programs.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Shown:
    """One answer of a run."""

    prompt_id: str
    prompt: str
    model: str
    answer: str


def read_answers(run: Path) -> list[Shown]:
    """The answers of a finished evaluation; raises InputError where the run has none."""
    path = run / "evaluate" / "scores.parquet"
    if not path.is_file():
        raise InputError(
            "The run has no finished evaluation to rate.",
            where=str(path),
            expected="a run folder in which `espalier evaluate` is done",
            hint="run the evaluation first",
        )
    found = []
    for row in read_rows(path):
        if not isinstance(row, BadRow):
            value = row.value
            found.append(
                Shown(str(value["id"]), str(value["prompt"]), str(value["model"]),
                      str(value["answer"] or ""))
            )  # fmt: skip
    return found


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
    known = list(dict.fromkeys(one.model for one in answers))
    unknown = [name for name in models if name not in known]
    if unknown:
        raise UsageError(
            f"The run has no model '{unknown[0]}'.", expected=f"some of: {', '.join(known)}"
        )
    rng = random.Random(f"{seed}:sheet:{kind}")
    chosen = [one for one in answers if not models or one.model in models]
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
    by_prompt: dict[str, list[Shown]] = {}
    for one in answers:
        by_prompt.setdefault(one.prompt_id, []).append(one)
    for group in by_prompt.values():
        for pair in combinations(group, 2):
            if pair[0].answer.strip() == pair[1].answer.strip():
                continue
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
    suffix = path.suffix.lower()
    if path.exists():
        raise UsageError(
            "The file is there already, and may hold ratings.",
            where=str(path),
            hint="choose another name, or move the file away",
        )
    if suffix == ".jsonl":
        atomic_write_text(path, "".join(dump_line(row) + "\n" for row in rows))
    elif suffix == ".csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
        # Spreadsheet programs take a file without this mark for one in a local encoding.
        atomic_write_text(path, "\ufeff" + text.getvalue())
    else:
        raise UsageError(
            f"A sheet can't be written as '{path.name}'.",
            expected="a name that ends in .csv or .jsonl",
        )


def _cell(value: Any) -> str:
    text = str(value).encode("utf-8", errors="replace").decode("utf-8").replace("\0", "")
    return f"'{text}" if text.startswith(_FORMULA) else text
