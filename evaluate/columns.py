"""Which columns an evaluation has: the default ones, and what the recipe asks for by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from espalier.errors import UsageError
from espalier.evaluate.check_columns import score_checks
from espalier.evaluate.classify import score_classification
from espalier.evaluate.config import EvaluateConfig
from espalier.evaluate.declining import score_declining
from espalier.evaluate.described import score_lengths, score_refusals
from espalier.evaluate.diversity import DISTINCT, score_distinct, score_self_bleu
from espalier.evaluate.entities import score_entities
from espalier.evaluate.evalset import EvalSet
from espalier.evaluate.fewshot import Shots
from espalier.evaluate.functions import code_of, load_function, score_function
from espalier.evaluate.hub_metric import (
    HubModule,
    left_out_warnings,
    load_module,
    score_hub_metric,
    try_module,
)
from espalier.evaluate.measure import asks_perplexity, perplexities, read_corpus, rewards
from espalier.evaluate.metric import Scored
from espalier.evaluate.perplexity import ON_A_CORPUS, ON_THE_SET, token_warnings
from espalier.evaluate.references import BY_NAME, REFERENCE_METRICS, score_references
from espalier.evaluate.reward_details import add_reward_details, cut_warnings
from espalier.evaluate.rewards import RewardModel, find_reward_model
from espalier.evaluate.subjects import Subject
from espalier.run import StageContext
from espalier.template_files import template_path

Answers = dict[str, list[str | None]]
# Columns of perplexity that a recipe has without naming them.
DEFAULT_PERPLEXITIES = (*ON_THE_SET, "ppl_corpus")
# Fields of scores.parquet that are no scores.
TABLE_FIELDS = frozenset(
    ("id", "model", "prompt", "reference", "answer", "category", "language", "source")
) | {"contamination"}


@dataclass(frozen=True)
class Scorers:
    """What is loaded, and checked, before the first answer is made."""

    rewards: Sequence[tuple[str, str, RewardModel]]  # name, label, model
    functions: Sequence[Callable[..., Any]]
    hubs: Sequence[HubModule]


def prepare(context: StageContext, evalset: EvalSet) -> Scorers:
    """Find the reward models, functions and modules, and read what the set says of itself.

    Raises InputError, StageError or UsageError for whatever would stop the scoring later.
    """
    options: EvaluateConfig = context.options
    functions = [load_function(item.function, context.path) for item in options.functions]
    hubs = [load_module(item, str(hub_path(item.path, context))) for item in options.hub_metrics]
    _check_names([*(item.column for item in options.functions), *(hub.name for hub in hubs)])
    for hub in hubs:
        try_module(hub, evalset)
    list(_of_the_set(options, evalset, {}))
    if options.perplexity_corpus is not None:
        read_corpus(context.path(options.perplexity_corpus))
    return Scorers(list(_reward_models(context)), functions, hubs)


def hub_path(text: str, context: StageContext) -> Path:
    """Where a module is: a file or folder if there is one, else its name on the hub."""
    path = context.path(text)
    return path if path.exists() else Path(text)


def _check_names(names: Sequence[str]) -> None:
    """Raise UsageError for columns of the user that would take the place of another one."""
    for name in names:
        if name in TABLE_FIELDS or name.startswith(("judge_", "human_")):
            raise UsageError(
                f"A function or module can't be a column called '{name}': that name is taken.",
                where="evaluate.functions, evaluate.hub_metrics",
                expected="a name other than "
                + ", ".join(sorted(TABLE_FIELDS))
                + ", and without judge_ or human_ before it",
                hint="give it another `name`",
            )


def scorer_paths(context: StageContext) -> dict[str, Path]:
    """The files of reward models, functions and modules, for the stage's inputs."""
    options: EvaluateConfig = context.options
    found = {}
    for item in options.reward_models:
        path = context.path(item.model)
        found[f"reward_model.{item.name}"] = path / "model" if (path / "model").is_dir() else path
    for number, function in enumerate(options.functions, 1):
        source = function.function.rpartition(":")[0]
        if source.endswith(".py") and context.path(source).is_file():
            found[f"function.{number}"] = context.path(source)
    for number, hub in enumerate(options.hub_metrics, 1):
        if hub_path(hub.path, context).exists():
            found[f"metric.{number}"] = hub_path(hub.path, context)
    return found


def _reward_models(context: StageContext) -> Iterator[tuple[str, str, RewardModel]]:
    options: EvaluateConfig = context.options
    if options.reward_model is not None:
        found = find_reward_model(
            options.reward_model,
            context.path(options.reward_model),
            context.run,
            allow_training=options.allow_training_reward,
            label=options.reward_label,
            template=template_path(context, options.reward_template),
        )
        yield "reward", "", found
    for item in options.reward_models:
        found = find_reward_model(
            item.model,
            context.path(item.model),
            context.run,
            allow_training=item.allow_training,
            label=item.label,
            template=template_path(context, item.template),
            where=f"evaluate.reward_models, '{item.name}'",
        )
        yield f"reward_{item.name}", f"Reward ({item.name})", found


