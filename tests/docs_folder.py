"""A folder with everything that the commands of the documentation name: small files, a tiny model,
finished runs."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml
from own_data import comparisons, share_gpt

ROOT = Path(__file__).resolve().parents[1]
TOPICS = ("rivers", "bread", "clocks", "maples", "kites", "salt", "owls", "ferries")
FAST = {"resamples": 200, "permutations": 200, "sampling": {"max_tokens": 8}}


def readme_recipe(text: str) -> dict[str, Any]:
    """The recipe of the README for a model of 256 positions, with some steps of each training."""
    recipe: dict[str, Any] = yaml.safe_load(text)
    recipe["curate"]["holdout"] = {"count": 24, "prompts": 24}
    recipe["curate"]["preferences"] = {"eval_count": 10}
    # Enough for the models to answer differently, so that there is something to rate.
    recipe["train"]["sft"] |= {"max_length": 128, "steps": 40, "minibatch": 16}
    recipe["train"]["sft"] |= {"learning_rate": 1e-2, "optimizer": "muon"}
    recipe["train"]["ppo"] |= {"max_new_tokens": 8, "iterations": 1, "rollout_batch": 8}
    recipe["train"]["ppo"] |= {"minibatch": 8, "epochs": 2, "learning_rate": 1e-2}
    recipe["train"]["ppo"] |= {"critic_only_iterations": 0, "kl_coefficient": 0.0}
    recipe["train"]["ppo"] |= {"held_out": None}
    for stage in ("reward", "reward_eval"):
        recipe["train"][stage] |= {"max_length": 128, "minibatch": 8}
    recipe["evaluate"] |= FAST
    return recipe


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def data_files(folder: Path) -> None:
    """Dialogues, instructions, pairs, questions and answers to them; the recipes of the project."""
    (folder / "recipes").symlink_to(ROOT / "recipes")
    (folder / "curate").symlink_to(ROOT / "curate")
    for name in ("dialogues.json", "theirs.json"):
        share_gpt(folder / name)
    comparisons(folder / "comparisons.jsonl")
    prompts = [f"Say in {n} words why {topic} matter." for n in range(2, 22) for topic in TOPICS]
    rows = [{"instruction": p, "input": "", "output": f"They matter: {p[7:20]}"} for p in prompts]
    write_lines(folder / "theirs.jsonl", rows)
    write_lines(folder / "benchmark.jsonl", rows[3:6])
    asked = [{"id": f"q{n}", "instruction": f"Say {t} twice, {n}.", "output": f"{t} {t}"}
             for n in range(5) for t in TOPICS]  # fmt: skip
    asked = [{**row, "id": f"q{number}"} for number, row in enumerate(asked)]
    for name in ("questions.jsonl", "prompts.jsonl"):
        write_lines(folder / name, asked)
    for name, length in (("ours", 2), ("others", 1), ("old", 1), ("new", 2)):
        answers = [{"id": row["id"], "answer": " ".join(row["output"].split()[:length])}
                   for row in asked]  # fmt: skip
        write_lines(folder / f"{name}.jsonl", answers)
    (folder / "house.yaml").write_text(
        "name: house\ncriteria:\n  - {name: tone, description: Friendly, never servile.}\n",
        encoding="utf-8",
    )


def models_and_runs(folder: Path, recipe: dict[str, Any], main: Callable[..., int]) -> None:
    """A model, an adapter, and the finished runs; call it inside `folder`."""
    import tiny

    model = tiny.model(max_position_embeddings=256, initializer_range=0.02)
    model.save_pretrained(folder / "path/to/model")
    tiny.tokenizer().save_pretrained(folder / "path/to/model")
    (folder / "models").mkdir()
    shutil.copytree(folder / "path/to/model", folder / "models/x")
    (folder / "mine.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    assert main(["run", "mine.yaml"]) == 0
    for name in ("other", "old", "new", "lr-1", "lr-2", "demo"):
        shutil.copytree(folder / "runs/mine", folder / f"runs/{name}")
    adapted = {
        "name": "adapted",
        "curate": {"sources": [{"kind": "file", "path": "theirs.jsonl"}]},
        "train": {"sft": recipe["train"]["sft"] | {"lora": {"r": 2, "alpha": 4}, "merge": False}},
    }
    (folder / "adapted.yaml").write_text(yaml.safe_dump(adapted), encoding="utf-8")
    assert main(["run", "adapted.yaml"]) == 0
    shutil.move(folder / "runs/adapted/sft/model", folder / "path/to/adapter")
    swept = {
        "name": "epochs",
        "curate": adapted["curate"] | {"holdout": {"count": 24}},
        "train": {"sft": recipe["train"]["sft"]},
        "evaluate": {"models": [{"name": "sft", "stage": "sft"}], "metrics": ["chrf"]} | FAST,
        "sweep": {
            "over": {"train.sft.steps": [2, 4]},
            "answer": {"metric": "chrf", "model": "sft"},
        },
    }
    (folder / "swept.yaml").write_text(yaml.safe_dump(swept), encoding="utf-8")
    assert main(["sweep", "swept.yaml"]) == 0


def ratings(folder: Path, main: Callable[..., int]) -> None:
    """Ratings of `runs/mine` by several people: a database, a file of the page, two sheets."""
    from espalier.blind import pair_items, read_answers
    from espalier.rating_store import Entry, RatingStore, settle, stored_rows

    path = folder / "runs/mine/ratings/ratings.sqlite"
    store = RatingStore(path)
    items = pair_items(read_answers(folder / "runs/mine"))
    store.add_items(items)
    for rater in ("ann", "bo", "cy"):
        for number, item in enumerate(items):
            verdict = "A" if number % 3 else "B"
            store.add(Entry(f"{rater}{number}", item.name, rater, "pairs", verdict))
    store.close()
    settle(path)
    rows = [{**row, "rater": "me"} for row in stored_rows(path) if row["rater"] == "ann"]
    text = json.dumps(rows, ensure_ascii=False, default=str)
    (folder / "ratings-mine.json").write_text(text, encoding="utf-8")
    assert main(["ratings", "sheet", "runs/mine", "--output", "sheet.csv"]) == 0
    with (folder / "sheet.csv").open(encoding="utf-8-sig", newline="") as file:
        sheet = [{**row, "verdict": "A"} for row in csv.DictReader(file)]
    for name in ("ann", "bo"):
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(sheet[0]))
            writer.writeheader()
            writer.writerows(sheet)
    (folder / "sheet.csv").unlink()
