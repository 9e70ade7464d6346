"""One run of a peer on a file of texts; started by bench_curate.py in the peers' environment.

Prints one line of JSON: seconds from the list of texts to the pairs (or decisions), and the peak
memory of this process. Words and shingles are those of `espalier.text`, so that all compare the
same sets.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from espalier.text import tokens

PERMUTATIONS = 128
THRESHOLD = 0.7
NGRAM = 5
Pairs = tuple[list[int], list[int]]


def shingles(text: str) -> list[str]:
    words = tokens(text)
    if not words:
        return []
    return [" ".join(words[at : at + NGRAM]) for at in range(max(1, len(words) - NGRAM + 1))]


def rensa(bands: int) -> Callable[[list[str]], Pairs]:
    """Full sketches and the LSH index, in bulk, candidates checked by the estimated Jaccard."""
    from rensa import RMinHash, RMinHashLSH

    def run(texts: list[str]) -> Pairs:
        sketches = RMinHash.from_token_sets([shingles(t) for t in texts], PERMUTATIONS, 42)
        index = RMinHashLSH(THRESHOLD, PERMUTATIONS, bands)
        index.insert_pairs(list(enumerate(sketches)))
        first, second = [], []
        for row, others in enumerate(index.query_all(sketches)):
            for other in others:
                if other < row and sketches[row].jaccard(sketches[other]) >= THRESHOLD:
                    first.append(other)
                    second.append(row)
        return first, second

    return run


def rensa_rho(texts: list[str]) -> Pairs:
    """Sampled sketches and duplicate flags: rows that are like another, not which one."""
    from rensa import RMinHash, RMinHashLSH

    sets = [shingles(text) for text in texts]
    matrix = RMinHash.digest_matrix_from_token_sets_rho(sets, PERMUTATIONS, 42)
    flags = RMinHashLSH(THRESHOLD, PERMUTATIONS, 16).query_duplicate_flags_matrix_one_shot(matrix)
    rows = [row for row, flag in enumerate(flags) if flag]
    return rows, rows


def datasketch(**options: Callable[[bytes], int]) -> Callable[[list[str]], Pairs]:
    """`MinHash.bulk`, 25 bands of 5, candidates checked by the estimated Jaccard."""
    from datasketch import MinHash, MinHashLSH

    def run(texts: list[str]) -> Pairs:
        sets = [[shingle.encode() for shingle in shingles(text)] for text in texts]
        sketches = MinHash.bulk(sets, num_perm=PERMUTATIONS, **options)
        index = MinHashLSH(num_perm=PERMUTATIONS, params=(25, 5))
        first, second = [], []
        for row, sketch in enumerate(sketches):
            if not sets[row]:
                continue
            for other in index.query(sketch):
                if sketch.jaccard(sketches[other]) >= THRESHOLD:
                    first.append(other)
                    second.append(row)
            index.insert(row, sketch, check_duplication=False)
        return first, second

    return run


def rouge_score(pool: list[str], queries: list[str]) -> list[bool]:
    """Which queries are novel: no member of the pool has a ROUGE-L F1 above the threshold."""
    from rouge_score import rouge_scorer

    scorer = rouge_scorer.RougeScorer(["rougeL"])
    return [
        max(scorer.score(member, query)["rougeL"].fmeasure for member in pool) <= THRESHOLD
        for query in queries
    ]


def main() -> None:
    tool, source, target = sys.argv[1:4]
    texts = json.loads(Path(source).read_text(encoding="utf-8"))
    if tool == "rouge_score":
        start = time.perf_counter()
        decisions = rouge_score(texts["pool"], texts["queries"])
        seconds = time.perf_counter() - start
        Path(target).write_text(json.dumps(decisions), encoding="utf-8")
    else:
        runs = {
            "rensa-16": lambda: rensa(16),
            "rensa-32": lambda: rensa(32),
            "rensa-rho": lambda: rensa_rho,
            "datasketch": datasketch,
            "datasketch-crc": lambda: datasketch(hashfunc=zlib.crc32),
        }
        run = runs[tool]()
        start = time.perf_counter()
        first, second = run(texts)
        seconds = time.perf_counter() - start
        np.save(target, np.array(first, dtype=np.int64) << 32 | np.array(second, dtype=np.int64))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mb": peak}))


if __name__ == "__main__":
    main()
