"""What answers the prompts of PPO: the training's own model, or vLLM with the same weights.

An engine is told of every policy it must sample from (`sync`), and returns episodes with the
log-probabilities that it sampled them with, tempered as the policy is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch

from espalier.engines.vllm_process import has_vllm
from espalier.train.actors import Episode
from espalier.train.config_rollout import VLLM_IMPORTANCE_CAP
from espalier.train.rollout import Prompt, SamplingRules, sample_episodes

if TYPE_CHECKING:
    from espalier.train.config_rl import PPOConfig


class RolloutEngine(Protocol):
    """Samples answers from the policy that it was last given."""

    name: Literal["transformers", "vllm"]

    def sync(self, model: Any, version: int) -> float:
        """Sample from `model` from now on; returns the seconds that took.

        `model` is a causal language model, with PEFT adapters or without. `version` is a number
        that changes with its weights: the same number again means nothing has to be done.
        """
        ...

    def sample(self, prompts: Sequence[Prompt], numbers: Sequence[int]) -> list[Episode]:
        """One episode a prompt, in their order, cut after the first stop token.

        `numbers` are the episodes' numbers among all of the run: the draws of an episode are a
        pure function of (seed, its prompt, its number).
        """
        ...

    def close(self) -> None:
        """Give back memory and processes; a second call does nothing."""
        ...


class TransformersRollouts:
    """The policy itself answers, through `espalier.decoding`; there is nothing to synchronise."""

    name: Literal["transformers", "vllm"] = "transformers"

    def __init__(self, rules: SamplingRules) -> None:
        self.rules = rules
        self._model: Any = None

    def sync(self, model: Any, version: int) -> float:
        self._model = model
        return 0.0

    def sample(self, prompts: Sequence[Prompt], numbers: Sequence[int]) -> list[Episode]:
        rules = self.rules
        return sample_episodes(
            self._model,
            prompts,
            stop_ids=rules.stop_ids,
            pad_id=rules.pad_id,
            max_new_tokens=rules.max_new_tokens,
            temperature=rules.temperature,
            seed=rules.seed,
            numbers=numbers,
            autocast=rules.autocast,
            token_budget=rules.token_budget,
        )

    def close(self) -> None:
        self._model = None


def open_rollouts(options: PPOConfig, rules: SamplingRules, device: torch.device) -> RolloutEngine:
    """The engine that `options.rollouts` names, for a policy on `device`.

    `auto` is vLLM where there is a CUDA device and vLLM is installed. vLLM starts with the first
    `sync`. Raises MissingExtra where vLLM is asked for and is not installed.
    """
    if rollouts_by(options, device) == "transformers":
        return TransformersRollouts(rules)
    from espalier.train.rollout_vllm import VLLMRollouts

    return VLLMRollouts(options.rollout_options, rules, device)


def rollouts_by(options: PPOConfig, device: torch.device) -> Literal["transformers", "vllm"]:
    """What samples, with `auto` resolved."""
    if options.rollouts == "auto":
        return "vllm" if device.type == "cuda" and has_vllm() else "transformers"
    return options.rollouts


def importance_cap(options: PPOConfig, device: torch.device) -> float | None:
    """The cap of the importance weights; `auto`: one where another engine drew the samples.

    That engine's rounding (and its types) are not those of the training's forward pass, so its
    samples come from a slightly other policy (truncated importance sampling, Espeholt et al.
    2018, IMPALA, section 4.1).
    """
    if options.importance_cap == "auto":
        return VLLM_IMPORTANCE_CAP if rollouts_by(options, device) == "vllm" else None
    return options.importance_cap
