"""Learning curves of several runs: one line a run, and a mean with its range over repeats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from espalier.reports.curves import thin
from espalier.reports.runfiles import rounded
from espalier.reports.runs_settings import Sweep

# All lines of a chart together have about so many points, and a line at least the second number.
CHART_POINTS = 3000
LINE_POINTS = 60

Lines = Mapping[int, tuple[Sequence[float], Sequence[float]]]


def curves_of(
    runs: Sequence[Sequence[Mapping[str, Any]]], sweep: Sweep, points: int
) -> list[dict[str, Any]]:
    """By stage, the charts in which two runs at least have a line: `{stage, label, charts}`.

    `runs` are the curves of each run, unthinned. A chart `{key, title, part, minor, lines, bands}`
    is one quantity of one split; lines are `{run, x, y}`, bands `{setting, x, y, low, high}`.
    """
    found: dict[str, dict[str, Any]] = {}
    for run, stages in enumerate(runs):
        for stage in stages:
            entry = found.setdefault(stage["stage"], {"label": stage["label"], "charts": {}})
            for chart in stage["charts"]:
                for line in chart["series"]:
                    key = (chart["key"], line["label"], line["split"])
                    about = entry["charts"].setdefault(key, {"chart": chart, "lines": {}})
                    about["lines"][run] = (line["x"], line["y"])
    result = []
    for name, entry in found.items():
        charts = [
            _chart(key, about["chart"], about["lines"], sweep, points)
            for key, about in entry["charts"].items()
            if len(about["lines"]) > 1
        ]
        if charts:
            result.append({"stage": name, "label": entry["label"], "charts": charts})
    return result


def _chart(
    key: tuple[str, str, str], chart: Mapping[str, Any], lines: Lines, sweep: Sweep, points: int
) -> dict[str, Any]:
    most = max(LINE_POINTS, min(points, CHART_POINTS // len(lines)))
    named = len(chart["series"]) > 1 and key[1] != chart["title"]
    return {
        "key": ":".join(key),
        "title": chart["title"],
        "part": key[1] if named else "",
        "minor": bool(chart["minor"]),
        "lines": [_line(run, *line, most) for run, line in lines.items()],
        "bands": bands(lines, sweep, most),
    }


def _line(run: int, x: Sequence[float], y: Sequence[float], points: int) -> dict[str, Any]:
    kept = thin(list(zip(x, y, strict=True)), points)
    return {"run": run, "x": [a for a, _ in kept], "y": [b for _, b in kept]}


def bands(lines: Lines, sweep: Sweep, points: int) -> list[dict[str, Any]]:
    """For each setting with repeats: the mean, the lowest and the highest of its lines, at the
    steps that all of them have; where they share fewer than two, the setting has no band."""
    found = []
    for place, setting in enumerate(sweep.settings):
        own = [dict(zip(*lines[run], strict=True)) for run in setting.runs if run in lines]
        if len(own) < 2:
            continue
        steps = sorted(set(own[0]).intersection(*own[1:]))
        means = [(step, sum(line[step] for line in own) / len(own)) for step in steps]
        if len(means) < 2:
            continue
        kept = thin(means, points)
        found.append(
            {
                "setting": place,
                "x": [step for step, _ in kept],
                "y": [rounded(mean, 5) for _, mean in kept],
                "low": [min(line[step] for line in own) for step, _ in kept],
                "high": [max(line[step] for line in own) for step, _ in kept],
            }
        )
    return found
