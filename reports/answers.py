"""The side-by-side answers, read from the files of the evaluation row by row."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from espalier.errors import InputError
from espalier.reports.answer_table import LABELS, AnswerTable, Floats, Integers
from espalier.reports.runfiles import read_lines, read_object, readable
from espalier.reports.strings import pretty
from espalier.reports.summary_shape import check_summary

if TYPE_CHECKING:
    import pyarrow

# Columns of scores.parquet that are no row metric.
TEXT_COLUMNS = ("id", "model", "prompt", "reference", "answer", *LABELS)
NOTES = {"marks": "judge_marks.jsonl", "verdicts": "judge_pairs.jsonl"}
GROUPS = "groups.jsonl"
BATCH = 512
BUFFER = 1 << 16


def read_answers(
    folder: Path, summary: Mapping[str, Any], limit: int | None = None
) -> AnswerTable | None:
    """All answers below `evaluate/`, their scores and what a judge said of them.

    None when no answer was stored. Only the first `limit` prompts are read, where given.
    Raises InputError for files that are not what the stage writes.
    """
    table = AnswerTable(limit)
    path = folder / "scores.parquet"
    if path.is_file():
        _read_scores(path, table, summary)
    else:
        _read_answer_files(folder, table)
        _order_models(table, summary)
    if not table.count:
        return None
    for line in read_lines(folder / GROUPS):
        row = table.rows.get(str(line.get("id")))
        groups = line.get("groups")
        if row is not None and isinstance(groups, Mapping):
            table.add_groups(row, groups)
    for model in table.models:
        for line in _stored_answers(folder, model):
            row = table.rows.get(str(line.get("id")))
            if row is not None:
                table.add_facts(row, model, line)
    for kind, name in NOTES.items():
        for line in read_lines(folder / name):
            row = table.rows.get(str(line.get("id")))
            if row is not None:
                table.add_note(row, kind, line)
    return table


class Scores:
    """The numeric columns of the score table, gathered batch by batch."""

    def __init__(self, schema: pyarrow.Schema) -> None:
        import pyarrow.types as types

        kinds = (types.is_integer, types.is_floating, types.is_boolean)
        self.names = [
            field.name
            for field in schema
            if field.name not in TEXT_COLUMNS and any(kind(field.type) for kind in kinds)
        ]
        self._models: dict[str, int] = {}
        self._places: list[Integers] = []
        self._values: dict[str, list[Floats]] = {name: [] for name in self.names}

    def add(self, batch: pyarrow.RecordBatch, rows: list[int | None]) -> None:
        """The scores of a batch whose lines belong to these rows."""
        models = [
            self._models.setdefault(str(name), len(self._models))
            for name in batch.column("model").to_pylist()
        ]
        kept = [i for i, row in enumerate(rows) if row is not None]
        self._places.append(np.array([[models[i], rows[i]] for i in kept], np.int64).reshape(-1, 2))
        for name in self.names:
            column = batch.column(name).cast("float64").to_numpy(zero_copy_only=False)
            self._values[name].append(column[kept])

    def finish(self, table: AnswerTable, summary: Mapping[str, Any]) -> None:
        """Give the table its metrics, those of the summary first; without any number, no metric."""
        described = {str(m["name"]): m for m in summary.get("metrics", [])}
        names = [name for name in described if name in self._values]
        names += [name for name in self.names if name not in described]
        places = np.concatenate(self._places) if self._places else np.zeros((0, 2), np.int64)
        order = np.array([table.models.index(name) for name in self._models], np.int64)
        for name in names:
            values = np.full((len(table.models), table.count), np.nan)
            if len(places):
                values[order[places[:, 0]], places[:, 1]] = np.concatenate(self._values.pop(name))
            values[~np.isfinite(values)] = np.nan
            if not np.isnan(values).all():
                table.metrics.append(_about(name, described.get(name, {})))
                table.values[name] = values


def _about(name: str, described: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "label": described.get("label") or pretty(name),
        "format": described.get("format", "number"),
        "higher_is_better": described.get("higher_is_better", True),
        "tested": described.get("tested", True),
    }


def _read_scores(path: Path, table: AnswerTable, summary: Mapping[str, Any]) -> None:
    import pyarrow.parquet

    # Buffered, or Arrow reads the whole file ahead.
    options = {"buffer_size": BUFFER, "pre_buffer": False}
    with readable(path), pyarrow.parquet.ParquetFile(path, **options) as file:
        _check_columns(path, file.schema_arrow.names)
        scores = Scores(file.schema_arrow)
        columns = [*TEXT_COLUMNS, *scores.names]
        for batch in file.iter_batches(BATCH, columns=columns, use_threads=False):
            scores.add(batch, _add_batch(batch, table))
    _order_models(table, summary)
    scores.finish(table, summary)


def _check_columns(path: Path, names: list[str]) -> None:
    missing = [name for name in ("id", "model", "answer") if name not in names]
    if missing:
        raise InputError(
            f"The table of row scores lacks the column '{missing[0]}'.",
            where=str(path),
            expected="columns id, model, prompt, reference, answer and the row metrics",
            hint="run the stage 'evaluate' again",
        )


def _add_batch(batch: pyarrow.RecordBatch, table: AnswerTable) -> list[int | None]:
    """Add the texts of a batch; returns the row of each line, None above the limit."""
    columns: dict[str, list[Any]] = {name: [None] * batch.num_rows for name in TEXT_COLUMNS}
    for name in set(TEXT_COLUMNS) & set(batch.schema.names):
        columns[name] = batch.column(name).to_pylist()
    rows = [table.row(str(identity)) for identity in columns["id"]]
    for place, row in enumerate(rows):
        if row is None:
            continue
        labels = {name: columns[name][place] for name in LABELS}
        table.add_prompt(row, columns["prompt"][place], columns["reference"][place], labels)
        table.add_answer(row, str(columns["model"][place]), columns["answer"][place])
    return rows


def _order_models(table: AnswerTable, summary: Mapping[str, Any]) -> None:
    """As in the summary; models that it does not name come last."""
    names = {str(model["name"]): i for i, model in enumerate(summary.get("models", []))}
    table.models.sort(key=lambda name: names.get(name, len(names)))


def _read_answer_files(folder: Path, table: AnswerTable) -> None:
    """From answers/*.jsonl alone (evaluate has not finished); there are no scores then."""
    prompts = {
        str(row.get("id")): row for row in read_lines(folder.parent / "curate" / "eval.jsonl")
    }
    for path in sorted((folder / "answers").glob("*.jsonl")):
        for line in read_lines(path):
            row = table.row(str(line.get("id"))) if "answer" in line else None
            if row is None:
                continue
            example = prompts.get(str(line.get("id")), {})
            meta = example.get("meta") or {}
            turns = [m for m in example.get("messages") or [] if m.get("role") == "user"]
            table.add_prompt(
                row, turns[-1].get("content") if turns else None, meta.get("reference"), meta
            )
            table.add_answer(row, path.stem, line["answer"])


def _stored_answers(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    # The name comes from the result files: it must not lead out of the folder.
    if Path(name).name == name:
        yield from read_lines(folder / "answers" / f"{name}.jsonl")


def reading_summary(folder: Path) -> dict[str, Any] | None:
    """`summary.json`, checked for what the page relies on; None when it is absent."""
    path = folder / "summary.json"
    summary = read_object(path)
    if summary is None:
        return None
    summary = finite(summary)
    check_summary(summary, path)
    return _filled(summary)


def _filled(summary: dict[str, Any]) -> dict[str, Any]:
    """The summary with every key that the page reads; a slice's `value` is named `group`."""
    models = [
        {
            "kind": "",
            "source": "",
            "template": "",
            "few_shot": 0,
            "notes": [],
            **model,
            "label": str(model.get("label") or model["name"]),
        }
        for model in summary["models"]
    ]
    metrics = [
        {
            "higher_is_better": True,
            "tested": True,
            "format": "number",
            "signature": "",
            "description": "",
            **metric,
            "label": str(metric.get("label") or metric["name"]),
        }
        for metric in summary["metrics"]
    ]
    # What a score or a difference lacks is not known.
    unknown = dict.fromkeys(("low", "high", "n"))
    scores = [{"value": None, **unknown, **item} for item in summary["scores"]]
    comparisons = [
        {"difference": None, "p_value": None, **unknown, **item}
        for item in summary.get("comparisons") or []
    ]
    slices = [
        {**{k: item[k] for k in ("by", "model", "metric", "score", "n")}, "group": item["value"]}
        for item in summary.get("slices") or []
    ]
    return {
        **summary,
        "set": {"name": "?", "rows": 0, **(summary.get("set") or {})},
        "confidence": summary.get("confidence") or 0.95,
        "models": models,
        "metrics": metrics,
        "scores": scores,
        "comparisons": comparisons,
        "slices": slices,
    }


def finite(value: Any) -> Any:
    """The same JSON value with null for every number that is not finite."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
