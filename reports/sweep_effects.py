"""The effect of a level over repeats, and the trend over levels that are numbers.

A repeat is a seed. What was measured at the same seed in several settings of the other options is
averaged first: such runs share their data and their start, so they are no repeats of each other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from espalier.reports.runs_effects import difference, holm, verdict
from espalier.reports.student import Mean, mean_interval, paired
from espalier.reports.sweep_power import detectable

# What repeats are: seeds; settings of the other options, at one seed; draws of a random search;
# prompts of one pair of runs.
# `once` is one pair of runs, `same` repeats that do not vary, `mixed` pairs that were measured in
# different ways, `none` that no two runs make a pair.
How = Literal["seeds", "settings", "draws", "prompts", "once", "same", "mixed", "none"]
# The other options' levels, and the seed.
Key = tuple[tuple[int, ...], int]
# From this ratio of the largest to the smallest level on a trend is told by doublings.
WIDE = 4
# Repeats that differ by less than this part of the effect differ by rounding alone.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Cell:
    """A value of one run; `run` is its place, values of other signatures are not compared."""

    value: float
    signature: str
    run: int


Cells = Mapping[Key, Cell]


@dataclass(frozen=True)
class Effect:
    """A mean of paired differences (or slopes): `p` corrected after Holm where there are several,
    `detectable` the smallest true effect that would have been found four times out of five."""

    how: How
    mean: Mean | None = None
    p: float | None = None
    detectable: float | None = None
    verdict: str = ""


@dataclass(frozen=True)
class Trend:
    """The slope of a straight line: `unit` is doubling (of the level), or range (from the lowest
    level to the highest)."""

    unit: Literal["doubling", "range"]
    effect: Effect


def level_effects(
    groups: Sequence[Cells],
    reference: int,
    higher: bool,
    confidence: float,
    *,
    smallest: bool = True,
) -> list[Effect | None]:
    """Each group against the reference, paired by key; None for the reference itself.

    `smallest`: what was detectable is told too, which takes a hundredth of a second each.
    """
    return levels_and_trend(groups, None, reference, higher, confidence, smallest=smallest)[0]


def levels_and_trend(
    groups: Sequence[Cells],
    numbers: Sequence[float] | None,
    reference: int,
    higher: bool,
    confidence: float,
    *,
    smallest: bool = True,
) -> tuple[list[Effect | None], Trend | None]:
    """The effects of the levels, and the trend over those that were measured where `numbers` tells
    what number each level is.

    They are one family of tests: p is corrected after Holm over all of them, so that whichever of
    them is told first may be.
    """
    raw = [
        None if place == reference else _paired(groups[reference], cells)
        for place, cells in enumerate(groups)
    ]
    unit, slopes = _slopes(groups, numbers) if numbers is not None else ("range", {})
    trend_raw = repeats(slopes) if slopes else None
    tests = [one for one in (*raw, trend_raw) if one is not None and _tested(*one)]
    family = len(tests) if smallest else 0
    found = [None if one is None else over_repeats(*one, confidence, family) for one in raw]
    if trend_raw is not None:
        # What trend could have been found is told of every question; it takes little.
        found.append(over_repeats(*trend_raw, confidence, len(tests)))
    found = corrected(found, higher, confidence)
    effect = found.pop() if trend_raw is not None else None
    return found, None if effect is None else Trend(unit, effect)


def corrected(
    found: Sequence[Effect | None], higher: bool, confidence: float
) -> list[Effect | None]:
    """The effects with p corrected after Holm over all of them, and their verdicts."""
    p_values = holm([None if effect is None else effect.p for effect in found])
    return [
        None
        if effect is None
        else replace(effect, p=p, verdict=verdict(effect.mean, p, higher, confidence))
        for effect, p in zip(found, p_values, strict=True)
    ]


def _paired(one: Cells, two: Cells) -> tuple[How, list[float]]:
    common = [key for key in one if key in two]
    pairs = {
        key: difference([one[key].value], [two[key].value])
        for key in common
        if one[key].signature == two[key].signature
    }
    if not pairs:
        return ("mixed" if common else "none"), []
    return repeats(pairs)


def repeats(values: Mapping[Key, float]) -> tuple[How, list[float]]:
    """One value a seed (the mean over settings); with a single seed one a setting."""
    by_seed: dict[int, list[float]] = {}
    for (_, seed), value in values.items():
        by_seed.setdefault(seed, []).append(value)
    if len(by_seed) > 1:
        return "seeds", [math.fsum(own) / len(own) for own in by_seed.values()]
    found = list(values.values())
    return ("settings" if len(found) > 1 else "once" if found else "none"), found


def _tested(how: How, values: Sequence[float]) -> bool:
    """Whether these repeats make a test: not at one seed, whatever else was varied, and not where
    they are all the same."""
    return len(values) > 1 and how != "settings" and not _all_same(values)


def _all_same(values: Sequence[float]) -> bool:
    return max(values) - min(values) <= ROUNDING * max(map(abs, values))


def over_repeats(how: How, values: Sequence[float], confidence: float, family: int) -> Effect:
    """Mean, Student's interval and uncorrected p; what was detectable is told for the first test
    of a family of so many, the one that Holm's correction asks most of; not told for 0.

    Over settings at one seed there is an interval, which tells how much the effect varies between
    them, and no p: all of them share what chance that seed had.
    """
    if not values:
        return Effect(how)
    if how == "settings":
        return Effect(how, mean_interval(values, confidence))
    if len(values) > 1 and _all_same(values):
        return Effect("same", mean_interval(values, confidence))
    mean, p = paired(values, confidence)
    if not family:
        return Effect(how, mean, p)
    squares = math.fsum((value - mean.value) ** 2 for value in values)
    freedom = len(values) - 1
    error = math.sqrt(squares / freedom / len(values)) if freedom else 0.0
    return Effect(how, mean, p, detectable(error, freedom, (1 - confidence) / family))


def group_means(groups: Sequence[Cells], confidence: float) -> list[Mean | None]:
    """The mean of each group over its repeats, in those settings that every group was run in."""
    settings = [{rest for rest, _ in cells} for cells in groups if cells]
    shared = set.intersection(*settings) if settings else set()
    found: list[Mean | None] = []
    for cells in groups:
        kept = {key: c.value for key, c in cells.items() if not shared or key[0] in shared}
        how, values = repeats(kept)
        if how == "settings":
            # Different settings are no repeats of one mean.
            values = [math.fsum(values) / len(values)]
        found.append(mean_interval(values, confidence) if values else None)
    return found


def as_share(mean: Mean | None, metric: Mapping[str, Any]) -> Mean | None:
    """The mean of a share with the ends of its interval within 0 and 1, where shares are; the
    means of other metrics as they are. Student's interval does not know of these ends."""
    if mean is None or mean.low is None or mean.high is None or metric["format"] != "percent":
        return mean
    if not 0 <= mean.value <= 1:
        return mean
    return replace(mean, low=max(0.0, mean.low), high=min(1.0, mean.high))


