"""Lines over steps, with bands, smoothing left to who reads; points with whiskers over levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from espalier.reports.figure_axes import (
    SMALL,
    Scale,
    padded,
    tick_labels,
    ticks,
    value_frame,
    widest,
)
from espalier.reports.figure_svg import Picture, colours, fitted, plain, text_width

WIDTH = 640.0
MARGIN = 12.0
PLOT = 230.0
LONGEST_LEVEL = 130.0


@dataclass(frozen=True)
class Line:
    """Points of one line; `low` and `high` are the band around it, where there is one."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@dataclass(frozen=True)
class Point:
    """A value at one of the levels of an axis; small ones are single runs beside their mean."""

    level: int
    value: float
    low: float | None
    high: float | None
    small: bool = False


@dataclass(frozen=True)
class Points:
    """Points of one colour; `joined` draws a line through those that are not small."""

    label: str
    points: Sequence[Point]
    colour: str
    joined: bool


def _head(title: str, note: str, names: Sequence[tuple[str, str]]) -> tuple[Picture, float]:
    """A picture with its title and legend, and where the plot begins; its height is set later."""
    picture = Picture(WIDTH, 0, title)
    picture.text(MARGIN, 22, fitted(title, WIDTH - 2 * MARGIN, 14), size=14, bold=True)
    y = 22.0
    if note:
        y += 18
        picture.text(MARGIN, y, fitted(note, WIDTH - 2 * MARGIN, SMALL), size=SMALL,
                     colour=colours()["quiet"])  # fmt: skip
    if len(names) > 1:
        x, y = MARGIN, y + 19
        for name, colour in names:
            shown = fitted(name, 420, 11)
            width = 22 + text_width(shown, 11)
            if x > MARGIN and x + width > WIDTH - MARGIN:
                x, y = MARGIN, y + 17
            picture.rect(x, y - 5, 14, 3.5, colour, radius=1.5)
            picture.text(x + 19, y, shown, size=11)
            x += width + 16
    return picture, y + 16


def lines(
    title: str,
    note: str,
    series: Sequence[Line],
    alarms: Sequence[tuple[float, float]] = (),
    x_label: str = "",
) -> str:
    """SVG: lines over a common axis of steps; `alarms` are marked, from step to step."""
    picture, top = _head(title, note, [(line.label, line.colour) for line in series])
    values = [v for s in series for part in (s.y, s.low or (), s.high or ()) for v in part]
    low, high = padded(values, 0.05)
    marks = ticks(low, high, 5)
    labels = tick_labels(marks)
    left, right = MARGIN + widest(labels) + 8, WIDTH - MARGIN - 8
    y_scale = Scale(low, high, top + PLOT, top)
    value_frame(picture, y_scale, marks, labels, right, left)
    steps = [v for s in series for v in s.x]
    first, last = min(steps), max(steps)
    x_scale = Scale(first, last if last > first else first + 1, left, right)
    x_marks = ticks(first, last, 7)
    for mark, label in zip(x_marks, tick_labels(x_marks), strict=True):
        picture.text(x_scale.at(mark), top + PLOT + 16, label, anchor="middle", size=SMALL,
                     colour=colours()["quiet"])  # fmt: skip
    for begin, end in alarms:
        if begin <= last and end >= first:
            left_x, right_x = (x_scale.at(min(max(step, first), last)) for step in (begin, end))
            picture.rect(left_x, top, right_x - left_x, PLOT, colours()["worse"], 0.08)
            picture.line(left_x, top, left_x, top + PLOT, colours()["worse"], 1, "4 3")
    for one in series:
        if one.low is not None and one.high is not None:
            ahead = _d(one.x, one.high, x_scale, y_scale)
            back = _d(list(reversed(one.x)), list(reversed(one.low)), x_scale, y_scale)
            picture.area(f"{ahead}L{back[1:]}Z", one.colour, 0.16)
    for one in series:
        picture.path(_d(one.x, one.y, x_scale, y_scale), one.colour)
    picture.height = top + PLOT + 28
    if x_label:
        picture.text((left + right) / 2, top + PLOT + 33, x_label, anchor="middle", size=SMALL,
                     colour=colours()["quiet"])  # fmt: skip
        picture.height += 14
    return picture.svg()


def _d(xs: Sequence[float], ys: Sequence[float], x_scale: Scale, y_scale: Scale) -> str:
    points = [f"{x_scale.at(x):.1f} {y_scale.at(y):.1f}" for x, y in zip(xs, ys, strict=True)]
    return "M" + "L".join(points)


