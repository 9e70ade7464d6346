"""Peak memory of curating a large JSONL file: `espalier curate --input` in a process of its own.

The file is made of seeded synthetic rows in English and Chinese, one row in ten a repeat of an
earlier one with one word changed; nothing of it is kept afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from random import Random

from machine import header, write

LETTERS = "bacedifoguhakilomuneparisotuvewixayozealenisorum"
SYLLABLES = [LETTERS[at : at + 2] for at in range(0, len(LETTERS), 2)]
HAN = "天地人你我他大小上下左右山水火木金土日月星云风雨花草树鸟鱼米面茶书画琴棋学问思想时光"


def text(rng: Random, words: int, chinese: bool) -> str:
    """Random words of a vocabulary of some 300,000, or Han characters."""
    if chinese:
        return "".join(rng.choices(HAN, k=words * 2)) + "。"
    return " ".join(
        "".join(rng.choices(SYLLABLES, k=rng.choice((1, 2, 2, 3, 4)))) for _ in range(words)
    )


def make(path: Path, size: int) -> int:
    """Write rows until the file has `size` bytes; returns how many."""
    rng = Random("memory benchmark")
    held: list[dict[str, str]] = []
    rows = 0
    with path.open("w", encoding="utf-8") as handle:
        written = 0
        while written < size:
            if held and rng.random() < 0.1:
                row = dict(rng.choice(held))
                for field, value in list(row.items()):
                    words = value.split(" ")
                    words[rng.randrange(len(words))] = "other"
                    row[field] = " ".join(words) if len(words) > 1 else value + "好"
            else:
                chinese = rng.random() < 0.3
                row = {
                    "instruction": text(rng, rng.randint(8, 40), chinese),
                    "output": text(rng, rng.randint(40, 240), chinese),
                }
                if len(held) < 20_000:
                    held.append(row)
            line = json.dumps(row, ensure_ascii=False) + "\n"
            handle.write(line)
            written += len(line.encode())
            rows += 1
    return rows


def resident(pid: int) -> int:
    """Resident memory of a process in KiB, 0 when it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    found = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(found[0].split()[1]) if found else 0


def measure(source: Path, folder: Path, options: list[str]) -> tuple[float, float, str]:
    """(seconds, peak GiB, the funnel) of one curation."""
    command = [str(Path(sys.executable).parent / "espalier"), "curate", "--input", str(source)]
    command += ["--output", str(folder), "--near", "0.8", *options]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    peak = 0
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.2):
            peak = max(peak, resident(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, _ = process.communicate()
    ended.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"the curation ended with exit code {process.returncode}:\n{output}")
    shown = output.replace(f"{folder}/", "out/")
    funnel = "\n".join(line for line in shown.splitlines() if line.startswith("  "))
    return time.perf_counter() - start, peak / 2**20, funnel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gib", type=float, default=1.0, help="size of the file")
    parser.add_argument("options", nargs="*", help="further options of espalier curate")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "large.jsonl"
        rows = make(source, int(args.gib * 2**30))
        seconds, peak, funnel = measure(source, folder / "out", args.options)
        kept = sum(1 for _ in (folder / "out" / "train.jsonl").open("rb"))
    write(
        "memory.md",
        [
            *header("Peak memory of curating a large file", runs=1),
            f"`espalier curate --input large.jsonl --near 0.8`: {args.gib:g} GiB, {rows:,} rows, "
            "English and Chinese, every tenth row a near repeat; in one process.",
            "",
            "| file | rows in | rows out | time | rows/s | peak resident memory |",
            "|---:|---:|---:|---:|---:|---:|",
            f"| {args.gib:g} GiB | {rows:,} | {kept:,} | {seconds:,.0f} s | {rows / seconds:,.0f} "
            f"| {peak:.2f} GiB |",
            "",
            "```",
            funnel,
            "```",
        ],
    )


if __name__ == "__main__":
    main()
