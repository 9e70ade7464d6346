"""A module of Hugging Face `evaluate` as one more column, from a local folder or the hub."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from espalier.errors import InputError, StageError, require
from espalier.evaluate.config import HubMetricConfig
from espalier.evaluate.evalset import EvalSet, Row
from espalier.evaluate.metric import Metric, RowValues, Scored
from espalier.evaluate.significance import Column
from espalier.files import hash_path
from espalier.text import normalise

WHERE = "evaluate.hub_metrics"
# The label number of an answer that is none of the labels.
NO_LABEL = -1
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


@dataclass(frozen=True)
class HubModule:
    """A loaded module, how it is to be used, and a hash of its files ("" for one of the hub)."""

    config: HubMetricConfig
    module: Any
    code: str = ""

    @property
    def name(self) -> str:
        return self.config.name or str(self.module.name)


def load_module(config: HubMetricConfig, path: str | None = None) -> HubModule:
    """`evaluate.load` of a local folder, a local script, or a hub name.

    `path` is where the recipe's path leads, if it is not what it says. A local path needs no
    network. Raises InputError where the module can't be had, StageError where it needs a package
    that is not installed.
    """
    library = require("evaluate", extra="evaluate", feature="A Hugging Face metric")
    place = path or config.path
    try:
        module = library.load(place, keep_in_memory=True)
    except ImportError as error:
        raise StageError(
            f"The metric '{config.path}' needs a package: {error}", where=WHERE
        ) from error
    except Exception as error:  # a module's own code may raise anything
        raise InputError(
            f"The metric '{config.path}' can't be loaded: {_reason(error)}",
            where=WHERE,
            expected="a local folder <name>/<name>.py, or a hub name and a network",
            hint="without a network, give the path of a copy on this machine",
        ) from error
    return HubModule(config, module, hash_path(Path(place))[:12] if Path(place).exists() else "")


def try_module(hub: HubModule, evalset: EvalSet) -> None:
    """Let the module compute one reference against itself, before any answer is made.

    Not where it is given all rows for one number: that may need more than a row. Raises
    InputError where it does not take what it is given, or gives no number.
    """
    config = hub.config
    row = next((row for row in evalset.rows if _has_reference(config, row)), None)
    if row is None and config.references != "none" and config.given != "text":
        raise InputError(
            f"No reference of the set is a {config.given}, as the metric '{config.path}' needs.",
            where=WHERE,
            expected="references such as " + ", ".join(config.labels or ["42"]),
            hint="correct `given` or `labels` of hub_metrics",
        )
    pair = _given(config, row.reference, row.reference) if row and row.reference else None
    if row is not None and pair is not None and config.over != "corpus":
        _by_row(hub, {row.id: pair})


def score_hub_metric(
    hub: HubModule, evalset: EvalSet, answers: Mapping[str, Sequence[str | None]]
) -> Scored:
    """The module computed on each row, or once on all (`over`).

    "rows" and "list" give a value a row, so that the column has the intervals that all columns
    have; for a module whose score on a corpus is not the mean of its rows, "corpus" is that
    score. Rows without answer have no value, nor have those without a reference (a number, a label
    where these are given) where one is needed. Answers that are no numbers where numbers are given
    have none either; `details` counts these as `left_out`.
    """
    config = hub.config
    scored = Scored(_metric(hub))
    for model, texts in answers.items():
        rows = [
            index
            for index, (answer, row) in enumerate(zip(texts, evalset.rows, strict=True))
            if answer is not None and _has_reference(config, row)
        ]
        pairs = {
            index: pair
            for index in rows
            if (pair := _given(config, texts[index] or "", evalset.rows[index].reference))
            is not None
        }
        scored.details[model] = {"answers": len(pairs), "left_out": len(rows) - len(pairs)}
        if config.over == "corpus":
            value = math.nan
            if pairs:
                what = f"{len(pairs):,} answers of {model}"
                value = _number(_compute(hub, list(pairs.values()), what), config)
            # One score of all answers: no rows, hence no interval.
            scored.columns[model] = Column.of_means([value if math.isfinite(value) else None])
            continue
        values: RowValues = [None] * len(texts)
        named = {evalset.rows[index].id: pair for index, pair in pairs.items()}
        for index, number in zip(pairs, _by_row(hub, named), strict=True):
            values[index] = number if math.isfinite(number) else None
        scored.rows[model] = values
        scored.columns[model] = Column.of_means(values)
    return scored


def left_out_warnings(hub: HubModule, scored: Scored) -> list[str]:
    """Models with answers that are no numbers, which a module of numbers can't be given."""
    return [
        f"{scored.metric.name}: {count:,} of {count + details['answers']:,} answers of {model} are "
        "no numbers and have no score."
        for model, details in scored.details.items()
        if (count := details["left_out"])
    ]


