"""A finished sweep, made up: members with known scores, equal stages shared by links."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from report_fixture import MODELS, make_run
from runs_fixture import read_summary, row_scores, set_scores, write_summary

from espalier.sweep_file import Factor, Member, SweepFile, write_sweep

QUESTION = {"en": "How much does more data help?", "zh": "更多数据有多大帮助？"}
ROWS = "curate.rows"
# (levels, seed) -> the score of a member.
Score = Callable[[tuple[Any, ...], int], float]


def make_members(
    folder: Path,
    factors: Sequence[Factor],
    seeds: Sequence[int] = (1, 2, 3),
    score: Score | None = None,
    *,
    metric: str = "exact_match",
    stages: Sequence[str] = ("sft", "evaluate"),
    rows: int = 12,
    settings: Sequence[tuple[Any, ...]] | None = None,
) -> list[Member]:
    """A run folder for every combination of levels and seeds; `score` sets a metric of SFT."""
    found = []
    for number, (levels, seed) in enumerate(
        itertools.product(
            settings or list(itertools.product(*(factor.levels for factor in factors))), seeds
        )
    ):
        name = f"m{number:03d}-seed{seed}"
        run = make_run(
            folder / "members" / name, stages=stages, rows=rows, models=MODELS[2:], seed=number + 1
        )
        if score:
            give(run, "sft", metric, score(levels, seed))
        chosen = {factor.key: level for factor, level in zip(factors, levels, strict=True)}
        found.append(Member(name, chosen, seed, "done", seconds=61.0))
    return found


def give(run: Path, model: str, metric: str, value: float) -> None:
    """Give a model this score: in the summary, and on average in its rows."""
    rows = row_scores(run, model, metric)
    mean = sum(rows.values()) / len(rows)
    set_scores(run, model, metric, {key: old - mean + value for key, old in rows.items()})
    summary = read_summary(run)
    for one in summary["scores"]:
        if (one["model"], one["metric"]) == (model, metric):
            one.update(value=value, low=value - 0.1, high=value + 0.1)
    write_summary(run, summary)


def drop(run: Path, model: str, metric: str) -> None:
    """Take a score out of a run."""
    summary = read_summary(run)
    summary["scores"] = [
        s for s in summary["scores"] if (s["model"], s["metric"]) != (model, metric)
    ]
    write_summary(run, summary)


def share(folder: Path, members: Sequence[Member], stage: str, of: Mapping[str, str]) -> None:
    """Move a stage of the members to `shared/`: those with equal words in `of` share the first."""
    for member in members:
        place = f"shared/{stage}-{of[member.name]}"
        own = folder / "members" / member.name / stage
        if not (folder / place).exists():
            (folder / place).parent.mkdir(exist_ok=True)
            own.rename(folder / place)
        else:
            for path in sorted(own.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            own.rmdir()
        os.symlink(f"../../{place}", own)
        member.stages[stage] = place


def write(
    folder: Path,
    factors: Sequence[Factor],
    members: Sequence[Member],
    answer: Mapping[str, Any] | None,
    question: Any = QUESTION,
    section: Mapping[str, Any] | None = None,
) -> Path:
    """Write `sweep.json` and the recipe; returns the folder."""
    file = SweepFile(
        "recipes/scale.yaml", question, dict(answer) if answer else None,
        list(factors), list(members),
    )  # fmt: skip
    write_sweep(folder, file)
    recipe = {"name": folder.name, "seed": 1, "report": {}, "sweep": dict(section or {})}
    (folder / "recipe.resolved.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return folder


def seconds_of(folder: Path, place: str) -> float:
    manifest = json.loads((folder / place / "manifest.json").read_text(encoding="utf-8"))
    return float(manifest["wall_seconds"])
