"""Run folders of any size for the benchmark of the report, made from real texts.

Prompts and references are rows of T0; the answers of four models are the published responses of
four models, once each, then stretches of T0 rows that are no prompts, each used once. T0 brings
the same documents under several templates, so passages come again far apart, as they do in
evaluations over documents. `drawn` texts have the same words and lengths, and no document comes
twice: a chain of words, each drawn from those that follow its predecessor in T0. They are harder
to pack than real ones.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import chain as joined
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

MODELS = ("davinci", "davinci-superni-ft", "davinci-self-instruct", "text-davinci-003")
METRICS = (
    ("exact_match", "Exact match", "percent"),
    ("token_f1", "Token F1", "percent"),
    ("rougeL", "ROUGE-L", "percent"),
    ("reward", "Held-out reward", "number"),
)
# Characters of an answer: makes about 33 MB of 10,000 prompts.
LENGTH, SPREAD = 540, 200
PART = 2_000
CHAINS = 512

Row = tuple[str, str, str, list[str]]


def texts(data: Path, prompts: int) -> Iterator[Row]:
    """(category, prompt, reference, answers) of rows of T0, with texts that are used once."""
    rows = t0(data)
    chosen = {int(i * len(rows) / prompts) for i in range(prompts)}
    rng = random.Random(1)
    rest = [row["prompt"] for i, row in enumerate(rows) if i not in chosen]
    rng.shuffle(rest)
    published = [responses(data, name) for name in MODELS]
    stretches = iter(cut(rest, rng))
    for number, place in enumerate(sorted(chosen)):
        row = rows[place]
        answers = [p[number] if number < len(p) else next(stretches) for p in published]
        yield row["template"], row["prompt"], row["completion"], answers


def drawn(data: Path, prompts: int) -> Iterator[Row]:
    """The same number of texts, drawn from a chain of words."""
    rows = t0(data)
    draw = chain([row["prompt"] for row in rows[::5]])
    lengths = [len(row["prompt"].split()) for row in rows]
    rng = random.Random(1)
    for start in range(0, prompts, PART):
        size = min(PART, prompts - start)
        asked = draw([rng.choice(lengths) for _ in range(size)], start)
        words = [round(length(rng) / 5.6) for _ in range(size * len(MODELS))]
        given = draw(words, start + 1)
        for i in range(size):
            row = rows[(start + i) % len(rows)]
            yield row["template"], asked[i], row["completion"], given[i::size]


def t0(data: Path) -> list[dict[str, str]]:
    """The rows of T0: prompt, completion, template."""
    with gzip.open(data / "self_instruct" / "t0_50k.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def responses(data: Path, model: str) -> list[str]:
    """The published answers of a model."""
    path = data / "self_instruct" / "predictions" / f"{model}_predictions.jsonl"
    return [json.loads(line)["response"] for line in path.read_text("utf-8").splitlines()]


def length(rng: random.Random) -> int:
    return max(30, round(rng.gauss(LENGTH, SPREAD)))


def cut(texts: Sequence[str], rng: random.Random) -> Iterator[str]:
    """The texts, one after the other, in stretches of the length of an answer."""
    held = ""
    wanted = length(rng)
    for text in texts:
        held += text + "\n"
        while len(held) >= wanted:
            yield held[:wanted]
            held, wanted = held[wanted:], length(rng)


def chain(texts: Sequence[str]) -> Callable[[Sequence[int], int], list[str]]:
    """A function that draws texts of so many words, by a seed, each word by the one before it."""
    places: dict[str, int] = {}
    following: dict[int, list[int]] = defaultdict(list)
    for text in texts:
        ids = [places.setdefault(word, len(places)) for word in re.findall(r"\S+\s", text + " ")]
        for one, other in zip(ids, [*ids[1:], *ids[:1]], strict=True):
            following[one].append(other)
    words = list(places)
    counts = np.array([len(following[i]) for i in range(len(words))])
    starts = np.cumsum(counts) - counts
    after = np.array([other for i in range(len(words)) for other in following[i]])

    def draw(sizes: Sequence[int], seed: int) -> list[str]:
        # Many chains at once, one behind the other, then cut.
        generator = np.random.default_rng(seed)
        now = generator.integers(len(words), size=CHAINS)
        steps = []
        for _ in range(sum(sizes) // CHAINS + 1):
            now = after[starts[now] + (generator.random(CHAINS) * counts[now]).astype(int)]
            steps.append(now)
        flow = iter(np.stack(steps, axis=1).ravel().tolist())
        return ["".join(words[i] for i in islice(flow, size)) for size in sizes]

    return draw


def make_run(folder: Path, rows: Iterator[Row]) -> int:
    """Write the evaluation of a run, as the stage would; returns the bytes of its texts."""
    evaluate = folder / "evaluate"
    (evaluate / "answers").mkdir(parents=True)
    held = list(rows)
    total = sum(len("".join([*row[1:3], *row[3]]).encode()) for row in held)
    rng = random.Random(2)
    scores: dict[str, dict[str, list[float]]] = {}
    tables = _tables(held, scores, rng)
    first = next(tables)
    with pyarrow.parquet.ParquetWriter(evaluate / "scores.parquet", first.schema) as writer:
        for table in joined([first], tables):
            writer.write_table(table)
    for place, model in enumerate(MODELS):
        with (evaluate / "answers" / f"{model}.jsonl").open("w", encoding="utf-8") as file:
            for number, row in enumerate(held):
                text = row[3][place]
                facts = {"finish_reason": "stop", "tokens": len(text) // 4, "seconds": 0.01}
                line = {"id": f"{number:016x}", "answer": text, **facts}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
    text = json.dumps(summary(scores, len(held)))
    (evaluate / "summary.json").write_text(text, encoding="utf-8")
    return total


def _tables(
    rows: Sequence[Row], scores: dict[str, dict[str, list[float]]], rng: random.Random
) -> Iterator[pyarrow.Table]:
    for place, model in enumerate(MODELS):
        values = scores[model] = {name: [] for name, *_ in METRICS}
        for start in range(0, len(rows), PART):
            lines = []
            for number, (category, prompt, reference, answers) in enumerate(
                rows[start : start + PART], start
            ):
                right = rng.random() < 0.3 + 0.1 * place
                overlap = 1.0 if right else rng.random()
                drawn = (float(right), overlap, overlap * rng.random(), rng.gauss(place, 2))
                found = {name: value for (name, *_), value in zip(METRICS, drawn, strict=True)}
                for name, value in found.items():
                    values[name].append(value)
                texts = {"prompt": prompt, "reference": reference, "answer": answers[place]}
                labels = {"category": category, "language": "en", "source": "t0"}
                lines.append({"id": f"{number:016x}", "model": model, **texts, **labels, **found})
            yield pyarrow.Table.from_pylist(lines)


def summary(scores: dict[str, dict[str, list[float]]], rows: int) -> dict[str, Any]:
    """What `summary.json` says of these scores, with intervals by the normal approximation."""

    def score(model: str, name: str) -> dict[str, Any]:
        values = scores[model][name]
        middle, half = statistics.fmean(values), 1.96 * statistics.stdev(values) / rows**0.5
        ends = {"low": middle - half, "high": middle + half}
        return {"model": model, "metric": name, "value": middle, **ends, "n": rows}

    return {
        "schema": 1,
        "run": "scale",
        "set": {"name": "T0", "rows": rows},
        "baseline": MODELS[0],
        "confidence": 0.95,
        "models": [{"name": model, "label": model, "kind": "predictions"} for model in MODELS],
        "metrics": [
            {"name": name, "label": label, "format": style, "higher_is_better": True}
            for name, label, style in METRICS
        ],
        "scores": [score(model, name) for model in MODELS for name, *_ in METRICS],
        "comparisons": [],
        "slices": [],
    }
