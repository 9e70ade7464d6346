"""PPO on tiny models: the details of a faithful implementation, one test each, and resuming."""

from __future__ import annotations

import copy
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
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

from espalier.errors import InputError, StageError, UsageError  # noqa: E402
from espalier.models import load_model, load_tokenizer  # noqa: E402
from espalier.records import Example  # noqa: E402
from espalier.run import Shared, StageContext  # noqa: E402
from espalier.scoring import reward_scores  # noqa: E402
from espalier.templates import get_template  # noqa: E402
from espalier.train import checkpoints, ppo  # noqa: E402
from espalier.train import rollout as rollouts  # noqa: E402
from espalier.train.actors import Critic, Episode, collate, without_dropout, zero_head  # noqa: E402
from espalier.train.config_rl import PPOConfig  # noqa: E402
from espalier.train.experience import Experience, make_plan  # noqa: E402
from espalier.train.monitor import read_metrics  # noqa: E402
from espalier.train.ppo_loop import PPO, TIMINGS  # noqa: E402
from espalier.train.ppo_parts import Parts, check_slices  # noqa: E402

TEMPLATE = get_template("espalier")


def make_options(**values: Any) -> PPOConfig:
    defaults = {
        "reward": None, "rules": {"rl_models:rule_letter": 1.0}, "precision": "fp32",
        "rollout_batch": 12, "minibatch": 4, "iterations": 4, "max_new_tokens": 6,
        "critic_only_iterations": 0, "samples": 2, "sample_every": 2, "checkpoint_every": 2,
        "learning_rate": 3e-3, "kl_coefficient": 0.1, "gae_lambda": 0.9, "gamma": 0.97,
    }  # fmt: skip
    return PPOConfig.model_validate({**defaults, **values})


def make_learner(
    folder: Path,
    *,
    policy: Any = None,
    reward: Any = None,
    stop: tuple[int, ...] = (),
    **values: Any,
) -> PPO:
    """A learner on random models. `stop` are more tokens that end an answer, so that many do."""
    if reward is not None:
        values = {"reward": "given", "rules": {}, **values}
    options = make_options(**values)
    tokenizer = rl_models.make_tokenizer()
    policy = without_dropout(policy or rl_models.make_model())
    first = copy.deepcopy(policy)
    for parameter in first.parameters():
        parameter.requires_grad_(False)
    pool, _ = rollouts.prompt_pool(rl_models.prompts(), tokenizer, TEMPLATE, 64)
    stop_ids = (*rollouts.stop_tokens(policy, tokenizer, TEMPLATE), *stop)
    rules = [(name, rollouts.load_rule(name), w) for name, w in options.rules.items()]
    critic = Critic(without_dropout(rl_models.make_model("reward", seed=1)))
    parts = Parts(tokenizer, TEMPLATE, policy, first, critic, reward, rules, pool, stop_ids)
    return PPO(parts, options, folder, seed=5)


# About half of the answers end: ids 6 to 15 are the letters a to j.
ENDS = tuple(range(6, 16))


def judged(learner: PPO) -> Experience:
    experience = learner.sample()
    learner.score(experience)
    learner.judge(experience)
    return experience


