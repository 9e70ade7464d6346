"""The user's own Python functions as columns, a call an answer or one call for all."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from espalier import user_code
from espalier.errors import StageError
from espalier.evaluate.config_metrics import FunctionConfig
from espalier.evaluate.evalset import EvalSet, Row
from espalier.evaluate.metric import Metric, RowValues, Scored
from espalier.evaluate.significance import Column
from espalier.files import hash_file

WHERE = "evaluate.functions"
_LISTS = {"references": "reference", "prompts": "prompt", "metas": "meta"}


def load_function(name: str, place: Callable[[str], Path] = Path) -> Callable[..., Any]:
    """The function behind `package.module:function` or `file.py:function`.

    `place` finds a file as the recipe writes it. Raises UsageError where there is none.
    """
    return user_code.load_function(name, place, what="function", where=WHERE)


def score_function(
    config: FunctionConfig,
    function: Callable[..., Any],
    evalset: EvalSet,
    answers: Mapping[str, Sequence[str | None]],
    *,
    code: str = "",
) -> Scored:
    """The function's numbers for all models, and their mean; None and NaN are no value.

    `code` identifies its source file, for the signature. Raises StageError where the function
    raises, or gives what is no number.
    """
    about = config.description or (inspect.getdoc(function) or "").strip().split("\n")[0]
    settings = "".join(f"|{key}:{value}" for key, value in sorted(config.options.items()))
    tested = config.higher_is_better is not None
    scored = Scored(
        Metric(
            config.column,
            config.label or config.column,
            config.higher_is_better is not False,
            "number",
            f"function:{config.function}|mean:rows" + (f"|code:{code}" if code else "") + settings,
            about or "A function of the user; the mean of its values.",
            tested=tested,
        )
    )
    for model, texts in answers.items():
        rows = [index for index, text in enumerate(texts) if text is not None]
        given = [texts[index] or "" for index in rows]
        values: RowValues = [None] * len(texts)
        made = _call(config, function, given, [evalset.rows[index] for index in rows])
        for index, value in zip(rows, made, strict=True):
            values[index] = value
        scored.rows[model] = values
        scored.columns[model] = Column.of_means(values)
    return scored


def _call(
    config: FunctionConfig, function: Callable[..., Any], answers: list[str], rows: list[Row]
) -> list[float | None]:
    names = _parameters(function)
    if names[:1] == ["answers"]:
        given: dict[str, Any] = {
            many: [_of(row, one) for row in rows] for many, one in _LISTS.items() if many in names
        }
        if "options" in names:
            given["options"] = dict(config.options)
        what = f"{len(rows):,} answers at once"
        result = _guarded(config.function, what, lambda: list(function(list(answers), **given)))
        if len(result) != len(answers):
            raise _wrong(config.function, what, f"{len(result):,} values for {len(answers):,}")
        return [_number(config.function, row, v) for row, v in zip(rows, result, strict=True)]
    found = []
    for answer, row in zip(answers, rows, strict=True):
        extra: dict[str, Any] = {key: _of(row, key) for key in _LISTS.values() if key in names}
        if "options" in names:
            extra["options"] = dict(config.options)

        def call(answer: str = answer, extra: dict[str, Any] = extra) -> Any:
            return function(answer, **extra)

        value = _guarded(config.function, f"prompt {row.id}", call)
        found.append(_number(config.function, row, value))
    return found


def _parameters(function: Callable[..., Any]) -> list[str]:
    try:
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # some built-in functions have no signature
        return []


def _of(row: Row, key: str) -> Any:
    return {"reference": row.reference, "prompt": row.prompt, "meta": dict(row.meta)}[key]


def _guarded(name: str, what: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # the user's code may raise anything
        line = user_code.line_of(error)
        raise StageError(
            f"The function '{name}' failed: {user_code.in_words(error)}",
            where=what + (f", {line}" if line else ""),
            expected="a number (or None) for every answer, an empty one too",
            hint="correct the function and run the stage again; stored answers are used again",
        ) from error


def _number(name: str, row: Row, value: Any) -> float | None:
    if value is None:
        return None
    # numpy's scalars are numbers too, texts of digits are not.
    if not isinstance(value, bool | int | float | np.number | np.bool_):
        raise _wrong(name, f"prompt {row.id}", f"{value!r:.60}")
    try:
        return float(value)
    except OverflowError as error:
        raise _wrong(name, f"prompt {row.id}", "a number too large for a float") from error


def _wrong(name: str, where: str, what: str) -> StageError:
    return StageError(
        f"The function '{name}' gives {what}.",
        where=where,
        expected="a number (or None) for every answer",
        hint="correct the function and run the stage again; stored answers are used again",
    )


def code_of(name: str, place: Callable[[str], Path] = Path) -> str:
    """A short hash of the file that a function comes from; "" for one of a package."""
    source = name.rpartition(":")[0]
    path = place(source)
    return hash_file(path)[:12] if source.endswith(".py") and path.is_file() else ""
