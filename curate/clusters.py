"""The near-duplicate clusters of `clusters.jsonl`, counted without holding them.

A line names one removed row and its keeper: `method`, `keeper` and `removed` (ids), `similarity`,
`shared` (text that both have), `keeper_text`, `removed_text`. A cluster is a keeper with the rows
that one method removed for it.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from espalier.curate.pipeline import clip
from espalier.errors import InputError, place
from espalier.spread import Spread
from espalier.text import stable_hash

LARGEST = 10
MEMBERS = 5
_TEXT = 600


def cluster_statistics(path: Path) -> dict[str, Any]:
    """Clusters, removed rows, sizes and similarities by method, and the largest clusters.

    Empty when the file is absent or holds no line. Reads the file twice; holds eight bytes a
    removed row.
    """
    keys: dict[str, array[int]] = {}
    similarities: dict[str, Spread] = {}
    for row in result_lines(path):
        method = str(row.get("method", ""))
        keys.setdefault(method, array("Q")).append(_key(row))
        similarity = row.get("similarity")
        if isinstance(similarity, int | float) and not isinstance(similarity, bool):
            similarities.setdefault(method, Spread()).add(similarity)
    if not keys:
        return {}
    methods, sizes = {}, {}
    for method, found in keys.items():
        counts = _counts(found)
        sizes.update(counts)
        methods[method] = {
            "clusters": len(counts),
            "removed": len(found),
            "sizes": _histogram(counts),
            "similarity": similarities.get(method, Spread()).to_json(),
        }
    return {"methods": methods, "largest": _largest(path, sizes)}


def _counts(found: array[int]) -> dict[int, int]:
    import numpy as np

    values, counts = np.unique(np.frombuffer(found, dtype=np.uint64), return_counts=True)
    # A cluster's size includes the row that was kept.
    return dict(zip(values.tolist(), (counts + 1).tolist(), strict=True))


def _histogram(counts: dict[int, int]) -> dict[str, int]:
    sizes: dict[int, int] = {}
    for size in counts.values():
        sizes[size] = sizes.get(size, 0) + 1
    return {str(size): sizes[size] for size in sorted(sizes)}


def _largest(path: Path, sizes: dict[int, int]) -> list[dict[str, Any]]:
    """The largest clusters, of equal ones those that come first in the file."""
    chosen: dict[int, dict[str, Any]] = {}
    limit = sorted(sizes.values(), reverse=True)[:LARGEST][-1]
    above = sum(size > limit for size in sizes.values())
    at_limit = LARGEST - above
    for row in result_lines(path):
        key = _key(row)
        size = sizes[key]
        if key not in chosen:
            if size < limit or (size == limit and at_limit <= 0):
                continue
            at_limit -= size == limit
            chosen[key] = {
                "method": str(row.get("method", "")),
                "keeper": str(row.get("keeper", "")),
                "size": size,
                "keeper_text": clip(str(row.get("keeper_text", "")), _TEXT),
                "members": [],
            }
        members = chosen[key]["members"]
        if len(members) < MEMBERS:
            members.append(
                {
                    "removed": str(row.get("removed", "")),
                    "similarity": row.get("similarity"),
                    "shared": clip(str(row.get("shared", "")), _TEXT),
                    "removed_text": clip(str(row.get("removed_text", "")), _TEXT),
                }
            )
    return sorted(chosen.values(), key=lambda cluster: -int(cluster["size"]))


def _key(row: dict[str, Any]) -> int:
    return stable_hash(f"{row.get('method', '')}\x1f{row.get('keeper', '')}")


def result_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSONL file of this stage, none for an absent one.

    Raises InputError, naming the line, for anything that is not a JSON object.
    """
    if not path.is_file():
        return
    with path.open(encoding="utf-8") as handle:
        for number, line in enumerate(handle, 1):
            try:
                value = json.loads(line)
            except ValueError:
                value = None
            if not isinstance(value, dict):
                raise InputError(
                    "A line of a result file is not a JSON object.",
                    where=place(path, number),
                    expected="one JSON object a line",
                    hint="run the stage 'curate' again",
                )
            yield value
