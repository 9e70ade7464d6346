"""Perplexity beside lm-eval's and that of Hugging Face evaluate: speed, peak memory, equality.

Each scorer runs in a process of its own on one thread, taking turns, on the same texts of up to
1,000 tokens in the order in which their file has them: real prompts and answers where data lie
beside the repository, else the embedded corpus. Two random models: a small vocabulary, and one of
32,000, where most of a padded batch's memory is logits.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from generation_model import make_model
from machine import data_folder, header, write
from processes import OURS, Result, run_worker

from espalier.offline.corpus import pretraining_texts

LIMIT = 1024
LONGEST = 1000
BATCH = 16
# Vocabulary -> the share of the texts: one batch of logits of the larger one has gigabytes.
VOCABULARIES = {2048: 1.0, 32_000: 0.25}
PEER = ".venv-lm-eval"


def texts_of(tokenizer: Any, count: int) -> tuple[list[str], str]:
    """Texts of 2 to LONGEST tokens, evenly over their file, and where they are from."""
    folder = data_folder()
    if folder is not None:
        from espalier.formats.files import BadRow, read_rows

        found = [
            f"{item.value['prompt']} {item.value['completion']}"
            for item in read_rows(folder / "self_instruct" / "t0_50k.jsonl.gz")
            if not isinstance(item, BadRow)
        ]
        source = "prompts and answers of T0 tasks"
    else:
        rng, short = Random(0), list(pretraining_texts(20 * count, seed=2))
        found = [" ".join(rng.choices(short, k=rng.randint(1, 30))) for _ in range(2 * count)]
        source = "embedded corpus"
    step = max(1, len(found) // (count + count // 4))
    fitting = [text for text in found[::step] if 2 <= length(tokenizer, text) <= LONGEST]
    return fitting[:count], source


def length(tokenizer: Any, text: str) -> int:
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])


def scorers(module: str | None) -> dict[str, tuple[str, str]]:
    """Row of the table -> (environment, scorer of the worker)."""
    theirs = "evaluate" if module else "evaluate's loop"
    return {
        "ours": (OURS, "ours"),
        "lm-eval": (PEER, "lm-eval"),
        theirs: (PEER, theirs),
    }


def measure(settings: dict[str, Any], module: str | None, runs: int) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {name: [] for name in scorers(module)}
    for number in range(runs):
        for name, (environment, scorer) in scorers(module).items():
            given = {**settings, "scorer": scorer, "module": module}
            result = run_worker(environment, "perplexity_worker.py", given)
            if "failed" in result:
                raise SystemExit(f"bench_perplexity: {name}: {result['failed']}")
            print(f"{name}, run {number + 1}: {result['seconds']:.1f} s", flush=True)
            found[name].append(result)
    return found


def rows_of(found: dict[str, list[Result]], tokens: int) -> list[str]:
    """One row a scorer; ratios are to ours."""
    seconds = {name: statistics.median(r["seconds"] for r in runs) for name, runs in found.items()}
    ours = found["ours"][0]["values"]
    rows = []
    for name, runs in found.items():
        apart = max(abs(a - b) / b for a, b in zip(ours, runs[0]["values"], strict=True))
        rows.append(
            f"| {name} | {tokens / seconds[name]:,.0f} | {seconds[name] / seconds['ours']:.2f} × | "
            f"{max(run['peak_mb'] for run in runs):,.0f} | "
            f"{'' if name == 'ours' else f'{apart:.1e}'} |"
        )
    return rows


def section(vocabulary: int, count: int, module: str | None, runs: int) -> list[str]:
    """The table of one model."""
    model, tokenizer = make_model(vocabulary=vocabulary)
    texts, source = texts_of(tokenizer, count)
    tokens = sum(length(tokenizer, text) for text in texts)
    folder = Path(tempfile.mkdtemp(prefix="espalier-perplexity-"))
    try:
        model.save_pretrained(folder / "model")
        tokenizer.save_pretrained(folder / "model")
        path = folder / "texts.json"
        path.write_text(json.dumps(texts), encoding="utf-8")
        settings = {
            "model": str(folder / "model"),
            "texts": str(path),
            "batch": BATCH,
            "limit": LIMIT,
            "threads": 1,
        }
        found = measure(settings, module, runs)
    finally:
        shutil.rmtree(folder)
    return [
        f"## Vocabulary of {vocabulary:,}",
        "",
        f"{len(texts):,} texts, {tokens:,} tokens ({source}); "
        f"{model.num_parameters() / 1e6:.1f}M parameters, float32.",
        "",
        "| scorer | tokens a CPU second | ours is faster by | peak memory, MiB | "
        "largest difference of a text |",
        "|---|---|---|---|---|",
        *rows_of(found, tokens),
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Perplexity against its peers.")
    parser.add_argument("--texts", type=int, default=400, help="how many texts")
    parser.add_argument("--runs", type=int, default=3, help="interleaved runs")
    parser.add_argument(
        "--module",
        help="the module `perplexity` of Hugging Face evaluate: a folder with its file, or "
        "`perplexity` where the hub can be reached; without it, its loop is run",
    )
    given = parser.parse_args()
    lines = header("Perplexity beside its peers", given.runs)
    lines += [
        f"Batches of {BATCH} for the peers. Seconds of CPU on one thread, tokenising included, "
        "loading not. Every text is behind the end-of-text token, so that all its tokens are "
        "predicted.",
        "",
    ]
    for vocabulary, part in VOCABULARIES.items():
        lines += section(vocabulary, round(part * given.texts), given.module, given.runs)
    if not given.module:
        lines.append(
            '"evaluate\'s loop" is what the module `perplexity` of Hugging Face evaluate does, '
            "written anew (all texts padded to the longest, logits of all places): the module "
            "itself is on the hub only."
        )
    write("perplexity.md", lines)


if __name__ == "__main__":
    main()
