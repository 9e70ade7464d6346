"""What the training stages of a recipe take, for `espalier recipe explain` and for sweeps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from espalier.data_facts import DataFacts, read_data
from espalier.errors import EspalierError
from espalier.estimates import (
    Episodes,
    Plan,
    model_line,
    ppo_lines,
    ppo_seconds,
    seconds_of,
    training_lines,
)
from espalier.machine import Machine
from espalier.model_facts import ModelFacts, Shape, preamble_tokens, read_model
from espalier.new_rows import rows_left
from espalier.recipe import Recipe
from espalier.run import MANIFEST, StageContext
from espalier.sizing import Load, Method
from espalier.train.config import BaseConfig, PPOConfig, RewardConfig, SFTConfig, block_numbers
from espalier.train.config_rl import PairSource
from espalier.train.reward_pairs import pair_sources
from espalier.train.sources import MODEL_STAGES, data_sources

_HALF = 0.5
# Stages that write data, with the section that has each of them.
_WRITERS = {"curate": "curate", "pairs": "curate.pairs"}
# Curation's pairs for the evaluation's reward model.
_EVALUATION = "preferences_eval.jsonl"


def estimate(
    context: StageContext, recipe: Recipe, machine: Machine, price: float | None
) -> tuple[list[str], float | None]:
    """Model, steps, memory and time of a training stage, one sentence a line, as much of it as
    can be told before the stages ahead of it have run; and its seconds, where they can be told."""
    try:
        found = _figures(context, recipe, machine)
    except EspalierError as error:
        return [f"no estimate: {error.what}"], None
    if found is None:
        why = "nothing is known of the model here (a folder, or a size in its name)"
        return [f"no estimate: {why}"], None
    own = isinstance(context.options, BaseConfig)
    lines = [] if own else [f"model: {model_line(found.model)}"]
    lines += found.notes
    if found.episodes is not None:
        lines += ppo_lines(
            found.model, found.load, found.episodes, machine, price, shared=found.shared
        )
    else:
        lines += training_lines(found.model, found.load, found.plan, machine, price)
    return lines, _seconds(found, machine)


def stage_seconds(context: StageContext, recipe: Recipe, machine: Machine) -> float | None:
    """The time of a training stage; None where it can't be told."""
    try:
        found = _figures(context, recipe, machine)
    except EspalierError:
        return None
    return None if found is None else _seconds(found, machine)


@dataclass(frozen=True)
class _Figures:
    """A training's sizes: what it starts from, and its rows (or episodes), as far as known, with
    remarks on the rows."""

    model: ModelFacts
    load: Load
    plan: Plan | None = None
    notes: Sequence[str] = ()
    episodes: Episodes | None = None
    shared: bool = False


def _figures(context: StageContext, recipe: Recipe, machine: Machine) -> _Figures | None:
    options = context.options
    if isinstance(options, BaseConfig):
        return _base(options, machine)
    model = _model(context, recipe)
    if model is None:
        return None
    if isinstance(options, PPOConfig):
        load = _load(options, machine, options.max_prompt_tokens + options.max_new_tokens)
        episodes = Episodes(
            options.iterations,
            options.rollout_batch,
            _prompt_tokens(context, recipe, options, model),
            options.max_new_tokens,
            1 if options.algorithm == "a2c" else options.epochs,
        )
        return _Figures(model, load, episodes=episodes, shared=options.critic == "shared")
    load = _load(options, machine, options.max_length, model.shape.layers)
    try:
        if isinstance(options, RewardConfig):
            pairs, notes = _pairs_plan(context, recipe, options, model)
            return _Figures(model, load, pairs, notes)
        plan, learnt, notes = _plan(context, recipe, options, model)
    except EspalierError as error:
        return _Figures(model, load, notes=[f"no estimate of the rows: {error.what}"])
    load = _load(options, machine, options.max_length, model.shape.layers, learnt)
    return _Figures(model, load, plan, notes)


