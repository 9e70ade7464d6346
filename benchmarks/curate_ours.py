"""One run of our side on the same files; started by bench_curate.py."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

THRESHOLD = 0.7


def load_kernels(threads: int) -> None:
    """Let every kernel be loaded (or compiled), crowds included."""
    from espalier.minhash import NearSearch

    with NearSearch(crowd=1, threads=threads) as search:
        search.add([f"a b c d e f g h i j k l m n o p q r s t u v w x y z é {n}" for n in range(9)])
        search.pairs()


def near(source: str, target: str, threads: int) -> dict[str, float]:
    """All near pairs of the texts; `start` is what loading the compiled kernels takes."""
    from espalier.minhash import NearSearch

    texts = json.loads(Path(source).read_text(encoding="utf-8"))
    start = time.perf_counter()
    load_kernels(threads)
    started = time.perf_counter() - start
    start = time.perf_counter()
    with NearSearch(threshold=THRESHOLD, threads=threads) as search:
        search.add(texts)
        first, second, _ = search.pairs().expanded()
    seconds = time.perf_counter() - start
    np.save(target, first << 32 | second)
    return {"seconds": seconds, "start": started}


def scale(source: str, target: str, rows: int) -> dict[str, float]:
    """Near groups of the first rows of a file of lines, read while they are hashed."""
    from itertools import islice

    from espalier.minhash import NearSearch

    load_kernels(1)
    used = time.process_time()
    start = time.perf_counter()
    with open(source, encoding="utf-8") as handle, NearSearch(threshold=THRESHOLD) as search:
        search.add(islice(handle, rows))
        found = search.pairs()
    seconds = time.perf_counter() - start
    used = time.process_time() - used
    groups = int((found.same_as != np.arange(rows)).sum())
    return {"seconds": seconds, "cpu": used, "pairs": len(found.first), "equal": groups}


def truth(source: str, target: str) -> dict[str, float]:
    """All pairs by an exact prefix-filter join on sets of other hashes (`espalier.near`)."""
    from espalier.near import JaccardIndex
    from espalier.text import shingles

    texts = json.loads(Path(source).read_text(encoding="utf-8"))
    start = time.perf_counter()
    index = JaccardIndex(THRESHOLD)
    codes = []
    # Rows with equal sets would be compared each with each: they are searched for once.
    groups: dict[frozenset[int], list[int]] = {}
    for row, text in enumerate(texts):
        found = shingles(text)
        if found:
            groups.setdefault(found, []).append(row)
    members = list(groups.values())
    for number, (shingle_set, rows) in enumerate(groups.items()):
        near = [int(key) for key, _ in index.matches(shingle_set)]
        codes += [
            min(row, other) << 32 | max(row, other)
            for place in near
            for other in members[place]
            for row in rows
        ]
        codes += [one << 32 | two for at, one in enumerate(rows) for two in rows[at + 1 :]]
        index.add(str(number), shingle_set)
    np.save(target, np.sort(np.array(codes, dtype=np.int64)))
    return {"seconds": time.perf_counter() - start, "pairs": len(codes)}


def novelty(source: str, target: str) -> dict[str, float]:
    """Seconds for the queries, and for building the index of the pool."""
    from espalier.overlap import NoveltyIndex
    from espalier.text import tokens

    texts = json.loads(Path(source).read_text(encoding="utf-8"))
    start = time.perf_counter()
    index = NoveltyIndex(THRESHOLD)
    for member in texts["pool"]:
        index.add(tokens(member))
    built = time.perf_counter() - start
    start = time.perf_counter()
    decisions = [index.nearest(tokens(query))[0] is None for query in texts["queries"]]
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    for query in texts["more"]:
        index.nearest(tokens(query))
    more = time.perf_counter() - start
    Path(target).write_text(json.dumps(decisions), encoding="utf-8")
    return {"seconds": seconds, "built": built, "more": more}


def main() -> None:
    job, source, target, number = sys.argv[1:5]
    match job:
        case "near":
            result = near(source, target, int(number))
        case "scale":
            result = scale(source, target, int(number))
        case "truth":
            result = truth(source, target)
        case _:
            result = novelty(source, target)
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(result))


if __name__ == "__main__":
    main()
