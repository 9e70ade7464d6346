"""A heat map: groups down, models across, the value written in each cell."""

from __future__ import annotations

from collections.abc import Sequence

from espalier.reports.figure_axes import SMALL, widest
from espalier.reports.figure_svg import Picture, colours, fitted

WIDTH = 640.0
MARGIN = 12.0
ROW = 26.0


def heat(
    title: str,
    note: str,
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Sequence[Sequence[tuple[float | None, str]]],
) -> str:
    """SVG: `cells[row][column]` is (value, its text); the darker, the higher the value."""
    labels = [fitted(row, 240) for row in rows]
    left = MARGIN + widest(labels, 12.0) + 10
    cell = min(130.0, (WIDTH - MARGIN - left) / max(1, len(columns)))
    top = 76.0 if note else 58.0
    picture = Picture(WIDTH, top + ROW * len(rows) + MARGIN, title)
    picture.text(MARGIN, 22, fitted(title, WIDTH - 2 * MARGIN, 14), size=14, bold=True)
    if note:
        picture.text(MARGIN, 40, fitted(note, WIDTH - 2 * MARGIN, SMALL), size=SMALL,
                     colour=colours()["quiet"])  # fmt: skip
    for place, name in enumerate(columns):
        x = left + cell * (place + 0.5)
        picture.text(x, top - 8, fitted(name, cell - 6, 11), anchor="middle", size=11)
    values = [value for row in cells for value, _ in row if value is not None]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    for place, (label, row) in enumerate(zip(labels, cells, strict=True)):
        y = top + ROW * place
        picture.text(left - 10, y + ROW / 2 + 4, label, anchor="end")
        for column, (value, shown) in enumerate(row):
            x = left + cell * column
            if value is None:
                picture.rect(x + 1, y + 1, cell - 2, ROW - 2, colours()["sunk"], radius=2)
            else:
                share = 0.5 if high == low else (value - low) / (high - low)
                picture.rect(x + 1, y + 1, cell - 2, ROW - 2, colours()["s2"], 0.05 + 0.5 * share,
                             2)  # fmt: skip
            shown = fitted(shown, cell - 6, 11)
            picture.text(x + cell / 2, y + ROW / 2 + 4, shown, anchor="middle", size=11)
    return picture.svg()
