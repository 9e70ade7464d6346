"""Counts of curated rows: shares kept, rows by source, language and category, manifests' tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espalier.reports.runfiles import counts_of, read_lines
from espalier.reports.strings import known, pretty

TEXT_CHARACTERS = 600
MOST_GROUPS = 40


def kept_share(rows_in: int, rows_out: int) -> str:
    """Per cent with one decimal; 100.0 and 0.0 stand for all and none only."""
    if not rows_in:
        return ""
    share = 100 * rows_out / rows_in
    if rows_out < rows_in:
        share = min(share, 99.9)
    if rows_out > 0:
        share = max(share, 0.1)
    return f"{share:.1f}"


def clip(text: str) -> str:
    """The text, cut with an ellipsis when it is long."""
    return text if len(text) <= TEXT_CHARACTERS else text[: TEXT_CHARACTERS - 1] + "…"


def composition(path: Path) -> list[dict[str, Any]]:
    """The rows of a dataset file counted by source, language and category of their `meta`.

    Only the largest groups are listed; the rest are one line.
    """
    found: dict[str, Counter[str]] = {key: Counter() for key in ("source", "language", "category")}
    for row in read_lines(path):
        meta = row.get("meta")
        for key, counter in found.items():
            if isinstance(meta, Mapping) and isinstance(meta.get(key), str):
                counter[meta[key]] += 1
    return [
        _table(f"by_{key}", _largest(counter)) for key, counter in found.items() if len(counter) > 1
    ]


def _largest(counter: Counter[str]) -> dict[str, int]:
    kept = dict(counter.most_common(MOST_GROUPS))
    rest = counter.total() - sum(kept.values())
    return {**kept, known("count.rest", "others"): rest} if rest else kept


def _table(name: str, counts: Mapping[str, int]) -> dict[str, Any]:
    rows = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    top = max([1, *(count for _, count in rows)])
    return {"title": known(f"count.{name}", pretty(name)), "rows": rows, "top": top}


def count_tables(manifest: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Counts by source, language, category … of a manifest, each largest first.

    Every mapping of names to whole numbers below `counts`, at any depth, is one table.
    """
    tables: list[dict[str, Any]] = []

    def walk(name: str, value: Any) -> None:
        flat = counts_of(value)
        if flat is not None and name:
            tables.append(_table(name, flat))
        elif isinstance(value, Mapping):
            for key, item in value.items():
                walk(str(key), item)

    for key, value in ((manifest or {}).get("counts") or {}).items():
        walk(str(key), value)
    return tables
