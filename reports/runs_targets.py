"""What runs are compared by: every score of every model, and where training ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from espalier.reports.runfiles import number
from espalier.reports.strings import t

# Ends of training that are worth a comparison: (chart, split or None for any), lower is better.
ENDS = {
    ("loss", "eval"): False,
    ("accuracy", "eval"): True,
    ("gain", "held_out"): True,
    ("score", "train"): True,
    ("kl", "train"): None,
    ("length", "train"): None,
}
NO_INTERVAL = {"low": None, "high": None, "n": None, "signature": ""}
# The last part of a noisy training curve that stands for its end.
LAST_PART = 0.1


@dataclass(frozen=True)
class Target:
    """One quantity of one model in every run; a run that lacks it has None.

    Each value is `{value, low, high, n, signature}`; the interval is over prompts, and there only
    for scores.
    `metric` has name, label, format, higher_is_better, tested, signature, description.
    """

    name: str
    kind: str
    model: str
    model_label: str
    metric: dict[str, Any]
    values: tuple[dict[str, Any] | None, ...]

    def plain(self) -> list[float | None]:
        """The values alone."""
        return [None if value is None else float(value["value"]) for value in self.values]


def targets_of(
    summaries: Sequence[Mapping[str, Any] | None], curves: Sequence[Sequence[Mapping[str, Any]]]
) -> list[Target]:
    """Scores first, models and metrics in the order in which the runs name them."""
    return [*_scores(summaries), *_ends(curves)]


def _scores(summaries: Sequence[Mapping[str, Any] | None]) -> list[Target]:
    models: dict[str, str] = {}
    metrics: dict[str, dict[str, Any]] = {}
    found: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for run, summary in enumerate(summaries):
        if summary is None:
            continue
        for model in summary["models"]:
            models.setdefault(model["name"], model["label"])
        signatures = {m["name"]: m["signature"] for m in summary["metrics"]}
        for metric in summary["metrics"]:
            metrics.setdefault(metric["name"], dict(metric))
        for score in summary["scores"]:
            value = number(score.get("value"))
            if value is not None:
                entry = {key: score.get(key) for key in ("low", "high", "n")}
                found.setdefault((score["model"], score["metric"]), {})[run] = {
                    "value": value,
                    **entry,
                    "signature": signatures.get(score["metric"], ""),
                }
    return [
        Target(
            f"{model}/{name}",
            "score",
            model,
            label,
            metric,
            tuple(found[model, name].get(run) for run in range(len(summaries))),
        )
        for model, label in models.items()
        for name, metric in metrics.items()
        if (model, name) in found
    ]


def _ends(curves: Sequence[Sequence[Mapping[str, Any]]]) -> list[Target]:
    found: dict[tuple[str, str, str], dict[int, float]] = {}
    about: dict[tuple[str, str, str], tuple[str, str, bool | None]] = {}
    for run, stages in enumerate(curves):
        for stage in stages:
            for chart in stage["charts"]:
                for line in (
                    chart["series"][:1] if chart["key"] in ("kl", "gain") else chart["series"]
                ):
                    key = (stage["stage"], chart["key"], line["split"])
                    kind = (chart["key"], line["split"])
                    if kind in ENDS and line["y"]:
                        found.setdefault(key, {})[run] = end_of(line)
                        about.setdefault(key, (stage["label"], chart["title"], ENDS[kind]))
    return [
        _end_target(key, about[key], [found[key].get(run) for run in range(len(curves))])
        for key in found
    ]


def end_of(line: Mapping[str, Any]) -> float:
    """The last value of a measured line; of a noisy training one the mean of its last tenth."""
    values = [float(value) for value in line["y"]]
    if line["split"] != "train":
        return values[-1]
    tail = values[-max(1, round(LAST_PART * len(values))) :]
    return sum(tail) / len(tail)


def _end_target(
    key: tuple[str, str, str], about: tuple[str, str, bool | None], values: Sequence[float | None]
) -> Target:
    stage, chart, split = key
    label, title, higher = about
    name = "runs.end_train" if split == "train" else "runs.end_last"
    metric = {
        "name": f"{chart}:{split}",
        "label": t(name, title=title, split=t(f"split.{split}")),
        "format": "number",
        "higher_is_better": bool(higher),
        "tested": higher is not None,
        "signature": "",
        "description": t(name + "_about"),
    }
    return Target(
        f"{stage}/{chart}:{split}",
        "training",
        stage,
        label,
        metric,
        tuple(None if v is None else {"value": v, **NO_INTERVAL} for v in values),
    )
