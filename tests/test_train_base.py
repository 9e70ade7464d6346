"""The base stage: tokenizer, packing, and a model that transformers loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from espalier.errors import InputError, StageError
from espalier.records import Example, dump_line
from espalier.run import Shared, StageContext
from espalier.templates import ESPALIER_TOKENS
from espalier.train import base
from espalier.train.config import BaseConfig
from espalier.train.monitor import read_metrics


def context(run: Path, **changes: Any) -> StageContext:
    values = {"texts": 200, "vocabulary": 400, "hidden": 32, "layers": 1, "heads": 2, "ffn": 32,
              "max_positions": 64, "block": 32, "steps": 6, "minibatch": 4, "precision": "fp32",
              "log_every": 2}  # fmt: skip
    options = BaseConfig.model_validate({**values, **changes})
    return StageContext("base", run, run / "base", options, Shared.model_validate({}))


def test_digits_and_han_characters_keep_their_ids_wherever_they_stand() -> None:
    tok = tiny.tokenizer()

    def ids(text: str) -> list[int]:
        return list(tok(text, add_special_tokens=False)["input_ids"])

    digits = {d: ids(d) for d in "0123456789"}
    assert all(len(found) == 1 for found in digits.values())
    assert ids("2026") == [digits[d][0] for d in "2026"]
    assert ids("猫世猫") == ids("猫") + ids("世") + ids("猫")
    text = " hello 你好, 12 + 345 = 😀\n\ttab"
    assert tok.decode(ids(text)) == text
    assert [tok.convert_tokens_to_ids(t) for t in ESPALIER_TOKENS] == [0, 1, 2, 3, 4]
    assert (tok.pad_token, tok.eos_token, tok.bos_token) == ("<|pad|>", "<|end|>", None)


def test_the_same_texts_give_the_same_tokenizer() -> None:
    texts = list(tiny.TEXTS) * 3
    first, second = (base.train_tokenizer(texts, 330).get_vocab() for _ in range(2))
    assert first == second


def test_blocks_hold_the_texts_in_order() -> None:
    tok = tiny.tokenizer()
    rows, count = base.pack(tok, tiny.TEXTS, 8)
    stream = [i for row in rows for i in row.ids]
    whole = " " + "<|end|> ".join(tiny.TEXTS) + "<|end|>"
    assert whole.startswith(tok.decode(stream))
    assert all(len(row) == 8 and all(row.trained) for row in rows)
    assert count - len(stream) < 8


def test_a_new_model_depends_on_its_seed_alone() -> None:
    options = context(Path()).options
    torch.manual_seed(1)
    first = base.new_model(tiny.tokenizer(), options, 5)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)  # the global generator is left as it was
    second = base.new_model(tiny.tokenizer(), options, 5)
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )


def test_the_stage_writes_a_model_that_transformers_loads(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    counts = base.run(context(tmp_path))
    folder = tmp_path / "base" / "model"
    model = AutoModelForCausalLM.from_pretrained(folder)
    tok = AutoTokenizer.from_pretrained(folder)
    assert model.config.model_type == "llama"
    assert model.config.pad_token_id == tok.pad_token_id != tok.eos_token_id
    assert model.config.eos_token_id == tok.eos_token_id
    assert json.loads((folder / "template.json").read_text()) == {"name": "espalier"}
    assert (counts["steps"], counts["texts"], counts["vocabulary"]) == (6, 200, 400)
    losses = [m["loss"] for m in read_metrics(tmp_path / "base" / "metrics.jsonl")]
    assert len(losses) == 3 and losses[-1] < losses[0]
    assert not (tmp_path / "base" / "checkpoints").exists()


def test_held_out_prompts_are_not_in_the_corpus(tmp_path: Path) -> None:
    from espalier.text import normalise

    free = base.corpus(context(tmp_path, texts=3000))
    asked = [
        line.removeprefix("Question: ")
        for text in free
        for line in text.splitlines()
        if line.startswith("Question: ")
    ]
    held = [Example.single(text, "x") for text in dict.fromkeys(asked[:40])]
    (tmp_path / "curate").mkdir()
    path = tmp_path / "curate" / "eval.jsonl"
    path.write_text("".join(dump_line(e.to_json()) + "\n" for e in held))
    assert base.inputs(context(tmp_path)) == {"held_out": path}
    texts = base.corpus(context(tmp_path, texts=3000))
    lines = {normalise(line.removeprefix("Question: ")) for t in texts for line in t.splitlines()}
    assert len(texts) == 3000
    assert not lines & {normalise(e.prompt) for e in held}


def test_local_files_as_corpus(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("One paragraph\nof two lines.\n\n\n另一段。\n", encoding="utf-8")
    rows = tmp_path / "b.jsonl"
    rows.write_text('{"instruction": "Add 1 and 2.", "input": "", "output": "3"}\n' * 2)
    made = context(tmp_path, corpus=[str(text), str(rows)])
    assert set(base.inputs(made).values()) == {text, rows}
    assert base.corpus(made)[:3] == ["One paragraph\nof two lines.", "另一段。", "Add 1 and 2.\n3"]
    text.write_bytes("é".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        base.corpus(made)
    with pytest.raises(InputError, match="not there"):
        base.inputs(context(tmp_path, corpus=["${data}/nothing.txt"]))


def test_too_little_text_is_an_error(tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("short")
    with pytest.raises(StageError, match="less than one block"):
        base.run(context(tmp_path, corpus=[str(text)]))
