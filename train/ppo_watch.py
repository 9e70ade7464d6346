"""What PPO reports of an iteration, and what makes it stop before a step that would do harm."""

from __future__ import annotations

import math

import torch

from espalier.errors import StageError
from espalier.train import policy_math as pm
from espalier.train.config_rl import PPOConfig
from espalier.train.experience import Experience
from espalier.train.monitor import Monitor


@torch.no_grad()
def describe(experience: Experience, total: pm.Reduce) -> dict[str, float]:
    """Metrics of the samples. Score, reward, KL and length are means over episodes of all
    processes, KL in nats; entropy and value are means over tokens.
    """
    mask = experience.mask
    k1 = pm.masked(pm.kl_k1(experience.old, experience.reference), mask)
    k3 = pm.masked(pm.kl_k3(experience.old, experience.reference), mask)
    per_episode = {
        "score": experience.scores,
        "score_squared": experience.scores**2,
        "reward": experience.rewards.sum(dim=1),
        "kl": k1.sum(dim=1),
        "kl_k3": k3.sum(dim=1),
        "length": mask.sum(dim=1),
        "no_end_rate": torch.tensor([not e.ended for e in experience.episodes]),
        "count": torch.ones(len(mask)),
    }
    sums = total(torch.stack([values.double().sum() for values in per_episode.values()])).tolist()
    metrics = {name: value / sums[-1] for name, value in zip(per_episode, sums, strict=True)}
    del metrics["count"]
    spread = max(metrics.pop("score_squared") - metrics["score"] ** 2, 0.0)
    gap = (experience.old - experience.rollout).abs()
    means = {"entropy": experience.entropy, "value": experience.values, "rollout_gap": gap}
    return {
        **metrics,
        "score_deviation": math.sqrt(spread),
        **{name: float(pm.masked_mean(table, mask, total)) for name, table in means.items()},
        "explained_variance": float(
            pm.explained_variance(experience.values, experience.returns, mask, total)
        ),
    }


def tolerance(device: str, exact: bool) -> float:
    """How far two equal passes may differ: GPU kernels may add in another order."""
    if device == "cpu":
        return 1e-6
    return 1e-4 if exact else 5e-2


def check_samples(
    metrics: dict[str, float], options: PPOConfig, iteration: int, limit: float, where: str
) -> None:
    """Raise StageError for numbers that are not finite and for a policy that went too far.

    `iteration` counts from 0; before the first step the policy must equal its reference.
    """
    number = iteration + 1
    for name in ("score", "kl", "value", "entropy"):
        if not math.isfinite(metrics[name]):
            raise StageError(
                f"The {name} of iteration {number} is not finite.",
                where=where,
                hint="look at the reward model, or use precision: fp32",
            )
    if iteration == 0 and abs(metrics["kl_k3"]) > limit:
        raise StageError(
            f"The policy differs from its own copy before the first step: KL "
            f"{metrics['kl_k3']:.2g} nats an episode.",
            expected="0",
            hint="some random or stateful layer is active in the forward pass",
        )
    if options.kl_limit is not None and metrics["kl"] > options.kl_limit:
        raise StageError(
            f"The policy is {metrics['kl']:.1f} nats an episode from where it started, in "
            f"iteration {number}.",
            where=where,
            expected=f"at most {options.kl_limit:g} (train.ppo.kl_limit)",
            hint="raise kl_coefficient, lower learning_rate, or raise kl_limit",
        )


def check_first_ratio(gap: float, iteration: int, limit: float) -> None:
    """Raise StageError unless the policy is still the one whose log-probabilities are kept."""
    if not gap <= limit:
        raise StageError(
            f"The ratio on the first minibatch of iteration {iteration + 1} is off 1 by {gap:.2g}.",
            expected="the scoring pass and the training pass to give the same numbers",
            hint="some random or stateful layer is active in the forward pass",
        )


def check_gradient(norm: float, name: str, iteration: int, where: str) -> None:
    """Raise StageError for a gradient that is not finite, before it is applied."""
    if not math.isfinite(norm):
        raise StageError(
            f"The gradient of the {name} is not finite in iteration {iteration + 1}.",
            where=where,
            hint="lower learning_rate, or use precision: fp32; the last checkpoint is whole",
        )


def raise_alarms(
    monitor: Monitor, number: int, metrics: dict[str, float], first_length: float
) -> None:
    """Signs of reward hacking that do not stop the run."""
    if metrics["length"] > 2 * first_length:
        monitor.alarm(number, "length", "answers are twice as long as at the start")
    if metrics["no_end_rate"] > 0.5:
        monitor.alarm(number, "no end", "more than half of the answers do not end")
