"""Options of the reward models and of PPO, as written below `train:` in a recipe."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from espalier.options import was_changed
from espalier.train.config_adapters import LoraTuning
from espalier.train.config_parts import (
    WARMUP,
    LoraConfig,
    Optimisation,
    OptimizerName,
    Strict,
    Warmup,
)
from espalier.train.config_policy import PretrainingMix
from espalier.train.config_rewards import HeldOut, RewardTerm, StopRules, check_names
from espalier.train.config_rollout import RolloutOptions, Rollouts

# What A2C is in PPO's terms; any other value beside `algorithm: a2c` is a contradiction.
A2C: dict[str, Any] = {"epochs": 1, "clip": None, "value_clip": None, "dual_clip": None}


class PairSource(Strict):
    """A file of preference pairs and how much of it is used."""

    path: str = Field(description="File of pairs, or `<stage>/<file>` of this run.")
    format: str = Field("auto", description="Dataset format; auto looks at the file.")
    limit: int | None = Field(None, ge=1, description="Take this many pairs, drawn by the seed.")
    weight: int = Field(1, ge=1, description="Times that each pair of the file is used an epoch.")
    optional: bool = Field(False, description="Go on without this file where it does not exist.")


class RewardConfig(Optimisation):
    """A reward model: Bradley-Terry on preference pairs, scored at the last token."""

    pairs: list[PairSource] | None = Field(
        None,
        description="Files of pairs, each a path or {path, format, limit, weight, optional}. "
        "Default: preferences.jsonl of curate and of pairs (reward_eval: preferences_eval.jsonl).",
    )
    model: str | None = Field(
        None,
        description="Model to start from: a stage, a folder or a hub name. Default: sft "
        "(reward_eval: base where the run trains one, so that the two differ more).",
    )
    label: str | int | None = Field(
        None,
        description="Where `model` is a classifier of several labels: the one whose logit is the "
        "reward, by name or number.",
    )
    template: str | None = Field(
        None,
        description="Prompt template. Default: that of the policy (the sft model) where `model` "
        "knows its tokens, else the model's own (an encoder's is text-pair), else the policy's.",
    )
    max_length: int = Field(512, ge=8, description="Longest prompt with answer, in tokens.")
    over_long: Literal["truncate", "drop", "stop"] = Field(
        "truncate", description="Longer ones: cut from the side of the prompt, drop, or stop."
    )
    center_coefficient: float = Field(
        1e-3,
        ge=0,
        description="Weight of a pair's squared sum of scores (chosen + rejected)², which keeps "
        "the scores' mean near zero and leaves their difference alone.",
    )
    margin: bool = Field(True, description="Use the pairs' margins where they have one.")
    flip: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Swap the answers of this share of the training pairs, drawn by the seed, for "
        "experiments on wrong labels. Those that the accuracy is measured on stay as they are.",
    )
    group_rankings: bool = Field(
        False,
        description="Pairs of one ranking are one example: each answer goes through the model "
        "once, and the loss is the mean over the pairs. A minibatch then counts rankings.",
    )
    share_prompts: Literal["auto"] | bool = Field(
        "auto",
        description="The prompt of a pair goes through a causal model once (equal up to "
        "rounding). auto: where that saves 64 tokens a pair or more.",
    )
    freeze: list[str] = Field(
        default_factory=list,
        description="Parameters not to train: regular expressions on their names.",
    )
    lora: LoraTuning | None = Field(
        None, description="Train low-rank adapters and the score's head, merged at the end."
    )
    validation: list[PairSource] | None = Field(
        None,
        description="Files of pairs to measure with, instead of a share of the prompts. Training "
        "pairs on the same prompts are left out.",
    )
    validation_fraction: float = Field(
        0.05, gt=0, lt=1, description="Share of prompts held out to measure the accuracy."
    )
    validation_limit: int = Field(1000, ge=1, description="Pairs held out, at most.")
    validate_every: int = Field(100, ge=1, description="Steps between validations.")
    keep_best: bool = Field(
        False, description="End with the weights of the lowest validation loss."
    )
    patience: int | None = Field(
        None, ge=1, description="Stop after so many validations without a lower loss."
    )
    # One pass: repeats overfit quickly. The rate is that of a tiny model.
    learning_rate: float = Field(1e-3, gt=0, description="Highest learning rate.")
    optimizer: OptimizerName = Field("muon", description="adamw, adamw_8bit, sgd or muon.")
    warmup: Warmup = Field(0.05, description=WARMUP)
    minibatch: int = Field(32, ge=1, description="Pairs an optimizer step.")

    @field_validator("pairs", "validation", mode="before")
    @classmethod
    def _paths(cls, value: Any) -> Any:
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list):
            return values
        return [{"path": item} if isinstance(item, str) else item for item in values]

    @model_validator(mode="after")
    def _consistent(self) -> RewardConfig:
        for name in ("validation_fraction", "validation_limit"):
            if self.validation is not None and was_changed(self, name):
                raise ValueError(f"{name} and validation contradict each other; give one of them")
        if self.lora is not None and self.freeze:
            raise ValueError(
                "freeze and lora contradict each other: with lora only adapters and the head learn"
            )
        if self.lora is not None and self.lora.quantise is not None:
            raise ValueError("lora.quantise is not there for reward models; leave it out")
        for source in self.validation or ():
            if source.weight != 1:
                raise ValueError("validation takes no weight: each pair counts once")
        return self


class PPOConfig(Strict):
    """PPO on a policy, with a reward model and/or rules as the reward; A2C as a special case."""

    algorithm: Literal["ppo", "a2c"] = Field(
        "ppo", description="a2c: one epoch, one minibatch, no clipping; the rest is the same."
    )
    prompts: str = Field("curate/prompts.jsonl", description="File of prompts to answer.")
    prompts_format: str = Field("auto", description="Dataset format of the prompts.")
    prompts_limit: int | None = Field(None, ge=1, description="Use only this many prompts.")
    max_prompt_tokens: int = Field(512, ge=1, description="Longer prompts are left out, counted.")
    model: str = Field("sft", description="The policy: a stage, a folder or a hub name.")
    template: str | None = Field(None, description="Prompt template. Default: that of the policy.")
    reward: str | None = Field("reward", description="Reward model: a stage, folder or hub name.")
    rules: dict[str, float] = Field(
        default_factory=dict,
        description="Rewards computed by Python functions: `package.module:function` or "
        "`file.py:function`, called with (example, answer), each with its weight.",
    )
    rewards: list[RewardTerm] = Field(
        default_factory=list,
        description="A mix of reward models, Python functions and verifiable rules, instead of "
        "`reward` and `rules`, which are its short form. Each score is standardised, clipped "
        "and weighted; score_clip and no_end_score are for their sum.",
    )

    rollout_batch: int = Field(128, ge=1, description="Episodes (answers) an iteration.")
    iterations: int = Field(30, ge=1, description="Rounds of sampling and updating.")
    epochs: int = Field(2, ge=1, description="Passes over the episodes of an iteration.")
    minibatch: int | None = Field(
        None, ge=1, description="Episodes an optimizer step. Default: a quarter of the rollout."
    )
    packing: Literal["off", "on", "auto"] = Field(
        "auto",
        description="Put the episodes of a pass one after another instead of padding them; auto: "
        "where the models' attention can be exchanged (on a GPU also: precision bf16)",
    )
    token_budget: int = Field(
        8192,
        ge=16,
        description="Tokens a forward pass, padding included; accumulation follows. On a CPU 1024 "
        "is often the fastest, as it stays in the caches.",
    )
    critic_only_iterations: int = Field(
        3, ge=0, description="First iterations in which only the critic learns."
    )

    learning_rate: float = Field(3e-4, gt=0, description="Of the policy, at the start.")
    critic_learning_rate: float | None = Field(None, gt=0, description="Default: the policy's.")
    schedule: Literal["linear", "constant"] = Field(
        "linear", description="Course of the learning rates over the iterations, after warm-up."
    )
    final_learning_rate: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of the learning rates left at the last iteration. Default: 0.2 "
        "(constant: 1).",
    )
    warmup: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Warm-up of each network from its first iteration, as a part of all.",
    )
    adam_epsilon: float = Field(1e-5, gt=0, description="Epsilon of AdamW.")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled decay of matrices.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
    gradient_checkpointing: bool = Field(
        False, description="Compute activations twice instead of keeping them: less memory."
    )
    lora: LoraConfig | None = Field(
        None,
        description="Train low-rank adapters of the policy; the reference is the same model "
        "without them. Where the policy's folder is an adapter, that one is trained on.",
    )
    pretraining_mix: PretrainingMix | None = Field(
        None, description="PPO-ptx: next-token loss on further rows in every step of the policy."
    )

    temperature: float = Field(
        1.0, gt=0, description="Of sampling; all logits are divided by it, in training as well."
    )
    max_new_tokens: int = Field(
        32, ge=1, description="Tokens an answer may have, the end included."
    )
    rollouts: Rollouts = Field(
        "transformers",
        description="What samples: transformers (the policy itself), vllm (its weights follow the "
        "policy in place), or auto: vllm where it and a CUDA device are there.",
    )
    rollout_options: RolloutOptions = Field(
        default_factory=RolloutOptions, description="How vLLM runs beside the training."
    )

    kl_coefficient: float = Field(0.05, ge=0, description="Weight of the KL to the first policy.")
    kl_mode: Literal["reward", "loss"] = Field(
        "reward", description="KL as a per-token reward (k1) or as a term of the loss (k3)."
    )
    kl_target: float | None = Field(
        None, gt=0, description="Adapt the coefficient to this KL (nats an episode)."
    )
    kl_horizon: float = Field(10_000, gt=0, description="Episodes over which it adapts.")
    kl_limit: float | None = Field(
        50.0,
        gt=0,
        description="Stop when the KL to the first policy exceeds this (nats an episode), with "
        "the last policy below it.",
    )
    update_kl_limit: float | None = Field(
        None,
        gt=0,
        description="End an iteration's updates at this KL to its own samples (a token).",
    )

    gamma: float = Field(1.0, gt=0, le=1, description="Discount.")
    gae_lambda: float = Field(0.95, ge=0, le=1, description="Lambda of the advantage estimates.")
    clip: float | None = Field(0.2, gt=0, description="Range of the probability ratio.")
    value_clip: float | None = Field(0.2, gt=0, description="Range of values around the old ones.")
    dual_clip: float | None = Field(None, gt=1, description="Bound for negative advantages.")
    importance_cap: Annotated[float, Field(gt=0)] | Literal["auto"] | None = Field(
        "auto",
        description="Weigh tokens by training over sampling probability, cut at this value. "
        "auto: 2 where vLLM samples, else no weights; null: none.",
    )
    whiten_advantages: bool = Field(True, description="Advantages to mean 0 and variance 1.")
    whiten_rewards: bool = Field(False, description="Scale rewards to variance 1, mean kept.")
    entropy_coefficient: float = Field(0.0, ge=0, description="Weight of an entropy bonus.")
    critic: Literal["separate", "shared"] = Field(
        "separate",
        description="A network of its own, or a value head on the policy's trunk (one optimizer).",
    )
    critic_init: Literal["reward", "zero"] | None = Field(
        None,
        description="Critic from the reward model (default), or from the policy with a zero "
        "head (the only one where it is shared).",
    )
    value_coefficient: float | None = Field(
        None,
        gt=0,
        description="Weight of the value loss beside the policy's, for a shared critic. "
        "Default: 0.1.",
    )

    normalise_scores: bool = Field(
        True,
        description="Subtract mean and divide by deviation of the scores of reference answers.",
    )
    score_clip: float | None = Field(4.0, gt=0, description="Scores are held within ± this.")
    no_end_score: float | None = Field(
        -3.0,
        description="Score of an answer without an end token, instead of its own; such an answer "
        "counts as ended. null: its own score, and the critic's value of what would follow.",
    )
    no_end_penalty: float = Field(0.0, ge=0, description="Subtracted where no_end_score is null.")
    stop: StopRules = Field(
        default_factory=StopRules,
        description="What else (see kl_limit) ends the run, with the last policy in order.",
    )
    held_out: HeldOut | None = Field(
        None, description="Watch a reward that is not trained against. Default: no."
    )
    keep: Literal["last", "best"] = Field(
        "last", description="The model: the last policy, or the best on the held-out reward."
    )

    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="fp32, bf16 (autocast), or auto: bf16 where the device is fast at it."
    )
    seed: int | None = Field(None, description="Default: the recipe's seed.")
    checkpoint_every: int = Field(5, ge=1, description="Iterations between checkpoints.")
    sample_every: int = Field(5, ge=1, description="Iterations between sample answers.")
    samples: int = Field(8, ge=0, description="Fixed prompts whose answers are written down.")

    @model_validator(mode="before")
    @classmethod
    def _a2c(cls, values: Any) -> Any:
        """A2C is PPO with one epoch of one minibatch and no clip (Huang et al. 2022)."""
        if not isinstance(values, dict) or values.get("algorithm") != "a2c":
            return values
        wanted = {**A2C, "minibatch": values.get("rollout_batch", 128)}
        for name, value in wanted.items():
            if name in values and values[name] not in (value, None):
                raise ValueError(
                    f"{name}: {values[name]} contradicts algorithm: a2c, which means "
                    f"{name}: {'none' if value is None else value}; leave it out or use ppo"
                )
        return {**values, **wanted}

    @model_validator(mode="after")
    def _one_form_of_reward(self) -> PPOConfig:
        """`reward` and `rules` are the short form of `rewards`; `keep: best` needs a judge."""
        if self.rewards:
            if self.rules or ("reward" in self.model_fields_set and self.reward is not None):
                name = "rules" if self.rules else f"reward: {self.reward}"
                raise ValueError(
                    f"{name} and rewards both say what the reward is; write it as a term of "
                    "rewards, and leave it out (reward: null, where an extended recipe has it)"
                )
            self.reward = None
            check_names(self.rewards)
        if self.keep == "best" and self.held_out is None:
            raise ValueError("keep: best needs held_out, whose reward says which policy is best")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> PPOConfig:
        if self.minibatch is None:
            self.minibatch = max(1, self.rollout_batch // 4)
        if self.minibatch > self.rollout_batch:
            raise ValueError(
                f"minibatch ({self.minibatch}) is larger than rollout_batch ({self.rollout_batch})"
            )
        if self.rollouts == "transformers" and self.rollout_options != RolloutOptions():
            given = ", ".join(self.rollout_options.model_dump(exclude_defaults=True))
            raise ValueError(
                f"rollout_options ({given}) are those of vLLM, and rollouts is transformers; "
                "use rollouts: vllm or auto"
            )
        if self.reward is None and not self.rules and not self.rewards:
            raise ValueError("there is no reward: name a reward model (reward), rules or rewards")
        if self.kl_target is not None and not self.kl_coefficient:
            raise ValueError("kl_target multiplies kl_coefficient, and kl_coefficient is 0")
        if self.no_end_penalty and self.no_end_score is not None:
            raise ValueError(
                f"no_end_penalty: {self.no_end_penalty} has no effect beside no_end_score: "
                f"{self.no_end_score}; set no_end_score: null, or leave no_end_penalty out"
            )
        return self

    @model_validator(mode="after")
    def _networks(self) -> PPOConfig:
        """One trunk has one optimizer and no reward model's weights; dropout has no place."""
        if self.critic == "shared":
            for name in ("critic_learning_rate", "critic_init"):
                if getattr(self, name) not in (None, "zero"):
                    raise ValueError(
                        f"{name}: {getattr(self, name)} contradicts critic: shared, where the "
                        "policy's trunk and optimizer are the critic's; leave it out"
                    )
            self.value_coefficient = self.value_coefficient or 0.1
        elif self.value_coefficient is not None:
            raise ValueError(
                f"value_coefficient: {self.value_coefficient} contradicts critic: separate, "
                "whose loss has a step of its own; use critic_learning_rate, or critic: shared"
            )
        self.critic_init = self.critic_init or ("zero" if self.critic == "shared" else "reward")
        if self.schedule == "constant" and self.final_learning_rate not in (None, 1.0):
            raise ValueError(
                f"final_learning_rate: {self.final_learning_rate} contradicts schedule: constant"
            )
        if self.lora is not None and self.lora.dropout:
            raise ValueError(
                f"lora.dropout: {self.lora.dropout} would make new and old probabilities of PPO "
                "differ by chance; set it to 0"
            )
        return self

    @property
    def final_rate(self) -> float:
        """Share of the learning rates left at the last iteration."""
        if self.final_learning_rate is None:
            return 1.0 if self.schedule == "constant" else 0.2
        return self.final_learning_rate

    @property
    def sampling_budget(self) -> int:
        """Padded tokens of one batch of sampling, which keeps no activations for a gradient."""
        return max(self.token_budget, 8192)

    @property
    def minibatches(self) -> int:
        """Optimizer steps an epoch."""
        return -(-self.rollout_batch // (self.minibatch or self.rollout_batch))

    @property
    def optimizer_steps(self) -> tuple[int, int]:
        """Planned optimizer steps of (policy, critic) without an early end.

        A shared critic has none of its own.
        """
        each = self.epochs * self.minibatches
        if self.critic == "shared":
            return (self.iterations * each, 0)
        return (
            max(0, self.iterations - self.critic_only_iterations) * each,
            self.iterations * each,
        )
