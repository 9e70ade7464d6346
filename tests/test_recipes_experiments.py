"""The experiments: each asks one question in both languages, and its page answers it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from espalier.cli import main
from espalier.recipe import Recipe, load_recipe

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "recipes" / "experiments"
NAMES = tuple(
    sorted(path.stem for path in FOLDER.glob("*.yaml") if not path.stem.startswith("common"))
)
EFFECT = re.compile(r"\[[−-]?[\d.]+, [−-]?[\d.]+\]")  # an interval


def test_there_is_one_for_every_question() -> None:
    assert set(NAMES) == {
        "base-sft-ppo", "data-scale", "strategies", "format", "quality-quantity", "curation",
        "reward-noise", "ppo-settings",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_each_asks_in_both_languages_and_repeats(name: str) -> None:
    for small in (False, True):
        recipe = load_recipe(FOLDER / f"{name}.yaml", small=small)
        asked = recipe.section("sweep")
        question = question_of(recipe)
        assert question["en"].endswith("?")
        assert question["zh"].endswith("？")
        assert asked.seeds >= (2 if small else 3)
        assert asked.answer.metric in (recipe.section("evaluate").metrics or [asked.answer.metric])
    head = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").split("\n")
    assert head[2] == f"#   espalier sweep recipes/experiments/{name}.yaml"


@pytest.mark.parametrize("name", NAMES)
def test_the_plan_of_each_can_be_shown(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    command = ["sweep", f"recipes/experiments/{name}.yaml", "--runs-dir", str(tmp_path)]
    assert main([*command, "--dry-run"]) == 0
    assert "members" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", NAMES)
def test_the_small_variant_answers_its_question(name: str, tmp_path: Path) -> None:
    started = time.monotonic()
    command = [
        sys.executable, "-m", "espalier.cli", "sweep", f"recipes/experiments/{name}.yaml",
        "--small", "--processes", "2", "--runs-dir", str(tmp_path),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    print(f"{name}-small: {time.monotonic() - started:.0f} s")
    run = tmp_path / f"{name}-small"
    recipe = load_recipe(FOLDER / f"{name}.yaml", small=True)
    answer: dict[str, Any] = json.loads((run / "answer.json").read_text("utf-8"))
    assert answer["question"] == question_of(recipe)
    assert answer["members"]["done"] == answer["members"]["total"] > 1
    assert answer["members"]["failed"] == 0
    # An effect with its interval, or that the data cannot tell; never neither.
    for language in ("en", "zh"):
        told = " ".join(answer["sentences"][language])
        assert EFFECT.search(told), told
        assert answer["sentence"][language] == answer["sentences"][language][0]
    page = (run / "comparison.html").read_text(encoding="utf-8")
    assert question_of(recipe)["zh"] in page
    each_stage_ran_once(run)


def question_of(recipe: Recipe) -> dict[str, str]:
    asked = recipe.section("sweep").question
    return dict(asked if isinstance(asked, dict) else asked.model_dump())


def each_stage_ran_once(run: Path) -> None:
    """No two folders of results have equal inputs, and all members point into them."""
    prints: dict[tuple[str, str], Path] = {}
    for manifest in run.glob("shared/*/manifest.json"):
        said = json.loads(manifest.read_text("utf-8"))
        key = (said["stage"], json.dumps(said["fingerprint"], sort_keys=True))
        assert key not in prints, (manifest, prints[key])
        prints[key] = manifest
    assert prints
    members = json.loads((run / "sweep.json").read_text("utf-8"))["members"]
    for member in members:
        for folder in member["stages"].values():
            assert (run / folder / "manifest.json").is_file()
