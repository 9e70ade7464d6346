"""The small random model that the benchmarks of generation share."""

from __future__ import annotations

from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from espalier.offline.corpus import pretraining_texts
from espalier.train.base import train_tokenizer

VOCABULARY = 2048


def make_model(*, vocabulary: int | None = None) -> tuple[Any, Any]:
    """A random Llama in float32, the same at every call, and the tokenizer of the embedded corpus.

    Its vocabulary is the tokenizer's, or is filled up to `vocabulary` entries.
    """
    tokenizer = train_tokenizer(list(pretraining_texts(2000, seed=1)), VOCABULARY)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary or len(tokenizer),
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    architecture: Any = LlamaForCausalLM
    return architecture(config).eval(), tokenizer
