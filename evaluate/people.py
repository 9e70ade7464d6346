"""The people's part of an evaluation: files of ratings become columns and a part of the summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from espalier import rating_store
from espalier.evaluate.clusters import cluster_ids
from espalier.evaluate.config import EvaluateConfig
from espalier.evaluate.evalset import EvalSet
from espalier.evaluate.judge_pairs import Meeting
from espalier.evaluate.judge_rubrics import FindPath, rubric_files, scales_of
from espalier.evaluate.metric import Scored
from espalier.evaluate.rated import place_ratings
from espalier.evaluate.rating_agreement import rating_summary
from espalier.evaluate.rating_scores import Settings, rating_columns
from espalier.evaluate.ratings import Criteria, RatingFile, read_ratings
from espalier.evaluate.slices import cluster_keys
from espalier.rubrics import Scale
from espalier.run import StageContext


@dataclass
class People:
    """What people's ratings gave: columns, the part of the summary, and warnings."""

    scored: list[Scored] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def rating_paths(options: EvaluateConfig, context: StageContext) -> dict[str, Path]:
    """The files of ratings and their rubrics that the recipe names, as inputs of the stage."""
    if options.ratings is None:
        return {}
    paths = [_path(context, name) for name in options.ratings.files]
    for path in paths:
        if path.suffix.lower() in rating_store.SUFFIXES:
            rating_store.settle(path)
    found = {f"ratings.{number}": path for number, path in enumerate(paths, 1)}
    rubrics = rubric_files(options.ratings.rubrics, context.path)
    return found | {f"ratings.rubric.{number}": path for number, path in enumerate(rubrics, 1)}


def _path(context: StageContext, name: str) -> Path:
    """Where a file of ratings is: `ratings/…` is in the run's folder, if it is there."""
    own = context.run / name
    parts = Path(name).parts
    return own if parts[:1] == (rating_store.FOLDER,) and own.is_file() else context.path(name)


def read_rating_files(options: EvaluateConfig, context: StageContext) -> list[RatingFile]:
    """Read them; raises InputError with file, line and field for what is no rating."""
    if options.ratings is None:
        return []
    rubrics = [*options.ratings.rubrics, *(options.judge.rubrics if options.judge else ())]
    criteria = Criteria.of(scales_of(rubrics, context.path))
    # Results name a file as the recipe does.
    return [
        replace(read_ratings(_path(context, name), criteria), path=name)
        for name in options.ratings.files
    ]


def rating_scales(options: EvaluateConfig, path: FindPath) -> list[Scale]:
    """The rubrics of one's own that the recipe names for ratings by people."""
    return [] if options.ratings is None else scales_of(options.ratings.rubrics, path)


def people_say(
    files: Sequence[RatingFile],
    evalset: EvalSet,
    answers: Mapping[str, Sequence[str | None]],
    scored: Sequence[Scored],
    meetings: Sequence[Meeting],
    options: EvaluateConfig,
    *,
    seed: int,
) -> People:
    """Put the ratings to the answers; `scored` and `meetings` are what they are compared with.

    Raises InputError where none of the ratings belongs to these answers.
    """
    if not files or options.ratings is None:
        return People()
    baseline = options.baseline or options.models[0].name
    rated = place_ratings(files, evalset, answers, baseline)
    settings = Settings(
        resamples=options.resamples,
        permutations=options.permutations,
        confidence=options.confidence,
        seed=seed,
        groups=cluster_ids(cluster_keys(evalset, options.compare.cluster)),
    )
    summary = rating_summary(rated, scored, meetings, settings)
    columns = []
    if options.ratings.columns:
        columns = rating_columns(rated, list(answers), baseline, len(evalset))
    return People(columns, summary, rated.warnings())
