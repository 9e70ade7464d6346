"""What the page relies on in `summary.json`.

A file from another version, or mended by hand, ends in one message that names the place.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from espalier.errors import InputError

# The form of the file that this version reads.
SCHEMA = 1

Number = float | None
Count = int | None


class _Part(BaseModel):
    """Further keys are free; what is named has its type where it is there."""

    model_config = ConfigDict(extra="allow", strict=True)


class _Set(_Part):
    name: str = ""
    rows: int = 0


class _Model(_Part):
    name: str
    label: str | None = None
    few_shot: Count = None
    answers: Count = None
    notes: list[str] = []


class _Metric(_Part):
    name: str
    label: str | None = None
    higher_is_better: bool = True
    tested: bool = True
    format: str = ""
    signature: str = ""
    description: str = ""


class _Score(_Part):
    model: str
    metric: str
    value: Number = None
    low: Number = None
    high: Number = None
    n: Count = None


class _Comparison(_Part):
    model: str
    baseline: str
    metric: str
    verdict: str
    difference: Number = None
    low: Number = None
    high: Number = None
    p_value: Number = None
    n: Count = None


class _Slice(_Part):
    by: str
    value: Any
    model: str
    metric: str
    score: Number
    n: int


class _Clean(_Part):
    model: str
    metric: str
    clean: Number = None
    all: Number = None
    low: Number = None
    high: Number = None


class _Changed(_Part):
    model: str
    metric: str


class _Against(_Part):
    file: str


class _Contamination(_Part):
    rows: int = 0
    same_prompt: int = 0
    same_turn: int = 0
    ngram: int = 0
    near_prompt: int = 0
    whole_reference: int = 0
    against: list[_Against] | None = None
    scores: list[_Clean] | None = None
    comparisons: list[_Changed] | None = None


class _Pair(_Part):
    model: str
    baseline: str


class _Judge(_Part):
    pairs: list[_Pair] | None = None
    rubrics: list[dict[str, Any]] | None = None


class _Ratings(_Part):
    win_rates: list[_Pair] | None = None
    raters: list[dict[str, Any]] | None = None
    files: list[dict[str, Any]] | None = None
    agreement: list[dict[str, Any]] | None = None
    judge: list[dict[str, Any]] | None = None
    metrics: list[dict[str, Any]] | None = None


class _Summary(_Part):
    schema_: int = Field(SCHEMA, alias="schema")
    set: _Set | None = None
    confidence: float | None = Field(None, gt=0, lt=1)
    resamples: Count = None
    permutations: Count = None
    models: list[_Model]
    metrics: list[_Metric]
    scores: list[_Score]
    comparisons: list[_Comparison] | None = None
    slices: list[_Slice] | None = None
    slice_comparisons: list[dict[str, Any]] | None = None
    coverage: list[dict[str, Any]] | None = None
    details: dict[str, Any] | None = None
    contamination: _Contamination | None = None
    judge: _Judge | None = None
    ratings: _Ratings | None = None


def check_summary(summary: Mapping[str, Any], path: Path) -> None:
    """Raises InputError where the summary is not what this version's evaluation writes."""
    try:
        found = _Summary.model_validate(dict(summary))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise _unfit(path, f"at '{key}': {first['msg'][:1].lower()}{first['msg'][1:]}") from error
    if found.schema_ != SCHEMA:
        raise _unfit(path, f"its form is {found.schema_}, this version reads {SCHEMA}")


def _unfit(path: Path, reason: str) -> InputError:
    return InputError(
        f"The summary of the evaluation can't be read, {reason}.",
        where=str(path),
        expected="the summary.json that the stage 'evaluate' of this version writes",
        hint="run the stage 'evaluate' again; stored answers are used again",
    )
