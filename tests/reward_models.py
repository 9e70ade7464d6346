"""Tiny random classifiers of several families, and encoders' tokenizers, made locally."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import rl_models

CAUSAL = ("llama", "gpt2", "gpt_neox", "qwen2", "opt", "bloom")
ENCODERS = ("bert", "roberta", "distilbert", "modernbert", "deberta", "bart")
_SIZE = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
}  # fmt: skip


def encoder_tokenizer(kind: str = "bert") -> Any:
    """Single characters between the markers of BERT or of RoBERTa."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    bert = kind == "bert"
    pad, unknown, first, end = (
        ("[PAD]", "[UNK]", "[CLS]", "[SEP]") if bert else ("<pad>", "<unk>", "<s>", "</s>")
    )
    specials = [pad, unknown, first, end] if bert else [first, pad, end, unknown]
    names = [*specials, *rl_models.CHARACTERS]
    core = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token=unknown))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    pair = "[CLS] $A [SEP] $B:1 [SEP]:1" if bert else "<s> $A </s> </s> $B </s>"
    core.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {end}",
        pair=pair,
        special_tokens=[(name, names.index(name)) for name in (first, end)],
    )
    inputs = ["input_ids", "attention_mask"] + (["token_type_ids"] if bert else [])
    more = {} if bert else {"bos_token": first, "eos_token": end}
    return PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token=unknown, pad_token=pad, cls_token=first, sep_token=end,
        model_input_names=inputs, **more,
    )  # fmt: skip


def classifier(kind: str, tokenizer: Any, *, labels: int = 1, seed: int = 0) -> Any:
    """A random sequence classifier of that family, its output spread widely."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    common: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 132,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "num_labels": labels,
    }
    if kind in ("gpt2",):
        common |= {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 132}
    elif kind == "opt":
        common |= {**_SIZE, "ffn_dim": 48, "word_embed_proj_dim": 32}
    elif kind == "bloom":
        common |= {"hidden_size": 32, "n_layer": 2, "n_head": 2}
    elif kind == "distilbert":
        common |= {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48}
    elif kind == "bart":
        common |= {
            "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 48, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
            "decoder_start_token_id": tokenizer.eos_token_id,
        }  # fmt: skip
    else:
        common |= _SIZE
    if kind == "qwen2":
        common["num_key_value_heads"] = 1
    if kind == "modernbert":
        common |= {"cls_token_id": tokenizer.cls_token_id, "sep_token_id": tokenizer.sep_token_id}
    torch.manual_seed(seed)
    config = AutoConfig.for_model(kind.replace("_", "-") if kind == "deberta" else kind, **common)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    for name, weight in model.named_parameters():
        # Larger weights than a fresh model's, or nothing in the input would matter.
        if weight.dim() > 1 and "embed" not in name:
            torch.nn.init.normal_(weight, std=0.2)
    return model


def save(model: Any, tokenizer: Any, folder: Path, *, normal: Any = None) -> Path:
    """A model folder as found on a hub: weights, configuration, tokenizer, no template."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if normal is not None:
        (folder / "reward.json").write_text(json.dumps(normal), encoding="utf-8")
    return folder
