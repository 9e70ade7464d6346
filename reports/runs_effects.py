"""What a sweep says: the mean of every setting over its repeats, and the effect of every change.

An effect compares two levels of one factor on runs that agree in everything else: on the same
seeds where there are any, so that what the seed decides (the data drawn, the order) cancels out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from espalier.reports.runs_settings import Sweep
from espalier.reports.student import Mean, mean_interval, paired, welch

Values = Sequence[float | None]


@dataclass(frozen=True)
class Effect:
    """`level` less `reference` of a factor: `how` is paired (same seeds), blocks (means of equal
    settings), welch (repeats with other seeds) or none (no two runs that differ in it alone)."""

    factor: int
    reference: int
    level: int
    how: str
    mean: Mean | None
    p_value: float | None


def setting_means(sweep: Sweep, values: Values, confidence: float) -> list[Mean | None]:
    """Mean over the runs of each setting; its interval is Student's, over repeats."""
    found: list[Mean | None] = []
    for setting in sweep.settings:
        known = [v for run in setting.runs if (v := values[run]) is not None]
        found.append(mean_interval(known, confidence) if known else None)
    return found


def effects(sweep: Sweep, values: Values, confidence: float) -> list[Effect]:
    """Every level of every factor against the level of the first run, p corrected after Holm."""
    found = []
    for place, factor in enumerate(sweep.factors):
        reference = factor.place[0]
        for level in range(len(factor.levels)):
            if level != reference:
                found.append(_effect(sweep, values, place, (reference, level), confidence))
    corrected = holm([effect.p_value for effect in found])
    return [
        Effect(e.factor, e.reference, e.level, e.how, e.mean, p)
        for e, p in zip(found, corrected, strict=True)
    ]


Cells = dict[tuple[str | None, ...], list[float]]


def _effect(
    sweep: Sweep, values: Values, factor: int, levels: tuple[int, int], confidence: float
) -> Effect:
    blocks = _blocks(sweep, values, factor, levels)
    matched = [
        difference(one[seed], two[seed]) for one, two in blocks for seed in one if seed in two
    ]
    if matched:
        mean, p = paired(matched, confidence)
        return Effect(factor, *levels, "paired", mean, p)
    if len(blocks) == 1:
        one, two = ([v for cell in side.values() for v in cell] for side in blocks[0])
        mean, p = welch(one, two, confidence)
        return Effect(factor, *levels, "welch", mean, p)
    if blocks:
        of_blocks = [
            difference(*([v for cell in side.values() for v in cell] for side in sides))
            for sides in blocks
        ]
        mean, p = paired(of_blocks, confidence)
        return Effect(factor, *levels, "blocks", mean, p)
    return Effect(factor, *levels, "none", None, None)


def _blocks(
    sweep: Sweep, values: Values, factor: int, levels: tuple[int, int]
) -> list[tuple[Cells, Cells]]:
    """For equal levels of all other factors: values by seed at both levels, where both are."""
    found: dict[tuple[int, ...], tuple[Cells, Cells]] = {}
    for setting in sweep.settings:
        if setting.levels[factor] not in levels:
            continue
        rest = tuple(level for place, level in enumerate(setting.levels) if place != factor)
        side = found.setdefault(rest, ({}, {}))[levels.index(setting.levels[factor])]
        for run in setting.runs:
            value = values[run]
            if value is not None:
                side.setdefault(sweep.seeds[run], []).append(value)
    return [sides for sides in found.values() if sides[0] and sides[1]]


def difference(one: Sequence[float], two: Sequence[float]) -> float:
    """Mean of `two` less that of `one`; what differs by rounding alone is no difference."""
    first, second = (math.fsum(values) / len(values) for values in (one, two))
    return 0.0 if math.isclose(first, second, rel_tol=1e-12) else second - first


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction (1979) over those that are there."""
    order = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    found: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, i) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        found[i] = highest
    return found


def verdict(mean: Mean | None, p_value: float | None, higher: bool, confidence: float) -> str:
    """better, worse or tie; empty where nothing can be said of it (no repeats)."""
    if mean is None or mean.low is None:
        return ""
    if p_value is None:
        return "" if mean.value else "tie"
    if p_value >= 1 - confidence:
        return "tie"
    return "better" if (mean.value > 0) == higher else "worse"


def as_json(mean: Mean | None) -> Mapping[str, Any] | None:
    """The mean as the page reads it."""
    if mean is None:
        return None
    return {"value": mean.value, "low": mean.low, "high": mean.high, "n": mean.n}
