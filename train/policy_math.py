"""The mathematics of PPO as pure functions of tensors: no model, no state, no devices.

Shapes: N episodes, T response positions (the longest response of the batch), V the vocabulary.
`mask` is a boolean [N, T] that is true where the policy acted (its stop token included); what
stands elsewhere never enters a result. Logarithms are natural, so KL and entropy are in nats.

Sources: PPO (Schulman et al. 2017, arXiv:1707.06347), GAE (Schulman et al. 2016,
arXiv:1506.02438), fine-tuning from preferences (Ziegler et al. 2019, arXiv:1909.08593).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# exp(20) is 5e8: beyond it a ratio says only "far", and float32 would soon overflow.
LOG_RATIO_LIMIT = 20.0
WHITEN_EPSILON = 1e-8

Reduce = Callable[[Tensor], Tensor]


def _alone(value: Tensor) -> Tensor:
    """The sum over processes when there is only this one."""
    return value


def masked(values: Tensor, mask: Tensor) -> Tensor:
    """`values` with exact zeros where `mask` is false, whatever (even NaN) stood there."""
    return torch.where(mask, values, torch.zeros((), dtype=values.dtype, device=values.device))


def masked_mean(values: Tensor, mask: Tensor, total: Reduce = _alone) -> Tensor:
    """The mean over true positions of all processes; `total` sums a tensor over processes."""
    sums = torch.stack([masked(values, mask).sum(), mask.sum().to(values.dtype)])
    summed, count = total(sums).unbind()
    return summed / count.clamp(min=1)


def token_logprobs(logits: Tensor, tokens: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probability of each chosen token under softmax(logits / temperature).

    logits [..., V], tokens [...] (ids); returns [...] in float32. The temperature is that of
    the sampling: the policy that acted is the tempered one, so it is the one to be improved.
    """
    scaled = logits.float() / temperature
    chosen = scaled.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    return chosen - torch.logsumexp(scaled, dim=-1)


def token_entropy(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Entropy in nats of softmax(logits / temperature): logits [..., V] to float32 [...]."""
    logs = torch.log_softmax(logits.float() / temperature, dim=-1)
    return -(logs.exp() * logs).sum(dim=-1)


def kl_k1(logprobs: Tensor, reference: Tensor) -> Tensor:
    """The unbiased one-sample estimate of KL(policy || reference): log p - log q, per token."""
    return logprobs - reference


def kl_k3(logprobs: Tensor, reference: Tensor) -> Tensor:
    """The low-variance, never negative estimate (q/p) - 1 - log(q/p) (Schulman 2020), per token."""
    log_ratio = (reference - logprobs).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    return log_ratio.exp() - 1.0 - log_ratio


def last_action(mask: Tensor) -> Tensor:
    """Index [N] of the last true position of each row (0 for a row without any)."""
    positions = torch.arange(mask.shape[1], device=mask.device)
    return torch.where(mask, positions, torch.zeros_like(positions)).amax(dim=1)


def token_rewards(
    scores: Tensor, logprobs: Tensor, reference: Tensor, mask: Tensor, kl_coefficient: float
) -> Tensor:
    """Per-token reward [N, T]: -coefficient * k1 everywhere, plus the score at the last action.

    scores [N]; logprobs and reference [N, T] (Ziegler et al. 2019, eq. 2).
    """
    rewards = masked(-kl_coefficient * kl_k1(logprobs, reference), mask)
    rows = torch.arange(len(scores), device=scores.device)
    rewards[rows, last_action(mask)] += masked(scores, mask.any(dim=1))
    return rewards


def advantages_and_returns(
    rewards: Tensor,
    values: Tensor,
    mask: Tensor,
    *,
    gamma: float,
    lam: float,
    bootstrap: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates and value targets, both [N, T], zero off the mask.

    `values` [N, T] is the critic at the state in which each action was taken. `bootstrap` [N] is
    its value of the state after the last action: zero (None) where the episode truly ended, the
    critic's own value where it was only cut off. Masked positions inside a row (text that the
    policy did not write) are stepped over: the next value and the running advantage are carried
    across them. Returns are the unwhitened advantage plus the value (GAE, eqs. 11-16).
    """
    advantages = torch.zeros_like(rewards)
    running = torch.zeros_like(rewards[:, 0])
    following = torch.zeros_like(running) if bootstrap is None else bootstrap.clone()
    for t in range(rewards.shape[1] - 1, -1, -1):
        here = mask[:, t]
        delta = rewards[:, t] + gamma * following - values[:, t]
        running = torch.where(here, delta + gamma * lam * running, running)
        following = torch.where(here, values[:, t], following)
        advantages[:, t] = running
    return masked(advantages, mask), masked(advantages + values, mask)


def whiten(
    values: Tensor, mask: Tensor, *, keep_mean: bool = False, total: Reduce = _alone
) -> Tensor:
    """Shift and scale the true positions of all processes to mean 0 and variance 1.

    `keep_mean` only scales (rewards: their sign has a meaning). `total` sums over processes.
    The variance is that of the population, with 1e-8 under the root (Ziegler et al.'s code).
    """
    mean = masked_mean(values, mask, total)
    variance = masked_mean((values - mean) ** 2, mask, total)
    white = (values - mean) * torch.rsqrt(variance + WHITEN_EPSILON)
    return masked(white + mean if keep_mean else white, mask)


@dataclass(frozen=True, slots=True)
class PolicyLoss:
    """A policy loss (with gradient) and sums over tokens (without) that describe the step."""

    loss: Tensor
    clipped: Tensor
    approx_kl: Tensor
    ratio_gap: Tensor


def policy_ratio(logprobs: Tensor, old: Tensor) -> Tensor:
    """New over old probability per token, the log-ratio held within ±20."""
    return (logprobs - old).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT).exp()