def naive_logits(model: Any, episode: Episode) -> list[list[float]]:
    """Logits before each response token, one unpadded sequence and a full forward pass."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([episode.ids])).logits[0]
    start = len(episode.prompt) - 1
    return logits[start : start + len(episode.response)].tolist()


def naive_logprobs(model: Any, episode: Episode, temperature: float) -> list[float]:
    rows = zip(naive_logits(model, episode), episode.response, strict=True)
    return [reference.logprob(row, token, temperature) for row, token in rows]


def naive_values(critic: Any, episode: Episode, *, after: bool = False) -> list[float]:
    with torch.no_grad():
        hidden = critic.model.base_model(input_ids=torch.tensor([episode.ids])).last_hidden_state[0]
    start = len(episode.prompt) - 1
    rows = hidden[start : start + len(episode.response) + after]
    return (rows @ critic.model.score.weight[0]).tolist()


def test_detail_01_padding_never_ends_an_answer() -> None:
    tokenizer = rl_models.make_tokenizer()
    stops = rollouts.stop_tokens(rl_models.make_model(), tokenizer, TEMPLATE)
    assert stops == (tokenizer.eos_token_id,)
    assert tokenizer.pad_token_id not in stops


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_detail_02_and_05_all_passes_agree_with_a_plain_forward(
    tmp_path: Path, temperature: float
) -> None:
    # The sampler pads on the left and keeps a cache, training pads on the right: the same
    # positions, the same temperature, the same numbers as one unpadded sequence by itself.
    learner = make_learner(tmp_path, temperature=temperature, stop=ENDS)
    experience = judged(learner)
    assert len({len(e.prompt) for e in experience.episodes}) > 2
    for row, episode in enumerate(experience.episodes):
        expected = naive_logprobs(learner.parts.policy, episode, temperature)
        n = len(episode.response)
        assert experience.old[row, :n].tolist() == pytest.approx(expected, abs=2e-5)
        assert experience.reference[row, :n].tolist() == pytest.approx(expected, abs=2e-5)
        assert experience.rollout[row, :n].tolist() == pytest.approx(expected, abs=2e-5)
        entropies = [
            reference.entropy(logits, temperature)
            for logits in naive_logits(learner.parts.policy, episode)
        ]
        assert experience.entropy[row, :n].tolist() == pytest.approx(entropies, abs=2e-5)
        values = naive_values(learner.critic, episode)
        assert experience.values[row, :n].tolist() == pytest.approx(values, abs=2e-5)


def test_detail_03_answers_are_cut_after_the_first_stop_token() -> None:
    assert rollouts.truncated([4, 9, 5, 9], [9]) == ((4, 9), True)
    assert rollouts.truncated([4, 5], [9]) == ((4, 5), False)
    assert rollouts.truncated([9], [9]) == ((9,), True)


def test_detail_03_the_truncated_answer_is_scored_at_its_last_token(tmp_path: Path) -> None:
    tokenizer = rl_models.make_tokenizer()
    model = rl_models.make_model("reward", seed=2)
    scorer = rollouts.RewardModel(model, tokenizer, TEMPLATE, True, mean=0.25, deviation=2.0)
    learner = make_learner(tmp_path, reward=scorer, stop=ENDS, no_end_score=None, score_clip=None)
    experience = judged(learner)
    for episode, score in zip(experience.episodes, experience.scores.tolist(), strict=True):
        critic = Critic(copy.deepcopy(model))
        at_the_end = naive_values(critic, episode, after=True)[-1]
        assert score == pytest.approx((at_the_end - 0.25) / 2.0, abs=1e-5)


def test_detail_04_answers_without_an_end_get_their_fixed_score(tmp_path: Path) -> None:
    learner = make_learner(tmp_path, stop=ENDS, no_end_score=-3.0)
    experience = judged(learner)
    ended = [e.ended for e in experience.episodes]
    assert {True, False} == set(ended)
    for score, text, end in zip(experience.scores.tolist(), experience.texts, ended, strict=True):
        expected = rl_models.rule_letter(Example.single("x"), text) if end else -3.0
        assert score == pytest.approx(expected)


@pytest.mark.parametrize(
    ("score", "ended", "expected"),
    [(9.0, True, 4.0), (-9.0, True, -4.0), (1.0, True, 1.0), (9.0, False, 3.5)],
)
def test_detail_04_and_19_scores_are_clamped_and_lowered(
    score: float, ended: bool, expected: float
) -> None:
    got = rollouts.shaped_score(score, ended, clip=4.0, no_end_score=None, no_end_penalty=0.5)
    assert got == expected


def test_detail_06_old_logprobs_are_those_of_the_training_forward(tmp_path: Path) -> None:
    experience = judged(make_learner(tmp_path))
    # Left on their own, the sampler's numbers would differ in the last digits.
    assert not torch.equal(experience.old, experience.rollout)
    assert float((experience.old - experience.rollout)[experience.mask].abs().max()) < 1e-4


def test_detail_06_importance_weights_reach_the_gradient(tmp_path: Path) -> None:
    gradients = []
    for cap, shift in ((None, 0.0), (10.0, 0.0), (10.0, math.log(2.0)), (1.5, math.log(2.0))):
        learner = make_learner(tmp_path, importance_cap=cap, max_grad_norm=1e9)
        experience = judged(learner)
        experience.rollout = experience.old - shift
        learner.step = lambda name: 0.0  # type: ignore[method-assign]
        groups = experience.plan[0][0]
        learner.policy_step(experience, groups, float(experience.tokens(groups)), True)
        gradients.append(learner.parts.policy.model.layers[0].mlp.up_proj.weight.grad.clone())
    for gradient, factor in zip(gradients, (1.0, 1.0, 2.0, 1.5), strict=True):
        torch.testing.assert_close(gradient, factor * gradients[0], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_detail_07_first_minibatch_ratio_is_one(tmp_path: Path, precision: str) -> None:
    learner = make_learner(tmp_path, precision=precision, iterations=2, epochs=2)
    learner.run()
    lines = list(read_metrics(tmp_path / "metrics.jsonl"))
    assert [line["first_ratio_gap"] for line in lines] == [0.0, 0.0]
    assert lines[0]["ratio_gap"] > 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_detail_07_kl_is_zero_at_the_start(tmp_path: Path, precision: str) -> None:
    experience = judged(make_learner(tmp_path, precision=precision))
    assert torch.equal(experience.old, experience.reference)


def test_detail_07_dropout_is_off(tmp_path: Path) -> None:
    policy = rl_models.make_model()
    policy.config.attention_dropout = 0.5
    for layer in policy.model.layers:
        layer.self_attn.attention_dropout = 0.5
        layer.self_attn.extra = torch.nn.Dropout(0.5)
    policy = without_dropout(policy.train())
    assert not any(module.training for module in policy.modules())
    learner = make_learner(tmp_path, policy=policy)
    learner.policy.train()  # even so, there is none left to apply
    experience = judged(learner)
    again = judged(learner)
    assert torch.equal(experience.old, again.old)


def test_detail_07_a_stateful_layer_is_found_out(tmp_path: Path) -> None:
    learner = make_learner(tmp_path)
    experience = judged(learner)
    with torch.no_grad():
        learner.parts.policy.model.norm.weight.mul_(1.01)
    with pytest.raises(StageError, match="ratio on the first minibatch"):
        learner.update(experience)


def test_detail_08_and_11_rewards_advantages_returns(tmp_path: Path) -> None:
    learner = make_learner(tmp_path, stop=ENDS, whiten_advantages=False)
    with torch.no_grad():  # a policy that has left its reference
        for parameter in learner.parts.policy.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    experience = judged(learner)
    options = learner.options
    for row, episode in enumerate(experience.episodes):
        n = len(episode.response)
        new = naive_logprobs(learner.parts.policy, episode, 1.0)
        first = naive_logprobs(learner.parts.reference, episode, 1.0)
        score = float(experience.scores[row])
        rewards = reference.rewards(score, new, first, [True] * n, options.kl_coefficient)
        assert experience.rewards[row, :n].tolist() == pytest.approx(rewards, abs=1e-5)
        values = naive_values(learner.critic, episode)
        advantages, returns = reference.gae(
            rewards, values, [True] * n, options.gamma, options.gae_lambda, 0.0
        )
        assert experience.advantages[row, :n].tolist() == pytest.approx(advantages, abs=1e-4)
        assert experience.returns[row, :n].tolist() == pytest.approx(returns, abs=1e-4)


def test_detail_11_episodes_that_are_cut_off_go_on_with_the_critics_value(tmp_path: Path) -> None:
    learner = make_learner(tmp_path, stop=ENDS, no_end_score=None, whiten_advantages=False)
    experience = judged(learner)
    options = learner.options
    for row, episode in enumerate(experience.episodes):
        n = len(episode.response)
        *values, after = naive_values(learner.critic, episode, after=True)
        rewards = [0.0] * (n - 1) + [float(experience.scores[row])]
        expected, _ = reference.gae(
            rewards, values, [True] * n, options.gamma, options.gae_lambda,
            0.0 if episode.ended else after,
        )  # fmt: skip
        assert experience.advantages[row, :n].tolist() == pytest.approx(expected, abs=1e-4)


def test_detail_08_kl_in_the_loss_is_a_separate_mode(tmp_path: Path) -> None:
    learner = make_learner(tmp_path, kl_mode="loss", kl_coefficient=0.5)
    with torch.no_grad():
        for parameter in learner.parts.policy.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    experience = judged(learner)
    assert torch.equal(experience.rewards.sum(dim=1), experience.scores)
    losses = {}
    for mode in ("loss", "reward"):
        learner.options.kl_mode = mode  # type: ignore[assignment]
        learner.step = lambda name: 0.0  # type: ignore[method-assign]
        groups = experience.plan[0][0]
        count = float(experience.tokens(groups))
        losses[mode] = learner.policy_step(experience, groups, count, False)["policy_loss"]
    rows = [i for rows in groups for i in rows]
    k3 = 0.0
    for i in rows:
        episode = experience.episodes[i]
        new, old = (
            naive_logprobs(model, episode, 1.0)
            for model in (learner.parts.policy, learner.parts.reference)
        )
        k3 += sum(math.exp(b - a) - 1 - (b - a) for a, b in zip(new, old, strict=True))
    assert losses["loss"] - losses["reward"] == pytest.approx(0.5 * k3, rel=1e-3)


def test_detail_09_the_coefficient_adapts_between_iterations(tmp_path: Path) -> None:
    learner = make_learner(
        tmp_path, kl_target=0.05, kl_horizon=100, kl_coefficient=0.2, iterations=4
    )
    learner.run()
    lines = list(read_metrics(tmp_path / "metrics.jsonl"))
    coefficient = 0.2
    for line in lines:
        assert line["kl_coefficient"] == pytest.approx(coefficient, rel=1e-9)
        error = max(-0.2, min(0.2, line["kl"] / 0.05 - 1))
        coefficient *= 1 + error * 12 / 100
    assert learner.kl_coefficient == pytest.approx(coefficient, rel=1e-9)


def test_detail_10_the_action_mask_covers_the_stop_token_and_nothing_more(tmp_path: Path) -> None:
    experience = judged(make_learner(tmp_path, stop=ENDS))
    for row, episode in enumerate(experience.episodes):
        n = len(episode.response)
        assert experience.mask[row].tolist() == [i < n for i in range(experience.mask.shape[1])]
        assert episode.ended == (episode.response[-1] in (*ENDS, 4))
    for name in ("old", "values", "rewards", "advantages", "returns"):
        assert not getattr(experience, name)[~experience.mask].any()


def test_detail_12_advantages_are_whitened_and_returns_are_not(tmp_path: Path) -> None:
    learners = [make_learner(tmp_path, whiten_advantages=w, stop=ENDS) for w in (True, False)]
    white, plain = (judged(learner) for learner in learners)
    expected = reference.whiten(plain.advantages.tolist(), plain.mask.tolist())
    torch.testing.assert_close(white.advantages, torch.tensor(expected), rtol=0, atol=1e-5)
    assert torch.equal(white.returns, plain.returns)
    sums = torch.where(plain.mask, plain.advantages + plain.values, 0.0)
    torch.testing.assert_close(plain.returns, sums)


def _naive_minibatch(learner: PPO, experience: Experience, rows: list[int]) -> tuple[Any, Any]:
    """Policy and critic loss token by token, with autograd only through plain forwards."""
    options = learner.options
    policy_loss, value_loss, count = torch.zeros(()), torch.zeros(()), 0
    for i in rows:
        episode = experience.episodes[i]
        ids = torch.tensor([episode.ids])
        logits = learner.parts.policy(input_ids=ids).logits[0]
        hidden = learner.critic.model.base_model(input_ids=ids).last_hidden_state[0]
        for t, token in enumerate(episode.response):
            state = len(episode.prompt) - 1 + t
            new = torch.log_softmax(logits[state] / options.temperature, dim=-1)[token]
            ratio = torch.exp(new - experience.old[i, t])
            advantage = experience.advantages[i, t]
            held = ratio.clamp(1 - options.clip, 1 + options.clip)
            policy_loss = policy_loss - torch.minimum(ratio * advantage, held * advantage)
            value = hidden[state] @ learner.critic.model.score.weight[0]
            old, target = experience.values[i, t], experience.returns[i, t]
            near = old + (value - old).clamp(-options.value_clip, options.value_clip)
            value_loss = value_loss + 0.5 * torch.maximum(
                (value - target) ** 2, (near - target) ** 2
            )
            count += 1
    return policy_loss / count, value_loss / count


@pytest.mark.parametrize("token_budget", [8192, 40])
def test_detail_13_14_15_a_minibatchs_gradient_equals_the_naive_loop(
    tmp_path: Path, token_budget: int
) -> None:
    learner = make_learner(tmp_path, token_budget=token_budget, temperature=0.8, stop=ENDS)
    experience = judged(learner)
    groups = experience.plan[0][1]
    assert len(groups) == (1 if token_budget == 8192 else 4)
    with torch.no_grad():  # move, so that some ratios and values are clipped
        generator = torch.Generator().manual_seed(1)
        for network in (learner.parts.policy, learner.critic):
            for parameter in network.parameters():
                parameter.add_(0.03 * torch.randn(parameter.shape, generator=generator))
    learner.step = lambda name: 0.0  # type: ignore[method-assign]
    count = float(experience.tokens(groups))
    part = learner.policy_step(experience, groups, count, False)
    part |= learner.critic_step(experience, groups, count)
    assert 0 < part["clip_fraction"] < count
    assert 0 < part["value_clip_fraction"] <= count
    networks = (learner.parts.policy, learner.critic)
    got = [[p.grad.clone() for p in network.parameters()] for network in networks]
    losses = _naive_minibatch(learner, experience, [i for rows in groups for i in rows])
    for network, gradients, loss, name in zip(
        networks, got, losses, ("policy_loss", "value_loss"), strict=True
    ):
        assert part[name] / count == pytest.approx(float(loss.detach()), abs=1e-5)
        expected = torch.autograd.grad(loss, list(network.parameters()))
        for a, b in zip(gradients, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-5)


def test_detail_16_every_epoch_is_a_fresh_permutation_cut_into_minibatches() -> None:
    lengths = [3, 9, 4, 4, 7, 5, 8, 6, 2, 9]
    plan = make_plan(lengths, epochs=3, minibatch=4, token_budget=18, name="x")
    orders = []
    for minibatches in plan:
        sizes = [sum(len(rows) for rows in groups) for groups in minibatches]
        assert sizes == [4, 4, 2]
        flat = [i for groups in minibatches for rows in groups for i in rows]
        assert sorted(flat) == list(range(10))
        orders.append([frozenset(i for rows in groups for i in rows) for groups in minibatches])
        for groups in minibatches:
            for rows in groups:
                assert len(rows) * max(lengths[i] for i in rows) <= 18
    assert orders[0] != orders[1] != orders[2]
    assert plan == make_plan(lengths, epochs=3, minibatch=4, token_budget=18, name="x")


def test_detail_16_every_minibatch_steps_the_optimizers(tmp_path: Path) -> None:
    learner = make_learner(tmp_path, iterations=3, epochs=2, minibatch=5, critic_only_iterations=1)
    counts = learner.run()
    # 12 episodes in minibatches of 5: three steps an epoch, two epochs.
    assert learner.options.optimizer_steps == (12, 18)
    assert (counts["policy_steps"], counts["critic_steps"]) == (12, 18)
    for optimizer, steps in ((learner.policy_optimizer, 12), (learner.critic_optimizer, 18)):
        taken = {int(state["step"]) for state in optimizer.state.values()}
        assert taken == {steps}


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


def test_detail_17_gradients_are_clipped_and_the_raw_norm_is_reported(tmp_path: Path) -> None:
    learner = make_learner(tmp_path, max_grad_norm=0.01)
    experience = judged(learner)
    seen = []

    def norm() -> float:
        parameters = [p for p in learner.policy.parameters() if p.grad is not None]
        return math.sqrt(sum(float((p.grad**2).sum()) for p in parameters))

    step = learner.policy_optimizer.step
    learner.policy_optimizer.step = lambda: (seen.append(norm()), step())
    metrics = learner.update(experience)
    assert seen and all(value <= 0.01 * 1.001 for value in seen)
    assert metrics["grad_norm"] > 0.011


def test_detail_18_a_zero_head_values_every_state_at_zero() -> None:
    critic = Critic(zero_head(rl_models.make_model("reward")))
    episode = Episode((1, 2, 7), (8, 9, 4), True)
    batch = collate([episode], 0)
    assert not critic(batch.ids, batch.states).any()


def test_detail_20_adam_has_epsilon_1e_5_and_a_step_is_adams(tmp_path: Path) -> None:
    learner = make_learner(tmp_path, learning_rate=0.01, iterations=2)
    optimizer = learner.policy_optimizer
    assert {group["eps"] for group in optimizer.param_groups} == {1e-5}
    assert PPOConfig().adam_epsilon == 1e-5
    parameter = learner.parts.policy.model.norm.weight
    start = float(parameter.detach()[3])
    # Gradients near epsilon, where its size shows.
    gradients = [3e-5, -1e-5, 2e-5]
    for gradient in gradients:
        parameter.grad = torch.full_like(parameter, gradient)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    expected = reference.adam_step(start, gradients, 0.01, 1e-5, (0.9, 0.999))
    assert float(parameter.detach()[3]) == pytest.approx(expected, abs=1e-6)


def test_detail_21_the_reference_is_a_frozen_copy(tmp_path: Path) -> None:
    learner = make_learner(tmp_path, iterations=2)
    before = copy.deepcopy(learner.parts.reference.state_dict())
    learner.run()
    for name, value in learner.parts.reference.state_dict().items():
        assert torch.equal(before[name], value)
    assert not any(p.requires_grad for p in learner.parts.reference.parameters())


def _result(folder: Path, learner: PPO) -> dict[str, Any]:
    """Everything that must not depend on interruptions."""
    lines = [
        {key: value for key, value in line.items() if key not in TIMINGS}
        for line in read_metrics(folder / "metrics.jsonl")
    ]
    return {
        "metrics": lines,
        "samples": (folder / "samples.jsonl").read_text("utf-8"),
        "policy": learner.parts.policy.state_dict(),
        "critic": learner.critic.state_dict(),
        "adam": list(learner.policy_optimizer.state_dict()["state"].values()),
        "coefficient": learner.kl_coefficient,
        "counts": learner.counts(),
    }


def _assert_equal(first: Any, second: Any) -> None:
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            _assert_equal(first[key], second[key])
    elif isinstance(first, list):
        assert len(first) == len(second)
        for a, b in zip(first, second, strict=True):
            _assert_equal(a, b)
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    else:
        assert first == second


@pytest.mark.parametrize("stop_after", [1, 3])
def test_detail_22_a_resumed_run_is_bit_identical(tmp_path: Path, stop_after: int) -> None:
    values: dict[str, Any] = {"kl_target": 0.05, "kl_horizon": 100, "stop": ENDS}
    whole = make_learner(tmp_path / "whole", **values)
    whole.run()
    make_learner(tmp_path / "parts", **values).run(until=stop_after)
    resumed = make_learner(tmp_path / "parts", **values)
    resumed.run()
    _assert_equal(_result(tmp_path / "whole", whole), _result(tmp_path / "parts", resumed))


def test_detail_22_a_checkpoint_holds_all_that_is_needed(tmp_path: Path) -> None:
    learner = make_learner(tmp_path, iterations=2)
    learner.run()
    checkpoint = checkpoints.latest(tmp_path / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.step == 2
    names = {path.name for path in checkpoint.path.iterdir()}
    assert {"policy.safetensors", "critic.safetensors", "optimizers.pt"} <= names
    assert {"cursor", "kl_coefficient", "steps"} <= set(checkpoint.info)
    state = torch.load(checkpoint.path / "optimizers.pt", weights_only=True)
    assert {"policy", "critic", "rng"} == set(state)


def test_detail_22_the_prompt_series_is_endless_and_goes_on_from_a_cursor() -> None:
    pool = list(range(7))
    whole = rollouts.prompts_at(pool, 0, 21, 3)  # type: ignore[arg-type]
    for start in range(0, 21, 7):
        assert sorted(whole[start : start + 7]) == pool  # type: ignore[type-var]
    assert whole[:7] != whole[7:14]
    parts = [*rollouts.prompts_at(pool, 0, 5, 3), *rollouts.prompts_at(pool, 5, 16, 3)]  # type: ignore[arg-type]
    assert parts == whole


def test_detail_23_a_kl_beyond_the_limit_stops_the_run_with_a_reason(tmp_path: Path) -> None:
    learner = make_learner(tmp_path, kl_limit=1e-4, learning_rate=0.02, kl_coefficient=0.0)
    with pytest.raises(StageError, match=r"nats an episode.*\n.*\n.*kl_limit"):
        learner.run()


def test_detail_23_updates_end_at_the_update_limit(tmp_path: Path) -> None:
    learner = make_learner(tmp_path, update_kl_limit=1e-9, iterations=2)
    counts = learner.run()
    # The first step of an iteration starts at KL 0, so the second is the last.
    assert counts["policy_steps"] == 4


def test_detail_23_alarms_on_answers_that_do_not_end(tmp_path: Path) -> None:
    learner = make_learner(tmp_path, iterations=1)
    learner.run()
    alarms = list(read_metrics(tmp_path / "alarms.jsonl"))
    assert {alarm["alarm"] for alarm in alarms} == {"no end"}


def test_numbers_that_are_not_finite_stop_the_run_before_the_step(tmp_path: Path) -> None:
    learner = make_learner(tmp_path)
    experience = judged(learner)
    experience.advantages = experience.advantages * float("nan")
    before = copy.deepcopy(learner.parts.policy.state_dict())
    with pytest.raises(StageError, match="gradient of the policy is not finite"):
        learner.update(experience)
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


def test_contradictions_in_the_options_are_refused() -> None:
    with pytest.raises(ValidationError, match="larger than rollout_batch"):
        PPOConfig.model_validate({"rollout_batch": 8, "minibatch": 9})
    with pytest.raises(ValidationError, match="there is no reward"):
        PPOConfig.model_validate({"reward": None})
    with pytest.raises(UsageError, match="a multiple of 3"):
        check_slices(make_options(rollout_batch=16, minibatch=4), 3)


# Rules, reward models, the stage ----------------------------------------------------------


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
        with pytest.raises(UsageError, match="reward rule"):
            rollouts.load_rule(wrong)


def test_a_rule_must_return_a_number() -> None:
    prompt = rollouts.Prompt(Example.single("x"), (1,))
    with pytest.raises(InputError, match="returned None"):
        rollouts.rule_scores([("r", lambda e, a: None, 1.0)], [prompt], ["a"])  # type: ignore[arg-type,return-value]
    with pytest.raises(InputError, match="returned nan"):
        rollouts.rule_scores([("r", lambda e, a: float("nan"), 1.0)], [prompt], ["a"])
    both = [("r", rl_models.rule_short, 0.5), ("s", rl_models.rule_letter, 2.0)]
    assert rollouts.rule_scores(both, [prompt], ["aab"]) == [pytest.approx(-1.5 + 4 / 3)]


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


def _stage(tmp_path: Path, **values: Any) -> StageContext:
    run = tmp_path / "run"
    if not run.exists():
        rl_models.save(rl_models.make_model(), run / "sft" / "model")
        rl_models.save(
            rl_models.make_model("reward", seed=3), run / "reward" / "model",
            reward={"mean": 0.5, "deviation": 2.0},
        )  # fmt: skip
        rl_models.write_rows(run / "curate" / "prompts.jsonl", rl_models.prompts(20))
    (run / "ppo").mkdir(exist_ok=True)
    options = make_options(**{"reward": "reward", "rules": {}, "iterations": 2, **values})
    return StageContext("ppo", run, run / "ppo", options, Shared(seed=3))


def test_stage_writes_a_model_that_can_be_used(tmp_path: Path) -> None:
    context = _stage(tmp_path)
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


def test_detail_18_and_19_the_critic_begins_as_the_standardised_reward_model(
    tmp_path: Path,
) -> None:
    learner = ppo.prepare(_stage(tmp_path))
    experience = judged(learner)
    reward = learner.parts.reward
    assert reward is not None
    assert (reward.mean, reward.deviation) == (0.5, 2.0)
    learner.options.score_clip = None
    learner.options.no_end_score = None
    learner.score(experience)
    with torch.no_grad():
        for i, episode in enumerate(experience.episodes):
            batch = collate([episode], 0)
            value = float(learner.critic(batch.ids, batch.ends))
            assert value == pytest.approx(float(experience.scores[i]), abs=1e-4)


def test_missing_normalisation_is_named(tmp_path: Path) -> None:
    context = _stage(tmp_path)
    (context.run / "reward" / "model" / "reward.json").unlink()
    with pytest.raises(InputError, match="normalise_scores: false"):
        ppo.prepare(context)
    scorer = ppo.prepare(_stage(tmp_path, normalise_scores=False)).parts.reward
    assert scorer is not None
    assert (scorer.mean, scorer.deviation) == (0.0, 1.0)


def test_prompts_that_are_too_long_are_left_out_and_none_left_is_an_error(tmp_path: Path) -> None:
    learner = ppo.prepare(_stage(tmp_path, max_prompt_tokens=10))
    assert 0 < len(learner.parts.pool) < 20
    assert all(len(prompt.ids) <= 10 for prompt in learner.parts.pool)
    with pytest.raises(StageError, match="None of 20 prompts"):
        ppo.prepare(_stage(tmp_path, max_prompt_tokens=2))
    with pytest.raises(UsageError, match="max_new_tokens is 200"):
        ppo.prepare(_stage(tmp_path, max_new_tokens=200))


@pytest.mark.slow
def test_ppo_raises_a_rule_reward(tmp_path: Path) -> None:
    learner = make_learner(
        tmp_path, rollout_batch=64, minibatch=16, iterations=15, learning_rate=5e-3,
        kl_coefficient=0.01, no_end_score=None, max_new_tokens=8, gamma=1.0, gae_lambda=0.95,
    )  # fmt: skip
    learner.run()
    scores = [line["score"] for line in read_metrics(tmp_path / "metrics.jsonl")]
    assert sum(scores[:3]) / 3 < 0.1
    assert sum(scores[-3:]) / 3 > 0.4


CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_train_ppo as t
t._child(Path(sys.argv[1]))
"""


