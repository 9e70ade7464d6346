"""Numbers of the data page's charts: bars of a histogram, in per cent of their plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from espalier.reports.strings import known, pretty, t

MOST_LABELS = 7
MOST_LANGUAGES = 4
# A language with a smaller share of the rows has no chart of its own.
LEAST_SHARE = 0.02
# What a distribution of lengths has to tell for its chart.
WHOLE = frozenset({"min", "max", "median", "p05", "p95", "histogram"})
_SCORES = ("judge", "relevance", "accuracy", "completeness", "fluency", "ifd", "reward", "score")


def histogram(spread: Mapping[str, Any]) -> dict[str, Any]:
    """Bars (`x`, `width`, `y`, `height` in per cent, `title`) and axis labels of a distribution.

    `spread` is what `Spread.to_json` writes; bins that are empty at either end are left out.
    """
    bins: list[list[float]] = list(spread.get("histogram") or [])
    filled = [place for place, (_, _, count) in enumerate(bins) if count]
    if not filled:
        return {"bars": [], "labels": [], "top": 0}
    bins = bins[filled[0] : filled[-1] + 1]
    top = max(count for _, _, count in bins)
    step = 100 / len(bins)
    bars = [
        {
            "x": f"{place * step:.3f}",
            "width": f"{max(step - 0.6, step * 0.7):.3f}",
            "y": f"{100 - 100 * count / top:.2f}",
            "height": f"{max(100 * count / top, 1.5 if count else 0):.2f}",
            "title": f"{_range(low, high)}: {int(count):,}",
        }
        for place, (low, high, count) in enumerate(bins)
    ]
    every = -(-len(bins) // MOST_LABELS)
    labels = [
        {"x": f"{(place + (0.5 if _single(low, high) else 0)) * step:.3f}", "text": _short(low),
         "anchor": "middle" if _single(low, high) or place else "start"}
        for place, (low, high, _) in enumerate(bins)
        if place % every == 0
    ]  # fmt: skip
    return {"bars": bars, "labels": labels, "top": f"{int(top):,}"}


def _single(low: float, high: float) -> bool:
    """Whether a bin holds one whole number."""
    return high - low == 1 and float(low).is_integer()


def _range(low: float, high: float) -> str:
    if _single(low, high):
        return _short(low)
    if float(low).is_integer() and float(high).is_integer() and high - low > 1:
        return f"{_short(low)}–{_short(high - 1)}"
    return f"{_short(low)} – {_short(high)}"


def _short(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:g}"


def lengths(file: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The charts of one file's lengths: each part by language, turns for all rows together."""
    charts = []
    for what, spreads in (file.get("lengths") or {}).items():
        total = int((spreads.get("all") or {}).get("count") or 0)
        names = sorted(
            (name for name in spreads if name != "all"),
            key=lambda name: (-int(spreads[name].get("count") or 0), name),
        )
        names = [n for n in names if int(spreads[n].get("count") or 0) >= LEAST_SHARE * total]
        if what == "turns" or not names:
            names = ["all"]
        for name in names[:MOST_LANGUAGES]:
            spread = spreads[name]
            # One bar for one value would say nothing.
            if spread.get("count") and spread.keys() >= WHOLE and spread["min"] < spread["max"]:
                title = known(f"dp.length.{what}", pretty(what))
                tongue = "" if name == "all" else f" ({known(f'dp.language.{name}', name)})"
                charts.append({
                    "title": title + tongue,
                    "note": t("dp.spread", median=_short(spread["median"]),
                              low=_short(spread["p05"]), high=_short(spread["p95"])),
                    "spread": spread,
                })  # fmt: skip
    return charts


def ordered(numbers: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Quality scores in a readable order: the judge and its marks first."""
    first = [name for name in _SCORES if name in numbers]
    rest = [name for name in numbers if name not in first]
    return [(name, numbers[name]) for name in first + rest]


def sizes(methods: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Near-duplicate clusters by size, of all methods together, as rows for bars."""
    counts: dict[int, int] = {}
    for method in methods.values():
        for size, count in (method.get("sizes") or {}).items():
            counts[int(size)] = counts.get(int(size), 0) + int(count)
    edges: Sequence[tuple[int, int, str]] = (
        (2, 2, "2"), (3, 3, "3"), (4, 5, "4–5"), (6, 10, "6–10"), (11, 50, "11–50"),
        (51, 10**12, "> 50"),
    )  # fmt: skip
    rows = [
        {"label": label, "count": sum(n for size, n in counts.items() if low <= size <= high)}
        for low, high, label in edges
    ]
    return [row for row in rows if row["count"]]
