"""`statistics.npz`: the row statistics behind every score, so that runs can be compared later.

A NumPy archive without pickled objects. `header` holds JSON: the rows of the set (id, digests of
prompt and reference, cluster, slices), the models, the metrics, and for each column which arrays
are its statistics (n, k), its valid rows and its values by row.
"""

from __future__ import annotations

import importlib
import json
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from espalier.errors import InputError
from espalier.evaluate.clusters import cluster_ids
from espalier.evaluate.config_compare import CompareSettings
from espalier.evaluate.evalset import EvalSet
from espalier.evaluate.metric import Metric, RowValues, Scored
from espalier.evaluate.scorecard import Results
from espalier.evaluate.significance import Column, Combine
from espalier.evaluate.slices import cluster_keys, labels_of
from espalier.files import atomic_path
from espalier.records import content_id

SCHEMA = 2
STATISTICS = "statistics.npz"


@dataclass(frozen=True)
class Stored:
    """An evaluation as its statistics file holds it.

    `prompts`, `references` and `answers` (by model) are digests by row, which tell whether two
    files mean the same; a prompt that comes again has a number behind it, no answer is "".
    `labels`: by field, the slice of each row.
    `unreadable`: metrics without usable statistics, each with the reason.
    """

    path: Path
    run: str
    set_name: str
    baseline: str
    models: Mapping[str, str]  # name -> label
    ids: Sequence[str]
    prompts: Sequence[str]
    references: Sequence[str]
    answers: Mapping[str, Sequence[str]]
    clusters: Sequence[str]
    labels: Mapping[str, Sequence[str]]
    scored: Mapping[str, Scored]
    settings: CompareSettings
    unreadable: Mapping[str, str]


def write_statistics(results: Results, path: Path) -> None:
    """Write the columns of all metrics, whole or not at all."""
    compare = results.options.compare
    arrays: dict[str, NDArray[Any]] = {}
    columns: list[dict[str, Any]] = []
    for scored in results.scored:
        for model, column in scored.columns.items():
            key = f"c{len(columns)}"
            arrays[f"{key}.statistics"] = column.statistics
            arrays[f"{key}.valid"] = column.valid
            entry = {
                "metric": scored.metric.name,
                "model": model,
                "key": key,
                "combine": column.combine.name,
                "binary": column.binary,
            }
            if model in scored.rows:
                values = [np.nan if v is None else v for v in scored.rows[model]]
                arrays[f"{key}.rows"] = np.array(values, dtype=np.float64)
            columns.append(entry)
    evalset = results.evalset
    header = {
        "schema": SCHEMA,
        "run": results.run,
        "set": {"name": evalset.name, "sha256": evalset.sha256},
        "baseline": results.baseline,
        "models": {s.name: s.config.label or s.name for s in results.subjects},
        "ids": [row.id for row in evalset.rows],
        "prompts": _prompt_digests(evalset),
        "references": [content_id(row.reference or "") for row in evalset.rows],
        "answers": {
            name: ["" if text is None else content_id(text) for text in one.answers]
            for name, one in results.answered.items()
        },
        "clusters": [content_id(repr(key)) for key in cluster_keys(evalset, compare.cluster)],
        "labels": {by: labels_of(evalset, by) for by in compare.slices},
        "metrics": [
            {**scored.metric.to_json(), "slices": scored.metric.slices} for scored in results.scored
        ],
        "columns": columns,
        "settings": {
            "resamples": results.options.resamples,
            "permutations": results.options.permutations,
            "confidence": results.options.confidence,
            "power": compare.power,
            "test": compare.test,
            "seed": results.seed,
        },
    }
    text = json.dumps(header, ensure_ascii=True).encode("ascii")
    arrays["header"] = np.frombuffer(text, dtype=np.uint8)
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(handle, allow_pickle=False, **arrays)


def _prompt_digests(evalset: EvalSet) -> list[str]:
    seen: Counter[str] = Counter()
    found = []
    for row in evalset.rows:
        digest = content_id(json.dumps([turn.to_json() for turn in row.messages]))
        seen[digest] += 1
        found.append(digest if seen[digest] == 1 else f"{digest}-{seen[digest]}")
    return found