def points(
    title: str, note: str, levels: Sequence[str], series: Sequence[Points], style: str = "number",
    numbers: Sequence[float] | None = None, x_label: str = "",
) -> str:  # fmt: skip
    """SVG: points with whiskers; `numbers` place the levels by size, without them in equal steps.

    Numbers that span a factor of 20 stand on a logarithmic axis.
    """
    picture, top = _head(title, note, [(one.label, one.colour) for one in series])
    ends = [v for s in series for p in s.points for v in (p.value, p.low, p.high) if v is not None]
    low, high = padded(ends, 0.08)
    marks = ticks(low, high, 5)
    labels = tick_labels(marks, style)
    left, right = MARGIN + widest(labels) + 8, WIDTH - MARGIN - 8
    scale = Scale(low, high, top + PLOT, top)
    value_frame(picture, scale, marks, labels, right, left)
    places = _places(levels, numbers, left, right)
    room = (right - left) / len(levels)
    depth = _level_labels(picture, levels, places, room, top + PLOT)
    step = min(10.0, room / (len(series) + 1))
    for place, one in enumerate(series):
        shift = (place - (len(series) - 1) / 2) * step
        _draw_points(picture, one, [x + shift for x in places], scale)
    picture.height = top + PLOT + depth + 12
    if x_label:
        shown = fitted(x_label, right - left, SMALL)
        y = top + PLOT + depth + 17
        picture.text((left + right) / 2, y, shown, anchor="middle", size=SMALL,
                     colour=colours()["quiet"])  # fmt: skip
        picture.height += 14
    return picture.svg()


def _level_labels(
    picture: Picture, levels: Sequence[str], places: Sequence[float], room: float, base: float
) -> float:
    """Labels below the axis, turned where they don't fit side by side; returns their height."""
    quiet = colours()["quiet"]
    widths = [text_width(plain(level), SMALL) for level in levels]
    if max(widths) <= max(room - 6, 56.0) or len(levels) == 1:
        for level, x in zip(levels, places, strict=True):
            shown = fitted(level, WIDTH / 2, SMALL)
            half = text_width(shown, SMALL) / 2
            inside = min(max(x, half + 2), WIDTH - half - 2)
            picture.text(inside, base + 16, shown, anchor="middle", size=SMALL, colour=quiet)
        return 16.0
    for level, x in zip(levels, places, strict=True):
        shown = fitted(level, LONGEST_LEVEL, SMALL)
        picture.text(x + 3, base + 12, shown, anchor="end", size=SMALL, colour=quiet, turn=-40)
    return 16 + 0.64 * min(LONGEST_LEVEL, max(widths))


def _places(
    levels: Sequence[str], numbers: Sequence[float] | None, left: float, right: float
) -> list[float]:
    if numbers is not None and len(set(numbers)) > 1:
        inset = min(60.0, (right - left) / 8)
        log = min(numbers) > 0 and max(numbers) / min(numbers) >= 20
        scale = Scale(min(numbers), max(numbers), left + inset, right - inset, log)
        return [scale.at(number) for number in numbers]
    return [left + (place + 0.5) / len(levels) * (right - left) for place in range(len(levels))]


def _draw_points(picture: Picture, one: Points, places: Sequence[float], scale: Scale) -> None:
    large = [point for point in one.points if not point.small]
    if one.joined and len(large) > 1:
        joints = [f"{places[p.level]:.1f} {scale.at(p.value):.1f}" for p in large]
        picture.path("M" + "L".join(joints), one.colour, 1.2, 0.6)
    for point in one.points:
        x, y = places[point.level] + (7 if point.small else 0), scale.at(point.value)
        if point.low is not None and point.high is not None:
            picture.line(x, scale.at(point.low), x, scale.at(point.high), one.colour, 1.4)
        picture.circle(x, y, 2.4 if point.small else 4.2, one.colour, 0.6 if point.small else 1)


def calibration(
    title: str, note: str, dots: Sequence[tuple[float, float, float | None, float | None, int]],
    x_label: str,
) -> str:  # fmt: skip
    """SVG: predicted share across, observed share up, with intervals; the diagonal is dashed.

    `dots`: (x, y, low, high, n), all shares.
    """
    picture, top = _head(title, note, [])
    left = MARGIN + 44
    side = PLOT + 60
    first = min([0.5, *(dot[0] for dot in dots)])
    across = Scale(first, 1.0, left, left + side * 1.4)
    lowest = min([first, *(v for dot in dots for v in (dot[1], dot[2]) if v is not None)])
    up = Scale(lowest, 1.0, top + side, top)
    marks = ticks(lowest, 1.0, 5)
    value_frame(picture, up, marks, tick_labels(marks, "percent"), across.end, left)
    x_marks = ticks(first, 1.0, 5)
    for mark, label in zip(x_marks, tick_labels(x_marks, "percent"), strict=True):
        picture.text(across.at(mark), top + side + 16, label, anchor="middle", size=SMALL,
                     colour=colours()["quiet"])  # fmt: skip
    picture.line(across.at(first), up.at(first), across.at(1), up.at(1), colours()["quiet"], 1,
                 "4 3")  # fmt: skip
    most = max([1, *(dot[4] for dot in dots)])
    for x, y, low, high, n in dots:
        if low is not None and high is not None:
            picture.line(across.at(x), up.at(low), across.at(x), up.at(high), colours()["s2"], 1.3)
        picture.circle(across.at(x), up.at(y), 3 + 5 * (n / most) ** 0.5, colours()["s2"], 0.85)
    picture.text((left + across.end) / 2, top + side + 33, x_label, anchor="middle", size=SMALL,
                 colour=colours()["quiet"])  # fmt: skip
    picture.height = top + side + 44
    return picture.svg()
