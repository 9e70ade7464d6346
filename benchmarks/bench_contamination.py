"""The contamination check: 200 prompts with references against 50,000 and 500,000 training rows.

Rows are of 200 drawn words (frequencies as in natural text); every fourth prompt shares 30 words
with one of them. Each size in a process of its own, on one core; how many prompts are found is
checked. `--rows 5000` tries it small.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from machine import header, write

SIZES = (50_000, 500_000)
PROMPTS = 200
WORDS = 200
VOCABULARY = 30_000
LEAKED = 4  # every fourth prompt


def rows(count: int) -> Iterator[list[str]]:
    """Texts of `WORDS` words each."""
    draw = random.Random(1)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(VOCABULARY)]
    weights = list(itertools.accumulate(1 / (rank + 3) for rank in range(VOCABULARY)))
    for _ in range(count):
        yield draw.choices(words, cum_weights=weights, k=WORDS)


def make(folder: Path, count: int) -> None:
    """`train.jsonl` and `set.jsonl`, whose prompts are made of the first rows' words."""
    draw = random.Random(2)
    with (folder / "train.jsonl").open("w") as train, (folder / "set.jsonl").open("w") as held_out:
        for number, words in enumerate(rows(count)):
            row = {"instruction": " ".join(words[:40]), "output": " ".join(words[40:])}
            train.write(json.dumps(row) + "\n")
            if number < PROMPTS:
                mixed = draw.sample(words, WORDS)
                shown = words[20:50] if number % LEAKED == 0 else mixed[:30]
                pair = {"prompt": " ".join(shown), "completion": " ".join(mixed[30:130])}
                held_out.write(json.dumps(pair) + "\n")


def measure(folder: Path) -> dict[str, float]:
    """Seconds, peak memory in MiB, and prompts found (in the process that is measured)."""
    from espalier.evaluate.config_contamination import ContaminationConfig
    from espalier.evaluate.contamination import find_contamination
    from espalier.evaluate.evalset import read_set

    evalset = read_set(folder / "set.jsonl")
    start, busy = time.perf_counter(), time.process_time()
    files = {"train": folder / "train.jsonl"}
    found = find_contamination(evalset, files, ContaminationConfig())
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "busy": busy, "memory": peak, "found": len(found.found)}


def main() -> None:
    """Measure each size, and write the table (of the full sizes alone)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, help="one size instead of the two")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure is not None:
        print(json.dumps(measure(given.measure)), file=sys.stderr)
        return
    lines = header("Contamination: 200 prompts with references against training rows", runs=1)
    lines += [
        "| training rows of 200 words | s | of these CPU | rows/s | peak MiB | prompts found |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for count in (given.rows,) if given.rows else SIZES:
        with tempfile.TemporaryDirectory() as name:
            make(Path(name), count)
            done = subprocess.run(
                [sys.executable, __file__, "--measure", name],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                check=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        result = json.loads(done.stderr.splitlines()[-1])
        if result["found"] != -(-min(PROMPTS, count) // LEAKED):
            raise SystemExit(f"{result['found']} prompts were found of {PROMPTS // LEAKED}")
        lines.append(
            f"| {count:,} | {result['seconds']:.1f} | {result['busy']:.1f} "
            f"| {count / result['seconds']:,.0f} | {result['memory']:.0f} | {result['found']:.0f} |"
        )
    if given.rows:
        print("\n".join(lines))
    else:
        write("contamination.md", lines)


if __name__ == "__main__":
    main()
