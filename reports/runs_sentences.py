"""In words: which run is better on the same prompts, and which setting of a sweep is best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from espalier.reports.runs_settings import Sweep, setting_text
from espalier.reports.runs_targets import Target
from espalier.reports.strings import t
from espalier.reports.student import Mean
from espalier.reports.verdicts import (
    Verdict,
    label_of,
    ordered_metrics,
    plain_number,
    verdicts,
)

# Runs that sentences in pairs are about: those of a sweep are told of by settings.
PAIRS = 3
# Best settings that are told: of the last model, on so many metrics.
TOLD = 3


def sentences(
    labels: Sequence[str],
    sweep: Sweep,
    targets: Sequence[Target],
    means: Mapping[str, Sequence[Mean | None]],
    comparisons: Sequence[Mapping[str, Any]],
    headline: Sequence[str],
) -> tuple[list[tuple[str, Verdict]], list[tuple[str, str]]]:
    """(model, verdict between two runs) for few runs; (mark, sentence) about the best settings:
    better where the next one is surely behind, else tie."""
    pairs = pair_verdicts(labels, targets, comparisons, headline) if len(labels) <= PAIRS else []
    best = best_settings(labels, sweep, targets, means, headline) if sweep.is_one else []
    return pairs, best


def pair_verdicts(
    labels: Sequence[str],
    targets: Sequence[Target],
    comparisons: Sequence[Mapping[str, Any]],
    headline: Sequence[str],
) -> list[tuple[str, Verdict]]:
    """For each model that several runs have, later models first: the verdicts of its runs."""
    models = {target.model: target.model_label for target in targets if target.kind == "score"}
    found: list[tuple[str, Verdict]] = []
    for model, label in reversed(models.items()):
        own = {
            target.name: target.metric
            for target in targets
            if target.model == model and target.kind == "score"
        }
        entries = [
            {
                **entry,
                "model": str(entry["run"]),
                "baseline": str(entry["reference"]),
                "metric": own[entry["target"]]["name"],
            }
            for entry in comparisons
            if entry["target"] in own
        ]
        summary = {
            "models": [{"name": str(i), "label": run} for i, run in enumerate(labels)],
            "metrics": list(own.values()),
            "comparisons": entries,
            "baseline": "0",
        }
        found.extend((label, verdict) for verdict in verdicts(summary, headline))
    return found


def best_settings(
    labels: Sequence[str],
    sweep: Sweep,
    targets: Sequence[Target],
    means: Mapping[str, Sequence[Mean | None]],
    headline: Sequence[str],
) -> list[tuple[str, str]]:
    """Where the last model's first scores are best: "Highest exact match of PPO: …"."""
    scores = [target for target in targets if target.kind == "score" and target.metric["tested"]]
    if not scores:
        scores = [t for t in targets if t.metric["tested"]]
    if not scores:
        return []
    own = [target for target in scores if target.model == scores[-1].model]
    order = [
        metric["name"]
        for metric in ordered_metrics({"metrics": [target.metric for target in own]}, headline)
    ]
    own.sort(key=lambda target: order.index(target.metric["name"]))
    found = [_best(labels, sweep, target, means[target.name]) for target in own[:TOLD]]
    return [sentence for sentence in found if sentence is not None]


def _best(
    labels: Sequence[str], sweep: Sweep, target: Target, means: Sequence[Mean | None]
) -> tuple[str, str] | None:
    sign = 1 if target.metric["higher_is_better"] else -1
    known = [(place, mean) for place, mean in enumerate(means) if mean is not None]
    if len(known) < 2:
        return None
    known.sort(key=lambda pair: -sign * pair[1].value)
    (first, best), (second, rival) = known[0], known[1]
    if best.value == rival.value:
        return None
    said = t(
        "runs.best_high" if sign > 0 else "runs.best_low",
        metric=label_of(target.metric),
        model=target.model_label,
        setting=name_of(labels, sweep, first),
        value=mean_text(target.metric, best),
        second=name_of(labels, sweep, second),
        other=mean_text(target.metric, rival),
    )
    if best.low is None or rival.low is None:
        return "tie", said + t("runs.best_once")
    apart = best.low > rival.high if sign > 0 else best.high < rival.low  # type: ignore[operator]
    return "better" if apart else "tie", said + t(
        "runs.best_apart" if apart else "runs.best_overlap"
    )


def name_of(labels: Sequence[str], sweep: Sweep, setting: int) -> str:
    """What the setting is called: its values, or, where nothing differs, its run."""
    found = sweep.settings[setting]
    return setting_text(sweep, found) or labels[found.runs[0]]


def mean_text(metric: Mapping[str, Any], mean: Mean) -> str:
    """`46.0 [39.2, 52.9]`, with a per cent sign where the metric is a share."""
    ends = [value for value in (mean.low, mean.high) if value is not None]
    scale = max(abs(value) for value in (mean.value, *ends))
    style = metric.get("format")
    text = plain_number(mean.value, style, scale) + (" %" if style == "percent" else "")
    if len(ends) == 2:
        text += f" [{', '.join(plain_number(value, style, scale) for value in ends)}]"
    return text