def _slopes(
    groups: Sequence[Cells], numbers: Sequence[float]
) -> tuple[Literal["doubling", "range"], dict[Key, float]]:
    """The unit of a trend over the levels that were measured, and the slope of every repeat that
    has a value at each of them (measured in one way); none for fewer than three levels."""
    known = [place for place, cells in enumerate(groups) if cells]
    groups, numbers = [groups[place] for place in known], [numbers[place] for place in known]
    if len(numbers) < 3 or min(numbers) == max(numbers):
        return "range", {}
    wide = min(numbers) > 0 and max(numbers) / min(numbers) >= WIDE
    unit: Literal["doubling", "range"] = "doubling" if wide else "range"
    x = scaled(numbers, unit)
    whole = [
        key
        for key in groups[0]
        if all(key in cells for cells in groups)
        and len({cells[key].signature for cells in groups}) == 1
    ]
    return unit, {key: slope(x, [cells[key].value for cells in groups]) for key in whole}


def scaled(numbers: Sequence[float], unit: str) -> list[float]:
    """The levels in doublings, or as parts of the way from the lowest to the highest."""
    if unit == "doubling":
        return [math.log2(number) for number in numbers]
    low, high = min(numbers), max(numbers)
    return [(number - low) / (high - low) for number in numbers]


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """The slope of the line of least squares."""
    middle, level = math.fsum(x) / len(x), math.fsum(y) / len(y)
    above = math.fsum((a - middle) * (b - level) for a, b in zip(x, y, strict=True))
    found = above / math.fsum((a - middle) ** 2 for a in x)
    # A slope that rounding alone made is none.
    return 0.0 if abs(found) < 1e-12 * max(map(abs, y), default=0.0) else found
