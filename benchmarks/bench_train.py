"""Training speed beside TRL and the tutorial way, at equal settings, one thread each.

    python benchmarks/bench_train.py [--only sft,bf16,vocab,reward,ppo] [--runs 5] [--quick]

Every run is a process of its own; the tools of a part take turns, and medians are shown. Counted
are real tokens (without padding, prompts included), or episodes, a CPU second of the training
steps alone: imports, loading, the first step and checkpoints are not in it. In one part all tools
have the same weights, rows, examples (or, packed, tokens) an optimizer step, steps, clipping and
AdamW. results/train.json keeps the parts of earlier calls; results/train.md shows all.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine import RESULTS, data_folder, header
from training_data import CAP, prepare

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "bench-train"
OURS, TRL, TRL_PPO = ".venv", ".venv-trl", ".venv-trl-ppo"
LARGE = 32_000
SMALL = 2048
COMMON: dict[str, Any] = {
    "minibatch": 8,
    "cap": CAP,
    "learning_rate": 1e-3,
    "max_grad_norm": 1.0,
    "token_budget": 2048,
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
    "vocab": (VOCABULARY, "SFT, fp32, vocabulary of 32,000", LARGE, 3,
              [("ours", "tutorial", 2.2)]),
    "reward": (REWARD, "Reward model, fp32", SMALL, 8, [("ours", "TRL", 2.2)]),
    "ppo": (PPO, "PPO, fp32, answers of 64 tokens", SMALL, 3,
            [("ours", "TRL 1.12", 1.3), ("ours, bf16", "TRL 1.12", 3.0)]),
}  # fmt: skip
PPO_SETTINGS = {
    "rollout_batch": 32, "epochs": 4, "max_new_tokens": 64,
    "learning_rate": 1e-5, "token_budget": 1024,
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
    for name in options.only.split(","):
        if not available(name):
            return 1
        folder = prepare(WORK / f"v{PARTS[name][2]}", data, PARTS[name][2])
        part = measure(name, folder, 1 if options.quick else options.runs, quick=options.quick)
        if not options.quick:
            keep(name, part)
    if not options.quick:
        show(options.runs)
    return 0


def available(name: str) -> bool:
    """Whether the environments of a part are there; says what to do where one is not."""
    if name not in PARTS:
        print(f"bench-train: no part {name!r}; there are {', '.join(PARTS)}", file=sys.stderr)
        return False
    missing = {env for env, _, _ in PARTS[name][0].values() if not python(env).exists()}
    if missing:
        print(f"bench-train: {', '.join(sorted(missing))}: make setup-peers", file=sys.stderr)
    return not missing


def python(environment: str) -> Path:
    own = environment == OURS
    return Path(sys.executable) if own else ROOT / environment / "bin" / "python"


def measure(name: str, folder: Path, runs: int, *, quick: bool) -> Result:
    """All rows of a part, taking turns; medians and the ratios of the bars."""
    rows, title, _, steps, bars = PARTS[name]
    found: dict[str, list[Result]] = {row: [] for row in rows}
    for number in range(runs):
        for row, (environment, worker, changes) in rows.items():
            settings = settings_of(name, folder, 2 if quick else steps, changes)
            result = run(environment, worker, settings)
            found[row].append(result)
            print(
                f"  {title}: run {number + 1}: {row}: {result['per_second']:,.2f} a CPU second, "
                f"{result['peak_mb']:,.0f} MB",
                flush=True,
            )
    medians = {
        row: {
            "per_second": statistics.median(r["per_second"] for r in results),
            "all": [round(r["per_second"], 3) for r in results],
            "peak_mb": max(r["peak_mb"] for r in results),
            "steps": results[0]["steps"],
            **({"optimizer_steps": n} if (n := results[0].get("optimizer_steps")) else {}),
        }
        for row, results in found.items()
    }
    ratios = [
        {
            "row": row,
            "against": other,
            "ratio": medians[row]["per_second"] / medians[other]["per_second"],
            "bar": bar,
        }
        for row, other, bar in bars
    ]
    about = json.loads((folder / "done.json").read_text(encoding="utf-8"))
    for item in ratios:
        print(f"  {title}: {item['row']} / {item['against']}: {item['ratio']:.2f} × "
              f"(at least {item['bar']})", flush=True)  # fmt: skip
    return {"title": title, "runs": runs, "rows": medians, "ratios": ratios, "data": about}


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


def run(environment: str, worker: str, settings: dict[str, Any]) -> Result:
    """One worker in a process of its own, on one thread."""
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    variables = {
        **os.environ,
        **dict.fromkeys(threads, "1"),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(ROOT) if environment == OURS else "",
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "settings.json"
        path.write_text(json.dumps(settings), encoding="utf-8")
        done = subprocess.run(
            [str(python(environment)), str(ROOT / "benchmarks" / worker), str(path)],
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        print(done.stderr[-3000:], file=sys.stderr)
        raise SystemExit(f"bench-train: {worker} failed")
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


# Results ----------------------------------------------------------------------------------


def kept() -> dict[str, Result]:
    path = RESULTS / "train.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def keep(name: str, part: Result) -> None:
    """Put a part beside those of earlier calls."""
    parts = {**kept(), name: part}
    RESULTS.mkdir(exist_ok=True)
    ordered = {name: parts[name] for name in PARTS if name in parts}
    (RESULTS / "train.json").write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


def show(runs: int) -> None:
    """Write results/train.md from all parts that were measured."""
    parts = kept()
    lines = [*header("Training beside TRL", runs), *preamble(parts)]
    for name, part in parts.items():
        unit = "episodes" if name == "ppo" else "tokens"
        lines += [
            f"## {part['title']}",
            "",
            f"| | {unit} a CPU second | peak MB |",
            "|---|---|---|",
        ]
        for row, result in part["rows"].items():
            digits = 2 if name == "ppo" else 0
            lines.append(
                f"| {row} | {result['per_second']:,.{digits}f} | {result['peak_mb']:,.0f} |"
            )
        lines += ["", *(bar_line(item) for item in part["ratios"]), ""]
    text = "\n".join(lines).rstrip() + "\n"
    (RESULTS / "train.md").write_text(text, encoding="utf-8")
    print(text)


def bar_line(item: Result) -> str:
    reached = "reached" if item["ratio"] >= item["bar"] else "missed"
    return (
        f"- {item['row']} / {item['against']}: **{item['ratio']:.2f} ×** "
        f"(wanted {item['bar']:g}: {reached})"
    )


def preamble(parts: dict[str, Result]) -> list[str]:
    """What was measured."""
    about = next(iter(parts.values()))["data"]
    return [
        f"Made by `make bench-train`. Llama of {about['parameters'] / 1e6:.2f} million parameters "
        f"(vocabulary 2,048), prompted tasks of {about['mean_tokens']:.0f} tokens on average "
        f"(at most {CAP}), {about['trained']:.0%} of them answers; human preference pairs for the "
        "reward model (ours: `share_prompts: auto`, which shares the prompts of these pairs; "
        "shared tokens count as often as they are in the rows). One thread each. Counted are real "
        "tokens (no padding, prompts included) or episodes a CPU second of the training steps: "
        "without imports, loading, the first step, checkpoints. Eight examples (pairs) an "
        "optimizer step everywhere; TRL packed: as many tokens, all packs of a step in one pass, "
        "as padded rows are, or one pack a pass, which is its fastest on a CPU. Ours: token_budget "
        "2,048 (PPO: 1,024). AdamW, gradients clipped to 1, no gradient checkpointing (TRL's "
        "default is on) but in the row of defaults. PPO: 32 episodes an update, 4 epochs of 4 "
        "minibatches: 16 steps of policy and of critic; TRL's has one optimizer for both and does "
        "not clip.",
        "",
    ]


if __name__ == "__main__":
    raise SystemExit(main())
