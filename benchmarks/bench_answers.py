"""Answers of local models beside what a user would write: raw `LLM.generate`, and transformers.

Greedy answers to prompts given as token ids, by a random model of 4.5 million parameters; each way
in a process of its own, taking turns. Ours are those of the stage `evaluate`: every answer goes
into the store. vLLM's rows need `.venv-vllm` (make setup-vllm).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

from generation_model import make_model
from machine import header, write
from processes import OURS, ROOT, python

from espalier.models import save_model
from espalier.offline.corpus import pretraining_texts

VLLM = ".venv-vllm"
# As many rows in a batch as the stage `evaluate` takes.
ROWS = 64


@dataclass(frozen=True)
class Way:
    """A row of the table; `beside` names the row that its speed is divided by."""

    environment: str
    settings: dict[str, Any]
    beside: str | None = None
    least: float = 0.0


WAYS = {
    "transformers, batches of 8": Way(OURS, {"kind": "naive"}),
    "ours, transformers": Way(
        OURS,
        {"kind": "ours", "engine": "transformers", "options": {"max_rows": ROWS}},
        "transformers, batches of 8",
        1.3,
    ),
    "vLLM, LLM.generate": Way(VLLM, {"kind": "raw"}),
    "ours, vLLM": Way(
        VLLM,
        {"kind": "ours", "engine": "vllm", "options": {}},
        "vLLM, LLM.generate",
        0.97,
    ),
}


class Worker:
    """A process that has loaded its model and answers when told to."""

    def __init__(self, way: Way, given: dict[str, Any], folder: Path) -> None:
        path = folder / "settings.json"
        path.write_text(json.dumps(given | way.settings), encoding="utf-8")
        variables = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_LOGGING_LEVEL": "ERROR",
        }
        self._process = subprocess.Popen(
            [str(python(way.environment)), str(ROOT / "benchmarks" / "answers_worker.py"), path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=variables,
            text=True,
        )
        self.loading = float(self._read()["ready"])

    def run(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"bench_answers: a worker ended with code {self._process.wait()}")
        result: dict[str, Any] = json.loads(line)
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    there = (ROOT / VLLM / "bin" / "python").exists()
    ways = {name: way for name, way in WAYS.items() if there or way.environment == OURS}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        model, tokenizer = make_model()
        save_model(model, tokenizer, "espalier", folder / "model")
        texts = islice(pretraining_texts(options.prompts, seed=2), options.prompts)
        given = {
            "model": str(folder / "model"),
            "tokens": options.tokens,
            "prompts": [tokenizer(text[:200])["input_ids"] for text in texts],
        }
        workers = {
            name: stack.enter_context(Worker(way, given, folder)) for name, way in ways.items()
        }
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, worker in workers.items():
                runs[name].append(worker.run())
    lines = header("Answers of local models", options.rounds)
    write("answers.md", [*lines, *table(runs, options.prompts, options.tokens)])


def table(runs: dict[str, list[dict[str, Any]]], prompts: int, tokens: int) -> list[str]:
    """Medians; the ratio is the median of those of the rounds, which cancels a slow minute."""
    rates = {
        name: [run["tokens"] / run["seconds"] for run in found] for name, found in runs.items()
    }
    rows = []
    for name, found in rates.items():
        beside = WAYS[name].beside
        ratio = wanted = equal = ""
        if beside is not None:
            ratios = [mine / other for mine, other in zip(found, rates[beside], strict=True)]
            ratio, wanted = f"{statistics.median(ratios):.2f}", f"{WAYS[name].least:.2f}"
            pairs = zip(runs[name][0]["answers"], runs[beside][0]["answers"], strict=True)
            equal = f"{sum(mine == other for mine, other in pairs):,} of {prompts:,}"
        rows.append(f"| {name} | {statistics.median(found):,.0f} | {ratio} | {wanted} | {equal} |")
    return [
        f"{prompts:,} prompts as token ids, at most {tokens} tokens each, greedy, by a random "
        "Llama of 4.5 million parameters in float32; both cores free to all, models loaded and "
        "warm. Ours are answers as the stage `evaluate` makes them, each kept in its store.",
        "",
        "| | tokens/s | against the row above | at least | equal answers |",
        "|---|---|---|---|---|",
        *rows,
    ]


if __name__ == "__main__":
    main()
