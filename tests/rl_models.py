"""A tokenizer of single characters and tiny random models, for the tests of reward and PPO."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

from espalier.records import Example
from espalier.templates import ESPALIER_TOKENS

CHARACTERS = string.ascii_lowercase + string.digits + " .,?!甲乙丙丁"


def make_tokenizer(order: str = "") -> Any:
    """One token a character; `order="reversed"` gives the characters other ids."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    characters = CHARACTERS[::-1] if order == "reversed" else CHARACTERS
    names = [*ESPALIER_TOKENS, "<unk>", *characters]
    core = Tokenizer(models.WordLevel({n: i for i, n in enumerate(names)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token="<unk>",
        pad_token="<|pad|>",
        eos_token="<|end|>",
        extra_special_tokens=list(ESPALIER_TOKENS[1:4]),
    )


def make_model(
    kind: str = "causal", *, seed: int = 0, hidden: int = 32, spread: float = 0.2
) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

    torch.manual_seed(seed)
    tokenizer = make_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=128,
        initializer_range=spread,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
        num_labels=1,
    )
    model = (LlamaForCausalLM if kind == "causal" else LlamaForSequenceClassification)(config)
    return model.eval()


def save(model: Any, folder: Path, **files: dict[str, float]) -> Path:
    """A model folder as a stage leaves it; `files` are further JSON files by stem."""
    from espalier.models import save_model

    save_model(model, make_tokenizer(), "espalier", folder)
    for stem, value in files.items():
        (folder / f"{stem}.json").write_text(json.dumps(value), encoding="utf-8")
    return folder


def prompts(count: int = 12) -> list[Example]:
    """Prompts of differing lengths, in two scripts."""
    words = ["say a", "count to 3", "甲乙丙", "repeat: xyz", "b", "what is 1 2?"]
    return [Example.single(f"{words[i % len(words)]} {i}", meta={"n": i}) for i in range(count)]


def write_rows(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row.to_json(), ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def rule_short(example: Example, answer: str) -> float:
    """A reward rule: fewer characters are better."""
    return -float(len(answer))


def rule_letter(example: Example, answer: str) -> float:
    """A reward rule: the share of the letter a."""
    return answer.count("a") / max(len(answer), 1)


def rule_contains(example: Example, answer: str) -> float:
    """A reward rule: whether the answer contains an x."""
    return float("x" in answer)
