"""A template through the whole stage: trained with, saved, read again, asked with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from espalier.encoding import encode_prompt
from espalier.engines.base import Request
from espalier.engines.chat import load_chat_form
from espalier.errors import InputError
from espalier.models import load_model, load_tokenizer, save_model
from espalier.records import Example, Message
from espalier.run import Shared, StageContext
from espalier.templates import template_of
from espalier.train import sft
from espalier.train.config import SFTConfig

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
Make = Callable[..., StageContext]
WORDS = ("hello", "world", "cat", "mat", "你好", "世界")


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    monkeypatch.chdir(tmp_path)
    save_model(tiny.model(), tiny.tokenizer(), "espalier", tmp_path / "base" / "model")
    (tmp_path / "mine.jinja").write_text(CHATML, encoding="utf-8")
    rows = []
    for number in range(16):
        first, second = WORDS[number % 6], WORDS[(number + 1) % 6]
        turns = ("say " + first, first, "say " + second, second)
        messages = [Message("assistant" if i % 2 else "user", t) for i, t in enumerate(turns)]  # type: ignore[arg-type]
        rows.append(json.dumps(Example.make(messages, {"n": number}).to_json()))
    (tmp_path / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")

    def context(**changes: Any) -> StageContext:
        values = {"data": ["rows.jsonl"], "minibatch": 8, "learning_rate": 5e-3,
                  "precision": "fp32", "max_length": 80, "epochs": 1, **changes}  # fmt: skip
        options = SFTConfig.model_validate(values)
        return StageContext("sft", tmp_path, tmp_path / "sft", options, Shared.model_validate({}))

    return context


MARKERS = ["<|im_start|>", "<|im_end|>"]


@pytest.mark.parametrize("method", [{}, {"lora": {"r": 4}}], ids=["full", "lora"])
def test_a_jinja_file_is_trained_saved_and_asked_with(
    make: Make, tmp_path: Path, method: dict[str, Any]
) -> None:
    context = make(template="mine.jinja", markers=MARKERS, epochs=4, **method)
    assert sft.inputs(context)["template"] == Path("mine.jinja")
    counts = sft.run(context)
    folder = tmp_path / "sft" / "model"
    assert json.loads((folder / "template.json").read_text()) == {"name": counts["template"]}
    assert (folder / "chat_template.jinja").read_text() == CHATML
    (tmp_path / "mine.jinja").unlink()  # the model carries its own
    tok = load_tokenizer(folder)
    ids = [len(tiny.tokenizer()), len(tiny.tokenizer()) + 1]
    assert tok.convert_tokens_to_ids(MARKERS) == ids
    # The rows of the markers are learnt, with adapters too: they are no longer the mean.
    weight = load_model(folder, device="cpu").get_input_embeddings().weight
    assert not torch.allclose(weight[ids[0]], weight[ids[1]])
    turns = (Message("user", "say hello"),)
    form = load_chat_form(str(folder), None)
    prompt = form.prompts([Request(messages=turns)])[0]
    assert prompt == encode_prompt(tok, template_of(folder, tokenizer=tok), turns)
    assert (
        prompt
        == tok.apply_chat_template([turns[0].to_json()], add_generation_prompt=True)["input_ids"]
    )
    assert ids[1] in form.stops(form.template.stop).ids
    settings = json.loads((folder / "generation_config.json").read_text())
    assert ids[1] in settings["eos_token_id"]


def test_the_last_answer_alone_is_another_training(make: Make, tmp_path: Path) -> None:
    first = load_model(tmp_path / "base" / "model", device="cpu").state_dict()
    trained = {}
    for train_on in ("all", "last"):
        sft.run(make(train_on=train_on))
        trained[train_on] = load_model(tmp_path / "sft" / "model", device="cpu").state_dict()
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(trained["all"][name], first[name])
    assert not torch.equal(trained["all"][name], trained["last"][name])


def test_a_template_file_that_is_gone_is_said(make: Make) -> None:
    with pytest.raises(InputError, match="template file of the recipe is not there"):
        sft.inputs(make(template="gone.jinja"))


def test_new_markers_that_stay_frozen_are_warned_of(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    sft.run(make(template="chatml", freeze_embeddings=True))
    assert "the tokens <|im_start|>, <|im_end|> are new" in capsys.readouterr().out
