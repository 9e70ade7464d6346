"""Row scores of a run by model, read in pieces: numbers, and digests of what was asked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from espalier.reports.runfiles import readable

if TYPE_CHECKING:
    import pyarrow

Floats = NDArray[np.float64]
# What tells the rows of two runs apart, beside their ids.
TEXTS = ("prompt", "reference")
BATCH = 4096


@dataclass(frozen=True)
class RowScores:
    """Scores of one model by row: ids, prompts, what was asked, and arrays with NaN for none.

    `asked` tells prompt and reference apart from others: two runs may use an id for different ones.
    """

    ids: list[str]
    prompts: list[str]
    asked: list[str]
    values: Mapping[str, Floats]


def read_rows(run: Path) -> dict[str, RowScores]:
    """By model, the numeric columns of `evaluate/scores.parquet`; empty where there is none.

    Of the texts digests are kept; prompts are theirs.
    """
    import pyarrow.parquet

    path = run / "evaluate" / "scores.parquet"
    if not path.is_file():
        return {}
    with readable(path), pyarrow.parquet.ParquetFile(path, pre_buffer=False) as file:
        names = _numeric(file.schema_arrow)
        texts = [n for n in ("id", "model", *TEXTS) if n in file.schema_arrow.names]
        if not {"id", "model"} <= set(texts):
            return {}
        batches = file.iter_batches(BATCH, columns=[*texts, *names], use_threads=False)
        return _by_model(batches, names)


def _numeric(schema: pyarrow.Schema) -> list[str]:
    import pyarrow.types as types

    kinds = (types.is_floating, types.is_integer, types.is_boolean)
    return [field.name for field in schema if any(kind(field.type) for kind in kinds)]


def _by_model(batches: Iterator[pyarrow.RecordBatch], names: Sequence[str]) -> dict[str, RowScores]:
    found: dict[str, RowScores] = {}
    parts: dict[str, dict[str, list[Floats]]] = {}
    for batch in batches:
        ids, models = (batch.column(name).to_pylist() for name in ("id", "model"))
        prompts, asked = _digests(batch)
        columns = {
            name: batch.column(name).cast("float64").to_numpy(zero_copy_only=False)
            for name in names
        }
        whose = np.array([str(model) for model in models], dtype=object)
        for model in dict.fromkeys(whose):
            rows = np.flatnonzero(whose == model)
            own = found.setdefault(model, RowScores([], [], [], {}))
            for row in rows:
                own.ids.append(str(ids[row]))
                own.prompts.append(prompts[row])
                own.asked.append(asked[row])
            for name in names:
                parts.setdefault(model, {}).setdefault(name, []).append(columns[name][rows])
    return {
        model: RowScores(
            own.ids, own.prompts, own.asked,
            {name: np.concatenate(arrays) for name, arrays in parts[model].items()},
        )
        for model, own in found.items()
    }  # fmt: skip


def _digests(batch: pyarrow.RecordBatch) -> tuple[list[str], list[str]]:
    """Of each row the prompt, and the prompt with its reference; without prompts the ids."""
    names = [name for name in TEXTS if name in batch.schema.names]
    if "prompt" not in names:
        ids = [str(value) for value in batch.column("id").to_pylist()]
        return ids, ids
    columns = [batch.column(name).to_pylist() for name in names]
    return [_digest([row[0]]) for row in zip(*columns, strict=True)], [
        _digest(row) for row in zip(*columns, strict=True)
    ]


def _digest(texts: Sequence[Any]) -> str:
    joined = "\0".join("" if text is None else str(text) for text in texts)
    return hashlib.blake2b(joined.encode("utf-8", "replace"), digest_size=16).hexdigest()
