"""The models and token ids that the training benchmarks work on, from the real data.

Rows are prompted tasks (prompt and completion) of at least 100 tokens, cut to 512 from the side
of the prompt; pairs are human preferences. Everything goes to a folder as plain JSON and
safetensors, so that each worker, of whatever environment, reads the same ids and weights.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from espalier.encoding import encode_examples, encode_prompt
from espalier.formats.read import read_examples, read_pairs
from espalier.models import quiet
from espalier.records import Example, PreferencePair
from espalier.templates import get_template
from espalier.train.base import train_tokenizer
from espalier.train.config_rl import RewardConfig
from espalier.train.reward_pairs import encode_pairs

CAP = 512
SHORTEST = 100
TASKS = "self_instruct/t0_50k.jsonl.gz"
PAIRS = "hh_rlhf/harmless_test.jsonl.gz"
# 4.46 million parameters at a vocabulary of 2,048.
SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": False,
}


def prepare(folder: Path, data: Path, vocabulary: int, *, count: int = 800) -> Path:
    """Write model/, reward/, sft.json, pairs.json and prompts.json below `folder`, once.

    sft.json: [{"ids", "trained"}]; pairs.json: [{"chosen", "rejected", "margin"}];
    prompts.json: [ids].
    """
    done = folder / "done.json"
    if done.is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    examples = list(read_examples(data / TASKS, on_bad_row="quarantine", rejects=[], limit=20_000))
    random.Random(0).shuffle(examples)
    tokenizer: Any = train_tokenizer((text(e) for e in examples[:6000]), vocabulary)
    tokenizer.model_max_length = 1024
    template = get_template("espalier")
    rows = [
        row
        for row in encode_examples(tokenizer, template, examples[: 4 * count], max_length=CAP)
        if len(row) >= SHORTEST
    ][:count]
    pairs = load_pairs(data, tokenizer)[:count]
    prompts = [
        encode_prompt(tokenizer, template, e.messages, e.meta) for e in examples[: 8 * count]
    ]
    write(
        folder / "sft.json", [{"ids": r.ids, "trained": list(map(bool, r.trained))} for r in rows]
    )
    write(folder / "pairs.json", pairs)
    write(folder / "prompts.json", [ids for ids in prompts if 32 <= len(ids) <= 128][:count])
    save(causal(tokenizer), tokenizer, folder / "model")
    save(scalar(tokenizer), tokenizer, folder / "reward")
    lengths = [len(row) for row in rows]
    write(
        done,
        {
            "rows": len(rows),
            "mean_tokens": sum(lengths) / len(lengths),
            "trained": sum(r.targets for r in rows) / sum(lengths),
            "parameters": sum(p.numel() for p in causal(tokenizer).parameters()),
        },
    )
    return folder


def load_pairs(data: Path, tokenizer: Any) -> list[dict[str, Any]]:
    """Preference pairs as ids, in the order of a seed."""
    pairs: list[PreferencePair] = list(
        read_pairs(data / PAIRS, on_bad_row="quarantine", rejects=[])
    )
    random.Random(0).shuffle(pairs)
    options = RewardConfig.model_validate({"max_length": CAP})
    rows, _ = encode_pairs(tokenizer, get_template("espalier"), pairs, CAP, options)
    return [{"chosen": r.chosen, "rejected": r.rejected, "margin": r.margin} for r in rows]


def text(example: Example) -> str:
    return "\n".join(turn.content for turn in example.messages)


def shape(tokenizer: Any, **changes: Any) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        **{**SHAPE, **changes},
    )


def causal(tokenizer: Any, **changes: Any) -> Any:
    """A random language model, the same at every call."""
    torch.manual_seed(0)
    architecture: Any = LlamaForCausalLM
    return architecture(shape(tokenizer, **changes))


def scalar(tokenizer: Any, **changes: Any) -> Any:
    """A random reward model, the same at every call."""
    torch.manual_seed(1)
    architecture: Any = LlamaForSequenceClassification
    return architecture(shape(tokenizer, num_labels=1, **changes))


def save(model: Any, tokenizer: Any, folder: Path) -> None:
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def write(path: Path, value: Sequence[Any] | dict[str, Any]) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
