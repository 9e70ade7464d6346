"""The answers of several runs in one table: each model of each run is a column of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from espalier.reports.answer_table import LABELS, AnswerTable
from espalier.reports.answers import read_answers

# Columns side by side; with more runs than that there is nothing to look at.
MOST_COLUMNS = 8

Column = tuple[int, str, str]
# Of each row of a run its row in the common table.
Rows = Mapping[int, int]


def columns_of(
    labels: Sequence[str], summaries: Sequence[Mapping[str, Any] | None]
) -> list[Column]:
    """(run, model, label) of the answers shown: models of one name beside each other, later models
    before earlier ones where not all fit; none where not even one model fits."""
    models: dict[str, str] = {}
    owners: dict[str, list[int]] = {}
    for run, summary in enumerate(summaries):
        for model in summary["models"] if summary else ():
            models.setdefault(model["name"], model["label"])
            owners.setdefault(model["name"], []).append(run)
    kept: list[str] = []
    room = MOST_COLUMNS
    for name in sorted(models, key=lambda name: len(owners[name]) < 2 or -list(models).index(name)):
        if len(owners[name]) <= room:
            kept.append(name)
            room -= len(owners[name])
    return [
        (run, name, f"{models[name]} · {labels[run]}")
        for name in models
        if name in kept
        for run in owners[name]
    ]


def merged_answers(
    folders: Sequence[Path],
    summaries: Sequence[Mapping[str, Any] | None],
    columns: Sequence[Column],
    limit: int | None,
) -> AnswerTable | None:
    """One table with a model `run/name` for each column.

    Rows with the same id are one row, where they ask the same; another prompt under an id that is
    taken is a row of its own, whose id tells the run.
    """
    table = AnswerTable(limit)
    tables: dict[int, AnswerTable] = {}
    for run in dict.fromkeys(run for run, _, _ in columns):
        own = read_answers(folders[run] / "evaluate", summaries[run] or {}, limit)
        if own is not None:
            tables[run] = own
    taken: dict[str, bytes] = {}
    rows = {run: _add_prompts(table, own, taken, run) for run, own in tables.items()}
    for run, model, _ in columns:
        if run in tables and model in tables[run].answers:
            _add_model(table, tables[run], rows[run], model, column_name(run, model))
    if not table.models:
        return None
    _add_scores(table, tables, rows, columns)
    return table


def column_name(run: int, model: str) -> str:
    """The name of a model of a run in the table."""
    return f"{run + 1}/{model}"


def _add_prompts(
    table: AnswerTable, own: AnswerTable, taken: dict[str, bytes], run: int
) -> dict[int, int]:
    """The row in the common table of each row; `taken` tells which prompt each id stands for."""
    found: dict[int, int] = {}
    for identity, place in own.rows.items():
        asked = hashlib.blake2b(own.prompts.get(place), digest_size=16).digest()
        same = taken.setdefault(identity, asked) == asked
        row = table.row(identity if same else f"{identity} ({run + 1})")
        if row is not None:
            found[place] = row
            labels = {name: own.labels[name][place] for name in LABELS}
            prompt, reference = (_text(part.get(place)) for part in (own.prompts, own.references))
            table.add_prompt(row, prompt, reference, labels)
            groups = {name: column[place] for name, column in own.labels.items()}
            table.add_groups(row, groups)
    return found


def _text(data: bytes) -> Any:
    return json.loads(data)


def _add_model(table: AnswerTable, own: AnswerTable, rows: Rows, model: str, name: str) -> None:
    facts = own.facts.get(model, {})
    for place, row in rows.items():
        table.add_answer(row, name, _text(own.answers[model].get(place)))
        table.add_facts(row, name, {key: column[place] for key, column in facts.items()})


def _add_scores(
    table: AnswerTable,
    tables: Mapping[int, AnswerTable],
    rows: Mapping[int, Rows],
    columns: Sequence[Column],
) -> None:
    """Values by metric; one that a run lacks is NaN there."""
    places = {name: place for place, name in enumerate(table.models)}
    for run, own in tables.items():
        here, there = list(rows[run]), list(rows[run].values())
        for metric in own.metrics:
            name = metric["name"]
            if name not in table.values:
                table.metrics.append(dict(metric))
                table.values[name] = np.full((len(table.models), table.count), np.nan)
            for other, model, _ in columns:
                column = column_name(run, model)
                if other == run and column in places and model in own.models:
                    values = own.values[name][own.models.index(model)]
                    table.values[name][places[column], there] = values[here]


def core_summary(
    table: AnswerTable, columns: Sequence[Column], metrics: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What the script of the examples asks of a summary: models and metrics."""
    known = {metric["name"] for metric in table.metrics}
    labels = {column_name(run, model): label for run, model, label in columns}
    return {
        "models": [{"name": name, "label": labels[name]} for name in table.models],
        "metrics": [dict(metric) for metric in metrics if metric["name"] in known],
        "baseline": table.models[0],
    }
