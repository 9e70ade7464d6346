"""Still pictures of an evaluation: scores, differences, groups of prompts, marks, win rates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from espalier.reports import figure_bars, figure_heat, figure_lines, overview_data
from espalier.reports.answer_table import AnswerTable
from espalier.reports.figure_bars import Bar, bar_rows
from espalier.reports.figure_svg import colours, series_colour
from espalier.reports.figure_text import (
    Figure,
    direction,
    interval_text,
    largest,
    number_text,
    points,
    style_of,
)
from espalier.reports.runfiles import number
from espalier.reports.strings import known, pretty, t

BINS = 24
# Of a skewed distribution the outermost hundredths would squeeze the rest.
TAIL = 0.01


def score_figures(summary: Mapping[str, Any]) -> Iterator[Figure]:
    """Bars of every metric, and differences from the baseline as points with their intervals."""
    level = round(100 * summary["confidence"])
    labels = {model["name"]: model["label"] for model in summary["models"]}
    order = list(labels)
    for metric in summary["metrics"]:
        own = {s["model"]: s for s in summary["scores"] if s["metric"] == metric["name"]}
        scale = largest(list(own.values()), "value")
        rows = [
            (
                labels[name],
                number(own[name].get("value")),
                number(own[name].get("low")),
                number(own[name].get("high")),
                interval_text(metric, own[name], scale),
            )
            for name in order
            if name in own
        ]
        if any(row[1] is not None for row in rows):
            note = f"{direction(metric)} · {t('figures.interval', level=level)}"
            svg = figure_bars.bars(metric["label"], note, bar_rows(rows), style_of(metric))
            yield Figure(f"scores-{metric['name']}", svg)
        yield from _differences(summary, metric, labels, level)


def _differences(
    summary: Mapping[str, Any], metric: Mapping[str, Any], labels: Mapping[str, str], level: int
) -> Iterator[Figure]:
    baseline = summary.get("baseline")
    found = [
        one
        for one in summary["comparisons"]
        if one["metric"] == metric["name"] and one["baseline"] == baseline
        and number(one.get("difference")) is not None
    ]  # fmt: skip
    if not found:
        return
    scale = largest(found, "difference")
    rows = [
        Bar(
            labels.get(one["model"], one["model"]),
            number(one["difference"]),
            number(one.get("low")),
            number(one.get("high")),
            interval_text(points(metric), one, scale, "difference"),
            colours()[{"better": "better", "worse": "worse"}.get(one["verdict"], "quiet")],
        )
        for one in found
    ]
    title = t("figures.difference", metric=metric["label"], baseline=labels.get(str(baseline), ""))
    paired = t("figures.paired_points" if style_of(metric) == "percent" else "figures.paired",
               level=level)  # fmt: skip
    note = f"{direction(metric)} · {paired}"
    svg = figure_bars.bars(title, note, rows, style_of(points(metric)), points=True)
    yield Figure(f"difference-{metric['name']}", svg)


def slice_figures(summary: Mapping[str, Any]) -> Iterator[Figure]:
    """A heat map of each metric for each kind of group: groups × models."""
    models = summary["models"]
    kinds = list(dict.fromkeys(item["by"] for item in summary["slices"]))
    for by in kinds:
        for metric in summary["metrics"]:
            own = {
                (str(item["group"]), item["model"]): item
                for item in summary["slices"]
                if item["by"] == by and item["metric"] == metric["name"]
            }
            groups = list(dict.fromkeys(group for group, _ in own))
            if not groups:
                continue
            scale = largest(list(own.values()), "score")
            table = [
                [heat_cell(metric, own.get((group, model["name"])), scale) for model in models]
                for group in groups
            ]
            counts = {
                group: max(own[key]["n"] for key in own if key[0] == group) for group in groups
            }
            svg = figure_heat.heat(
                t("figures.slices", metric=metric["label"], by=group_name(by)),
                direction(metric),
                [f"{group} (n = {counts[group]:,})" for group in groups],
                [model["label"] for model in models],
                table,
            )
            yield Figure(f"slices-{by}-{metric['name']}", svg)


def group_name(by: str) -> str:
    """What prompts are grouped by, inside a sentence."""
    name = known(f"answers.{by}", pretty(by))
    return name[:1].lower() + name[1:]


def heat_cell(
    metric: Mapping[str, Any], item: Mapping[str, Any] | None, scale: float
) -> tuple[float | None, str]:
    value = number(item.get("score")) if item else None
    return value, number_text(metric, value, scale)


def judged_figures(summary: Mapping[str, Any]) -> Iterator[Figure]:
    """The marks of each rubric by criterion, and win rates of the judge and of people."""
    labels = {model["name"]: model["label"] for model in summary["models"]}
    scores = {(s["model"], s["metric"]): s for s in summary["scores"]}
    metrics = {metric["name"]: metric for metric in summary["metrics"]}
    for rubric in overview_data.rubrics(summary["metrics"]):
        for who in ("judge", "people"):
            names = [one[who] for one in rubric["criteria"] if one[who]]
            if not names:
                continue
            series = [
                figure_lines.Points(
                    label,
                    [
                        figure_lines.Point(
                            place, value, number(s.get("low")), number(s.get("high"))
                        )
                        for place, name in enumerate(names)
                        if (s := scores.get((model, name)))
                        and (value := number(s.get("value"))) is not None
                    ],
                    series_colour(i),
                    False,
                )
                for i, (model, label) in enumerate(labels.items())
            ]
            title = t(f"figures.marks_{who}", rubric=pretty(rubric["name"]))
            levels = [metrics[name]["label"] for name in names]
            svg = figure_lines.points(title, "", levels, [s for s in series if s.points])
            yield Figure(f"marks-{who}-{rubric['name'] or 'all'}", svg)
    for who, key in (("judge", "pairs"), ("people", "win_rates")):
        part = summary.get("judge" if who == "judge" else "ratings")
        listed = part.get(key) if isinstance(part, Mapping) else None
        rows = [row for one in listed or [] if (row := _win_row(one, labels)) is not None]
        if rows:
            note = t("figures.win_note")
            svg = figure_bars.bars(t(f"figures.wins_{who}"), note, bar_rows(rows), "percent")
            yield Figure(f"wins-{who}", svg)


def _win_row(
    one: Mapping[str, Any], labels: Mapping[str, str]
) -> tuple[str, float | None, float | None, float | None, str] | None:
    rate = number(one.get("win_rate"))
    if rate is None:
        return None
    names = [labels.get(str(one[key]), str(one[key])) for key in ("model", "baseline")]
    item = {"value": rate, "low": one.get("low"), "high": one.get("high")}
    label = t("rating.against", model=names[0], other=names[1])
    return (
        label, rate, number(item["low"]), number(item["high"]),
        interval_text({"format": "percent"}, item, 1.0),
    )  # fmt: skip


def histograms(answers: AnswerTable, summary: Mapping[str, Any]) -> Iterator[Figure]:
    """The scores of all answers by model, over the same bins, for every metric with row scores."""
    labels = {model["name"]: model["label"] for model in summary.get("models", [])}
    for metric in answers.metrics:
        values = answers.values[metric["name"]]
        known_values = values[np.isfinite(values)]
        if not len(known_values):
            continue
        low, high = (float(v) for v in np.quantile(known_values, [TAIL, 1 - TAIL]))
        whole = (
            metric["format"] == "percent" and known_values.min() >= 0 and known_values.max() <= 1
        )
        if whole:
            low, high = 0.0, 1.0
        if high <= low:
            low, high = low - 0.5, high + 0.5
        log = metric["format"] == "perplexity" and low > 0
        edges = (np.geomspace if log else np.linspace)(low, high, BINS + 1)
        rows = []
        for place, model in enumerate(answers.models):
            own = np.clip(values[place][np.isfinite(values[place])], low, high)
            rows.append((labels.get(model, model), np.histogram(own, edges)[0].tolist()))
        note = t("figures.histogram_note" if whole else "figures.histogram_tails")
        title = t("figures.histogram", metric=metric["label"])
        svg = figure_bars.histogram(title, note, edges.tolist(), rows, style_of(metric), log)
        yield Figure(f"histogram-{metric['name']}", svg)
