"""Where a training stage takes its model and rows from: stages of the run, files, hub names."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from espalier.errors import InputError
from espalier.records import Example
from espalier.run import StageContext
from espalier.template_files import template_inputs, template_path
from espalier.train.config_data import DataSource

Pick = Literal["first", "random"]

MODEL_STAGES = ("base", "sft", "reward", "reward_eval", "ppo")


def model_source(context: StageContext, text: str) -> Path | str:
    """The folder of a stage's model, a folder as written in the recipe, or a hub name.

    Raises InputError for a stage of this run that has no model yet.
    """
    if text in MODEL_STAGES:
        folder = context.stage_folder(text) / "model"
        if not folder.is_dir():
            raise InputError(
                f"The stage '{text}' of this run has no model yet.",
                where=str(folder),
                hint=f"run it first: espalier train {text} --recipe RECIPE",
            )
        return folder
    path = context.path(text)
    return path if "${data}" in text or path.exists() else text


def model_input(context: StageContext, text: str) -> dict[str, Path]:
    """{"model": folder} for the fingerprint, nothing for a hub name."""
    source = model_source(context, text)
    return {"model": source} if isinstance(source, Path) and source.exists() else {}


def template_name(context: StageContext, text: str | None) -> str | None:
    """The template as written in the recipe; a Jinja file's path as the run sees it."""
    return template_path(context, text)


def template_input(context: StageContext, text: str | None) -> dict[str, Path]:
    """{"template": file} for the fingerprint where the recipe names a file; raises InputError
    where it is not there."""
    return template_inputs(context, {"template": text})


def data_files(context: StageContext, names: Sequence[str]) -> dict[str, Path]:
    """{name as written: path}; raises InputError for the first file that is not there."""
    found = {}
    for name in names:
        path = context.path(name)
        if not path.exists():
            raise InputError(
                "A data file of the recipe is not there.",
                where=str(path),
                expected=f"the file '{name}' of section 'train.{context.stage}'",
                hint=_missing(name),
            )
        found[name] = path
    return found


def _missing(name: str) -> str:
    """What to do where the file of this name is not there."""
    if "${data}" in name:
        return "give the folder of the data with --set data=FOLDER, or at `data` of the recipe"
    if name.startswith("curate/"):
        return "run it first: espalier curate --recipe RECIPE"
    return "correct the path in the recipe"


def data_sources(entries: Sequence[str | DataSource]) -> list[DataSource]:
    """The recipe's entries, a path alone being a source without options."""
    return [
        DataSource.model_validate({"path": entry}) if isinstance(entry, str) else entry
        for entry in entries
    ]


def read_sources(
    context: StageContext,
    sources: Sequence[DataSource],
    *,
    format: str = "auto",
    limit: int | None = None,
    pick: Pick = "first",
) -> tuple[list[Example], list[int]]:
    """All examples in order, and for each the number of its source.

    `format` and `limit` hold for sources without their own; `pick` says which rows a limit takes
    (see `SFTConfig.pick`). Raises InputError for a file that is not there.
    """
    examples: list[Example] = []
    numbers: list[int] = []
    paths = data_files(context, [source.path for source in sources])
    for number, source in enumerate(sources):
        most = source.limit or limit
        found = read_rows(
            [paths[source.path]],
            format=source.format or format,
            limit=most if pick == "first" and not source.where else None,
        )
        if source.where:
            found = matching(found, source.where, source.path)
        if most is not None and pick == "random":
            found = drawn(found, most, f"{stage_seed(context)}:{number}:rows")
        elif most is not None:
            found = found[:most]
        examples += found
        numbers += [number] * len(found)
    return examples, numbers


def read_rows(
    paths: Sequence[Path], *, format: str = "auto", limit: int | None = None
) -> list[Example]:
    """All examples of the files, in order, at most `limit` of each."""
    from espalier.formats.read import read_examples

    return [
        example for path in paths for example in read_examples(path, format=format, limit=limit)
    ]


def matching(
    rows: Sequence[Example], where: Mapping[str, str | list[str]], path: str
) -> list[Example]:
    """The rows whose meta have, in each field of `where`, its value or one of its values.

    Raises InputError, with the values that there are, where no row has.
    """
    left = list(rows)
    for field, wanted in where.items():
        values = [wanted] if isinstance(wanted, str) else wanted
        known = sorted({str(row.meta[field]) for row in left if field in row.meta})
        left = [row for row in left if str(row.meta.get(field)) in values]
        if not left:
            raise InputError(
                f"No row has {' or '.join(values) or 'any value'} in meta.{field}.",
                where=path,
                expected=f"one of {', '.join(known[:10])}" if known else "rows with this field",
                hint="correct `where` of this file in the recipe",
            )
    return left


def drawn(rows: Sequence[Example], count: int, seed: str) -> list[Example]:
    """`count` of the rows, in their order; those of a smaller count are among a larger one's."""
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    return [rows[place] for place in sorted(order[:count])]


def stage_seed(context: StageContext) -> int:
    """The stage's own seed, else the recipe's."""
    own = context.options.seed
    return int(own if own is not None else context.shared.seed)
