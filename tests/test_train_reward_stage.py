"""The reward stage with its options: adapters, freezing, rankings, validation files, other
tokenizers, resuming."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import reward_models
import rl_models

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from espalier.errors import StageError, UsageError  # noqa: E402
from espalier.models import load_model, load_tokenizer  # noqa: E402
from espalier.records import Message, PreferencePair  # noqa: E402
from espalier.rewarding import RewardScorer, normalisation  # noqa: E402
from espalier.run import Shared, StageContext  # noqa: E402
from espalier.scoring import reward_scores  # noqa: E402
from espalier.templates import get_template  # noqa: E402
from espalier.train import reward, reward_pairs, trainer  # noqa: E402
from espalier.train.config_rl import RewardConfig  # noqa: E402

PAIRS = "curate/preferences.jsonl"


def pair(prompt: str, chosen: str, rejected: str, **meta: Any) -> PreferencePair:
    return PreferencePair.make((Message("user", prompt),), chosen, rejected, meta=meta)


def pairs(count: int, seed: int = 0) -> list[PreferencePair]:
    rng = random.Random(seed)
    return [
        pair(f"say {seed} {i}", "a" * rng.randint(1, 5), rng.choice("bcdxyz") * rng.randint(1, 5))
        for i in range(count)
    ]


def rankings(prompts: int, answers: int = 3) -> list[PreferencePair]:
    """All pairs of answers ranked by their letters a."""
    return [
        pair(
            f"rank {p}",
            "a" * (answers - i) + "x" * i,
            "a" * (answers - j) + "x" * j,
            ranking=f"{p}",
        )
        for p in range(prompts)
        for i in range(answers)
        for j in range(i + 1, answers)
    ]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    rl_models.save(rl_models.make_model(seed=1, spread=0.05), folder / "sft" / "model")
    rl_models.write_rows(folder / PAIRS, pairs(30))
    return folder


def context(run: Path, name: str = "reward", **values: Any) -> StageContext:
    chosen = RewardConfig.model_validate(
        {
            "precision": "fp32", "minibatch": 8, "validation_fraction": 0.2,
            "learning_rate": 3e-3, **values,
        }
    )  # fmt: skip
    folder = run / name
    folder.mkdir(parents=True, exist_ok=True)
    return StageContext("reward", run, folder, chosen, Shared(seed=3))


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(folder / "model.safetensors"))


# What is trained --------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [{}, {"dora": True}])
def test_adapters_are_trained_with_the_head_and_merged(run: Path, extra: dict[str, Any]) -> None:
    stage = context(run, lora={"r": 4, "alpha": 8, **extra}, optimizer="adamw", learning_rate=1e-2)
    reward.run(stage)
    after = weights(stage.folder / "model")
    assert not any("lora" in name or "modules_to_save" in name for name in after)
    start = load_model(run / "sft" / "model", kind="reward", head_seed=3, device="cpu")
    changed = {n for n, value in start.state_dict().items() if not torch.equal(value, after[n])}
    assert "score.weight" in changed
    assert {n.split(".")[-2] for n in changed} - {"score"} == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    }  # fmt: skip


def test_the_merged_model_scores_as_the_trained_one_did(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from espalier.train import reward_model

    seen: list[list[float]] = []
    real = reward_model.merged
    tokenizer = rl_models.make_tokenizer()
    rows = [[5, 6, 7], [9, 9], [12, 5, 30]]

    def spied(model: Any) -> Any:
        seen.append(reward_scores(model, tokenizer, rows))
        return real(model)

    monkeypatch.setattr(reward_model, "merged", spied)
    stage = context(run, lora={"r": 4}, optimizer="adamw", learning_rate=1e-2)
    reward.run(stage)
    loaded = load_model(stage.folder / "model", kind="reward", device="cpu")
    assert reward_scores(loaded, tokenizer, rows) == pytest.approx(seen[0], abs=1e-5)


def test_frozen_layers_stay(run: Path) -> None:
    stage = context(run, freeze=["embed_tokens", r"layers\.0\."])
    reward.run(stage)
    start = load_model(run / "sft" / "model", kind="reward", head_seed=3, device="cpu").state_dict()
    for name, value in weights(stage.folder / "model").items():
        frozen = "embed_tokens" in name or "layers.0." in name
        assert torch.equal(value, start[name]) == frozen, name


def test_the_best_weights_of_several_epochs_are_kept(run: Path) -> None:
    stage = context(
        run, epochs=30, validate_every=2, patience=3, keep_best=True, learning_rate=0.3,
        optimizer="adamw",
    )  # fmt: skip
    counts = reward.run(stage)
    lines = [json.loads(x) for x in (stage.folder / "metrics.jsonl").read_text().splitlines()]
    measured = {x["step"]: x["loss"] for x in lines if x["split"] == "eval"}
    assert counts["best"]["loss"] == pytest.approx(min(measured.values()))
    assert counts["steps"] < 90
    accuracy = json.loads((stage.folder / "accuracy.json").read_text("utf-8"))
    assert any("chosen on these very pairs" in text for text in accuracy["reliability"])
    at_best = next(x for x in lines if x["split"] == "eval" and x["step"] == counts["best"]["step"])
    assert accuracy["accuracy"] == pytest.approx(at_best["accuracy"])


# What it learns from ----------------------------------------------------------------------


def test_prompts_that_differ_in_case_or_punctuation_only_are_not_split() -> None:
    same = [
        pair(text, "a", "b", n=i)
        for i in range(20)
        for text in (f"Say it {i}!", f"say it {i}", f"ＳＡＹ  it, {i}.")
    ]
    options = RewardConfig.model_validate({"validation_fraction": 0.3})
    train, held_out = reward_pairs.split_by_prompt([(p, 1) for p in same], options, 1)
    names = [{reward_pairs.prompt_name(p) for p in part} for part in (train, held_out)]
    assert not names[0] & names[1]
    assert len(held_out) == 18
    # `12 + 3` is another question than `12 - 3`.
    plus, minus = (pair(f"12 {sign} 3", "a", "b") for sign in "+-")
    assert reward_pairs.prompt_name(plus) != reward_pairs.prompt_name(minus)


def test_pairs_of_one_dialogue_are_held_out_together() -> None:
    """Parts of a split dialogue have other prompts, and much of their text in common."""
    rows = [
        replace(
            pair(f"dialogue {i}, part {number}", "a", "b"),
            meta={"part": number, "of_parts": 3, "parents": [f"d{i}"]},
        )
        for i in range(20)
        for number in range(3)
    ]
    chosen = RewardConfig.model_validate({"validation_fraction": 0.2})
    train, held_out = reward_pairs.split_by_prompt([(p, 1) for p in rows], chosen, 1)
    sides = [{p.meta["parents"][0] for p in side} for side in (train, held_out)]
    assert len(held_out) == 12 and not sides[0] & sides[1]
    # A prompt that dialogues have in common is on one side as well.
    common = [replace(p, prompt=pair("go on", "a", "b").prompt) for p in rows[:15:3]]
    for seed in range(6):
        given = [(p, 1) for p in [*rows, *common]]
        train, held_out = reward_pairs.split_by_prompt(given, chosen, seed)
        sides = [{p.meta["parents"][0] for p in side} for side in (train, held_out)]
        names = [{reward_pairs.prompt_name(p) for p in side} for side in (train, held_out)]
        assert not sides[0] & sides[1] and not names[0] & names[1]
    kept, _, lost = reward_pairs.apart_from([(p, 1) for p in rows], [rows[0]])
    assert lost == 3 and len(kept) == 57


def test_a_validation_file_keeps_its_prompts_out_of_training(run: Path) -> None:
    own = [*pairs(6, seed=9), pair("SAY 0 3!", "aaa", "xyz")]
    path = str(rl_models.write_rows(run / "mine" / "check.jsonl", own))
    chosen = RewardConfig.model_validate({"precision": "fp32", "validation": path})
    stage = StageContext("reward", run, context(run).folder, chosen, Shared(seed=3))
    assert path in reward.inputs(stage)
    train, held_out, leaked = reward_pairs.split(stage, 3)
    assert (len(train), held_out, leaked) == (29, own, 1)
    counts = reward.run(stage)
    assert counts["lost"]["held_out_prompt"] == 1
    assert counts["validation_rows"] == 7
    with pytest.raises(StageError, match="no preference pair to train on"):
        reward_pairs.apart_from([(p, 1) for p in own], own)


def test_rankings_go_through_as_one_example(run: Path) -> None:
    rl_models.write_rows(run / PAIRS, rankings(20))
    plain, grouped = context(run), context(run, "grouped", group_rankings=True)
    counts = [reward.run(stage) for stage in (plain, grouped)]
    assert [c["rows"] for c in counts] == [48, 16]
    assert [c["pairs"] for c in counts] == [48, 48]
    accuracy = json.loads((grouped.folder / "accuracy.json").read_text("utf-8"))
    assert accuracy["pairs"] == 12
    assert accuracy["prompts"] == 4


def test_rankings_that_are_not_there_are_missed(run: Path) -> None:
    """Asked for on pairs that are of none, or alone in theirs."""
    alone = [pair(f"say {i}", "aa", "b", ranking=str(i)) for i in range(10)]
    for found in (pairs(10), alone):
        rl_models.write_rows(run / PAIRS, found)
        with pytest.raises(UsageError, match="No two of 8 pairs are of one ranking") as caught:
            reward.run(context(run, group_rankings=True))
        assert caught.value.where == "train.reward.group_rankings"
    reward.run(context(run))


def test_rankings_may_count_twice(run: Path) -> None:
    rl_models.write_rows(run / PAIRS, rankings(10))
    source = [{"path": PAIRS, "weight": 2}]
    counts = reward.run(context(run, group_rankings=True, pairs=source))
    assert (counts["rows"], counts["pairs"]) == (16, 48)


def test_both_answers_are_cut_to_the_same_prompt() -> None:
    tokenizer, template = rl_models.make_tokenizer(), get_template("espalier")
    turns = tuple(
        Message(role, "abcdefgh") for role in ("user", "assistant", "user", "assistant", "user")
    )
    one = PreferencePair.make(turns, "xyz" * 4, "0")
    rows, lost = reward_pairs.encode_pairs(
        tokenizer, template, [one], 30, RewardConfig.model_validate({})
    )
    chosen, rejected = rows[0].chosen, rows[0].rejected
    assert lost == {"too_long": 0, "equal": 0}
    assert len(chosen) == 30
    # Answers are whole, with their end: earlier answers belong to the prompt, and are cut.
    assert tokenizer.decode(chosen[-14:]) == " " + "xyz" * 4 + "<|end|>"
    assert tokenizer.decode(rejected[-3:]) == " 0<|end|>"
    assert chosen[:-14] == rejected[:-3]


# Shared prompts ---------------------------------------------------------------------------


def test_sharing_prompts_changes_nothing_but_rounding(run: Path) -> None:
    found = []
    for name, shared in (("off", False), ("on", True), ("auto", "auto")):
        stage = context(run, name, share_prompts=shared, optimizer="adamw", learning_rate=1e-3)
        counts = reward.run(stage)
        assert counts["shared_prompts"] is (name == "on")
        found.append(weights(stage.folder / "model"))
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-3, atol=2e-5)
        assert torch.equal(value, found[2][name])


def test_auto_shares_long_prompts(run: Path) -> None:
    long = [pair(f"{'abc ' * 16} {i}", "a" * 3, "xyz") for i in range(12)]
    rl_models.write_rows(run / PAIRS, long)
    assert reward.run(context(run))["shared_prompts"] is True


def test_a_model_that_can_not_share_says_so(run: Path, tmp_path: Path) -> None:
    tokenizer = reward_models.encoder_tokenizer()
    folder = reward_models.save(
        reward_models.classifier("bert", tokenizer), tokenizer, tmp_path / "bert"
    )
    with pytest.raises(UsageError, match="once for several answers"):
        reward.run(context(run, model=str(folder), share_prompts=True))


# Other tokenizers -------------------------------------------------------------------------


def test_whose_tokenizer_and_template_are_read(run: Path, tmp_path: Path) -> None:
    policy = load_tokenizer(run / "sft" / "model").get_vocab()
    # 1. The same tokens: the policy's, also where the recipe names another template.
    tokenizer, template = reward.reading_of(context(run), run / "sft" / "model")
    assert (tokenizer.get_vocab(), template.name) == (policy, "espalier")
    _, template = reward.reading_of(context(run, template="qa"), run / "sft" / "model")
    assert template.name == "qa"
    # 2. Other tokens: the model's own tokenizer and what it says of itself.
    bert = reward_models.encoder_tokenizer()
    folder = reward_models.save(reward_models.classifier("bert", bert), bert, tmp_path / "bert")
    tokenizer, template = reward.reading_of(context(run), folder)
    assert (tokenizer.get_vocab(), template.name) == (bert.get_vocab(), "text-pair")
    # 3. It says nothing: the policy's template, written with its own tokenizer.
    other = rl_models.make_tokenizer("reversed")
    plain = reward_models.save(reward_models.classifier("gpt2", other), other, tmp_path / "gpt2")
    tokenizer, template = reward.reading_of(context(run), plain)
    assert tokenizer.get_vocab() == other.get_vocab() != policy
    assert template.name == "espalier"
    # 4. No policy in this run: the model's own, or one must be named.
    alone = context(tmp_path / "alone")
    assert reward.reading_of(alone, folder)[1].name == "text-pair"
    with pytest.raises(UsageError, match="Nothing says which prompt template"):
        reward.reading_of(alone, plain)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [pytest.param("bert", marks=pytest.mark.ci_slice), "roberta", "gpt2"]
)
def test_any_model_can_be_the_start(kind: str, run: Path, tmp_path: Path) -> None:
    tokenizer = (
        rl_models.make_tokenizer("reversed") if kind == "gpt2"
        else reward_models.encoder_tokenizer(kind)
    )  # fmt: skip
    base = reward_models.classifier(kind, tokenizer, seed=2).base_model
    source = reward_models.save(base, tokenizer, tmp_path / kind)
    stage = context(run, model=str(source), epochs=6, learning_rate=3e-3)
    counts = reward.run(stage)
    assert counts["template"] == ("espalier" if kind == "gpt2" else "text-pair")
    assert counts["accuracy"] > 0.8
    folder = stage.folder / "model"
    mean, deviation, known = normalisation(folder)
    assert known
    scorer = RewardScorer(folder, mean=mean, deviation=deviation, dtype="float32", token_budget=500)
    held_out = reward_pairs.split(stage, 3)[1]
    prompts, metas = [p.prompt for p in held_out], [p.meta for p in held_out]
    chosen = scorer.score(prompts, [p.chosen for p in held_out], metas)
    rejected = scorer.score(prompts, [p.rejected for p in held_out], metas)
    wins = sum(a > b for a, b in zip(chosen, rejected, strict=True))
    assert wins / len(held_out) == counts["accuracy"]
    distinct = {(p.prompt, p.chosen): score for p, score in zip(held_out, chosen, strict=True)}
    assert sum(distinct.values()) / len(distinct) == pytest.approx(0.0, abs=1e-4)


def test_one_label_of_a_classifier_can_be_the_start(run: Path, tmp_path: Path) -> None:
    tokenizer = reward_models.encoder_tokenizer()
    model = reward_models.classifier("bert", tokenizer, labels=2)
    model.config.id2label = {0: "harmful", 1: "harmless"}
    folder = reward_models.save(model, tokenizer, tmp_path / "m")
    stage = context(run, model=str(folder), label="harmless", learning_rate=1e-9)
    reward.run(stage)
    after = weights(stage.folder / "model")
    torch.testing.assert_close(after["classifier.weight"], model.classifier.weight[1:2].detach())


def test_markers_of_a_named_template_become_tokens(run: Path, tmp_path: Path) -> None:
    other = reward_models.encoder_tokenizer("roberta")
    source = reward_models.save(reward_models.classifier("gpt2", other), other, tmp_path / "gpt2")
    stage = context(run, model=str(source), template="chatml", lora={"r": 2}, optimizer="adamw")
    reward.run(stage)
    saved = load_tokenizer(stage.folder / "model")
    assert len(saved("<|im_start|>", add_special_tokens=False)["input_ids"]) == 1
    model = load_model(stage.folder / "model", kind="reward", device="cpu")
    assert model.get_input_embeddings().weight.shape[0] >= len(saved)


# Resuming ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.ci_slice
@pytest.mark.parametrize(
    "values",
    [
        {"share_prompts": True},
        {"group_rankings": True, "share_prompts": True},
        {"lora": {"r": 2, "dropout": 0.1}, "optimizer": "adamw"},
        {"keep_best": True, "validate_every": 2},
    ],
    ids=["shared", "rankings", "lora", "best"],
)
def test_an_interrupted_run_ends_in_the_same_weights(
    values: dict[str, Any], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rl_models.write_rows(run / PAIRS, [*pairs(20), *rankings(4)])
    settings = {"epochs": 3, "checkpoint_every": 2, "log_every": 1, **values}
    whole, broken = context(run, "whole", **settings), context(run, "broken", **settings)
    reward.run(whole)
    real = trainer.StepTrainer.training_step
    calls = []

    def interrupted(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(trainer.StepTrainer, "training_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        reward.run(broken)
    reward.run(broken)
    first, second = (weights(stage.folder / "model") for stage in (whole, broken))
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    for name in ("accuracy.json", "model/reward.json"):
        assert (whole.folder / name).read_text() == (broken.folder / name).read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    "values",
    [
        {"share_prompts": True, "group_rankings": True},
        {"lora": {"r": 2}, "share_prompts": True},
        {"share_prompts": True, "distributed": "fsdp"},
    ],
    ids=["rankings", "lora", "fsdp"],
)
def test_two_processes_train_the_same_reward_model(values: dict[str, Any], run: Path) -> None:
    from espalier import launch

    rl_models.write_rows(run / PAIRS, [*pairs(20), *rankings(4)])
    settings = {"optimizer": "adamw", "learning_rate": 1e-3, **values}
    one, two = context(run, "one", **settings), context(run, "two", **settings)
    counts = reward.run(one), launch.run("espalier.train.reward", two, 2)
    assert counts[0]["steps"] == counts[1]["steps"]
    assert counts[0]["shared_prompts"] is counts[1]["shared_prompts"] is True
    assert counts[0]["accuracy"] == counts[1]["accuracy"]
    others = weights(two.folder / "model")
    for name, value in weights(one.folder / "model").items():
        torch.testing.assert_close(others[name], value, rtol=1e-3, atol=2e-5)
