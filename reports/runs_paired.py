"""The same model in two runs, compared on the prompts that both answered.

Only scores that are means over rows can be compared so; a corpus score is left to
`espalier compare`, which knows how each is put together. Rows of one prompt count as one draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from espalier.errors import InputError
from espalier.reports.runs_effects import holm
from espalier.reports.runs_targets import Target
from espalier.reports.student import t_quantile, two_sided

Floats = NDArray[np.float64]
# With more runs only the first can be the reference: the others would make too many pairs.
MOST_RUNS = 8


@dataclass(frozen=True)
class RowScores:
    """Scores of one model by row: ids, prompts, and by metric an array with NaN for none."""

    ids: list[str]
    prompts: list[str]
    values: Mapping[str, Floats]


def read_rows(run: Path) -> dict[str, RowScores]:
    """By model, the numeric columns of `evaluate/scores.parquet`; empty where there is none."""
    import pyarrow
    import pyarrow.parquet
    import pyarrow.types as types

    path = run / "evaluate" / "scores.parquet"
    if not path.is_file():
        return {}
    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise InputError(
            "The table of row scores can't be read.",
            where=str(path),
            expected="a Parquet file, as the stage 'evaluate' writes it",
            hint="run the stage 'evaluate' again",
        ) from error
    if not {"id", "model"} <= set(table.column_names):
        return {}
    ids = [str(value) for value in table.column("id").to_pylist()]
    prompts = (
        [str(v) for v in table.column("prompt").to_pylist()]
        if "prompt" in table.column_names
        else ids
    )
    models = np.array([str(value) for value in table.column("model").to_pylist()], dtype=object)
    columns = {
        field.name: table.column(field.name).cast("float64").to_numpy()
        for field in table.schema
        if types.is_floating(field.type)
        or types.is_integer(field.type)
        or types.is_boolean(field.type)
    }
    found = {}
    for model in dict.fromkeys(models):
        rows = np.flatnonzero(models == model)
        found[str(model)] = RowScores(
            [ids[row] for row in rows],
            [prompts[row] for row in rows],
            {name: np.asarray(values[rows], np.float64) for name, values in columns.items()},
        )
    return found


def compare_runs(
    targets: Sequence[Target], rows: Sequence[Mapping[str, RowScores]], confidence: float
) -> list[dict[str, Any]]:
    """Each run against each reference: `{run, reference, target, difference, low, high, p_value,
    verdict, n}`, p corrected after Holm over all that is compared with one reference."""
    scores = [target for target in targets if target.kind == "score" and target.metric["tested"]]
    references = range(len(rows)) if len(rows) <= MOST_RUNS else range(1)
    known: dict[tuple[int, int, str], dict[str, Any] | None] = {}
    result = []
    for reference in references:
        family = []
        for run in range(len(rows)):
            for target in scores if run != reference else ():
                turned = known.get((reference, run, target.name))
                found = (
                    _turned(turned)
                    if turned
                    else paired_rows(target, rows, reference, run, confidence)
                )
                known[run, reference, target.name] = found
                if found is not None:
                    family.append(
                        {"run": run, "reference": reference, "target": target.name, **found}
                    )
        for entry, p in zip(family, holm([entry["p_value"] for entry in family]), strict=True):
            higher = _higher(targets, entry["target"])
            result.append(
                {**entry, "p_value": p, "verdict": _verdict(entry, p, higher, confidence)}
            )
    return result


def _higher(targets: Sequence[Target], name: str) -> bool:
    return next(bool(t.metric["higher_is_better"]) for t in targets if t.name == name)


def _verdict(entry: Mapping[str, Any], p: float | None, higher: bool, confidence: float) -> str:
    if p is None or p >= 1 - confidence:
        return "tie"
    return "better" if (entry["difference"] > 0) == higher else "worse"


def _turned(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **entry,
        "difference": -entry["difference"],
        "low": -entry["high"],
        "high": -entry["low"],
    }


def paired_rows(
    target: Target,
    rows: Sequence[Mapping[str, RowScores]],
    reference: int,
    run: int,
    confidence: float,
) -> dict[str, Any] | None:
    """Difference of means over the common rows, with Student's interval over clusters of rows.

    None where the score is not a mean of rows, the two were measured in different ways (their
    signatures differ), or fewer than two prompts are common. The standard
    error is the cluster-robust one of a ratio: with s_g the sum and n_g the number of the
    differences of prompt g, sqrt(G/(G-1) · sum((s_g - mean · n_g)²)) / sum(n_g).
    """
    told = [target.values[place] for place in (reference, run)]
    if len({(value or {}).get("signature") for value in told}) > 1:
        return None
    one, two = (_column(rows[place], target, target.values[place]) for place in (reference, run))
    if one is None or two is None:
        return None
    (first, prompts), (second, _) = one, two
    common = [key for key in first if key in second]
    if len(common) < 2:
        return None
    deltas = np.array([second[key] - first[key] for key in common])
    names: dict[str, int] = {}
    groups = np.array([names.setdefault(prompts[key], len(names)) for key in common])
    mean = float(deltas.mean())
    if len(names) < 2:
        return None
    off = np.bincount(groups, deltas) - mean * np.bincount(groups)
    count = len(names)
    error = float(np.sqrt(count / (count - 1) * np.sum(off**2)) / len(common))
    half = t_quantile(0.5 + confidence / 2, count - 1) * error
    return {
        "difference": mean,
        "low": mean - half,
        "high": mean + half,
        "p_value": two_sided(mean / error, count - 1) if error else (1.0 if mean == 0 else 0.0),
        "n": len(common),
    }


def _column(
    models: Mapping[str, RowScores], target: Target, score: Mapping[str, Any] | None
) -> tuple[dict[str, float], dict[str, str]] | None:
    """Values and prompts by id; None where their mean is not the score of the summary."""
    found = models.get(target.model)
    if found is None or score is None or target.metric["name"] not in found.values:
        return None
    values = found.values[target.metric["name"]]
    there = np.isfinite(values)
    if not there.any():
        return None
    mean, told = float(values[there].mean()), float(score["value"])
    if abs(mean - told) > 1e-9 + 1e-6 * abs(told):
        return None
    kept = np.flatnonzero(there)
    return (
        {found.ids[row]: float(values[row]) for row in kept},
        {found.ids[row]: found.prompts[row] for row in kept},
    )
