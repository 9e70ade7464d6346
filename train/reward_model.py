"""What of a reward model is trained: all of it, all but some layers, or adapters and the head."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from espalier.errors import UsageError, require
from espalier.reward_heads import output_layer
from espalier.train.actors import ExactHead
from espalier.train.config_parts import LoraConfig
from espalier.train.config_rl import RewardConfig
from espalier.train.sft import freeze


def prepared(model: Any, options: RewardConfig, seed: int) -> Any:
    """The model to train, its output layer in float32 also under autocast."""
    exact_output(model)
    freeze(model, options.freeze)
    return with_adapters(model, options.lora, seed) if options.lora is not None else model


def exact_output(model: Any) -> Any:
    """Let the output layer of any sequence classifier work in float32; same parameters."""
    layer = output_layer(model)[1]
    if type(layer) is nn.Linear:
        layer.__class__ = ExactHead
    return model


def with_adapters(model: Any, lora: LoraConfig, seed: int) -> Any:
    """The model with trainable low-rank adapters (peft) and a trainable head, the rest frozen.

    Raises UsageError for targets that the model does not have.
    """
    peft = require("peft", extra="train", feature="train.reward.lora")
    head = output_layer(model)[0].split(".")[0]
    settings = peft.LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        modules_to_save=[head],
        task_type="SEQ_CLS",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return peft.get_peft_model(model, settings)
        except ValueError as error:
            raise UsageError(
                f"The adapters can't be put into this model: {error}",
                where="train.reward.lora.targets",
            ) from error


def merged(model: Any) -> Any:
    """The plain model again, adapters added into its weights."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
