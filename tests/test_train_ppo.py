"""PPO on tiny models: the loop, its options, and the stage."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import ppo_reference as reference
import pytest
import rl_models

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")
safetensors_torch = pytest.importorskip("safetensors.torch")

from pydantic import ValidationError  # noqa: E402
from rl_learner import (  # noqa: E402
    ENDS,
    TEMPLATE,
    judged,
    make_learner,
    make_options,
    naive_logprobs,
    naive_values,
    stage_context,
)

from espalier.errors import InputError, StageError, UsageError  # noqa: E402
from espalier.models import load_model, load_tokenizer  # noqa: E402
from espalier.records import Example  # noqa: E402
from espalier.scoring import reward_scores  # noqa: E402
from espalier.train import ppo  # noqa: E402
from espalier.train import rollout as rollouts  # noqa: E402
from espalier.train.config_rl import PPOConfig  # noqa: E402
from espalier.train.monitor import read_metrics  # noqa: E402
from espalier.train.ppo_parts import check_slices  # noqa: E402


def test_critic_only_iterations_leave_the_policy_alone(tmp_path: Path) -> None:
    learner = make_learner(tmp_path, critic_only_iterations=1)
    before = copy.deepcopy(learner.parts.policy.state_dict())
    critic = copy.deepcopy(learner.critic.state_dict())
    learner.iterate()
    after = learner.parts.policy.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert any(not torch.equal(critic[k], v) for k, v in learner.critic.state_dict().items())
    learner.iterate()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_numbers_that_are_not_finite_stop_the_run_before_the_step(tmp_path: Path) -> None:
    learner = make_learner(tmp_path)
    experience = judged(learner)
    experience.advantages = experience.advantages * float("nan")
    before = copy.deepcopy(learner.parts.policy.state_dict())
    with pytest.raises(StageError, match="gradient of the policy is not finite") as caught:
        learner.update(experience)
    first = experience.prompts[experience.plan[0][0][0][0]].example.id
    assert first in str(caught.value.where)
    after = learner.parts.policy.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_metrics_have_the_agreed_names(tmp_path: Path) -> None:
    learner = make_learner(tmp_path, iterations=1)
    learner.run()
    (line,) = read_metrics(tmp_path / "metrics.jsonl")
    assert {
        "step", "split", "episodes", "score", "reward", "kl", "kl_k3", "clip_fraction", "entropy",
        "policy_loss", "value_loss", "explained_variance", "length", "no_end_rate",
        "learning_rate", "episodes_per_second", "kl_coefficient",
    } <= set(line)  # fmt: skip


def test_a2c_is_one_epoch_one_minibatch_without_clipping(tmp_path: Path) -> None:
    options = PPOConfig.model_validate({"algorithm": "a2c", "rollout_batch": 24, "iterations": 5,
                                        "critic_only_iterations": 0})  # fmt: skip
    assert (options.epochs, options.minibatch, options.clip, options.value_clip) == (
        1,
        24,
        None,
        None,
    )
    assert options.optimizer_steps == (5, 5)
    assert PPOConfig.model_validate(options.model_dump()) == options
    with pytest.raises(ValidationError, match="contradicts algorithm: a2c"):
        PPOConfig.model_validate({"algorithm": "a2c", "epochs": 4})


def test_a2cs_gradient_is_the_policy_gradient(tmp_path: Path) -> None:
    learner = make_learner(tmp_path, algorithm="a2c", minibatch=None, clip=None, max_grad_norm=1e9)
    experience = judged(learner)
    learner.step = lambda name: 0.0  # type: ignore[method-assign]
    (groups,) = experience.plan[0]
    count = float(experience.tokens(groups))
    learner.policy_step(experience, groups, count, True)
    got = [p.grad.clone() for p in learner.parts.policy.parameters()]
    loss = torch.zeros(())
    for i, episode in enumerate(experience.episodes):
        logits = learner.parts.policy(input_ids=torch.tensor([episode.ids])).logits[0]
        logs = torch.log_softmax(logits, dim=-1)
        for t, token in enumerate(episode.response):
            loss = loss - experience.advantages[i, t] * logs[len(episode.prompt) - 1 + t, token]
    expected = torch.autograd.grad(loss / count, list(learner.parts.policy.parameters()))
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-5)


def test_an_a2c_iteration_equals_a_naive_actor_critic_update(tmp_path: Path) -> None:
    # Everything again from the samples: rewards, advantages, whitening, both losses token by
    # token, gradients by autograd, clipping and Adam's first step by hand.
    learner = make_learner(
        tmp_path, algorithm="a2c", minibatch=None, clip=None, learning_rate=1e-3, stop=ENDS
    )
    policy = copy.deepcopy(learner.parts.policy)
    critic = copy.deepcopy(learner.critic)
    twin = make_learner(tmp_path / "twin", algorithm="a2c", minibatch=None, clip=None, stop=ENDS)
    samples = judged(twin)
    learner.iterate()
    assert learner.steps == {"policy": 1, "critic": 1}

    gamma, lam = learner.options.gamma, learner.options.gae_lambda
    plain, targets = [], []
    for i, episode in enumerate(samples.episodes):
        score, n = float(samples.scores[i]), len(episode.response)
        values = naive_values(critic, episode)
        logprobs = naive_logprobs(policy, episode, 1.0)
        # Policy and reference are one at the start, so there is no KL in the rewards yet.
        rewards = reference.rewards(score, logprobs, logprobs, [True] * n, 0.1)
        advantages, returns = reference.gae(rewards, values, [True] * n, gamma, lam, 0.0)
        plain.append(advantages)
        targets.append(returns)
    white = reference.whiten(plain, [[True] * len(row) for row in plain])
    count = sum(map(len, plain))
    policy_loss, value_loss = torch.zeros(()), torch.zeros(())
    for i, episode in enumerate(samples.episodes):
        ids = torch.tensor([episode.ids])
        logs = torch.log_softmax(policy(input_ids=ids).logits[0], dim=-1)
        hidden = critic.model.base_model(input_ids=ids).last_hidden_state[0]
        for t, token in enumerate(episode.response):
            state = len(episode.prompt) - 1 + t
            policy_loss = policy_loss - white[i][t] * logs[state, token] / count
            value = hidden[state] @ critic.model.score.weight[0]
            value_loss = value_loss + 0.5 * (value - targets[i][t]) ** 2 / count
    for network, trained, loss in (
        (policy, learner.parts.policy, policy_loss),
        (critic, learner.critic, value_loss),
    ):
        parameters = list(network.parameters())
        gradients = torch.autograd.grad(loss, parameters)
        norm = math.sqrt(sum(float((g**2).sum()) for g in gradients))
        scale = min(1.0, 1.0 / norm)
        for before, after, gradient in zip(
            parameters, trained.parameters(), gradients, strict=True
        ):
            held = gradient * scale
            # Adam's first step is rate × g / (|g| + epsilon).
            expected = before - 1e-3 * held / (held.abs() + 1e-5)
            torch.testing.assert_close(after, expected, rtol=0, atol=4e-5)


def test_contradictions_in_the_options_are_refused() -> None:
    with pytest.raises(ValidationError, match="larger than rollout_batch"):
        PPOConfig.model_validate({"rollout_batch": 8, "minibatch": 9})
    with pytest.raises(ValidationError, match="there is no reward"):
        PPOConfig.model_validate({"reward": None})
    with pytest.raises(UsageError, match="a multiple of 3"):
        check_slices(make_options(rollout_batch=16, minibatch=4), 3)


def test_rules_are_found_by_module_or_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def longest(example, answer):\n    return len(answer) * 2\n", encoding="utf-8")
    assert rollouts.load_rule(f"{file}:longest")(Example.single("x"), "abc") == 6
    assert rollouts.load_rule("rl_models:rule_short") is rl_models.rule_short
    for wrong in (
        "nowhere_at_all:f",
        f"{file}:absent",
        f"{tmp_path}/none.py:f",
        "rl_models:CHARACTERS",
    ):
        with pytest.raises(UsageError, match="reward function"):
            rollouts.load_rule(wrong)


def test_a_reward_model_with_another_tokenizer_reads_the_text(tmp_path: Path) -> None:
    # Here the same ids mean other characters, so only the text can be right.
    own = rl_models.make_tokenizer()
    other = rl_models.make_tokenizer(order="reversed")
    assert not rollouts.same_tokens(own, other)
    assert rollouts.same_tokens(own, rl_models.make_tokenizer())
    model = rl_models.make_model("reward", seed=2)
    scorer = rollouts.RewardModel(model, other, TEMPLATE, False)
    learner = make_learner(tmp_path, reward=scorer, no_end_score=None, score_clip=None, stop=ENDS)
    experience = judged(learner)
    for prompt, text, score in zip(
        experience.prompts, experience.texts, experience.scores.tolist(), strict=True
    ):
        words = f"<|user|> {prompt.example.prompt}<|end|><|assistant|> {text}<|end|>"
        ids = other(words, add_special_tokens=False)["input_ids"]
        assert score == pytest.approx(reward_scores(model, other, [ids])[0], abs=1e-5)


def test_stage_writes_a_model_that_can_be_used(tmp_path: Path) -> None:
    context = stage_context(tmp_path)
    assert set(ppo.inputs(context)) == {"curate/prompts.jsonl", "model", "reward"}
    assert any("24 answers" in line for line in ppo.plan(context))
    counts = ppo.run(context)
    assert counts["episodes"] == 24
    model = load_model(context.folder / "model", device="cpu")
    first = load_model(context.run / "sft" / "model", device="cpu")
    assert not torch.equal(model.lm_head.weight, first.lm_head.weight)
    assert json.loads((context.folder / "model" / "template.json").read_text("utf-8"))
    assert len(load_tokenizer(context.folder / "model")) == len(rl_models.make_tokenizer())
    config = json.loads((context.folder / "model" / "config.json").read_text("utf-8"))
    assert not any("attn_implementation" in key for key in config)
    assert len(list(read_metrics(context.folder / "metrics.jsonl"))) == 2


def test_missing_normalisation_is_named(tmp_path: Path) -> None:
    context = stage_context(tmp_path)
    (context.run / "reward" / "model" / "reward.json").unlink()
    with pytest.raises(InputError, match="normalise_scores: false"):
        ppo.prepare(context)
    scorer = ppo.prepare(stage_context(tmp_path, normalise_scores=False)).parts.reward
    assert scorer is not None
    assert (scorer.mean, scorer.deviation) == (0.0, 1.0)


def test_prompts_that_are_too_long_are_left_out_and_none_left_is_an_error(tmp_path: Path) -> None:
    learner = ppo.prepare(stage_context(tmp_path, max_prompt_tokens=10))
    assert 0 < len(learner.parts.pool) < 20
    assert all(len(prompt.ids) <= 10 for prompt in learner.parts.pool)
    with pytest.raises(StageError, match="None of 20 prompts"):
        ppo.prepare(stage_context(tmp_path, max_prompt_tokens=2))
    with pytest.raises(UsageError, match="max_new_tokens is 200"):
        ppo.prepare(stage_context(tmp_path, max_new_tokens=200))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "values"),
    [
        pytest.param(1, {}, marks=pytest.mark.ci_slice),
        (2, {}),
        (3, {}),
        (1, {"lora": {"r": 8}}),
    ],
    ids=["1", "2", "3", "lora"],
)
def test_ppo_reaches_nearly_all_of_a_rules_reward(
    tmp_path: Path, seed: int, values: dict[str, Any]
) -> None:
    # The rule is 1 for an answer that contains an x, which about one in five does at first.
    learner = make_learner(
        tmp_path, seed=seed, policy=rl_models.make_model(seed=seed), max_new_tokens=8,
        rules={"rl_models:rule_contains": 1.0}, rollout_batch=64, minibatch=16, iterations=20,
        learning_rate=5e-3, kl_coefficient=0.01, no_end_score=None, gamma=1.0, gae_lambda=0.95,
        kl_limit=None, **values,
    )  # fmt: skip
    learner.run()
    scores = [line["score"] for line in read_metrics(tmp_path / "metrics.jsonl")]
    print(f"seed {seed}: {scores[0]:.2f} at first, {scores[-5:]} at the end")
    assert scores[0] < 0.4
    assert sum(scores[-5:]) / 5 >= 0.95


def test_a_policy_that_never_learns_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    context = stage_context(tmp_path, iterations=2, critic_only_iterations=2)
    assert any("the policy never learns" in line for line in ppo.plan(context))
    ppo.prepare(context)
    assert "warning: the policy never learns" in capsys.readouterr().out
    learning = stage_context(tmp_path, iterations=2, critic_only_iterations=1)
    assert not any("never learns" in line for line in ppo.plan(learning))
