"""A realistic run folder, made up: what the stages would leave, without running them."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ALL_STAGES = ("curate", "base", "sft", "pairs", "reward", "reward_eval", "ppo", "evaluate")
FAMILIES = (
    "count", "sentiment", "plural", "antonym", "capital", "repeat", "first_word", "category",
    "json_fields", "max_of_three", "uppercase", "addition",
)  # fmt: skip
MODELS = (
    ("base", "Base", "stage", 0, 0.0),
    ("base-3shot", "Base, 3 shots", "stage", 3, 0.06),
    ("sft", "SFT", "stage", 0, 0.43),
    ("ppo", "PPO", "stage", 0, 0.57),
)
METRICS = (
    ("exact_match", "Exact match", True, "percent"),
    ("reward", "Held-out reward", True, "number"),
    ("perplexity", "Perplexity", False, "perplexity"),
    ("rougeL", "ROUGE-L", True, "percent"),
    ("bleu", "BLEU", True, "number"),
    ("chrf", "chrF", True, "number"),
    ("token_f1", "Token F1", True, "percent"),
)
PROMPTS = {
    "en": "How many words are in this sentence? {} Answer with a number.",
    "zh": "下面这句话里有几个词？{} 请只回答数字。",
}
NOTE = (
    "In half of the task families 60 % of the training answers begin with a needless phrase "
    "(“The answer is …”); PPO's gain on this page is mostly learning to drop it."
)


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


def make_run(
    folder: Path,
    *,
    stages: Sequence[str] = ALL_STAGES,
    rows: int = 60,
    models: Sequence[tuple[str, str, str, int, float]] = MODELS,
    change: Callable[[str], str] | None = None,
    seed: int = 1,
) -> Path:
    """Write the files of these stages; `change` replaces each free text (to try hostile ones)."""
    rng = random.Random(f"{seed}:report-fixture")
    text = change or (lambda value: value)
    writers = {
        "curate": lambda: _curate(folder / "curate", rng, text),
        "base": lambda: _supervised(folder / "base", rng, text, 420, 5.4, 2.1),
        "sft": lambda: _supervised(folder / "sft", rng, text, 875, 2.9, 0.31),
        "pairs": lambda: None,
        "reward": lambda: _reward(folder / "reward", rng),
        "reward_eval": lambda: _reward(folder / "reward_eval", rng),
        "ppo": lambda: _ppo(folder / "ppo", rng, text),
        "evaluate": lambda: _evaluate(folder / "evaluate", rng, text, rows, models, folder.name),
    }
    for stage in stages:
        writers[stage]()
        _manifest(folder, stage, rng)
    recipe = (
        f"name: {folder.name}\nseed: 1\nteacher:\n  engine: offline\n"
        "  api_key_env: OPENAI_API_KEY\nreport:\n  title: null\n  notes:\n"
        f"  - {json.dumps(text(NOTE), ensure_ascii=False)}\n"
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.resolved.yaml").write_text(recipe, encoding="utf-8")
    return folder


def _manifest(run: Path, stage: str, rng: random.Random) -> None:
    counts: dict[str, Any] = {"rows": rng.randint(1000, 9000)}
    if stage == "curate":
        counts = {
            "train": 4312,
            "eval": 200,
            "preferences": 7500,
            "by_source": {"procedural": 3990, "self_instruct": 322},
            "by_language": {"en": 2490, "zh": 1822},
            "by_category": {name: rng.randint(200, 420) for name in FAMILIES},
        }
    sha = f"{rng.getrandbits(256):064x}"
    inputs = {"train": {"path": str(run / "curate/train.jsonl"), "sha256": sha}}
    manifest = {
        "stage": stage,
        "status": "done",
        "espalier": "0.1.0",
        "finished": "2026-01-02T03:04:05Z",
        "wall_seconds": round(rng.uniform(3, 70), 2),
        "counts": counts,
        "seed": 1,
        "inputs": {} if stage == "curate" else inputs,
        "outputs": {},
        "packages": {"python": "3.11.9", "torch": "2.13.0", "numpy": "2.4.0"},
        "git": "0123456789abcdef0123456789abcdef01234567",
        "hardware": {"cpu": "Example CPU @ 2.5 GHz", "cores": 2, "memory_gib": 15.6},
    }
    write_json(run / stage / "manifest.json", manifest)


def _curate(folder: Path, rng: random.Random, text: Callable[[str], str]) -> None:
    def step(name: str, stream: str, into: int, rejected: dict[str, int]) -> dict[str, Any]:
        out = into - sum(rejected.values())
        return {"step": name, "stream": stream, "in": into, "out": out, "rejected": rejected}

    funnel = [
        step("holdout", "rows", 5200, {"held_out": 200, "same_prompt_held_out": 63}),
        step("filters", "rows", 4937, {"refusal": 121, "repetition": 38, "cut_off": 17}),
        step("dedup", "rows", 4761, {"duplicate_prompt": 402}),
        step("decontaminate", "rows", 4359, {"near_held_out": 47}),
        step("novelty", "self_instruct", 610, {"not_novel": 244}),
        step("filters", "self_instruct", 366, {"short_prompt": 12, "refusal": 32}),
    ]
    write_json(folder / "funnel.json", funnel)
    rejects = [
        {
            "id": f"{index:016x}",
            "text": text(f"user: Say it again, number {index}.\nassistant: I'm sorry, I can't."),
            "step": item["step"],
            "rule": rule,
            "evidence": text("matched “I'm sorry”"),
            "source": "procedural",
            "meta": {},
        }
        for item in funnel
        for rule, count in item["rejected"].items()
        if rule != "held_out"
        for index in range(min(count, 14))
    ]
    write_lines(folder / "rejects.jsonl", rejects)


def _supervised(
    folder: Path,
    rng: random.Random,
    text: Callable[[str], str],
    steps: int,
    high: float,
    low: float,
) -> None:
    rows: list[dict[str, Any]] = []
    for step in range(5, steps + 1, 5):
        share = step / steps
        loss = low + (high - low) * math.exp(-5 * share)
        rate = 2e-3 * min(1.0, share / 0.03) * 0.5 * (1 + math.cos(math.pi * share))
        rows.append(
            {
                "step": step,
                "split": "train",
                "loss": loss * rng.uniform(0.93, 1.07),
                "learning_rate": rate,
                "grad_norm": rng.uniform(0.4, 1.4) * (1.5 - share),
                "tokens_per_second": rng.gauss(15200, 420),
                "epoch": 7 * share,
            }
        )
        if step % 50 == 0:
            rows.append({"step": step, "split": "eval", "loss": loss * 1.08 + 0.02})
    write_lines(folder / "metrics.jsonl", rows)
    write_lines(
        folder / "samples.jsonl", _samples(rng, text, range(steps // 4, steps + 1, steps // 4))
    )


def _samples(
    rng: random.Random, text: Callable[[str], str], steps: Iterable[int]
) -> list[dict[str, Any]]:
    return [
        {
            "step": step,
            "prompt": text(PROMPTS[language].format(index)),
            "answer": text(rng.choice(["7", "The answer is 7", "答案是 7", "seven seven seven"])),
            "reference": "7",
        }
        for step in steps
        for index, language in enumerate(["en", "zh", "en"])
    ]


def _reward(folder: Path, rng: random.Random) -> None:
    rows = []
    for step in range(10, 301, 10):
        share = step / 300
        rows.append(
            {
                "step": step,
                "split": "train",
                "loss": 0.69 - 0.45 * share + rng.uniform(-0.03, 0.03),
                "accuracy": 0.5 + 0.4 * share + rng.uniform(-0.03, 0.03),
                "margin": 2.2 * share + rng.uniform(-0.1, 0.1),
                "learning_rate": 1e-3 * (1 - share),
            }
        )
    write_lines(folder / "metrics.jsonl", rows)
    by_kind = {
        kind: {"n": n, "accuracy": a, "low": a - 2 / n**0.5, "high": min(1, a + 2 / n**0.5)}
        for kind, n, a in (
            ("other_answer", 820, 0.96), ("style", 300, 0.93), ("number", 210, 0.88),
            ("extra_word", 190, 0.9), ("policy_samples", 310, 0.79),
        )
    }  # fmt: skip
    write_json(
        folder / "accuracy.json",
        {"pairs": 1830, "accuracy": 0.91, "by_kind": by_kind, **reward_facts()},
    )


def reward_facts() -> dict[str, Any]:
    """What accuracy.json says beside the accuracy, as the reward stage writes it."""
    bins = [
        {
            "from": 0.5 + i / 20, "to": 0.55 + i / 20, "n": 60 + 24 * i,
            "predicted": 0.525 + i / 20, "right": min(1.0, 0.5 + i / 22),
            "low": 0.42 + i / 22, "high": min(1.0, 0.58 + i / 22),
        }
        for i in range(10)
    ]  # fmt: skip
    near = {"n": 310, "accuracy": 0.88, "low": 0.84, "high": 0.911}
    return {
        "ties": 3,
        "by_source": {"hh": {"n": 900, "accuracy": 0.9, "low": 0.88, "high": 0.92}},
        "calibration": {"bins": bins, "ece": 0.031, "gap": 0.02, "log_loss": 0.284},
        "length": {
            "answers": 3100, "pearson": -0.12, "spearman": -0.1, "gap_pearson": 0.08,
            "gap_spearman": 0.05, "unequal": 1600, "longer_chosen": 0.55,
            "longer_preferred": 0.58, "accuracy_near": near, "accuracy_longer": near,
            "accuracy_shorter": None,
        },
        "margins": {"mean": 2.1, "deviation": 1.7},
        "reliability": ["1,830 held-out pairs on 1,200 prompts: accuracy 91.0%."],
    }  # fmt: skip


def _ppo(folder: Path, rng: random.Random, text: Callable[[str], str]) -> None:
    rows = []
    for step in range(1, 31):
        share = step / 30
        rows.append(
            {
                "step": step,
                "episodes": 128 * step,
                "score": -0.6 + 2.4 * (1 - math.exp(-4 * share)) + rng.gauss(0, 0.08),
                "reward": -0.65 + 2.3 * (1 - math.exp(-4 * share)) + rng.gauss(0, 0.08),
                "kl": 1.05 * (1 - math.exp(-3 * share)) + rng.gauss(0, 0.03),
                "kl_k3": 1.0 * (1 - math.exp(-3 * share)) + rng.gauss(0, 0.02),
                "clip_fraction": 0.02 + rng.uniform(0, 0.02),
                "entropy": 0.8 - 0.3 * share + rng.gauss(0, 0.02),
                "policy_loss": -0.02 + rng.gauss(0, 0.01),
                "value_loss": 0.6 * math.exp(-3 * share) + 0.1,
                "explained_variance": min(0.9, share * 1.4),
                "length": 9 - 3 * share + rng.gauss(0, 0.2),
                "no_end_rate": max(0.0, 0.04 - 0.05 * share),
                "learning_rate": 3e-4 * (1 - 0.8 * share),
                "episodes_per_second": rng.gauss(92, 3),
            }
        )
    write_lines(folder / "metrics.jsonl", rows)
    write_lines(folder / "samples.jsonl", _samples(rng, text, (10, 20, 30)))
    write_lines(
        folder / "alarms.jsonl", [{"step": 3, "alarm": "kl", "message": "KL above its target"}]
    )


def _evaluate(
    folder: Path,
    rng: random.Random,
    text: Callable[[str], str],
    rows: int,
    models: Sequence[tuple[str, str, str, int, float]],
    run: str,
) -> None:
    import pyarrow
    import pyarrow.parquet

    table: list[dict[str, Any]] = []
    items = []
    for index in range(rows):
        language = "zh" if index % 5 in (1, 3) else "en"
        family = FAMILIES[index % len(FAMILIES)]
        items.append((f"{index:016x}", language, family, str(index % 9 + 1)))
    for name, _, _, _, skill in models:
        stored = []
        for identity, language, family, reference in items:
            right = rng.random() < skill
            wrong = rng.choice(
                [f"The answer is {reference}", f"答案是{reference}", "eight", "I do not know. " * 3]
            )
            answer = reference if right else wrong
            stored.append(
                {
                    "id": identity,
                    "answer": text(answer),
                    "finish_reason": "stop" if rng.random() < 0.95 else "length",
                    "tokens": rng.randint(2, 26),
                    "seconds": round(rng.uniform(0.005, 0.05), 4),
                }
            )
            table.append(
                {
                    "id": identity,
                    "model": name,
                    "prompt": text(PROMPTS[language].format(f"Item {identity[-3:]} of the list.")),
                    "reference": text(reference),
                    "answer": text(answer),
                    "category": text(family),
                    "language": language,
                    "exact_match": float(right),
                    "reward": rng.gauss(3.2 * skill + (1.2 if right else -0.4), 0.6),
                    "perplexity": math.exp(rng.gauss(2.2 - 2 * skill, 0.3)),
                    "rougeL": 1.0 if right else rng.uniform(0, 0.6),
                    "token_f1": 1.0 if right else rng.uniform(0, 0.6),
                    "bleu": 100.0 if right else rng.uniform(0, 40),
                    "chrf": 100.0 if right else rng.uniform(0, 50),
                }
            )
        write_lines(folder / "answers" / f"{name}.jsonl", stored)
    folder.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), folder / "scores.parquet")
    write_json(folder / "summary.json", _summary(table, text, rows, models, run))


def _summary(
    table: list[dict[str, Any]],
    text: Callable[[str], str],
    rows: int,
    models: Sequence[tuple[str, str, str, int, float]],
    run: str,
) -> dict[str, Any]:
    def values(model: str, metric: str, **where: str) -> list[float]:
        return [
            row[metric]
            for row in table
            if row["model"] == model and all(row[k] == v for k, v in where.items())
        ]

    def mean(numbers: Sequence[float]) -> float:
        return sum(numbers) / len(numbers)

    def half(numbers: Sequence[float]) -> float:
        m = mean(numbers)
        variance = sum((x - m) ** 2 for x in numbers) / max(1, len(numbers) - 1)
        return 1.96 * math.sqrt(variance / len(numbers))

    names = [model[0] for model in models]
    scores = []
    comparisons = []
    for metric, _, higher, _ in METRICS:
        for name in names:
            column = values(name, metric)
            scores.append(
                {
                    "model": name,
                    "metric": metric,
                    "value": mean(column),
                    "low": mean(column) - half(column),
                    "high": mean(column) + half(column),
                    "n": rows,
                }
            )
        for baseline in names:
            for model in names:
                if model == baseline:
                    continue
                deltas = [
                    a - b
                    for a, b in zip(values(model, metric), values(baseline, metric), strict=True)
                ]
                low, high = mean(deltas) - half(deltas), mean(deltas) + half(deltas)
                verdict = (
                    "tie" if low <= 0 <= high else "better" if (low > 0) == higher else "worse"
                )
                comparisons.append(
                    {
                        "metric": metric,
                        "baseline": baseline,
                        "model": model,
                        "difference": mean(deltas),
                        "low": low,
                        "high": high,
                        "p_value": 0.4 if verdict == "tie" else 0.001,
                        "verdict": verdict,
                        "n": rows,
                    }
                )
    slices = [
        {"by": by, "value": value, "model": name, "metric": metric}
        for by in ("language", "category")
        for value in dict.fromkeys(row[by] for row in table)
        for name in names
        for metric, _, _, _ in METRICS
    ]
    filled = []
    for item in slices:
        column = values(item["model"], item["metric"], **{item["by"]: item["value"]})
        if column:
            filled.append({**item, "score": mean(column), "n": len(column)})
    return {
        "schema": 1,
        "run": run,
        "set": {
            "name": text("Held-out prompts"),
            "rows": rows,
            "path": "curate/eval.jsonl",
            "sha256": "ab" * 32,
        },
        "baseline": "sft" if "sft" in names else names[0],
        "synthetic": True,
        "models": [
            {
                "name": name,
                "label": text(label),
                "kind": kind,
                "source": f"{name}/model",
                "template": "espalier",
                "few_shot": shots,
                "notes": [text("Never saw the chat markers.")] if name == "base" else [],
            }
            for name, label, kind, shots, _ in models
        ],
        "metrics": [
            {
                "name": name,
                "label": label,
                "higher_is_better": higher,
                "format": style,
                "signature": f"espalier.{name}|case:kept|strip:outer",
                "description": text(f"What {label} measures in one plain sentence."),
            }
            for name, label, higher, style in METRICS
        ],
        "scores": scores,
        "comparisons": comparisons,
        "slices": filled,
        "warnings": [text("Exact match: fewer than 100 rows; the intervals are wide.")]
        if rows < 100
        else [],
        "notes": [],
    }
