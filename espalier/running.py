"""Running the stages of a recipe: what joins the table of stages, recipes and run folders."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from espalier import launch
from espalier.errors import UsageError
from espalier.files import atomic_write_text
from espalier.hub import check_at_hand
from espalier.models import check_source
from espalier.recipe import Recipe
from espalier.run import MANIFEST, Outcome, StageContext, StageRunner, execute
from espalier.stages import DATA_PAGE, NAMES, STAGES, Stage, load, stage_named
from espalier.sweep_file import is_sweep


def runner_of(stage: Stage) -> StageRunner:
    """Load a stage's runner module."""
    module = load(stage.runner)
    prefix = f"{stage.section}."
    nested = [s.section.removeprefix(prefix) for s in STAGES if s.section.startswith(prefix)]
    return StageRunner(
        stage.runner,
        stage.uses,
        module.inputs,
        module.run,
        ignores=tuple(nested),
        disposable=stage.disposable,
        parallel=stage.parallel,
    )


def context_of(
    stage: Stage, recipe: Recipe, run: Path, *, folder: Path | None = None
) -> StageContext:
    """What the stage's runner is given; raises UsageError when the recipe lacks its section."""
    options = recipe.section(stage.section)
    if options is None:
        raise UsageError(
            f"The recipe '{recipe.shared.name}' has no section '{stage.section}'.",
            where=str(recipe.path or ""),
            hint=f"add '{stage.section}:' to the recipe, or leave the stage '{stage.name}' out",
        )
    return StageContext(stage.name, run, folder or run / stage.name, options, recipe.shared)


def run_stage(
    name: str, recipe: Recipe, run: Path, *, folder: Path | None = None, processes: int = 1
) -> Outcome:
    """Bring one stage of a run up to date (see `espalier.run.execute`).

    Training stages run on so many `processes`, the others always in this one.
    """
    launch.refuse_other_launchers()
    stage = stage_named(name)
    context = context_of(stage, recipe, run, folder=folder)
    return execute(context, runner_of(stage), processes=processes)


def run_stages(
    recipe: Recipe, run: Path, names: Iterable[str] | None = None, *, processes: int = 1
) -> dict[str, Outcome]:
    """Run the named stages, or all that the recipe has, in their order (see `run_stage`)."""
    launch.refuse_other_launchers()
    wanted = set(names) if names is not None else set(planned(recipe))
    for name in wanted:
        stage_named(name)
    if is_sweep(run):
        raise UsageError(
            "This folder holds a sweep, not a run.",
            where=str(run),
            hint="`espalier sweep RECIPE` goes on with it; --run NAME is another folder",
        )
    check_models(recipe, run, wanted)
    run.mkdir(parents=True, exist_ok=True)
    atomic_write_text(run / "recipe.resolved.yaml", recipe.resolved_yaml())
    return {
        name: run_stage(name, recipe, run, processes=processes) for name in NAMES if name in wanted
    }


def check_models(recipe: Recipe, run: Path, names: Iterable[str], *, network: bool = True) -> None:
    """Before anything runs: raises InputError for a model to train that can't be had.

    Without `network` any name that the hub could know passes.
    """
    for name in names:
        stage = stage_named(name)
        options = recipe.section(stage.section)
        text = getattr(options, "model", None)
        if not stage.section.startswith("train.") or not isinstance(text, str) or text in NAMES:
            continue
        context = context_of(stage, recipe, run)
        path = context.path(text)
        # A model of this run may be made by an earlier stage of it.
        if path.resolve().is_relative_to(run.resolve()):
            continue
        source = check_source(path if path.exists() or "${data}" in text else text)
        # What was trained may need no model any more.
        if network and not (context.folder / MANIFEST).is_file():
            check_at_hand(source, f"{stage.section}.model")


def planned(recipe: Recipe) -> list[str]:
    """Names of the stages that the recipe has a section for, in their order."""
    return [stage.name for stage in STAGES if recipe.section(stage.section) is not None]


def write_data_page(curated: Path, page: Path) -> None:
    """The HTML page about a folder of curated data that is no stage of a run."""
    load(DATA_PAGE)(curated, page)
