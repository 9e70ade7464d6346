"""What a sweep answers: groups of runs, their means, the effects between them, and the trend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from espalier.reports.runs_paired import compare_runs
from espalier.reports.runs_rows import read_rows
from espalier.reports.runs_settings import Factor, Sweep, level_text, setting_text
from espalier.reports.runs_targets import Target
from espalier.reports.student import Mean
from espalier.reports.sweep_draws import draw_trends
from espalier.reports.sweep_effects import (
    Cell,
    Cells,
    Effect,
    How,
    Key,
    Trend,
    as_share,
    group_means,
    level_effects,
    levels_and_trend,
)

Kind = Literal["levels", "models", "draws", "seeds"]


@dataclass(frozen=True)
class Group:
    """The runs of one level, or one model in every run. `number` is a level that is one."""

    label: str
    number: float | None
    cells: Cells
    mean: Mean | None


@dataclass(frozen=True)
class Outcome:
    """The answer in numbers. `kind` says what the groups are: levels of `factor`, models, draws
    (settings of a random search), or one group alone where nothing but seeds was varied.

    `effects` compares each group with the `reference`, which itself has None; `trends` are by
    factor, `ends` their lowest and highest level as texts. `missing` are the finished members
    without the number.
    """

    kind: Kind
    metric: Mapping[str, Any]
    model: str
    factor: int | None
    factor_label: str
    groups: tuple[Group, ...]
    reference: int
    effects: tuple[Effect | None, ...]
    trends: Mapping[int, Trend]
    ends: Mapping[int, tuple[str, str]]
    missing: tuple[int, ...]

    @property
    def how(self) -> How:
        """What the effects rest on: the strongest basis that any of them has."""
        order: tuple[How, ...] = (
            "seeds",
            "settings",
            "draws",
            "same",
            "prompts",
            "once",
            "mixed",
            "none",
        )
        found = [e.how for e in self.effects if e] or [t.effect.how for t in self.trends.values()]
        return min(found, key=order.index) if found else "none"


@dataclass(frozen=True)
class Measured:
    """The finished members: their place is that of their run."""

    folders: Sequence[Path]
    summaries: Sequence[Mapping[str, Any] | None]
    seeds: Sequence[int]
    sweep: Sweep
    drawn: Sequence[bool]
    confidence: float


def level_outcome(
    target: Target, factor: int, reference: int, of: Measured, before: Outcome | None = None
) -> Outcome:
    """Levels of one factor, compared on runs that agree in seed and all other options.

    Where every level ran once the effects are those over prompts; `before` is the same outcome in
    another language, they are taken from it.
    """
    levels = of.sweep.factors[factor].levels
    numbers = of.sweep.factors[factor].numbers
    cells = level_cells(target, factor, of)
    means = [as_share(mean, target.metric) for mean in group_means(cells, of.confidence)]
    groups = tuple(
        Group(level_text(level), None if numbers is None else numbers[place], own, mean)
        for place, (level, own, mean) in enumerate(zip(levels, cells, means, strict=True))
    )
    higher = bool(target.metric["higher_is_better"])
    effects, trend = levels_and_trend(cells, numbers, reference, higher, of.confidence)
    known = [place for place, own in enumerate(cells) if own]
    if _all_once(effects):
        told = before.effects if before else _level_prompts(target, groups, reference, of)
        effects = [e if own is None else own for e, own in zip(effects, told, strict=True)]
    trends = {factor: trend} if trend and len(groups[reference].cells) else {}
    return Outcome(
        "levels" if len(levels) > 1 else "seeds",
        target.metric,
        target.model_label,
        factor,
        of.sweep.factors[factor].label,
        groups,
        reference,
        tuple(effects),
        trends,
        {place: _end_levels(of.sweep.factors[place], known) for place in trends},
        _missing([target]),
    )


def level_cells(target: Target, factor: int, of: Measured) -> list[dict[Key, Cell]]:
    """The values at each level, by the levels of the other factors and the seed."""
    cells: list[dict[Key, Cell]] = [{} for _ in of.sweep.factors[factor].levels]
    for run, value in enumerate(target.values):
        if value is not None:
            places = [f.place[run] for f in of.sweep.factors]
            rest = (*places[:factor], *places[factor + 1 :])
            cells[places[factor]][rest, of.seeds[run]] = _cell(value, run)
    return cells


def model_outcome(targets: Sequence[Target], of: Measured, *, smallest: bool = True) -> Outcome:
    """Models, each compared with the first within the same run; `smallest`: with what was
    detectable."""
    cells: list[dict[Key, Cell]] = [
        {
            (_rest(of.sweep, run), of.seeds[run]): _cell(value, run)
            for run, value in enumerate(target.values)
            if value is not None
        }
        for target in targets
    ]
    higher = bool(targets[0].metric["higher_is_better"])
    effects = level_effects(cells, 0, higher, of.confidence, smallest=smallest)
    if _all_once(effects):
        told = [_model_prompts(targets[0], target, of.summaries) for target in targets]
        effects = [e and (own or e) for e, own in zip(effects, told, strict=True)]
    groups = tuple(
        Group(target.model_label, None, own, as_share(mean, target.metric))
        for target, own, mean in zip(targets, cells, group_means(cells, of.confidence), strict=True)
    )
    return Outcome(
        "models",
        targets[0].metric,
        "",
        None,
        "",
        groups,
        0,
        tuple(effects),
        {},
        {},
        _missing(targets),
    )


def draw_outcome(target: Target, of: Measured) -> Outcome:
    """The settings of a random search, best first, and the trend over each option drawn."""
    higher = bool(target.metric["higher_is_better"])
    groups = []
    for setting in of.sweep.settings:
        cells: dict[Key, Cell] = {
            ((), of.seeds[run]): _cell(value, run)
            for run in setting.runs
            if (value := target.values[run]) is not None
        }
        mean = as_share(group_means([cells], of.confidence)[0], target.metric)
        groups.append((Group(setting_text(of.sweep, setting), None, cells, mean), setting))
    known = [(group, setting) for group, setting in groups if group.mean is not None]
    known.sort(key=lambda pair: _value(pair[0]) * (-1 if higher else 1))
    varied = [
        place for place, factor in enumerate(of.sweep.factors)
        if of.drawn[place] and factor.numbers is not None
    ]  # fmt: skip
    columns = [
        [(of.sweep.factors[place].numbers or ())[setting.levels[place]] for _, setting in known]
        for place in varied
    ]
    values = [_value(group) for group, _ in known]
    found = draw_trends(columns, values, higher, of.confidence) if known else None
    trends = dict(zip(varied, found or (), strict=False))
    return Outcome(
        "draws",
        target.metric,
        target.model_label,
        None,
        "",
        tuple(group for group, _ in known),
        0,
        (),
        trends,
        {
            place: _end_levels(of.sweep.factors[place], (one.levels[place] for _, one in known))
            for place in trends
        },
        _missing([target]),
    )


def _end_levels(factor: Factor, places: Iterable[int]) -> tuple[str, str]:
    """The lowest and the highest of these levels, as texts."""
    numbers = factor.numbers or ()
    used = sorted(set(places), key=lambda place: numbers[place])
    return level_text(factor.levels[used[0]]), level_text(factor.levels[used[-1]])


def _value(group: Group) -> float:
    return group.mean.value if group.mean else 0.0


def _cell(value: Mapping[str, Any], run: int) -> Cell:
    return Cell(float(value["value"]), str(value["signature"]), run)


def _rest(sweep: Sweep, run: int) -> tuple[int, ...]:
    return tuple(factor.place[run] for factor in sweep.factors)


def _missing(targets: Sequence[Target]) -> tuple[int, ...]:
    runs = range(len(targets[0].values))
    return tuple(run for run in runs if any(target.values[run] is None for target in targets))


def _all_once(effects: Sequence[Effect | None]) -> bool:
    found = [effect.how for effect in effects if effect is not None]
    return "once" in found and set(found) <= {"once", "none"}


def _level_prompts(
    target: Target, groups: Sequence[Group], reference: int, of: Measured
) -> list[Effect | None]:
    """Each level against the reference over the prompts that the one pair of runs shares."""
    found: list[Effect | None] = [None] * len(groups)
    start = groups[reference].cells
    pairs: dict[Key, list[tuple[int, int]]] = {}
    for place, group in enumerate(groups):
        key = next((key for key in group.cells if key in start and place != reference), None)
        if key is not None:
            pairs.setdefault(key, []).append((place, group.cells[key].run))
    for key, others in pairs.items() if target.kind == "score" else ():
        runs = [start[key].run, *(run for _, run in others)]
        folders = [of.folders[run] for run in runs]
        values = tuple(target.values[run] for run in runs)
        rows = [read_rows(folder) for folder in folders]
        entries = compare_runs([replace(target, values=values)], rows, of.confidence, folders)
        for entry in entries:
            if entry["reference"] == 0:
                found[others[entry["run"] - 1][0]] = _of_entry(entry)
    return found


def _model_prompts(
    reference: Target, target: Target, summaries: Sequence[Mapping[str, Any] | None]
) -> Effect | None:
    """What the one run's own evaluation says of the two models."""
    name = target.metric["name"]
    for summary in summaries:
        for entry in (summary or {}).get("comparisons", []):
            if entry["metric"] != name or entry.get("difference") is None:
                continue
            pair = (entry["model"], entry["baseline"])
            if pair == (target.model, reference.model):
                return _of_entry(entry)
            if pair == (reference.model, target.model):
                turned = {"better": "worse", "worse": "better"}
                low, high = entry.get("low"), entry.get("high")
                return _of_entry(
                    {
                        **entry,
                        "difference": -entry["difference"],
                        "low": None if high is None else -high,
                        "high": None if low is None else -low,
                        "verdict": turned.get(entry["verdict"], entry["verdict"]),
                    }
                )
    return None


def _of_entry(entry: Mapping[str, Any]) -> Effect:
    mean = Mean(entry["difference"], entry.get("low"), entry.get("high"), int(entry.get("n") or 0))
    return Effect("prompts", mean, entry.get("p_value"), None, str(entry["verdict"]))
