"""What a sweep will do, before it does it: which stages are the same, the table of members, and
the time of all trainings."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from espalier.estimates import trainings_line
from espalier.explain import Estimated, dry_run
from espalier.machine import Machine, this_machine
from espalier.run import decisive
from espalier.running import context_of, planned, runner_of
from espalier.stages import TRAINING_SECONDS, load, stage_named
from espalier.sweep_file import MEMBERS, Member
from espalier.sweep_members import Plan, Planned
from espalier.sweep_stage import asks_engines
from espalier.terminal import columns, visible

ROWS = 40
# The store of stages under a budget: what one of them spends has to be known to the next.
ALL = "all"


@dataclass(frozen=True)
class Step:
    """One stage of one member. Equal `id`s have equal results; others may turn out to.

    `store` names what only one worker at a time may use: the journals of engines.
    """

    stage: str
    id: str
    store: str | None
    disposable: bool


def steps_of(member: Planned, run: Path) -> list[Step]:
    """The member's stages in their order.

    An `id` is a hash of the stage's own options and the ids of the stages before it, from which
    it may take its inputs; a stage with the same runner (the other reward model) is not one of
    them.
    """
    steps: list[Step] = []
    runners: list[str] = []
    for name in planned(member.recipe):
        stage = stage_named(name)
        context, runner = context_of(stage, member.recipe, run), runner_of(stage)
        before = [
            step.id
            for step, other in zip(steps, runners, strict=True)
            if other != stage.runner and not step.disposable
        ]
        value = [name, decisive(context, runner), before, member.name if stage.disposable else ""]
        text = json.dumps(value, sort_keys=True)
        store = None
        if stage.stores and asks_engines(context, stage):
            store = ALL if member.recipe.shared.budget is not None else name
        digest = hashlib.sha256(text.encode()).hexdigest()
        steps.append(Step(name, digest, store, stage.disposable))
        runners.append(stage.runner)
    return steps


def counts(steps: Sequence[Sequence[Step]]) -> dict[str, tuple[int, int]]:
    """By stage, how many different ones there are (at most), of how many."""
    every = Counter(step.stage for one in steps for step in one)
    different = Counter(
        name for name, _ in {(step.stage, step.id) for one in steps for step in one}
    )
    return {name: (different[name], count) for name, count in every.items()}


def table(
    plan: Plan,
    folder: Path,
    before: Mapping[str, Member],
    machine: Machine | None = None,
    price: float | None = None,
) -> str:
    """The members with their settings, what is shared, and the plan of the first member.

    Trainings are estimated for `machine` (None: this one), at `price` for an hour of one GPU.
    """

    @cache
    def found() -> Machine:
        return machine or this_machine()

    steps = [steps_of(member, folder / MEMBERS / member.name) for member in plan.members]
    heads = [factor.label for factor in plan.factors]
    rows = [("member", *heads, "seed", "so far")]
    for member in plan.members:
        levels = [visible(str(member.settings[factor.key])) for factor in plan.factors]
        known = before.get(member.name)
        rows.append((member.name, *levels, str(member.seed), known.status if known else "-"))
    lines = [f"{len(plan.members)} members in {folder}", *columns(rows[: ROWS + 1])]
    if len(rows) > ROWS + 1:
        lines.append(f"… and {len(rows) - ROWS - 1} more")
    shared = counts(steps)
    runs, every = (sum(pair[place] for pair in shared.values()) for place in (0, 1))
    told = ", ".join(f"{name} {pair[0]}/{pair[1]}" for name, pair in shared.items())
    lines += ["", f"at most {runs} stage runs instead of {every}: {told}"]
    lines += in_all(plan, steps, folder, found, price)
    first = plan.members[0]
    lines += ["", f"the stages of {first.name}:"]
    estimated = Estimated(first.recipe, lambda: replace(found(), count=1), price)
    lines.append(dry_run(first.recipe, folder / MEMBERS / first.name, None, estimated=estimated))
    return "\n".join(lines)


def in_all(
    plan: Plan,
    steps: Sequence[Sequence[Step]],
    folder: Path,
    machine: Callable[[], Machine],
    price: float | None = None,
) -> list[str]:
    """The time of all different trainings, as if none were done; none where there is no training.

    Members train on one GPU each, so many at a time as there are.
    """
    different = {
        (step.stage, step.id): member
        for member, own in zip(plan.members, steps, strict=True)
        for step in own
        if stage_named(step.stage).section.startswith("train.")
    }
    if not different:
        return []
    found = machine()
    alone = replace(found, count=1)
    abreast = min(found.count, len(plan.members))
    times: list[float | None] = []
    for (name, _), member in different.items():
        context = context_of(stage_named(name), member.recipe, folder / MEMBERS / member.name)
        with context.own_code():
            seconds = load(TRAINING_SECONDS)(context, member.recipe, alone)
        times.append(None if seconds is None else seconds / abreast)
    count = len(times)
    which = f"at most {count} different trainings" if count > 1 else "the one training"
    return [trainings_line(times, which, replace(found, count=abreast), price)]
