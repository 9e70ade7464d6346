"""The one table of the stages: configuration, runner and verbs, loaded when used.

Everything is named as text (`"module:name"`), so the trunk depends on no stage. A runner module
has two functions:

    inputs(context) -> Mapping[str, Path]   what the result depends on, hashed into a fingerprint
    run(context) -> Mapping[str, Any]       does or goes on with the work; returns counts
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espalier.errors import UsageError

if TYPE_CHECKING:
    from espalier.recipe import Recipe
    from espalier.run import Outcome, StageContext, StageRunner


@dataclass(frozen=True, slots=True)
class Stage:
    """One row of the table: `section` is the dotted place of its options in a recipe."""

    name: str
    section: str
    runner: str
    uses: tuple[str, ...]
    purpose: str


# In the order in which they run.
STAGES: tuple[Stage, ...] = (
    Stage(
        "curate", "curate", "espalier.curate.stage", ("seed", "data", "teacher", "judge"),
        "seeds or raw data -> clean, deduplicated, decontaminated dataset",
    ),
    Stage(
        "base", "train.base", "espalier.train.base", ("seed", "data"),
        "train a tiny base model from scratch",
    ),
    Stage("sft", "train.sft", "espalier.train.sft", ("seed", "data"), "supervised fine-tuning"),
    Stage(
        "pairs", "curate.pairs", "espalier.curate.pairs", ("seed", "data", "teacher", "judge"),
        "judged samples of the SFT model as preference pairs",
    ),
    Stage("reward", "train.reward", "espalier.train.reward", ("seed", "data"), "reward model"),
    Stage(
        "reward_eval", "train.reward_eval", "espalier.train.reward", ("seed", "data"),
        "second reward model, for evaluation only",
    ),
    Stage("ppo", "train.ppo", "espalier.train.ppo", ("seed", "data"), "PPO or A2C"),
    Stage(
        "evaluate", "evaluate", "espalier.evaluate.stage", ("seed", "data"),
        "answers and scores of every model",
    ),
    Stage("report", "report", "espalier.reports.stage", (), "one self-contained HTML page"),
)  # fmt: skip

# Top-level sections of a recipe and the configuration classes that own them.
SECTIONS = {
    "curate": "espalier.curate.config:CurateConfig",
    "train": "espalier.train.config:TrainConfig",
    "evaluate": "espalier.evaluate.config:EvaluateConfig",
    "report": "espalier.reports.config:ReportConfig",
}

# Modules whose `register(subparsers)` adds a stage's verbs to the command line.
VERBS = (
    "espalier.curate.cli",
    "espalier.train.cli",
    "espalier.evaluate.cli",
    "espalier.reports.cli",
)

NAMES = tuple(stage.name for stage in STAGES)


def load(reference: str) -> Any:
    """The object behind `"module:name"`, or the module behind `"module"`."""
    module, _, name = reference.partition(":")
    loaded = importlib.import_module(module)
    return getattr(loaded, name) if name else loaded


def stage_named(name: str) -> Stage:
    """The table's row; raises UsageError with the valid names."""
    for stage in STAGES:
        if stage.name == name:
            return stage
    raise UsageError(f"There is no stage '{name}'.", expected=" ".join(NAMES))


def runner_of(stage: Stage) -> StageRunner:
    """Load a stage's runner module."""
    from espalier.run import StageRunner

    module = load(stage.runner)
    return StageRunner(stage.runner, stage.uses, module.inputs, module.run)


def context_of(
    stage: Stage, recipe: Recipe, run: Path, *, folder: Path | None = None
) -> StageContext:
    """What the stage's runner is given; raises UsageError when the recipe lacks its section."""
    from espalier.run import StageContext

    options = recipe.section(stage.section)
    if options is None:
        raise UsageError(
            f"The recipe '{recipe.shared.name}' has no section '{stage.section}'.",
            where=str(recipe.path or ""),
            hint=f"add '{stage.section}:' to the recipe, or leave the stage '{stage.name}' out",
        )
    return StageContext(stage.name, run, folder or run / stage.name, options, recipe.shared)


def run_stage(name: str, recipe: Recipe, run: Path, *, folder: Path | None = None) -> Outcome:
    """Bring one stage of a run up to date (see `espalier.run.execute`)."""
    from espalier.run import execute

    stage = stage_named(name)
    return execute(context_of(stage, recipe, run, folder=folder), runner_of(stage))


def run_stages(recipe: Recipe, run: Path, names: Iterable[str] | None = None) -> dict[str, Outcome]:
    """Run the named stages, or all that the recipe has, in their order."""
    from espalier.files import atomic_write_text

    wanted = set(names) if names is not None else set(planned(recipe))
    for name in wanted:
        stage_named(name)
    run.mkdir(parents=True, exist_ok=True)
    atomic_write_text(run / "recipe.resolved.yaml", recipe.resolved_yaml())
    return {name: run_stage(name, recipe, run) for name in NAMES if name in wanted}


def planned(recipe: Recipe) -> list[str]:
    """Names of the stages that the recipe has a section for, in their order."""
    return [stage.name for stage in STAGES if recipe.section(stage.section) is not None]
