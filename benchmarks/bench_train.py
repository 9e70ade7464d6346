"""Training speed beside TRL and the tutorial way, at equal settings, one thread each.

    python benchmarks/bench_train.py [--only sft,bf16,vocab,reward,ppo] [--runs 5] [--quick]

Every run is a process of its own; the tools of a part take turns, and medians are shown. Counted
are real tokens (without padding, prompts included), or episodes, a CPU second of the training
steps alone: imports, loading, the first step and checkpoints are not in it. In one part all tools
have the same weights, rows, examples (or, packed, tokens) an optimizer step, steps, clipping and
AdamW, and each run is checked for it (`train_runs.py`). A run that fails says so and costs no
other its result; finished runs are kept in build/bench-train, so a stopped benchmark goes on where
it stopped, as long as the code is the same. results/train.json keeps the parts of earlier calls;
results/train.md shows all.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from machine import data_folder
from processes import OURS, ROOT, python
from train_report import bar_line, keep, show
from train_runs import Kept, fingerprint, run
from training_data import CAP, prepare

WORK = ROOT / "build" / "bench-train"
TRL, TRL_PPO = ".venv-trl", ".venv-trl-ppo"
LARGE = 32_000
SMALL = 2048
COMMON: dict[str, Any] = {
    "minibatch": 8,
    "cap": CAP,
    "learning_rate": 1e-3,
    "max_grad_norm": 1.0,
    "token_budget": 1024,
    "bf16": False,
    "packed": False,
    "one_pack": False,
    "checkpointing": False,
    "default": False,
    "shared": "auto",
}
Result = dict[str, Any]
# Name of a row: (environment, worker, settings that differ).
Rows = dict[str, tuple[str, str, dict[str, Any]]]

SFT: Rows = {
    "tutorial": (OURS, "tutorial_loop.py", {}),
    "TRL, padded": (TRL, "trl_sft.py", {}),
    "TRL, packed": (TRL, "trl_sft.py", {"packed": True}),
    "TRL, packed, a pack a pass": (TRL, "trl_sft.py", {"packed": True, "one_pack": True}),
    "ours": (OURS, "train_ours.py", {"kind": "sft"}),
}
BF16: Rows = {
    "TRL, padded": (TRL, "trl_sft.py", {"bf16": True}),
    "ours": (OURS, "train_ours.py", {"kind": "sft", "bf16": True}),
}
VOCABULARY: Rows = {
    "tutorial": (OURS, "tutorial_loop.py", {}),
    "TRL, padded": (TRL, "trl_sft.py", {}),
    "ours": (OURS, "train_ours.py", {"kind": "sft"}),
}
REWARD: Rows = {
    "TRL": (TRL, "trl_reward.py", {}),
    "TRL, its defaults": (TRL, "trl_reward.py", {"default": True}),
    "ours": (OURS, "train_ours.py", {"kind": "reward"}),
    "ours, each answer alone": (OURS, "train_ours.py", {"kind": "reward", "shared": False}),
}
PPO: Rows = {
    "TRL 1.12": (TRL_PPO, "trl_ppo.py", {}),
    "ours": (OURS, "ppo_ours.py", {}),
    "ours, bf16": (OURS, "ppo_ours.py", {"bf16": True}),
}
# Rows, title, vocabulary, steps, bars: (row, what it is measured against, least ratio).
PARTS: dict[str, tuple[Rows, str, int, int, list[tuple[str, str, float]]]] = {
    "sft": (SFT, "SFT, fp32", SMALL, 12,
            [("ours", "TRL, padded", 1.7), ("ours", "TRL, packed", 1.5),
             ("ours", "TRL, packed, a pack a pass", 1.5)]),
    "bf16": (BF16, "SFT, bf16", SMALL, 12, [("ours", "TRL, padded", 2.0)]),
    "vocab": (VOCABULARY, "SFT, fp32, vocabulary of 32,000", LARGE, 4,
              [("ours", "tutorial", 2.2)]),
    "reward": (REWARD, "Reward model, fp32", SMALL, 8, [("ours", "TRL", 2.2)]),
    "ppo": (PPO, "PPO, fp32, answers of 64 tokens", SMALL, 3,
            [("ours", "TRL 1.12", 1.3), ("ours, bf16", "TRL 1.12", 3.0)]),
}  # fmt: skip
PPO_SETTINGS = {
    "rollout_batch": 32, "epochs": 4, "max_new_tokens": 64,
    "learning_rate": 1e-5, "token_budget": 1024, "temperature": 1.0, "kl_coefficient": 0.05,
    "clip": 0.2, "value_clip": 0.2, "gamma": 1.0, "gae_lambda": 0.95, "adam_epsilon": 1e-5,
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description="Benchmark training against its peers.")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one run of few steps, not written")
    parser.add_argument("--data", type=Path, help="the folder of real data")
    options = parser.parse_args()
    data = options.data or data_folder()
    if data is None:
        print("bench-train: no real data here (--data, or ESPALIER_DATA)", file=sys.stderr)
        return 1
    names = [name for name in options.only.split(",") if available(name)]
    failed = len(names) < len(options.only.split(","))
    for name in names:
        folder = prepare(WORK / f"v{PARTS[name][2]}", data, PARTS[name][2])
        part = measure(name, folder, 1 if options.quick else options.runs, quick=options.quick)
        failed |= any("failed" in row for row in part["rows"].values())
    if names and not options.quick:
        show(options.runs)
    return int(failed)


def available(name: str) -> bool:
    """Whether the environments of a part are there; says what to do where one is not."""
    if name not in PARTS:
        print(f"bench-train: no part {name!r}; there are {', '.join(PARTS)}", file=sys.stderr)
        return False
    missing = {env for env, _, _ in PARTS[name][0].values() if not python(env).exists()}
    if missing:
        print(f"bench-train: {', '.join(sorted(missing))}: make setup-peers", file=sys.stderr)
    return not missing


def measure(name: str, folder: Path, runs: int, *, quick: bool) -> Result:
    """All rows of a part, taking turns; medians and the ratios of the bars."""
    rows, title, _, steps, bars = PARTS[name]
    wanted = {
        row: settings_of(name, folder, 2 if quick else steps, changes)
        for row, (_, _, changes) in rows.items()
    }
    kept = Kept(WORK / "runs" / f"{name}-{fingerprint(wanted)}")
    found: dict[str, list[Result]] = {row: [] for row in rows}
    for number in range(runs):
        for row, (environment, worker, _) in rows.items():
            result = None if quick else kept.get(row, number)
            again = " (kept)" if result else ""
            result = result or run(environment, worker, wanted[row], ppo=name == "ppo")
            found[row].append(result)
            if not quick and "failed" not in result:
                kept.put(row, number, result)
            print(f"  {title}: run {number + 1}: {row}: {in_words(result)}{again}", flush=True)
    medians = {row: summary(results) for row, results in found.items()}
    ratios = [ratio(medians, *bar) for bar in bars]
    for item in ratios:
        print(f"  {title}: {bar_line(item)[2:]}", flush=True)
    about = json.loads((folder / "done.json").read_text(encoding="utf-8"))
    part = {"title": title, "runs": runs, "rows": medians, "ratios": ratios, "data": about}
    if not quick:
        keep(name, part, list(PARTS))
        # What failed is tried again by the next call, beside what is kept.
        if not any("failed" in row for row in medians.values()):
            kept.clear()
    return part


def in_words(result: Result) -> str:
    if "failed" in result:
        return f"failed: {result['failed']}"
    return f"{result['per_second']:,.2f} a CPU second, {result['peak_mb']:,.0f} MB"


def summary(results: list[Result]) -> Result:
    """Medians of the runs that worked; why, where some failed."""
    good = [r for r in results if "failed" not in r]
    failed = [r["failed"] for r in results if "failed" in r]
    told = {"failed": failed[-1]} if failed else {}
    if not good:
        return told
    return {
        "per_second": statistics.median(r["per_second"] for r in good),
        "all": [round(r["per_second"], 3) for r in good],
        "peak_mb": max(r["peak_mb"] for r in good),
        "steps": good[0]["steps"],
        "optimizer_steps": [optimizer["steps"] for optimizer in good[0]["optimizers"]],
        **told,
    }


def ratio(medians: dict[str, Result], row: str, other: str, bar: float) -> Result:
    own, theirs = (medians[name].get("per_second") for name in (row, other))
    measured = own / theirs if own and theirs else None
    return {"row": row, "against": other, "ratio": measured, "bar": bar}


def settings_of(name: str, folder: Path, steps: int, changes: dict[str, Any]) -> dict[str, Any]:
    """What a worker is told."""
    files = {"reward": ("reward", "pairs"), "ppo": ("model", "prompts")}
    model, data = files.get(name, ("model", "sft"))
    given = {
        **COMMON,
        **(PPO_SETTINGS if name == "ppo" else {}),
        "model": str(folder / model),
        "reward": str(folder / "reward"),
        "data": str(folder / f"{data}.json"),
        "steps": steps,
    }
    return {**given, **changes}


if __name__ == "__main__":
    raise SystemExit(main())
