"""ROUGE and the novelty filter against `rouge_score`, on the same texts in the same run.

Texts: the first T0 prompts and completions where real data lie beside the repository, else
sentences drawn from the embedded corpus. Equal results are checked before anything is timed.
"""

from __future__ import annotations

from itertools import islice

from machine import data_folder, header, interleaved, write
from rouge_score import rouge_scorer

from espalier.overlap import NoveltyIndex, rouge_scores
from espalier.text import tokens

PAIRS = 1000
POOL = 10_000
QUERIES = 10


def texts(count: int) -> tuple[list[str], str]:
    folder = data_folder()
    if folder is not None:
        from espalier.formats.read import read_examples

        path = folder / "self_instruct" / "t0_50k.jsonl.gz"
        rows = read_examples(path, on_bad_row="quarantine", rejects=[])
        return [
            " ".join(e.prompt.split()[:40]) for e in islice(rows, count)
        ], "T0 prompts, cut to 40 words"
    from espalier.offline.corpus import pretraining_texts

    return list(pretraining_texts(count, seed=1, languages=("en",))), "embedded corpus"


def ours(pairs: list[tuple[str, str]]) -> list[tuple[float, float, float]]:
    found = rouge_scores([a for a, _ in pairs], [b for _, b in pairs])
    return [tuple(scores) for scores in found[:, :, 2].tolist()]


def theirs(pairs: list[tuple[str, str]]) -> list[tuple[float, float, float]]:
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"])
    found = [scorer.score(b, a) for a, b in pairs]
    return [(s["rouge1"].fmeasure, s["rouge2"].fmeasure, s["rougeL"].fmeasure) for s in found]


def main() -> None:
    corpus, source = texts(2 * PAIRS + POOL + QUERIES)
    corpus = [text for text in corpus if text.isascii() and tokens(text)]
    half = len(corpus) // 2
    pairs = list(zip(corpus[:PAIRS], corpus[half : half + PAIRS], strict=True))
    worst = max(
        abs(x - y)
        for a, b in zip(ours(pairs), theirs(pairs), strict=True)
        for x, y in zip(a, b, strict=True)
    )
    rouge = interleaved({"ours": lambda: ours(pairs), "rouge_score": lambda: theirs(pairs)})

    pool, queries = corpus[: min(POOL, len(corpus) - QUERIES)], corpus[-QUERIES:]
    index = NoveltyIndex(0.7)
    for text in pool:
        index.add(tokens(text))
    scorer = rouge_scorer.RougeScorer(["rougeL"])

    def fast() -> list[bool]:
        return [index.nearest(tokens(q))[0] is None for q in queries]

    def slow() -> list[bool]:
        return [all(scorer.score(p, q)["rougeL"].fmeasure <= 0.7 for p in pool) for q in queries]

    equal = fast() == slow()
    novelty = interleaved({"ours": fast, "rouge_score": slow})
    per_query = {name: seconds / QUERIES * 1000 for name, seconds in novelty.items()}
    write(
        "overlap.md",
        [
            *header("ROUGE and novelty against rouge_score"),
            f"Texts: {source}. One process, one thread.",
            "",
            "| job | rouge_score | ours | ratio | agreement |",
            "|---|---|---|---|---|",
            f"| ROUGE-1, -2, -L of {len(pairs):,} pairs | {rouge['rouge_score']:.2f} s | "
            f"{rouge['ours']:.3f} s | {rouge['rouge_score'] / rouge['ours']:.0f} × | "
            f"largest difference {worst:.1e} |",
            f"| novelty of one instruction in a pool of {len(pool):,} | "
            f"{per_query['rouge_score']:.0f} ms | {per_query['ours']:.3f} ms | "
            f"{per_query['rouge_score'] / per_query['ours']:,.0f} × | "
            f"{'equal decisions' if equal else 'DECISIONS DIFFER'} |",
        ],
    )


if __name__ == "__main__":
    main()
