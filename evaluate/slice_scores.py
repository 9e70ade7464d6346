"""Scores and comparisons within the parts of a set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from espalier.evaluate.metric import Scored
from espalier.evaluate.significance import Analysis, Column, Comparison, holm, verdict

Mask = NDArray[np.bool_]
# For each field: its slices, and which rows belong to each.
Parts = Mapping[str, Mapping[str, Mask]]


def can_be_sliced(scored: Scored) -> bool:
    """Whether the metric has values on the set's rows, and says that parts of it mean something."""
    return scored.metric.slices and bool(scored.rows)


def slice_scores(parts: Parts, scored: Sequence[Scored]) -> list[dict[str, Any]]:
    """The score of every model and metric in every slice, with its number of rows."""
    return [
        {
            "by": by,
            "value": value,
            "model": model,
            "metric": one.metric.name,
            "score": column.value(mask),
            "n": n,
        }
        for by, masks in parts.items()
        for one in scored
        if can_be_sliced(one)
        for model, column in one.columns.items()
        for value, mask in masks.items()
        if (n := int((column.valid & mask).sum()))
    ]


def slice_comparisons(
    parts: Parts, scored: Sequence[Scored], baseline: str, analysis: Analysis
) -> list[dict[str, Any]]:
    """Every model against the baseline in every slice.

    p-values are corrected over all comparisons within the slices of one field, from as many draws
    as so many comparisons need.
    """
    found = []
    tested = [one for one in scored if one.metric.tested and can_be_sliced(one)]
    tested = [one for one in tested if baseline in one.columns]
    for by, masks in parts.items():
        family = len(masks) * sum(len(one.columns) - 1 for one in tested)
        entries: list[tuple[Scored, str, str, Comparison]] = []
        for value, mask in masks.items():
            entries += _compared(value, mask, tested, baseline, analysis.finer(family))
        corrected = holm([1.0 if one.p_value is None else one.p_value for *_, one in entries])
        for (kind, model, value, one), p_value in zip(entries, corrected, strict=True):
            higher = kind.metric.higher_is_better
            found.append(
                {
                    "by": by,
                    "value": value,
                    "metric": kind.metric.name,
                    "baseline": baseline,
                    "model": model,
                    "difference": one.difference,
                    "low": one.low,
                    "high": one.high,
                    "p_value": p_value,
                    "p_uncorrected": one.p_value,
                    "verdict": verdict(one, p_value, higher, 1 - analysis.confidence),
                    "n": one.n,
                }
            )
    return found


def _compared(
    value: str, mask: Mask, scored: Sequence[Scored], baseline: str, analysis: Analysis
) -> list[tuple[Scored, str, str, Comparison]]:
    names: list[tuple[Scored, str]] = []
    pairs: list[tuple[Column, Column]] = []
    for one in scored:
        base = within(one.columns[baseline], mask)
        for model, column in one.columns.items():
            if model != baseline:
                names.append((one, model))
                pairs.append((base, within(column, mask)))
    return [
        (one, model, value, compared)
        for (one, model), compared in zip(names, analysis.compare(pairs), strict=True)
        if compared.difference is not None
    ]


def within(column: Column, mask: Mask) -> Column:
    """The column on the rows of the mask alone."""
    return replace(column, valid=column.valid & mask)
