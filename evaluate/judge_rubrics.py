"""The rubrics of a recipe: built-in ones, those of files, and those that it spells out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import yaml
from pydantic import ValidationError

from espalier import plain_yaml
from espalier.errors import InputError, UsageError, place
from espalier.evaluate.config_judge import BUILT_IN, Rubric, RubricConfig
from espalier.rubrics import SCALES, Criterion, Scale, own_scale

FindPath = Callable[[str], Path]


def rubric_files(rubrics: Iterable[Rubric], path: FindPath) -> list[Path]:
    """The files among the rubrics; `path` tells where a name of the recipe is."""
    return [path(one) for one in rubrics if isinstance(one, str) and one not in BUILT_IN]


def scales_of(rubrics: Iterable[Rubric], path: FindPath) -> list[Scale]:
    """The scale of each rubric.

    Raises InputError for a file that can't be read or holds no rubric.
    """
    return [_scale(one, path) for one in rubrics]


def check_columns(scales: Iterable[Scale]) -> None:
    """Raise UsageError where two columns of these rubrics would have one name."""
    owners = {"win_rate": "the win rate of pairs"}
    for scale in scales:
        columns = [(name, f"{name} of {scale.name}") for name in (*scale.marks, *scale.checks)]
        if scale.marks:
            columns.append((scale.name, f"the mean of {scale.name}"))
        for name, owner in columns:
            if name in owners:
                raise UsageError(
                    f"Two columns would be called judge_{name}: {owners[name]}, and {owner}.",
                    where="evaluate.judge.rubrics",
                    expected="criteria and rubrics of different names",
                    hint="call one of the two something else",
                )
            owners[name] = owner


def _scale(rubric: Rubric, path: FindPath) -> Scale:
    if isinstance(rubric, str):
        return SCALES[rubric] if rubric in BUILT_IN else _own(read_rubric(path(rubric)))
    return _own(rubric)


def _own(rubric: RubricConfig) -> Scale:
    return own_scale(
        rubric.name,
        [Criterion(one.name, one.description, one.check, tuple(one.words))
         for one in rubric.criteria],
    )  # fmt: skip


def read_rubric(file: Path) -> RubricConfig:
    """The rubric of a YAML or JSON file; raises InputError with file and field."""
    form = "name: …, criteria: [{name: …, description: …}]"
    try:
        value = plain_yaml.load(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        what = "does not exist" if isinstance(error, FileNotFoundError) else "can't be read"
        raise InputError(
            f"The file of a rubric {what}.",
            where=str(file),
            expected=f"a YAML or JSON file in UTF-8: {form}",
        ) from error
    try:
        return RubricConfig.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or None
        raise InputError(
            f"The file holds no rubric: {first['msg'].removeprefix('Value error, ')}.",
            where=place(file, field=field),
            expected=form,
        ) from error
