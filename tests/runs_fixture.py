"""Run folders that differ in known ways, for the tests of comparisons."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import yaml
from report_fixture import MODELS, make_run

RATES = (0.0001, 0.001)
PENALTIES = (0.05, 0.2)
SEEDS = (1, 2, 3)


def make_sweep(folder: Path, rows: int = 16, seeds: tuple[int, ...] = SEEDS) -> list[Path]:
    """Every rate with every penalty and seed, in this order; models are SFT and PPO."""
    runs = []
    for rate in RATES:
        for penalty in PENALTIES:
            for seed in seeds:
                name = f"rate{rate:g}-kl{penalty:g}-seed{seed}"
                number = int(rate * 1e4) * 100 + int(penalty * 100) * 10 + seed
                skill = 0.2 if rate == RATES[1] else 0.0
                models = [
                    (n, label, kind, shots, min(1.0, level + skill * (n == "ppo")))
                    for n, label, kind, shots, level in MODELS[2:]
                ]
                stages = ("sft", "ppo", "evaluate")
                run = make_run(folder / name, stages=stages, rows=rows, models=models, seed=number)
                write_recipe(run, seed=seed, learning_rate=rate, kl_coefficient=penalty)
                runs.append(run)
    return runs


def write_recipe(run: Path, *, seed: int = 1, **ppo: Any) -> None:
    recipe = {
        "name": run.name,
        "seed": seed,
        "train": {"ppo": {**ppo, "clip": 0.2}},
        "evaluate": {"models": [{"name": "sft"}, {"name": "ppo"}]},
        "report": {"title": run.name},
    }
    (run / "recipe.resolved.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")


def row_scores(run: Path, model: str, metric: str) -> Mapping[str, float]:
    """The scores of one model by id, read without the code under test."""
    rows = pyarrow.parquet.read_table(run / "evaluate/scores.parquet").to_pylist()
    return {row["id"]: row[metric] for row in rows if row["model"] == model}


def set_scores(run: Path, model: str, metric: str, values: Mapping[str, float]) -> None:
    """Give a model other row scores, and the summary their mean."""
    path = run / "evaluate/scores.parquet"
    rows = pyarrow.parquet.read_table(path).to_pylist()
    for row in rows:
        if row["model"] == model and row["id"] in values:
            row[metric] = values[row["id"]]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    own = [row[metric] for row in rows if row["model"] == model]
    summary = read_summary(run)
    for score in summary["scores"]:
        if (score["model"], score["metric"]) == (model, metric):
            score["value"] = sum(own) / len(own)
    write_summary(run, summary)


def read_summary(run: Path) -> dict[str, Any]:
    found = json.loads((run / "evaluate/summary.json").read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def write_summary(run: Path, summary: Mapping[str, Any]) -> None:
    text = json.dumps(summary, ensure_ascii=False)
    (run / "evaluate/summary.json").write_text(text, encoding="utf-8")