def _base(options: BaseConfig, machine: Machine) -> _Figures:
    load = _load(options, machine, options.block, learnt=1.0)
    plan = Plan(options.steps * options.minibatch, options.block, 1, options.minibatch)
    return _Figures(_future_base(options), load, plan)


def _model(context: StageContext, recipe: Recipe) -> ModelFacts | None:
    """The model that a stage starts from; of a stage that has not run, the model of that one."""
    name: str | None = context.options.model
    if name is None:
        own = context.stage == "reward_eval" and recipe.section("train.base") is not None
        name = "base" if own else "sft"
    seen: set[str] = set()
    while name in MODEL_STAGES and name not in seen:
        seen.add(name)
        folder = context.stage_folder(name) / "model"
        if (folder / "config.json").is_file():
            return read_model(str(folder))
        before = recipe.section(f"train.{name}")
        if before is None or isinstance(before, BaseConfig):
            return _future_base(before) if before is not None else None
        name = before.model or "sft"
    return None if name in MODEL_STAGES else read_model(str(context.path(name)))


def _future_base(options: BaseConfig) -> ModelFacts:
    shape = Shape(
        options.hidden, options.layers, options.ffn, options.heads, options.hidden,
        options.hidden, options.vocabulary, tied=True,
    )  # fmt: skip
    return ModelFacts("base", "llama", shape, shape.parameters, "config", options.max_positions)


def _load(
    options: Any, machine: Machine, longest: int, layers: int = 0, learnt: float = _HALF
) -> Load:
    """The size of a stage's training as its options have it."""
    method, rank, part = _method(options, layers)
    fp32 = options.precision == "fp32" or (options.precision == "auto" and not machine.bf16)
    reward = isinstance(options, RewardConfig)
    return Load(
        method=method,
        rank=rank,
        bits=8 if getattr(getattr(options, "lora", None), "quantise", None) == "8bit" else 4,
        trained_part=part,
        optimizer=getattr(options, "optimizer", "adamw"),
        autocast=not fp32,
        checkpointing=options.gradient_checkpointing,
        token_budget=options.token_budget,
        longest=min(longest, options.token_budget),
        # A reward model has no logits of a vocabulary.
        learnt=0.0 if reward else learnt,
        gpus=machine.count,
        sharded=getattr(options, "distributed", "ddp") == "fsdp" and machine.count > 1,
        on_cpu=machine.device == "cpu",
    )


def _method(options: Any, layers: int) -> tuple[Method, int, float]:
    """How a stage trains: the method, the rank of its adapters, the part of all that learns."""
    lora = getattr(options, "lora", None)
    if lora is not None:
        return ("qlora" if getattr(lora, "quantise", None) else "lora"), lora.r, 1.0
    prompts = (getattr(options, "prompt_tuning", None), getattr(options, "adapter", None))
    if any(one is not None for one in prompts):
        return "frozen", 0, 1.0
    frozen = getattr(options, "freeze_layers", None)
    part = 1 - len(block_numbers(frozen)) / max(1, layers) if frozen and layers else 1.0
    return "full", 0, max(0.0, part)


def _seconds(found: _Figures, machine: Machine) -> float | None:
    if found.episodes is not None:
        return ppo_seconds(found.model, found.load, found.episodes, machine, shared=found.shared)
    if found.plan is None:
        return None
    return seconds_of(found.model, found.load, found.plan.tokens, machine)


# Rows ---------------------------------------------------------------------------------------


def _plan(
    context: StageContext, recipe: Recipe, options: SFTConfig, model: ModelFacts
) -> tuple[Plan | None, float, list[str]]:
    """Rows, passes and minibatches, the learnt part of the tokens, and remarks on the rows."""
    kept, notes = _examples(context, recipe, options, model)
    rows = sum(facts.rows for facts in kept)
    if not rows:
        return None, _HALF, notes
    extra = preamble_tokens(options.template, model)
    mean = sum(f.rows * f.mean_tokens(options.max_length, extra) for f in kept) / rows
    learnt = sum(f.rows * f.learnt_part for f in kept) / rows
    trained = max(1, round(rows * (1 - options.validation.fraction)))
    epochs = options.epochs
    if options.steps is not None:
        epochs = options.steps / math.ceil(trained / options.minibatch)
    return Plan(trained, mean, epochs, options.minibatch), learnt, notes