# --- reading ---------------------------------------------------------------------------------


def read_statistics(path: Path) -> Stored:
    """The evaluation behind a statistics file; raises InputError where it is absent or broken."""
    if not path.is_file():
        raise InputError(
            "There are no stored statistics to compare.",
            where=str(path),
            expected="a run folder whose stage 'evaluate' is done",
            hint="run `espalier evaluate` again; stored answers are used again",
        )
    if path.suffix != ".npz":
        raise InputError(
            "This file holds no stored statistics.",
            where=str(path),
            expected="a run folder whose stage 'evaluate' is done, or its statistics.npz",
            hint="files of answers are evaluated first: espalier evaluate --set … "
            "--predictions NAME=FILE --output DIR",
        )
    if not zipfile.is_zipfile(path):
        raise _broken(path, "it is no archive, or was cut off")
    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as archive:
            header = json.loads(archive["header"].tobytes())
            arrays = {name: archive[name] for name in archive.files if name != "header"}
        if header["schema"] != SCHEMA:
            raise _broken(path, f"its schema is {header['schema']!r}, not {SCHEMA}")
        return _stored(path, header, arrays)
    except (
        AttributeError, EOFError, KeyError, OSError, TypeError, ValueError, zipfile.BadZipFile
    ) as error:  # fmt: skip
        raise _broken(path, str(error) or type(error).__name__) from error


def _broken(path: Path, reason: str) -> InputError:
    return InputError(
        f"The stored statistics can't be read: {reason.splitlines()[0]}.",
        where=str(path),
        expected="the statistics.npz that the stage 'evaluate' writes",
        hint="run `espalier evaluate` again; stored answers are used again",
    )


def _stored(path: Path, header: Mapping[str, Any], arrays: Mapping[str, Any]) -> Stored:
    rows = len(header["ids"])
    per_row = [header[name] for name in ("prompts", "references", "clusters")]
    for values in (*per_row, *header["labels"].values(), *header["answers"].values()):
        if len(values) != rows:
            raise ValueError(f"it names {rows} rows, and {len(values)} of what belongs to them")
    settings = CompareSettings(**header["settings"])
    groups = cluster_ids(header["clusters"])
    scored: dict[str, Scored] = {}
    for item in header["metrics"]:
        fields = {key: item[key] for key in Metric.__dataclass_fields__ if key in item}
        scored[item["name"]] = Scored(Metric(**fields))
    unreadable: dict[str, str] = {}
    for entry in header["columns"]:
        combine = _combine(entry["combine"])
        name, key = entry["metric"], entry["key"]
        if combine is None:
            unreadable[name] = "how its statistics make a score is not stored"
            continue
        on_set = f"{key}.rows" in arrays
        statistics = np.asarray(arrays[f"{key}.statistics"], dtype=np.float64)
        valid = np.asarray(arrays[f"{key}.valid"], dtype=bool)
        if statistics.shape != (len(valid), combine.size) or (on_set and len(valid) != rows):
            raise ValueError(f"the column of {name} has the shape {statistics.shape}")
        column = Column(
            statistics, valid, combine, bool(entry["binary"]), groups if on_set else None
        )
        scored[name].columns[entry["model"]] = column
        if on_set:
            scored[name].rows[entry["model"]] = _row_values(arrays[f"{key}.rows"])
    return Stored(
        path,
        str(header["run"]),
        str(header["set"]["name"]),
        str(header["baseline"]),
        dict(header["models"]),
        header["ids"],
        header["prompts"],
        header["references"],
        header["answers"],
        header["clusters"],
        header["labels"],
        {name: one for name, one in scored.items() if name not in unreadable},
        settings,
        unreadable,
    )


def _row_values(values: NDArray[Any]) -> RowValues:
    return [None if np.isnan(value) else float(value) for value in values]


def _combine(name: str) -> Combine | None:
    """The constant `module:name` of this stage; None where there is none (of that kind)."""
    module, _, attribute = str(name).partition(":")
    if not (module.isidentifier() and attribute.isidentifier()):
        return None
    try:
        found = getattr(importlib.import_module(f"espalier.evaluate.{module}"), attribute, None)
    except ModuleNotFoundError:
        return None
    return found if isinstance(found, Combine) else None
