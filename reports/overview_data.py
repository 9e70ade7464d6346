"""The part of the summary that the charts of the overview draw, as small as they can use it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from espalier.reports.runfiles import rounded

DIGITS = 6
MODEL_KEYS = ("name", "label")
METRIC_KEYS = (
    "name", "label", "higher_is_better", "tested", "format", "signature", "description",
)  # fmt: skip
SCORE_KEYS = ("model", "metric", "value", "low", "high", "n")
PAIR_KEYS = (
    "metric", "baseline", "model", "verdict", "n", "difference", "low", "high", "p_value",
    "effect", "detectable", "wins", "losses", "ties",
)  # fmt: skip
SLICE_KEYS = (
    "by", "group", "metric", "model", "n", "score", "difference", "low", "high", "p_value",
    "verdict",
)  # fmt: skip
# Families of metrics, by their names; what only describes is a family by itself.
FAMILIES = {
    "judge": r"judge_.+",
    "people": r"human_.+",
    "reward": r"reward(_.+)?",
    "checks": r"checks_.+",
    "perplexity": r"perplexity|ppl_.+|bits_per_byte|bpb_.+|forgetting",
    "reference": r"rouge.+|(exact_match|token_f1|bleu|chrf|ter|accuracy|macro_f1|entity_f1)(_\d+)?",
}


def overview_core(
    summary: Mapping[str, Any], with_rows: Collection[str], columns: Collection[str] = ()
) -> dict[str, Any]:
    """What the script draws from: models, metrics, scores, comparisons, slices.

    `with_rows` are the metrics that have a score of every answer, `columns` the fields that answers
    can be filtered by. Each metric is given its `family` and `rows`. Lists of records become
    `{"keys": [...], "rows": [[...], ...]}`, numbers have six digits.
    """
    return {
        "baseline": summary.get("baseline"),
        "confidence": summary["confidence"],
        "power": summary.get("power"),
        "models": _records(summary["models"], MODEL_KEYS),
        "metrics": [
            {
                **{key: metric.get(key) for key in METRIC_KEYS},
                "family": family(metric),
                "rows": metric["name"] in with_rows,
            }
            for metric in summary["metrics"]
        ],
        "scores": _table(summary["scores"], SCORE_KEYS),
        "comparisons": _table(summary["comparisons"], PAIR_KEYS),
        "slices": _table(_slices(summary), SLICE_KEYS),
        "columns": list(columns),
        "coverage": [str(item.get("metric")) for item in summary.get("coverage") or []],
        "rubrics": rubrics(summary["metrics"]),
        "judge": {"rubrics": _judge_rubrics(summary)},
    }


def family(metric: Mapping[str, Any]) -> str:
    """The family that a metric is listed with; "other" for one of the user's own."""
    if not metric.get("tested", True):
        return "describes"
    name = str(metric["name"])
    return next((one for one, names in FAMILIES.items() if re.fullmatch(names, name)), "other")


def rubrics(metrics: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The marks from 1 to 5 that a judge or people gave, by rubric: `name`, and `criteria` with
    the metrics of the judge and of people, None where there is no such.

    A judge's metric names its rubric in its signature; marks that only people gave are a rubric
    without a name.
    """
    marks = {str(m["name"]): m for m in metrics if m.get("format") == "number"}
    found: dict[str, list[dict[str, Any]]] = {}
    for name, metric in marks.items():
        parts = str(metric.get("signature", "")).split("|")
        rubric = next((p.removeprefix("rubric:") for p in parts if p.startswith("rubric:")), None)
        if not name.startswith("judge_") or rubric is None:
            continue
        if any(part.startswith("mean:") for part in parts):
            continue
        criterion = name.removeprefix("judge_")
        people = f"human_{criterion}"
        found.setdefault(rubric, []).append(
            {"name": criterion, "judge": name, "people": people if people in marks else None}
        )
    told = {one["people"] for criteria in found.values() for one in criteria}
    alone = [
        {"name": name.removeprefix("human_"), "judge": None, "people": name}
        for name in marks
        if name.startswith("human_") and name not in told
    ]
    if alone:
        found[""] = alone
    return [{"name": name, "criteria": criteria} for name, criteria in found.items()]


def _judge_rubrics(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    listed = (summary.get("judge") or {}).get("rubrics") or []
    names = dict.fromkeys(one.get("rubric") for one in listed)
    return [{"rubric": name} for name in names]


def _records(items: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[dict[str, Any]]:
    return [{key: item.get(key) for key in keys} for item in items]


def _table(items: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> dict[str, Any]:
    rows = [[_short(item.get(key)) for key in keys] for item in items]
    return {"keys": list(keys), "rows": rows}


def _short(value: Any) -> Any:
    return rounded(value, DIGITS) if isinstance(value, float) else value


def _slices(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The scores of the slices, each with its comparison with the run's baseline."""
    compared = {
        (c.get("by"), c.get("value"), c.get("metric"), c.get("model")): c
        for c in summary.get("slice_comparisons") or []
    }
    keys = ("difference", "low", "high", "p_value", "verdict")
    return [
        {
            **one,
            **{
                key: found.get(key)
                for found in (
                    compared.get((one["by"], one["group"], one["metric"], one["model"]), {}),
                )
                for key in keys
            },
        }
        for one in summary["slices"]
    ]
