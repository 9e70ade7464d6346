"""The members of a sweep: all combinations of levels, or draws, by variant and seed.

grid       every variant × every combination of the levels in `over`
draws      every variant × so many points, each value drawn from its range or its list
repeats    each of these with every seed; all of the first seed come first
"""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from espalier.errors import UsageError
from espalier.recipe import Draft, KeyPath, Recipe, hides, numbers_in
from espalier.sweep_answer import answer_of
from espalier.sweep_config import Draw, SweepConfig
from espalier.sweep_file import VARIANT, Factor
from espalier.sweep_names import labels, member_name, told_apart

# Drawn values have so many digits: they stay readable, and none is better for having more.
DIGITS = 4
# Draws that only repeat earlier ones, after which there is taken to be no other.
FRUITLESS = 1000
# Keys that change no result: what a run is called, and the section `sweep`, which no member has.
IDLE = ("name", "description", "report.title")

Settings = dict[str, Any]


@dataclass(frozen=True)
class Planned:
    """One member: its name, its level of each factor, its seed, and its recipe."""

    name: str
    settings: Settings
    seed: int
    draft: Draft
    recipe: Recipe


@dataclass(frozen=True)
class Plan:
    """What a sweep consists of. `base` is the recipe that all members start from; `answer` is the
    section of that name, its reference being one of the levels."""

    base: Recipe
    config: SweepConfig
    factors: list[Factor]
    members: list[Planned]
    answer: dict[str, Any] | None = None

    @property
    def points(self) -> int:
        """How many different points of `over` there are, each with every variant and seed."""
        seeds = {member.seed for member in self.members}
        return len(self.members) // (len(seeds) * max(1, len(self.config.variants)))


def plan_sweep(draft: Draft) -> Plan:
    """Every member of the recipe's section `sweep`, each validated.

    Raises UsageError where there is nothing to vary, for a wrong key or value, with the member and
    the line, and for a question that these members can't answer.
    """
    base = draft.recipe()
    config: SweepConfig | None = base.section("sweep")
    if config is None or not varies(config):
        raise UsageError(
            "There is nothing to vary.",
            where=str(draft.path or ""),
            expected="a section `sweep` in the recipe, or --over KEY=A,B or --seeds N",
            hint="for example --over train.sft.learning_rate=1e-5,1e-4 --seeds 3",
        )
    points = _points(config, base.shared.seed)
    settings = list(_combined(config, points))
    seeds = _seeds(config.seeds, base.shared.seed)
    label = labels(list(settings[0]))
    factors = _factors(config, points, label)
    _refuse_idle(draft, config)
    told = [(one, seed) for seed in seeds for one in settings]
    names = told_apart([member_name(one, label, seed) for one, seed in told], [o for o, _ in told])
    members = [
        _member(draft, base, name, one, seed) for name, (one, seed) in zip(names, told, strict=True)
    ]
    _refuse_equal(draft, members)
    answer = answer_of(draft, config, factors, [member.recipe for member in members])
    return Plan(base, config, factors, members, answer)


def varies(config: SweepConfig) -> bool:
    """Whether there is more than one member."""
    return bool(config.over or config.variants or _several(config.seeds))


def _several(seeds: int | list[int]) -> bool:
    return (seeds if isinstance(seeds, int) else len(seeds)) > 1


def _seeds(seeds: int | list[int], first: int) -> list[int]:
    return list(range(first, first + seeds)) if isinstance(seeds, int) else seeds


# --- levels ----------------------------------------------------------------------------------


def _points(config: SweepConfig, seed: int) -> list[Settings]:
    """The combinations of `over`, in the order in which they are run."""
    if config.draws is not None:
        return _drawn(config.over, config.draws, seed)
    levels = {key: numbers_in(value) for key, value in config.over.items()}
    return [
        dict(zip(levels, chosen, strict=True)) for chosen in itertools.product(*levels.values())
    ]


def _drawn(over: Mapping[str, Sequence[Any] | Draw], count: int, seed: int) -> list[Settings]:
    """So many different points; the first ones are the same for any count.

    Fewer where lists alone are drawn from and have fewer combinations.
    """
    rng = random.Random(f"sweep {seed}")
    points: list[Settings] = []
    fruitless = 0
    while len(points) < count and fruitless < FRUITLESS:
        point = {key: _value(levels, rng) for key, levels in over.items()}
        fruitless += 1
        if not any(_same(point, other) for other in points):
            points.append(point)
            fruitless = 0
    return points


def _same(one: Settings, other: Settings) -> bool:
    return all(
        value == other[key] and type(value) is type(other[key]) for key, value in one.items()
    )


def _value(levels: Sequence[Any] | Draw, rng: random.Random) -> Any:
    if not isinstance(levels, Draw):
        return numbers_in(levels[rng.randrange(len(levels))])
    low, high = (math.log(levels.low), math.log(levels.high)) if levels.log else (
        levels.low, levels.high
    )  # fmt: skip
    value = rng.uniform(low, high)
    value = math.exp(value) if levels.log else value
    value = round(value) if levels.whole else float(f"{value:.{DIGITS}g}")
    # Rounding must not lead out of the range.
    return type(value)(min(max(value, levels.low), levels.high))


