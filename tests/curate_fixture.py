"""A curate folder written by hand: every file that the stage can leave, small and seeded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from random import Random
from typing import Any

GROUPS = ("generation", "understanding", "reasoning", "dialogue", "transformation")
EN = ("Write a short story about a dog.", "Explain how tides work.", "How many legs have 3 cats?")
ZH = ("写一首关于春天的诗。", "解释一下潮汐。", "把这句话翻译成英文。")


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def make_folder(folder: Path, rows: int = 60, *, text: str = "", seed: int = 5) -> Path:
    """Write the files; `text` is put into every text, name and label that they hold."""
    folder.mkdir(parents=True)
    rng = Random(seed)
    training = [_row(number, rng, text) for number in range(rows)]
    write_lines(folder / "train.jsonl", training)
    write_lines(folder / "eval.jsonl", [_row(number, rng, text) for number in range(7)])
    write_lines(folder / "preferences.jsonl", [_pair(number, text) for number in range(9)])
    write_lines(folder / "rejects.jsonl", [_reject(number, text) for number in range(41)])
    write_lines(folder / "clusters.jsonl", _clusters(training, text))
    write_lines(folder / "contamination.jsonl", _contamination(training, text))
    (folder / "funnel.json").write_text(json.dumps(_funnel(rows, text)), encoding="utf-8")
    (folder / "manifest.json").write_text(
        json.dumps({"seed": 3, "finished": "2026-01-02T03:04:05Z", "wall_seconds": 12.5,
                    "counts": {"notes": [f"A note. {text}"]}}),
        encoding="utf-8",
    )  # fmt: skip
    return folder


def spending(text: str = "") -> list[dict[str, Any]]:
    """Two steps of one priced model, one of a model without a price."""
    return [
        {"step": f"self-instruct{text}", "model": f"m{text}", "requests": 10, "prompt_tokens": 2500,
         "completion_tokens": 700, "money": 1.25, "currency": "USD"},
        {"step": "judge", "model": "m", "requests": 30, "prompt_tokens": 9000,
         "completion_tokens": 300, "money": 0.5, "currency": "USD"},
        {"step": "answers", "model": "local", "requests": 5, "prompt_tokens": 50,
         "completion_tokens": 60, "money": None, "currency": None},
    ]  # fmt: skip


def _row(number: int, rng: Random, text: str) -> dict[str, Any]:
    chinese = number % 3 == 0
    prompt = rng.choice(ZH if chinese else EN)
    answer = ("好" if chinese else "yes ") * rng.randrange(1, 40)
    meta: dict[str, Any] = {
        "source": f"{'ab'[number % 2]}{text}", "language": "zh" if chinese else "en",
        "category": f"c{number % 4}{text}",
    }  # fmt: skip
    if number % 2:
        meta |= {"group": GROUPS[number % 5], "teacher": f"t{text}", "round": number % 2}
        meta |= {"operator": f"evolve{text}", "parents": [f"id0{text}", "elsewhere"]}
    if number % 4:
        meta["quality"] = {
            "relevance": 1 + number % 5,
            "safe": number % 8 != 1,
            "judge": round(1 + 4 * rng.random(), 3),
            "ifd": round(rng.random(), 4),
        }
    return {
        "id": f"id{number}{text}",
        "messages": [
            {"role": "user", "content": f"{prompt} {text}".strip()},
            {"role": "assistant", "content": f"{answer} {text}".strip()},
        ],
        "meta": meta,
    }


def _pair(number: int, text: str) -> dict[str, Any]:
    return {
        "id": f"p{number}{text}",
        "prompt": [{"role": "user", "content": f"What is {number}? {text}"}],
        "chosen": f"It is {number}. {text}", "rejected": f"No. {text}", "margin": None,
        "meta": {"source": "pairs", "language": "en", "kind": f"k{number % 2}{text}"},
    }  # fmt: skip


def _reject(number: int, text: str) -> dict[str, Any]:
    rule = ("refusal", "short_answer", "not_novel")[number % 3]
    return {
        "id": f"r{number}{text}", "text": f"user: rejected {number} {text}",
        "step": f"step {number % 2}{text}", "rule": f"{rule}{text}",
        "evidence": f"seen {number} {text}", "source": f"a{text}", "meta": {},
    }  # fmt: skip


def _clusters(rows: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    found = []
    for place, members in enumerate((1, 4, 2, 1, 1)):
        kept = rows[place]["messages"][0]["content"]
        for member in range(members):
            found.append({
                "method": f"{('minhash', 'semantic')[place % 2]}{text}",
                "keeper": rows[place]["id"], "removed": f"x{place}-{member}{text}",
                "similarity": 0.8 + member / 50, "shared": kept[:8],
                "keeper_text": kept, "removed_text": f"{kept} once more {member} {text}",
            })  # fmt: skip
    return found


def _contamination(rows: list[dict[str, Any]], text: str) -> list[dict[str, Any]]:
    shared = rows[2]["messages"][0]["content"]
    return [
        {"id": rows[2]["id"], "source": f"a{text}", "action": "flag", "found": [
            {"kind": "ngram", "file": f"exam{text}.jsonl", "number": 4, "row": f"q{text}",
             "turn": 1, "role": "user", "start": 2, "end": 12, "tokens": 13, "longest": 13,
             "share": 0.5, "text": shared[2:12], "others": []}]},
        {"id": f"r1{text}", "source": None, "action": "remove", "found": [
            {"kind": "near_prompt", "file": f"exam{text}.jsonl", "number": 9, "row": "q",
             "text": f"rejected 1 {text}", "jaccard": 0.75}]},
    ]  # fmt: skip


def _funnel(rows: int, text: str) -> list[dict[str, Any]]:
    rejected = [{f"refusal{text}": 7, f"not_novel{text}": 7}, {f"short_answer{text}": 7}]
    return [
        {"step": f"step 0{text}", "stream": f"train{text}", "in": rows + 21, "out": rows + 7,
         "rejected": rejected[0], "changed": {f"mojibake{text}": 3}},
        {"step": f"step 1{text}", "stream": f"train{text}", "in": rows + 7, "out": rows,
         "rejected": rejected[1]},
    ]  # fmt: skip
