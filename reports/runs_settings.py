"""Which runs are repeats of each other, and what a sweep varied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from espalier.reports.runs_recipes import Change
from espalier.reports.strings import t


@dataclass(frozen=True)
class Factor:
    """Keys that change together, as one thing that a sweep varied.

    `levels` are their values as text, in the order of their numbers where they are numbers, else
    of the runs; `place` is the level of each run. `numbers`: the levels, where one key of numbers.
    """

    keys: tuple[str, ...]
    label: str
    levels: tuple[tuple[str | None, ...], ...]
    place: tuple[int, ...]
    numbers: tuple[float, ...] | None


@dataclass(frozen=True)
class Setting:
    """Runs that differ in nothing but seeds: their places, and the level of each factor."""

    runs: tuple[int, ...]
    levels: tuple[int, ...]


@dataclass(frozen=True)
class Sweep:
    """What was varied; `seeds` says of each run which seeds it had, None where all had the same."""

    factors: tuple[Factor, ...]
    settings: tuple[Setting, ...]
    seeds: tuple[tuple[str | None, ...], ...]

    @property
    def is_one(self) -> bool:
        """Whether there are repeats, or three settings at least."""
        repeats = any(len(setting.runs) > 1 for setting in self.settings)
        return len(self.settings) > 1 and (repeats or len(self.settings) > 2)


def sweep_of(changes: Sequence[Change], runs: int) -> Sweep:
    """Factors from the keys that differ, settings from the runs that agree in all factors."""
    varied = [change for change in changes if not change.seed]
    names = short_names([change.key for change in varied])
    groups: dict[tuple[int, ...], list[Change]] = {}
    for change in varied:
        groups.setdefault(_partition(change.values), []).append(change)
    factors = tuple(_factor(group, names) for group in groups.values())
    settings: dict[tuple[int, ...], list[int]] = {}
    for run in range(runs):
        settings.setdefault(tuple(factor.place[run] for factor in factors), []).append(run)
    seeds = tuple(
        tuple(change.values[run] for change in changes if change.seed) for run in range(runs)
    )
    return Sweep(
        factors,
        tuple(Setting(tuple(places), levels) for levels, places in settings.items()),
        seeds,
    )


def _partition(values: Sequence[str | None]) -> tuple[int, ...]:
    order = list(dict.fromkeys(values))
    return tuple(order.index(value) for value in values)


def _factor(group: Sequence[Change], names: dict[str, str]) -> Factor:
    rows = list(zip(*(change.values for change in group), strict=True))
    first = group[0]
    numbers: tuple[float, ...] | None = None
    levels = list(dict.fromkeys(rows))
    if len(group) == 1 and first.numbers and None not in first.numbers:
        by_row = {row: float(value or 0) for row, value in zip(rows, first.numbers, strict=True)}
        levels.sort(key=lambda row: by_row[row])
        numbers = tuple(by_row[level] for level in levels)
    label = t("list.comma").join(names[change.key] for change in group[:2])
    if len(group) > 2:
        label = t("runs.and_more", names=label, count=len(group) - 2)
    place = tuple(levels.index(row) for row in rows)
    return Factor(tuple(change.key for change in group), label, tuple(levels), place, numbers)


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """Each dotted key by its last parts, as few as tell it from the others."""
    found = {}
    for key in keys:
        parts = key.split(".")
        for count in range(1, len(parts) + 1):
            tail = ".".join(parts[-count:])
            if count == len(parts) or sum(_ends(other, tail) for other in keys) == 1:
                found[key] = tail
                break
    return found


def _ends(key: str, tail: str) -> bool:
    return key == tail or key.endswith("." + tail)


def level_text(level: Sequence[str | None]) -> str:
    """The values of a level as they are shown; a key that is not there is a dash."""
    return t("list.comma").join("\u2013" if value is None else value for value in level)


def setting_text(sweep: Sweep, setting: Setting) -> str:
    """`learning_rate = 0.001, kl = 0.05`; of a lone setting nothing."""
    return t("list.comma").join(
        f"{factor.label} = {level_text(factor.levels[level])}"
        for factor, level in zip(sweep.factors, setting.levels, strict=True)
    )
