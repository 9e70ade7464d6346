"""Still pictures of training and of the data: curves, accuracy, calibration, funnel, lengths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from espalier.reports import figure_bars, figure_lines, figure_sunburst
from espalier.reports.data_charts import lengths
from espalier.reports.figure_bars import Bar
from espalier.reports.figure_svg import series_colour
from espalier.reports.figure_text import Figure, interval_text
from espalier.reports.funnel import kept_share
from espalier.reports.strings import known, pretty, t


def stage_figures(stage: Mapping[str, Any]) -> Iterator[Figure]:
    """Curves of one training stage with its alarms, accuracy of a reward model, its calibration."""
    for chart in stage["charts"]:
        series = [
            figure_lines.Line(
                line["label"],
                line["x"],
                line["y"],
                series_colour(place + 2),
                line.get("low"),
                line.get("high"),
            )
            for place, line in enumerate(chart["series"])
        ]
        alarms = [(float(mark["from"]), float(mark["to"])) for mark in chart["marks"]]
        title = f"{stage['label']} · {chart['title']}"
        note = series[0].label if len(series) == 1 else ""
        svg = figure_lines.lines(title, note, series, alarms, t("figures.training_step"))
        yield Figure(f"curve-{stage['stage']}-{chart['key']}", svg)
    if stage["accuracy"]:
        rows = [
            (
                bar["label"] + (f" (n = {bar['n']:,})" if isinstance(bar.get("n"), int) else ""),
                bar["value"], bar["low"], bar["high"],
                interval_text({"format": "percent"}, bar, 1.0),
            )
            for bar in stage["accuracy"]
        ]  # fmt: skip
        title = f"{stage['label']} · {t('training.accuracy')}"
        svg = figure_bars.bars(title, t("training.accuracy_intro"), _one_colour(rows), "percent")
        yield Figure(f"accuracy-{stage['stage']}", svg)
    if stage.get("calibration"):
        found = stage["calibration"]
        dots = [(p["x"], p["y"], p["low"], p["high"], p["n"]) for p in found["points"]]
        title = f"{stage['label']} · {t('calibration.title')}"
        svg = figure_lines.calibration(title, found["note"], dots, t("figures.calibration_axis"))
        yield Figure(f"calibration-{stage['stage']}", svg)


def data_figures(
    funnel: Sequence[Mapping[str, Any]],
    statistics: Mapping[str, Any],
    tables: Sequence[Mapping[str, Any]],
) -> Iterator[Figure]:
    """Rows after each step of the curation, rows by group, lengths."""
    for stream in funnel:
        steps = stream["steps"]
        rows = (
            [(steps[0]["label"], float(steps[0]["in"]), None, None, f"{steps[0]['in']:,}")]
            if steps
            else []
        )
        rows = [(step["label"], float(step["out"]), None, None, _step_text(step)) for step in steps]
        if rows:
            title = f"{t('data.funnel')} · {stream['label']}"
            yield Figure(
                f"funnel-{stream['stream']}", figure_bars.bars(title, "", _one_colour(rows))
            )
    for name, file in statistics.get("files", {}).items():
        stem = name.removesuffix(".jsonl")
        for key in ("by_language", "by_source", "by_category", "by_kind", "by_group"):
            counts = file.get(key) or {}
            if len(counts) > 1:
                title = f"{stem} · {known(f'count.{key}', pretty(key))}"
                yield Figure(f"rows-{stem}-{key}", _count_bars(title, list(counts.items())[:40]))
        for place, chart in enumerate(lengths(file)):
            bins = chart["spread"]["histogram"]
            edges = [float(bins[0][0]), *(float(high) for _, high, _ in bins)]
            counts = [("", [int(count) for _, _, count in bins])]
            svg = figure_bars.histogram(f"{stem} · {chart['title']}", chart["note"], edges, counts)
            yield Figure(f"lengths-{stem}-{place + 1}", svg)
    for name, found in ((statistics.get("openings") or {}).get("languages") or {}).items():
        if found.get("verbs"):
            title = f"{t('dp.openings')} · {known(f'dp.language.{name}', name)}"
            counts = {"count": f"{found['recognised']:,}", "rows": f"{found['rows']:,}"}
            svg = figure_sunburst.ring(title, t("dp.recognised", **counts), found["verbs"])
            yield Figure(f"openings-{name}", svg)
    for place, table in enumerate(tables):
        yield Figure(f"counts-{place + 1}", _count_bars(table["title"], table["rows"]))


Row = tuple[str, float | None, float | None, float | None, str]


def _one_colour(rows: Sequence[Row]) -> list[Bar]:
    return [Bar(*row, series_colour(2)) for row in rows]


def _step_text(step: Mapping[str, Any]) -> str:
    kept = kept_share(step["in"], step["out"])
    return f"{step['in']:,} \u2192 {step['out']:,}" + (f" ({kept} %)" if kept else "")


def _count_bars(title: str, counts: Sequence[tuple[str, int]]) -> str:
    rows = [
        Bar(str(name), float(count), None, None, f"{count:,}", series_colour(2))
        for name, count in counts
    ]
    return figure_bars.bars(title, "", rows)
