"""The stage `evaluate`: answers of every model on the held-out set, scored and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from espalier.engines.base import Engine, EngineSpec
from espalier.engines.function import code_inputs
from espalier.errors import EspalierError
from espalier.evaluate.answers import Answered, answer_all
from espalier.evaluate.clean_scores import contamination_summary, contamination_warnings
from espalier.evaluate.columns import prepare, score_columns, scorer_paths
from espalier.evaluate.config import EvaluateConfig
from espalier.evaluate.contamination import FILE as CONTAMINATION
from espalier.evaluate.contamination import find_contamination, training_files, write_findings
from espalier.evaluate.coverage import coverage, coverage_warnings
from espalier.evaluate.engines import with_engines
from espalier.evaluate.estimate import estimate_lines
from espalier.evaluate.evalset import EvalSet, read_set
from espalier.evaluate.fewshot import Shots, read_shots
from espalier.evaluate.groups import write_groups
from espalier.evaluate.judge_rubrics import rubric_files
from espalier.evaluate.judgement import (
    Judgement,
    check_judge,
    judge_models,
    judge_scales,
    judge_spec,
    judge_text,
)
from espalier.evaluate.measure import score_while_open
from espalier.evaluate.people import (
    people_say,
    rating_paths,
    rating_scales,
    read_rating_files,
)
from espalier.evaluate.rating_agreement import agreement_text
from espalier.evaluate.scorecard import Results, clustered, score_table, summarise, write_table
from espalier.evaluate.slices import check_fields
from espalier.evaluate.statistics_file import STATISTICS, write_statistics
from espalier.evaluate.subjects import Subject, check_sources, subject_of
from espalier.evaluate.table import headline
from espalier.progress import say
from espalier.rubrics import Scale
from espalier.run import MANIFEST, StageContext, atomic_write_json, read_json
from espalier.spending import Meter
from espalier.template_files import engine_template, template_inputs

SUMMARY = "summary.json"
SCORES = "scores.parquet"
GROUPS = "groups.jsonl"
ANSWERS = "answers"


def inputs(context: StageContext) -> dict[str, Path]:
    """The set, the models and predictions on disk, the reward model, few-shot and corpus files,
    and template files."""
    options: EvaluateConfig = context.options
    found = {"set": context.path(options.set)}
    for model in options.models:
        if model.api is None:
            subject = subject_of(model, context)
            path = Path(subject.location)
            if subject.kind != "hub":
                found[f"model.{model.name}"] = path
    if options.reward_model is not None:
        found["reward_model"] = _reward_path(options.reward_model, context)
    if any(model.few_shot for model in options.models):
        found["few_shot"] = context.path(options.few_shot_from)
    if options.perplexity_corpus is not None:
        found["corpus"] = context.path(options.perplexity_corpus)
    files = training_files(context, options.contamination, found["set"])
    found |= {f"contamination.{name}": path for name, path in files.items()}
    found |= scorer_paths(context)
    if options.judge is not None:
        files_of = rubric_files(options.judge.rubrics, context.path)
        found |= {f"judge.rubric.{number}": path for number, path in enumerate(files_of, 1)}
    found |= rating_paths(options, context) | code_inputs(_engines(options, context))
    return found | template_inputs(context, _templates(options))


def _engines(options: EvaluateConfig, context: StageContext) -> dict[str, EngineSpec]:
    """The engines that are asked, by their roles."""
    found = {f"model {model.name}": model.api for model in options.models if model.api is not None}
    judge = judge_spec(options, context.shared.judge)
    return found | ({"judge": judge} if judge is not None else {})


def _templates(options: EvaluateConfig) -> dict[str, str | None]:
    """All templates that the recipe names, by option."""
    named = {f"models.{model.name}.template": model.template for model in options.models}
    named |= {f"models.{m.name}.api.template": engine_template(m.api) for m in options.models}
    named |= {f"reward_models.{m.name}.template": m.template for m in options.reward_models}
    return {**named, "reward_template": options.reward_template}


def run(context: StageContext) -> dict[str, Any]:
    """Answer, score, compare; writes summary.json, scores.parquet and groups.jsonl.

    Returns counts."""
    options: EvaluateConfig = context.options
    seed = context.shared.seed if options.seed is None else options.seed
    evalset = _set(context)
    subjects = [subject_of(model, context) for model in options.models]
    # What is wrong is said before the first answer is made.
    check_fields(evalset, options.compare)
    ratings = read_rating_files(options, context)
    scorers = prepare(context, evalset)
    check_sources(subjects)
    subjects = with_engines(subjects, len(evalset), options)
    shots = None
    if most := max(model.few_shot for model in options.models):
        shots = read_shots(context.path(options.few_shot_from), evalset, seed, most)
    files = training_files(context, options.contamination, context.path(options.set))
    shared = None
    if files and options.contamination is not None:
        shared = find_contamination(evalset, files, options.contamination)
    apis = [model.api for model in options.models if model.api is not None]
    judge = judge_spec(options, context.shared.judge)
    apis += [] if judge is None else [judge]
    meter = Meter.of_run(context.run, context.shared.budget, apis)
    scales = judge_scales(options, context.path)
    check_judge(judge, scales, meter)
    answered = _answer(subjects, evalset, context, shots, seed, meter)
    warnings: list[str] = []
    given = {name: one.answers for name, one in answered.items()}
    scored, left_out = score_columns(
        context, scorers, subjects, evalset, given, shots, folder=context.folder / ANSWERS
    )
    warnings += left_out
    judgement = _judged(subjects, evalset, given, context, scales, seed, meter)
    scored += judgement.scored
    people = people_say(ratings, evalset, given, scored, judgement.meetings, options, seed=seed)
    scored += people.scored
    warnings += judgement.warnings + people.warnings
    results = Results(
        run=context.shared.name,
        evalset=evalset,
        subjects=subjects,
        answered=answered,
        scored=scored,
        options=options,
        seed=seed,
        synthetic=_synthetic(options, context),
        warnings=warnings,
    )
    results = clustered(results)
    summary = summarise(results)
    table = score_table(results)
    summary["coverage"] = coverage(results.scored)
    summary["warnings"] += coverage_warnings(summary["coverage"])
    if shared is not None:
        write_findings(shared, evalset, context.folder / CONTAMINATION)
        said = contamination_summary(shared, files, results, summary["comparisons"])
        summary["contamination"] = said
        summary["warnings"] += contamination_warnings(said, len(evalset))
        labels = dict(zip((row.id for row in evalset.rows), shared.labels(), strict=True))
        table["contamination"] = table["id"].map(labels)
    write_table(table, context.folder / SCORES)
    write_statistics(results, context.folder / STATISTICS)
    write_groups(evalset, options.compare.slices, context.folder / GROUPS)
    marked_by = {one.name: one for one in (*scales, *rating_scales(options, context.path))}
    if marked_by:
        summary["rubrics"] = [one.to_json() for one in marked_by.values()]
    said_of = {"judge": judgement.summary, "ratings": people.summary}
    summary |= {name: part for name, part in said_of.items() if part}
    atomic_write_json(context.folder / SUMMARY, summary)
    say(headline(summary))
    for text in (judge_text(judgement.summary), agreement_text(people.summary)):
        if text:
            say(text)
    return {
        "prompts": len(evalset),
        "models": len(subjects),
        "answers": sum(one.facts["answers"] for one in answered.values()),
        "metrics": len(scored),
        "failed": sum(one.failed for one in answered.values()) + judgement.failed,
        "spending": meter.summary(),
    }


def plan(context: StageContext) -> list[str]:
    """What will be asked of the judge and of API models, for `espalier recipe explain` and
    `--dry-run`."""
    options: EvaluateConfig = context.options
    judge = judge_spec(options, context.shared.judge)
    apis = [model.api for model in options.models if model.api is not None]
    if judge is None and not apis:
        return []
    try:
        scales = judge_scales(options, context.path)
        estimated = estimate_lines(context, _set(context), scales, judge)
    except EspalierError as error:
        return [f"no estimate yet: {error.what} ({error.where})"]
    try:
        meter = Meter.of_run(context.run, context.shared.budget, [*apis, *filter(None, [judge])])
        check_judge(judge, scales, meter)
    except EspalierError as error:
        first, *further = error.render().splitlines()
        return [*estimated, f"it would stop at the start: {first}", *further]
    return estimated


def _set(context: StageContext) -> EvalSet:
    options: EvaluateConfig = context.options
    return read_set(
        context.path(options.set),
        name=options.name,
        format=options.format,
        limit=options.limit,
        category=options.category,
        shown=options.set,
    )


def _answer(
    subjects: list[Subject],
    evalset: EvalSet,
    context: StageContext,
    shots: Shots | None,
    seed: int,
    meter: Meter,
) -> dict[str, Answered]:
    options: EvaluateConfig = context.options
    folder = context.folder / ANSWERS
    corpus = context.path(options.perplexity_corpus) if options.perplexity_corpus else None

    def score(subject: Subject, engine: Engine) -> None:
        score_while_open(
            subject, engine, evalset, options, folder=folder, shots=shots, corpus=corpus
        )

    # A file that does not fit the set is told before any model answers.
    answered = {
        subject.name: answer_all(
            subject,
            evalset,
            options,
            folder=folder,
            shots=shots,
            seed=seed,
            meter=meter,
            then=score,
        )
        for subject in sorted(subjects, key=lambda one: one.kind != "predictions")
    }
    return {subject.name: answered[subject.name] for subject in subjects}


def _judged(
    subjects: list[Subject],
    evalset: EvalSet,
    answers: Mapping[str, Sequence[str | None]],
    context: StageContext,
    scales: Sequence[Scale],
    seed: int,
    meter: Meter,
) -> Judgement:
    options: EvaluateConfig = context.options
    spec = judge_spec(options, context.shared.judge)
    if options.judge is None or spec is None:
        return Judgement()
    return judge_models(
        options.judge,
        spec,
        scales,
        subjects,
        evalset,
        answers,
        options,
        folder=context.folder,
        seed=seed,
        meter=meter,
    )


def _reward_path(text: str, context: StageContext) -> Path:
    path = context.path(text)
    return path / "model" if (path / "model").is_dir() else path


def _synthetic(options: EvaluateConfig, context: StageContext) -> bool:
    """Whether the set, or an answer, comes from the embedded offline teacher."""
    if any(model.api is not None and model.api.engine == "offline" for model in options.models):
        return True
    folder = context.stage_folder("curate")
    if context.path(options.set).parent != folder or context.shared.teacher.engine != "offline":
        return False
    if not (folder / MANIFEST).is_file():
        return True
    # A recipe has a teacher even where every row comes from the user's own files.
    curated = read_json(folder / MANIFEST)["fingerprint"]["options"]
    return curated["self_instruct"] is not None or any(
        source["kind"] == "procedural" or source["answer"] for source in curated["sources"]
    )
