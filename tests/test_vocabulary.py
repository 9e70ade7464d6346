"""New tokens: their rows against a plain computation; what can't be learnt is said."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch

from espalier.vocabulary import add_markers, ensure_pad, fit_to_tokenizer, frozen_tokens

MARKERS = ("<|im_start|>", "<|im_end|>")


def rows(layer: Any) -> list[list[float]]:
    return [[float(v) for v in row] for row in layer.weight.detach()]


def mean_of(values: list[list[float]]) -> list[float]:
    return [sum(column) / len(values) for column in zip(*values, strict=True)]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("spare", [0, 1, 2, 57])
def test_new_rows_are_the_mean_of_the_known_tokens(tied: bool, spare: int) -> None:
    tok = tiny.tokenizer()
    known = len(tok)
    model = tiny.model(vocabulary=known + spare, tie_word_embeddings=tied)
    before = [rows(model.get_input_embeddings()), rows(model.get_output_embeddings())]
    assert add_markers(model, tok, MARKERS) == (known, known + 1)
    assert [tok.convert_ids_to_tokens(i) for i in (known, known + 1)] == list(MARKERS)
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    for old, layer in zip(before, layers, strict=True):
        new = rows(layer)
        assert len(new) == max(known + spare, known + 2)
        assert new[:known] == old[:known]
        for row in new[known : known + 2]:
            assert row == pytest.approx(mean_of(old[:known]), abs=1e-6)
        assert new[known + 2 :] == old[known + 2 :]
    same = layers[0].weight.data_ptr() == layers[1].weight.data_ptr()
    assert same == tied
    assert model.config.vocab_size == max(known + spare, known + 2)


def test_the_old_tokens_are_predicted_as_before() -> None:
    tok = tiny.tokenizer()
    known = len(tok)
    model = tiny.model(tie_word_embeddings=False)
    ids = torch.tensor([[5, 6, 7]])
    before = model(ids).logits
    add_markers(model, tok, MARKERS)
    after = model(ids).logits
    torch.testing.assert_close(after[..., :known], before)
    # A new token is as likely as tokens are on average (in logits).
    torch.testing.assert_close(after[..., known], before.mean(-1), atol=1e-5, rtol=1e-5)


def test_a_bias_of_the_output_layer_is_the_mean_too() -> None:
    from transformers import PhiConfig, PhiForCausalLM

    tok = tiny.tokenizer()
    known = len(tok)
    config = PhiConfig(
        vocab_size=known, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, tie_word_embeddings=False, bos_token_id=None,
    )  # fmt: skip
    model: Any = PhiForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.bias.copy_(torch.linspace(-1, 3, known))
    add_markers(model, tok, MARKERS)
    assert model.lm_head.bias[known:].tolist() == pytest.approx([1.0, 1.0], abs=1e-5)
    ids = torch.tensor([[5, 6, 7]])
    logits = model(ids).logits
    torch.testing.assert_close(logits[..., known], logits[..., :known].mean(-1))


def test_an_added_pad_token_leaves_eos_alone() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({"</s>": 0, "a": 1, "b": 2}, unk_token="a"))
    bare = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", pad_token="</s>")
    assert ensure_pad(bare) is True
    assert (bare.pad_token, bare.pad_token_id, bare.eos_token_id) == ("<|pad|>", 3, 0)
    model = tiny.model(vocabulary=3, tie_word_embeddings=True, pad_token_id=0, eos_token_id=0)
    old = rows(model.get_input_embeddings())
    assert fit_to_tokenizer(model, bare) == 1
    assert rows(model.get_input_embeddings())[3] == pytest.approx(mean_of(old), abs=1e-6)
    assert rows(model.get_output_embeddings())[3] == pytest.approx(mean_of(old), abs=1e-6)
    assert model.config.pad_token_id == model.generation_config.pad_token_id == 3


def test_markers_that_are_there_already_keep_their_rows() -> None:
    tok, model = tiny.tokenizer(), tiny.model()
    before = model.get_input_embeddings().weight.detach().clone()
    assert add_markers(model, tok, ("<|end|>", "<|user|>", "<|end|>")) == ()
    assert torch.equal(model.get_input_embeddings().weight, before)


def test_frozen_embeddings_of_new_tokens_are_warned_of() -> None:
    peft = pytest.importorskip("peft")
    tok = tiny.tokenizer()
    model = tiny.model()
    new = add_markers(model, tok, MARKERS)
    assert frozen_tokens(model, tok, new) is None
    lora = {"r": 2, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    wrapped = peft.get_peft_model(model, peft.LoraConfig(**lora))
    warning = str(frozen_tokens(wrapped, tok, new))
    assert "<|im_start|>, <|im_end|>" in warning
    assert frozen_tokens(wrapped, tok, ()) is None
    trained = peft.get_peft_model(
        tiny.model(vocabulary=len(tok)),
        peft.LoraConfig(**lora, trainable_token_indices=list(new)),
    )
    assert frozen_tokens(trained, tok, new) is None
