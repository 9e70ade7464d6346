"""The side-by-side answers as columns, one list entry a prompt, ready to be packed."""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espalier.errors import InputError
from espalier.reports.runfiles import number, read_lines, read_object, rounded
from espalier.reports.strings import pretty

# Columns of scores.parquet that are no row metric.
TEXT_COLUMNS = ("id", "model", "prompt", "reference", "answer", "category", "language", "source")
_FACTS = ("finish_reason", "tokens", "seconds")


def read_answers(
    folder: Path, summary: Mapping[str, Any], limit: int | None = None
) -> dict[str, Any] | None:
    """What the answer browser shows, from `evaluate/`; None when no answer was stored.

    The result has `rows` (columns id, prompt, reference, category, language), `models` (each
    with name, answers and facts by row, None where the model gave none) and `metrics` (each with
    name, label, format, higher_is_better and values by model and row).
    """
    names = [str(model["name"]) for model in summary.get("models", [])]
    table = _read_scores(folder / "scores.parquet")
    if table is None:
        table = _from_answer_files(folder, names)
    if not table.get("id"):
        return None
    index = _row_index(table["id"], limit)
    present = dict.fromkeys(str(name) for name in table["model"])
    order = [n for n in names if n in present] + [n for n in present if n not in names]
    at = [
        (index.get(str(row)), str(model))
        for row, model in zip(table["id"], table["model"], strict=True)
    ]
    return {
        "rows": {"id": list(index), **_row_texts(table, at, len(index))},
        "models": [
            {"name": name, **_model_columns(folder, table, at, name, index)} for name in order
        ],
        "metrics": _row_metrics(table, at, order, len(index), summary),
    }


