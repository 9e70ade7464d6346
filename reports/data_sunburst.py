"""Opening verbs (inner ring) with their objects (outer ring), as the paths of an SVG.

The figure of Self-Instruct (Wang et al. 2023, fig. 3), drawn here: angles are shares of rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import cos, pi, sin
from typing import Any

SIZE = 520
VERBS = 16
NOUNS = 4
COLOURS = 10
_RINGS = (60.0, 158.0, 252.0)
_THINNEST = 2.0
# Arcs that are too narrow for a line of text, in degrees.
_NARROW = (4.5, 2.6)
_LETTERS = (12, 14)


def sunburst(verbs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The arcs of the most frequent verbs and their objects, clockwise from the top.

    `verbs` are `{verb, count, nouns: [[noun, count], …]}`, the most frequent first. Each arc has
    `path`, `ring` (0 or 1), `colour` (0 to 9), `title`, and `label` with its `turn` (an SVG
    transform) where text fits; `x`, `y`
    and `angle` are the numbers of `turn`.
    """
    most = sum(int(verb["count"]) for verb in verbs[:VERBS])
    # Thinner ones would be slivers that nobody can tell apart.
    chosen = [verb for verb in verbs[:VERBS] if 360 * int(verb["count"]) >= _THINNEST * most]
    total = sum(int(verb["count"]) for verb in chosen)
    arcs: list[dict[str, Any]] = []
    start = 0.0
    for place, verb in enumerate(chosen):
        count = int(verb["count"])
        end = start + 360 * count / total
        name = str(verb["verb"])
        arcs.append(_arc(0, start, end, place, name, f"{name}: {count:,}"))
        inner = start
        for noun, rows in list(verb["nouns"])[:NOUNS]:
            outer = inner + 360 * int(rows) / total
            arcs.append(_arc(1, inner, outer, place, str(noun), f"{name} {noun}: {int(rows):,}"))
            inner = outer
        start = end
    return arcs


def _arc(ring: int, start: float, end: float, place: int, label: str, title: str) -> dict[str, Any]:
    inner, outer = _RINGS[ring], _RINGS[ring + 1]
    # A whole circle has no beginning to draw from.
    last = min(end, start + 359.99)
    large = int(last - start > 180)
    outward = f"A{outer:g} {outer:g} 0 {large} 1 {_at(last, outer)}"
    back = f"A{inner:g} {inner:g} 0 {large} 0 {_at(start, inner)}"
    path = f"M{_at(start, inner)}L{_at(start, outer)}{outward}L{_at(last, inner)}{back}Z"
    fits = end - start >= _NARROW[ring]
    x, y, angle = _turn((start + end) / 2, (inner + outer) / 2)
    return {
        "path": path,
        "ring": ring,
        "colour": place % COLOURS,
        "title": title,
        "label": _short(label, _LETTERS[ring]) if fits else "",
        "turn": f"translate({x:.2f} {y:.2f}) rotate({angle:.2f})",
        "x": x,
        "y": y,
        "angle": angle,
    }


def _at(degrees: float, radius: float) -> str:
    angle = degrees * pi / 180
    return f"{radius * sin(angle):.2f} {-radius * cos(angle):.2f}"


def _turn(degrees: float, radius: float) -> tuple[float, float, float]:
    """Where a label stands, and along its radius, never upside down."""
    angle = degrees * pi / 180
    turned = degrees - 90 if degrees <= 180 else degrees + 90
    return radius * sin(angle), -radius * cos(angle), turned


def _short(text: str, letters: int) -> str:
    wide = sum(2 if ord(char) > 0x2E7F else 1 for char in text)
    if wide <= letters:
        return text
    return text[: max(1, letters * len(text) // wide - 1)] + "…"
