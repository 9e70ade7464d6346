"""A ShareGPT file, preference pairs and a tiny model folder, as a person would have them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

CHINESE = ("河", "面包", "钟", "枫树", "风筝")
WORDS = ("rivers", "bread", "clocks", "maples", "kites", "salt", "owls", "ferries", "lamps", "wool")


def share_gpt(path: Path, count: int = 60) -> Path:
    """Dialogues of one or two questions, every fifth of them Chinese."""
    rows: list[dict[str, Any]] = []
    for number in range(count):
        if number % 5:
            word = WORDS[number % len(WORDS)]
            asked, more, said = f"Count {number} {word}.", f"And one more than {number}?", word
        else:
            word = CHINESE[number // 5 % len(CHINESE)]
            asked, more, said = f"数{number}个{word}。", f"比{number}多一个呢？", f"个{word}"
        turns = [("human", asked), ("gpt", f"{number} {said}")]
        if number % 3 == 0:
            turns += [("human", more), ("gpt", f"{number + 1} {said}")]
        rows.append(
            {"id": str(number), "conversations": [{"from": a, "value": b} for a, b in turns]}
        )
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return path


def long_talks(path: Path, count: int = 80, exchanges: int = 6, words: int = 8) -> Path:
    """Dialogues of many exchanges, no two texts of them alike."""
    draw = random.Random(1)

    def said() -> str:
        return " ".join(draw.choice(WORDS) + str(draw.randrange(100)) for _ in range(words))

    rows = [
        {
            "id": str(number),
            "conversations": [
                {"from": role, "value": said()}
                for _ in range(exchanges)
                for role in ("human", "gpt")
            ],
        }
        for number in range(count)
    ]
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def comparisons(path: Path, count: int = 40) -> Path:
    """Preference pairs, the worse answer empty of sense."""
    rows = [
        {"prompt": f"Count {n} {WORDS[n % 10]}.", "chosen": f"{n} {WORDS[n % 10]}", "rejected": "?"}
        for n in range(count)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def model_folder(folder: Path) -> Path:
    """A random Llama with a tokenizer that has no chat template."""
    import tiny

    model = tiny.model(max_position_embeddings=256, initializer_range=0.02)
    model.save_pretrained(folder)
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    return folder


def bare_model(folder: Path) -> Path:
    """The description of a small Llama and a tokenizer, without weights, and without torch."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    folder.mkdir(parents=True)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32,
        "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 320, "max_position_embeddings": 256,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([*WORDS, "Count the words: one two three", "数一数"], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
