"""What is to be said of rewards beyond their mean: spread, margins, length, other reward models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from espalier.evaluate.described import distribution
from espalier.evaluate.metric import RowValues, Scored
from espalier.evaluate.significance import Array
from espalier.text import length

BINS = 20


def add_reward_details(
    columns: Sequence[Scored], answers: Mapping[str, Sequence[str | None]], baseline: str
) -> None:
    """Put into each reward column's details, by model: `distribution` and `histogram` (with
    borders that its models share), `margin` over the baseline's answers to the same prompts, and
    the `length` and `other_models` correlations; what is there stays."""
    for scored in columns:
        borders = _borders(scored.rows.values())
        for model, values in scored.rows.items():
            lengths = [None if text is None else float(length(text)) for text in answers[model]]
            details: dict[str, Any] = {
                "distribution": distribution(values),
                "histogram": _histogram(values, borders),
                "length": correlation(values, lengths),
                "other_models": {
                    other.metric.name: correlation(values, other.rows[model])
                    for other in columns
                    if other is not scored
                },
            }
            if model != baseline and baseline in scored.rows:
                details["margin"] = margin(values, scored.rows[baseline])
            scored.details.setdefault(model, {}).update(details)


def cut_warnings(columns: Sequence[Scored]) -> list[str]:
    """Which models' answers a reward model could not read to their end."""
    return [
        f"{scored.metric.label}: {count:,} answers of {model} do not fit into the reward model's "
        "context and were scored without their end."
        for scored in columns
        for model, details in scored.details.items()
        if (count := details.get("answers_cut", 0))
    ]


def margin(values: RowValues, baseline: RowValues) -> dict[str, Any]:
    """The distribution of value - baseline over shared rows, and the shares above and below 0."""
    both = _both(values, baseline)
    differences = [float(a - b) for a, b in both]
    if not differences:
        return {"n": 0}
    return {
        **distribution(differences),
        "above": float((both[:, 0] > both[:, 1]).mean()),
        "below": float((both[:, 0] < both[:, 1]).mean()),
    }


def correlation(one: RowValues, other: RowValues) -> dict[str, Any]:
    """Pearson's r and Spearman's rank correlation (ties take their mean rank) over shared rows.

    None where there are fewer than three rows or one side has no spread.
    """
    both = _both(one, other)
    return {
        "n": len(both),
        "pearson": _pearson(both[:, 0], both[:, 1]),
        "spearman": _pearson(ranks(both[:, 0]), ranks(both[:, 1])),
    }


def ranks(values: Array) -> Array:
    """1 for the lowest; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[inverse], dtype=np.float64)


def _pearson(one: Array, other: Array) -> float | None:
    if len(one) < 3:
        return None
    left, right = one - one.mean(), other - other.mean()
    spread = float(np.sqrt((left**2).sum() * (right**2).sum()))
    return float((left * right).sum() / spread) if spread > 0 else None


def _both(one: RowValues, other: RowValues) -> Array:
    pairs = [
        (a, b)
        for a, b in zip(one, other, strict=True)
        if a is not None and b is not None and np.isfinite(a) and np.isfinite(b)
    ]
    return np.array(pairs, dtype=np.float64).reshape(len(pairs), 2)


def _borders(columns: Any) -> Array | None:
    given = [v for values in columns for v in values if v is not None and np.isfinite(v)]
    if not given:
        return None
    low, high = min(given), max(given)
    return np.linspace(low, high if high > low else low + 1.0, BINS + 1)


def _histogram(values: RowValues, borders: Array | None) -> dict[str, Any]:
    if borders is None:
        return {"borders": [], "counts": []}
    given = [value for value in values if value is not None and np.isfinite(value)]
    counts, _ = np.histogram(given, borders)
    return {"borders": borders.tolist(), "counts": counts.tolist()}
