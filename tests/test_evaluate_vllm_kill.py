"""An evaluation through vLLM on a tiny model: killed while it answers, and its perplexities."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from vllm_models import VLLM, all_gone, children_of, environment, save_tiny

from espalier.encoding import encode_example, encode_prompt
from espalier.models import load_model, load_tokenizer
from espalier.recipe import load_recipe
from espalier.records import Message
from espalier.running import run_stages
from espalier.scoring import token_logprobs
from espalier.templates import template_of

pytestmark = [pytest.mark.timeout(900), *VLLM]
ROWS = 150
STORE = Path("answers", ".store", "answers.jsonl")


def save_recipe(folder: Path) -> Path:
    """A recipe that evaluates one model on prompts of its own, with long sampled answers."""
    save_tiny(folder / "model")
    rows = [
        {"id": f"r{i}", "instruction": f"count the words: {i} 你好", "output": f"the cat {i}"}
        for i in range(ROWS)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "set.jsonl").write_text(lines, encoding="utf-8")
    recipe: dict[str, Any] = {
        "name": "killed",
        "seed": 5,
        "evaluate": {
            "set": str(folder / "set.jsonl"),
            "models": [{"name": "m", "path": str(folder / "model")}],
            "engine": "vllm",
            "metrics": ["exact_match", "perplexity"],
            "sampling": {"temperature": 1.0, "max_tokens": 400},
            "resamples": 100,
            "permutations": 100,
        },
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def whole(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The stage's folder of a run that nothing disturbed."""
    run = tmp_path_factory.mktemp("whole")
    run_stages(load_recipe(recipe), run, ["evaluate"])
    yield run / "evaluate"


def answers_in(folder: Path) -> list[tuple[str, str, str]]:
    lines = (folder / "answers" / "m.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [(row["id"], row["answer"], row["finish_reason"]) for row in rows]


def waited_for(found: Any, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not found() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(found())


def test_a_kill_in_the_middle_of_generation_loses_only_what_was_under_way(
    recipe: Path, whole: Path, tmp_path: Path
) -> None:
    words = ["-m", "espalier.cli", "run", str(recipe), "--stage", "evaluate", "--runs-dir"]
    killed = subprocess.Popen(
        [sys.executable, *words, str(tmp_path)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    folder = tmp_path / "killed" / "evaluate"
    store = folder / STORE
    try:
        assert waited_for(
            lambda: killed.poll() is not None or (store.is_file() and store.read_bytes()), 300
        )
        [vllm] = children_of(killed.pid)
    finally:
        killed.send_signal(signal.SIGKILL)
        output = killed.communicate()[0].decode()
    assert killed.returncode == -signal.SIGKILL, output
    assert all_gone(vllm)
    before = store.read_bytes()
    kept = [line for line in before.splitlines(keepends=True) if line.endswith(b"\n")]
    assert 0 < len(kept) < ROWS
    run_stages(load_recipe(recipe), tmp_path / "killed", ["evaluate"])
    # Nothing that had arrived is made again, and the draws are those of an undisturbed run.
    assert store.read_bytes().startswith(before)
    made = [json.loads(line)["key"] for line in store.read_bytes().splitlines()]
    assert len(set(made)) == len(made) == ROWS
    assert answers_in(folder) == answers_in(whole)


def test_perplexities_through_vllm_are_those_of_transformers(recipe: Path, whole: Path) -> None:
    summary = json.loads((whole / "summary.json").read_text(encoding="utf-8"))
    [model] = summary["models"]
    assert model["engine"]["perplexity"].startswith("vllm-0.")
    signatures = {m["name"]: m["signature"] for m in summary["metrics"]}
    assert f"|engine:{model['engine']['perplexity']}" in signatures["ppl_response"]
    location = str(recipe.parent / "model")
    tokenizer = load_tokenizer(location)
    template = template_of(location, tokenizer=tokenizer)
    loaded = load_model(location, dtype="float32", device="cpu")
    nll, tokens = 0.0, 0
    for line in (recipe.parent / "set.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        turns = (Message("user", row["instruction"]), Message("assistant", row["output"]))
        start = len(encode_prompt(tokenizer, template, turns[:1]))
        [scores] = token_logprobs(loaded, [encode_example(tokenizer, template, turns).ids])
        nll -= float(scores[start - 1 :].sum())
        tokens += len(scores) - start + 1
    found = {score["metric"]: score["value"] for score in summary["scores"]}
    assert found["ppl_response"] == pytest.approx(math.exp(nll / tokens), rel=1e-4)