def pack(value: Any) -> str:
    """JSON, compressed and in base64: text that no HTML parser can misread.

    A lone surrogate is written as its JSON escape; the result depends on the value alone.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    data = gzip.compress(text.encode("utf-8", "backslashreplace"), compresslevel=6, mtime=0)
    return base64.b64encode(data).decode("ascii")


def _read_scores(path: Path) -> dict[str, list[Any]] | None:
    if not path.is_file():
        return None
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise InputError(
            "The table of row scores can't be read.",
            where=str(path),
            expected="a Parquet file, as the stage 'evaluate' writes it",
            hint="run the stage 'evaluate' again",
        ) from error
    columns: dict[str, list[Any]] = table.to_pydict()
    missing = [name for name in ("id", "model", "answer") if name not in columns]
    if missing:
        raise InputError(
            f"The table of row scores lacks the column '{missing[0]}'.",
            where=str(path),
            expected="columns id, model, prompt, reference, answer and the row metrics",
            hint="run the stage 'evaluate' again",
        )
    return columns


def _from_answer_files(folder: Path, names: list[str]) -> dict[str, list[Any]]:
    """The same columns from answers/*.jsonl alone (evaluate has not finished); no metrics."""
    prompts = {
        str(row.get("id")): row for row in read_lines(folder.parent / "curate" / "eval.jsonl")
    }
    files = {path.stem: path for path in sorted((folder / "answers").glob("*.jsonl"))}
    table: dict[str, list[Any]] = {name: [] for name in TEXT_COLUMNS}
    for name in [n for n in names if n in files] + [n for n in files if n not in names]:
        for row in read_lines(files[name]):
            if "answer" not in row:
                continue
            example = prompts.get(str(row.get("id")), {})
            meta = example.get("meta") or {}
            turns = [m for m in example.get("messages") or [] if m.get("role") == "user"]
            table["id"].append(row.get("id"))
            table["model"].append(name)
            table["answer"].append(row["answer"])
            table["prompt"].append(turns[-1].get("content") if turns else None)
            for key in ("reference", "category", "language", "source"):
                table[key].append(meta.get(key))
    return table


def _row_index(ids: list[Any], limit: int | None) -> dict[str, int]:
    index: dict[str, int] = {}
    for row in ids:
        if str(row) not in index and (limit is None or len(index) < limit):
            index[str(row)] = len(index)
    return index


def _row_texts(
    table: Mapping[str, list[Any]], at: list[tuple[int | None, str]], size: int
) -> dict[str, list[Any]]:
    result: dict[str, list[Any]] = {}
    for name in ("prompt", "reference", "category", "language"):
        column: list[Any] = [None] * size
        for (row, _), value in zip(at, table.get(name, [None] * len(at)), strict=True):
            if row is not None and column[row] is None and value is not None:
                column[row] = str(value)
        result[name] = column
    return result


def _model_columns(
    folder: Path,
    table: Mapping[str, list[Any]],
    at: list[tuple[int | None, str]],
    name: str,
    index: Mapping[str, int],
) -> dict[str, Any]:
    answers: list[str | None] = [None] * len(index)
    for (row, model), answer in zip(at, table["answer"], strict=True):
        if row is not None and model == name and answer is not None:
            answers[row] = str(answer)
    facts: dict[str, list[Any]] = {fact: [None] * len(index) for fact in _FACTS}
    for line in _stored_answers(folder, name):
        row = index.get(str(line.get("id")))
        if row is not None:
            for fact in _FACTS:
                value = line.get(fact)
                facts[fact][row] = value if isinstance(value, str) else rounded(value, 3)
    known = {fact: column for fact, column in facts.items() if any(x is not None for x in column)}
    return {"answers": answers, "facts": known}


def _stored_answers(folder: Path, name: str) -> list[dict[str, Any]]:
    # The name comes from summary.json: it must not lead out of the folder.
    if Path(name).name != name:
        return []
    return list(read_lines(folder / "answers" / f"{name}.jsonl"))


def _row_metrics(
    table: Mapping[str, list[Any]],
    at: list[tuple[int | None, str]],
    models: list[str],
    size: int,
    summary: Mapping[str, Any],
) -> list[dict[str, Any]]:
    described = {str(m["name"]): m for m in summary.get("metrics", [])}
    names = [n for n in described if n in table]
    names += [n for n in table if n not in described and n not in TEXT_COLUMNS]
    metrics = []
    for name in names:
        values: dict[str, list[Any]] = {model: [None] * size for model in models}
        found = False
        for (row, model), value in zip(at, table[name], strict=True):
            if row is not None and not isinstance(value, str):
                values[model][row] = rounded(value, 4)
                found = found or number(value) is not None
        if found:
            about = described.get(name, {})
            metrics.append(
                {
                    "name": name,
                    "label": about.get("label") or pretty(name),
                    "format": about.get("format", "number"),
                    "higher_is_better": about.get("higher_is_better", True),
                    "tested": about.get("tested", True),
                    "values": values,
                }
            )
    return metrics


def reading_summary(folder: Path) -> dict[str, Any] | None:
    """`summary.json`, checked for what the page relies on; None when it is absent."""
    path = folder / "summary.json"
    summary = read_object(path)
    if summary is None:
        return None
    for key in ("models", "metrics", "scores"):
        if not isinstance(summary.get(key), list):
            raise InputError(
                f"The summary of the evaluation has no list '{key}'.",
                where=str(path),
                expected="the summary.json that the stage 'evaluate' writes",
                hint="run the stage 'evaluate' again",
            )
    return _filled(finite(summary))


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
    slices = [
        {**{k: item[k] for k in ("by", "model", "metric", "score", "n")}, "group": item["value"]}
        for item in summary.get("slices") or []
    ]
    return {
        **summary,
        "set": {"name": "?", "rows": 0, **(summary.get("set") or {})},
        "confidence": summary.get("confidence") or 0.95,
        "models": [
            {**model, "label": str(model.get("label") or model["name"])} for model in models
        ],
        "metrics": metrics,
        "comparisons": summary.get("comparisons") or [],
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
