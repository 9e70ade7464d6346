"""The headline table in the terminal: models by metrics, with intervals and verdicts."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from espalier.terminal import width

MARKS = {"better": "+", "worse": "-", "tie": "="}


def _pad(text: str, size: int, *, left: bool) -> str:
    space = " " * max(0, size - width(text))
    return text + space if left else space + text


def number(value: float | None, format: str) -> str:
    """A score as shown: shares in per cent with one decimal, others with about four digits."""
    if value is None:
        return "–"
    if format == "percent":
        return f"{100 * value:.1f}"
    if abs(value) >= 1e6:
        return f"{value:.2e}"
    return (
        f"{value:,.0f}"
        if abs(value) >= 1000
        else f"{value:.1f}"
        if abs(value) >= 100
        else (f"{value:.2f}")
    )


def _cell(
    score: Mapping[str, Any] | None, format: str, verdict: str | None, count: int | None = None
) -> str:
    """A score with its interval and verdict; `count` is told where rivals have other prompts."""
    if score is None or score["value"] is None:
        return "–"
    text = number(score["value"], format)
    if count is not None:
        text = f"n={count:,}: {text}"
    if score["low"] is not None and score["high"] is not None:
        text += f" [{number(score['low'], format)}, {number(score['high'], format)}]"
    return text + (f" {MARKS[verdict]}" if verdict else "  ")


def headline(summary: Mapping[str, Any], *, columns: int | None = None) -> str:
    """The table of a summary as text, in as many blocks as the terminal's width asks for."""
    limit = columns or shutil.get_terminal_size((100, 24)).columns
    scores = {(item["model"], item["metric"]): item for item in summary["scores"]}
    verdicts = {
        (item["model"], item["metric"]): item["verdict"]
        for item in summary["comparisons"]
        if item["baseline"] == summary["baseline"]
    }
    uneven = {item["metric"]: item["rows"] for item in summary.get("coverage", ())}
    models = [model["name"] for model in summary["models"]]
    labels = [model["label"] for model in summary["models"]]
    first = ["", *labels]
    cells = []
    for metric in summary["metrics"]:
        unit = " %" if metric["format"] == "percent" else ""
        tested = metric.get("tested", True)
        arrow = " ↓" if tested and not metric["higher_is_better"] else ""
        column = [f"{metric['label']}{unit}{arrow}"]
        for model in models:
            key = (model, metric["name"])
            count = uneven.get(metric["name"], {}).get(model)
            column.append(_cell(scores.get(key), metric["format"], verdicts.get(key), count))
        cells.append(column)
    blocks = _blocks(first, cells, limit) if cells else ["no metric was scored"]
    return "\n".join([_title(summary), *blocks, *_footer(summary)])


def _title(summary: Mapping[str, Any]) -> str:
    rows, models = summary["set"]["rows"], len(summary["models"])
    return (
        f"{summary['set']['name']}: {rows:,} prompt{'s' * (rows != 1)}, "
        f"{models} model{'s' * (models != 1)}"
    )


def _blocks(first: Sequence[str], cells: Sequence[Sequence[str]], limit: int) -> list[str]:
    head = max(map(width, first))
    blocks: list[str] = []
    waiting = list(cells)
    while waiting:
        chosen = [waiting.pop(0)]
        used = head + 2 + max(map(width, chosen[0]))
        while waiting and used + 2 + max(map(width, waiting[0])) <= limit:
            used += 2 + max(map(width, waiting[0]))
            chosen.append(waiting.pop(0))
        if blocks:
            blocks.append("")
        for index, name in enumerate(first):
            line = [_pad(name, head, left=True)]
            line += [_pad(column[index], max(map(width, column)), left=False) for column in chosen]
            blocks.append("  ".join(line).rstrip())
    return blocks


def _footer(summary: Mapping[str, Any]) -> list[str]:
    level = round(100 * summary["confidence"])
    labels = {model["name"]: model["label"] for model in summary["models"]}
    legend = [f"[low, high]: {level} % interval"]
    if summary["comparisons"]:
        legend.append(
            f"against {labels[summary['baseline']]}: + better, - worse, = no difference shown"
        )
    lines = ["; ".join([*legend, "↓ less is better"])] if summary["metrics"] else []
    plain = [one["label"] for one in summary["metrics"] if not one.get("tested", True)]
    if plain:
        lines.append(f"shown, not tested: {', '.join(plain)}")
    if summary.get("coverage"):
        lines.append("n=…: scored on so many prompts, and not the same ones as its rivals")
    if summary["synthetic"]:
        lines.append("note: the set or some answers come from the embedded, synthetic teacher")
    return lines + [f"warning: {text}" for text in summary["warnings"]]