def _examples(
    context: StageContext, recipe: Recipe, options: SFTConfig, model: ModelFacts
) -> tuple[list[DataFacts], list[str]]:
    """The rows that are trained on, file by file, and remarks. For what curation has yet to write
    stand the files that it will read."""
    kept: list[DataFacts] = []
    notes: list[str] = []
    raw: list[DataFacts] | None = None
    for one in data_sources(options.data):
        path, stage = context.path(one.path), _awaited(context, recipe, one.path)
        found: list[DataFacts] = []
        if path.exists():
            found = _there(path, one.format or options.format, model)
        elif stage != "curate":
            notes.append(_not_counted(one.path, stage))
        elif raw is None:
            # Once: all files of curation come from the same sources.
            found = raw = _uncurated(context, recipe, model)
            notes += [] if raw else [_not_counted(one.path, stage)]
        kept += _at_most([f for f in found if f.kind == "examples"], one.limit or options.limit)
    return kept, [*notes, "rows as they are before curation:"] if raw else notes


def _uncurated(context: StageContext, recipe: Recipe, model: ModelFacts) -> list[DataFacts]:
    """The examples that curation will read, their dialogues split as it will split them."""
    found = _raw_files(context, recipe, "sft", model)
    return [_split(facts, recipe) for facts in found if facts.kind == "examples"]


def _split(facts: DataFacts, recipe: Recipe) -> DataFacts:
    dialogues = recipe.section("curate.dialogues")
    if dialogues is None or dialogues.max_tokens is None:
        return facts
    return rows_left(facts, dialogues.max_tokens, options=dialogues).facts


def _pairs_plan(
    context: StageContext, recipe: Recipe, options: RewardConfig, model: ModelFacts
) -> tuple[Plan | None, list[str]]:
    """Pairs, each of them a prompt with each of its two answers, and remarks on them."""
    kept, notes = _pairs(context, recipe, options, model)
    rows = sum(weight * facts.rows for weight, facts in kept)
    if not rows:
        return None, notes
    sft = recipe.section("train.sft")
    # A reward model reads as its policy does.
    extra = preamble_tokens(options.template or (sft and sft.template), model)
    sizes = [w * f.rows * f.mean_tokens(options.max_length, extra) for w, f in kept]
    share = 1 if options.validation is not None else 1 - options.validation_fraction
    trained = max(1, round(rows * share))
    return Plan(trained, 2 * sum(sizes) / rows, options.epochs, options.minibatch), notes


def _pairs(
    context: StageContext, recipe: Recipe, options: RewardConfig, model: ModelFacts
) -> tuple[list[tuple[int, DataFacts]], list[str]]:
    """The pairs that are trained on, file by file with its weight, and remarks. For what curation
    has yet to write stand the pairs that it will read."""
    kept: list[tuple[int, DataFacts]] = []
    notes: list[str] = []
    raw = False
    for one in _pair_files(context, recipe, options):
        path, stage = context.path(one.path), _awaited(context, recipe, one.path)
        found: list[DataFacts] = []
        if path.exists():
            found = _there(path, one.format, model)
        elif stage == "curate":
            found, why = _uncurated_pairs(context, recipe, one.path, model)
            raw, notes = raw or bool(found), notes + why
        else:
            notes.append(_not_counted(one.path, stage))
        pairs = _at_most([facts for facts in found if facts.kind == "pairs"], one.limit)
        kept += [(one.weight, facts) for facts in pairs]
    return kept, [*notes, "pairs as they are before curation:"] if raw else notes


def _pair_files(context: StageContext, recipe: Recipe, options: RewardConfig) -> list[PairSource]:
    """The files that the stage will read, those among them that another has yet to write."""
    listed = options.pairs
    if listed is None:
        listed = pair_sources(context)
        made = f"pairs/{Path(listed[0].path).name}"
        section = recipe.section("curate.pairs")
        wanted = section is not None and (context.stage == "reward" or section.eval_prompts)
        if wanted and _awaited(context, recipe, made) and made not in [s.path for s in listed]:
            listed.append(PairSource.model_validate({"path": made}))
    return [
        one
        for one in listed
        if not one.optional
        or context.path(one.path).exists()
        or _awaited(context, recipe, one.path)
    ]