def _child(folder: Path) -> None:
    """What the killed process runs: the whole stage."""
    ppo.run(_stage(folder, iterations=40, checkpoint_every=1, sample_every=3))


def _start(folder: Path) -> subprocess.Popen[bytes]:
    code = CHILD.format(tests=str(Path(__file__).parent))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _share(folder: Path) -> None:
    """What each of two processes runs; the first writes down what came out."""
    values: dict[str, Any] = {"minibatch": 12, "epochs": 2, "iterations": 2, "stop": ENDS}
    learner = make_learner(folder, **values)
    counts = learner.run()
    if learner.rank == 0:
        assert counts["processes"] == learner.world
        (folder / "world").write_text(str(learner.world), encoding="utf-8")


@pytest.mark.slow
def test_detail_12_and_15_two_processes_do_what_one_does(tmp_path: Path) -> None:
    script = tmp_path / "share.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import test_train_ppo as t\nt._share(Path(sys.argv[1]))\n",
        encoding="utf-8",
    )
    results = []
    for count in (1, 2):
        folder = tmp_path / str(count)
        command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={count}",
                   "--master-port=0", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0",
                   str(script), str(folder)]  # fmt: skip
        environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert (folder / "world").read_text("utf-8") == str(count)
        store = checkpoints.latest(folder / "checkpoints")
        assert store is not None
        results.append(
            (
                list(read_metrics(folder / "metrics.jsonl")),
                safetensors_torch.load_file(store.path / "policy.safetensors"),
            )
        )
    (one, policy), (two, same) = results
    assert len(one) == len(two) == 2
    for a, b in zip(one, two, strict=True):
        # The largest ratio is that of the first process's own tokens.
        for name in set(a) - {*TIMINGS, "split", "rollout_gap", "ratio_gap"}:
            assert b[name] == pytest.approx(a[name], rel=1e-3, abs=1e-4), name
    for name, value in policy.items():
        torch.testing.assert_close(same[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_detail_22_kill_9_at_any_moment_changes_nothing(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        _stage(folder)
    assert _start(whole).wait(timeout=240) == 0
    rng = random.Random(11)
    for _ in range(4):
        process = _start(killed)
        # Wait until it works on something new, then a random moment more (a checkpoint an
        # iteration: writing takes a good part of the time).
        before = _progress(killed)
        while process.poll() is None and _progress(killed) == before:
            time.sleep(0.005)
        time.sleep(rng.random() * 0.5)
        assert process.poll() is None, "it ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert _start(killed).wait(timeout=240) == 0
    for name in ("model/model.safetensors", "samples.jsonl"):
        parts = [folder / "run" / "ppo" / name for folder in (whole, killed)]
        assert parts[0].read_bytes() == parts[1].read_bytes(), name
    lines = [
        [
            {k: v for k, v in line.items() if k not in TIMINGS}
            for line in read_metrics(folder / "run" / "ppo" / "metrics.jsonl")
        ]
        for folder in (whole, killed)
    ]
    assert lines[0] == lines[1]


def _progress(folder: Path) -> tuple[str, ...]:
    store = folder / "run" / "ppo" / "checkpoints"
    return tuple(sorted(p.name for p in store.iterdir())) if store.is_dir() else ()
