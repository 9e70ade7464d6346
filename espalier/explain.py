"""What a recipe will do, before it does it: every option with its meaning, and the step plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from espalier.errors import EspalierError
from espalier.estimates import trainings_line
from espalier.machine import Machine, named_machine, this_machine
from espalier.recipe import Recipe
from espalier.run import StageContext, planned_outcome
from espalier.running import check_models, context_of, planned, runner_of
from espalier.stages import NAMES, TRAINING, Stage, load, stage_named


def explain(
    recipe: Recipe, run: Path, *, gpu: str | None = None, price: float | None = None
) -> str:
    """The resolved recipe, each field with its value and meaning, then the plan of its stages.

    Trainings are estimated for this machine, or for the `gpu` that is named (`named_machine`),
    at `price` for an hour of one.
    """
    lines = [f"# {recipe.shared.name}: resolved recipe (every default written out)"]
    lines.extend(_describe(recipe.values, 0))
    lines.append("")
    lines.append("# plan")
    named = named_machine(gpu) if gpu else None
    estimated = Estimated(recipe, lambda: named or this_machine(), price)
    lines.extend(_plan(recipe, run, planned(recipe), estimated))
    lines.extend(estimated.in_all())
    return "\n".join(lines)


def dry_run(
    recipe: Recipe, run: Path, names: list[str] | None, *, estimated: Estimated | None = None
) -> str:
    """One line a stage: up to date, resume, changed (and what) or to run.

    With `estimated` also the steps, memory and time of each training.
    """
    wanted = [name for name in NAMES if name in (names or planned(recipe))]
    check_models(recipe, run, wanted, network=False)
    return "\n".join(_plan(recipe, run, wanted, estimated))


@dataclass
class Estimated:
    """For what machine trainings are estimated; it is looked at when there is a training.

    `times` are the seconds of each training told so far.
    """

    recipe: Recipe
    machine_at_hand: Callable[[], Machine]
    price: float | None
    times: list[float | None] = field(default_factory=list)

    @cached_property
    def machine(self) -> Machine:
        """The machine, looked at once."""
        return self.machine_at_hand()

    def lines(self, context: StageContext) -> list[str]:
        """What a training stage takes."""
        lines: list[str]
        lines, seconds = load(TRAINING)(context, self.recipe, self.machine, self.price)
        self.times.append(seconds)
        return lines

    def in_all(self) -> list[str]:
        """The time of all trainings, one after the other, where there are several."""
        if len(self.times) < 2:
            return []
        which = f"all {len(self.times)} trainings"
        return ["", trainings_line(self.times, which, self.machine, self.price)]


def _plan(
    recipe: Recipe, run: Path, names: list[str], estimated: Estimated | None = None
) -> list[str]:
    lines = []
    for name in names:
        stage = stage_named(name)
        context = context_of(stage, recipe, run)
        with context.own_code():
            lines.extend(_planned(stage, context))
            if estimated is not None and stage.section.startswith("train."):
                lines.extend(f"{'':<12}   {text}" for text in estimated.lines(context))
    return lines


def _planned(stage: Stage, context: StageContext) -> list[str]:
    try:
        outcome = planned_outcome(context, runner_of(stage))
    except EspalierError as error:
        # An input that an earlier stage will write is no mistake yet.
        outcome = f"to run (waits for: {error.where or error.what})"
    lines = [f"{stage.name:<12} {stage.purpose}: {outcome}"]
    module = load(stage.runner)
    if hasattr(module, "plan"):
        lines.extend(f"{'':<12}   {text}" for text in module.plan(context))
    return lines


def _describe(model: BaseModel, depth: int) -> list[str]:
    lines = []
    pad = "  " * depth
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            lines.append(f"{pad}{name}:  # {info.description or ''}".rstrip(" #"))
            lines.extend(_describe(value, depth + 1))
        elif isinstance(value, list) and any(isinstance(item, BaseModel) for item in value):
            lines.append(f"{pad}{name}:  # {info.description or ''}".rstrip(" #"))
            for item in value:
                if not isinstance(item, BaseModel):
                    lines.append(f"{pad}  - {_value(item)}")
                    continue
                inner = _describe(item, depth + 2)
                lines.append(f"{pad}  - {inner[0].strip()}")
                lines.extend(inner[1:])
        else:
            shown = _value(value)
            note = info.description or ""
            choices = _choices(info.annotation)
            if choices:
                note = f"{note} [{' | '.join(choices)}]".strip()
            lines.append(f"{pad}{name}: {shown}" + (f"  # {note}" if note else ""))
    return lines


def _value(value: Any) -> str:
    import yaml

    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...").strip()


def _choices(annotation: Any) -> list[str]:
    from typing import Literal

    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    if get_origin(annotation) in (Union, UnionType):
        return [choice for part in get_args(annotation) for choice in _choices(part)]
    return []