def _metric(hub: HubModule) -> Metric:
    config, module = hub.config, hub.module
    library = require("evaluate", extra="evaluate", feature="A Hugging Face metric")
    chosen = {
        "key": config.key,
        "given": config.given if config.given != "text" else None,
        "code": hub.code or None,
    }
    settings = [f"{key}:{value}" for key, value in sorted(config.options.items())]
    settings += [f"{key}:{value}" for key, value in chosen.items() if value is not None]
    corpus = config.over == "corpus"
    kind = "corpus" if corpus else "mean:rows"
    how = (
        "computed once on all answers: a score without interval, so it is not tested"
        if corpus
        else "the mean of the rows, which for many modules is not their score on a corpus"
    )
    said = config.description or f"{_sentence(module)} (Hugging Face evaluate; {how}.)"
    return Metric(
        hub.name,
        hub.name,
        config.higher_is_better,
        "number",
        "|".join([f"evaluate.{module.name}|version:{library.__version__}|{kind}", *settings]),
        said,
        slices=not corpus,
        tested=not corpus,
    )


def _sentence(module: Any) -> str:
    """What the module says of itself, in its first sentence."""
    text = " ".join(str(module.description or "").split())
    first = re.split(r"(?<=[.!?])\s", text)[0] if text else str(module.name)
    return first if len(first) <= 300 else first[:299] + "…"


def _has_reference(config: HubMetricConfig, row: Row) -> bool:
    """Whether the module can be asked about the row: it has a reference of the wanted kind."""
    if config.references == "none":
        return True
    if row.reference is None:
        return False
    try:
        return _as(config, row.reference) != NO_LABEL or config.given != "label"
    except ValueError:
        return False


def _given(config: HubMetricConfig, answer: str, reference: str | None) -> tuple[Any, Any] | None:
    """Answer and reference as the module takes them; None where one is no number."""
    try:
        left = _as(config, answer)
        right = None if config.references == "none" else _as(config, reference or "")
    except ValueError:
        return None
    return left, [right] if config.references == "list" else right


def _as(config: HubMetricConfig, text: str) -> Any:
    if config.given == "number":
        number = float(_THOUSANDS.sub("", text.strip()))
        if not math.isfinite(number):
            raise ValueError(text)
        return number
    if config.given == "label":
        keys = [normalise(label) for label in config.labels]
        return keys.index(key) if (key := normalise(text)) in keys else NO_LABEL
    return text


def _by_row(hub: HubModule, pairs: Mapping[str, tuple[Any, Any]]) -> list[float]:
    """A number for each (answer, reference) by row id."""
    config = hub.config
    if config.over == "rows":
        return [_number(_compute(hub, [pair], f"row {row}"), config) for row, pair in pairs.items()]
    if not pairs:
        return []
    result = _compute(hub, list(pairs.values()), f"{len(pairs):,} answers at once")
    found = _numbers(result.get(config.key) if isinstance(result, Mapping) else None)
    if found is None or len(found) != len(pairs):
        raise InputError(
            f"The metric '{config.path}' gives no list '{config.key}' with a number a row.",
            where=WHERE,
            expected=f"{len(pairs):,} numbers",
            hint="name its list with `key`, or set `over: rows`",
        )
    return found


def _numbers(value: Any) -> list[float] | None:
    """A list (or array, or tensor) of numbers as one of floats; None for anything else."""
    made = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(made, list | tuple) or not all(isinstance(one, Real) for one in made):
        return None
    return [float(one) for one in made]


def _compute(hub: HubModule, pairs: list[tuple[Any, Any]], what: str) -> Any:
    config = hub.config
    given: dict[str, Any] = {"predictions": [left for left, _ in pairs]}
    if config.references != "none":
        given["references"] = [right for _, right in pairs]
    try:
        return hub.module.compute(**given, **dict(config.options))
    except Exception as error:  # a module's own code may raise anything
        raise InputError(
            f"The metric '{config.path}' does not take what it is given: {_reason(error)}",
            where=f"{WHERE}, {what}",
            expected=f"a module whose predictions are {config.given}s"
            + ("" if config.references == "none" else ", and its references too"),
            hint="see `given`, `references`, `over` and `options` of hub_metrics",
        ) from error


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _number(result: Any, config: HubMetricConfig) -> float:
    """The module's number; a list of one (a value a row) counts as a number."""
    found: dict[str, float] = {}
    for key, value in (result if isinstance(result, Mapping) else {}).items():
        numbers = [value] if isinstance(value, Real) else _numbers(value)
        if numbers is not None and len(numbers) == 1:
            found[str(key)] = float(numbers[0])
    if config.key is not None and config.key in found:
        return found[config.key]
    if config.key is None and len(found) == 1:
        return next(iter(found.values()))
    raise InputError(
        f"The metric '{config.path}' gives "
        + (f"several numbers: {', '.join(found)}." if found else "no number."),
        where=WHERE,
        expected="one number" if config.key is None else f"a number called '{config.key}'",
        hint="name one of them with `key`" if found else None,
    )
