"""A trained model of the demo's kind, evaluated through vLLM: every held-out prompt is answered,
and the answers are those of transformers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from vllm_models import VLLM, children_of

from espalier.engines import open_engine
from espalier.engines.base import EngineSpec, Request
from espalier.evaluate.parity import compare_engines
from espalier.models import load_tokenizer
from espalier.recipe import load_recipe
from espalier.records import Message
from espalier.running import run_stages
from espalier.templates import template_of

# Training comes first; of two limits the first one counts.
pytestmark = [pytest.mark.timeout(1800), *VLLM]
RECIPE = Path(__file__).parent / "fixtures" / "tiny.yaml"
PROMPTS = 100
OVERRIDES = [
    f"curate.holdout.count={PROMPTS}",
    "curate.sources.0.count=1500",
    "train.base.steps=150",
    "train.sft.epochs=4",
    "evaluate.engine=vllm",
    "evaluate.reward_model=null",
    "evaluate.metrics=[exact_match, rougeL, perplexity]",
    "evaluate.batch=64",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of the demo in small, up to its SFT model, evaluated with vLLM."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    recipe = load_recipe(RECIPE, OVERRIDES)
    models = [model for model in recipe.section("evaluate").models if model.stage != "ppo"]
    recipe.section("evaluate").models = models
    run_stages(recipe, folder, ["curate", "base", "sft", "evaluate"])
    yield folder


def test_every_prompt_of_every_model_is_answered(run: Path) -> None:
    summary: dict[str, Any] = json.loads((run / "evaluate" / "summary.json").read_text("utf-8"))
    assert [model["name"] for model in summary["models"]] == ["base", "base-few-shot", "sft"]
    for model in summary["models"]:
        assert model["engine"]["name"] == "vllm" and model["engine"]["version"]
        assert model["answers"] == PROMPTS
        lines = (run / "evaluate" / "answers" / f"{model['name']}.jsonl").read_text("utf-8")
        assert all(
            json.loads(line)["finish_reason"] in ("stop", "length") for line in lines.splitlines()
        )
    overlap = {s["model"]: s["value"] for s in summary["scores"] if s["metric"] == "rougeL"}
    assert overlap["sft"] > 3 * overlap["base"]  # it has learnt something
    # One model after the other, and the processes of all of them are gone.
    assert not children_of(os.getpid())


def test_greedy_answers_agree_with_transformers_token_by_token(run: Path) -> None:
    location = str(run / "sft" / "model")
    template = template_of(location, tokenizer=load_tokenizer(location))
    rows = [
        json.loads(line) for line in (run / "curate" / "eval.jsonl").read_text("utf-8").splitlines()
    ]
    a = open_engine(EngineSpec(engine="transformers", model=location, options={"device": "cpu"}))
    b = open_engine(EngineSpec(engine="vllm", model=location))
    form = a._load().form  # type: ignore[attr-defined]
    asked = [
        Request(messages=tuple(Message(t["role"], t["content"]) for t in row["messages"][:1]))
        for row in rows
    ]
    requests = [Request(token_ids=tuple(ids)) for ids in form.prompts(asked)]
    found = compare_engines(a, b, requests, max_tokens=40, stop=template.stop)
    assert len(found.prompts) == PROMPTS
    assert found.tokens > 2 * PROMPTS
    assert found.agreement >= 0.99
    assert all(one.tie for one in found.divergences), found.divergences
    assert found.verdict in ("same", "same but for ties")
    assert found.differences.max() < 1e-3
