"""The parts of a set: by language, category, length, or any meta field of its rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from espalier.errors import InputError
from espalier.evaluate.config_compare import CompareConfig
from espalier.evaluate.evalset import EvalSet, Row
from espalier.text import length

# A slice of a very wide set has too few rows to say anything; only the largest are listed.
MAX_SLICES = 60
# A field of numbers with more values than this is cut into thirds.
MAX_NUMBERS = 8

THIRDS = ("low", "middle", "high")

Labels = list[str]


def check_fields(evalset: EvalSet, options: CompareConfig) -> None:
    """Raise InputError where the options name a field that the set does not have."""
    cluster_keys(evalset, options.cluster)
    for by in options.slices:
        labels_of(evalset, by)


def labels_of(evalset: EvalSet, by: str) -> Labels:
    """The slice that each row belongs to, "" where it has none.

    Raises InputError for a meta field that no row has.
    """
    rows = evalset.rows
    if by == "language":
        return [row.language for row in rows]
    if by == "category":
        return [row.category for row in rows]
    if by == "length":
        return thirds([float(length(row.prompt)) for row in rows])
    values = [row.meta.get(by) for row in rows]
    if all(value is None for value in values):
        known = sorted({key for row in rows for key in row.meta})
        raise InputError(
            f"No row of the set has the meta field '{by}'.",
            where="evaluate.compare.slices",
            expected="language, category, length, or a meta field of the set: "
            + (", ".join(known[:20]) or "it has none"),
        )
    numbers = [_number(value) for value in values]
    known_numbers = [value for value in numbers if value is not None]
    all_numbers = len(known_numbers) == sum(value is not None for value in values)
    if all_numbers and len(set(known_numbers)) > MAX_NUMBERS:
        return thirds(numbers)
    return [_label(value) for value in values]


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    return float(value) if math.isfinite(float(value)) else None


def _label(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(sorted(str(item) for item in value))
    return str(value)


def thirds(values: Sequence[float | None]) -> Labels:
    """Three parts of about equal size, named by the values in them; equal values stay together."""
    known = np.array([value for value in values if value is not None])
    if not len(known):
        return [""] * len(values)
    edges = np.quantile(known, [1 / 3, 2 / 3], method="inverted_cdf")
    parts = [None if value is None else int((value > edges).sum()) for value in values]
    names = {}
    for number, name in enumerate(THIRDS):
        inside = [v for v, part in zip(values, parts, strict=True) if part == number]
        numbers = [value for value in inside if value is not None]
        if numbers:
            names[number] = f"{number + 1} {name}: {min(numbers):g}–{max(numbers):g}"
    return ["" if part is None else names[part] for part in parts]


def slice_named(name: str, labels: Iterable[str]) -> str | None:
    """The label that a rule means: itself, or the third called low, middle or high; else None."""
    known = list(labels)
    if name in known or name not in THIRDS:
        return name if name in known else None
    start = f"{THIRDS.index(name) + 1} {name}: "
    return next((label for label in known if label.startswith(start)), None)


def masks_of(labels: Labels) -> dict[str, NDArray[np.bool_]]:
    """Which rows belong to each of the largest slices, by label in order; empty for one slice."""
    counts = Counter(label for label in labels if label)
    if len(counts) < 2:
        return {}
    chosen = sorted(label for label, _ in counts.most_common(MAX_SLICES))
    return {label: np.array([other == label for other in labels]) for label in chosen}


def cluster_keys(evalset: EvalSet, by: str | None) -> list[Hashable]:
    """What makes rows one cluster: the prompt, a meta field, or (None) each row by itself.

    Raises InputError for a meta field that no row has; a row without it is a cluster by itself.
    """
    rows = evalset.rows
    if by is None:
        return [row.id for row in rows]
    if by == "prompt":
        return [" ".join(row.prompt.split()) for row in rows]
    if all(row.meta.get(by) is None for row in rows):
        raise InputError(
            f"No row of the set has the meta field '{by}'.",
            where="evaluate.compare.cluster",
            expected="`prompt`, null, or a meta field of the set",
        )
    return [_cluster_key(row, by) for row in rows]


def _cluster_key(row: Row, by: str) -> Hashable:
    value = row.meta.get(by)
    return ("row", row.id) if value is None else ("value", _label(value))
