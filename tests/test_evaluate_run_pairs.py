"""Scores of whole sets compared between runs: against sacrebleu, a naive loop, and `compare`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from espalier.cli import main
from espalier.evaluate.run_pairs import run_pairs
from espalier.reports.config import ReportConfig
from espalier.reports.runs_data import gather_runs

WORDS = ["river", "stone", "window", "garden", "paper", "silver", "morning", "engine", "violet"]
ROWS = 30


def references() -> list[str]:
    generator = np.random.default_rng(0)
    return [" ".join(generator.choice(WORDS, 8)) for _ in range(ROWS)]


def spoilt(rate: float, seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    return [
        " ".join(w if generator.random() > rate else "wrong" for w in text.split())
        for text in references()
    ]


OLD, NEW = spoilt(0.5, 1), spoilt(0.2, 2)


def evaluated(folder: Path, answers: Sequence[str], rows: Sequence[int], more: str = "") -> Path:
    """A run of one model's answers to these rows, evaluated through the command line."""
    folder.mkdir(parents=True)
    texts = references()
    prompts = [f"Say sentence {i}.{more}" for i in rows]
    items = [
        {"id": f"q{i}", "prompt": prompt, "completion": texts[i]}
        for i, prompt in zip(rows, prompts, strict=True)
    ]
    given = [
        {"prompt": prompt, "response": answers[i]} for i, prompt in zip(rows, prompts, strict=True)
    ]
    for name, values in (("set", items), ("m", given)):
        lines = "".join(json.dumps(value) + "\n" for value in values)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    words = ["evaluate", "--set", str(folder / "set.jsonl"), "--output", str(folder)]
    words += ["--predictions", f"m={folder / 'm.jsonl'}"]
    words += ["--set", "evaluate.metrics=[exact_match,rougeL,bleu,chrf]"]
    words += ["--set", "evaluate.resamples=500", "--set", "evaluate.permutations=2000"]
    assert main(words) == 0
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [
        evaluated(folder / "old", OLD, range(ROWS)),
        evaluated(folder / "new", NEW, range(ROWS)),
        evaluated(folder / "other", NEW, range(ROWS), " Now."),
    ]


ASKED = (0, 1, "m", "bleu")


def test_the_difference_is_sacrebleus_and_the_interval_that_of_a_loop(runs: list[Path]) -> None:
    from sacrebleu.metrics import BLEU

    metric, texts = BLEU(tokenize="13a", force=True), references()

    def score(answers: Sequence[str], rows: Sequence[int]) -> float:
        return float(
            metric.corpus_score([answers[i] for i in rows], [[texts[i] for i in rows]]).score
        )

    one = run_pairs(runs, [ASKED], 0.95, 1)[ASKED]
    everything = range(ROWS)
    assert one["difference"] == pytest.approx(score(NEW, everything) - score(OLD, everything))
    assert one["n"] == ROWS
    generator = np.random.default_rng(3)
    draws = [generator.integers(0, ROWS, ROWS) for _ in range(300)]
    theirs = [score(NEW, rows) - score(OLD, rows) for rows in draws]
    low, high = np.quantile(theirs, [0.025, 0.975])
    width = high - low
    assert one["low"] == pytest.approx(low, abs=0.2 * width)
    assert one["high"] == pytest.approx(high, abs=0.2 * width)
    # Exchanged answers differ as much in hardly any of 300 draws.
    coins = [generator.integers(0, 2, ROWS) for _ in range(300)]
    exchanged = [
        score([(OLD, NEW)[c][i] for i, c in enumerate(row)], everything)
        - score([(NEW, OLD)[c][i] for i, c in enumerate(row)], everything)
        for row in coins
    ]
    share = np.mean([abs(value) >= one["difference"] for value in exchanged])
    assert one["p_value"] == pytest.approx(share, abs=0.02)


def test_the_page_says_what_compare_says(runs: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "compared.json"
    assert main(["compare", *map(str, runs[:2]), "--json", str(output)]) == 0
    [pair] = json.loads(output.read_text("utf-8"))["pairs"]
    told = {entry["metric"]: entry for entry in pair["metrics"]}
    data = gather_runs(runs[:2], ReportConfig())
    found: dict[str, dict[str, Any]] = {
        one["target"].split("/")[1]: one
        for one in data.comparisons
        if (one["reference"], one["run"]) == (0, 1)
    }
    assert {name: one["how"] for name, one in found.items()} == {
        "exact_match": "rows", "rougeL": "rows", "bleu": "set", "chrf": "set",
    }  # fmt: skip
    for name in ("bleu", "chrf"):
        assert found[name]["difference"] == pytest.approx(told[name]["difference"])
        assert found[name]["low"] == pytest.approx(told[name]["low"])
        assert found[name]["verdict"] == told[name]["verdict"] == "better"
    assert found["rougeL"]["difference"] == pytest.approx(told["rougeL"]["difference"])
    turned = {
        one["target"]: one for one in data.comparisons if (one["reference"], one["run"]) == (1, 0)
    }["m/bleu"]
    assert turned["difference"] == -found["bleu"]["difference"]
    assert turned["low"] == -found["bleu"]["high"] and turned["verdict"] == "worse"


def test_what_cannot_be_compared_is_left_out(runs: list[Path], tmp_path: Path) -> None:
    """Other prompts, other models or metrics, no statistics, broken or older ones."""
    assert run_pairs(runs, [(0, 2, "m", "bleu")], 0.95, 1) == {}
    assert run_pairs(runs, [(0, 1, "n", "bleu"), (0, 1, "m", "ter")], 0.95, 1) == {}
    copy = tmp_path / "copy"
    shutil.copytree(runs[1], copy)
    path = copy / "evaluate" / "statistics.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    header = json.loads(arrays["header"].tobytes()) | {"schema": 1}
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(path, **arrays)
    assert run_pairs([runs[0], copy], [ASKED], 0.95, 1) == {}
    path.write_bytes(b"no archive")
    assert run_pairs([runs[0], copy], [ASKED], 0.95, 1) == {}
    path.unlink()
    assert run_pairs([runs[0], copy], [ASKED], 0.95, 1) == {}


def test_runs_of_other_prompts_are_told_to_be_so(runs: list[Path]) -> None:
    data = gather_runs([runs[0], runs[2]], ReportConfig())
    assert data.comparisons == []
    assert any("old and other share no prompts" in notice.text for notice in data.notices)


def test_an_option_that_was_not_there_yet_was_off(runs: list[Path], tmp_path: Path) -> None:
    for name, run in zip(("a", "b"), runs[:2], strict=True):
        shutil.copytree(run, tmp_path / name)
    (tmp_path / "a" / "recipe.resolved.yaml").write_text("seed: 1\ntrain: {sft: {lr: 1}}\n")
    (tmp_path / "b" / "recipe.resolved.yaml").write_text(
        "seed: 1\nsweep: {keys: {seed: [1]}}\ntrain: {sft: {lr: 1, packing: null}}\n"
    )
    assert gather_runs([tmp_path / "a", tmp_path / "b"], ReportConfig()).changes == []
