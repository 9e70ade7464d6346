"""The same model in two runs, compared on the prompts that both answered.

Scores that are means over rows are compared here; rows of one prompt count as one draw. How the
score of a whole set (BLEU, perplexity) is put together the evaluation knows, which compares those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from espalier.reports.runs_effects import holm
from espalier.reports.runs_rows import RowScores
from espalier.reports.runs_targets import Target
from espalier.reports.student import t_quantile, two_sided
from espalier.stages import RUN_PAIRS, load

Found = dict[str, Any]
# With more runs only the first can be the reference: the others would make too many pairs.
MOST_RUNS = 8
# Of larger sets scores of the whole set are compared with the first run alone.
MANY_ROWS = 2000


def compare_runs(
    targets: Sequence[Target],
    rows: Sequence[Mapping[str, RowScores]],
    confidence: float,
    folders: Sequence[Path] = (),
) -> list[dict[str, Any]]:
    """Each run against each reference: `{run, reference, target, difference, low, high, p_value,
    verdict, n, how}`, p corrected after Holm over all that is compared with one reference.

    `how` is rows for means over rows, set for scores of whole sets, which are read from `folders`.
    """
    scores = [target for target in targets if target.kind == "score" and target.metric["tested"]]
    higher = {target.name: bool(target.metric["higher_is_better"]) for target in scores}
    references = range(len(rows)) if len(rows) <= MOST_RUNS else range(1)
    known = _known(scores, rows, references, confidence, folders)
    result = []
    for reference in references:
        family = [
            {"run": run, "reference": reference, "target": target.name, **found}
            for run in range(len(rows))
            for target in scores
            if (found := known.get((reference, run, target.name)))
        ]
        for entry, p in zip(family, holm([entry["p_value"] for entry in family]), strict=True):
            said = _verdict(entry, p, higher[entry["target"]], confidence)
            result.append({**entry, "p_value": p, "verdict": said})
    return result


def _known(
    scores: Sequence[Target],
    rows: Sequence[Mapping[str, RowScores]],
    references: Sequence[int],
    confidence: float,
    folders: Sequence[Path],
) -> dict[tuple[int, int, str], Found]:
    """By (reference, run, target) the difference with its interval and p, not yet corrected."""
    large = any(len(one.ids) > MANY_ROWS for models in rows for one in models.values())
    known: dict[tuple[int, int, str], Found] = {}
    left: list[tuple[int, int, Target]] = []
    for reference in references:
        for run in range(reference + 1, len(rows)):
            for target in scores:
                found = paired_rows(target, rows, reference, run, confidence)
                if found is not None:
                    known[reference, run, target.name] = {**found, "how": "rows"}
                elif not (large and reference):
                    left.append((reference, run, target))
    known |= _of_sets(left, folders, confidence, len(scores) * len(rows))
    turned = {(run, reference, name): _turned(one) for (reference, run, name), one in known.items()}
    return known | turned


def _of_sets(
    left: Sequence[tuple[int, int, Target]], folders: Sequence[Path], confidence: float, family: int
) -> dict[tuple[int, int, str], Found]:
    """What the evaluation says of scores of whole sets, where it can compare them."""
    asked = {
        (reference, run, target.model, target.metric["name"]): (reference, run, target.name)
        for reference, run, target in left
        if target.values[reference] and target.values[run]
    }
    if not asked or not folders:
        return {}
    found = load(RUN_PAIRS)(folders, list(asked), confidence, family)
    return {asked[key]: {**one, "how": "set"} for key, one in found.items()}


def _verdict(entry: Mapping[str, Any], p: float | None, higher: bool, confidence: float) -> str:
    if p is None or p >= 1 - confidence or entry["low"] <= 0 <= entry["high"]:
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
        "p_value": _p_value(mean, error, count),
        "n": len(common),
    }


def _p_value(mean: float, error: float, prompts: int) -> float:
    """Student's test; where all differences are equal, which leaves it without a scale, the exact
    one of random signs: all prompts on one side has probability 2^(1 - prompts), both sides."""
    if error > 1e-12 * abs(mean):
        return two_sided(mean / error, prompts - 1)
    return 2.0 ** (1 - prompts) if mean else 1.0


def _column(
    models: Mapping[str, RowScores], target: Target, score: Mapping[str, Any] | None
) -> tuple[dict[tuple[str, str], float], dict[tuple[str, str], str]] | None:
    """Values and prompts by id and what was asked; None where their mean is not the score of the
    summary."""
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
    keys = [(found.ids[row], found.asked[row]) for row in kept]
    return (
        dict(zip(keys, values[kept].tolist(), strict=True)),
        dict(zip(keys, (found.prompts[row] for row in kept), strict=True)),
    )
