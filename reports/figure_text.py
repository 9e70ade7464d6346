"""A picture with its name, and numbers of a report as they stand in pictures and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from espalier.reports.runfiles import number
from espalier.reports.strings import t
from espalier.reports.verdicts import plain_number


@dataclass(frozen=True)
class Figure:
    """A picture: the name of its files, and its SVG text."""

    name: str
    svg: str


def number_text(metric: Mapping[str, Any], value: float | None, scale: float) -> str:
    """A value in the format of its metric; a dash where there is none."""
    if value is None:
        return "\u2013"
    unit = " %" if metric.get("format") == "percent" else ""
    return plain_number(value, _plain_style(metric), scale) + unit


def _plain_style(metric: Mapping[str, Any]) -> str:
    return "percent" if metric.get("format") in ("percent", "points") else "number"


def interval_text(
    metric: Mapping[str, Any], item: Mapping[str, Any], scale: float, key: str = "value"
) -> str:
    """`46.0 % [39.2, 52.9]`."""
    if metric.get("format") == "perplexity":
        # Perplexities of one column can lie orders of magnitude apart.
        scale = abs(number(item.get(key)) or 0.0)
    text = number_text(metric, number(item.get(key)), scale)
    ends = [number(item.get("low")), number(item.get("high"))]
    if None in ends or number(item.get(key)) is None:
        return text
    shown = ", ".join(plain_number(end or 0.0, _plain_style(metric), scale) for end in ends)
    return f"{text} [{shown}]"


def direction(metric: Mapping[str, Any]) -> str:
    if not metric.get("tested", True):
        return t("overview.untested")
    return t("overview.higher" if metric["higher_is_better"] else "overview.lower")


def largest(items: Sequence[Mapping[str, Any]], key: str) -> float:
    return max(
        [abs(value) for item in items if (value := number(item.get(key))) is not None] or [0]
    )


def style_of(metric: Mapping[str, Any]) -> str:
    """How the axis of a metric is labelled: percent, points or number."""
    style = metric.get("format")
    return str(style) if style in ("percent", "points") else "number"


def points(metric: Mapping[str, Any]) -> dict[str, Any]:
    """The metric as its differences are shown: percentage points have no unit of their own."""
    style = "points" if metric.get("format") == "percent" else metric.get("format")
    return {**metric, "format": style}


def p_text(value: float | None) -> str:
    """A p-value with three decimals; a dash where there is none."""
    if value is None:
        return "\u2013"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
