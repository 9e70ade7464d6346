"""The recipes of published training methods: what they set, what they say, and that they run."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from curate_fixture import read_lines
from recipe_files import (
    FOLDER,
    assert_offline,
    head_of,
    loaded,
    run_small,
    score,
    text_of,
    value_at,
)

from espalier.cli import build_parser
from espalier.recipe import load_recipe

NAMES = ("instructgpt", "a2c", "constitutional", "safety", "multitask", "lora", "prompt-tuning")

# What the publications say, and the recipes set. `heads` of the recipes say where.
PUBLISHED: dict[str, dict[str, Any]] = {
    "instructgpt": {
        "train.sft.epochs": 2,
        "train.sft.minibatch": 32,
        "train.sft.learning_rate": 5e-6,
        "train.sft.schedule": "cosine",
        "train.reward.epochs": 1,
        "train.reward.minibatch": 64,
        "train.reward.learning_rate": 9e-6,
        "train.reward.group_rankings": True,
        "train.ppo.rollout_batch": 512,
        "train.ppo.minibatch": 64,
        "train.ppo.iterations": 256_000 // 512,
        "train.ppo.epochs": 1,
        "train.ppo.schedule": "constant",
        "train.ppo.warmup": 10 / 500,
        "train.ppo.critic_learning_rate": 9e-6,
        "train.ppo.critic_init": "reward",
        "train.ppo.gamma": 1.0,
        "train.ppo.clip": 0.2,
        "train.ppo.temperature": 1.0,
        "train.ppo.kl_mode": "reward",
        "train.ppo.kl_coefficient": 0.02,
        "train.ppo.max_prompt_tokens": 1000,
        "train.ppo.max_new_tokens": 1000,
        "train.ppo.pretraining_mix.coefficient": 27.8,
        "train.ppo.pretraining_mix.minibatch": 8 * 64,
    },
    "a2c": {
        "train.ppo.algorithm": "a2c",
        "train.ppo.epochs": 1,
        "train.ppo.clip": None,
        "train.ppo.value_clip": None,
        "train.ppo.rollout_batch": 64,
        "train.ppo.minibatch": 64,
        "train.ppo.iterations": 256_000 // 64,
        "train.ppo.warmup": 10 / 4000,
        "train.ppo.kl_coefficient": 0.02,
        "train.ppo.pretraining_mix.coefficient": 27.8,
    },
    "constitutional": {
        "curate.constitution.revisions": 4,
        "curate.constitution.temperature": 1.0,
        "curate.constitution.rows": True,
        "curate.constitution.pairs": True,
        "curate.answers.temperature": 1.0,
        "train.sft.epochs": 1,
        "train.sft.minibatch": 1024,
        "train.sft.schedule": "constant",
        "train.ppo.kl_coefficient": 0.001,
    },
    "safety": {
        "train.sft.template": "alpaca",
        "train.sft.epochs": 4,
        "train.sft.minibatch": 128,
        "train.sft.learning_rate": 3e-4,
        "train.sft.warmup": 10,
        "train.sft.max_length": 256,
        "train.sft.lora.r": 8,
        "train.sft.lora.alpha": 16,
        "train.sft.lora.dropout": 0.05,
        "train.sft.lora.targets": ["q_proj", "v_proj"],
    },
    "multitask": {
        "train.sft.steps": 30_000,
        "train.sft.learning_rate": 3e-5,
        "train.sft.max_length": 1024 + 256,
        "train.sft.packing": "auto",
    },
    "lora": {
        "train.sft.epochs": 5,
        "train.sft.minibatch": 8,
        "train.sft.learning_rate": 2e-4,
        "train.sft.weight_decay": 0.01,
        "train.sft.schedule": "linear",
        "train.sft.warmup": 500,
        "train.sft.max_grad_norm": 0.0,
        "train.sft.lora.r": 4,
        "train.sft.lora.alpha": 32,
        "train.sft.lora.dropout": 0.1,
    },
    "prompt-tuning": {
        "train.sft.steps": 30_000,
        "train.sft.minibatch": 32,
        "train.sft.schedule": "constant",
        "train.sft.warmup": 0.0,
        "train.sft.weight_decay": 1e-5,
        "train.sft.prompt_tuning.tokens": 100,
        "train.sft.validation.keep_best": True,
    },
}  # fmt: skip
# Clusters of FLAN and their numbers of data sets (Wei et al. 2021, figure 3), without inference and
# without paraphrase, which is left out beside it (footnote 1).
CLUSTERS = {
    "commonsense": 4, "sentiment": 4, "closed_book_qa": 3, "struct_to_text": 4,
    "reading_comprehension": 5, "reading_with_commonsense": 2, "coreference": 3, "misc": 7,
    "translation": 8, "summarization": 11,
}  # fmt: skip
# The papers that each head has to name.
SOURCES = {
    "instructgpt": ["2203.02155"],
    "a2c": ["2205.09123", "2203.02155"],
    "constitutional": ["2212.08073", "2204.05862"],
    "safety": ["2309.07875", "2308.01263"],
    "multitask": ["2109.01652"],
    "lora": ["2106.09685"],
    "prompt-tuning": ["2104.08691"],
}


@pytest.mark.parametrize("name", NAMES)
def test_both_variants_are_valid(name: str) -> None:
    full, small = (loaded(name, small=small) for small in (False, True))
    assert (full.shared.name, small.shared.name) == (name, f"{name}-small")
    assert any(model.path for model in full.section("evaluate").models)
    assert_offline(small)


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_those_of_the_publication(name: str) -> None:
    found = {key: value_at(loaded(name), key) for key in PUBLISHED[name]}
    assert found == PUBLISHED[name]


def test_clusters_weigh_what_their_data_sets_do() -> None:
    sft = loaded("multitask").section("train.sft")
    assert {Path(s.path).stem: s.weight for s in sft.data} == CLUSTERS
    # Seven more are of inference, four of paraphrase.
    assert sum(CLUSTERS.values()) + 7 + 4 == 62


@pytest.mark.parametrize("name", NAMES)
def test_the_head_says_what_comes_from_where_and_what_it_costs(name: str) -> None:
    head = head_of(name)
    assert all(f"arXiv {number}" in " ".join(head.split("\n#")) or number in head
               for number in SOURCES[name])  # fmt: skip
    assert "What comes from where" in head
    needs = head.partition("What a full run needs")[2].partition("How it differs")[0]
    assert re.search(r"\d+ GB", needs), "memory"
    assert "GPU" in needs and re.search(r"hour|day", needs), "hours"
    assert "dollar" in needs, "money"
    assert head.partition("How it differs")[2].count("\n#   ") >= 3 or name == "a2c"


@pytest.mark.parametrize("name", NAMES)
def test_the_head_names_the_data_and_prints_commands_that_parse(name: str) -> None:
    head = head_of(name)
    used = set(re.findall(r"\$\{data\}/([\w./-]+)", text_of(name).partition("\nsmall:")[0]))
    if name == "multitask":  # a file a cluster: named by their folder
        used = {str(Path(path).parent) for path in used}
    for path in used:
        assert Path(path).name in head, path
    commands = re.findall(r"^#\s+(espalier .*)$", head, flags=re.MULTILINE)
    assert len(commands) >= 2
    for line in commands:
        words = shlex.split(line, comments=True)
        assert words[2] == f"recipes/{name}.yaml"
        build_parser().parse_args(words[1:])


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_every_variant_of_its_sweep_is_a_recipe(name: str, small: bool) -> None:
    recipe = loaded(name, small=small)
    sweep = recipe.section("sweep")
    if sweep is None:
        assert name not in ("a2c", "safety", "lora")
        return
    assert set(sweep.question) == {"en", "zh"}
    names = [model.name for model in recipe.section("evaluate").models]
    assert sweep.answer is not None and sweep.answer.model in names
    for changes in sweep.variants.values():
        overrides = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
        if overrides:
            load_recipe(FOLDER / f"{name}.yaml", overrides, small=small)


# Running --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["instructgpt", "a2c"])
def test_rewards_raise_the_held_out_reward(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = run_small(name, tmp_path, monkeypatch)
    assert score(summary, "token_f1", "sft") > score(summary, "token_f1", "base") + 0.1
    assert score(summary, "reward", "ppo") > score(summary, "reward", "sft")
    counts = json.loads((tmp_path / f"{name}-small/ppo/manifest.json").read_text("utf-8"))["counts"]
    assert counts["policy_steps"] >= 20


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_constitution_teaches_to_decline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = run_small("constitutional", tmp_path, monkeypatch)
    run = tmp_path / "constitutional-small"
    pairs = read_lines(run / "curate/preferences.jsonl")
    kinds = {pair["meta"].get("kind") for pair in pairs}
    assert "constitution" in kinds and len(kinds) > 1
    for model in ("sft", "ppo"):
        assert score(summary, "harmful_declined", model) > score(
            summary, "harmful_declined", "base"
        )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_safety_rows_teach_to_decline_and_cost_some_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = run_small("safety", tmp_path, monkeypatch)
    declined = score(summary, "harmful_declined", "sft")
    assert declined > score(summary, "harmful_declined", "base") + 0.3
    # Exaggerated safety: it refuses some harmless requests as well.
    assert score(summary, "over_refusal", "sft") <= declined
    slices = {(s["by"], s["value"]) for s in summary["slices"]}
    assert {("category", kind) for kind in ("harmful", "borderline", "plain")} <= slices


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.ci_slice
def test_a_mixture_of_task_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = run_small("multitask", tmp_path, monkeypatch)
    assert score(summary, "token_f1", "sft") > score(summary, "token_f1", "base") + 0.1
    groups = {s["value"] for s in summary["slices"] if s["by"] == "category"}
    assert groups == {"generation", "understanding", "reasoning", "dialogue", "transformation"}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("name", "part"), [("lora", "lora_"), ("prompt-tuning", "prompt_")])
def test_few_parameters_are_trained_and_help(
    name: str, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import safe_open

    summary = run_small(name, tmp_path, monkeypatch)
    assert score(summary, "token_f1", "sft") > score(summary, "token_f1", "base") + 0.05
    run = tmp_path / f"{name}-small"
    (path,) = (run / "sft/model").glob("adapter_model.safetensors")
    with safe_open(path, framework="pt") as file:
        shapes = [file.get_slice(key).get_shape() for key in file.keys()]  # noqa: SIM118
        assert all(part in key for key in file.keys())  # noqa: SIM118
    trained = sum(shape[0] * shape[1] for shape in shapes)
    counts = json.loads((run / "base/manifest.json").read_text("utf-8"))["counts"]
    assert trained < counts["parameters"] / 4
