"""Horizontal bars with whiskers, and differences as points around zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from espalier.reports.figure_axes import SMALL, Scale, log_ticks, short, tick_labels, ticks, widest
from espalier.reports.figure_svg import Picture, colours, fitted, series_colour, text_width

WIDTH = 640.0
ROW = 26.0
MARGIN = 12.0
MOST_LABEL = 230.0


@dataclass(frozen=True)
class Bar:
    """One row: `value` and the ends of its interval are numbers or None, `shown` is its text."""

    label: str
    value: float | None
    low: float | None
    high: float | None
    shown: str
    colour: str


def bar_rows(
    rows: Sequence[tuple[str, float | None, float | None, float | None, str]],
) -> list[Bar]:
    """Bars in the colours of the page, one after the other."""
    return [Bar(*row, series_colour(place)) for place, row in enumerate(rows)]


def bars(
    title: str, note: str, rows: Sequence[Bar], style: str = "number", *, points: bool = False
) -> str:
    """SVG: a row for each bar, labels before, values behind; `points` draws a point instead.

    `style` "percent" labels the axis with shares. Points stand around zero, which is drawn.
    """
    label_width = min(MOST_LABEL, widest([fitted(r.label, MOST_LABEL) for r in rows], 12.0))
    value_width = widest([row.shown for row in rows], 11.5)
    left, right = MARGIN + label_width + 10, WIDTH - MARGIN - value_width - 12
    top = 52.0 if note else 36.0
    height = top + ROW * len(rows) + 34
    picture = Picture(WIDTH, height, title)
    picture.text(MARGIN, 22, fitted(title, WIDTH - 2 * MARGIN, 14), size=14, bold=True)
    if note:
        picture.text(MARGIN, 40, fitted(note, WIDTH - 2 * MARGIN, SMALL), size=SMALL,
                     colour=colours()["quiet"])  # fmt: skip
    ends = [v for r in rows for v in (r.value, r.low, r.high) if v is not None]
    low, high = min([0.0, *ends]), max([0.0, *ends])
    if not high > low:
        high = low + 1
    pad = 0.04 * (high - low)
    scale = Scale(low - (pad if low < 0 else 0), high + (pad if high > 0 else 0), left, right)
    marks = ticks(scale.low, scale.high, 5)
    bottom = top + ROW * len(rows)
    for mark, label in zip(marks, tick_labels(marks, style), strict=True):
        x = scale.at(mark)
        picture.line(x, top, x, bottom, colours()["line"])
        picture.text(x, bottom + 16, label, anchor="middle", size=SMALL, colour=colours()["quiet"])
    if points or low < 0:
        picture.line(scale.at(0), top, scale.at(0), bottom, colours()["quiet"])
    for place, row in enumerate(rows):
        _row(picture, row, scale, top + ROW * place, label_width, points)
    return picture.svg()


def _row(
    picture: Picture, row: Bar, scale: Scale, y: float, label_width: float, points: bool
) -> None:
    middle = y + ROW / 2
    label = fitted(row.label, label_width + 1)
    picture.text(MARGIN + label_width, middle + 4, label, anchor="end")
    picture.text(WIDTH - MARGIN, middle + 4, row.shown, anchor="end", size=11.5)
    if row.value is None:
        return
    zero, end = scale.at(0), scale.at(row.value)
    if not points:
        picture.rect(min(zero, end), middle - 7, abs(end - zero), 14, row.colour, 0.82, 1.5)
    if row.low is not None and row.high is not None:
        ink = colours()["ink"] if not points else row.colour
        a, b = scale.at(row.low), scale.at(row.high)
        picture.line(a, middle, b, middle, ink, 1.4)
        for x in (a, b):
            picture.line(x, middle - 3.5, x, middle + 3.5, ink, 1.4)
    if points:
        picture.circle(end, middle, 4.2, row.colour)


def histogram(
    title: str, note: str, edges: Sequence[float], counts: Sequence[tuple[str, Sequence[int]]],
    style: str = "number", log: bool = False,
) -> str:  # fmt: skip
    """SVG: one row of bins for each (label, counts), all over the same `edges`; on a logarithmic
    axis where `log`."""
    panel, gap = 64.0, 20.0
    label_width = min(MOST_LABEL, max(text_width(fitted(n, MOST_LABEL)) for n, _ in counts))
    left, right = MARGIN + label_width + 12, WIDTH - MARGIN - 8
    top = 52.0 if note else 36.0
    height = top + (panel + gap) * len(counts) + 24
    picture = Picture(WIDTH, height, title)
    picture.text(MARGIN, 22, fitted(title, WIDTH - 2 * MARGIN, 14), size=14, bold=True)
    if note:
        picture.text(MARGIN, 40, fitted(note, WIDTH - 2 * MARGIN, SMALL), size=SMALL,
                     colour=colours()["quiet"])  # fmt: skip
    scale = Scale(edges[0], edges[-1], left, right, log)
    highest = max([1, *(count for _, row in counts for count in row)])
    for place, (label, row) in enumerate(counts):
        base = top + (panel + gap) * place + panel
        picture.line(left, base, right, base, colours()["strong-line"])
        picture.text(
            MARGIN + label_width, base - panel / 2 + 4, fitted(label, label_width + 1), anchor="end"
        )
        for low, high, count in zip(edges[:-1], edges[1:], row, strict=True):
            size = panel * count / highest
            x, width = scale.at(low), scale.at(high) - scale.at(low)
            picture.rect(x + 0.5, base - size, width - 1, size, series_colour(place), 0.82)
    bottom = top + (panel + gap) * len(counts) - gap
    marks = (log_ticks if log else ticks)(edges[0], edges[-1], 6)
    for mark, label in zip(
        marks, map(short, marks) if log else tick_labels(marks, style), strict=True
    ):
        picture.text(
            scale.at(mark), bottom + 16, label, anchor="middle", size=SMALL,
            colour=colours()["quiet"],
        )  # fmt: skip
    return picture.svg()
