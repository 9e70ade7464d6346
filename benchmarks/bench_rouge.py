"""Scores against their peers in one run: all ROUGE variants, and perplexity.

ROUGE: `rouge_score` on pairs of published answers and references where real data lie beside the
repository, else on texts of the embedded corpus. Perplexity: the loop that Hugging Face's module
`perplexity` runs (texts in their order, 16 at a time, padded, logits of all places), on texts of
30 to 800 tokens. Equal results are checked before anything is timed.
"""

from __future__ import annotations

import argparse
import math
from itertools import islice
from random import Random
from typing import Any

import numpy as np
import torch
from generation_model import make_model
from machine import data_folder, header, interleaved, write
from rouge_score import rouge_scorer

from espalier.evaluate.perplexity import score_texts
from espalier.offline.corpus import pretraining_texts
from espalier.overlap import rouge_scores
from espalier.overlap_summary import rouge_lsum_scores

VARIANTS = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
BATCH = 16


def pairs(count: int) -> tuple[list[str], list[str], str]:
    """Answers, references, and where they come from."""
    folder = data_folder()
    found: list[tuple[str, str]] = []
    if folder is not None:
        from espalier.formats.files import BadRow, read_rows

        for path in sorted((folder / "self_instruct" / "predictions").glob("*.jsonl")):
            for item in read_rows(path):
                if not isinstance(item, BadRow) and len(found) < count:
                    pair = str(item.value.get("response")), str(item.value.get("target"))
                    # The peer drops all that is not ASCII.
                    found += [pair] if all(text.isascii() for text in pair) else []
    if found:
        return [a for a, _ in found], [b for _, b in found], "published answers"
    made = list(pretraining_texts(2 * count, seed=1, languages=("en",)))
    return made[:count], made[count:], "embedded corpus"


def ours_rouge(answers: list[str], references: list[str]) -> np.ndarray[Any, Any]:
    found = rouge_scores(answers, references)[:, :, 2]
    return np.column_stack([found, rouge_lsum_scores(answers, references)[:, 2]])


def their_rouge(answers: list[str], references: list[str]) -> np.ndarray[Any, Any]:
    scorer = rouge_scorer.RougeScorer(VARIANTS)
    scores = [scorer.score(b, a) for a, b in zip(answers, references, strict=True)]
    return np.array([[score[name].fmeasure for name in VARIANTS] for score in scores])


def rouge(count: int) -> str:
    answers, references, source = pairs(count)
    worst = float(np.abs(ours_rouge(answers, references) - their_rouge(answers, references)).max())
    times = interleaved(
        {
            "ours": lambda: ours_rouge(answers, references),
            "theirs": lambda: their_rouge(answers, references),
        }
    )
    return (
        f"| ROUGE-1, -2, -L, -Lsum of {len(answers):,} pairs ({source}) | rouge_score | "
        f"{times['theirs']:.2f} s | {times['ours']:.3f} s | "
        f"{times['theirs'] / times['ours']:.0f} × | largest difference {worst:.1e} |"
    )


def padded_loop(model: Any, tokenizer: Any, texts: list[str]) -> float:
    """Mean of the texts' perplexities, each text behind the end token."""
    found = []
    for start in range(0, len(texts), BATCH):
        rows = [
            [tokenizer.eos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
            for text in texts[start : start + BATCH]
        ]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
        losses = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), ids[:, 1:], reduction="none"
        )
        real = mask[:, 1:]
        found += ((losses * real).sum(1) / real.sum(1)).exp().tolist()
    return sum(found) / len(found)


def our_perplexity(model: Any, tokenizer: Any, texts: list[str]) -> float:
    scores = score_texts(model, tokenizer, texts, windows="rolling")
    values = [math.exp(score.nll / score.tokens) for score in scores if score is not None]
    return sum(values) / len(values)


def texts_of_all_lengths(count: int) -> list[str]:
    """1 to 30 texts of the embedded corpus in one: about 30 to 800 tokens."""
    generator = Random(0)
    short = pretraining_texts(30 * count, seed=2)
    return [" ".join(islice(short, generator.randint(1, 30))) for _ in range(count)]


def perplexity(count: int) -> str:
    model, tokenizer = make_model()
    texts = texts_of_all_lengths(count)
    tokens = sum(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts)
    value = our_perplexity(model, tokenizer, texts)
    apart = abs(padded_loop(model, tokenizer, texts) - value) / value
    times = interleaved(
        {
            "ours": lambda: our_perplexity(model, tokenizer, texts),
            "theirs": lambda: padded_loop(model, tokenizer, texts),
        }
    )
    return (
        f"| perplexity of {len(texts):,} texts ({tokens:,} tokens) | padded batches of {BATCH} | "
        f"{tokens / times['theirs']:,.0f} tokens/s | {tokens / times['ours']:,.0f} tokens/s | "
        f"{times['theirs'] / times['ours']:.2f} × | relative difference {apart:.1e} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="ROUGE and perplexity against their peers.")
    parser.add_argument("--pairs", type=int, default=1000, help="pairs of texts for ROUGE")
    parser.add_argument("--texts", type=int, default=500, help="texts for perplexity")
    given = parser.parse_args()
    write(
        "scores.md",
        [
            *header("Scores against their peers"),
            "| job | peer | peer's figure | ours | ratio | agreement |",
            "|---|---|---|---|---|---|",
            rouge(given.pairs),
            perplexity(given.texts),
        ],
    )


if __name__ == "__main__":
    main()
