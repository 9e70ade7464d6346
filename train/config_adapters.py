"""Options of training few parameters beside frozen weights: LoRA and its kin, prompts, scales."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from espalier.options import was_changed
from espalier.train.config_parts import LoraConfig, Strict


class LoraTuning(LoraConfig):
    """Low-rank adapters (Hu et al. 2021) with their variants: DoRA, rank-stabilised, QLoRA."""

    dora: bool = Field(
        False,
        description="Learn the length of each column of a matrix apart from its direction "
        "(DoRA, Liu et al. 2024).",
    )
    rslora: bool = Field(
        False, description="Multiply the update by alpha / √r instead (Kalajdzievski 2023)."
    )
    quantise: Literal["4bit", "8bit"] | None = Field(
        None,
        description="Hold the frozen weights in 4 bits (NF4: QLoRA, Dettmers et al. 2023) or 8; "
        "needs a GPU and bitsandbytes.",
    )


class PromptTuning(Strict):
    """Prompt tuning (Lester et al. 2021): vectors before each row are learnt, nothing else."""

    tokens: int = Field(16, ge=1, description="Virtual tokens before each row.")
    init_text: str | None = Field(
        None,
        description="Text whose tokens' embeddings the vectors start from (repeated or cut to "
        "`tokens`); by default those of tokens drawn from the vocabulary.",
    )

    @model_validator(mode="after")
    def _text(self) -> PromptTuning:
        if self.init_text is not None and not self.init_text.strip():
            raise ValueError("init_text is empty; leave it out to start from drawn tokens")
        return self


class OtherAdapter(Strict):
    """Further kinds of adapters."""

    kind: Literal["ia3", "prefix"] = Field(
        description="ia3: learnt scales of keys, values and inner activations (Liu et al. 2022); "
        "prefix: learnt keys and values before each row, in every layer (Li & Liang 2021)."
    )
    tokens: int = Field(16, ge=1, description="Virtual tokens of a prefix.")
    targets: list[str] | None = Field(
        None, description="Layers that ia3 scales; by default those known for the architecture."
    )
    feedforward: list[str] | None = Field(
        None, description="Those of `targets` that are scaled at their input (feed-forward)."
    )

    @model_validator(mode="after")
    def _fields_of_the_kind(self) -> OtherAdapter:
        if self.kind == "ia3" and was_changed(self, "tokens"):
            raise ValueError("tokens belongs to kind: prefix; with kind: ia3 leave it out")
        if self.kind == "prefix" and (self.targets or self.feedforward):
            raise ValueError(
                "targets and feedforward belong to kind: ia3; with kind: prefix leave them out"
            )
        if (self.targets is None) != (self.feedforward is None):
            raise ValueError("give targets and feedforward together, or neither")
        if not set(self.feedforward or ()) <= set(self.targets or ()):
            raise ValueError("every name of feedforward must be among targets")
        return self