def policy_loss(
    logprobs: Tensor,
    old: Tensor,
    advantages: Tensor,
    mask: Tensor,
    *,
    clip: float | None,
    count: float | Tensor,
    dual_clip: float | None = None,
    weights: Tensor | None = None,
) -> PolicyLoss:
    """The clipped surrogate: sum over tokens of -min(r A, clip(r, 1±clip) A), over `count`.

    `count` is the number of tokens of the whole minibatch (all processes), so that the parts of
    a minibatch add up to its mean and not to a mean of means. `clip` None leaves the ratio free
    (A2C). `dual_clip` c bounds the loss of negative advantages at c |A| (Ye et al. 2020, eq. 5).
    `weights` [N, T] multiply each token's term (truncated importance sampling). Also given, as
    sums over tokens: how many ratios the clip holds, and k3 of old against new; and the largest
    |ratio - 1|. (PPO, eq. 7.)
    """
    ratio = policy_ratio(masked(logprobs, mask), masked(old, mask))
    gain = ratio * advantages
    clipped = torch.zeros_like(mask)
    if clip is not None:
        bounded = ratio.clamp(1.0 - clip, 1.0 + clip) * advantages
        clipped = bounded < gain
        gain = torch.minimum(gain, bounded)
    if dual_clip is not None:
        floor = dual_clip * advantages
        gain = torch.where(advantages < 0, torch.maximum(gain, floor), gain)
    if weights is not None:
        gain = gain * weights
    with torch.no_grad():
        divergence = kl_k3(masked(old, mask), masked(logprobs, mask)).sum()
        gap = masked((ratio - 1.0).abs(), mask).max()
    loss = -masked(gain, mask).sum() / count
    return PolicyLoss(loss, (clipped & mask).sum(), divergence, gap)


def value_loss(
    values: Tensor,
    old: Tensor,
    returns: Tensor,
    mask: Tensor,
    *,
    clip: float | None,
    count: float | Tensor,
) -> tuple[Tensor, Tensor]:
    """Sum over tokens of ½ max((v - R)², (clip(v, old ± clip) - R)²), over `count`.

    Also returns the number of tokens where the clipped error is the larger one. The clip stands
    around the *old values*, not around the returns. `clip` None is plain squared error.
    """
    errors = (values - returns) ** 2
    clipped = torch.zeros_like(mask)
    if clip is not None:
        bounded = (old + (values - old).clamp(-clip, clip) - returns) ** 2
        clipped = bounded > errors
        errors = torch.maximum(errors, bounded)
    return 0.5 * masked(errors, mask).sum() / count, (clipped & mask).sum()


def truncated_importance(old: Tensor, rollout: Tensor, cap: float) -> Tensor:
    """Weights min(p_train / p_rollout, cap) for samples that another engine drew, per token.

    `old` is the log-probability by the training forward, `rollout` the one the sampler reported.
    """
    return policy_ratio(old, rollout).clamp(max=cap)


def adapted_kl_coefficient(
    coefficient: float, kl: float, *, target: float, horizon: float, episodes: int
) -> float:
    """The coefficient after `episodes` more with a mean KL of `kl` nats an episode.

    Multiplied by 1 + clip(kl / target - 1, ±0.2) * episodes / horizon (Ziegler et al., sec. 2.2).
    """
    error = min(max(kl / target - 1.0, -0.2), 0.2)
    return coefficient * (1.0 + error * episodes / horizon)


def explained_variance(
    values: Tensor, returns: Tensor, mask: Tensor, total: Reduce = _alone
) -> Tensor:
    """1 - Var(returns - values) / Var(returns) over true positions; 0 if the returns are equal."""

    def variance(x: Tensor) -> Tensor:
        return masked_mean((x - masked_mean(x, mask, total)) ** 2, mask, total)

    spread = variance(returns)
    explained = 1.0 - variance(returns - values) / spread.clamp(min=1e-12)
    return torch.where(spread > 1e-12, explained, torch.zeros_like(explained))


def linear_decay(step: int, steps: int, final: float) -> float:
    """The factor of the learning rate at `step` of `steps` (from 0): 1 falling to `final`."""
    return 1.0 + (final - 1.0) * step / max(steps - 1, 1)


def warm_up(step: int, steps: int) -> float:
    """The factor of the learning rate in a linear warm-up over `steps`, then 1 (from step 0)."""
    return min(1.0, (max(step, 0) + 1) / (steps + 1))
