"""What PPO works on, and what must hold before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from espalier.encoding import Encoded
from espalier.errors import UsageError
from espalier.templates import Template
from espalier.train.actors import Critic
from espalier.train.config_rl import PPOConfig
from espalier.train.held_out import HeldOutParts
from espalier.train.reward_mix import Term
from espalier.train.rollout import Prompt, RewardModel, Rule


@dataclass(frozen=True)
class Parts:
    """Everything that PPO works on.

    `reference` None: `policy` has adapters, and without them it is its own reference. `critic`
    None: the policy's trunk gets a value head. `pretraining` are the rows of the pretraining mix.
    """

    tokenizer: Any
    template: Template
    policy: Any
    reference: Any
    critic: Critic | None
    reward: RewardModel | None
    rules: Sequence[tuple[str, Rule, float]]
    pool: Sequence[Prompt]
    stop_ids: Sequence[int]
    pretraining: Sequence[Encoded] = ()
    # The terms of `rewards`; none: `rules` and `reward` are the terms.
    terms: Sequence[Term] = ()
    held_out: HeldOutParts | None = None


def run_precision(options: PPOConfig) -> torch.dtype | None:
    """bf16 where the device is fast at it (or it is asked for), else None for float32."""
    from espalier.train.arguments import autocast_dtype

    dtype = autocast_dtype(options.precision, "cuda" if torch.cuda.is_available() else "cpu")
    return torch.bfloat16 if dtype is torch.bfloat16 else None


def check_slices(options: PPOConfig, processes: int) -> None:
    """Raise UsageError unless each process gets the same number of episodes and minibatches."""
    sizes = {name: getattr(options, name) for name in ("rollout_batch", "minibatch")}
    if options.pretraining_mix is not None:
        sizes["pretraining_mix.minibatch"] = options.pretraining_mix.minibatch
    for name, value in sizes.items():
        if value % processes:
            raise UsageError(
                f"{name} is {value}, and {processes} processes share it.",
                where=f"train.ppo.{name}",
                expected=f"a multiple of {processes}",
            )
