"""A ring of opening verbs with their objects around it, as a still picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from espalier.reports.data_sunburst import SIZE, sunburst
from espalier.reports.figure_axes import SMALL
from espalier.reports.figure_svg import Picture, colours, fitted, series_colour

WIDTH = 640.0
MARGIN = 12.0
# The objects are paler than their verbs.
SHADES = (0.9, 0.45)


def ring(title: str, note: str, verbs: Sequence[Mapping[str, Any]]) -> str:
    """SVG: `verbs` are `{verb, count, nouns: [[noun, count], …]}`, the most frequent first."""
    top = 56.0
    picture = Picture(WIDTH, top + SIZE + MARGIN, title)
    picture.text(MARGIN, 22, fitted(title, WIDTH - 2 * MARGIN, 14), size=14, bold=True)
    picture.text(MARGIN, 40, fitted(note, WIDTH - 2 * MARGIN, SMALL), size=SMALL,
                 colour=colours()["quiet"])  # fmt: skip
    x, y = WIDTH / 2, top + SIZE / 2
    arcs = sunburst(verbs)
    for arc in arcs:
        picture.area(arc["path"], series_colour(arc["colour"]), SHADES[arc["ring"]], x, y)
    for arc in arcs:
        if arc["label"]:
            inner = arc["ring"] == 0
            picture.text(
                x + arc["x"], y + arc["y"], arc["label"], anchor="middle", turn=arc["angle"],
                bold=inner, colour="#ffffff" if inner else None, middle=True,
            )  # fmt: skip
    return picture.svg()
