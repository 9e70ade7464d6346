"""The one table of the stages: configuration, runner and verbs, loaded when used.

Everything is named as text (`"module:name"`), so the trunk depends on no stage. A runner module
has two functions:

    inputs(context) -> Mapping[str, Path]   what the result depends on, hashed into a fingerprint
    run(context) -> Mapping[str, Any]       does or goes on with the work; returns counts
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from espalier.errors import UsageError


@dataclass(frozen=True, slots=True)
class Stage:
    """One row of the table: `section` is the dotted place of its options in a recipe.

    A `disposable` result costs nothing to make again; it is not kept when the stage changes. A
    `parallel` stage can run on several processes. `stores` are folders of the stage in which
    answers are kept by what decides them, so that other runs of the stage can use them.
    """

    name: str
    section: str
    runner: str
    uses: tuple[str, ...]
    purpose: str
    disposable: bool = False
    parallel: bool = False
    stores: tuple[str, ...] = ()


# What of the shared options decides a result that models, or engines too, have a part in.
WITH_MODELS = ("seed", "data", "trust_remote_code")
WITH_ENGINES = (*WITH_MODELS, "teacher", "judge")

# In the order in which they run.
STAGES: tuple[Stage, ...] = (
    Stage(
        "curate", "curate", "espalier.curate.stage", WITH_ENGINES,
        "seeds or raw data -> clean, deduplicated, decontaminated dataset", stores=("journal",),
    ),
    Stage(
        "data_report", "curate", "espalier.reports.data_stage", (),
        "HTML page about the curated data", True,
    ),
    Stage(
        "base", "train.base", "espalier.train.base", ("seed", "data"),
        "train a tiny base model from scratch", parallel=True,
    ),
    Stage(
        "sft", "train.sft", "espalier.train.sft", WITH_MODELS, "supervised fine-tuning",
        parallel=True,
    ),
    Stage(
        "pairs", "curate.pairs", "espalier.curate.pairs", WITH_ENGINES,
        "judged samples of the SFT model as preference pairs", stores=("journal",),
    ),
    Stage(
        "reward", "train.reward", "espalier.train.reward", WITH_MODELS, "reward model",
        parallel=True,
    ),
    Stage(
        "reward_eval", "train.reward_eval", "espalier.train.reward", WITH_MODELS,
        "second reward model, for evaluation only", parallel=True,
    ),
    Stage(
        "ppo", "train.ppo", "espalier.train.ppo", WITH_MODELS, "PPO or A2C", parallel=True
    ),
    Stage(
        "evaluate", "evaluate", "espalier.evaluate.stage", (*WITH_MODELS, "judge"),
        "answers and scores of every model", stores=("journal", "answers/.store"),
    ),
    Stage("report", "report", "espalier.reports.stage", (), "one self-contained HTML page", True),
)  # fmt: skip

# Top-level sections of a recipe and the configuration classes that own them; `sweep` is of no
# stage: it says which runs the recipe is run as.
SECTIONS = {
    "curate": "espalier.curate.config:CurateConfig",
    "train": "espalier.train.config:TrainConfig",
    "evaluate": "espalier.evaluate.config:EvaluateConfig",
    "report": "espalier.reports.config:ReportConfig",
    "sweep": "espalier.sweep_config:SweepConfig",
}

# Modules whose `register(subparsers)` adds a stage's verbs to the command line.
VERBS = (
    "espalier.curate.cli",
    "espalier.train.cli",
    "espalier.evaluate.cli",
    "espalier.reports.cli",
)

NAMES = tuple(stage.name for stage in STAGES)

# Builds the page of curated data that belongs to no run: (curate folder, page) -> None.
DATA_PAGE = "espalier.reports.data_page:build_data_page"
# Builds the page of a sweep from its finished members: (sweep folder) -> the page's path.
SWEEP_PAGE = "espalier.reports.sweep_page:build_sweep_page"
# What a training takes: (context, recipe, machine, price of an hour of a GPU) -> lines, and the
# seconds, None where they are not known.
TRAINING = "espalier.train.estimate:estimate"
# These seconds alone: (context, recipe, machine) -> seconds, None where it is not known.
TRAINING_SECONDS = "espalier.train.estimate:stage_seconds"
# Reads rubrics of one's own: (file names, where a name is) -> scales.
RUBRICS = "espalier.evaluate.judge_rubrics:scales_of"
# Compares the scores of whole sets of the same model in two runs:
# (folders, (reference, run, model, metric) each, confidence, how many comparisons) -> those found.
RUN_PAIRS = "espalier.evaluate.run_pairs:run_pairs"


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