def _uncurated_pairs(
    context: StageContext, recipe: Recipe, path: str, model: ModelFacts
) -> tuple[list[DataFacts], list[str]]:
    """What curation will write of the pairs that it reads, and why nothing where that is so."""
    found = [f for f in _raw_files(context, recipe, "preferences", model) if f.kind == "pairs"]
    rows = sum(facts.rows for facts in found)
    if not rows:
        return [], [_not_counted(path, "curate")]
    options = recipe.section("curate.preferences")
    wanted = 0 if options is None else options.eval_count
    drawn = min(wanted, rows)
    most = drawn
    if Path(path).name != _EVALUATION:
        count = None if options is None else options.count
        most = rows - drawn if count is None else min(count, rows - drawn)
    if not most:
        told = f"there are {rows:,}, and preferences.eval_count is {wanted:,}"
        return [], [f"no pair is left for {path}: {told}"]
    return _at_most(found, most), []


def _prompt_tokens(
    context: StageContext, recipe: Recipe, options: PPOConfig, model: ModelFacts
) -> float:
    """Mean tokens of the prompts that PPO answers: they are held out of what SFT learns from; the
    most they may have where that is not known."""
    sft = recipe.section("train.sft")
    try:
        kept = _examples(context, recipe, sft, model)[0] if sft is not None else []
    except EspalierError:
        kept = []
    rows = sum(facts.rows for facts in kept)
    if not rows:
        return float(options.max_prompt_tokens)
    extra = preamble_tokens(options.template or sft.template, model)
    limit = options.max_prompt_tokens
    return sum(facts.rows * facts.mean_prompt(limit, extra) for facts in kept) / rows


def _raw_files(
    context: StageContext, recipe: Recipe, use: str, model: ModelFacts
) -> list[DataFacts]:
    """The data files that curation would read for a use, as much as it takes of each."""
    found = []
    for source in recipe.section("curate.sources") or ():
        path = getattr(source, "path", None)
        if path is None or source.use not in ("auto", use):
            continue
        if context.path(path).is_file():
            facts = _facts(context.path(path), source.format, model)
            found += _at_most([facts], source.limit)
    return found


def _at_most(files: Sequence[DataFacts], limit: int | None) -> list[DataFacts]:
    """So many rows of all files, whose rows repeat each other as often as before."""
    rows = sum(facts.rows for facts in files)
    if limit is None or rows <= limit:
        return list(files)
    part = limit / rows
    return [replace(f, rows=round(f.rows * part), repeated=round(f.repeated * part)) for f in files]


def _awaited(context: StageContext, recipe: Recipe, text: str) -> str | None:
    """The stage of the recipe that has yet to write a file; None where none will."""
    name = next(iter(Path(text).parts), "")
    section = _WRITERS.get(name)
    if section is None or recipe.section(section) is None:
        return None
    return None if (context.stage_folder(name) / MANIFEST).is_file() else name


def _not_counted(text: str, stage: str | None) -> str:
    which = "is not there" if stage is None else f"the stage {stage} has yet to make"
    return f"not counted: {text}, which {which}"


def _there(path: Path, format: str, model: ModelFacts) -> list[DataFacts]:
    """The facts of a file; none of an empty one, as a stage leaves it that made no row."""
    return [_facts(path, format, model)] if path.stat().st_size else []


def _facts(path: Path, format: str, model: ModelFacts) -> DataFacts:
    return _read(path, path.stat().st_mtime_ns, format, model.folder)


@lru_cache(maxsize=8)
def _read(path: Path, changed: int, format: str, tokenizer: Path | None) -> DataFacts:
    """The facts of a file; the members of a sweep ask for the same ones."""
    return read_data(str(path), format=format, tokenizer=tokenizer)
