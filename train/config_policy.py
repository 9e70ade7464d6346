"""Options of PPO's pretraining mix, as written below `train.ppo.pretraining_mix` in a recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from espalier.train.config_parts import Strict


class PretrainingMix(Strict):
    """PPO-ptx: next-token loss on further rows in every step of the policy, against forgetting."""

    data: list[str] = Field(
        min_length=1, description="Dataset files, of this run (curate/train.jsonl) or your own."
    )
    format: str = Field("auto", description="Format of the data files; auto detects it.")
    limit: int | None = Field(None, ge=1, description="Rows to use of each file.")
    tokens: Literal["all", "answers"] = Field(
        "all", description="Tokens to predict: all of a row, or the assistant's turns."
    )
    # 27.8 is InstructGPT's; it follows from the sizes of both losses there.
    coefficient: float = Field(
        27.8, gt=0, description="Weight of the mean next-token loss beside the policy's loss."
    )
    minibatch: int = Field(32, ge=1, description="Rows a step of the policy.")
    max_length: int = Field(512, ge=8, description="Longer rows lose tokens of their prompt.")
