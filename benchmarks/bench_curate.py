"""Near-duplicate search and novelty against the fastest peers, each run in a process of its own.

    python benchmarks/bench_curate.py [--part t0|synthetic|scale|novelty]... [--runs 5]

Peers run in an environment of their own (`.venv-peers`, made when absent), on the same files of
texts, with the same words and shingles, at the same threshold. Timed: from the list of texts to
the list of pairs, tokenising included; not timed: starting Python, reading the file, loading
libraries (ours: loading the compiled kernels, shown beside it). Recall and precision are counted
against all pairs found by an exact join. Parts can be run one by one; results/curate.json keeps
those of earlier calls and results/curate.md shows all.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from machine import RESULTS, data_folder, header

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "bench-curate"
PEERS = ROOT / ".venv-peers"
PINNED = ("rensa==0.5.0", "datasketch==2.0.0", "rouge-score==0.1.2")
CORES = os.cpu_count() or 1
TOOLS = {
    f"ours, {CORES} threads": ("near", CORES),
    "ours, 1 thread": ("near", 1),
    "rensa 0.5, 16 bands": ("peer", "rensa-16"),
    "rensa 0.5, 32 bands": ("peer", "rensa-32"),
    "rensa 0.5, rho flags": ("peer", "rensa-rho"),
    "datasketch 2.0": ("peer", "datasketch"),
    "datasketch 2.0, CRC-32": ("peer", "datasketch-crc"),
}
SYNTHETIC_ROWS = 500_000
SCALE_ROWS = (1_000_000, 10_000_000)
POOL = 50_000
QUERIES = 10
MORE_QUERIES = 2_000
Result = dict[str, Any]


def peers_python(given: str | None) -> str:
    """The interpreter of the peers' environment, which is made when it is not there."""
    if given:
        return given
    python = PEERS / "bin" / "python"
    if not python.is_file():
        print(f"making {PEERS.name} with {', '.join(PINNED)}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(PEERS)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PINNED], check=True)
    return str(python)


def job(python: str, script: str, *arguments: object, **variables: str) -> Result:
    """Run one job in a process of its own; what it printed last."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "RAYON_NUM_THREADS": str(CORES),
        **variables,
    }
    command = [python, str(ROOT / "benchmarks" / script), *map(str, arguments)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def ours(task: str, source: Path, target: Path, number: int = 0, **variables: str) -> Result:
    return job(sys.executable, "curate_ours.py", task, source, target, number, **variables)


def first_use(source: Path) -> float:
    """Seconds to compile the kernels where no cache is."""
    with tempfile.TemporaryDirectory() as cache:
        result = ours("near", source, WORK / "first.npy", CORES, NUMBA_CACHE_DIR=cache)
    return float(result["start"])


def compare(name: str, texts: list[str], about: str, runs: int, python: str) -> Result:
    """All tools on one corpus, taking turns; medians, recall and precision."""
    source = WORK / f"{name}.json"
    source.write_text(json.dumps(texts), encoding="utf-8")
    truth_file = WORK / f"{name}.truth.npy"
    checked = ours("truth", source, truth_file)
    print(f"  truth: {checked['pairs']:,} pairs in {checked['seconds']:.0f} s", flush=True)
    truth = np.load(truth_file)
    few = WORK / "few.json"
    few.write_text(json.dumps(texts[:10]), encoding="utf-8")
    compiled = first_use(few)
    found: dict[str, list[Result]] = {tool: [] for tool in TOOLS}
    rows = {}
    for number in range(runs):
        for tool, (kind, option) in TOOLS.items():
            target = WORK / "pairs.npy"
            if kind == "near":
                result = ours("near", source, target, int(option))
            else:
                result = job(python, "curate_peers.py", option, source, target)
            found[tool].append(result)
            print(f"  run {number + 1}: {tool}: {result['seconds']:.2f} s", flush=True)
            if not number:
                rows[tool] = quality(np.load(target), truth, flags="flags" in tool)
    for tool, results in found.items():
        rows[tool]["seconds"] = statistics.median(result["seconds"] for result in results)
        rows[tool]["all_seconds"] = [round(result["seconds"], 3) for result in results]
        rows[tool]["peak_mb"] = max(result["peak_mb"] for result in results)
        rows[tool]["start"] = statistics.median(result.get("start", 0.0) for result in results)
    return {
        "about": about,
        "rows": len(texts),
        "runs": runs,
        "pairs": len(truth),
        "compile": compiled,
        "tools": rows,
    }


def quality(found: np.ndarray, truth: np.ndarray, *, flags: bool) -> Result:
    """Recall and precision of pairs (flags: of rows that are in a pair)."""
    if flags:
        truth = np.union1d(truth >> 32, truth & 0xFFFFFFFF)
        found = found & 0xFFFFFFFF
    found = np.unique(found)
    right = len(np.intersect1d(found, truth))
    return {
        "found": len(found),
        "recall": right / max(len(truth), 1),
        "precision": right / max(len(found), 1),
    }


def t0_prompts(folder: Path) -> Iterator[str]:
    from espalier.formats.read import read_examples

    path = folder / "self_instruct" / "t0_50k.jsonl.gz"
    for row in read_examples(path, answers="optional", on_bad_row="quarantine", rejects=[]):
        yield row.prompt


def synthetic(count: int, seed: str, low: int = 20, high: int = 40) -> Iterator[str]:
    """Rows of 20 to 40 made-up words, frequent and rare ones; 3.5 % repeat an earlier row and
    3.5 % do so with one word changed."""
    rng = Random(f"{seed}:words")
    syllables = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er")]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(60_000)]
    vocabulary = np.array(words, dtype=object)
    numbers = np.random.default_rng(7)
    recent: list[list[str]] = []
    left = count
    while left:
        block = min(left, 100_000)
        sizes = numbers.integers(low, high + 1, block)
        # A power of a uniform draw: few words are frequent, most are rare.
        places = (len(words) * numbers.random(int(sizes.sum())) ** 3).astype(np.int64)
        drawn = vocabulary[places].tolist()
        stops = np.cumsum(sizes).tolist()
        start = 0
        for stop in stops:
            row = drawn[start:stop]
            start = stop
            chance = rng.random()
            if recent and chance < 0.07:
                row = list(rng.choice(recent))
                if chance < 0.035:
                    row[rng.randrange(len(row))] = rng.choice(words)
            elif len(recent) < 50_000:
                recent.append(row)
            else:
                recent[rng.randrange(50_000)] = row
            yield " ".join(row)
        left -= block


def part_t0(options: argparse.Namespace, python: str) -> Result | None:
    folder = Path(options.data) if options.data else data_folder()
    if folder is None or not folder.is_dir():
        print("no real data here (set ESPALIER_DATA or --data): part t0 left out")
        return None
    texts = list(islice(t0_prompts(folder), options.rows))
    words = sum(len(text.split()) for text in texts[:: max(1, len(texts) // 1000)])
    about = f"T0 prompts, about {words // len(texts[:: max(1, len(texts) // 1000)])} words each"
    return compare("t0", texts, about, options.runs, python)


def part_synthetic(options: argparse.Namespace, python: str) -> Result:
    texts = list(synthetic(options.rows or SYNTHETIC_ROWS, "synthetic"))
    about = "made-up rows of 20 to 40 words, 3.5 % exact and 3.5 % one-word-changed twins"
    return compare("synthetic", texts, about, options.runs, python)


def part_scale(options: argparse.Namespace, python: str) -> Result:
    """Ours alone: time a row and peak memory as the rows become ten times as many."""
    counts = [options.rows // 10, options.rows] if options.rows else list(SCALE_ROWS)
    source = WORK / "scale.txt"
    with source.open("w", encoding="utf-8") as handle:
        for text in synthetic(counts[-1], "scale"):
            handle.write(text + "\n")
    found: dict[int, list[Result]] = {count: [] for count in counts}
    for number in range(min(options.runs, 3)):
        for count in counts:
            result = ours("scale", source, WORK / "unused", count)
            found[count].append(result)
            print(f"  run {number + 1}: {count:,} rows: {result['seconds']:.1f} s", flush=True)
    source.unlink()
    return {
        "about": "made-up rows of 20 to 40 words, read from a file of lines while they are hashed",
        "runs": min(options.runs, 3),
        "threads": CORES,
        "counts": {
            str(count): {
                "seconds": statistics.median(result["seconds"] for result in results),
                "cpu": statistics.median(result["cpu"] for result in results),
                "peak_mb": max(result["peak_mb"] for result in results),
                "pairs": results[0]["pairs"],
                "equal": results[0]["equal"],
            }
            for count, results in found.items()
        },
    }


def part_novelty(options: argparse.Namespace, python: str) -> Result:
    """Is an instruction novel in a large pool? Against `rouge_score`, decision by decision."""
    texts, about = instructions(options, (options.rows or POOL) + QUERIES + MORE_QUERIES)
    source = WORK / "novelty.json"
    asked, more = texts[:QUERIES], texts[QUERIES : QUERIES + MORE_QUERIES]
    given = {"pool": texts[QUERIES + MORE_QUERIES :], "queries": asked, "more": more}
    source.write_text(json.dumps(given), encoding="utf-8")
    found: dict[str, list[Result]] = {"ours": [], "rouge_score": []}
    target = {name: WORK / f"{name}.decisions.json" for name in found}
    for number in range(options.runs):
        found["ours"].append(ours("novelty", source, target["ours"]))
        theirs = job(python, "curate_peers.py", "rouge_score", source, target["rouge_score"])
        found["rouge_score"].append(theirs)
        print(f"  run {number + 1}: rouge_score: {theirs['seconds']:.1f} s", flush=True)
    decisions = {name: json.loads(path.read_text()) for name, path in target.items()}
    median = {
        name: statistics.median(result["seconds"] for result in results) / len(asked)
        for name, results in found.items()
    }
    return {
        "about": about,
        "runs": options.runs,
        "pool": len(given["pool"]),
        "queries": len(asked),
        "novel": sum(decisions["rouge_score"]),
        "equal": decisions["ours"] == decisions["rouge_score"],
        "ours": median["ours"],
        "rouge_score": median["rouge_score"],
        "more": statistics.median(r["more"] for r in found["ours"]) / len(more),
        "more_queries": len(more),
        "built": statistics.median(r["built"] for r in found["ours"]),
    }


def instructions(options: argparse.Namespace, count: int) -> tuple[list[str], str]:
    """Distinct short English texts; every third of the first is one of the last with a word
    changed, so that not all queries are novel."""
    folder = Path(options.data) if options.data else data_folder()
    if folder is not None and folder.is_dir():
        # The last words tell prompts of one template apart; the first would all be alike.
        texts = [" ".join(text.split()[-20:]) for text in t0_prompts(folder)]
        about = "T0 prompts, their last 20 words"
    else:
        texts = list(synthetic(2 * count, "novelty"))
        about = "made-up rows of 20 to 40 words"
    texts = list(dict.fromkeys(text for text in texts if text.isascii() and text.split()))
    if len(texts) < count:
        texts += list(synthetic(count - len(texts), "more"))
        about += ", filled up with made-up ones"
    Random("novelty").shuffle(texts)
    texts = texts[:count]
    rng = Random("queries")
    for place in range(0, QUERIES, 3):
        words = texts[-1 - place].split()
        words[rng.randrange(len(words))] = "changed"
        texts[place] = " ".join(words)
    return texts, about


def lines(parts: dict[str, Result]) -> Iterator[str]:
    for line in header("Near duplicates and novelty against the fastest peers"):
        yield line.split(" Medians of")[0]
    for name in ("t0", "synthetic"):
        if name in parts:
            yield from comparison_lines(parts[name])
    if "scale" in parts:
        yield from scale_lines(parts["scale"])
    if "novelty" in parts:
        yield from novelty_lines(parts["novelty"])


def comparison_lines(part: Result) -> Iterator[str]:
    own = part["tools"][next(iter(TOOLS))]
    yield f"## {part['rows']:,} rows: {part['about']}"
    yield ""
    yield (
        f"Word 5-grams, Jaccard ≥ 0.7; {part['pairs']:,} true pairs. Medians of {part['runs']} "
        f"interleaved runs, each in a process of its own."
    )
    yield ""
    yield "| tool | s | rows/s | time of ours | recall | precision | peak MB |"
    yield "|---|---|---|---|---|---|---|"
    for tool, row in part["tools"].items():
        yield (
            f"| {tool} | {row['seconds']:.2f} | {part['rows'] / row['seconds']:,.0f} | "
            f"{row['seconds'] / own['seconds']:.1f} × | {row['recall']:.4f} | "
            f"{row['precision']:.4f} | {row['peak_mb']:,.0f} |"
        )
    yield ""
    yield (
        f"Ours finds, verifies on the sets and lists all pairs; loading the cached kernels takes "
        f"{own['start']:.2f} s a process, compiling them on the very first use "
        f"{part['compile']:.1f} s. The peers take n-grams made in Python (one thread, the same "
        "words). rensa: `from_token_sets`, `insert_pairs`, `query_all` with 128 permutations and "
        f"RAYON_NUM_THREADS={CORES}, candidates checked by the estimated Jaccard of the sketches; "
        "its rho way samples n-grams and gives flags, not pairs (recall and precision of rows). "
        "datasketch: `MinHash.bulk`, with its own hash function (SHA-1) and with a faster one, 25 "
        "bands of 5, one thread, checked by the estimate."
    )
    yield ""


def scale_lines(part: Result) -> Iterator[str]:
    yield f"## Scale: {part['about']}"
    yield ""
    yield f"One process, {part['threads']} threads; medians of {part['runs']} runs."
    yield ""
    yield "| rows | s | µs a row | CPU µs a row | peak GB | near pairs | rows equal to an earlier |"
    yield "|---|---|---|---|---|---|---|"
    costs = []
    for count, row in part["counts"].items():
        costs.append(row["seconds"] / int(count) * 1e6)
        yield (
            f"| {int(count):,} | {row['seconds']:.1f} | {costs[-1]:.2f} | "
            f"{row['cpu'] / int(count) * 1e6:.2f} | {row['peak_mb'] / 1024:.2f} | "
            f"{row['pairs']:,} | {row['equal']:,} |"
        )
    yield ""
    yield f"The cost of a row changes by {(costs[-1] / costs[0] - 1) * 100:+.0f} %."
    yield ""


def novelty_lines(part: Result) -> Iterator[str]:
    verdict = "equal" if part["equal"] else "DIFFERENT"
    yield f"## Novelty of an instruction in a pool of {part['pool']:,}: {part['about']}"
    yield ""
    yield "| tool | ms an instruction | time of ours |"
    yield "|---|---|---|"
    yield f"| rouge_score, one process | {part['rouge_score'] * 1e3:,.0f} | " + (
        f"{part['rouge_score'] / part['ours']:,.0f} × |"
    )
    yield f"| ours, one thread | {part['ours'] * 1e3:.3f} | 1 × |"
    yield ""
    yield (
        f"Medians of {part['runs']} interleaved runs over {part['queries']} instructions "
        f"({part['novel']} of them novel), decisions {verdict} on every one. Over "
        f"{part['more_queries']:,} further ones ours takes {part['more'] * 1e3:.3f} ms each; "
        f"building the index takes {part['built']:.1f} s."
    )
    yield ""


PARTS: dict[str, Callable[[argparse.Namespace, str], Result | None]] = {
    "t0": part_t0,
    "synthetic": part_synthetic,
    "scale": part_scale,
    "novelty": part_novelty,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", action="append", choices=list(PARTS), help="default: all")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--data", help="folder of real data (default: ../shared/data)")
    parser.add_argument("--peers", help="interpreter with the peers (default: .venv-peers)")
    parser.add_argument("--rows", type=int, help="fewer rows, for a trial; nothing is written")
    parser.add_argument(
        "--without", action="append", default=[], choices=list(TOOLS), help="leave a peer out"
    )
    options = parser.parse_args()
    for name in options.without:
        del TOOLS[name]
    python = peers_python(options.peers)
    WORK.mkdir(parents=True, exist_ok=True)
    stored = RESULTS / "curate.json"
    parts: dict[str, Result] = json.loads(stored.read_text()) if stored.is_file() else {}
    if options.rows:
        parts = {}
    for name in options.part or PARTS:
        print(f"part {name}", flush=True)
        start = time.perf_counter()
        result = PARTS[name](options, python)
        print(f"part {name}: {time.perf_counter() - start:.0f} s", flush=True)
        if result is not None:
            parts[name] = result
    page = "\n".join(lines(parts)) + "\n"
    print(page)
    if not options.rows:
        RESULTS.mkdir(exist_ok=True)
        stored.write_text(json.dumps(parts, indent=1) + "\n", encoding="utf-8")
        (RESULTS / "curate.md").write_text(page, encoding="utf-8")
    shutil.rmtree(WORK)


if __name__ == "__main__":
    main()
