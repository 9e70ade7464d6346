"""The charts and tables of one run's report, as still pictures and as tables for papers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from espalier.reports.data import RunData
from espalier.reports.figure_axes import short
from espalier.reports.figure_details import confusion_figures, judged_tables
from espalier.reports.figure_scores import (
    group_name,
    heat_cell,
    histograms,
    judged_figures,
    score_figures,
    slice_figures,
)
from espalier.reports.figure_stages import data_figures, stage_figures
from espalier.reports.figure_tables import Cell, Table, cells
from espalier.reports.figure_text import Figure, interval_text, largest, p_text, points
from espalier.reports.metric_details import metric_details
from espalier.reports.runfiles import number
from espalier.reports.strings import t


def figures(data: RunData) -> Iterator[Figure]:
    """Every chart that the report draws, in its order, in the language that speaks."""
    if data.summary:
        yield from score_figures(data.summary)
        yield from slice_figures(data.summary)
        yield from judged_figures(data.summary)
        yield from confusion_figures(data.summary)
    if data.answers:
        yield from histograms(data.answers, data.summary or {})
    for stage in data.curves:
        yield from stage_figures(stage)
    if data.dataset:
        yield from data_figures(data.dataset.funnel, data.dataset.statistics, data.dataset.tables)


def tables(data: RunData) -> Iterator[Table]:
    """Scores, differences, groups of prompts, the ends of training, the curation's steps."""
    if data.summary:
        yield score_table(data.summary)
        yield difference_table(data.summary)
        yield from slice_tables(data.summary)
        yield from judged_tables(data.summary)
        yield from detail_tables(data.summary)
    ends = [row for stage in data.curves for row in _end_rows(stage)]
    if ends:
        head = [t("provenance.stage"), t("figures.curve"), t("figures.first"), t("figures.last")]
        yield Table("training", t("section.training"), head, ends, "llrr")
    if data.dataset and data.dataset.funnel:
        rows = [
            cells(stream["label"], step["label"], f"{step['in']:,}", f"{step['out']:,}",
                  ", ".join(f"{rule['label']} {rule['count']:,}" for rule in step["rejected"]))
            for stream in data.dataset.funnel
            for step in stream["steps"]
        ]  # fmt: skip
        head = [t("figures.stream"), t("figures.step"), t("figures.rows_in"),
                t("figures.rows_out"), t("figures.rules")]  # fmt: skip
        yield Table("funnel", t("data.funnel"), head, rows, "llrrl")


def _arrow(metric: Mapping[str, Any]) -> str:
    if not metric.get("tested", True):
        return ""
    return " \u2191" if metric["higher_is_better"] else " \u2193"


def _unit(metric: Mapping[str, Any]) -> str:
    return t("figures.in_points") if metric.get("format") == "percent" else ""


def score_table(summary: Mapping[str, Any]) -> Table:
    """Models × metrics with intervals, the best value of each column in bold."""
    scores = {(s["model"], s["metric"]): s for s in summary["scores"]}
    columns = []
    for metric in summary["metrics"]:
        own = [scores.get((model["name"], metric["name"]), {}) for model in summary["models"]]
        values = [value for s in own if (value := number(s.get("value"))) is not None]
        pick = max if metric["higher_is_better"] else min
        best = pick(values) if len(values) > 1 and metric.get("tested", True) else None
        scale = largest(own, "value")
        columns.append([
            Cell(interval_text(metric, s, scale), best is not None and s.get("value") == best)
            for s in own
        ])  # fmt: skip
    rows = [
        [Cell(model["label"]), *(column[place] for column in columns)]
        for place, model in enumerate(summary["models"])
    ]
    head = [t("overview.model"), *(m["label"] + _arrow(m) for m in summary["metrics"])]
    title = t(
        "figures.scores", set=summary["set"]["name"], level=round(100 * summary["confidence"])
    )
    return Table("scores", title, head, rows, "l" + "r" * len(summary["metrics"]))


def difference_table(summary: Mapping[str, Any]) -> Table:
    """Every model against the baseline on every metric: difference, interval, p, verdict."""
    labels = {model["name"]: model["label"] for model in summary["models"]}
    metrics = {metric["name"]: metric for metric in summary["metrics"]}
    baseline = summary.get("baseline")
    rows = []
    for one in summary["comparisons"]:
        value = number(one.get("difference"))
        if one["baseline"] != baseline or one["metric"] not in metrics or value is None:
            continue
        metric = metrics[one["metric"]]
        p = number(one.get("p_value"))
        rows.append(cells(
            labels.get(one["model"], one["model"]),
            metric["label"] + _unit(metric) + _arrow(metric),
            interval_text(points(metric), one, abs(value), "difference"),
            p_text(p),
            f"{int(one.get('n') or 0):,}", t(f"runs.verdict_{one['verdict']}"),
        ))  # fmt: skip
    head = [t("overview.model"), t("runs.metric"), t("runs.effect_difference"), "p", "n",
            t("runs.effect_verdict")]  # fmt: skip
    title = t("figures.differences", baseline=labels.get(str(baseline), str(baseline)))
    return Table("differences", title, head, rows, "llrrrl")


def slice_tables(summary: Mapping[str, Any]) -> Iterator[Table]:
    """For each kind of group: metric and group down, models across."""
    models = summary["models"]
    for by in dict.fromkeys(item["by"] for item in summary["slices"]):
        own = {
            (item["metric"], str(item["group"]), item["model"]): item
            for item in summary["slices"]
            if item["by"] == by
        }
        groups = list(dict.fromkeys(key[1] for key in own))
        rows = []
        for metric in summary["metrics"]:
            scale = largest([v for k, v in own.items() if k[0] == metric["name"]], "score")
            for group in groups:
                found = [own.get((metric["name"], group, model["name"])) for model in models]
                if any(found):
                    n = max(int(item["n"]) for item in found if item)
                    texts = [heat_cell(metric, item, scale)[1] for item in found]
                    rows.append(cells(metric["label"], group, f"{n:,}", *texts))
        name = group_name(by)
        align = "ll" + "r" * (1 + len(models))
        head = [t("runs.metric"), name, "n", *(model["label"] for model in models)]
        yield Table(f"slices-{by}", t("figures.by_group", by=name), head, rows, align)


def detail_tables(summary: Mapping[str, Any]) -> Iterator[Table]:
    """What lies behind the scores: by label, type or check, spreads, correlations."""
    for metric in metric_details(summary):
        for place, table in enumerate(metric["tables"]):
            rows = [row for row in table["rows"] if all(isinstance(cell, str) for cell in row)]
            if rows and all(len(row) == len(table["head"]) for row in rows):
                align = "l" + "r" * (len(table["head"]) - 1)
                title = f"{metric['label']} · {table['title']}"
                name = f"details-{metric['name']}-{place + 1}"
                yield Table(name, title, table["head"], [cells(*row) for row in rows], align)


def _end_rows(stage: Mapping[str, Any]) -> list[list[Cell]]:
    return [
        cells(stage["label"], f"{chart['title']} · {line['label']}", short(line["y"][0]),
              short(line["y"][-1]))
        for chart in stage["charts"]
        for line in chart["series"]
        if line["y"] and not chart["minor"]
    ]  # fmt: skip
