"""All ROUGE variants beside `rouge_score`, on the same pairs of texts in the same run.

Short pairs: published answers and their references. Long ones: T0 prompts with answers, several
in one text, a line each. Where no real data lie beside the repository, texts of the embedded
corpus. Equal results are checked before anything is timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from machine import data_folder, header, interleaved, write
from rouge_score import rouge_scorer

from espalier.formats.files import BadRow, read_rows
from espalier.offline.corpus import pretraining_texts
from espalier.overlap import rouge_scores
from espalier.overlap_summary import rouge_lsum_scores

VARIANTS = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
LINES = 4
Pairs = tuple[list[str], list[str]]


def sets(count: int) -> dict[str, Pairs]:
    """Name -> answers and references of up to `count` pairs."""
    folder = data_folder()
    if folder is None:
        made = list(pretraining_texts(2 * count * LINES, seed=1, languages=("en",)))
        return {
            "embedded corpus": (made[:count], made[count : 2 * count]),
            f"embedded corpus, {LINES} in a text": halves(made, count),
        }
    published: list[tuple[str, str]] = []
    for path in sorted((folder / "self_instruct" / "predictions").glob("*.jsonl")):
        published += [(str(row.get("response")), str(row.get("target"))) for row in values(path)]
    # The peer drops all that is not ASCII.
    published = [pair for pair in published if all(text.isascii() for text in pair)][:count]
    tasks = [
        f"{row['prompt']} {row['completion']}".replace("\n", " ")
        for row in values(folder / "self_instruct" / "t0_50k.jsonl.gz")
    ]
    return {
        "published answers": ([a for a, _ in published], [b for _, b in published]),
        f"T0 tasks, {LINES} in a text": halves([t for t in tasks if t.isascii()], count),
    }


def values(path: Path) -> Iterator[Any]:
    return (item.value for item in read_rows(path) if not isinstance(item, BadRow))


def halves(texts: list[str], count: int) -> Pairs:
    joined = ["\n".join(texts[at : at + LINES]) for at in range(0, 2 * count * LINES, LINES)]
    return joined[:count], joined[count:]


def ours(answers: list[str], references: list[str]) -> np.ndarray[Any, Any]:
    found = rouge_scores(answers, references)[:, :, 2]
    return np.column_stack([found, rouge_lsum_scores(answers, references)[:, 2]])


def theirs(answers: list[str], references: list[str]) -> np.ndarray[Any, Any]:
    scorer = rouge_scorer.RougeScorer(VARIANTS)
    scores = [scorer.score(b, a) for a, b in zip(answers, references, strict=True)]
    return np.array([[score[name].fmeasure for name in VARIANTS] for score in scores])


def row(name: str, answers: list[str], references: list[str]) -> str:
    worst = float(np.abs(ours(answers, references) - theirs(answers, references)).max())
    times = interleaved(
        {
            "ours": lambda: ours(answers, references),
            "theirs": lambda: theirs(answers, references),
        }
    )
    words = np.mean([len(text.split()) for text in [*answers, *references]])
    return (
        f"| {len(answers):,}: {name} | {words:.0f} | {times['theirs']:.2f} s | "
        f"{times['ours']:.3f} s | {times['theirs'] / times['ours']:.0f} × | {worst:.1e} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="All ROUGE variants beside rouge_score.")
    parser.add_argument("--pairs", type=int, default=300, help="pairs of texts in each set")
    given = parser.parse_args()
    write(
        "rouge.md",
        [
            *header("ROUGE beside rouge_score"),
            "ROUGE-1, -2, -L and -Lsum of each set of pairs, in one process.",
            "",
            "| pairs | words a text | rouge_score | ours | ratio | largest difference |",
            "|---|---|---|---|---|---|",
            *(row(name, *found) for name, found in sets(given.pairs).items()),
        ],
    )


if __name__ == "__main__":
    main()
