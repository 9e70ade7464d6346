"""What `summary.json` knows of each metric beyond one score, as text for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from espalier.evaluate.table import number
from espalier.terminal import width

BARS = "▁▂▃▄▅▆▇█"
LINE = 100


def details_text(summary: Mapping[str, Any], names: Sequence[str] = ()) -> str:
    """Each metric's meaning and signature, and by model its score, rows and details.

    `names`: only these metrics. Of an unknown name there is nothing.
    """
    blocks = [
        "\n".join(_metric(metric, summary))
        for metric in summary["metrics"]
        if not names or metric["name"] in names
    ]
    return "\n\n".join(blocks)


def _metric(metric: Mapping[str, Any], summary: Mapping[str, Any]) -> Iterator[str]:
    yield f"{metric['name']}: {metric['label']}"
    yield from textwrap.wrap(
        metric["description"], LINE, initial_indent="  ", subsequent_indent="  "
    )
    yield f"  {metric['signature']}"
    scores = {one["model"]: one for one in summary["scores"] if one["metric"] == metric["name"]}
    details = summary.get("details", {}).get(metric["name"], {})
    for model in [model["name"] for model in summary["models"]]:
        if model not in scores:
            continue
        score = scores[model]
        value, low, high = (
            number(score[key], metric["format"]) for key in ("value", "low", "high")
        )
        unit = " %" if metric["format"] == "percent" else ""
        between = "" if score["low"] is None else f" [{low}, {high}]"
        yield f"  {model}: {value}{between}{unit}, n={score['n']:,}"
        for line in _described(details.get(model, {})):
            yield f"    {line}"


def _described(details: Mapping[str, Any]) -> Iterator[str]:
    """Plain values on one line; what holds several values of its own on lines below."""
    plain = {key: value for key, value in details.items() if not isinstance(value, dict | list)}
    if plain:
        yield _listed(plain)
    for key, value in details.items():
        if key == "histogram":
            yield f"histogram: {_histogram(value)}"
        elif key == "confusion":
            labels = [entry["label"] for entry in details["labels"]]
            yield "confusion (a row: the right label, a column: the one told):"
            rows = zip(labels, value, strict=True)
            yield from _table([["", *labels], *([name, *map(str, row)] for name, row in rows)])
        elif isinstance(value, list) and value:
            yield f"{_spoken(key)}:"
            yield from _table(
                [list(value[0]), *([_cell(v) for v in row.values()] for row in value)]
            )
        elif isinstance(value, dict) and any(isinstance(one, dict) for one in value.values()):
            yield from _nested(key, value)
        elif isinstance(value, dict) and value:
            yield f"{_spoken(key)}: {_listed(value)}"


def _nested(key: str, value: Mapping[str, Any]) -> Iterator[str]:
    """A row for each of several things that have the same values, else a line for each part."""
    parts = list(value.values())
    if all(isinstance(part, dict) and list(part) == list(parts[0]) for part in parts):
        yield f"{_spoken(key)}:"
        rows = [[name, *map(_cell, part.values())] for name, part in value.items()]
        yield from _table([["", *parts[0]], *rows])
        return
    plain = {name: part for name, part in value.items() if not isinstance(part, dict)}
    yield f"{_spoken(key)}: {_listed(plain)}"
    for name, part in value.items():
        if isinstance(part, dict):
            yield f"  {_spoken(name)}: {_listed(part)}"


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{_spoken(key)} {_cell(value)}" for key, value in values.items())


def _spoken(key: str) -> str:
    return _clean(key).replace("_", " ")


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value, "number")
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else _clean(str(value))


def _clean(text: str) -> str:
    """Without characters that a terminal would obey."""
    return "".join(char if char.isprintable() else "�" for char in text)


def _histogram(value: Mapping[str, Any]) -> str:
    counts, borders = value["counts"], value["borders"]
    if not counts:
        return "–"
    most = max(*counts, 1)
    # An empty part is a space: the lowest bar is for few.
    bars = [BARS[(count * len(BARS) - 1) // most] if count else " " for count in counts]
    return f"{_cell(float(borders[0]))} |{''.join(bars)}| {_cell(float(borders[-1]))}"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows with their columns below each other: the first to the left, numbers to the right."""
    cleaned = [[_clean(cell) for cell in row] for row in rows]
    sizes = [max(width(row[at]) for row in cleaned) for at in range(len(cleaned[0]))]
    for row in cleaned:
        cells = [
            cell + " " * (size - width(cell)) if at == 0 else " " * (size - width(cell)) + cell
            for at, (cell, size) in enumerate(zip(row, sizes, strict=True))
        ]
        yield "  " + "  ".join(cells).rstrip()
