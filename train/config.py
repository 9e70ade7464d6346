"""Options of the training stages: the section `train` of a recipe."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from espalier.train.config_adapters import LoraTuning, OtherAdapter, PromptTuning
from espalier.train.config_data import Curriculum, DataSource
from espalier.train.config_parts import (
    WARMUP,
    Optimisation,
    OptimizerName,
    Strict,
    Validation,
    Warmup,
)
from espalier.train.config_rl import PPOConfig, RewardConfig

__all__ = ["BaseConfig", "PPOConfig", "RewardConfig", "SFTConfig", "TrainConfig"]


def block_numbers(text: str) -> set[int]:
    """{0, 2, 3} of "0, 2-3"; ValueError for what is no such list of blocks."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = [first.strip(), last.strip()] if dash else [first]
        if not all(end.isdecimal() for end in ends):
            raise ValueError(f"'{part.strip()}' is no block or range of blocks, as in 0-3 or 5")
        low, high = int(ends[0]), int(ends[-1])
        if low > high:
            raise ValueError(f"'{part.strip()}' runs backwards; write {high}-{low}")
        found.update(range(low, high + 1))
    return found


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
    optimizer: OptimizerName = Field("muon", description="adamw, adamw_8bit, sgd or muon.")
    warmup: Warmup = Field(0.05, description=WARMUP)

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
    data: list[str | DataSource] = Field(
        default_factory=lambda: list[str | DataSource](["curate/train.jsonl"]),
        min_length=1,
        description="Dataset files, of this run (curate/train.jsonl) or your own: each a path, or "
        "{path, weight, limit, format}.",
    )
    curriculum: Curriculum | None = Field(
        None, description="Rows from easy to hard; by default they are shuffled."
    )
    format: str = Field(
        "auto", description="Format of the data files, validation included; auto detects it."
    )
    limit: int | None = Field(None, ge=1, description="Rows to use of each file.")
    pick: Literal["first", "random"] = Field(
        "first",
        description="Which rows a limit takes: the first ones of the file, or some drawn by the "
        "stage's seed; of two limits the smaller one's rows are among the larger one's.",
    )
    steps: int | None = Field(
        None, ge=1, description="Optimizer steps, instead of what follows from epochs."
    )
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
    freeze_layers: str | None = Field(
        None,
        description="Blocks not to train, counted from 0: 0-3 or 0,2,5-7.",
    )
    freeze_embeddings: bool = Field(
        False, description="Do not train the embeddings (with tied weights the head neither)."
    )
    lora: LoraTuning | None = Field(
        None, description="Train low-rank adapters instead of the weights."
    )
    prompt_tuning: PromptTuning | None = Field(
        None, description="Train a prompt of virtual tokens instead of the weights."
    )
    adapter: OtherAdapter | None = Field(
        None, description="Train another kind of adapter instead: ia3 or prefix."
    )
    merge: bool | None = Field(
        None,
        description="Merge the adapters into the weights at the end (by default wherever that is "
        "possible: lora and ia3); false writes the adapters alone, which name their model.",
    )
    packing: Literal["off", "on", "auto"] = Field(
        "off",
        description="Rows one after another in one sequence, kept apart by a varlen attention "
        "kernel, instead of padded side by side; auto: on GPUs that have the kernel.",
    )
    sample_every: int = Field(
        0, ge=0, description="Steps between sample generations into samples.jsonl (0: none)."
    )
    samples: int = Field(4, ge=1, description="Prompts to sample for.")
    sample_tokens: int = Field(48, ge=1, description="Longest sample in tokens.")

    @field_validator("freeze_layers", mode="before")
    @classmethod
    def _layers(cls, value: Any) -> Any:
        # A single number in YAML is no text.
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if isinstance(value, str):
            block_numbers(value)
        return value

    @model_validator(mode="after")
    def _one_method(self) -> SFTConfig:
        given = [n for n in ("lora", "prompt_tuning", "adapter") if getattr(self, n) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other; keep one")
        if self.packing == "on" and self.prompt_tuning is not None:
            raise ValueError(
                "packing: on and prompt_tuning exclude each other: the prompt would stand before "
                "the first packed row only"
            )
        frozen = [
            name for name in ("freeze", "freeze_layers", "freeze_embeddings") if getattr(self, name)
        ]
        if given and frozen:
            raise ValueError(
                f"{frozen[0]} has no effect beside {given[0]}, which freezes all weights; "
                f"leave {frozen[0]} out"
            )
        if self.merge is not None and not given:
            raise ValueError("merge says what to do with adapters, and neither lora nor adapter is "
                             "given")  # fmt: skip
        prefix = self.adapter is not None and self.adapter.kind == "prefix"
        if self.merge and (self.prompt_tuning is not None or prefix):
            name = "adapter.kind: prefix" if prefix else "prompt_tuning"
            raise ValueError(
                f"{name} with merge: true: virtual tokens can't be merged into weights; "
                "leave merge out"
            )
        if prefix and self.gradient_checkpointing:
            raise ValueError(
                "adapter.kind: prefix excludes gradient_checkpointing: its keys and values would "
                "be lost when layers are computed again; use prompt_tuning"
            )
        return self

    @model_validator(mode="after")
    def _validation_rows(self) -> SFTConfig:
        validation = self.validation
        if validation.fraction and validation.data is not None:
            raise ValueError("validation.fraction and validation.data exclude each other; keep one")
        if validation.format is not None and validation.data is None:
            raise ValueError(
                "validation.format is that of validation.data, which is not given; "
                "leave it out or give validation.data"
            )
        if not validation.fraction and validation.data is None:
            for name in ("keep_best", "patience"):
                if getattr(validation, name):
                    raise ValueError(
                        f"validation.{name} needs rows to validate with; "
                        "give validation.fraction or validation.data"
                    )
        return self

    @model_validator(mode="after")
    def _weights_of_all(self) -> SFTConfig:
        weighted = [isinstance(s, DataSource) and s.weight is not None for s in self.data]
        if any(weighted) and not all(weighted):
            raise ValueError("data: give every source a weight, or none")
        if any(weighted) and self.curriculum is not None:
            raise ValueError("curriculum orders all rows, and data.weight draws some; keep one")
        return self


class TrainConfig(Strict):
    """The training stages of a recipe; one that is left out is not run."""

    base: BaseConfig | None = Field(None, description="A tiny base model from scratch.")
    sft: SFTConfig | None = Field(None, description="Supervised fine-tuning.")
    reward: RewardConfig | None = Field(None, description="The reward model that PPO uses.")
    reward_eval: RewardConfig | None = Field(
        None, description="A second reward model, used by the evaluation only."
    )
    ppo: PPOConfig | None = Field(None, description="PPO, or A2C.")

    @model_validator(mode="after")
    def _policy_of_weights(self) -> TrainConfig:
        if self.sft is None or self.ppo is None or self.ppo.model != "sft":
            return self
        adapter = self.sft.adapter
        prefix = adapter is not None and adapter.kind == "prefix"
        if prefix or self.sft.prompt_tuning is not None:
            name = "sft.adapter.kind: prefix" if prefix else "sft.prompt_tuning"
            raise ValueError(
                f"{name} with ppo: virtual tokens can't be merged into the weights that PPO goes "
                "on from; train sft otherwise, or give ppo.model another model"
            )
        return self
