"""A module of Hugging Face `evaluate` as one more column, from a local folder or the hub."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from espalier.errors import InputError, StageError, require
from espalier.evaluate.config import HubMetricConfig
from espalier.evaluate.metric import Metric, RowValues, Scored
from espalier.evaluate.significance import Column


def load_module(path: str) -> Any:
    """`evaluate.load` of a local folder, a local script, or a hub name.

    A local path needs no network. Raises InputError where the module can't be had, StageError
    where it needs a package that is not installed.
    """
    library = require("evaluate", extra="evaluate", feature="A Hugging Face metric")
    try:
        return library.load(path, keep_in_memory=True)
    except ImportError as error:
        raise StageError(
            f"The metric '{path}' needs a package: {error}", where="evaluate.hub_metrics"
        ) from error
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"The metric '{path}' can't be loaded: {reason}",
            where="evaluate.hub_metrics",
            expected="a local folder <name>/<name>.py, or a hub name and a network",
            hint="without a network, give the path of a copy on this machine",
        ) from error


def score_hub_metric(
    config: HubMetricConfig,
    answers: Mapping[str, Sequence[str | None]],
    references: Sequence[str | None],
) -> Scored:
    """The module computed for each row by itself; the score is the mean over rows.

    So the column has the intervals that all columns have; for a module whose score on a corpus
    is not the mean of its rows, it is not that corpus score (the signature says "mean:rows").
    """
    module = load_module(config.path)
    name = config.name or str(module.name)
    settings = "|".join(f"{key}:{value}" for key, value in sorted(config.options.items()))
    library = require("evaluate", extra="evaluate", feature="A Hugging Face metric")
    signature = f"evaluate.{module.name}|version:{library.__version__}|mean:rows"
    description = "A module of Hugging Face evaluate, computed on each row; the mean of the rows."
    scored = Scored(
        Metric(
            name,
            name,
            config.higher_is_better,
            "number",
            signature + (f"|{settings}" if settings else ""),
            description,
        )
    )
    for model, texts in answers.items():
        values: RowValues = [
            None if answer is None or reference is None else _row(module, config, answer, reference)
            for answer, reference in zip(texts, references, strict=True)
        ]
        scored.rows[model] = values
        scored.columns[model] = Column.of_means(values)
    return scored


def _row(module: Any, config: HubMetricConfig, answer: str, reference: str) -> float | None:
    try:
        result = module.compute(
            predictions=[answer], references=[reference], **dict(config.options)
        )
    except ValueError as error:
        raise InputError(
            f"The metric '{config.path}' does not take a text and its reference: "
            f"{str(error).strip().splitlines()[0]}",
            where="evaluate.hub_metrics",
            expected="a module whose predictions and references are texts",
        ) from error
    value = _number(result, config)
    return value if math.isfinite(value) else None


def _number(result: Any, config: HubMetricConfig) -> float:
    """The module's number; a list of one (a value a row) counts as a number."""
    found: dict[str, float] = {}
    for key, value in (result or {}).items():
        value = value[0] if isinstance(value, list) and len(value) == 1 else value
        if isinstance(value, Real):
            found[str(key)] = float(value)
    if config.key is not None and config.key in found:
        return found[config.key]
    if config.key is None and len(found) == 1:
        return next(iter(found.values()))
    raise InputError(
        f"The metric '{config.path}' gives "
        + (f"several numbers: {', '.join(found)}." if found else "no number."),
        where="evaluate.hub_metrics",
        expected="one number" if config.key is None else f"a number called '{config.key}'",
        hint="name one of them with `key`" if found else None,
    )
