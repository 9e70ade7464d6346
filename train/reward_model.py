"""What of a reward model is trained: all of it, all but some layers, or adapters and the head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from espalier.errors import UsageError, require
from espalier.reward_heads import output_layer
from espalier.train.actors import ExactHead
from espalier.train.adapters import freeze
from espalier.train.config_adapters import LoraTuning
from espalier.train.config_rl import RewardConfig


def prepared(model: Any, options: RewardConfig, seed: int, new: Sequence[int] = ()) -> Any:
    """The model to train, its output layer in float32 also under autocast.

    `new` are ids of tokens that the model has not learnt yet: beside adapters, their embeddings
    are trained as well.
    """
    exact_output(model)
    freeze(model, options.freeze)
    return with_adapters(model, options.lora, seed, new) if options.lora is not None else model


def exact_output(model: Any) -> Any:
    """Let the output layer of any sequence classifier work in float32; same parameters."""
    layer = output_layer(model)[1]
    if type(layer) is nn.Linear:
        layer.__class__ = ExactHead
    return model


def with_adapters(model: Any, lora: LoraTuning, seed: int, new: Sequence[int] = ()) -> Any:
    """The model with trainable low-rank adapters (peft) and a trainable head, the rest frozen.

    Raises UsageError for targets that the model does not have.
    """
    peft = require("peft", extra="train", feature="train.reward.lora")
    table = model.get_input_embeddings()
    tables = [name.rsplit(".", 1)[-1] for name, part in model.named_modules() if part is table]
    settings = peft.LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets,
        use_dora=lora.dora,
        use_rslora=lora.rslora,
        modules_to_save=[output_layer(model)[0].split(".")[0]],
        trainable_token_indices={tables[0]: list(new)} if new else None,
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
