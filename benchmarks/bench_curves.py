"""Learning curves on real data beside TRL: equal weights, rows, order and budget, float32.

    python benchmarks/bench_curves.py [--only reward,sft] [--quick]

A reward model is trained from scratch on human preference pairs, split by prompt, and a language
model on prompted tasks, by ours and by TRL (`make setup-peers`). Losses are compared step by
step; both results are measured by the same code on rows that neither has seen. Writes
results/curves.md and results/curves.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import RESULTS, data_folder, header
from training_data import CAP, PAIRS, causal, prepare, save, scalar

from espalier.encoding import Encoded
from espalier.formats.read import read_pairs
from espalier.models import load_model, load_tokenizer
from espalier.scoring import reward_scores, token_logprobs
from espalier.templates import get_template
from espalier.train.batching import epoch_order
from espalier.train.config import SFTConfig
from espalier.train.config_rl import RewardConfig
from espalier.train.monitor import read_metrics
from espalier.train.reward_loss import BradleyTerry
from espalier.train.reward_pairs import EncodedPair, encode_pairs, split_by_prompt
from espalier.train.tasks import NextToken
from espalier.train.trainer import fit

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "bench-curves"
PYTHON = ROOT / ".venv-trl" / "bin" / "python"
SEED = 1
BATCH = 16
SHAPE = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 2}
RATES = {"reward": 5e-4, "sft": 2e-3}
EPOCHS = {"reward": 2, "sft": 1}
MARKS = 10
RESAMPLES = 2000
Result = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description="Learning curves beside TRL.")
    parser.add_argument("--only", default="reward,sft", help="parts, separated by commas")
    parser.add_argument("--quick", action="store_true", help="few rows, not written")
    options = parser.parse_args()
    data = data_folder()
    if data is None or not PYTHON.exists():
        print("bench-curves: needs the real data and `make setup-peers`", file=sys.stderr)
        return 1
    torch.set_num_threads(1)
    folder = prepare(WORK / "data", data, 2048, count=1600)
    found = kept()
    for name in options.only.split(","):
        found[name] = part(name, folder, data, limit=64 if options.quick else None)
    if not options.quick:
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / "curves.json"
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        show(found)
    return 0


def kept() -> dict[str, Result]:
    path = RESULTS / "curves.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def part(name: str, folder: Path, data: Path, *, limit: int | None) -> Result:
    """Train both ways and compare."""
    tokenizer = load_tokenizer(folder / "model")
    start = WORK / f"start-{name}"
    make = scalar if name == "reward" else causal
    save(make(tokenizer, **SHAPE), tokenizer, start)
    rows, held_out = reward_rows(data, tokenizer) if name == "reward" else sft_rows(folder)
    rows, held_out = rows[:limit], held_out[:limit]
    pad = tokenizer.pad_token_id
    task: Any = BradleyTerry(pad, 0.0) if name == "reward" else NextToken(pad)
    # A short last minibatch would shift all that comes after it in TRL's pass over the list.
    rows = rows[: len(rows) // BATCH * BATCH]
    order = in_epochs(rows, task, EPOCHS[name])
    print(f"{name}: {len(rows):,} rows, {len(order) // BATCH} steps", flush=True)
    ours, our_losses = train_ours(name, start, rows, task)
    theirs, their_losses = train_trl(name, start, [rows[i] for i in order])
    measure: Any = held_out_pairs if name == "reward" else held_out_perplexity
    return {
        "rows": len(rows),
        "held_out": len(held_out),
        "steps": len(our_losses),
        "ours": our_losses,
        "trl": their_losses,
        "parameters": sum(p.numel() for p in ours.parameters()),
        **measure(ours, theirs, tokenizer, held_out),
    }


def in_epochs(rows: Sequence[Any], task: Any, epochs: int) -> list[int]:
    """Places of the rows as ours deals them out, all epochs in a row."""
    costs = [task.cost(row) for row in rows]
    return [
        i
        for epoch in range(epochs)
        for batch in epoch_order(costs, BATCH, seed=SEED, epoch=epoch)
        for i in batch
    ]


# Data -------------------------------------------------------------------------------------


def reward_rows(data: Path, tokenizer: Any) -> tuple[list[EncodedPair], list[EncodedPair]]:
    """Training pairs and held-out pairs; no prompt is in both."""
    options = RewardConfig.model_validate({"max_length": CAP, "validation_fraction": 0.25})
    pairs = list(read_pairs(data / PAIRS, on_bad_row="quarantine", rejects=[]))
    train, held_out = split_by_prompt([(pair, 1) for pair in pairs], options, SEED)
    template = get_template("espalier")
    first, second = (
        encode_pairs(tokenizer, template, part, CAP, options)[0] for part in (train, held_out)
    )
    return first, second


def sft_rows(folder: Path) -> tuple[list[Encoded], list[Encoded]]:
    rows = [
        Encoded(row["ids"], row["trained"])
        for row in json.loads((folder / "sft.json").read_text(encoding="utf-8"))
    ]
    cut = len(rows) * 3 // 4
    return rows[:cut], rows[cut:]


# Training ---------------------------------------------------------------------------------


def train_ours(name: str, start: Path, rows: Sequence[Any], task: Any) -> tuple[Any, list[float]]:
    """The trained model, and the loss of every step."""
    values = {"minibatch": BATCH, "epochs": EPOCHS[name], "learning_rate": RATES[name],
              "optimizer": "adamw", "precision": "fp32", "schedule": "constant", "warmup": 0,
              "log_every": 1, "checkpoint_every": 100_000, "max_grad_norm": 1.0,
              "token_budget": 4096}  # fmt: skip
    config: Any = RewardConfig if name == "reward" else SFTConfig
    options = config.model_validate(values)
    model = load_model(start, kind="reward" if name == "reward" else "causal")
    with tempfile.TemporaryDirectory() as folder:
        fit(model, rows, task, options, folder=Path(folder) / "stage", seed=SEED)
        lines = list(read_metrics(Path(folder) / "stage" / "metrics.jsonl"))
    return model.eval(), [line["loss"] for line in lines]


def train_trl(name: str, start: Path, rows: Sequence[Any]) -> tuple[Any, list[float]]:
    """The same by TRL, on rows in the given order."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        job = {
            "name": name, "kind": name, "model": str(start), "batch": BATCH, "accumulation": 1,
            "steps": len(rows) // BATCH, "learning_rate": RATES[name], "max_grad_norm": 1.0,
            "save_to": str(folder / "model"), "rows": [as_trl(row) for row in rows],
        }  # fmt: skip
        path = folder / "jobs.json"
        path.write_text(json.dumps([job]), encoding="utf-8")
        done = subprocess.run(
            [str(PYTHON), str(ROOT / "benchmarks" / "trl_reference.py"), str(path)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            print(done.stderr[-3000:], file=sys.stderr)
            raise SystemExit("bench-curves: TRL failed")
        losses = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["losses"]
        kind: Any = "reward" if name == "reward" else "causal"
        return load_model(folder / "model", kind=kind), losses


def as_trl(row: Any) -> dict[str, Any]:
    if isinstance(row, EncodedPair):
        return {"chosen_ids": row.chosen, "rejected_ids": row.rejected}
    labels = [t if learnt else -100 for t, learnt in zip(row.ids, row.trained, strict=True)]
    return {"input_ids": row.ids, "labels": labels}


# Held out ---------------------------------------------------------------------------------


def held_out_pairs(
    ours: Any, theirs: Any, tokenizer: Any, pairs: Sequence[EncodedPair]
) -> dict[str, Any]:
    """Share of pairs in the right order, and the difference, with 95 % intervals (bootstrap)."""
    right = []
    for model in (ours, theirs):
        sides = [
            np.asarray(reward_scores(model, tokenizer, [p.answers[i] for p in pairs]))
            for i in (0, 1)
        ]
        right.append((sides[0] > sides[1]).astype(float))
    weights = np.ones(len(pairs))
    return {"measure": "accuracy", **compared(right, weights, lambda mean: mean)}


def held_out_perplexity(
    ours: Any, theirs: Any, tokenizer: Any, rows: Sequence[Encoded]
) -> dict[str, Any]:
    """Perplexity of the answers' tokens, and the difference, with 95 % intervals (bootstrap)."""
    means, weights = [], np.array([float(row.targets) for row in rows])
    for model in (ours, theirs):
        found = token_logprobs(model, [row.ids for row in rows])
        sums = [
            -float(numbers[np.asarray(row.trained[1:], dtype=bool)].sum())
            for row, numbers in zip(rows, found, strict=True)
        ]
        means.append(np.array(sums) / weights)
    return {"measure": "perplexity", **compared(means, weights, math.exp)}


def compared(values: Sequence[Any], weights: Any, final: Any) -> dict[str, Any]:
    """Weighted means of ours and TRL's and their difference, over resampled rows."""
    rng = np.random.default_rng(SEED)
    draws = [np.arange(len(weights))]
    draws += [rng.integers(0, len(weights), len(weights)) for _ in range(RESAMPLES)]
    table = np.array(
        [[final(float(np.average(v[d], weights=weights[d]))) for v in values] for d in draws]
    )
    columns = {"ours": table[:, 0], "trl": table[:, 1], "difference": table[:, 0] - table[:, 1]}
    return {
        "held_out_values": {
            name: [float(c[0]), *map(float, np.percentile(c[1:], [2.5, 97.5]))]
            for name, c in columns.items()
        }
    }


# Results ----------------------------------------------------------------------------------


def show(found: dict[str, Result]) -> None:
    """Write results/curves.md."""
    lines = [
        *header("Learning curves beside TRL", 1),
        "Made by `make bench-curves`. Equal start, rows, order, minibatches of "
        f"{BATCH}, AdamW at a constant rate, gradients clipped to 1, float32. Intervals: 95 %, "
        "bootstrap over held-out rows, the same draws for both.",
        "",
    ]
    for name, part in found.items():
        lines += [f"## {TITLES[name]}", "", summary(part), ""]
        lines += ["| step | ours | TRL | relative difference |", "|---|---|---|---|"]
        count = part["steps"]
        marks = sorted({0, 1, 2, *(round(i * (count - 1) / MARKS) for i in range(MARKS + 1))})
        for i in marks:
            ours, trl = part["ours"][i], part["trl"][i]
            lines.append(f"| {i + 1} | {ours:.5f} | {trl:.5f} | {abs(ours / trl - 1):.1e} |")
        lines.append("")
    text = "\n".join(lines).rstrip() + "\n"
    (RESULTS / "curves.md").write_text(text, encoding="utf-8")
    print(text)


TITLES = {
    "reward": "Reward model from scratch, human preference pairs, split by prompt",
    "sft": "SFT from scratch, prompted tasks",
}


def summary(part: Result) -> str:
    """Rows, the largest difference of the losses, and what was held out."""
    apart = [abs(a / b - 1) for a, b in zip(part["ours"], part["trl"], strict=True)]
    digits = 3 if part["measure"] == "accuracy" else 2
    shown = {
        name: f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
        for name, (value, low, high) in part["held_out_values"].items()
    }
    return (
        f"{part['rows']:,} rows, {part['steps']} steps, {part['parameters'] / 1e6:.2f} million "
        f"parameters. Relative difference of the losses: {apart[0]:.1e} at the first step, at most "
        f"{max(apart):.1e}, in the median {float(np.median(apart)):.1e}. On {part['held_out']:,} "
        f"held-out rows the {part['measure']} is {shown['ours']} for ours and {shown['trl']} for "
        f"TRL; ours − TRL {shown['difference']}."
    )


if __name__ == "__main__":
    raise SystemExit(main())