def _combined(config: SweepConfig, points: list[Settings]) -> Iterator[Settings]:
    variants: list[Settings] = [{VARIANT: name} for name in config.variants] or [{}]
    for variant in variants:
        for point in points:
            yield variant | point


def _factors(config: SweepConfig, points: list[Settings], label: Mapping[str, str]) -> list[Factor]:
    found = []
    if config.variants:
        found.append(Factor(VARIANT, label[VARIANT], list(config.variants)))
    for key, given in config.over.items():
        if isinstance(given, Draw):
            levels = sorted({point[key] for point in points})
        else:
            levels = numbers_in(given)
        found.append(Factor(key, label[key], levels, config.draws is not None))
    return found


def _refuse_idle(draft: Draft, config: SweepConfig) -> None:
    """Raise UsageError for a key whose levels would be one and the same run.

    A variant may have a title; the name is that of all members.
    """
    keys: list[tuple[str, KeyPath]] = [(key, ("over", key)) for key in config.over]
    for variant, settings in config.variants.items():
        keys += [(key, ("variants", variant, key)) for key in settings]
    for key, place in keys:
        idle = IDLE if place[0] == "over" else IDLE[:1]
        if key in idle or key.partition(".")[0] == "sweep":
            raise UsageError(
                f"'{key}' changes no stage of a run, so there is nothing to compare.",
                where=draft.place(("sweep", *place)),
                expected="keys that a stage's result depends on",
                hint="--run NAME names the folder of a sweep" if key == "name" else None,
            )


# --- members ---------------------------------------------------------------------------------


def _member(draft: Draft, base: Recipe, name: str, settings: Settings, seed: int) -> Planned:
    """A member's recipe: the base recipe without `sweep`, with its settings and its seed.

    The recipe's name is that of all: results that members share can't have the name of one.
    """
    config: SweepConfig = base.section("sweep")
    changed: Settings = {"sweep": None, "name": base.shared.name}
    places: dict[str, KeyPath] = {}
    for key, level in settings.items():
        if key == VARIANT:
            changed |= {inner: numbers_in(value) for inner, value in config.variants[level].items()}
            places |= {
                inner: ("sweep", "variants", level, inner) for inner in config.variants[level]
            }
        else:
            changed[key] = level
            places[key] = _place(draft, config, key, level)
    try:
        made = _titled(draft.with_settings(changed, places), name)
        made = _reseeded(made, config.reseed, seed)
        return Planned(name, settings, seed, made, made.recipe())
    except UsageError as error:
        # A name is made of values, and a value that may not be shown has no place in a message.
        told = "A member" if hides(error) else f"The member {name}"
        raise UsageError(
            f"{told} of the sweep has a mistake. {error.what}",
            where=error.where,
            expected=error.expected,
            hint=error.hint,
        ) from error


def _refuse_equal(draft: Draft, members: Sequence[Planned]) -> None:
    """Raise UsageError for two members that are the same run, such as those of 1 and 1.0."""
    seen: dict[str, Planned] = {}
    for member in members:
        other = seen.setdefault(f"{member.seed} {_decisive(member.recipe)}", member)
        if other is not member:
            key = next(
                k for k, level in member.settings.items() if repr(level) != repr(other.settings[k])
            )
            place = ("variants", member.settings[key]) if key == VARIANT else ("over", key)
            raise UsageError(
                f"Two members would be one and the same run: {other.name} and {member.name} "
                f"({key}: {other.settings[key]!r:.60} and {member.settings[key]!r:.60}).",
                where=draft.place(("sweep", *place)),
                expected="levels that differ once they are read",
                hint="leave one of the two out",
            )


def _decisive(recipe: Recipe) -> str:
    """The resolved recipe without what the run is called, and without its page: a title gives even
    a recipe that has none a section `report`."""
    data = recipe.values.model_dump(mode="json")
    for key in ("name", "description", "report"):
        data.pop(key, None)
    return json.dumps(data, sort_keys=True)


def _titled(draft: Draft, name: str) -> Draft:
    """With the member's name in the title of its report, where it has one."""
    report = draft.data.get("report")
    if not isinstance(report, Mapping):
        return draft
    title = report.get("title")
    return draft.with_settings({"report.title": f"{title}: {name}" if title else name})


def _reseeded(draft: Draft, keys: Sequence[str], seed: int) -> Draft:
    """With the seed at each of the keys whose section this member has.

    Raises UsageError where it has none of them: its repeats would be one and the same run.
    """
    parents = {key: key.rpartition(".")[0] for key in keys}
    if any(parents.values()):
        recipe = draft.recipe()
        keys = [key for key in keys if not parents[key] or recipe.section(parents[key]) is not None]
    if not keys:
        raise UsageError(
            f"It has none of the sections that get a repeat's seed ({', '.join(parents)}).",
            where="sweep.reseed",
            hint="name keys that every member has, or `seed`",
        )
    return draft.with_settings(dict.fromkeys(keys, seed), dict.fromkeys(keys, ("sweep", "reseed")))


def _place(draft: Draft, config: SweepConfig, key: str, level: Any) -> KeyPath:
    """Where the recipe writes the level, or at least the key."""
    levels = config.over[key]
    if not isinstance(levels, Draw):
        number = next((n for n, one in enumerate(numbers_in(levels)) if one == level), 0)
        if ("sweep", "over", key, number) in draft.marks:
            return ("sweep", "over", key, number)
    return ("sweep", "over", key)
