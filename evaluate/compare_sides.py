"""Which rows and metrics of two evaluations can be compared: the same prompts, the same settings.

Rows are matched by their prompt, and only those count whose reference is the same on both sides;
a metric counts only where its signature is the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from espalier.errors import InputError, UsageError
from espalier.evaluate.clusters import cluster_ids
from espalier.evaluate.metric import Scored
from espalier.evaluate.significance import Column
from espalier.evaluate.statistics_file import STATISTICS, Stored, read_statistics

# A metric that compares with a model says so in its signature.
_OPPONENT = re.compile(r"(?:^|\|)baseline:(?P<baseline>[^|]+)")


@dataclass(frozen=True)
class Side:
    """One of the two: an evaluation, as the user named it, and a model of it."""

    stored: Stored
    place: str
    model: str

    @property
    def name(self) -> str:
        return f"{self.place}:{self.model}"


@dataclass
class Pair:
    """Two models on the rows that both sides share: a metric's two columns by name."""

    a: Side
    b: Side
    rows: dict[str, int]
    labels: Mapping[str, list[str]]
    scored: dict[str, Scored]
    left_out: dict[str, str]

    def columns(self, metric: str) -> tuple[Column, Column]:
        columns = self.scored[metric].columns
        return columns["a"], columns["b"]


def open_side(text: str) -> tuple[Stored, str, str | None]:
    """`RUN` or `RUN:MODEL`: its stored statistics, RUN, and the model where one is named.

    RUN is a run folder, its evaluate/ folder, or a statistics.npz.
    """
    path, model, shown = Path(text).expanduser(), None, text
    if not path.exists():
        head, separator, tail = text.rpartition(":")
        if not separator or not head or not Path(head).expanduser().exists():
            raise InputError(
                f"'{text}' does not exist.",
                expected="a run folder whose evaluation is done, or RUN:MODEL",
                hint="files of answers are evaluated first: espalier evaluate --set … "
                "--predictions NAME=FILE --output DIR",
            )
        path, model, shown = Path(head).expanduser(), tail, head
    stored = read_statistics(_statistics_of(path))
    if model is not None and model not in stored.models:
        raise UsageError(
            f"The evaluation has no model '{model}'.",
            where=str(stored.path),
            expected="one of " + ", ".join(stored.models),
        )
    return stored, shown.rstrip("/"), model


def _statistics_of(path: Path) -> Path:
    if path.is_file():
        return path
    inner = path / "evaluate" / STATISTICS
    return inner if inner.is_file() or not (path / STATISTICS).is_file() else path / STATISTICS


def sides(first: str, second: str) -> list[tuple[Side, Side]]:
    """Which models are compared: those named, the only ones, or those of the same name."""
    (a, place_a, model_a), (b, place_b, model_b) = open_side(first), open_side(second)
    if model_a is None and model_b is None:
        if a.path.resolve() == b.path.resolve():
            raise UsageError(
                "Both sides are the same evaluation.",
                expected="two of its models: RUN:MODEL RUN:MODEL",
                hint="its models are " + ", ".join(a.models),
            )
        if len(a.models) == len(b.models) == 1:
            [only_a], [only_b] = a.models, b.models
            return [(Side(a, place_a, only_a), Side(b, place_b, only_b))]
        shared = [name for name in a.models if name in b.models]
        if not shared:
            raise UsageError(
                "The two evaluations have no model of the same name.",
                expected=f"RUN:MODEL; {first} has {', '.join(a.models)}; {second} has "
                + ", ".join(b.models),
            )
        return [(Side(a, place_a, name), Side(b, place_b, name)) for name in shared]
    model_a = model_a or _same_or_only(a, model_b or "", first)
    model_b = model_b or _same_or_only(b, model_a, second)
    if model_a == model_b and a.path.resolve() == b.path.resolve():
        raise UsageError(f"'{first}' and '{second}' are the same model of the same evaluation.")
    return [(Side(a, place_a, model_a), Side(b, place_b, model_b))]


