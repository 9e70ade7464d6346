"""Options of the training stages: the section `train` of a recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from espalier.train.config_parts import LoraConfig, Optimisation, Strict, Validation
from espalier.train.config_rl import PPOConfig, RewardConfig

__all__ = ["BaseConfig", "PPOConfig", "RewardConfig", "SFTConfig", "TrainConfig"]


class BaseConfig(Optimisation):
    """A tiny language model of Llama architecture, trained from scratch with its tokenizer."""

    corpus: Literal["offline"] | list[str] = Field(
        "offline",
        description="offline (the embedded corpus), or local files: .txt or any dataset format.",
    )
    texts: int = Field(24_000, ge=1, description="Texts to take from the embedded corpus.")
    languages: list[Literal["en", "zh"]] = Field(
        ["en", "zh"], description="Languages of the embedded corpus."
    )
    limit: int | None = Field(None, ge=1, description="Rows to read of each corpus file.")
    vocabulary: int = Field(1500, ge=300, description="Tokens of the byte-level BPE.")
    tokenizer_texts: int = Field(
        20_000, ge=1, description="Texts that the tokenizer is trained on, at most."
    )
    hidden: int = Field(128, ge=8, description="Width of the model.")
    layers: int = Field(4, ge=1, description="Transformer blocks.")
    heads: int = Field(4, ge=1, description="Attention heads.")
    ffn: int = Field(320, ge=8, description="Width of the feed-forward layers.")
    max_positions: int = Field(512, ge=16, description="Longest sequence that the model takes.")
    init: float = Field(0.06, gt=0, description="Standard deviation of the initial weights.")
    rope_theta: float = Field(
        100.0, gt=1, description="Base of the rotary positions; small suits short contexts."
    )
    block: int = Field(64, ge=8, description="Tokens of a training block (texts are packed).")
    steps: int = Field(800, ge=1, description="Optimizer steps.")
    # The defaults below are those of a model this small.
    epochs: float = Field(1.0, description="Not used: the number of steps is given.", exclude=True)
    minibatch: int = Field(12, ge=1, description="Blocks an optimizer step.")
    learning_rate: float = Field(1e-2, gt=0, description="Highest learning rate.")
    muon_ratio: float = Field(2.0, gt=0, description="Muon's rate as a multiple of learning_rate.")
    optimizer: Literal["adamw", "muon"] = Field("muon", description="adamw or muon.")
    warmup: float = Field(0.05, ge=0, lt=1, description="Warm-up, as a fraction of all steps.")

    @model_validator(mode="after")
    def _shapes(self) -> BaseConfig:
        if self.hidden % self.heads or (self.hidden // self.heads) % 2:
            raise ValueError("hidden must be an even multiple of heads")
        if self.block > self.max_positions:
            raise ValueError("block must not exceed max_positions")
        return self


class SFTConfig(Optimisation):
    """Supervised fine-tuning: the loss is taken over the assistant's turns only."""

    model: str = Field("base", description="A stage of this run, a folder, or a hub name.")
    data: list[str] = Field(
        default_factory=lambda: ["curate/train.jsonl"],
        description="Dataset files, of this run (curate/train.jsonl) or your own.",
    )
    format: str = Field("auto", description="Format of the data files; auto detects it.")
    limit: int | None = Field(None, ge=1, description="Rows to use of each file.")
    template: str | None = Field(
        None,
        description="Prompt template: a name, model (the tokenizer's chat template), or a Jinja "
        "file (.jinja, .j2); by default the model's own, else espalier.",
    )
    max_length: int = Field(512, ge=8, description="Longest row in tokens.")
    over_long: Literal["truncate", "drop", "stop"] = Field(
        "truncate", description="Longer rows: cut from the side of the prompt, drop, or stop."
    )
    train_on: Literal["all", "last"] = Field(
        "all", description="Learn all turns of the assistant, or the last of each row only."
    )
    markers: list[str] = Field(
        default_factory=list,
        description="Texts of the template (such as <|im_end|>) that become single tokens where "
        "the tokenizer has none; the named templates bring their own.",
    )
    validation: Validation = Field(
        default_factory=lambda: Validation.model_validate({}), description="Validation loss."
    )
    freeze: list[str] = Field(
        default_factory=list,
        description="Parameters not to train: regular expressions on their names.",
    )
    lora: LoraConfig | None = Field(None, description="Train low-rank adapters instead.")
    sample_every: int = Field(
        0, ge=0, description="Steps between sample generations into samples.jsonl (0: none)."
    )
    samples: int = Field(4, ge=1, description="Prompts to sample for.")
    sample_tokens: int = Field(48, ge=1, description="Longest sample in tokens.")


class TrainConfig(Strict):
    """The training stages of a recipe; one that is left out is not run."""

    base: BaseConfig | None = Field(None, description="A tiny base model from scratch.")
    sft: SFTConfig | None = Field(None, description="Supervised fine-tuning.")
    reward: RewardConfig | None = Field(None, description="The reward model that PPO uses.")
    reward_eval: RewardConfig | None = Field(
        None, description="A second reward model, used by the evaluation only."
    )
    ppo: PPOConfig | None = Field(None, description="PPO, or A2C.")