def score_columns(
    context: StageContext,
    scorers: Scorers,
    subjects: Sequence[Subject],
    evalset: EvalSet,
    answers: Answers,
    shots: Shots | None,
    *,
    folder: Path,
) -> tuple[list[Scored], list[str]]:
    """All columns, in the order of the report, and what is to be said of those left out."""
    options: EvaluateConfig = context.options
    warnings: list[str] = []
    found = list(_of_references(options, evalset, answers, warnings))
    found += _rewarded(options, scorers, evalset, answers, folder, warnings)
    found += _surprised(context, subjects, evalset, shots, folder, warnings)
    found += _of_the_set(options, evalset, answers)
    found += _describing(options, evalset, answers)
    for item, function in zip(options.functions, scorers.functions, strict=True):
        code = code_of(item.function, context.path)
        found.append(score_function(item, function, evalset, answers, code=code))
    for hub in scorers.hubs:
        scored = score_hub_metric(hub, evalset, answers)
        warnings += left_out_warnings(hub, scored)
        found.append(scored)
    return _with_unique_names(found), warnings


def _of_references(
    options: EvaluateConfig, evalset: EvalSet, answers: Answers, warnings: list[str]
) -> Iterator[Scored]:
    has_references = any(reference is not None for reference in evalset.references)
    for name in (*REFERENCE_METRICS, *BY_NAME):
        if not options.asks(name, default=name in REFERENCE_METRICS):
            continue
        if has_references:
            yield score_references(name, answers, evalset.references)
        elif options.names(name):
            warnings.append(f"{name} was left out: the set has no reference answers.")


def _rewarded(
    options: EvaluateConfig,
    scorers: Scorers,
    evalset: EvalSet,
    answers: Answers,
    folder: Path,
    warnings: list[str],
) -> list[Scored]:
    found = []
    for name, label, model in scorers.rewards:
        if name != "reward" or options.asks("reward"):
            scored = rewards(model, answers, evalset, options, folder=folder)
            if label:
                tail = " (trained against)" if model.training else ""
                metric = replace(scored.metric, name=name, label=label + tail)
                scored = replace(scored, metric=metric)
            found.append(scored)
    if options.names("reward") and not scorers.rewards:
        warnings.append("reward was left out: `reward_model` names none.")
    add_reward_details(found, answers, options.baseline or options.models[0].name)
    warnings += cut_warnings(found)
    return found


def _surprised(
    context: StageContext,
    subjects: Sequence[Subject],
    evalset: EvalSet,
    shots: Shots | None,
    folder: Path,
    warnings: list[str],
) -> list[Scored]:
    options: EvaluateConfig = context.options
    if not asks_perplexity(options):
        return []
    named = [name for name in (*ON_THE_SET, *ON_A_CORPUS, "forgetting") if options.names(name)]
    family = options.asks("perplexity")
    corpus = context.path(options.perplexity_corpus) if options.perplexity_corpus else None
    before = None
    if options.names("forgetting"):
        before = options.general_before or options.baseline or options.models[0].name
    made = perplexities(
        subjects, evalset, options, folder=folder, shots=shots, corpus=corpus, before=before
    )
    wanted = {*named, *(DEFAULT_PERPLEXITIES if family else ())}
    found = [scored for scored in made if scored.metric.name in wanted]
    warnings += token_warnings(found)
    if options.names("perplexity") and not found:
        warnings.append(
            "perplexity was left out: it needs a local model, and references or a corpus."
        )
    missing = set(named) - {scored.metric.name for scored in found}
    for name in sorted(missing):
        need = "references" if name in ON_THE_SET else "`perplexity_corpus`"
        if name == "forgetting":
            need = f"a corpus, and '{before}' as one of them"
        warnings.append(f"{name} was left out: it needs local models, and {need}.")
    return found


def _of_the_set(
    options: EvaluateConfig, evalset: EvalSet, answers: Mapping[str, Sequence[str | None]]
) -> Iterator[Scored]:
    """Columns that need certain rows; without answers only what the set says is read."""
    if options.classification is not None:
        yield from score_classification(options.classification, evalset, answers)
    if options.names("entities"):
        yield score_entities(options.entities, evalset, answers)
    if options.checks or options.names("checks"):
        yield from score_checks(options.checks, evalset, answers)


def _describing(options: EvaluateConfig, evalset: EvalSet, answers: Answers) -> Iterator[Scored]:
    if options.names("length"):
        yield from score_lengths(answers, evalset.references)
    if options.names("refusals"):
        yield score_refusals(answers)
        yield from score_declining(evalset, answers)
    if options.names("distinct"):
        yield from (score_distinct(name, answers) for name in DISTINCT)
    if options.names("self_bleu"):
        yield score_self_bleu(answers)


def _with_unique_names(found: Sequence[Scored]) -> list[Scored]:
    """The columns, later ones of a name that is taken with a number behind it."""
    taken: set[str] = set()
    for scored in found:
        name, count = scored.metric.name, 1
        while scored.metric.name in taken:
            count += 1
            scored.metric = replace(scored.metric, name=f"{name}_{count}")
        taken.add(scored.metric.name)
    return list(found)