def _same_or_only(stored: Stored, wanted: str, text: str) -> str:
    if wanted in stored.models:
        return wanted
    if len(stored.models) == 1:
        return next(iter(stored.models))
    raise UsageError(
        f"'{text}' has several models, and none is called '{wanted}'.",
        expected=f"{text}:MODEL, with one of {', '.join(stored.models)}",
    )


def matched(a: Side, b: Side, metrics: Sequence[str] | None) -> Pair:
    """The columns of both sides on the rows that they share.

    Raises InputError where they share none, UsageError for a metric that no side has.
    """
    place = {prompt: index for index, prompt in enumerate(b.stored.prompts)}
    both = [(i, place[prompt]) for i, prompt in enumerate(a.stored.prompts) if prompt in place]
    same = [(i, j) for i, j in both if a.stored.references[i] == b.stored.references[j]]
    if not same:
        what = "the prompts have other references" if both else "no prompt is in both"
        raise InputError(
            f"The two evaluations share no row: {what}.",
            where=f"{a.stored.path} and {b.stored.path}",
            expected="evaluations on the same set",
        )
    left = np.array([i for i, _ in same])
    right = np.array([j for _, j in same])
    rows = {
        "shared": len(same),
        "only_a": len(a.stored.ids) - len(both),
        "only_b": len(b.stored.ids) - len(both),
        "differing": len(both) - len(same),
    }
    labels = {by: [names[i] for i in left] for by, names in a.stored.labels.items()}
    pair = Pair(a, b, rows, labels, {}, {})
    groups = cluster_ids([a.stored.clusters[i] for i in left])
    for name in _names(a, b, metrics):
        reason = _obstacle(name, a, b) or _other_opponent(name, a, b, same)
        if reason:
            pair.left_out[name] = reason
            continue
        ours, theirs = a.stored.scored[name], b.stored.scored[name]
        found = Scored(theirs.metric)
        for key, scored, side, order in (("a", ours, a, left), ("b", theirs, b, right)):
            column = scored.columns[side.model]
            if side.model in scored.rows:
                values = scored.rows[side.model]
                found.rows[key] = [values[i] for i in order]
                column = replace(
                    column,
                    statistics=column.statistics[order],
                    valid=column.valid[order],
                    groups=groups,
                )
            found.columns[key] = column
        pair.scored[name] = found
    return pair


def _names(a: Side, b: Side, metrics: Sequence[str] | None) -> list[str]:
    known: dict[str, None] = {}
    for stored in (b.stored, a.stored):
        known |= dict.fromkeys([*stored.scored, *stored.unreadable])
    for name in metrics or ():
        if name not in known:
            raise UsageError(
                f"Neither evaluation has the metric '{name}'.", expected=", ".join(known)
            )
    return [name for name in known if metrics is None or name in metrics]


def _other_opponent(name: str, a: Side, b: Side, rows: Sequence[tuple[int, int]]) -> str:
    """Why win rates over a baseline mean different things: it answered otherwise; "" if not."""
    found = _OPPONENT.search(b.stored.scored[name].metric.signature)
    if found is None:
        return ""
    baseline = found["baseline"]
    ours, theirs = (side.stored.answers.get(baseline, ()) for side in (a, b))
    if not ours or not theirs:
        return f"it is over '{baseline}', whose answers are not stored"
    differing = sum(ours[i] != theirs[j] for i, j in rows)
    if not differing:
        return ""
    return f"it is over '{baseline}', whose answers to {differing:,} shared prompts differ"


def _obstacle(name: str, a: Side, b: Side) -> str:
    """Why a metric can't be compared between the two; "" where it can."""
    for side in (a, b):
        if name in side.stored.unreadable:
            return f"{side.name}: {side.stored.unreadable[name]}"
        if name not in side.stored.scored:
            return f"{side.name} was not scored with it"
        if side.model not in side.stored.scored[name].columns:
            return f"{side.name} has no score of it"
    ours, theirs = a.stored.scored[name], b.stored.scored[name]
    if ours.metric.signature != theirs.metric.signature:
        return f"other settings: {ours.metric.signature} and {theirs.metric.signature}"
    if not ours.rows and a.stored.path.resolve() != b.stored.path.resolve():
        return "it was taken on other texts than the set's, which are not stored"
    return ""
