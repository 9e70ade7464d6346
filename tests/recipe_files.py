"""The recipes of published systems as tests read them, and how their small variants are run."""

from __future__ import annotations

import json
import re
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from espalier.cli import main
from espalier.recipe import Recipe, load_recipe

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "recipes"


@cache
def loaded(name: str, *, small: bool = False) -> Recipe:
    return load_recipe(FOLDER / f"{name}.yaml", small=small)


def text_of(name: str) -> str:
    return (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def head_of(name: str) -> str:
    """The comment before the first key."""
    lines = text_of(name).split("\n")
    count = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return "\n".join(lines[:count])


def value_at(recipe: Recipe, dotted: str) -> Any:
    value: Any = recipe.values
    for part in dotted.split("."):
        value = getattr(value, part)
    return value


def assert_offline(small: Recipe) -> None:
    """Nothing of a small variant is fetched from anywhere."""
    assert (small.shared.teacher.engine, small.shared.judge.engine) == ("offline", "offline")
    assert not any(model.path or model.api for model in small.section("evaluate").models)
    assert small.section("train.sft").model == "base"
    text = small.resolved_yaml()
    assert "http" not in text
    used = set(re.findall(r"\$\{data\}/([\w./-]+)", text))
    assert all((ROOT / str(small.shared.data) / path).is_file() for path in used), used


def run_small(name: str, runs: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Runs the small variant to its report; its summary of the evaluation."""
    monkeypatch.chdir(ROOT)
    started = time.monotonic()
    assert main(["run", f"recipes/{name}.yaml", "--small", "--runs-dir", str(runs)]) == 0
    print(f"{name}-small: {time.monotonic() - started:.0f} s")
    run = runs / f"{name}-small"
    assert (run / "report.html").stat().st_size > 100_000
    summary: dict[str, Any] = json.loads((run / "evaluate/summary.json").read_text("utf-8"))
    page = (run / "report.html").read_text(encoding="utf-8")
    for model in summary["models"]:
        assert model["label"] in page
    return summary


def score(summary: dict[str, Any], metric: str, model: str) -> float:
    (found,) = (
        s["value"] for s in summary["scores"] if (s["metric"], s["model"]) == (metric, model)
    )
    return float(found)
